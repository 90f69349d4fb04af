"""The comparison for a paper: two booktabs tables, accuracy and cost."""

from __future__ import annotations

import pandas as pd

from ablate.comparing.formatting import CHECK, best_rows, display, named_by_marks
from ablate.comparing.table import components_of, rows_of
from ablate.tracking.records import Sweep

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
    "\n": " ",
    CHECK: r"\checkmark{}",
}
HEADS = {
    "variant": "Variant",
    "replicates": "$n$",
    "map50_95": r"mAP$_{50\text{-}95}$",
    "map50_95_std": "std",
    "delta_map50_95": r"$\Delta$",
    "delta_ci": r"95\,\% CI of $\Delta$",
    "p_value": "$p$",
    "p_holm": r"$p_{\mathrm{Holm}}$",
    "map50": "mAP$_{50}$",
    "precision": "P",
    "recall": "R",
    "params_m": "Params (M)",
    "gflops": "GFLOPs",
    "latency_ms": "Latency (ms)",
    "latency_p95_ms": "p95 (ms)",
    "latency_ratio": r"$\times$ baseline",
    "train_minutes": "Train (min)",
    "peak_memory_gb": "Memory (GB)",
    "comparable": "Comparable",
}
ACCURACY = (
    "replicates",
    "map50_95",
    "map50_95_std",
    "delta_map50_95",
    "delta_ci",
    "p_value",
    "p_holm",
    "map50",
    "precision",
    "recall",
    "comparable",
)
COST = (
    "params_m",
    "gflops",
    "latency_ms",
    "latency_p95_ms",
    "latency_ratio",
    "train_minutes",
    "peak_memory_gb",
)


def latex(sweep: Sweep, table: pd.DataFrame, accuracy_caption: str, cost_caption: str) -> str:
    """The comparison as LaTeX source that needs booktabs, amsmath and, for check marks, amssymb.

    Where check marks tell the rows apart they stand in place of the variants' names. The best
    accuracies are bold. Notes stand below the first table; the runs behind each row are in comments.
    """
    shown = display(table)
    best = best_rows(table)
    groups = list(table["comparison_key"])
    components = tuple(components_of(table))
    names = components if named_by_marks(table) else ("variant", *components)
    packages = "amsmath,amssymb,booktabs" if components else "amsmath,booktabs"
    parts = [
        f"% {_comment(sweep.name)}: comparison tables; \\usepackage{{{packages}}}",
        _table(shown, names, ACCURACY, groups, best, accuracy_caption, "accuracy", _notes(shown)),
        _table(shown, names, COST, groups, best, cost_caption, "cost", ""),
        "% where the numbers come from:",
    ]
    for row in rows_of(table):
        runs = row["mlflow_runs"] or "none"
        parts.append(f"% {_comment(row['variant'])}: signatures {row['signatures']}; MLflow runs {runs}")
    return "\n".join(parts) + "\n"


def escape(text: object) -> str:
    """Text as LaTeX prints it literally."""
    return "".join(SPECIAL.get(letter, letter) for letter in str(text))


def _table(
    shown: pd.DataFrame,
    leading: tuple[str, ...],
    columns: tuple[str, ...],
    groups: list[str],
    best: dict[str, set[int]],
    caption: str,
    label: str,
    notes: str,
) -> str:
    """One floating table with the columns that lead (the variant's name, its check marks) and those `shown` has."""
    names = [*leading, *(name for name in columns if name in shown.columns)]
    alignment = "".join("l" if name in ("variant", "comparable") else "c" if name in leading else "r" for name in names)
    lines = [
        r"\begin{table}[t]",
        r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{escape(caption)}}}",
        rf"  \label{{tab:{label}}}\par\smallskip",
        rf"  \begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"    \toprule",
        "    " + " & ".join(HEADS[name] if name in HEADS else escape(name) for name in names) + r" \\",
        r"    \midrule",
    ]
    for position, row in enumerate(rows_of(shown)):
        if position and groups[position] != groups[position - 1]:
            lines.append(r"    \midrule")
        cells = [_cell(name, row[name], bold=position in best.get(name, ())) for name in names]
        lines.append("    " + " & ".join(cells) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if notes:
        lines.append(notes)
    return "\n".join([*lines, r"\end{table}"])


def _notes(shown: pd.DataFrame) -> str:
    """Notes below a table, one sentence per row that has any."""
    notes = [rf"    {escape(row['variant'])}: {escape(row['notes'])}.\par" for row in rows_of(shown) if row["notes"]]
    if not notes:
        return ""
    return "\n".join(
        [r"  \par\smallskip\begin{minipage}{\linewidth}\scriptsize\raggedright", *notes, r"  \end{minipage}"]
    )


def _cell(name: str, text: str, *, bold: bool) -> str:
    """A cell; numbers get a real minus sign."""
    if name not in HEADS or name in ("variant", "comparable"):
        return escape(text)
    if not text:
        return ""
    if name == "delta_ci":
        return f"${text}$"
    if text[0] in "+-":
        return f"${text}$"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    return rf"\textbf{{{text}}}" if bold else text


def _comment(text: object) -> str:
    return str(text).replace("\n", " ")
