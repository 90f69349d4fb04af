"""The forms of a module that are measured beside one another, with equal weights, and proof that they compute the same.

`authors`, `plain`, `composed` and `fused` do the same work: that of the authors' code (`fidelity="authors"`). `default`
is the fused form as a trial gets it, where that is other work: a gradient through STA's association, HMHA's channels
ranked for each image and no cache, HAT on maps of any size with nothing attending to padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from authors import authors_module, load_weights
from torch import Tensor, nn

from ablate.grafting.construction import load_class
from ablate.settings.schema import option_file
from ablate.sources.module_source import module_source

TITLES = {"acmix": "ACmix", "sta": "STA", "hmha": "HMHA", "hat": "HAT"}  # in the order of docs/speed.md
MODULES = tuple(TITLES)
FORMS = ("authors", "plain", "composed", "fused", "default")
EQUAL = ("authors", "plain", "composed", "fused")  # forms that do the same work

_AS_AUTHORS: dict[str, dict[str, Any]] = {
    **{module: {"fidelity": "authors"} for module in MODULES},
    "hmha": {"fidelity": "authors", "cache": "authors"},
}
_WINDOW = 8  # of HAT; the authors' code takes multiples of it only

TOLERANCE = 1e-4  # relative to the largest value: float32 on maps of thousands of pixels


def forms_of(module: str, authors: Path | None) -> list[str]:
    """Return the forms of a module that there are to measure."""
    without = {*(() if authors else ("authors",)), *(("default",) if module == "acmix" else ())}
    return [form for form in FORMS if form not in without]


def target(module: str, *, plain: bool = False) -> str:
    """Return the dotted path of a module's class: that of its option file, or the plain one that derives from it."""
    ours = str(option_file("module", module)["_target_"])
    return f"ablate.verifying.reference.plain_{module}.Plain{ours.rpartition('.')[2]}" if plain else ours


def source_hash(module: str) -> str:
    """Return the start of a SHA-256 over the files that a module's forms are made of."""
    files = [*module_source(target(module)).files, *module_source(target(module, plain=True)).files[:1]]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def build(module: str, form: str, channels: int, side: int, authors: Path | None = None, seed: int = 0) -> nn.Module:
    """Build one form of a module; (B, C, side, side) to the same. Equal forms have equal weights.

    Args:
        module: One of `MODULES`.
        form: One of `FORMS`.
        channels: C.
        side: Height and width of the maps it will see.
        authors: Where the checkouts are.
        seed: Of the weights.
    """
    if form == "default":
        torch.manual_seed(seed)
        return _class(module)(channels, fused="auto")
    ours = _reference(module, channels, seed)
    if form == "authors":
        if authors is None:
            raise ValueError("the authors' code is in no folder: --authors")
        built = authors_module(module, authors, channels)
        load_weights(built, ours)
    elif form == "plain":
        built = _class(module, plain=True)(channels, **_AS_AUTHORS[module])
        built.load_state_dict(ours.state_dict())
    else:
        built = _class(module)(channels, **_AS_AUTHORS[module], fused="auto" if form == "fused" else False)
        built.load_state_dict(ours.state_dict())
    return _Padded(built, _WINDOW) if module == "hat" and side % _WINDOW else built


def check_agreement(
    module: str, forms: dict[str, nn.Module], shape: Sequence[int], device: torch.device
) -> dict[str, float]:
    """Compare output and input gradient of all equal forms with the first's, in float32; return how far it is.

    HMHA sorts channels by a correlation: where two are equal to the last bits, forms may sort them differently. So
    several inputs may be tried, and a form that computes something else fails on all.

    Raises:
        ValueError: A form computes something else.
    """
    first, *others = [name for name in forms if name in EQUAL]
    found: dict[str, float] = {}
    for seed in range(5 if module == "hmha" else 1):
        unsettled = [name for name in others if not found.get(name, 1.0) <= TOLERANCE]
        if not unsettled:
            break
        x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)
        wanted = _run(forms[first], x)
        for name in unsettled:
            found[name] = max(_distance(a, b) for a, b in zip(_run(forms[name], x), wanted, strict=True))
    for name, error in found.items():
        if not error <= TOLERANCE:
            raise ValueError(f"{module}: {name} differs from {first} by {error:.1e} of the largest value")
    return found


class _Padded(nn.Module):
    """Pads a map to multiples of a number, and crops the output, as the authors' network does for its windows."""

    def __init__(self, core: nn.Module, multiple: int) -> None:
        super().__init__()
        self.core = core
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        y: Tensor = self.core(F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple)))
        return y[..., :height, :width]


def _class(module: str, *, plain: bool = False) -> Any:
    return load_class(target(module, plain=plain))


def _reference(module: str, channels: int, seed: int) -> nn.Module:
    """Return our module with weights of which none is zero: each that were taken for another would be noticed."""
    torch.manual_seed(seed)
    built: nn.Module = _class(module)(channels, **_AS_AUTHORS[module])
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return built


def _run(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # 10 bits would hide what differs
    try:
        y = module(leaf)
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
        (gradient,) = torch.autograd.grad(y, leaf, cotangent)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    return y.detach(), gradient


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(float(b.abs().max()), 1e-12)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """Return automatic mixed precision as Ultralytics trains with: float16 on CUDA; bfloat16 on a CPU."""
    if not enabled:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if device.type == "cuda" else torch.bfloat16)
