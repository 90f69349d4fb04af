"""Let Hydra find the user's own options, `./conf/<group>/<option>.yaml` in the working folder.

The folder may be a stranger's. So Hydra gets no file of it but the option that was chosen, none that stands in for one
of ours, and none that names what Hydra itself is to run: its callbacks, its sweeper, a class of a launcher.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from ablate.storage.plain_values import Plain

LAUNCHER = "hydra/launcher"
HEADER = 512  # characters in which `# @package` may stand, as in Hydra's own files


class WorkingFolder(SearchPathPlugin):  # type: ignore[misc]
    """Add the working folder's `conf/` to the search path, after ours."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder, if there is one and it is not ours."""
        from ablate.settings.schema import conf_dir

        folder = Path.cwd() / "conf"
        if folder.is_dir() and folder.resolve() != conf_dir().resolve():
            search_path.append(provider="working-folder", path=f"{UserOptions.scheme()}://{folder}")


class UserOptions(ConfigSource):  # type: ignore[misc]
    """The option files of a `conf/` that is not ours."""

    @staticmethod
    def scheme() -> str:
        """Return what its entries in the search path begin with."""
        return "options"

    def available(self) -> bool:
        """Tell whether there is such a folder."""
        return os.path.isdir(self.path)  # noqa: PTH112

    def is_group(self, config_path: str) -> bool:
        """Tell whether there is a folder of this name, of options that may be chosen."""
        inner = config_path.strip("/")
        of_hydra = inner.partition("/")[0] == "hydra" and inner not in ("hydra", LAUNCHER)
        return ".." not in inner.split("/") and not of_hydra and (Path(self.path) / inner).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such an option: in a group, and none that is built in."""
        group, _, name = self._normalize_file_name(config_path).rpartition("/")
        built_in = group == LAUNCHER and name in ConfigStore.instance().list(LAUNCHER)
        return bool(group) and self.is_group(group) and not built_in and (Path(self.path) / group / name).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the groups and options in a group."""
        names: list[str] = []
        for name in os.listdir(Path(self.path) / config_path):  # noqa: PTH208
            self._list_add_result(names, f"{config_path}/{name}".strip("/"), name, results_filter)
        return sorted(set(names))

    def load_config(self, config_path: str) -> ConfigResult:
        """Return what an option's file holds.

        Raises:
            ConfigError: It is no YAML mapping, or sets what no option may set.
        """
        from ablate.errors import ConfigError
        from ablate.storage.yaml_files import YamlFileError, read_mapping

        inner = self._normalize_file_name(config_path)
        title, path = f"conf/{inner}", Path(self.path) / inner
        if not self.is_config(config_path):
            raise ConfigLoadError(f"{title}: no such option")
        try:
            content = read_mapping(path, title)
            header = self._get_header_dict(path.read_text(encoding="utf-8-sig")[:HEADER])
        except YamlFileError as error:
            raise ConfigError(str(error)) from error
        except ValueError as error:  # of a header
            raise ConfigError(f"{title}: {error}") from error
        is_launcher = inner.startswith(f"{LAUNCHER}/")
        package = str(header["package"] or "")
        wrong = next(_not_for_options(content, package, is_launcher=is_launcher), None)
        if wrong:
            raise ConfigError(f"{title}: {wrong}; of Hydra's own settings a file may set fields of hydra.launcher only")
        return ConfigResult(
            config=OmegaConf.create(content), path=self.full_path(), provider=self.provider, header=header
        )


def _not_for_options(content: "Plain", package: str, *, is_launcher: bool) -> Iterator[str]:
    """Yield what no option's file may set: each of it would have Hydra run what the file names."""
    if "hydra" in package and not (is_launcher and package == "hydra.launcher"):
        yield f"@package {package}"
    if is_launcher and package not in ("", "_group_", "hydra.launcher"):
        yield f"@package {package}"
    defaults = content.get("defaults") or []
    for entry in defaults if isinstance(defaults, list) else [defaults]:
        for group in entry if isinstance(entry, dict) else [entry]:
            words = str(group).removeprefix("override ").removeprefix("optional ").strip().removeprefix("/")
            if ("hydra" in words or "$" in words) and not words.startswith(f"{LAUNCHER}/") and words != LAUNCHER:
                yield f"defaults: {group}"
            if is_launcher and "@" in words:
                yield f"defaults: {group}"
    own = content if is_launcher else content.get("hydra")
    if own is None:
        return
    if not isinstance(own, dict):
        yield "hydra"
        return
    if not is_launcher:
        yield from (f"hydra.{key}" for key in own if key != "launcher")
    launcher = own if is_launcher else own.get("launcher")
    if isinstance(launcher, dict) and str(launcher.get("_target_")).startswith("hydra_plugins."):
        launcher = {**launcher, "_target_": None}
    if _has_target(launcher):
        yield "a _target_ in hydra.launcher that is no installed launcher"
    if _refers(launcher):
        yield "a reference ${...} in hydra.launcher, which may stand for a _target_"


def _has_target(value: object) -> bool:
    """Tell whether something in a value would be made an object of by Hydra."""
    if isinstance(value, dict):
        return value.get("_target_") is not None or any(map(_has_target, value.values()))
    return isinstance(value, list) and any(map(_has_target, value))


def _refers(value: object) -> bool:
    """Tell whether a value refers to a part of the configuration that option files may set."""
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    if isinstance(value, list):
        return any(map(_refers, value))
    return isinstance(value, str) and re.search(r"\$\{(?!oc\.env:|now:|hydra[.:])", value) is not None
