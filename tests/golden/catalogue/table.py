"""Write the table of cases in README.md from the files beside it: `python tests/golden/catalogue/table.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
START = "| case | class | authors' code | commit |"


def rows(folder: Path = HERE) -> list[str]:
    """Return one line for each case, in the order of the files' names."""
    lines = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            config = json.loads(str(file["config"]))
        target = config["target"].rpartition(".")[2]
        source = f"{config['source_repo']}: `{config['source_path']}`, `{config['authors_class']}`"
        lines.append(f"| {path.stem} | `{target}` | {source} | {config['source_commit'][:10]} |")
    return lines


def page(text: str, folder: Path = HERE) -> str:
    """Return the text of README.md with its table written again."""
    head = text.partition(START)[0]
    return "\n".join([head + START, "|---|---|---|---|", *rows(folder), ""])


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8")), encoding="utf-8")
