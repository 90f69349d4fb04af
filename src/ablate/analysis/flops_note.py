"""Why Ultralytics' own number of FLOPs is another one than ours, in words."""

from __future__ import annotations

import pandas as pd

from ablate.analysis.columns import rows_of
from ablate.analysis.variants import is_measured, variant_key
from ablate.records.records import Record, Sweep, number, sequence

SAME = 0.005  # of ours: from here on the two differ at the digits that a table shows


def flops_differences(sweep: Sweep, table: pd.DataFrame) -> list[tuple[str, str]]:
    """Label and `ultralytics_difference` of each row of a comparison table whose record has Ultralytics' number."""
    records: dict[str, Record] = {}
    for record in filter(is_measured, sweep.records):
        records.setdefault(variant_key(record), record)
    rows = [row for row in rows_of(table) if row["gflops_ultralytics"] == row["gflops_ultralytics"]]
    told = [(row["variant"], ultralytics_difference(records.get(row["variant_key"], {}))) for row in rows]
    return [(label, text) for label, text in told if text]


def ultralytics_difference(record: Record) -> str:
    """What Ultralytics says of a trial's network and where the difference comes from; empty where nothing is known.

    Args:
        record: A trial's record, whose `cost` and `graft` are looked at.
    """
    ours, theirs = number(record, "cost", "gflops"), number(record, "cost", "gflops_ultralytics")
    if ours is None:
        return ""
    if theirs is None:
        return f"{ours:.2f} GFLOPs as deployed; Ultralytics' own counter gave no number for this network."
    lead = f"{ours:.2f} GFLOPs as deployed, {theirs:.2f} by Ultralytics' own counter"
    if abs(theirs - ours) <= SAME * ours:
        return f"{lead}."
    return f"{lead}: {'; '.join(_reasons(record))}."


def _reasons(record: Record) -> list[str]:
    reasons = []
    trained, deployed = number(record, "cost", "params_train"), number(record, "cost", "params")
    if trained is not None and deployed is not None and trained > deployed:
        left = f"{(trained - deployed) / 1e6:.2f} M parameters"
        reasons.append(f"it counts the network as it is trained, with {left} of norms and heads that are not deployed")
    declared = number(record, "cost", "gflops_uncounted")
    if declared:
        share = f"{declared:.3f}" if declared >= 0.001 else "less than 0.001"
        reasons.append(f"it does not see {share} GFLOPs of products that are no layer, which the module declares")
    if sequence(record, "graft", "places"):
        reasons.append(
            "it extrapolates from a small image, where what attends within windows or among tokens has another share"
        )
    return reasons or ["it extrapolates from a small image"]
