"""`ablate import`: read, find the ancestor, align, build once in a worker, write the file, say what it is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate.console import Terminal, print_line
from ablate.errors import ConfigError
from ablate.importing.alignment import Alignment
from ablate.importing.changes import Change, components_of, describe
from ablate.importing.network_file import read_network_file
from ablate.importing.stock_networks import find_ancestor
from ablate.importing.trial_build import BUILD, BuildJob, Counts
from ablate.importing.written_file import default_path, imported_network, write_file
from ablate.launching.jobs import Limits
from ablate.launching.local import run_in_worker
from ablate.settings.architecture import is_layer
from ablate.settings.imported_network import ENDING, ImportedNetwork
from ablate.sources.code_folder import Code
from ablate.sources.definitions import is_network_module
from ablate.sources.module_source import module_source
from ablate.storage.plain_values import Plain

SECONDS = 300.0  # that building a network may take


@dataclass(frozen=True)
class ImportRequest:
    """What the command line asks for.

    Attributes:
        file: The network's yaml.
        code: The user's code: a file, a package or a folder; None without any.
        stock: Name of the stock ancestor; None: it is found.
        scale: The scale to build; None: the one that the file's name says, else its first.
        out: Where the file goes; None: into the working folder.
        as_json: Print JSON.
    """

    file: Path
    code: Path | None = None
    stock: str | None = None
    scale: str | None = None
    out: Path | None = None
    as_json: bool = False


def run_import(request: ImportRequest) -> int:
    """Import a network file; return the exit code.

    Raises:
        ConfigError: The file, its ancestor or a class is at fault; the message is one line.
    """
    if request.file.name.endswith(ENDING):
        raise ConfigError(f"{request.file}: it is imported already: model.architecture={request.file}")
    network = read_network_file(request.file, request.scale)
    out = request.out or default_path(request.file)
    if not out.name.endswith(ENDING):
        raise ConfigError(f"--out={out}: the name must end with {ENDING}, by which model.architecture= knows it")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out={out}: there is no folder {out.parent}")
    code = None if request.code is None else Code.at(request.code)
    alignment = find_ancestor(network, str(request.file), request.stock)
    changes = describe(alignment)
    classes = _classes(request, alignment, changes, code)
    imported = None if classes is None else imported_network(alignment, classes, None if code is None else code.path)
    counts = None if imported is None or not changes else _build(request.file, imported)
    if imported is not None and counts is not None:
        write_file(out, request.file, alignment, imported)
    if request.as_json:
        print(json.dumps(_as_json(request, alignment, changes, counts, out)))  # noqa: T201
    else:
        _show(request, alignment, changes, counts, out)
    return 0


def _classes(
    request: ImportRequest, alignment: Alignment, changes: Sequence[Change], code: Code | None
) -> dict[str, str] | None:
    """Return the dotted paths of the classes that Ultralytics has not; None where only our own modules can stand in.

    Raises:
        ConfigError: Nobody defines a class, or it is no class of a layer as far as its source tells.
    """
    unknown = list(dict.fromkeys(layer.name for layer in alignment.other.layers if not is_layer(layer.name)))
    classes: dict[str, str] = {}
    if code is not None:
        code.allow()
        classes = code.find(unknown)
    for layer in alignment.other.layers:
        if layer.name not in unknown or layer.name in classes:
            continue
        if code is not None:
            raise ConfigError(
                f"{request.file}: {layer.title}: neither Ultralytics nor --code={request.code} defines {layer.name}"
            )
        if components_of(changes) is not None:
            return None
        raise ConfigError(
            f"{request.file}: {layer.title}: Ultralytics has no {layer.name}; --code=<file or folder> says where the "
            "Python code is that defines it"
        )
    for name, target in classes.items():
        if is_network_module(module_source(target).definition) is False:
            raise ConfigError(f"{request.file}: {name}: {target} is no torch.nn.Module")
    return classes


def _build(file: Path, network: ImportedNetwork) -> Counts:
    """Build a network in a worker process.

    Raises:
        ConfigError: It cannot be built.
    """
    with TemporaryDirectory(prefix="ablate-import-") as folder:
        running = Path(folder) / "running"
        (outcome,) = run_in_worker(BUILD, [BuildJob(network, running)], limits=Limits(max_retries=0))
        call = running.read_text(encoding="utf-8").strip() if running.is_file() else ""
    if outcome.failure:
        raise ConfigError(f"{file}: {outcome.message}{f' in {call}' if call else ''}")
    if not isinstance(outcome.result, Counts):
        raise ConfigError(f"{file}: {outcome.result}")
    return outcome.result


def _show(
    request: ImportRequest, alignment: Alignment, changes: Sequence[Change], counts: Counts | None, out: Path
) -> None:
    stock = alignment.stock.name
    scale = alignment.other.scale
    terminal = Terminal()
    print_line(terminal, f"{request.file}: made from {stock}.yaml{f', scale {scale}' if scale else ''}")
    if not changes:
        print_line(
            terminal, f"  no difference: model.architecture={stock}.yaml is the same network; nothing is written"
        )
        return
    for change in changes:
        meaning = f"   = {change.component}" if change.component else f"   ({change.why_not})"
        print_line(terminal, f"  {change.text}{meaning}")
    if counts is not None:
        for line in _tensors(counts):
            print_line(terminal, line)
    components = components_of(changes)
    if components is not None:
        print_line(
            terminal, f"the same with modules of the catalogue: python -m ablate {_command(components, stock)} -m"
        )
    if counts is not None:
        print_line(terminal, f"written: {out}")
        print_line(terminal, f"train it beside {stock}: python -m ablate model.architecture={out} -m")
    else:
        print_line(terminal, "no file is written, for that needs the code of its classes: --code=<file or folder>")


def _tensors(counts: Counts) -> list[str]:
    share, index = counts.values
    lines = [
        f"weights of the stock network: {counts.untouched + counts.shared} of its {counts.stock} tensors are kept "
        f"({share:.0%} of the values): all {counts.untouched} of untouched layers, {counts.shared} in changed ones",
        f"  Ultralytics, which loads by the number of a layer, keeps {counts.by_index} ({index:.0%} of the values)",
    ]
    called = dict.fromkeys(f"{it.name}{it.convention}" for it in counts.new if it.convention)
    if called:
        lines.append(f"  classes are called as {', '.join(called)}")
    return lines


def _command(components: Sequence[str], stock: str) -> str:
    model = "" if stock == "yolo26n" else f" model={stock}"
    return f"'grafts=[{','.join(components)}]'{model}"


def _as_json(
    request: ImportRequest, alignment: Alignment, changes: Sequence[Change], counts: Counts | None, out: Path
) -> Plain:
    return {
        "file": str(request.file),
        "ancestor": f"{alignment.stock.name}.yaml",
        "scale": alignment.other.scale,
        "likeness": round(alignment.likeness, 4),
        "aligned": list(alignment.pairs),
        "changes": [asdict(change) for change in changes],
        "components": components_of(changes),
        "weights": None if counts is None else asdict(counts),
        "written": str(out) if counts is not None else None,
    }
