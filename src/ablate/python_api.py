"""A sweep's results for Python users, `ablate.load_sweep`: read from records only. docs/python-api.md has examples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ablate.analysis.comparison import Comparison
from ablate.analysis.image_groups import AUTO, check_groups, fit_groups, groups_for
from ablate.analysis.latency_results import Latency
from ablate.analysis.measurements import Accuracy, Cost
from ablate.analysis.pairing import trial_pairs
from ablate.analysis.split_comparison import compare_splits
from ablate.analysis.table import comparison_frame, trial_frame
from ablate.analysis.variant_row import Difference, Row
from ablate.analysis.variants import Variant
from ablate.errors import nearest
from ablate.evaluation.image_bootstrap import ImageInterval, NotPaired, paired_bootstrap
from ablate.findings.all_findings import sentences
from ablate.findings.facts import Facts, data_facts, headline, latency_facts, recipe_facts
from ablate.records import loading
from ablate.records.judged import sweep_as_chosen
from ablate.records.predictions import Predictions, load_predictions, predictions_path
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord
from ablate.report.captions import caption
from ablate.report.markdown_text import literal
from ablate.report.split_table import values_beside
from ablate.settings.metric import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FigureResult", "SweepResults", "VariantResults", "load_sweep", "markdown_literal"]


def load_sweep(
    path: str | Path,
    *,
    strict: bool = False,
    judge: str | None = None,
    delta: float | None = None,
    groups: str | Path = AUTO,
    metric: str | None = None,
) -> SweepResults:
    """Read a sweep and compare its variants.

    Args:
        path: The sweep's folder, such as multirun/sweeps/<name>.
        strict: Leave out what may not be compared with its baseline.
        judge: Which epochs the accuracy is taken from ("best", "last", "split", "mean_last_5"); the one that the
            sweep's command declared by default.
        delta: Margin of equivalence in place of the one that the command declared, a fraction such as 0.005.
        groups: Which groups of images intervals over images draw whole: "auto" those that an audit found, "none", or a
            file. Intervals that a report computed with others are left out; `resample_images` computes them.
        metric: The accuracy by which variants are compared in place of the one that the command declared: "map50_95",
            "map50", "map75", "precision", "recall", "map50_95_small", "map50_95_medium" or "map50_95_large".

    Raises:
        FileNotFoundError: It is not the folder of a sweep. Damage to single trials is no error: see `notes`.
        ConfigError: There is no such judge, metric or file of groups, or the judge cannot take this metric.
    """
    check_groups(str(groups))
    sweep = sweep_as_chosen(loading.load_sweep(Path(path)), judge=judge, delta=delta, metric=metric)
    return SweepResults(compare_splits(replace(sweep, groups=str(groups)), strict=strict))


def markdown_literal(text: str) -> str:
    """Text as Markdown shows it literally: names may hold what is emphasis, code or HTML."""
    return literal(text)


class SweepResults:
    """A sweep with its comparison. Iterate over it, or index it by a variant's name.

    Attributes:
        comparison: The comparison that everything here is read from.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @property
    def metric(self) -> Metric:
        """The accuracy by which its variants are compared: `name` in tables, `label` for people."""
        return self.comparison.metric

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.comparison.sweep.name

    @property
    def command(self) -> str:
        """The command that asked for it."""
        return self.comparison.sweep.command

    @property
    def table(self) -> pd.DataFrame:
        """One row per variant with the columns of comparison.csv, unrounded.

        Accuracies are fractions, latency is in ms, training time in minutes, memory in GB, parameters in millions,
        FLOPs in units of 1e9, energy in kWh. What is not known is NaN, or '' in a column of text.
        """
        return comparison_frame(self.comparison)

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: variant, seed, fold, status, accuracy (a fraction), minutes, signature, MLflow run."""
        return trial_frame(self.comparison)

    @property
    def headline(self) -> str:
        """One line on what was compared."""
        return headline(self.comparison)

    @property
    def findings(self) -> list[str]:
        """What the numbers support and what they do not, most important first."""
        return sentences(self.comparison)

    @property
    def test_table(self) -> pd.DataFrame | None:
        """The same on the test split, with what the validation images said behind; None where it was never opened."""
        split = self.comparison.on_test
        if split is None:
            return None
        beside = pd.DataFrame([values_beside(one) for one in split.rows])
        return pd.concat([comparison_frame(split.comparison), beside], axis=1)

    def test_html(self) -> str:
        """The test split beside the validation images as an HTML fragment; empty where it was never opened."""
        from ablate.report.html import test_html

        return test_html(self.comparison)

    @property
    def caption(self) -> str:
        """What the columns of the table mean, and how they were measured."""
        return caption(self.comparison)

    @property
    def left_out(self) -> dict[str, str]:
        """With `strict`: variant -> why it was left out."""
        return self.comparison.left_out

    @property
    def facts(self) -> dict[str, Facts]:
        """Latency protocol, data sets and realised recipe: heading -> title -> text."""
        facts = {"Latency protocol": latency_facts(self.comparison) or {"latency": "not measured"}}
        facts |= {f"Data: {data['name']}": data for data in data_facts(self.comparison)}
        return facts | {
            "Realised recipe, over all trials": recipe_facts(self.comparison.sweep.trials, self.comparison.metric)
        }

    def __repr__(self) -> str:
        return f"SweepResults({self.name!r})"

    def _ipython_key_completions_(self) -> list[str]:
        """Names after ``sweep["`` in IPython and Jupyter."""
        return [row.label for row in self.comparison.rows]

    def __len__(self) -> int:
        return len(self.comparison.rows)

    def __iter__(self) -> Iterator[VariantResults]:
        return (VariantResults(row, self.comparison) for row in self.comparison.rows)

    def __getitem__(self, name: str) -> VariantResults:
        """A variant by its label, or by the label without the optimizer where that is unambiguous.

        Raises:
            KeyError: There is none of this name, or several.
        """
        rows = self.comparison.rows
        matches = [row for row in rows if row.label == name] or [row for row in rows if _without_optimizer(row) == name]
        if len(matches) == 1:
            return VariantResults(matches[0], self.comparison)
        labels = [row.label for row in matches or rows]
        problem = "several variants" if matches else "no variant"
        raise KeyError(f"{problem} {name!r}: {nearest(str(name), labels)}valid: {', '.join(labels)}")

    def figures(self) -> Iterator[FigureResult]:
        """The figures of the report, one after the other.

        Those without anything to draw are left out, and those that fail, with a warning.
        """
        from ablate.report.figure_list import figure_list

        for entry in figure_list(self.comparison):
            try:
                drawing = entry.draw()
            except Exception as error:  # one figure must not take the others along
                warnings.warn(f"{entry.title} could not be drawn: {type(error).__name__}: {error}", stacklevel=2)
                continue
            if drawing is not None:
                counts = drawing.counts
                frame = None if counts is None else pd.DataFrame(list(counts.rows), columns=list(counts.heads))
                alt = drawing.alt or entry.title
                yield FigureResult(entry.name, entry.title, drawing.caption, drawing.figure, frame, alt)

    def table_html(self) -> str:
        """The comparison as an HTML fragment with its own style."""
        from ablate.report.html import table_html

        return table_html(self.comparison)

    def trials_html(self) -> str:
        """Which trials and MLflow runs each row comes from, as an HTML fragment."""
        from ablate.report.html import trials_html

        return trials_html(self.comparison)


class VariantResults:
    """One variant of a sweep."""

    def __init__(self, row: Row, comparison: Comparison) -> None:
        self._row = row
        self._sweep: Sweep = comparison.sweep
        self._groups = comparison.groups

    def __repr__(self) -> str:
        return f"VariantResults({self.label!r})"

    @property
    def label(self) -> str:
        """Its name."""
        return self._row.label

    @property
    def accuracy(self) -> Accuracy:
        """Means over its trials, fractions."""
        return self._row.accuracy

    @property
    def cost(self) -> Cost:
        """Parameters, FLOPs, training time, memory and energy."""
        return self._row.cost

    @property
    def latency(self) -> Latency:
        """Latency in ms."""
        return self._row.latency

    @property
    def baseline(self) -> str:
        """Name of what it is compared with; empty for a baseline."""
        return self._row.baseline

    @property
    def difference(self) -> Difference | None:
        """Variant minus baseline in the metric of the sweep; None for a baseline, and where it cannot be given."""
        return self._row.difference

    @property
    def fold_share(self) -> float | None:
        """Images validated on by images trained on, of each fold of a cross-validation; None without folds."""
        return self._row.variant.fold_share

    @property
    def is_comparable(self) -> bool:
        """Whether it was trained as its baseline was; `notes` has what differs."""
        return self._row.is_comparable

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        return self._row.notes

    @cached_property
    def predictions(self) -> dict[int | tuple[int, int], Predictions]:
        """Seed -> the stored predictions of its measured trials, as far as they kept some; with folds (seed, fold) ->.

        Over the folds of a cross-validation seed and fold are the key, such as (0, 3).

        Raises:
            FileNotFoundError: The record names a file that is not there.
            DamagedRecordError: A file cannot be read.
        """
        trials = self._row.variant.by_replicate
        paths = {
            one.seed if one.fold is None else (one.seed, one.fold): self._predictions_path(trial)
            for one, trial in trials.items()
        }
        return {place: load_predictions(path) for place, path in paths.items() if path is not None}

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch of each measured trial: seed, epoch, and whatever was recorded after it."""
        rows = [
            {"seed": replicate.seed, **({} if replicate.fold is None else {"fold": replicate.fold}), **epoch.content}
            for replicate, trial in sorted(self._row.variant.by_replicate.items())
            for epoch in trial.history
        ]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["seed", "epoch"])

    def resample_images(
        self, resamples: int = 1000, seeds: int | None = None, groups: str | Path | None = None
    ) -> ImageInterval | None:
        """The difference to the baseline with its interval over images, computed anew from stored predictions.

        Args:
            resamples: Of the images.
            seeds: How many of the shared seeds to use; all by default.
            groups: Which groups of images are drawn whole, as in `load_sweep`; None: those of the sweep.

        Returns:
            None for a baseline, and where no pair of trials kept predictions.

        Raises:
            FileNotFoundError: The record names a file that is not there.
            ValueError: A file cannot be read, or is of other images than the baseline's; the groups are of other
                images, or fewer than five; each fold was validated on other images.
        """
        baseline = self._baseline_variant()
        if baseline is None:
            return None
        pairs = []
        if any(trial.fold is not None for trial in self._row.variant.measured):
            raise NotPaired("each fold is validated on other images, so there is no interval over images")
        for trial, of_baseline in trial_pairs(self._row.variant, baseline)[:seeds]:
            paths = self._predictions_path(trial), self._predictions_path(of_baseline)
            if paths[0] is not None and paths[1] is not None:
                pairs.append((load_predictions(paths[0]), load_predictions(paths[1])))
        if not pairs:
            return None
        if groups is not None:
            check_groups(str(groups))
        sweep = self._sweep if groups is None else replace(self._sweep, groups=str(groups))
        of_images = groups_for(sweep, self._row.variant.measured[0])
        groups_of_images = fit_groups(of_images, pairs[0][0])
        return paired_bootstrap(pairs, resamples=resamples, groups=groups_of_images, metric=self._sweep.metric)

    def _baseline_variant(self) -> Variant | None:
        variant = self._row.variant
        group = next(group for group in self._groups if any(row.variant is variant for row in group.rows))
        return None if group.baseline is variant else group.baseline

    def _predictions_path(self, trial: TrialRecord) -> Path | None:
        return predictions_path(trial, self._sweep.folder.trial(trial.signature).path)


@dataclass(frozen=True)
class FigureResult:
    """A figure of the report.

    Attributes:
        name: Its file's name without ending.
        title: Its heading.
        caption: What is drawn, and what its bars cover.
        figure: As matplotlib has it.
        counts: A small table that belongs beneath, or None.
        alt: What it shows in words, for who does not see it.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    counts: pd.DataFrame | None
    alt: str = ""

    def png(self, dpi: int = 130) -> bytes:
        """The figure as a PNG file."""
        from ablate.report.figures.style import encode

        return encode(self.figure, "png", dpi=dpi)


def _without_optimizer(row: Row) -> str:
    return row.label.removesuffix(f" {row.optimizer}")
