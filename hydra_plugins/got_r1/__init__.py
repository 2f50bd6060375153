"""The plugins that Hydra looks for under `hydra_plugins`: where our YAML files are."""

from harness.composition.groups import GroupSearchPath, GroupSource

__all__ = ["GroupSearchPath", "GroupSource"]
