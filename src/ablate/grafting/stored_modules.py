"""Which modules a checkpoint may name: its network is built by calling them, with options that stand in the file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from types import FunctionType

from torch import nn

from ablate.grafting.construction import load_class
from ablate.grafting.insertion import GraftError
from ablate.settings.graft import GraftSpec, ModuleSpec
from ablate.settings.option_files import check_plain
from ablate.sources.distributions import distribution_of
from ablate.sources.python_imports import find_module

_OURS = "ablate.modules."


class UntrustedModule(GraftError):
    """A checkpoint names a module that is not called for it.

    Args:
        target: Dotted path of the class.
        reason: Why not.
        instead: What the caller of `ablate.load` can do.
    """

    def __init__(self, target: str, reason: str, instead: str) -> None:
        super().__init__(f"its network needs {target}, {reason}")
        self.instead = instead


def check_stored_modules(grafts: Iterable[GraftSpec], targets: Collection[str], *, trust: bool) -> None:
    """Check that building a checkpoint's grafts imports no other file, and calls classes of modules only.

    Args:
        grafts: Those of the checkpoint.
        targets: Classes, and functions that build modules, whose files may be imported.
        trust: Whether the user has named `targets`, so that they may be called whatever they are.

    Raises:
        UntrustedModule: One is neither ours, nor of `targets`, nor imported already; or it is no class of modules.
        ConfigError: An option is no plain value.
    """
    for graft in grafts:
        module: ModuleSpec | None = graft.module
        while module is not None:
            check_plain(module.options, f"{module.title}: ")
            for target in module.targets if module.is_network else [module.target]:
                if not (trust and target in targets):
                    _check(target, targets)
            module = module.like


def _check(target: str, targets: Collection[str]) -> None:
    home = target.rpartition(".")[0]
    if not (target.startswith(_OURS) or target in targets or home in sys.modules):
        reason = "whose file is not imported for a checkpoint alone"
        raise UntrustedModule(target, reason, f"import {home} first, or give trust=True")
    builder: object = load_class(target)
    if isinstance(builder, type) and issubclass(builder, nn.Module):
        allowed = _only_computes(builder) and (builder.__module__.startswith(_OURS) or not target.startswith(_OURS))
    else:
        allowed = target in targets and isinstance(builder, FunctionType) and _is_of_user(builder)
    if not allowed:
        raise UntrustedModule(target, "which is called for no checkpoint: it may do anything", "give trust=True")


def _only_computes(cls: type[nn.Module]) -> bool:
    """Tell whether a class derives from none of Ultralytics' that load files or evaluate text, such as AutoBackend."""
    bases = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "ultralytics"]
    return all(b.__module__.startswith("ultralytics.nn.modules.") and b.__name__ != "TorchVision" for b in bases)


def _is_of_user(function: FunctionType) -> bool:
    """Tell whether a function is defined in a file of the user's, in no installed package."""
    module = find_module(function.__module__)
    if module is None or module.top in sys.stdlib_module_names or module.top in ("ablate", "ablate_yolo"):
        return False
    return distribution_of(module.top, module.root) is None
