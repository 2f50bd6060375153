"""A real Slurm, one for each worker of the test run, and sweeps that submit to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.slurm.cluster import ClusterError, SlurmCluster, cluster, missing


@pytest.fixture(scope="session")
def started_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            made = stack.enter_context(cluster(tmp_path_factory.mktemp("slurm") / "cluster"))
        except ClusterError as error:
            if os.getuid() == 0:
                raise
            pytest.skip(f"this user cannot start a Slurm: {error}")
        yield made


@pytest.fixture
def slurm(started_slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A Slurm that works and has no jobs; commands of the test find it."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, started_slurm.environment()[name])
    yield started_slurm
    started_slurm.heal()
