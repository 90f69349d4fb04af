"""Check what goes to which insertion point: kinds that fit, plain wiring, and no two replacements of one place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from ablate.errors import ConfigError
from ablate.settings.graft import GraftSpec
from ablate.settings.points import HEAD_POINT, Point, point_of, points_for


def check_kind(graft: GraftSpec) -> None:
    """Check a graft by itself.

    Raises:
        ConfigError: Its module cannot be what its point takes, or is not wired plainly where it replaces a layer.
    """
    point, kinds = point_of(graft.insertion.name), graft.module.kinds
    if point is None:
        return
    if not point.takes(kinds):
        raise ConfigError(
            f"{graft.text}: {graft.module.title} is of kind {' or '.join(kinds or ())}, and {point.name} takes kind "
            f"{point.kind}; {graft.module.title} fits {', '.join(points_for(kinds or ()))}"
        )
    if point.replaces and graft.insertion.wiring != "plain":
        raise ConfigError(
            f"{graft.text}: wiring={graft.insertion.wiring}: only a module that is inserted can be wired so; at "
            f"{point.name} it replaces a layer: wiring=plain"
        )


def check_points(grafts: Sequence[GraftSpec]) -> None:
    """Check the grafts of one network beside each other.

    Raises:
        ConfigError: Two of them need one place.
    """
    for one, other in combinations(grafts, 2):
        _check_pair(one, other)


def _check_pair(one: GraftSpec, other: GraftSpec) -> None:
    first, second = point_of(one.insertion.name), point_of(other.insertion.name)
    if first is None or second is None or not (first.replaces or second.replaces):
        return
    pair = f"{one.text} and {other.text}"
    if first.name == second.name == HEAD_POINT:
        raise ConfigError(f"{pair}: a network has one head")
    if first.replaces and second.replaces:
        if first == second and not _apart(one, other):
            raise ConfigError(f"{pair}: both replace the same layers; a layer is replaced once")
        for inner, outer in ((first, second), (second, first)):
            if outer.name in inner.inside:
                raise ConfigError(f"{pair}: {outer.name} replaces the layers of {inner.name} as well; choose one")
        return
    inserted, replaced = (second, first) if first.replaces else (first, second)
    if replaced.name in inserted.inside:
        raise ConfigError(
            f"{pair}: the places of {inserted.name} are inside of the layers that {replaced.name} replaces; "
            f"insert at a point {_outside(replaced)}"
        )


def _apart(one: GraftSpec, other: GraftSpec) -> bool:
    """Tell whether two grafts replace layers by index that are all different."""
    layers = one.insertion.at, other.insertion.at
    return None not in layers and not set(layers[0] or ()) & set(layers[1] or ())


def _outside(replaced: Point) -> str:
    return f"after whole layers, such as neck_p4, or replace another place than {replaced.name}"
