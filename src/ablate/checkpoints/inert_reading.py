"""Read a checkpoint without running anything that it names.

A checkpoint is a pickle, which names classes and functions and may call them with values of its own. Here the few that
make tensors and plain values are carried out by functions of ours. Any other name becomes a `Named`, which keeps what
it is given. Nothing is imported, no method of another class is called.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ablate.checkpoints.file_check import (
    PARTS,
    TORCHSCRIPT,
    VALUES,
    CheckpointError,
    UnsafeCheckpoint,
    check_kind,
    modern_name,
)
from ablate.safe_text import escaped


class Named:
    """Stands for what a checkpoint names: for a class, and for each of its objects; no code of it is run.

    Attributes:
        name: Module and name.
        arguments: What it was called with.
        state: What the object's attributes were to be.
    """

    name: ClassVar[str] = ""
    takes_arguments: ClassVar[bool] = True
    dump_patches: ClassVar[bool] = False  # torch looks at it where a file is of its old format

    def __init__(self, *arguments: Any) -> None:
        if arguments and not self.takes_arguments:
            raise UnsafeCheckpoint(self.name)  # a saved module is made without any, and filled
        self.arguments = arguments
        self.state: Any = {}

    def __new__(cls, *arguments: Any) -> Named:
        """Keep the arguments: a pickle makes objects without calling `__init__`."""
        made = object.__new__(cls)
        Named.__init__(made, *arguments)
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget an entry of a mapping of an unknown class."""

    def append(self, value: Any) -> None:
        """Forget an entry of a list of an unknown class."""

    def extend(self, values: Any) -> None:
        """Forget entries of a list of an unknown class."""

    def add(self, value: Any) -> None:
        """Forget an entry of a set of an unknown class."""


def read(path: Path, parts: Iterable[str] = ()) -> Any:
    """Return the content of a checkpoint: plain values, tensors on the CPU, and `Named` for all else.

    Args:
        path: A file that `torch.save` wrote.
        parts: Further beginnings of names that it may hold; "" for any.

    Raises:
        CheckpointError: It is no such file, is damaged, or names what is no part of a network.
    """
    check_kind(path)
    try:
        _refuse_torchscript(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the saved source of a class is not that of `Named`
            inert = _pickle_module(tuple(parts))
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert)
    except CheckpointError:
        raise
    except Exception as error:  # however it is damaged
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"it is damaged or no checkpoint of PyTorch: {escaped(reason, 200)}") from error


def _refuse_torchscript(path: Path) -> None:
    """Refuse what `torch.load` would take for TorchScript, whose code runs when it is loaded.

    A file can be made in which Python's reader of zip files finds other entries than PyTorch's own.
    """
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive and "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise CheckpointError(TORCHSCRIPT)


def read_pickle(content: bytes, parts: Iterable[str] = ()) -> Any:
    """Return what a pickle within a checkpoint holds: plain values, and `Named` for names with these beginnings."""
    return _pickle_module(tuple(parts)).load(io.BytesIO(content))


@cache
def _pickle_module(parts: tuple[str, ...]) -> Any:
    """Return what `torch.load` takes for Python's module `pickle`."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return _stand_in(module, name, parts)

    class Module:
        __name__ = "pickle"
        UnpicklingError = pickle.UnpicklingError

        @staticmethod
        def load(file: Any, **options: Any) -> Any:
            return Unpickler(file, **options).load()

    Module.Unpickler = Unpickler  # type: ignore[attr-defined]
    return Module


def _stand_in(module: str, name: str, parts: tuple[str, ...]) -> Any:
    """Return what stands for a name in a checkpoint.

    Raises:
        UnsafeCheckpoint: It is no part of a network.
    """
    full = modern_name(module, name)
    if full in _CARRIED_OUT:
        return _CARRIED_OUT[full]
    if full.startswith("torch.") and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    is_value = full in VALUES or full.startswith(parts)
    if not (is_value or full.startswith(PARTS)):
        raise UnsafeCheckpoint(full)
    return _named(full, is_value)


@cache
def _named(full: str, takes_arguments: bool) -> type[Named]:
    return type("Named", (Named,), {"name": full, "takes_arguments": takes_arguments})


class _Function:
    """A function that a pickle may call, but of which it can change nothing."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise CheckpointError("it changes a function")

    def __setstate__(self, state: Any) -> None:
        raise CheckpointError("it changes a function")


_FREE = 1 << 26  # bytes that a tensor may take although the file holds less, as one does that repeats a value


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    if math.prod(size) * storage._untyped_storage.element_size() > max(storage._untyped_storage.nbytes(), _FREE):
        raise CheckpointError(f"it holds a tensor of shape {tuple(size)}, but not the values of one")
    rebuild: Callable[..., Tensor] = torch._utils._rebuild_tensor
    return rebuild(storage, offset, size, stride)


def _parameter(data: Tensor, requires_grad: bool = True, *_: Any) -> Tensor:
    return nn.Parameter(data, requires_grad and data.is_floating_point())


def _tensor_with_attributes(make: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    if not isinstance(make, _Function):
        raise UnsafeCheckpoint(getattr(make, "name", type(make).__name__))
    tensor: Tensor = make(*arguments)
    return tensor


def _object(cls: Any, *_: Any) -> Named:
    if not (isinstance(cls, type) and issubclass(cls, Named)):
        raise CheckpointError("it makes an object of an unknown kind")
    return cls()


class _NumberKind:
    """Stands for NumPy's type of an array's numbers."""

    def __init__(self, text: Any, *_: Any) -> None:
        if not (isinstance(text, str) and re.fullmatch(r"[<>=|]?[biufc?]\d*", text)):
            raise CheckpointError("it holds an array of objects")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class NumberArray:
    """Stands for an array of NumPy's."""

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, column_major, content = state
        self.values = np.frombuffer(content, kind.dtype).reshape(shape, order="F" if column_major else "C").copy()


def _scalar(kind: Any, content: Any) -> Any:
    return np.frombuffer(content, kind.dtype)[0].item()


def _few(items: Any) -> Any:
    if not isinstance(items, list | tuple):
        raise CheckpointError("it holds a set of an unknown kind")
    return items


def _path(*parts: Any) -> str:
    return "/".join(map(str, parts)).replace("//", "/")


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")

_CARRIED_OUT: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Function(_parameter),
    "torch._tensor._rebuild_from_type_v2": _Function(_tensor_with_attributes),
    "torch.Size": _Function(lambda sizes=(): tuple(sizes)),
    "torch.device": _Function(lambda *_: "cpu"),
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _Function(lambda *_: {}),
    "copyreg._reconstructor": _Function(_object),
    "_codecs.encode": _Function(lambda text, *_: str(text).encode("latin1")),
    "numpy.dtype": _Function(_NumberKind),
    "builtins.set": _Function(lambda items=(): set(_few(items))),
    "builtins.frozenset": _Function(lambda items=(): frozenset(_few(items))),
    "builtins.bytes": _Function(lambda *_: b""),  # an empty one; others are encoded texts
    **{f"{module}.multiarray._reconstruct": _Function(NumberArray) for module in ("numpy.core", "numpy._core")},
    **{f"{module}.multiarray.scalar": _Function(_scalar) for module in ("numpy.core", "numpy._core")},
    **{f"{module}.{name}": _Function(_path) for module in ("pathlib", "pathlib._local") for name in _PATHS},
}
