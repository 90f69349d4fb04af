"""The file that an import writes: the network's yaml as it was, its ancestor, the alignment, where its code lies."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from ablate.importing.alignment import Alignment
from ablate.settings.imported_network import ENDING, KEY, VERSION, ImportedNetwork
from ablate.storage.files import atomic_write_text
from ablate.storage.plain_values import Plain
from ablate.storage.yaml_files import read_mapping

_HEADER = """\
# Written by `python -m ablate import`. To train it and its stock ancestor:
# python -m ablate model.architecture={name} -m
"""


def imported_network(alignment: Alignment, classes: dict[str, str], code: Path | None) -> ImportedNetwork:
    """Return an aligned network as it is built and recorded."""
    other = alignment.other
    return ImportedNetwork.from_options(
        {
            "ancestor": f"{alignment.stock.name}.yaml",
            "layers": [_plain(layer.written()) for layer in other.layers],
            "backbone": other.backbone,
            "scale": other.scale,
            "scaling": list(other.scaling),
            "settings": dict(other.settings),
            "classes": classes,
            "aligned": list(alignment.pairs),
            "code": None if code is None else str(code),
        }
    )


def default_path(source: Path) -> Path:
    """Return where the file of a network goes by default: into the working folder."""
    return Path(f"{source.stem}{ENDING}")


def write_file(path: Path, source: Path, alignment: Alignment, network: ImportedNetwork) -> None:
    """Write the file; a path to the code is written as it is seen from there."""
    content: Plain = read_mapping(source, of_hydra=False)
    code = None if network.code is None else os.path.relpath(network.code, path.absolute().parent)
    rows = [_plain(layer.written()) for layer in alignment.other.layers]
    backbone = alignment.other.backbone
    content |= {"backbone": rows[:backbone], "head": rows[backbone:]}
    content[KEY] = {
        "version": VERSION,
        "name": source.stem,
        "ancestor": network.ancestor,
        "scale": alignment.other.scale,
        "code": code,
        "classes": dict(network.classes),
        "aligned": list(network.aligned),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    atomic_write_text(path, _HEADER.format(name=path.name) + text)


def _plain(row: list[object]) -> list[object]:
    """Return a row with lists in place of tuples."""
    return [list(map(_listed, item)) if isinstance(item, list | tuple) else item for item in row]


def _listed(value: object) -> object:
    return list(map(_listed, value)) if isinstance(value, tuple) else value
