"""What a dotted path names, as far as source tells: the class or function, where it is written, and what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ablate.sources.parameters import Parameters, from_source
from ablate.sources.python_imports import PythonModule, absolute_name, exported, find_module, parse

OURS = "ablate.modules"  # whose names are the classes of its files
LOSSES = "ablate.losses"
_DEEPEST = 12  # imports followed from the named module to the definition
_PLAIN = {
    *("object", "ABC", "abc.ABC", "Generic", "typing.Generic", "Protocol", "typing.Protocol", "Enum", "enum.Enum"),
    *("NamedTuple", "typing.NamedTuple", "dict", "list", "tuple", "set", "str", "int", "float", "Exception"),
}  # fmt: skip
_WRITERS = ("globals", "locals", "vars", "setattr", "exec", "eval")  # calls that may make names
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


def find_definition(module: PythonModule, tree: ast.Module, name: str, depth: int = 0) -> Definition | None:
    """Return what a module's name is, through re-exports and star imports; None where no such name is in sight.

    Where source does not tell which of several definitions holds (`if`, `try`), none of them is returned as the node.
    """
    name, _, attribute = name.partition(".")
    stars: list[str] = []
    candidates: list[Definition] = []
    for node, certain in _statements(tree.body):
        definition: Definition | None = None
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
        if definition is not None:
            candidates = [*([] if certain else candidates), definition]
    if not candidates:
        candidates = [found for base in stars if (found := _elsewhere(base, name, depth))][:1]
    if not candidates and module.is_package and module.name == OURS:
        candidates = [found for found in [_class_of_ours(module, name)] if found]
    if not candidates and (any(find_module(base) is None for base in stars) or _may_have(tree, name)):
        return Definition(module, tree, None)
    if not candidates:
        return None
    last = candidates[-1]
    return _inner(last, attribute) if len(candidates) == 1 else Definition(last.module, last.tree, None)


def names_of(module: PythonModule, tree: ast.Module) -> list[str]:
    """Return the classes that a module's top level defines, or imports by name or by a star with its ``__all__``."""
    classes: dict[str, None] = {}
    for node, _ in _statements(tree.body):
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
    if node.decorator_list or node.keywords or depth > _DEEPEST or _has_new(node):
        return None
    answers = [_base_is_module(definition, base, depth) for base in node.bases]
    if True in answers:
        return True
    return None if None in answers else False


def constructor(definition: Definition) -> Parameters | None:
    """Return what a class or function takes, as its source shows; None where source does not tell.

    Source does not tell where a decorator, a metaclass or a `__new__` may take other arguments, nor of a class that
    inherits its constructor.
    """
    node = definition.node
    if node is None or node.decorator_list:
        return None
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return from_source(node.args, bound=False)
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    inits = [item for item in methods if item.name == "__init__"]
    if not inits or inits[-1].decorator_list or _is_odd(definition):
        return None
    return from_source(inits[-1].args, bound=True)


@lru_cache(maxsize=32)
def _is_odd(definition: Definition, depth: int = 0) -> bool:
    """Tell whether a class, or a base of it whose source is at hand, has a metaclass or a `__new__`."""
    node = definition.node
    if not isinstance(node, ast.ClassDef) or depth > _DEEPEST:
        return False
    if node.keywords or _has_new(node):
        return True
    bases = [_base_class(definition, base) for base in node.bases]
    return any(_is_odd(base, depth + 1) for base in bases if base is not None)


def _has_new(node: ast.ClassDef) -> bool:
    return any(isinstance(item, ast.FunctionDef) and item.name == "__new__" for item in node.body)


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


def _may_have(tree: ast.Module, name: str) -> bool:
    """Tell whether a module may have a name that its text does not define: computed, lazy, bound by a loop."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in (name, "__getattr__"):
            return True
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__" and node in tree.body:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == "__getattr__":
            return True
        if isinstance(node, ast.Global) and name in node.names:
            return True
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in _WRITERS:
            return True
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.modules":
            return True
    return False


def _inner(definition: Definition, attribute: str) -> Definition:
    """Return what an attribute of a class is: a class in it, or something that source does not tell."""
    for name in filter(None, attribute.split(".")):
        body = definition.node.body if isinstance(definition.node, ast.ClassDef) else []
        classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
        definition = Definition(definition.module, definition.tree, classes[-1] if classes else None)
    return definition


def _statements(body: list[ast.stmt], certain: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield the statements of a module's top level, and whether each is sure to run: not in an `if`, `try` or loop."""
    for node in body:
        yield node, certain
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inner = certain and isinstance(node, ast.With)
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, name, []), inner)
        for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
            yield from _statements(part.body, inner)


def _base_is_module(definition: Definition, base: ast.expr, depth: int) -> bool | None:
    name = _dotted(base)
    if name is None:
        return None
    qualified = _qualified(definition, base)
    if qualified in _MODULE:
        return True
    base_class = _base_class(definition, base)
    if base_class is not None:
        return is_network_module(base_class, depth + 1)
    return False if (qualified or name) in _PLAIN or name in _PLAIN else None


def _base_class(definition: Definition, base: ast.expr) -> Definition | None:
    """Return where a base class is defined, in this file or another; None for one of torch's or out of sight."""
    name, qualified = _dotted(base), _qualified(definition, base)
    if name is None or (qualified or name) in _PLAIN:
        return None
    if qualified is None:
        return find_definition(definition.module, definition.tree, name) if "." not in name else None
    home, _, leaf = qualified.rpartition(".")
    return None if not home or home.split(".")[0] == "torch" else _elsewhere(home, leaf, 0)


def _qualified(definition: Definition, base: ast.expr) -> str | None:
    """Return the dotted path that a base class was imported from; None where it was not imported."""
    name = _dotted(base)
    if name is None:
        return None
    first, _, rest = name.partition(".")
    for node, _ in _statements(definition.tree.body):
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
