"""Options of a class as the annotations of its constructor describe them, and the check of their values.

The annotations say the types (`bool`, `int`), the choices (`Literal["a", "b"]`) and the ranges
(`Annotated[int, ">= 1"]`); they are read from the source, so a user's own class is checked without an import of it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from ablate.errors import ConfigError, nearest
from ablate.settings.argument_checks import satisfies, shown


@dataclass(frozen=True)
class Option:
    """An option of a class, as the annotations of its constructor describe it."""

    kind: str | None = None  # "int", "float", "bool", "str" or None: not checked
    choices: tuple[object, ...] = ()
    constraint: str | None = None


def check_option(where: str, value: Any, option: Option) -> None:
    """Check the value of an option; `where` leads the message.

    Raises:
        ConfigError: It is of another kind, none of the choices, or out of range.
    """
    if option.choices and not any(value == choice and type(value) is type(choice) for choice in option.choices):
        names = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in option.choices]
        raise ConfigError(f"{where}={shown(value)}: {nearest(str(value), names)}valid: {', '.join(names)}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if option.kind == "bool" and not isinstance(value, bool):
        raise ConfigError(f"{where}={shown(value)}: true or false is needed")
    if option.kind == "int" and not (number and isinstance(value, int)):
        raise ConfigError(f"{where}={shown(value)}: a whole number is needed")
    if option.kind == "float" and not number:
        raise ConfigError(f"{where}={shown(value)}: a number is needed")
    if option.constraint and number and not satisfies(value, option.constraint):
        raise ConfigError(f"{where}={shown(value)} is out of range: it must be {option.constraint}")


def option_of(annotation: ast.expr | None) -> Option:
    """Return the option that an annotation in the source describes."""
    if isinstance(annotation, ast.BinOp):  # bool | Literal["auto"]
        parts = [option_of(annotation.left), option_of(annotation.right)]
        choices = [(True, False) if part.kind == "bool" else part.choices for part in parts]
        return Option(choices=choices[0] + choices[1]) if all(choices) else Option()
    if isinstance(annotation, ast.Name) and annotation.id in ("int", "float", "bool", "str"):
        return Option(kind=annotation.id)
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if annotation.value.id == "Literal":
            return Option(choices=tuple(item.value for item in inner if isinstance(item, ast.Constant)))
        if annotation.value.id == "Annotated" and len(inner) == 2 and isinstance(inner[1], ast.Constant):
            base = inner[0].id if isinstance(inner[0], ast.Name) else None
            return Option(kind=base, constraint=str(inner[1].value))
    return Option()
