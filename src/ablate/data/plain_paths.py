"""Paths that Ultralytics does not take for web addresses.

It strips what follows a question mark, also a percent-encoded one, from any path before it looks at the suffix, so that
`what?x=1/best.pt` is no checkpoint. Such a folder is given to it by a link of a plain name in our cache.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from ablate.data.cache import cache_dir


def plain_path(path: Path) -> Path:
    """Return another path to the same file or folder, without a question mark; the path itself where it has none.

    Raises:
        OSError: The cache cannot be written.
    """
    path = path.absolute()
    holder = next((place for place in (path, *path.parents) if "?" in unquote(place.name)), None)
    if holder is None:
        return path
    links = cache_dir() / "links"
    link = links / hashlib.sha256(os.fsencode(holder)).hexdigest()[:16]
    if not link.is_symlink():
        links.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process made it in this moment
            link.symlink_to(holder)
    return link / path.relative_to(holder)
