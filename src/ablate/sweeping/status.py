"""Which trials of a sweep are done, running, failed (and why), read from disk alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ablate.tracking.records import Sweep, load_object, load_sweep, mapping


def show_status(directory: Path, console: Console, *, as_json: bool = False) -> int:
    """Print a sweep's trials and their states; return 0, or 1 where trials failed."""
    sweep = load_sweep(directory)
    rows = trial_states(sweep)
    if as_json:
        print(json.dumps({"sweep": sweep.name, "trials": rows}))  # noqa: T201
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"sweep {sweep.name}", title_justify="left")
        for title in ("trial", "signature", "state", "epoch", "mAP50-95"):
            table.add_column(title, no_wrap=True)
        table.add_column("why")
        for row in rows:
            table.add_row(row["trial"], row["signature"][:12], row["state"], row["epoch"], row["map50_95"], row["why"])
        console.print(table)
        states = [row["state"] for row in rows]
        console.print(", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)), highlight=False)
    return 1 if any(row["state"] == "failed" for row in rows) else 0


def trial_states(sweep: Sweep) -> list[dict[str, Any]]:
    """Return one row a trial: name, signature, state, last epoch, mAP50-95 and the reason of a failure."""
    rows = []
    for record in sweep.records:
        failure = record.get("failure") or {}
        accuracy = record.get("metrics", {}).get("map50_95")
        rows.append(
            {
                "trial": record.get("name", "?"),
                "signature": record["signature"],
                "state": {"finished": "done"}.get(record["status"], record["status"]),
                "epoch": str(len(record.get("history", [])) or ""),
                "map50_95": "" if accuracy is None else f"{accuracy:.4f}",
                "why": f"{failure['type']}: {failure['message']}" if failure else "",
            }
        )
    names = mapping(load_object(sweep.directory / "sweep.json"), "names")
    return rows + [_unfinished(s, names.get(s, "?"), sweep.trial_dir(s)) for s in sweep.missing]


def _is_locked(folder: Path) -> bool:
    """Tell whether a process trains this trial now: it holds the trial's lock."""
    import fcntl

    try:
        with folder.with_suffix(".lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _unfinished(signature: str, name: str, folder: Path) -> dict[str, Any]:
    row = {"trial": name, "signature": signature, "state": "waiting", "epoch": "", "map50_95": "", "why": ""}
    if not (folder / "train.log").is_file():
        return row
    row["state"] = "running" if _is_locked(folder) else "interrupted"
    try:
        last = json.loads((folder / "train" / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return row
    return {**row, "epoch": f"{last['epoch']}/{last['epochs']}", "map50_95": f"{last['map50_95']:.4f}"}
