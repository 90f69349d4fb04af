"""The authors' own modules, taken out of checkouts of their repositories, to be measured beside ours.

A folder with the checkouts ACmix (LeapLabTHU), STViT (hhb072), HINT (joshyZhou) and HAT (XPixelGroup). Their files
import much that their modules do not need (timm, fvcore, scikit-learn, basicsr), so only the definitions that are
wanted are read from a file and executed, with the few names that they use.
"""

from __future__ import annotations

import ast
import hashlib
import math
import subprocess
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

CHECKOUTS = {"acmix": "ACmix", "sta": "STViT", "hmha": "HINT", "hat": "HAT"}
_FILES = {
    "acmix": "ResNet/test_bottleneck.py",
    "sta": "models/stvit.py",
    "hmha": "basicsr/models/archs/HINT_arch.py",
    "hat": "hat/archs/hat_arch.py",
}

# Constants of theirs that are parameters without a gradient: ours have none.
CONSTANTS = ("unfold.weights", "fold.weights")


def authors_module(name: str, folder: Path, channels: int) -> nn.Module:
    """Build the authors' module with the options that ours have by default; (B, C, H, W) to the same.

    Args:
        name: acmix, sta, hmha or hat.
        folder: Where the checkouts are.
        channels: C.

    Raises:
        FileNotFoundError: The checkout is not there.
        KeyError: Its file no longer has these definitions.
    """
    return _BUILDERS[name](folder / CHECKOUTS[name] / _FILES[name], channels)


def version(name: str, folder: Path) -> str:
    """Return the commit of a checkout; where it has no history, the start of the file's SHA-256."""
    words = ["git", "-C", str(folder / CHECKOUTS[name]), "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    return f"sha256 {hashlib.sha256((folder / CHECKOUTS[name] / _FILES[name]).read_bytes()).hexdigest()[:12]}"


def load_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Give the authors' module the weights of ours.

    Raises:
        KeyError: A weight of either has no counterpart.
    """
    core = theirs.core if isinstance(theirs, _Adapted) else theirs
    missing, unexpected = core.load_state_dict(ours.state_dict(), strict=False)
    if unexpected or set(missing) - set(CONSTANTS):
        raise KeyError(f"the authors' module lacks {unexpected}, ours lacks {missing}")


class _Adapted(nn.Module):
    """A module behind another way of calling it."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core


class _WithoutCache(_Adapted):
    """Their HMHA returns the next layer's cache beside its output, and computes it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0]


class _OfMaps(_Adapted):
    """Their RHAG takes a sequence of pixels, the shift's mask and the bias indices, as their network hands them on.

    The mask of a size is made once and kept, to their advantage: their network makes it once in a forward pass, for
    all of its groups.
    """

    def __init__(self, core: nn.Module, mask: Callable[[tuple[int, int]], Tensor], indices: dict[str, Tensor]) -> None:
        super().__init__(core)
        self._mask = mask
        self._indices = indices
        self._params: dict[tuple[int, int, torch.device], dict[str, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        key = (*size, x.device)
        if key not in self._params:
            params = {**self._indices, "attn_mask": self._mask(size)}
            self._params[key] = {name: tensor.to(x.device) for name, tensor in params.items()}
        y = self.core(x.flatten(2).transpose(1, 2), size, self._params[key])  # (B, H W, C)
        return y.transpose(1, 2).view(x.shape)


def _acmix(file: Path, channels: int) -> nn.Module:
    names = ("position", "stride", "init_rate_half", "init_rate_0", "ACmix")
    found = _definitions(file, names, {})
    return found["ACmix"](channels, channels, kernel_att=7, head=4, kernel_conv=3)


def _sta(file: Path, channels: int) -> nn.Module:
    found = _definitions(file, ("Attention", "Unfold", "Fold", "StokenAttention"), {})
    return found["StokenAttention"](channels, stoken_size=(4, 4), n_iter=1, num_heads=8, qkv_bias=True)


def _hmha(file: Path, channels: int) -> nn.Module:
    names = ("Inter_CacheModulation", "Intra_CacheModulation", "ReGroup", "CalculateCurrentLayerCache", "Attention")
    found = _definitions(file, names, {"rearrange": rearrange})
    return _WithoutCache(found["Attention"](channels, num_heads=8, bias=False))


def _hat(file: Path, channels: int) -> nn.Module:
    names = ("drop_path", "DropPath", "ChannelAttention", "CAB", "Mlp", "window_partition", "window_reverse",
             "WindowAttention", "HAB", "OCAB", "AttenBlocks", "RHAG", "PatchEmbed", "PatchUnEmbed")  # fmt: skip
    given = {
        "rearrange": rearrange,
        "to_2tuple": lambda size: (size, size) if isinstance(size, int) else size,
        "trunc_normal_": nn.init.trunc_normal_,
    }
    methods = ("calculate_rpi_sa", "calculate_rpi_oca", "calculate_mask")
    found = _definitions(file, names, given, of_class=("HAT", methods))
    core = found["RHAG"](
        channels,
        input_resolution=(64, 64),  # what they are configured for; only whether the window fits follows from it
        depth=2,
        num_heads=4,
        window_size=8,
        compress_ratio=3,
        squeeze_factor=30,
        conv_scale=0.01,
        overlap_ratio=0.5,
        mlp_ratio=2.0,
        img_size=64,
        patch_size=1,
    )
    network = SimpleNamespace(window_size=8, shift_size=4, overlap_ratio=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.meshgrid wants its order named
        indices = {
            "rpi_sa": found["calculate_rpi_sa"](network),
            "rpi_oca": found["calculate_rpi_oca"](network),
        }
    return _OfMaps(core, partial(found["calculate_mask"], network), indices)


_BUILDERS = {"acmix": _acmix, "sta": _sta, "hmha": _hmha, "hat": _hat}


def _definitions(
    path: Path, names: Sequence[str], given: dict[str, Any], of_class: tuple[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Execute some functions and classes of a file, in its order, and methods of one class as functions of `self`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    body: list[ast.stmt] = [node for node in nodes if node.name in names]
    if of_class is not None:
        owner = next(node for node in nodes if node.name == of_class[0])
        body += [node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name in of_class[1]]
    namespace: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "math": math, "__name__": path.stem, **given}
    exec(compile(ast.Module(body, type_ignores=[]), str(path), "exec"), namespace)
    wanted = [*names, *(of_class[1] if of_class else ())]
    missing = [name for name in wanted if name not in namespace]
    if missing:
        raise KeyError(f"{path} does not define {', '.join(missing)}")
    return namespace
