"""The comparison for a paper: booktabs tables of differences, accuracy and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablate.analysis.columns import components_of, rows_of
from ablate.analysis.number_format import CHECK, DETAILS, best_rows, display, named_by_marks
from ablate.records.records import Sweep
from ablate.statistics.paired import ALPHA

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",  # noqa: RUF001
    "Δ": r"$\Delta$",
    "\N{MINUS SIGN}": "$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\to$",
    "–": "--",  # noqa: RUF001
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",  # noqa: RUF001
    "’": "'",  # noqa: RUF001
    "“": "``",
    "”": "''",
    "[": "{[}",  # at the start of a row it would be taken for an argument of what ends the row before
    "]": "{]}",
    "*": "{*}",
    "\n": " ",
    CHECK: r"\checkmark{}",
}
HEADS = {
    "variant": "Variant",
    "replicates": "$n$",
    "map50_95": r"mAP$_{50\text{-}95}$",
    "map50_95_std": "std",
    "delta_map50_95": r"$\Delta$",
    "delta_ci": r"95\,\% CI, seeds",
    "images_ci": r"95\,\% CI, images",
    "p_value": "$p$",
    "p_holm": r"$p_{\mathrm{Holm}}$",
    "map50": "mAP$_{50}$",
    "map75": "mAP$_{75}$",
    "map50_95_small": r"AP$_{\mathrm{small}}$",
    "map50_95_medium": r"AP$_{\mathrm{medium}}$",
    "map50_95_large": r"AP$_{\mathrm{large}}$",
    "map50_95_last": r"mAP$_{\mathrm{last}}$",
    "precision": "P",
    "recall": "R",
    "params_m": "Params (M)",
    "params_added_m": "added (M)",
    "gflops": "GFLOPs",
    "latency_ms": "Latency (ms)",
    "latency_ci": r"95\,\% CI (ms)",
    "latency_p95_ms": "p95 (ms)",
    "latency_ratio": r"$\times$ baseline",
    "train_minutes": "Train (min)",
    "seconds_per_epoch": "Epoch (s)",
    "energy_kwh": "Energy (kWh)",
    "peak_memory_gb": "Memory (GB)",
    "comparable": "Comparable",
}
DIFFERENCES = ("replicates", "map50_95", "map50_95_std", "delta_map50_95", "delta_ci", "images_ci", "p_holm")
ACCURACY = (
    "map50", "map75", "map50_95_small", "map50_95_medium", "map50_95_large", "map50_95_last", "precision", "recall",
    "p_value", "comparable",
)  # fmt: skip
COST = (
    "params_m", "params_added_m", "gflops", "train_minutes", "seconds_per_epoch", "peak_memory_gb", "energy_kwh",
)  # fmt: skip
LATENCY = ("latency_ms", "latency_ci", "latency_p95_ms", "latency_ratio")
LATIN = 0x17F  # the last letter that LaTeX knows without further packages


def latex(sweep: Sweep, table: pd.DataFrame, accuracy_caption: str, cost_caption: str) -> str:
    """The comparison as LaTeX source that needs booktabs, amsmath and, for check marks, amssymb.

    Where check marks tell the rows apart they stand in place of the variants' names. The best
    accuracies are bold, supported differences starred, controls in italics below a rule. Notes follow
    the tables; the runs behind each row are in comments.
    """
    details = display(table, columns=DETAILS)
    shown = display(table)
    shown = pd.concat([shown, details[[name for name in details.columns if name not in shown.columns]]], axis=1)
    components = tuple(components_of(table))
    names = components if named_by_marks(table) else ("variant", *components)
    packages = "amsmath,amssymb,booktabs" if components else "amsmath,booktabs"
    page = _Page(shown, table, names, best_rows(table))
    parts = [
        f"% {_comment(sweep.name)}: comparison tables; \\usepackage{{{packages}}}",
        page.table(DIFFERENCES, escape(accuracy_caption) + _legend(table), "accuracy"),
        page.table(ACCURACY, "Further accuracies of the variants of Table~\\ref{tab:accuracy}.", "further"),
        page.table(COST, "What the variants cost, as the mean over seeds; memory is the highest peak.", "cost"),
        page.table(LATENCY, escape(cost_caption), "latency"),
        _notes(shown),
        "% where the numbers come from:",
    ]
    for row in rows_of(table):
        runs = row["mlflow_runs"] or "none"
        parts.append(f"% {_comment(row['variant'])}: signatures {row['signatures']}; MLflow runs {runs}")
    return "\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Text as LaTeX prints it literally; letters that it lacks without further packages as their code point."""
    letters = list(str(text))
    pairs = zip(letters, ["", *letters], strict=False)
    return "".join(("{}" if a == b == "-" else "") + (SPECIAL.get(a) or _letter(a)) for a, b in pairs)  # -- is a dash


