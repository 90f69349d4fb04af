"""The files of ablate that a file of it imports, and each as what it computes: for hashes of our own code."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

from ablate.sources.python_imports import PythonModule, imports_of

PACKAGE = Path(__file__).parents[1]
_IGNORED = ("ctx", "kind", "type_comment")  # fields of a syntax tree that follow from others, or compute nothing


def imported_files(entry: str, within: Iterable[str]) -> dict[Path, ast.Module]:
    """Return the file of a module, and those that it imports, and those that they import, by path, each parsed once.

    Args:
        entry: The module's name in this package, such as ``training.trainer``.
        within: Modules and packages in it, by name: what lies outside is neither returned nor followed.
    """
    prefixes = tuple(within)
    waiting, files = [entry], dict[Path, ast.Module]()
    for name in waiting:  # it grows meanwhile
        path = _file_of(name)
        if path is None or path in files:
            continue
        files[path] = ast.parse(path.read_bytes())
        module = PythonModule(f"ablate.{name}", path, PACKAGE.parent)
        for imported in imports_of(files[path], module).names:
            top, _, rest = imported.partition(".")
            parts = rest.split(".") if top == "ablate" else []
            names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]  # its packages run as well
            waiting += [name for name in names if f"{name}.".startswith(tuple(f"{prefix}." for prefix in prefixes))]
    return dict(sorted(files.items()))


def code_digest(tree: ast.Module) -> str:
    """Return the SHA-256, hex, of what a file of ours computes: without its name, imports, docstrings and comments."""
    return hashlib.sha256(_text(tree).encode()).hexdigest()


def _file_of(name: str) -> Path | None:
    """Return the file of a module or package of ours; None where the name is that of a class or function."""
    place = PACKAGE.joinpath(*name.split("."))
    return next((path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()), None)


def _text(value: object) -> str:
    """Return a syntax tree as text; empty fields, which some versions of Python have more of, are left out."""
    if isinstance(value, ast.AST):
        fields = ((name, item) for name, item in ast.iter_fields(value) if name not in _IGNORED)
        texts = (f"{name}={_text(item)}" for name, item in fields if item is not None and item != [])
        return f"{type(value).__name__}({','.join(texts)})"
    if isinstance(value, list):
        return f"[{','.join(_text(item) for item in value if not _computes_nothing(item))}]"
    return repr(value)


def _computes_nothing(node: object) -> bool:
    """Whether a statement is an import or a text by itself, such as a docstring."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom)
