"""Check the training arguments of a configuration without importing torch: an error of one line for each mistake."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ablate.errors import ConfigError, nearest
from ablate.settings.schema import training_arguments
from ablate.settings.training_arguments import HARMLESS, OWNED, REFUSED, SUPPORTED, Argument

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def satisfies(value: float, constraint: str) -> bool:
    """Tell whether a number satisfies a constraint such as ``">= 1"`` or ``"> 0 and <= 1"``."""
    for part in constraint.split(" and "):
        sign, bound = part.split()
        if not _COMPARE[sign](value, float(bound)):
            return False
    return True


def shown(value: Any) -> str:
    """Return a value as a command line has it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{shown(part)}' for key, part in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_kind(where: str, value: Any, annotation: str) -> None:
    """Check that a value is of the kind that its field's annotation says; what `${...}` stands for may be any.

    Raises:
        ConfigError: It is not; kinds that are not plain values are not checked.
    """
    kind = annotation.removesuffix(" | None")
    if value is None:
        if kind == annotation and kind in _KINDS:
            raise ConfigError(f"{where}=null: a value is needed")
        return
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise ConfigError(f"{where}={shown(value)}: a list is needed, in brackets")
        for part in value:
            check_kind(where, part, kind.removeprefix("list[").removesuffix("]"))
    elif kind in _KINDS and not _KINDS[kind].fits(value):
        raise ConfigError(f"{where}={shown(value)}: {_KINDS[kind].needed} is needed")


def check_train(train: Mapping[str, object]) -> None:
    """Check the group `train` of a resolved configuration.

    Raises:
        ConfigError: Its one line says what is wrong, where, and which values are valid.
    """
    defaults = training_arguments()
    for name, value in train.items():
        if name in OWNED:
            raise ConfigError(f"train.{name}: set it with {OWNED[name]}")
        if name not in defaults:
            raise ConfigError(f"train.{name}: not an Ultralytics training argument. {nearest(name, defaults)}".rstrip())
        argument = SUPPORTED.get(name) or HARMLESS.get(name)
        if value is None and argument is not None and not argument.optional:
            raise ConfigError(f"train.{name}=null: a value is needed; its default is {shown(defaults[name])}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"train.{name}={value}: a finite number is needed")
        if argument is not None:
            _check_value(f"train.{name}", value, argument)
        elif value != defaults[name] or type(value) is not type(defaults[name]):
            reason = REFUSED.get(name, "this argument of a newer Ultralytics is not known to this version of ablate")
            raise ConfigError(f"train.{name}={shown(value)}: refused: {reason}; leave it at {shown(defaults[name])}")
    fraction, batch = train.get("fraction"), train.get("batch")
    images = fraction[0] if isinstance(fraction, list) else fraction
    if isinstance(images, int) and isinstance(batch, int) and 1 < images < batch:
        raise ConfigError(
            f"train.fraction={shown(fraction)}: {images} images are fewer than a batch (train.batch={batch}); "
            "a share is at most 1"
        )
    if train.get("split") == "test" and isinstance(fraction, list) and fraction[2:] == [0]:
        raise ConfigError(
            f"train.fraction={shown(fraction)}: no image of split test is left, which train.split=test evaluates on"
        )


def check_precision(amp: object, device: str) -> None:
    """Check that a device can train in a precision.

    Raises:
        ConfigError: It cannot; Ultralytics would find that out in the first batch.
    """
    if amp == "bf16" and device == "cpu":
        raise ConfigError(
            "train.amp=bf16: Ultralytics trains in bf16 on CUDA only, and the device is cpu; valid: false"
        )


def _check_value(where: str, value: Any, argument: Argument) -> None:
    """Check one value against what its argument takes."""
    if value is None:
        return
    if argument.kind == "special":
        _SPECIAL[where](where, value)
    elif argument.kind == "flag":
        if not isinstance(value, bool):
            raise ConfigError(f"{where}={shown(value)}: true or false is needed")
    elif argument.kind == "choice":
        if not any(value == choice and type(value) is type(choice) for choice in argument.choices):
            names = [*map(shown, argument.choices), *(["null"] if argument.optional else [])]
            raise ConfigError(f"{where}={shown(value)}: {nearest(str(value), names)}valid: {', '.join(names)}")
    else:
        if argument.kind == "integer" and not _is_integer(value):
            raise ConfigError(f"{where}={shown(value)}: a whole number is needed")
        if not _is_number(value):
            raise ConfigError(f"{where}={shown(value)}: a number is needed")
        if argument.constraint and not satisfies(value, argument.constraint):
            raise ConfigError(f"{where}={value} is out of range: it must be {argument.constraint}")


def _check_fraction(where: str, value: Any) -> None:
    """A share or number of the training images, or such for two or three splits, where test may have none."""
    several = isinstance(value, list)
    parts = value if several else [value]
    shares = [_is_number(part) and (0 < part <= 1 or (part > 1 and _is_integer(part))) for part in parts]
    if several and len(parts) == 3:
        shares[2] = shares[2] or (_is_number(parts[2]) and parts[2] == 0)
    if not all(shares) or (several and len(parts) not in (2, 3)):
        raise ConfigError(
            f"{where}={shown(value)}: a share from above 0 to 1, or a number of images, is needed; "
            "or a list of these for train, val and test"
        )


def _check_scale(where: str, value: Any) -> None:
    if isinstance(value, list):
        valid = len(value) == 2 and all(map(_is_number, value)) and 0 < value[0] <= value[1]
    else:
        valid = _is_number(value) and 0 <= value <= 1
    if not valid:
        raise ConfigError(
            f"{where}={shown(value)}: a gain from 0 to 1 is needed, or the smallest and largest scale, such as "
            "[0.5,1.5]"
        )


def _check_freeze(where: str, value: Any) -> None:
    several = isinstance(value, list)
    for part in value if several else [value]:
        if not ((_is_integer(part) and part >= 0) or (several and isinstance(part, str) and part)):
            raise ConfigError(
                f"{where}={shown(value)}: a number of first layers is needed, or a list of layers, such as [0,1,23.cv2]"
            )


_SPECIAL = {"train.fraction": _check_fraction, "train.scale": _check_scale, "train.freeze": _check_freeze}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    needed: str


_KINDS = {
    "bool": _Kind(lambda value: isinstance(value, bool), "true or false"),
    "int": _Kind(_is_integer, "a whole number"),
    "float": _Kind(_is_number, "a number"),
    "str": _Kind(lambda value: isinstance(value, str), "a text"),
}
