"""The columns of the comparison: one entry each, in the order of `comparison.csv`. All tables are made of these.

`COLUMNS` are those of a sweep whose variants are compared by mAP50-95; `columns_of` gives those of any metric.
Accuracies are fractions from 0 to 1. docs/reports.md says what each column means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import sqrt
from typing import Literal

from ablate.analysis.phrases import number_of
from ablate.analysis.variant_row import Difference, OnShared, Row
from ablate.records.factor_levels import STOCK
from ablate.records.trial_record import short
from ablate.settings.metric import MAP50_95, Metric
from ablate.statistics.interval import Interval
from ablate.statistics.seeds_and_images import SeedsAndImages

Value = str | int | float | Interval | None
UNITS = "<units>"  # in heads and words: what intervals are over, seeds or folds
OTHERS = "‡"  # beside an accuracy where the difference is over fewer seeds, or folds, than it or the baseline's is
IMAGES = "<images>"  # in heads: what intervals over images are over, images or groups of them
Place = Literal[
    "table",  # the main table of Markdown, terminal and notebook
    "details",  # the second table, and what folds out of a row of the page
    "terminal",  # columns are dropped from the end until the table fits
    "description",  # of the MLflow run
    "page",  # the main table of the HTML page
    "page_cost",  # the page's table of costs
    "latex_differences",
    "latex_accuracy",
    "latex_cost",
    "latex_latency",
]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Of the column in `comparison.csv`, in `Comparison.table` and in JSON.
        get: Reads its value from a row.
        words: Reads what people are shown in its place; None: the value.
        title: Head in tables for people.
        short: Head on a terminal; `title` where it is empty.
        latex: Head in LaTeX; `title` where it is empty.
        decimals: That are shown; None for text and counts.
        is_text: Whether its values are text.
        is_signed: Whether numbers for people have their sign.
        is_scientific: Whether numbers too small for `decimals` are shown as powers of ten.
        best: Which value is printed bold among comparable rows on the same data; empty: none is.
        places: Where it is shown -> its rank among the columns there.
        below: Column of the page in whose cells this one stands as a smaller line, and the words around it.
        always: Whether it is shown for people also where nothing is known.
        in_files: Whether it is a column of the files; intervals are two columns there, and one for people.
        role: Whether it is the accuracy that variants are compared by, or the difference in it.
        explanation: What a reader must know of it beneath the table of details.
    """

    name: str
    get: Callable[[Row], Value]
    title: str = ""
    short: str = ""
    latex: str = ""
    decimals: int | None = None
    is_text: bool = False
    is_signed: bool = False
    is_scientific: bool = False
    best: Literal["", "highest", "lowest"] = ""
    places: Mapping[Place, int] = field(default_factory=dict)
    below: tuple[str, str] | None = None
    always: bool = False
    in_files: bool = True
    role: Literal["", "accuracy", "difference"] = ""
    explanation: str = ""
    words: Callable[[Row], str] | None = None

    def over(self, units: str, images: str) -> Column:
        """The column of a comparison whose intervals are over these: seeds or folds; images or groups of images."""
        below = self.below and (self.below[0], self.below[1].replace(UNITS, units))
        names = ("title", "latex", "explanation")
        texts = {name: getattr(self, name).replace(UNITS, units).replace(IMAGES, images) for name in names}
        return replace(self, **texts, below=below)

    def format(self, value: Value, *, signed: bool = False) -> str:
        """A value of this column as text in ASCII; empty where it is not known."""
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, Interval):
            return f"[{self.format(value.low, signed=signed)}, {self.format(value.high, signed=signed)}]"
        if self.decimals is None:
            return str(value)
        if self.is_scientific and 0 < value < 10**-self.decimals:
            return f"{value:.1e}"
        text = f"{value:{'+' if signed else ''}.{self.decimals}f}"
        return text.lstrip("+-") if signed and float(text) == 0 else text

    def text(self, row: Row) -> str:
        """The value of a row as tables for people show it."""
        if self.words is not None:
            return self.words(row)
        return self.format(self.get(row), signed=self.is_signed)


def _difference(get: Callable[[Difference], Value]) -> Callable[[Row], Value]:
    """Read from a row's difference; None where it has none."""
    return lambda row: None if row.difference is None else get(row.difference)


def _end(get: Callable[[Row], Interval | None], end: Literal["low", "high"]) -> Callable[[Row], Value]:
    """Read one end of a row's interval; None where it has none."""

    def read(row: Row) -> float | None:
        interval = get(row)
        return None if interval is None else interval.low if end == "low" else interval.high

    return read