def _letter(letter: str) -> str:
    if ord(letter) > LATIN or not letter.isprintable():
        return f"{{[}}U+{ord(letter):04X}{{]}}"
    return letter


def _legend(table: pd.DataFrame) -> str:
    """What marks mean, for a caption."""
    words = []
    if any(_supported(row) for row in rows_of(table)):
        words.append(rf"$^{{*}}$ $p_{{\mathrm{{Holm}}}} < {ALPHA:g}$.")
    if (table["comparable"] != "yes").any():
        words.append(r"$^{\dagger}$ Not comparable with its baseline; see the notes.")
    if (table["control"] != "").any():
        words.append("Controls, in italics, take no part in the correction.")
    return "".join(f" {text}" for text in words)


def _supported(row: dict[str, Any]) -> bool:
    return bool(row["comparable"] == "yes" and row["control"] == "" and row["p_holm"] < ALPHA)


@dataclass(frozen=True)
class _Page:
    """What all tables share: the texts, the values behind them, the columns that lead, and the best rows."""

    shown: pd.DataFrame
    values: pd.DataFrame
    leading: tuple[str, ...]
    best: dict[str, set[int]]

    def table(self, columns: tuple[str, ...], caption: str, label: str) -> str:
        """One floating table of the leading columns and of those that are known; '' where none of these is."""
        known = [name for name in columns if name in self.shown.columns and (self.shown[name] != "").any()]
        if not known:
            return ""
        names = [*self.leading, *known]
        kinds = ("l" if n in ("variant", "comparable") else "c" if n in self.leading else "r" for n in names)
        lines = [
            r"\begin{table}[t]",
            r"  \centering\footnotesize\setlength{\tabcolsep}{3.6pt}",
            rf"  \caption{{{caption}}}",
            rf"  \label{{tab:{label}}}\par\smallskip",
            rf"  \begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}",
            r"    \toprule",
            "    " + " & ".join(HEADS[name] if name in HEADS else escape(name) for name in names) + r" \\",
            r"    \midrule",
        ]
        before: dict[str, Any] | None = None
        for position, (row, values) in enumerate(zip(rows_of(self.shown), rows_of(self.values), strict=True)):
            if before is not None and values["comparison_key"] != before["comparison_key"]:
                lines.append(r"    \midrule")
            elif before is not None and values["control"] and not before["control"]:
                lines.append(rf"    \cmidrule{{1-{len(names)}}}")
            before = values
            cells = [self._cell(name, row[name], values, position) for name in names]
            lines.append("    " + " & ".join(cells) + r" \\")
        lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
        return "\n".join(lines)

    def _cell(self, name: str, text: str, values: dict[str, Any], position: int) -> str:
        """A cell; numbers get a real minus sign, differences a mark for what supports or forbids them."""
        if name not in HEADS or name in ("variant", "comparable"):
            return rf"\textit{{{escape(text)}}}" if name == "variant" and values["control"] else escape(text)
        if not text:
            return ""
        if name == "delta_map50_95":
            mark = "^{*}" if _supported(values) else r"^{\dagger}" if values["comparable"] != "yes" else ""
            return f"${text}{mark}$"
        if name in ("delta_ci", "images_ci", "latency_ci") or text[0] in "+-":
            return f"${text}$"
        if "e" in text:
            mantissa, _, exponent = text.partition("e")
            return rf"${mantissa}\times10^{{{int(exponent)}}}$"
        return rf"\textbf{{{text}}}" if position in self.best.get(name, ()) else text


def _notes(shown: pd.DataFrame) -> str:
    """Notes after the tables, one sentence per row that has any."""
    notes = [rf"  {escape(row['variant'])}: {escape(row['notes'])}.\par" for row in rows_of(shown) if row["notes"]]
    return "\n".join([r"{\scriptsize\raggedright\noindent", *notes, "}"]) if notes else ""


def _comment(text: object) -> str:
    return " ".join(str(text).split())  # whatever ends a line would end the comment
