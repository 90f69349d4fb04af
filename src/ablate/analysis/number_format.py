"""Differences in points and recorded values as text; columns of the comparison format themselves (`columns`)."""

from __future__ import annotations


def points(difference: float, *, signed: bool = True) -> str:
    """A difference of accuracies, a fraction, in points of mAP: 0.0180 is +1.80 points."""
    text = f"{100 * difference:{'+' if signed else ''}.2f}"
    return text.lstrip("+-") if float(text) == 0 else text


def plain_text(value: object) -> str:
    """A recorded value as a reader sees it."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
