"""Let Hydra find the user's own options, `./conf/<group>/<option>.yaml` in the working folder."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class WorkingFolder(SearchPathPlugin):  # type: ignore[misc]
    """Add the working folder's `conf/` to the search path, after ours."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder, if there is one and it is not ours."""
        from ablate.settings.schema import conf_dir

        folder = Path.cwd() / "conf"
        if folder.is_dir() and folder.resolve() != conf_dir().resolve():
            search_path.append(provider="working-folder", path=f"file://{folder}")
