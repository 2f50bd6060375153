"""The `slurm.conf` of a cluster on this machine: every port its own, every file below one folder."""

from __future__ import annotations

import getpass
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

TEXT = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=2,sched_interval=2
JobRequeue={requeue:d}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=30
SlurmctldTimeout=30
KillWait=10
DefMemPerCPU=500
MinJobAge=60
SlurmdParameters=config_overrides
{nodes}
PartitionName=batch Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=10
"""


def configuration(folder: Path, ports: Mapping[str, int], controller_port: int, *, requeue: bool) -> str:
    """The text of `slurm.conf`.

    Args:
        folder: of all files.
        ports: of every node, by its name.
        controller_port: of slurmctld.
        requeue: whether the site lets jobs be queued again.
    """
    host = socket.gethostname()
    rows = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=20000"
        for node, port in ports.items()
    ]
    return TEXT.format(
        host=host,
        controller_port=controller_port,
        user=getpass.getuser(),
        folder=folder,
        requeue=requeue,
        nodes="\n".join(rows),
    )


PORTS = (10_000, 20_000)  # submitit chooses those from 20000 on for ranks, and the kernel for connections


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens at."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found