def _over_seeds(row: Row) -> Interval | None:
    return row.difference.over_seeds if row.difference else None


def _over_images(row: Row) -> Interval | None:
    return row.difference.over_images if row.difference else None


def _over_both(row: Row) -> Interval | None:
    return row.difference.over_both.interval if row.difference and row.difference.over_both else None


def _component(get: Callable[[SeedsAndImages], float]) -> Callable[[Row], Value]:
    """Read a component of variance as a standard deviation; None where it is not known."""
    return _difference(lambda d: None if d.over_both is None else sqrt(get(d.over_both)))


def _replicates(row: Row) -> str:
    """How many trials were measured; with folds how many seeds and folds they are, such as '3 x 5 folds'."""
    if not row.folds:
        return str(row.replicates)
    return re.sub(" seeds? ", " ", number_of(row.variant.by_replicate))


def _marked(row: Row) -> str:
    """The accuracy, with a mark where the difference is not that between it and the baseline's."""
    text = accuracy_text(row.accuracy.primary)
    return f"{text}{OTHERS}" if text and row.is_over_others else text


def _on_shared(get: Callable[[OnShared], float]) -> Callable[[Row], Value]:
    """Read an accuracy over the replicates that a row shares with its baseline; None where there is no difference."""
    return _difference(lambda d: None if d.on_shared is None else get(d.on_shared))


def _signatures(row: Row) -> str:
    return " ".join(short(trial.signature) for trial in row.variant.trials)


_SIZES = "AP small, medium and large are of objects with an area below 32², up to 96² and above, in pixels (COCO)."

