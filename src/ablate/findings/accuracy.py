"""What the differences to the baseline support and what they do not, comparison group by comparison group, in words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ablate.analysis.columns import baselines, components_of, rows_of
from ablate.analysis.number_format import cell, points
from ablate.analysis.phrases import count, gain, interval, limited, names, span
from ablate.analysis.table import TO_FIND
from ablate.statistics.paired import ALPHA, seeds_needed, smallest_detectable

MOST_REASONS = 6  # for which variants were left out
MOST_NAMED = 4  # variants whose interval is said
MOST_IMAGES = 3  # variants whose interval over images is said; the others are in the table


def group_findings(group: pd.DataFrame, tests: int) -> list[str]:
    """The findings within one comparison group, most important first.

    Args:
        group: Its part of the comparison table.
        tests: How many tests the whole table makes: what `p_holm` is corrected for.
    """
    asked = group[group["control"] == ""]
    compared = asked[asked["delta_map50_95"].notna()]
    if compared.empty:
        trained = asked[asked["map50_95"].notna()]
        if group["map50_95"].isna().all():
            return [f"No number at all for {names(group['variant'])}."]
        if len(trained) and not baselines(group).any():
            what = "none of the components" if components_of(group) else "module=none"
            return [f"No baseline ({what}) for {names(trained['variant'])}: no difference can be given."]
        return []
    label = compared["baseline"].iloc[0]
    fair = compared[compared["comparable"] == "yes"]
    tested, untested = fair[fair["p_holm"].notna()], fair[fair["p_holm"].isna()]
    said = [*(_tested(tested, tests) if len(tested) else []), *([_untested(untested)] if len(untested) else [])]
    known = _known(group[group["variant"] == label])
    return [f"Against {label} {'' if index else known}{text}" for index, text in enumerate(said)]


def image_findings(table: pd.DataFrame) -> list[str]:
    """What the validation images leave open, for the largest differences."""
    known = table[(table["comparable"] == "yes") & table["images_ci_low"].notna()]
    if known.empty:
        return []
    largest = known.loc[known["delta_map50_95"].abs().sort_values(ascending=False).index]
    listed = [
        f"{row['variant']} {points(row['images_ci_low'])} to {points(row['images_ci_high'])}"
        for row in rows_of(largest[:MOST_IMAGES])
    ]
    more = f" ({len(known) - MOST_IMAGES} more in the table)" if len(known) > MOST_IMAGES else ""
    single = all(len(seeds.split()) == 1 for seeds in known["shared_seeds"])
    lead = f"Over other images of the same kind, 95% intervals in points: {', '.join(listed)}{more}."
    if single:
        return [f"{lead} With one seed, this covers which validation images were drawn, not the luck of training."]
    return [
        f"{lead} They cover which validation images were drawn; the intervals over seeds cover the luck of training. "
        "Neither contains the other."
    ]


def _known(base: pd.DataFrame) -> str:
    """What is known of the baseline, in brackets; nothing where it is not in the table."""
    if base.empty:
        return ""
    row = base.iloc[0]
    return f"(mAP50-95 {cell('map50_95', row['map50_95'])}, {count(int(row['replicates']), 'seed')}) "


def _tested(rows: pd.DataFrame, tests: int) -> list[str]:
    """Words for differences with an interval; each continues 'Against <baseline> ...'."""
    real = rows["p_holm"] < ALPHA
    apart = (rows["delta_ci_low"] > 0) | (rows["delta_ci_high"] < 0)
    better, worse = rows[real & (rows["delta_map50_95"] > 0)], rows[real & (rows["delta_map50_95"] < 0)]
    hinted, unclear = rows[~real & apart], rows[~real & ~apart]
    said = []
    if len(better):
        said.append(f"a higher accuracy is supported for {_with_interval(better)}.")
    if len(worse):
        said.append(f"a lower accuracy is supported for {_with_interval(worse)}.")
    if len(hinted):
        said.append(
            f"a difference is suggested, but not supported once corrected for all rows: {_with_interval(hinted)}."
        )
    if len(unclear):
        said.append(f"no difference was detected for {names(unclear['variant'], 6)}{_unseen(unclear, tests)}")
    return said


def _unseen(rows: pd.DataFrame, tests: int) -> str:
    """How large a difference may be there all the same, and how many seeds would show a small one.

    By the test that `p_holm` makes, at its strictest step; the columns of the table are of a single test.
    """
    level = 1 - ALPHA / max(1, tests)
    known = rows[rows["smallest_detectable"].notna()]
    seeds = [len(found.split()) for found in known["shared_seeds"]]
    spreads = [_spread(size, n) for size, n in zip(known["smallest_detectable"], seeds, strict=True)]
    sizes = [smallest_detectable(std, n, level) for std, n in zip(spreads, seeds, strict=True)]
    if not sizes or None in sizes:
        return "."
    least = span(points(size, signed=False) for size in sorted(size for size in sizes if size is not None))
    with_seeds = f"{span(str(n) for n in sorted(seeds))} seeds"
    how = "80% power" if tests < 2 else f"80% power, corrected for {tests} tests"
    said = f"; with {with_seeds}, differences under {least} points cannot be detected reliably ({how})."
    needed = [n for n in (seeds_needed(std, TO_FIND, level) for std in spreads) if n is not None]
    if len(needed) == len(spreads):
        said += f" Seeds needed to detect 0.5 points at the spread seen: {span(str(n) for n in sorted(needed))}."
    return said


def _spread(detectable: float, seeds: int) -> float | None:
    """Standard deviation of the paired differences for which this is the smallest detectable difference."""
    of_one = smallest_detectable(1.0, seeds)
    return None if of_one is None else detectable / of_one


def _untested(rows: pd.DataFrame) -> str:
    """Words for differences without an interval over seeds."""
    ordered = rows_of(rows.sort_values("delta_map50_95", ascending=False))
    seen = [f"{row['variant']} {gain(row)}" for row in (ordered if len(ordered) < 3 else [ordered[0], ordered[-1]])]
    these = "These differences rest" if len(rows) > 1 else "This difference rests"
    if any(len(row["shared_seeds"].split()) > 1 for row in ordered):
        ground = f"{these} on too few seeds, or on seeds that do not differ at all"
    else:
        ground = f"{these} on one seed"
    return (
        f"we measured {' down to '.join(seen)}. {ground}: no interval over seeds can be given, and an effect cannot "
        "be told from the luck of training. Replicates (seed=range(0,3)) would tell."
    )


def _with_interval(rows: pd.DataFrame) -> str:
    """Names with difference, interval and corrected p-value."""
    return names((_one_with_interval(row) for row in rows_of(rows)), MOST_NAMED)


def _one_with_interval(row: dict[str, Any]) -> str:
    bounds = interval(row["delta_ci_low"], row["delta_ci_high"])
    return f"{row['variant']} ({gain(row)}, {bounds}, corrected p {cell('p_holm', row['p_holm'])})"


def unfair_findings(table: pd.DataFrame, left_out: dict[str, str]) -> list[str]:
    """Which differences may have other causes than the variant, and what was left out for it."""
    said = []
    unfair = table[(table["comparable"] == "no") & table["delta_map50_95"].notna() & (table["control"] != "identity")]
    if len(unfair):
        measured = names(f"{row['variant']} ({gain(row)})" for row in rows_of(unfair))
        these = "These differences" if len(unfair) > 1 else "This difference"
        said.append(
            f"Not trained as the baseline was: {measured}. {these} may have other causes than the variant; the notes "
            "name them."
        )
    if left_out:
        said.append(f"Left out, for strict=true ({count(len(left_out), 'variant')}): {_reasons(left_out)}.")
    return said


def _reasons(left_out: dict[str, str]) -> str:
    """Variants with their reasons; those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for variant, reason in left_out.items():
        by_reason.setdefault(reason or "no reason is known", []).append(variant)
    told = [f"{names(found, 4)} ({reason})" for reason, found in by_reason.items()]
    return limited(told, MOST_REASONS, "reasons")
