"""Files of a sweep's folder for its parent run: the report, and the comparison as one of MLflow's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ablate.analysis.table_summary import TableRow
from ablate.storage.confined import leads_out


def sweep_files(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of a sweep's folder that are worth keeping, with their place among the artifacts; no links."""
    for file in sorted(directory.rglob("*")):
        inside = file.relative_to(directory)
        if file.is_file() and not leads_out(file, directory) and not any(part.startswith(".") for part in inside.parts):
            top = len(inside.parts) == 1
            yield file, None if top and file.suffix == ".json" else str(Path("report") / inside.parent)


def log_table(client: Any, run_id: str, rows: Sequence[TableRow], name: str) -> None:
    """Log the comparison as one of MLflow's tables; `log_table` appends, so a later one replaces the file."""
    import pandas as pd

    if not rows:
        return
    frame = pd.DataFrame(rows)
    if any(file.path == name for file in client.list_artifacts(run_id)):
        client.log_text(run_id, frame.to_json(orient="split", index=False), name)
    else:
        client.log_table(run_id, frame, name)
