"""The plugins that Hydra looks for under `hydra_plugins`: where our YAML files are."""

from harness.composition.groups import FolderSource, GroupSearchPath, GroupSource

__all__ = ["FolderSource", "GroupSearchPath", "GroupSource"]
