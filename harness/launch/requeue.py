"""How a Slurm job ends at its time limit or when it is preempted: queued again, or with one clear line."""

from __future__ import annotations

import signal
from functools import partial
from types import FrameType

from submitit.core.job_environment import JobEnvironment, SignalHandler

from harness import processes

TIMEOUT_S = 60.0  # Slurm sends its signal 90 s before it ends the job
ADVICE = "Finished steps are kept: run the same command again to resume from the last checkpoint"


class NotRequeued(SystemExit):
    """The job must end, and is not queued again. It is no `Exception`, which a program might catch."""


def end_clearly() -> None:
    """Makes submitit's handler of Slurm's signal raise `NotRequeued` where the job is not queued again.

    Submitit itself would wait for a `scontrol` that hangs, and raise its errors within the program. Nothing
    happens in a process that submitit has not started.
    """
    number = JobEnvironment._usr_sig()
    theirs = signal.getsignal(number)
    handler = getattr(theirs, "__self__", None)
    if not isinstance(handler, SignalHandler):
        return
    handler.env._requeue = partial(_requeue, handler.env.job_id)  # type: ignore[method-assign]

    def end(number: int, frame: FrameType | None) -> None:
        try:
            handler.checkpoint_and_try_requeue(number, frame)
        except Exception as error:  # too many requeues, or submitit cannot write its file
            raise NotRequeued(f"{str(error).rstrip('.')}. {ADVICE}") from None

    signal.signal(number, end)


def _requeue(job: str, countdown: int) -> None:
    """Queues a job again.

    Raises:
        NotRequeued: Slurm refuses, or does not answer.
    """
    answer = processes.ask(["scontrol", "requeue", job], timeout_s=TIMEOUT_S)
    if answer is not None and answer.code == 0:
        print(f"job {job} is queued again; its limit may end it {countdown} times more", flush=True)
        return
    if answer is None:
        reason = f"scontrol cannot be run or gave no answer within {TIMEOUT_S:.0f} s"
    else:
        said = " ".join((answer.errors + answer.output).split()) or "nothing"
        reason = f"scontrol failed with code {answer.code} and said: {said.rstrip('.')}"
    raise NotRequeued(f"job {job} must end, and is not queued again: {reason}. {ADVICE}")
