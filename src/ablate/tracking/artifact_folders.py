"""Where MLflow's own store of an output folder keeps files: below its `mlartifacts`, whatever its database says.

The database names the place of every run's files, and may come from a stranger with the rest of the folder.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ablate.storage.confined import leads_out, leave_plain_files
from ablate.storage.layout import OutputFolder


def own_place(address: str, root: Path) -> Path:
    """Return the folder of a run's files; links in it that lead out of it are removed, for files are written there.

    Args:
        address: A path or a `file:` URI, as the store has it.
        root: The output folder.

    Raises:
        ValueError: It is not in the folder's `mlartifacts`.
    """
    parts = urlsplit(address)
    artifacts = OutputFolder(root.absolute()).artifacts
    place = Path(unquote(parts.path) if parts.scheme else address)
    if parts.scheme not in ("", "file") or parts.netloc or leads_out(place, artifacts):
        raise ValueError(f"the store has another place for them than {artifacts}: {address}")
    leave_plain_files(place)
    return place
