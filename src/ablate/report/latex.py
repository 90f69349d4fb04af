"""The comparison for a paper: booktabs tables of differences, accuracy and cost."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.analysis.columns import BY_NAME, OTHERS, Place, columns_in
from ablate.analysis.comparison import Comparison
from ablate.analysis.split_comparison import TestSplit
from ablate.analysis.variant_row import Row
from ablate.report.captions import also_required
from ablate.report.split_table import openings_text, split_caption, split_columns
from ablate.report.text_table import CHECK, TableColumn, best_rows, mark_columns, text_column
from ablate.safe_text import one_line
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
    OTHERS: r"$^{\ddagger}$",
}
FURTHER_CAPTION = r"Further accuracies and tests of the variants of Table~\ref{tab:accuracy}."
COST_CAPTION = "Cost of the variants: training time and energy are means over <over>, memory is the highest peak."
LATIN = 0x17F  # the last letter that LaTeX knows without further packages


def latex(comparison: Comparison, accuracy_caption: str, cost_caption: str) -> str:
    """The comparison as LaTeX source that needs booktabs, amsmath and, for check marks, amssymb.

    Where check marks tell the rows apart they stand in place of the variants' names. The best
    accuracies are bold, supported differences starred, controls in italics below a rule. Notes follow
    the tables; the runs behind each row are in comments.
    """
    packages = "amsmath,amssymb,booktabs" if comparison.components else "amsmath,booktabs"
    names = [] if comparison.is_named_by_marks else [text_column(comparison, BY_NAME["variant"])]
    tables = _Tables(comparison, [*names, *mark_columns(comparison)], best_rows(comparison))
    parts = [
        f"% {_comment(comparison.sweep.name)}: comparison tables; \\usepackage{{{packages}}}",
        tables.table("latex_differences", escape(accuracy_caption) + _legend(comparison), "accuracy"),
        tables.table("latex_accuracy", FURTHER_CAPTION, "further"),
        tables.table("latex_cost", COST_CAPTION.replace("<over>", comparison.averaged_over), "cost"),
        tables.table("latex_latency", escape(cost_caption), "latency"),
        *([_of_test_split(comparison.on_test)] if comparison.on_test else []),
        _notes(comparison),
        "% trials behind the numbers:",
    ]
    for row in comparison.rows:
        runs = " ".join(row.run_ids) or "none"
        signatures = BY_NAME["signatures"].text(row)
        parts.append(f"% {_comment(f'{row.label}: signatures {signatures}; MLflow runs {runs}')}")
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


def _legend(comparison: Comparison) -> str:
    """What marks mean, for a caption."""
    words = []
    if any(row.supported for row in comparison.rows):
        words.append(rf"$^{{*}}$ Significant: $p_{{\mathrm{{Holm}}}} < {ALPHA:g}${also_required(comparison)}.")
    if not all(row.is_comparable for row in comparison.rows):
        words.append(r"$^{\dagger}$ Not comparable with its baseline; see the notes.")
    if any(row.is_control for row in comparison.rows):
        words.append("Controls are in italics.")
    return "".join(f" {text}" for text in words)


@dataclass(frozen=True)
class _Tables:
    """What all tables share: the comparison, the columns that lead, and the best rows."""

    comparison: Comparison
    leading: list[TableColumn]
    best: dict[str, set[int]]

    def table(self, place: Place, caption: str, label: str) -> str:
        """One floating table of the leading columns and of those with any text; '' where none has."""
        texts = [text_column(self.comparison, column) for column in columns_in(place, self.comparison.metric)]
        filled = [text for text in texts if any(text.cells)]
        if not filled:
            return ""
        columns = [*self.leading, *filled]
        alignments = ("l" if c.kind == "text" else "c" if c.kind == "mark" else "r" for c in columns)
        lines = [
            r"\begin{table}[t]",
            r"  \centering\footnotesize\setlength{\tabcolsep}{3.6pt}",
            rf"  \caption{{{caption}}}",
            rf"  \label{{tab:{label}}}\par\smallskip",
            rf"  \begin{{tabular}}{{@{{}}{''.join(alignments)}@{{}}}}",
            r"    \toprule",
            "    " + " & ".join(_head(column) for column in columns) + r" \\",
            r"    \midrule",
        ]
        position = 0
        for number, group in enumerate(self.comparison.groups):
            lines += [r"    \midrule"] if number else []
            for index, row in enumerate(group.rows):
                if index and row.is_control and not group.rows[index - 1].is_control:
                    lines.append(rf"    \cmidrule{{1-{len(columns)}}}")
                cells = [self._cell(column, row, position) for column in columns]
                lines.append("    " + " & ".join(cells) + r" \\")
                position += 1
        lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
        return "\n".join(lines)

    def _cell(self, column: TableColumn, row: Row, position: int) -> str:
        """A cell; numbers get a real minus sign, differences a mark for what supports or forbids them."""
        text = column.cells[position]
        if column.kind != "number":
            return rf"\textit{{{escape(text)}}}" if column.name == "variant" and row.is_control else escape(text)
        if not text:
            return ""
        if column.column is not None and column.column.role == "difference":
            mark = "^{*}" if row.supported else r"^{\dagger}" if not row.is_comparable else ""
            return f"${text}{mark}$"
        if text[0] in "+-[":
            return f"${text}$"
        if "e" in text:
            mantissa, _, exponent = text.partition("e")
            return rf"${mantissa}\times10^{{{int(exponent)}}}$"
        text = text.replace(OTHERS, SPECIAL[OTHERS])
        return rf"\textbf{{{text}}}" if position in self.best.get(column.name, ()) else text


def _of_test_split(split: TestSplit) -> str:
    """The table of the variants on the test split."""
    columns = split_columns(split)
    rows = zip(*([_text(column, cell) for cell in column.cells] for column in columns), strict=True)
    alignments = "".join("l" if column.kind == "text" else "r" for column in columns)
    lines = [
        r"\begin{table}[t]",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3.6pt}",
        rf"  \caption{{{escape(' '.join([split_caption(split), *openings_text(split)]))}}}",
        r"  \label{tab:test}\par\smallskip",
        rf"  \begin{{tabular}}{{@{{}}{alignments}@{{}}}}",
        r"    \toprule",
        "    " + " & ".join(escape(column.title) for column in columns) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(cells) + r" \\" for cells in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _text(column: TableColumn, cell: str) -> str:
    """A cell of text, or a number with a real minus sign."""
    return f"${cell}$" if column.kind == "number" and cell.startswith(("+", "-", "[")) else escape(cell)


def _head(column: TableColumn) -> str:
    return (column.column.latex if column.column else "") or escape(column.title)


def _notes(comparison: Comparison) -> str:
    """Notes after the tables, one sentence per row that has any."""
    notes = [rf"  {escape(row.label)}: {escape('; '.join(row.notes))}.\par" for row in comparison.rows if row.notes]
    return "\n".join([r"{\scriptsize\raggedright\noindent", *notes, "}"]) if notes else ""


def _comment(text: object) -> str:
    return " ".join(one_line(str(text)).split())  # whatever ends a line would end the comment
