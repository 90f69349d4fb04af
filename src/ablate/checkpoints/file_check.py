"""What a checkpoint file is and what it names, as far as that can be told without torch: in a moment, by the driver."""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path

from ablate.errors import AblateError
from ablate.safe_text import escaped

NETWORK = "ablate_yolo.network"  # what makes a network with grafts from plain values and tensors

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch's files began before they were zip archives


TORCHSCRIPT = "it is a TorchScript archive; the checkpoint (.pt) that it was exported from is needed"


class CheckpointError(AblateError):
    """A checkpoint cannot be used; the message is one line that says why, without the file's name."""


class UnsafeCheckpoint(CheckpointError):
    """A checkpoint names something that is no part of a network, which would be imported or called.

    Args:
        name: What it names, as module and name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"it names {escaped(name, 100)}, which is no part of a network and could run any code; "
            "only if you trust its author"
        )
        self.name = name


# What a checkpoint of a network may name beside what is carried out, by the beginning of its name.
PARTS = (
    "torch.nn.modules.", "torch.nn.parallel.", "torch.nn.parameter.", "torch.nn.quantized.", "torch.ao.nn.",
    "ultralytics.nn.", "ultralytics.yolo.", "ultralytics.utils.loss.", "ultralytics.utils.tal.",
    "models.", "ablate.grafting.surgery.", "ablate.modules.",
)  # fmt: skip
VALUES = frozenset({
    "ultralytics.utils.IterableSimpleNamespace", "numpy.ndarray", "torch.Tensor",
    *(f"builtins.{name}" for name in ("getattr", "object", "dict", "list", "tuple", "int", "float", "bool", "str")),
    *(f"builtins.{name}" for name in ("complex", "slice", "range", "bytearray")),
    "torch.nn.parameter.Parameter", "torch.torch_version.TorchVersion", NETWORK,
})  # fmt: skip


def check_kind(path: Path) -> None:
    """Say what a file is that torch could not read as a checkpoint, or would read in another way."""
    if path.is_dir():
        raise CheckpointError("it is a folder; a checkpoint is one file")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CheckpointError("it is no plain file")
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    if start == _LEGACY:
        return
    if not start.startswith(b"PK"):
        is_safetensors = start[8:9] == b"{"
        kind = "a safetensors file, which holds no network" if is_safetensors else "no file that PyTorch wrote"
        raise CheckpointError(f"it is {kind if start else 'empty'}; a checkpoint of Ultralytics (.pt) is needed")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"it is cut off or damaged: {escaped(str(error), 200)}") from error
    if any(entry.filename.endswith("constants.pkl") for entry in entries):
        raise CheckpointError(TORCHSCRIPT)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError("its entries are compressed, which PyTorch never does")


def modern_name(module: str, name: str) -> str:
    """Return the name of a class or function; pickles of torch have some by their names of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


_HOMES = frozenset(
    {*(part.partition(".")[0] for part in (*PARTS, *VALUES)), "_codecs", "collections", "copyreg", "pathlib"}
)
_CALLS = frozenset(
    f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint")
)
_SEARCHED = 8 * 2**20  # bytes of the pickle; that of a network has some hundred thousand
_NAMED = re.compile(rb"c([\w.]+)\n([\w.]+)\n")  # how a pickle names something, and perhaps a part of another value


def check_file(path: Path) -> None:
    """Refuse what can be told to be no checkpoint, or to run code; `inert_reading.read` decides on all else.

    Raises:
        CheckpointError: It is no checkpoint, or names what is no part of a network.
        OSError: It cannot be read.
    """
    check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            content = archive.open(pickles[0]).read(_SEARCHED) if pickles else b""
    except (zipfile.BadZipFile, zlib.error, ValueError):  # of torch's old format
        return
    if any(map(_is_foreign, (modern_name(m.decode(), n.decode()) for m, n in _NAMED.findall(content)))):
        for name in _names(content):
            if _is_foreign(name):
                raise UnsafeCheckpoint(name)


def _is_foreign(name: str) -> bool:
    return name.partition(".")[0] not in _HOMES or name in _CALLS


def _names(content: bytes) -> Iterator[str]:
    """Yield what the instructions of a pickle name."""
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name in ("GLOBAL", "INST"):
                yield modern_name(*str(argument).split(" ", 1))
    except ValueError:  # damaged
        return
