"""What a command would do, without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ablate.sweeping.preflight import preflight
from ablate.sweeping.sweep import reconcile
from ablate.trial import Trial


def show_plan(trials: Sequence[Trial], *, as_json: bool = False) -> int:
    """Print the trials of a command with the state and the cost of each; return the exit code.

    Raises:
        ConfigError: A network of the plan cannot be built.
    """
    found = reconcile(trials)
    costs = preflight(found.trials, with_cost=True)
    done = {trial.identity.signature for trial in found.done}
    rows = [_row(trial, trial.identity.signature in done, costs[trial.identity.variant_key]) for trial in found.trials]
    if as_json:
        summary = {"total": len(rows), "run": len(found.missing), "reuse": len(found.done)}
        print(json.dumps({"trials": rows, **summary}))  # noqa: T201
        return 0
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("trial", "signature", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("places", "params M", "GFLOPs", "epochs"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (str(len(row["places"])), f"{row['params'] / 1e6:.2f}", f"{row['gflops']:.2f}", str(row["epochs"]))
        table.add_row(row["trial"], row["signature"][:12], row["state"], *cells)
    console.print(table)
    console.print(f"{len(rows)} trials: {len(found.missing)} to run, {len(found.done)} done already", highlight=False)
    return 0


def _row(trial: Trial, done: bool, cost: dict[str, Any]) -> dict[str, Any]:
    return {
        "trial": trial.identity.name,
        "signature": trial.identity.signature,
        "state": "reuse" if done else "run",
        "factors": trial.identity.factors,
        "seed": trial.identity.seed,
        "epochs": trial.config["train"]["epochs"],
        "places": [place["place"] for place in cost["places"]],
        "params": cost["params"],
        "gflops": cost["gflops"],
        "gflops_ultralytics": cost["gflops_ultralytics"],
        "weights_transferred": cost["weights"]["transferred"],
        "weights_expected": cost["weights"]["expected"],
    }
