"""What Hydra must find under `hydra_plugins`: our config source, sweeper and launcher, thin over `harness`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from harness.composition.groups import GroupSearchPath, GroupSource

__all__ = ["GroupSearchPath", "GroupSource", "StudyLauncher", "StudySweeper"]

ConfigStore.instance().store(
    group="hydra/sweeper", name="study", node={"_target_": f"{__name__}.StudySweeper"}, provider="got-r1"
)
ConfigStore.instance().store(
    group="hydra/launcher", name="study", node={"_target_": f"{__name__}.StudyLauncher"}, provider="got-r1"
)


class StudySweeper(Sweeper):
    """Arms x seeds of one ablation."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from harness.study.planning import expand

        assert self.config is not None and self.launcher is not None
        return self.launcher.launch(expand(self.config, arguments), initial_job_idx=0)


class StudyLauncher(Launcher):
    """Composes and checks every cell, then runs them all and writes the report."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.config_loader = hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from harness.launch.run import run

        raise SystemExit(run(self.config, self.config_loader, job_overrides))
