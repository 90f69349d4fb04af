"""The table of losses in docs/losses.md, from the files in conf/loss: `python tests/losses/table.py` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from ablate.settings.losses import LossSpec, loss_names
from ablate.settings.schema import conf_dir, option_file

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"
BEGIN, END = "<!-- table: python tests/losses/table.py -->", "<!-- end of table -->"
HEAD = ["| loss | of | as assigner | options and defaults | paper |", "|---|---|---|---|---|"]


def table() -> str:
    """Return a row for each loss."""
    return "\n".join([*HEAD, *(_row(part, name) for part in ("box", "cls") for name in loss_names(part))])


def _row(part: str, name: str) -> str:
    file, loss = option_file(f"loss/{part}", name), LossSpec.from_text(name, part)
    of = {} if loss.of is None else {"of": loss.of.text}
    options = ", ".join(f"`{key}={value}`" for key, value in {**of, **loss.options}.items())
    title = name if name == "identity" else f"[{name}](losses/{name}.md)"
    assigner = "yes" if part == "box" and name in loss_names("assigner") else ""
    paper = re.sub(r"arXiv:(\d+\.\d+)", r"[\1](https://arxiv.org/abs/\1)", file["about"]["paper"])
    return f"| {title} | {part} | {assigner} | {options} | {paper} |"


def with_table(page: str) -> str:
    """Return the page with a table as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    assert conf_dir() == PAGE.parents[1] / "conf", "of this checkout"
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
