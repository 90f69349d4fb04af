"""The factors of a trial and their levels.

A record has the first five of them always, and the others only where they are not those of the stock network: what it
lacks has the stock level. Records of before there were losses and heads lack all of those.
"""

from __future__ import annotations

from collections.abc import Mapping

FACTORS = ("module", "insertion", "optimizer", "model", "data")
STOCK = {"box_loss": "ciou", "cls_loss": "bce", "assigner": "ciou", "head": "detect"}  # level of the stock network
ALL_FACTORS = (*FACTORS, *STOCK)


def levels_of(factors: Mapping[str, str]) -> dict[str, str]:
    """Return the level of every factor, empty where it should be recorded and is not."""
    return {name: factors.get(name, STOCK.get(name, "")) for name in ALL_FACTORS}


def is_stock(factors: Mapping[str, str]) -> bool:
    """Tell whether a trial changes nothing of the stock network: no module, the stock losses and the stock head."""
    levels = levels_of(factors)
    return levels["module"] == "none" and all(levels[name] == level for name, level in STOCK.items())
