"""What a dotted path names, as far as source tells: the class or function, where it is written, and what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ablate.sources.python_imports import PythonModule, absolute_name, exported, find_module, parse

OURS = "ablate.modules"  # whose names are the classes of its files
_DEEPEST = 12  # imports followed from the named module to the definition
_PLAIN = {
    *("object", "ABC", "abc.ABC", "Generic", "typing.Generic", "Protocol", "typing.Protocol", "Enum", "enum.Enum"),
    *("NamedTuple", "typing.NamedTuple", "dict", "list", "tuple", "set", "str", "int", "float", "Exception"),
}  # fmt: skip
_MODULE = ("torch.nn.Module", "torch.nn.modules.Module", "torch.nn.modules.module.Module")


@dataclass(frozen=True)
class Definition:
    """Where a name is defined.

    Attributes:
        module: The module that holds the definition.
        tree: Its syntax tree.
        node: The class or function; None where the name is there but source does not tell what it is.
    """

    module: PythonModule
    tree: ast.Module
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | None

    @property
    def is_function(self) -> bool:
        """Whether the name is that of a function."""
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef)


def find_definition(module: PythonModule, tree: ast.Module, name: str, depth: int = 0) -> Definition | None:
    """Return what a module's name is, through re-exports and star imports; None where no such name is in sight."""
    stars: list[str] = []
    definition: Definition | None = None
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == name:
                definition = Definition(module, tree, node)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_name("." * node.level + (node.module or ""), module.package)
            for alias in node.names:
                if alias.name == "*":
                    stars.append(base)
                elif (alias.asname or alias.name) == name:
                    definition = _elsewhere(base, alias.name, depth) or Definition(module, tree, None)
        elif isinstance(node, ast.Import):
            if any((alias.asname or alias.name.partition(".")[0]) == name for alias in node.names):
                definition = Definition(module, tree, None)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and name in _assigned(node):
            definition = _assignment(module, tree, node, name, depth)
    if definition is None:
        definition = next(filter(None, (_elsewhere(base, name, depth) for base in stars)), None)
    if definition is None and module.is_package and module.name == OURS:
        definition = _class_of_ours(module, name)
    unknown = any(find_module(base) is None for base in stars) or _computes_names(tree)
    return Definition(module, tree, None) if definition is None and unknown else definition


def names_of(module: PythonModule, tree: ast.Module) -> list[str]:
    """Return the classes that a module's top level defines, or imports by name or by a star with its ``__all__``."""
    classes: dict[str, None] = {}
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef):
            classes[node.name] = None
        elif isinstance(node, ast.ImportFrom):
            names = [alias.asname or alias.name for alias in node.names]
            if "*" in names:
                home = find_module(absolute_name("." * node.level + (node.module or ""), module.package))
                names = exported(parse(home.path, home.path.read_bytes())) if home and home.is_source else []
            classes |= dict.fromkeys(name for name in names if name[:1].isupper())
    return list(classes)


@lru_cache(maxsize=32)  # a definition whose source has changed is another one
def is_network_module(definition: Definition, depth: int = 0) -> bool | None:
    """Tell whether a class is a `torch.nn.Module`; None where source does not tell."""
    node = definition.node
    if not isinstance(node, ast.ClassDef):
        return None
    if node.decorator_list or node.keywords or depth > _DEEPEST:
        return None
    answers = [_base_is_module(definition, base, depth) for base in node.bases]
    if True in answers:
        return True
    return None if None in answers else False


def constructor(definition: Definition) -> ast.FunctionDef | None:
    """Return the class's own ``__init__``; None where it has none of its own."""
    if not isinstance(definition.node, ast.ClassDef):
        return None
    inner = [item for item in definition.node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    return inner[-1] if inner else None


def inherits_only_module(definition: Definition) -> bool:
    """Tell whether a class's one base is `torch.nn.Module` itself, whose constructor takes no channels."""
    node = definition.node
    if not isinstance(node, ast.ClassDef) or len(node.bases) != 1 or node.decorator_list or node.keywords:
        return False
    return _qualified(definition, node.bases[0]) in _MODULE


def _class_of_ours(package: PythonModule, name: str) -> Definition | None:
    """Return the class of this name that a file in the folder of our modules defines."""
    for path in sorted(package.path.parent.glob("[!_]*.py")):
        content = path.read_bytes()
        if f"class {name}".encode() not in content:
            continue
        tree = parse(path, content)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Definition(PythonModule(f"{package.name}.{path.stem}", path, package.root), tree, node)
    return None


def _elsewhere(base: str, name: str, depth: int) -> Definition | None:
    """Return what a name is that a module imports from another."""
    if depth > _DEEPEST:
        return None
    module = find_module(base)
    if module is None or not module.is_source:
        return None
    return find_definition(module, parse(module.path, module.path.read_bytes()), name, depth + 1)


def _assignment(
    module: PythonModule, tree: ast.Module, node: ast.Assign | ast.AnnAssign, name: str, depth: int
) -> Definition:
    value = node.value
    if isinstance(value, ast.Name) and value.id != name and depth <= _DEEPEST:
        return find_definition(module, tree, value.id, depth + 1) or Definition(module, tree, None)
    return Definition(module, tree, None)


def _assigned(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)}


def _computes_names(tree: ast.Module) -> bool:
    """Tell whether a module may have names that its text does not show."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__" and node in tree.body:
            return True
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("globals", "setattr", "exec"):
            return True
    return False


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module's top level, inside `if`, `try`, `with` and loops too."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _statements(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


def _base_is_module(definition: Definition, base: ast.expr, depth: int) -> bool | None:
    name = _dotted(base)
    if name is None:
        return None
    qualified = _qualified(definition, base)
    if qualified in _MODULE:
        return True
    if qualified is None and "." not in name:
        local = find_definition(definition.module, definition.tree, name)
        if local is not None:
            return is_network_module(local, depth + 1)
    if (qualified or name) in _PLAIN or name in _PLAIN:
        return False
    if qualified is not None and not qualified.startswith("torch."):
        home, _, leaf = qualified.rpartition(".")
        base_class = _elsewhere(home, leaf, 0)
        return None if base_class is None else is_network_module(base_class, depth + 1)
    return None


def _qualified(definition: Definition, base: ast.expr) -> str | None:
    """Return the dotted path that a base class was imported from; None where it was not imported."""
    name = _dotted(base)
    if name is None:
        return None
    first, _, rest = name.partition(".")
    for node in _statements(definition.tree.body):
        if isinstance(node, ast.ImportFrom):
            home = absolute_name("." * node.level + (node.module or ""), definition.module.package)
            for alias in node.names:
                if (alias.asname or alias.name) == first:
                    return ".".join(filter(None, [home, alias.name, rest]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname == first:
                    return ".".join(filter(None, [alias.name, rest]))
                if alias.asname is None and alias.name.partition(".")[0] == first:
                    return name
    return None


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        home = _dotted(node.value)
        return None if home is None else f"{home}.{node.attr}"
    return None
