"""What was declared of a sweep only when results were there: said above its findings and beneath every table."""

from __future__ import annotations

from dataclasses import replace

from ablate.analysis.phrases import count, joined
from ablate.records.sweep_record import NO_MARGIN, LateDeclaration, Sweep


def late_declarations(sweep: Sweep) -> list[str]:
    """What a command declared after results that it is about, with the date; nothing of what a report was given.

    A word that the report replaces by another one is left out.
    """
    return [text for declaration in sweep.manifest.late if (text := _declared(declaration, sweep))]


def chosen_for_report(sweep: Sweep) -> str:
    """What a report was given in place of what the command declared; empty where nothing was."""
    metric, judge, margin, _ = sweep.manifest.analysis.words
    chosen = {
        metric: sweep.metric_chosen_after and f"metric={sweep.metric_chosen_after}",
        judge: sweep.judge_chosen_after and f"judge={sweep.judge_chosen_after}",
        margin: sweep.margin_chosen_after and f"delta={sweep.margin_chosen_after:g}",
    }
    new = [word for word in chosen.values() if word]
    if not new:
        return ""
    before = joined([word for word, other in chosen.items() if other])
    return f"{joined(new)} {_were(new)} chosen for this report, after the results; the command declared {before}."


def margin_remarks(sweep: Sweep) -> list[str]:
    """That a report was given its margin; nothing where it was not. Metric and judge have remarks of their own."""
    return [chosen_for_report(replace(sweep, judge="", metric_chosen_after=None))] if sweep.margin_chosen_after else []


def beneath_tables(sweep: Sweep) -> list[str]:
    """Both in words: what a table says of choices that were made after its results."""
    return [*late_declarations(sweep), *filter(None, [chosen_for_report(sweep)])]


def is_margin_late(sweep: Sweep) -> bool:
    """Tell whether the margin of equivalence was declared or chosen after the results."""
    margin = sweep.plan.words[2]
    return margin != NO_MARGIN and (sweep.margin_chosen_after is not None or margin in sweep.manifest.late_words)


def _declared(declaration: LateDeclaration, sweep: Sweep) -> str:
    words = [word for word in declaration.words if word in (*sweep.plan.words, f"judge={sweep.judge}")]
    if sweep.judge_chosen_after:
        words = [word for word in words if not word.startswith("judge=")]
    if not words:
        return ""
    text = (
        f"{joined(words)} {_were(words)} declared on {declaration.date[:10]}, after the results of "
        f"{count(declaration.trials, 'trial')} of variants: what depends on {'it' if len(words) == 1 else 'them'} is "
        "exploratory"
    )
    if any(word.startswith("until=") for word in words):
        text += ", and the 5 % of false claims of all looks hold only if these results did not lead to it"
    return f"{text}."


def _were(words: list[str]) -> str:
    return "was" if len(words) == 1 else "were"
