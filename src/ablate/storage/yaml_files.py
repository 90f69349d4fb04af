"""Read a YAML file of the user's strictly: one mapping, each key once, and an error that names file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ablate.errors import AblateError


class YamlFileError(AblateError, ValueError):
    """A file is not what it should be; the message is one line that names it."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, to which a date is a text, as it is to Hydra."""


class _HydraLoader(_Loader):
    """The same, which also reads 1e-3 as a number, as Hydra does."""


_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for letter, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_HydraLoader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")  # what a tag may ask for
MOST_BYTES = 4 * 2**20
MOST_VALUES = 100_000  # with those of aliases, each time that they stand for them
MOST_DIGITS = 400  # a number of millions of digits takes minutes to read
MOST_LEVELS = 50  # of brackets and indentations; YAML's own reader calls itself for each of them


def read_mapping(path: Path, title: str | None = None, *, of_hydra: bool = True) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; empty where the file holds nothing.

    A file of any size and content is answered within a second: how much it may hold is bounded.

    Args:
        path: The file.
        title: What to call it in a message; its path by default.
        of_hydra: Whether 1e-3 is a number, as to Hydra, or a text, as to Ultralytics.

    Raises:
        YamlFileError: It is no UTF-8, no YAML, no mapping, too large, has a key twice, or asks for objects of Python.
    """
    name = title or str(path)
    text = _text(path, name)
    try:
        _check_size(text, name)
        loader = (_HydraLoader if of_hydra else _Loader)(text)
        node = loader.get_single_node()
        _check_keys(node, name)
        content = None if node is None else loader.construct_document(node)
    except YamlFileError:
        raise
    except yaml.MarkedYAMLError as error:
        raise YamlFileError(f"{name}{_problem(error, text.splitlines())}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise YamlFileError(f"{name}: {str(error).splitlines()[0]}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a text" if isinstance(content, str) else repr(content)
        raise YamlFileError(f"{name}: it holds {kind}; a mapping is needed, one `key: value` a line")
    for key in content:
        if not isinstance(key, str):
            raise YamlFileError(f"{name}: the key {key!r} is no text")
    return content


def _problem(error: yaml.MarkedYAMLError, lines: list[str]) -> str:
    """Return where and what is wrong, to follow a file's name."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f": {error.problem}"
    for number in (mark.line, mark.line - 1):
        if 0 <= number < len(lines) and re.match(r"\s*\t", lines[number]):
            return f", line {number + 1}: a tab, where YAML needs spaces"
    return f", line {mark.line + 1}: {error.problem}"


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise YamlFileError(f"{name}: larger than {MOST_BYTES >> 20} MiB, which no file of settings is")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlFileError(f"{name}: byte {error.start + 1} is no UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise YamlFileError(f"{name}: {error.strerror}") from error


def _check_size(text: str, name: str) -> None:
    """Check that a text is no more than its reader can build: levels, values, and what aliases make of them.

    Raises:
        YamlFileError: It is more, holds itself, or has a tag that asks for other than plain values.
        yaml.YAMLError: It is no YAML.
    """
    sizes: dict[str, int] = {}  # values below an anchor
    open_anchors: list[tuple[str | None, int]] = []  # of the mappings and lists that we are in, with the count before
    count = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in ("!", *(f"{_TAG}{kind}" for kind in _KINDS)):
            raise YamlFileError(
                f"{name}, line {line}: the tag {tag.replace(_TAG, '!!')!r} is not read, only plain values"
            )
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_anchors):
                raise YamlFileError(f"{name}, line {line}: the alias *{event.anchor} stands in what it stands for")
            count += sizes.get(str(event.anchor), 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append((event.anchor, count))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_anchors.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            if event.implicit[0] and len(event.value) > MOST_DIGITS and event.value[0] in "+-.0123456789":
                raise YamlFileError(f"{name}, line {line}: a number of {len(event.value):,} characters")
        count += isinstance(event, yaml.NodeEvent)
        if count > MOST_VALUES:
            raise YamlFileError(f"{name}, line {line}: more than {MOST_VALUES:,} values, with those of its aliases")
        if len(open_anchors) > MOST_LEVELS:
            raise YamlFileError(f"{name}, line {line}: more than {MOST_LEVELS} levels within each other")


def _check_keys(node: yaml.Node | None, name: str) -> None:
    """Check that no mapping has a key twice, of which all but the last would be lost."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            text = str(key.value)
            line = key.start_mark.line + 1
            if text in seen and text != "<<":
                raise YamlFileError(f"{name}, line {line}: the key '{text}' is there already, in line {seen[text]}")
            seen[text] = line
            _check_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, name)
