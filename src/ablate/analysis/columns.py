"""The columns of the comparison table: which there are, what kind each is, and which tell of components.

Accuracies are fractions from 0 to 1, latency is in milliseconds, training time in minutes, memory in GB, parameters in
millions, FLOPs in units of 1e9 (one multiply-add = 2), energy in kWh. docs/reports.md says what each column means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ablate.analysis.variant_names import FACTORS

COLUMNS = (
    "variant", "module", "insertion", "optimizer", "model", "data", "replicates",
    "map50_95", "map50_95_std", "map50", "precision", "recall",
    "delta_map50_95", "delta_ci_low", "delta_ci_high", "p_value", "p_holm",
    "params_m", "gflops", "latency_ms", "latency_p95_ms", "latency_ratio",
    "train_minutes", "peak_memory_gb", "comparable", "notes", "signatures",
)  # fmt: skip
EXTRA_COLUMNS = (
    "trials", "seeds", "shared_seeds", "baseline", "evaluated", "gflops_ultralytics",
    "mlflow_runs", "variant_key", "comparison_key",
    "map75", "map50_95_small", "map50_95_medium", "map50_95_large", "map50_95_last", "delta_last",
    "images_ci_low", "images_ci_high", "effect_size", "smallest_detectable", "seeds_needed",
    "params_added_m", "seconds_per_epoch", "energy_kwh", "latency_ci_low", "latency_ci_high", "control",
)  # fmt: skip
TEXT_COLUMNS = {
    "variant", *FACTORS, "comparable", "notes", "signatures", "seeds", "shared_seeds", "baseline",
    "evaluated", "mlflow_runs", "variant_key", "comparison_key", "control",
}  # fmt: skip
COUNT_COLUMNS = {"replicates", "trials"}  # always known


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a data frame, each as {column: value}."""
    return [{str(name): found for name, found in row.items()} for row in frame.to_dict("records")]


def components_of(table: pd.DataFrame) -> list[str]:
    """The columns of a comparison table that tell of components."""
    return [name for name in table.columns if name not in COLUMNS and name not in EXTRA_COLUMNS]


def baselines(table: pd.DataFrame) -> pd.Series:
    """For each row of a comparison table whether others are compared with it, shape (rows,)."""
    asked, plain = table["control"] == "", table["module"] == "none"
    names = components_of(table)
    if not names:
        return asked & plain
    marked = table[names[0]] != ""
    return asked & ((marked & (table[names] == "false").all(axis=1)) | (~marked & plain))


def left_out(table: pd.DataFrame) -> dict[str, str]:
    """Variant -> why it was left out of a table that holds only what may be compared; empty where nothing was."""
    found: dict[str, str] = table.attrs.get("left_out", {})
    return found


def frame_of(rows: Sequence[dict[str, Any]], components: Sequence[str]) -> pd.DataFrame:
    """Rows -> data frame with text, whole numbers and floats; empty text is '' and empty numbers NaN."""
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, *EXTRA_COLUMNS, *components])
    for name in frame.columns:
        if name in TEXT_COLUMNS or name in components:
            frame[name] = frame[name].astype("object").where(frame[name].notna(), "").astype(str)
        elif name in COUNT_COLUMNS:
            frame[name] = frame[name].astype("int64")
        else:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    return frame
