"""The table of variants over data sets, which Markdown, page and terminal lay out."""

from __future__ import annotations

from collections.abc import Callable

from ablate.analysis.columns import accuracy_text, cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.data_sets import AcrossDataSets, DataSetStudy
from ablate.analysis.phrases import probability_text
from ablate.findings.late_declarations import beneath_tables
from ablate.report.text_table import TableColumn

MOST = 8  # data sets that get a column of their own


def data_set_caption(comparison: Comparison) -> str:
    """What the columns mean."""
    metric, averaged_over = comparison.metric.label, comparison.averaged_over
    unit = "seed" if averaged_over == "seeds" else "fold"
    columns = (
        f"Differences to the baseline in {metric}, on each data set the mean over its {averaged_over}. Mean: over the "
        "data sets, unweighted, with Student's 95 % interval over data sets; p (Holm) is corrected over the variants. "
        f"SD between: standard deviation of the true differences between data sets, {unit}-to-{unit} variance removed. "
        "Next data set: 95 % prediction interval of the difference that a data set like these will show, measured with "
        f"as many {averaged_over}, and the probability that it is above zero; from three data sets on. Rank: mean rank "
        "over the data sets, 1 is the most accurate."
    )
    return " ".join([columns, *beneath_tables(comparison.sweep)])


def data_set_columns(study: DataSetStudy) -> list[TableColumn]:
    """The columns of a study's table, one cell for each variant, without those in which nothing is known."""

    def column(name: str, title: str, read: Callable[[AcrossDataSets], str]) -> TableColumn:
        kind = "text" if name == "variant" else "number"
        return TableColumn(name, title, kind, tuple(read(variant) for variant in study.variants))  # type: ignore[arg-type]

    columns = [column("variant", "Variant", lambda v: v.label)]
    columns += [column(f"on {data}", f"Δ {data}", lambda v, data=data: _on(v, data)) for data in study.data[:MOST]]  # type: ignore[misc]
    columns += [
        column("mean", "Mean Δ", lambda v: _signed(v.pooled.mean)),
        column("interval", "95 % CI over data sets", lambda v: cell("delta_ci", v.pooled.interval, signed=True)),
        column("p_holm", "p (Holm)", lambda v: cell("p_holm", v.p_holm)),
        column("between", "SD between", lambda v: accuracy_text(v.pooled.between)),
        column("higher", "Higher on", lambda v: f"{v.higher} of {len(v.on)}"),
        column("next", "Next data set", _next),
        column("probability", "P(Δ > 0) there", _probability),
        column("rank", "Rank", lambda v: "" if v.mean_rank is None else f"{v.mean_rank:.2f}"),
    ]
    return [each for each in columns if any(each.cells)]


def _on(variant: AcrossDataSets, data: str) -> str:
    return next((_signed(one.estimate) for one in variant.on if one.data == data), "")


def _signed(difference: float) -> str:
    return accuracy_text(difference, signed=True)


def _next(variant: AcrossDataSets) -> str:
    foreseen = variant.pooled.prediction
    return "" if foreseen is None else cell("delta_ci", foreseen.interval, signed=True)


def _probability(variant: AcrossDataSets) -> str:
    foreseen = variant.pooled.prediction
    return "" if foreseen is None else probability_text(foreseen.higher)