COLUMNS: tuple[Column, ...] = (
    Column("variant", lambda r: r.label, "Variant", is_text=True, always=True,
           places={"table": 1, "details": 1, "description": 1}),
    Column("module", lambda r: r.module, is_text=True),
    Column("insertion", lambda r: r.insertion, is_text=True),
    Column("optimizer", lambda r: r.optimizer, is_text=True),
    Column("model", lambda r: r.model, is_text=True),
    Column("data", lambda r: r.data, is_text=True),
    Column("replicates", lambda r: r.replicates, "Seeds", short="n", latex="$n$", always=True, words=_replicates,
           places={"table": 2, "terminal": 11, "description": 2, "page": 2, "latex_differences": 1}),
    Column("map50_95", lambda r: r.accuracy.primary, "mAP50-95", latex=r"mAP$_{50\text{-}95}$", decimals=4,
           best="highest", always=True, role="accuracy", words=_marked,
           places={"table": 3, "terminal": 1, "description": 3, "page": 3, "latex_differences": 2}),
    Column("map50_95_std", lambda r: r.accuracy.std, "± std", short="±", latex="std", decimals=4,
           below=("map50_95", "± {}"), places={"table": 4, "terminal": 12, "latex_differences": 3}),
    Column("map50", lambda r: r.accuracy.map50, "mAP50", latex="mAP$_{50}$", decimals=4, best="highest",
           places={"table": 9, "terminal": 6, "page": 9, "latex_accuracy": 1}),
    Column("precision", lambda r: r.accuracy.precision, "Precision", short="P", latex="P", decimals=4,
           best="highest", places={"table": 10, "terminal": 14, "latex_accuracy": 7}),
    Column("recall", lambda r: r.accuracy.recall, "Recall", short="R", latex="R", decimals=4,
           best="highest", places={"table": 11, "terminal": 15, "latex_accuracy": 8}),
    Column("delta_map50_95", _difference(lambda d: d.estimate), "Δ mAP50-95", short="Δ", latex=r"$\Delta$",
           decimals=4, is_signed=True, role="difference",
           places={"table": 5, "terminal": 2, "description": 4, "page": 5, "latex_differences": 4}),
    Column("delta_ci", _over_seeds, "95 % CI of Δ", short="95% CI", latex=rf"95\,\% CI, {UNITS}", decimals=4,
           is_signed=True, in_files=False, below=("delta_map50_95", f"{UNITS} {{}}"),
           places={"table": 6, "terminal": 3, "description": 5, "latex_differences": 5}),
    Column("delta_ci_low", _end(_over_seeds, "low"), decimals=4),
    Column("delta_ci_high", _end(_over_seeds, "high"), decimals=4),
    Column("p_value", _difference(lambda d: d.p_value), "p", latex="$p$", decimals=4, is_scientific=True,
           below=("p_holm", "uncorrected {}"), places={"table": 7, "terminal": 17, "latex_accuracy": 9}),
    Column("p_holm", _difference(lambda d: d.p_holm), "p (Holm)", short="p Holm", latex=r"$p_{\mathrm{Holm}}$",
           decimals=4, is_scientific=True,
           places={"table": 8, "terminal": 9, "description": 6, "page": 8, "latex_differences": 7}),
    Column("params_m", lambda r: r.cost.params_m, "Params (M)", short="M par.", decimals=3,
           places={"table": 12, "terminal": 7, "page": 12, "page_cost": 1, "latex_cost": 1}),
    Column("gflops", lambda r: r.cost.gflops, "GFLOPs", decimals=3,
           places={"table": 13, "terminal": 8, "page": 13, "page_cost": 3, "latex_cost": 3}),
    Column("latency_ms", lambda r: r.latency.median_ms, "Latency (ms)", short="lat. ms", decimals=2,
           places={"table": 14, "terminal": 4, "description": 7, "page": 14, "latex_latency": 1}),
    Column("latency_p95_ms", lambda r: r.latency.p95_ms, "p95 (ms)", short="p95 ms", decimals=2,
           below=("latency_ms", "p95 {}"), places={"table": 15, "terminal": 16, "latex_latency": 3}),
    Column("latency_ratio", lambda r: r.latency.ratio, "× baseline", short="× base",  # noqa: RUF001
           latex=r"$\times$ baseline", decimals=3,
           places={"table": 16, "terminal": 5, "page": 16, "latex_latency": 4}),
    Column("train_minutes", lambda r: r.cost.train_minutes, "Train (min)", short="min", decimals=2,
           places={"table": 17, "terminal": 10, "page": 17, "page_cost": 5, "latex_cost": 4}),
    Column("peak_memory_gb", lambda r: r.cost.peak_memory_gb, "Memory (GB)", short="GB", decimals=2,
           places={"table": 18, "terminal": 13, "page_cost": 7, "latex_cost": 6}),
    Column("comparable", lambda r: "yes" if r.is_comparable else "no", "Comparable", is_text=True, always=True,
           places={"table": 19, "description": 8, "latex_accuracy": 10}),
    Column("notes", lambda r: "; ".join(r.notes), "Notes", is_text=True, always=True, places={"table": 20}),
    Column("signatures", _signatures, is_text=True),
    Column("trials", lambda r: len(r.variant.trials)),
    Column("seeds", lambda r: " ".join(map(str, r.seeds)), is_text=True),
    Column("shared_seeds", _difference(lambda d: " ".join(map(str, d.seeds))), is_text=True),
    Column("baseline", lambda r: r.baseline, is_text=True),
    Column("evaluated", lambda r: r.accuracy.evaluated, is_text=True),
    Column("gflops_ultralytics", lambda r: r.cost.gflops_ultralytics, "GFLOPs (Ultralytics)", decimals=3,
           places={"details": 13, "page_cost": 4},
           explanation="GFLOPs (Ultralytics) are of Ultralytics' own counter: of the network as it is trained, with "
           "heads that are not deployed, extrapolated from a small image, without products outside of layers."),
    Column("mlflow_runs", lambda r: " ".join(r.run_ids), is_text=True),
    Column("variant_key", lambda r: r.key, is_text=True),
    Column("comparison_key", lambda r: r.variant.comparison_key, is_text=True),
    Column("map75", lambda r: r.accuracy.map75, "mAP75", latex="mAP$_{75}$", decimals=4,
           places={"details": 8, "latex_accuracy": 2}),
    Column("map50_95_small", lambda r: r.accuracy.map50_95_small, "AP small", latex=r"AP$_{\mathrm{small}}$",
           decimals=4, places={"details": 9, "latex_accuracy": 3}, explanation=_SIZES),
    Column("map50_95_medium", lambda r: r.accuracy.map50_95_medium, "AP medium", latex=r"AP$_{\mathrm{medium}}$",
           decimals=4, places={"details": 10, "latex_accuracy": 4}, explanation=_SIZES),
    Column("map50_95_large", lambda r: r.accuracy.map50_95_large, "AP large", latex=r"AP$_{\mathrm{large}}$",
           decimals=4, places={"details": 11, "latex_accuracy": 5}, explanation=_SIZES),
    Column("map50_95_last", lambda r: r.accuracy.last, "mAP50-95, last epoch",
           latex=r"mAP$_{\mathrm{last}}$", decimals=4, places={"details": 6, "latex_accuracy": 6},
           explanation="The last epoch is evaluated on the same images as the best one."),
    Column("delta_last", _difference(lambda d: d.last_epoch), "Δ, last epoch", decimals=4, is_signed=True,
           places={"details": 7}),
    Column("images_ci", _over_images, f"95 % CI of Δ over {IMAGES}", latex=rf"95\,\% CI, {IMAGES}", decimals=4,
           is_signed=True, in_files=False, below=("delta_map50_95", "images {}"),
           places={"details": 2, "latex_differences": 6}),
    Column("images_ci_low", _end(_over_images, "low"), decimals=4),
    Column("images_ci_high", _end(_over_images, "high"), decimals=4),
    Column("effect_size", _difference(lambda d: d.effect_size), "Effect size", decimals=2,
           places={"details": 3}, explanation="The effect size is Hedges' g of the paired differences."),
    Column("smallest_detectable", _difference(lambda d: d.smallest_detectable), "Detectable Δ", decimals=4,
           places={"details": 4},
           explanation=f"Detectable Δ is the smallest true difference that as many {UNITS} detect with 80 % power, by "
           "an 80 % upper bound of the standard deviation and a single test without correction."),
    Column("seeds_needed", _difference(lambda d: d.seeds_needed), "Seeds for 0.005", decimals=0,
           places={"details": 5},
           explanation="Seeds for 0.005 is how many seeds detect a true difference of half a point with 80 % power, by "
           "the same bound and test."),
    Column("params_added_m", lambda r: r.cost.params_added_m, "Added (M)", latex="added (M)", decimals=3,
           below=("params_m", "+{} added"), places={"details": 12, "page_cost": 2, "latex_cost": 2},
           explanation="Added parameters are those beyond the stock network."),
    Column("seconds_per_epoch", lambda r: r.cost.seconds_per_epoch, "s / epoch", latex="Epoch (s)",
           decimals=2, places={"details": 15, "page_cost": 6, "latex_cost": 5}),
    Column("energy_kwh", lambda r: r.cost.energy_kwh, "Energy (kWh)", decimals=4,
           places={"details": 16, "page_cost": 8, "latex_cost": 7}),
    Column("latency_ci", lambda r: r.latency.interval, "95 % CI of latency (ms)", latex=r"95\,\% CI (ms)",
           decimals=2, in_files=False, places={"details": 14, "latex_latency": 2}),
    Column("latency_ci_low", _end(lambda r: r.latency.interval, "low"), decimals=2),
    Column("latency_ci_high", _end(lambda r: r.latency.interval, "high"), decimals=2),
    Column("control", lambda r: r.control, is_text=True),
    Column("p_sign_flip", _difference(lambda d: d.p_sign_flip), "p (sign flip)", decimals=4, is_scientific=True,
           places={"details": 3},
           explanation="p (sign flip) is of the exact test over all signs of the differences: it assumes symmetric "
           "differences and no normal distribution. With three seeds it cannot be below 0.25, with five not below "
           "0.0625. It is not corrected."),
    Column("verdict", _difference(lambda d: d.verdict), "Verdict", is_text=True, below=("p_holm", "{}"),
           places={"table": 8, "terminal": 9, "latex_accuracy": 9}),
    Column("p_sequential", _difference(lambda d: d.p_sequential), "p (sequential)", decimals=4, is_scientific=True,
           places={"details": 2},
           explanation="p (sequential) is corrected for all variants and valid at any number of looks."),
    Column("p_equivalence", _difference(lambda d: d.p_equivalence), "p (equivalence)",
           latex=r"$p_{\mathrm{equiv}}$", decimals=4, is_scientific=True, places={"details": 2, "latex_accuracy": 9},
           explanation="p (equivalence) is of two one-sided t-tests against the margin, Holm-corrected over the "
           "variants; that of an identity control is not corrected."),
    Column("margin", _difference(lambda d: d.margin), "Margin", decimals=4, places={"details": 2}),
    Column("both_ci", _over_both, f"95 % CI of Δ over seeds and {IMAGES}", latex=r"95\,\% CI, both", decimals=4,
           is_signed=True, in_files=False, below=("delta_map50_95", "both {}"),
           places={"details": 2, "latex_differences": 6}),
    Column("both_ci_low", _end(_over_both, "low"), decimals=4),
    Column("both_ci_high", _end(_over_both, "high"), decimals=4),
    Column("error_seeds", _component(lambda v: v.of_seeds), "Error, seeds", decimals=4, places={"details": 2},
           explanation="Errors are standard errors of Δ. Error, seeds: over seeds. Error, images: of the sampling of "
           "images that all seeds share. Error, seed x image: the part of that over seeds that more images reduce."),
    Column("error_images", _component(lambda v: v.of_images), "Error, images", decimals=4, places={"details": 2}),
    Column("error_seed_by_image", _component(lambda v: v.of_both), "Error, seed x image", decimals=4,
           places={"details": 2}),
    Column("folds", lambda r: r.folds or None, decimals=0),
    Column("image_groups", _difference(lambda d: d.image_groups), "Groups of images", decimals=0,
           places={"details": 2}, explanation="Where images belong to groups, intervals over images draw these whole."),
    Column("shared_map50_95", _on_shared(lambda means: means.variant), decimals=4),
    Column("baseline_map50_95", _on_shared(lambda means: means.baseline), decimals=4),
)  # fmt: skip
BY_NAME = {column.name: column for column in COLUMNS}
_NAMED_BY_METRIC = (
    "map50_95", "map50_95_std", "delta_map50_95", "map50_95_last", "shared_map50_95", "baseline_map50_95",
)  # fmt: skip


