"""Where Hydra finds our YAML: group = folder.

`policies rewards benchmarks ablations` are folders beside this package, the other groups are under
`harness/conf/`. Folders of the same names in packages declared as entry points in `got_r1.plugins` are
added to them. A config source limited to these folders keeps `--help` complete and fast: a plain search
path entry would list all of site-packages.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache as kept
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf

from harness.files import read_user_text
from harness.paths import cache
from harness.stages import sources

HARNESS = Path(__file__).resolve().parents[1]
BESIDE = ("ablations", "benchmarks", "policies", "rewards")

# ${fetched:NAME} is where `harness.fetch NAME` writes; every module that composes imports this one
OmegaConf.register_new_resolver("fetched", lambda name: str(cache(name)), replace=True)


@lru_cache(maxsize=1)
def options() -> dict[str, dict[str, Path]]:
    """Group -> option -> YAML file.

    Raises:
        ValueError: two files claim the same option, or a declared plugin package cannot be found.
    """
    folders = {name: [HARNESS.parent / name] for name in BESIDE}
    for folder in (HARNESS / "conf").iterdir():
        if folder.is_dir():
            folders[folder.name] = [folder]
    for plugin, package in sources.plugin_packages().items():
        location = sources.locate(package)
        if location is None:
            raise ValueError(
                f"the plugin {plugin!r} declares the package {package!r} in {sources.PLUGINS}, "
                "which cannot be found. Install it, or uninstall the plugin"
            )
        root = location.parent if location.is_file() else location
        for group, group_folders in folders.items():
            group_folders.append(root / group)
    return {group: _yaml_files(group, group_folders) for group, group_folders in sorted(folders.items())}


def _yaml_files(group: str, folders: list[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in files:
                raise ValueError(f"{group}={path.stem} is both {files[path.stem]} and {path}: rename one")
            files[path.stem] = path
    return files


def classes(group: str) -> dict[str, type]:
    """Option -> the class that its YAML names by `_target_`, where it names one. Imports, constructs nothing.

    Raises:
        ValueError: a class cannot be imported.
    """
    class_by_option: dict[str, type] = {}
    for option, file in options()[group].items():
        target = OmegaConf.select(OmegaConf.load(file), "_target_")
        if not isinstance(target, str):
            continue
        try:
            imported = resolve_name(target)
        except Exception as error:  # a module may raise anything while it is imported
            raise ValueError(
                f"{group}={option}: {target} cannot be imported ({error}): correct {file}, or remove it"
            ) from error
        if isinstance(imported, type):
            class_by_option[option] = imported
    return class_by_option


class GroupSource(ConfigSource):
    """The root configuration and our groups as one Hydra config source, `study://`."""

    @staticmethod
    def scheme() -> str:
        return "study"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "" or config_path in options()

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        if path is None:
            raise ConfigLoadError(f"no configuration {config_path!r}")
        text = read_user_text(path)
        header = self._get_header_dict(text[:512])
        config = deepcopy(_parsed(path, text))
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header=header)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        groups = list(options()) if config_path == "" else []
        configs = ["config"] if config_path == "" else list(options()[config_path])
        if results_filter is None:
            return sorted(groups + configs)
        return groups if results_filter == ObjectType.GROUP else configs

    @staticmethod
    def _file(config_path: str) -> Path | None:
        config_path = config_path.removesuffix(".yaml")
        if config_path == "config":
            return HARNESS / "config.yaml"
        group, _, option = config_path.rpartition("/")
        return options().get(group, {}).get(option)


class FolderSource(FileConfigSource):
    """A user's folder as a config source, `folder://PATH`; its YAML may begin with a byte order mark."""

    @staticmethod
    def scheme() -> str:
        return "folder"

    def load_config(self, config_path: str) -> ConfigResult:
        text = read_user_text(Path(self.path, self._normalize_file_name(config_path)))
        return replace(super().load_config(config_path), header=self._get_header_dict(text[:512]))


@kept
def _parsed(path: Path, text: str) -> DictConfig | ListConfig:
    """The configuration in a file, parsed once per text: every cell of a study reads the same files."""
    return OmegaConf.load(path)


class GroupSearchPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="got-r1", path=f"{GroupSource.scheme()}://")
