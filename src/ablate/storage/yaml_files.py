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
    """YAML's safe loader, which also reads 1e-3 as a number, as Hydra does."""


_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_mapping(path: Path, title: str | None = None) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; empty where the file holds nothing.

    Args:
        path: The file.
        title: What to call it in a message; its path by default.

    Raises:
        YamlFileError: It is no UTF-8, no YAML, no mapping, or has a key twice.
    """
    name = title or str(path)
    text = _text(path, name)
    try:
        loader = _Loader(text)
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
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlFileError(f"{name}: byte {error.start + 1} is no UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise YamlFileError(f"{name}: {error.strerror}") from error


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
