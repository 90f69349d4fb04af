"""Metrics, tags and parameters of a sweep's parent run, read from the sweep's folder; MLflow is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.analysis.table_summary import TableRow, TableSummary
from ablate.records.factor_levels import STOCK
from ablate.records.loading import DamagedRecordError, load_record, manifest_so_far
from ablate.records.trial_record import FINISHED, TrialRecord
from ablate.settings.metric import MAP50_95, Metric
from ablate.statistics.paired import ALPHA
from ablate.storage.layout import REPORT, SweepFolder
from ablate.tracking import mlflow_payload as payload

TABLE = f"{REPORT}.json"  # the comparison as one of MLflow's tables
TEST_TABLE = f"{REPORT}_test.json"  # the same on the test split
# Settings of where results go and how they are shown: they change no training.
PLACES = ("root", "sweep", "tracking.", "latency.", "figures", "notebook", "retry")


@dataclass(frozen=True)
class Summary:
    """A sweep in MLflow's terms.

    Attributes:
        metrics: How many trials and variants, how many failed.
        tags: Levels of each factor, and which parameters vary.
        shared: Parameters that all trials share.
        table, test_table: The comparison's rows, and those on the test split where that was opened.
        controls: Signature of a control's trial -> its kind.
        trained: One record for each data set.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    table: list[TableRow] = field(default_factory=list)
    test_table: list[TableRow] = field(default_factory=list)
    controls: dict[str, str] = field(default_factory=dict)
    trained: list[TrialRecord] = field(default_factory=list)


def of_sweep(directory: Path, table: TableSummary) -> Summary:
    """Read a sweep's folder; what is missing or damaged there is left out."""
    files = SweepFolder(directory)
    manifest = manifest_so_far(files)
    records = []
    for signature in manifest.signatures:
        try:
            records.append(load_record(files.trial(signature).path))
        except (FileNotFoundError, DamagedRecordError):
            continue
    shared, varying = payload.shared_and_varying([record.config for record in records])
    levels: dict[str, list[str]] = {}
    recorded = {factor for record in records for factor in record.factors}
    stock = {factor: level for factor, level in STOCK.items() if factor in recorded}
    for record in records:
        fold = {} if record.fold is None else {"fold": str(record.fold)}
        for factor, level in {**stock, **record.factors, "seed": str(record.seed), **fold}.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    tags = {
        **{f"ablate.{factor}": ", ".join(names) for factor, names in levels.items()},
        "ablate.varies": ", ".join(name for name in varying if not name.startswith(PLACES)),
    }
    if manifest.analysis.primary is not MAP50_95:
        tags["ablate.metric"] = manifest.analysis.metric
    controls = {signature: control.kind for control in manifest.controls.values() for signature in control.signatures}
    metrics = {
        "sweep/trials": float(len(manifest.signatures)),
        "sweep/finished": float(sum(record.status == FINISHED for record in records)),
        "sweep/failed": float(sum(record.status != FINISHED for record in records)),
        "sweep/variants": float(len({record.variant_key for record in records})),
        **_of_table(table, manifest.analysis.primary),
    }
    return Summary(
        metrics,
        {name: text[: payload.MAX_VALUE] for name, text in tags.items() if text},
        {name: text for name, text in shared.items() if not name.startswith(PLACES)},
        table=_without_empty(table.rows),
        test_table=_without_empty(table.test_rows),
        controls=controls,
        trained=list({(record.data and record.data.fingerprint, record.fold): record for record in records}.values()),
    )


def _without_empty(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows with null in place of empty text."""
    return [{name: None if value == "" else value for name, value in row.items()} for row in rows]


def _of_table(table: TableSummary, metric: Metric) -> dict[str, float]:
    """Return the largest difference to a baseline, and how many differences are supported."""
    metrics = {}
    if table.largest_difference is not None:
        metrics[f"sweep/largest_delta_{metric.name}"] = table.largest_difference
    if table.supported is not None:
        metrics[f"sweep/variants_with_p_holm_below_{ALPHA:g}"] = float(table.supported)
    return metrics