@cache
def columns_of(metric: Metric) -> tuple[Column, ...]:
    """The columns of a sweep whose variants are compared by this metric: it and mAP50-95 change places."""
    return COLUMNS if metric is MAP50_95 else tuple(_by_metric(column, metric) for column in COLUMNS)


def _by_metric(column: Column, metric: Metric) -> Column:
    """The column that stands in this one's place."""
    below = column.below and (column.below[0].replace(MAP50_95.name, metric.name), column.below[1])
    if column.name == metric.name:
        usual = BY_NAME[MAP50_95.name]
        return replace(
            usual,
            get=lambda r: r.accuracy.map50_95,
            words=None,
            places=BY_NAME["map50"].places,
            always=False,
            role="",
            below=below,
        )
    if column.name not in _NAMED_BY_METRIC:
        return replace(column, below=below)
    own = BY_NAME[metric.name]
    latex, short = column.latex, column.short
    if column.role == "accuracy":
        latex, short = own.latex, own.short
    elif column.latex and column.name == "map50_95_last":
        latex = rf"{own.latex}, last epoch"
    name = column.name.replace(MAP50_95.name, metric.name)
    title = column.title.replace(MAP50_95.label, own.title)
    return replace(column, name=name, title=title, short=short, latex=latex, below=below)


