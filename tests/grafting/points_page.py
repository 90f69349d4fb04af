"""Write the table of docs/insertion-points.md: how many places each insertion point has in each network of conf/model.

PYTHONPATH=. python tests/grafting/points_page.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.insertion import GraftError, find_places
from ablate.settings.points import POINTS, REPLACE_LAYER
from ablate.settings.schema import option_file, options

PAGE = Path(__file__).parents[2] / "docs" / "insertion-points.md"
MARKS = "<!-- counted: begin -->", "<!-- counted: end -->"
COLUMNS = [name for name in POINTS if name != REPLACE_LAYER]


def table(models: Iterable[str]) -> str:
    """Return the table with one row for each network."""
    head = ["| Network | " + " | ".join(f"`{name}`" for name in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    return "\n".join([*head, *map(row, models)])


def row(model: str) -> str:
    """Build a network and return its row of the table."""
    network = DetectionModel(option_file("model", model)["architecture"], verbose=False)
    return f"| {model} | " + " | ".join(count(network, point) for point in COLUMNS) + " |"


def count(network: DetectionModel, point: str) -> str:
    """Return how many places a point has; a dash for none."""
    try:
        return str(len(find_places(network, point)))
    except GraftError:
        return "-"


def recorded(page: str) -> dict[str, str]:
    """Return the rows of the page by network."""
    lines = [line for line in page.splitlines() if line.startswith("| yolo")]
    return {line.split("|")[1].strip(): line for line in lines}


def main() -> None:
    """Count in every network, and write the table into the page."""
    counted = table(options("model"))
    page = PAGE.read_text(encoding="utf-8")
    new = f"{MARKS[0]}\n\n{counted}\n\n{MARKS[1]}"
    PAGE.write_text(re.sub(f"{MARKS[0]}.*{MARKS[1]}", lambda _: new, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