def _factor(name: str, title: str) -> Column:
    return Column(name, lambda r: r.variant.factors[name], title, is_text=True)


# Factors that a table shows behind all other columns, each only where a row has another level than the stock network.
OF_FACTORS = (
    _factor("box_loss", "Box loss"),
    _factor("cls_loss", "Class loss"),
    _factor("assigner", "Assigner"),
    _factor("head", "Head"),
)


def factor_columns(rows: Iterable[Row]) -> tuple[Column, ...]:
    """The columns of the factors in which some rows differ from the stock network."""
    levels = [row.variant.factors for row in rows]
    return tuple(column for column in OF_FACTORS if any(each[column.name] != STOCK[column.name] for each in levels))


@cache
def by_name(metric: Metric) -> Mapping[str, Column]:
    """The columns of a sweep with this metric by their names."""
    return {column.name: column for column in columns_of(metric)}


def in_files(metric: Metric) -> tuple[Column, ...]:
    """The columns that the files of all sweeps with this metric have."""
    return tuple(column for column in columns_of(metric) if column.in_files)


def file_columns(rows: Iterable[Row], metric: Metric) -> tuple[Column, ...]:
    """The columns that the files have of some rows, less those of components."""
    return (*in_files(metric), *factor_columns(rows))


def columns_in(place: Place, metric: Metric) -> list[Column]:
    """The columns that a table has, in its order."""
    return sorted((one for one in columns_of(metric) if place in one.places), key=lambda column: column.places[place])


def cell(name: str, value: Value, *, signed: bool = False) -> str:
    """A value of the column of this name as text in ASCII; empty where it is not known."""
    return BY_NAME[name].format(value, signed=signed)


def accuracy_text(accuracy: float | None, *, signed: bool = False) -> str:
    """An accuracy, or a difference of accuracies, by any metric as tables show it; empty where it is not known."""
    return BY_NAME[MAP50_95.name].format(accuracy, signed=signed)
