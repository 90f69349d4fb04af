"""Every loss against its formula, on degenerate boxes, in low precision, and against its authors' code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.losses.table import PAGE, with_table
from torch import Tensor, nn

from ablate.errors import ConfigError
from ablate.losses.boxes import Scale
from ablate.settings.loss_checks import check_loss
from ablate.settings.losses import LossSpec, loss_names
from ablate.training.criterion import make_loss
from ablate.verifying.golden_catalogue import compare_any_case

GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
VARIANTS = {
    "box": [
        "focaler[of=siou,low=0.2,high=0.6]",
        "eiou[gamma=0.5]",
        "wiou[version=v1]",
        "shape_iou[scale=0.5]",
        "inner[of=siou,ratio=1.2]",
        "nwd[ratio=1.0]",
    ]
}
BOXES = [*loss_names("box"), *VARIANTS["box"]]
SCORES = [*loss_names("cls"), "focal[alpha=0.0]", "slide[middle=authors]"]
Box = tuple[float, float, float, float]


def build(text: str, part: str = "box") -> nn.Module:
    return make_loss(LossSpec.from_text(text, part), text)


def scale(count: int, dtype: torch.dtype = torch.float32) -> Scale:
    return Scale(torch.full((count, 1), 8.0, dtype=dtype), torch.tensor([480.0, 640.0], dtype=dtype))


def pairs(count: int = 32, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return predicted and true boxes in cells of a map; some overlap, some do not."""
    generator = torch.Generator().manual_seed(1)
    centre, size = (
        (torch.rand(count, 2, generator=generator) * 30 + 15),
        torch.rand(count, 2, generator=generator) * 9 + 1,
    )
    shift, ratio = torch.randn(count, 2, generator=generator) * size, 0.5 + torch.rand(count, 2, generator=generator)
    true = torch.cat((centre - size / 2, centre + size / 2), 1)
    boxes = torch.cat((centre + shift - size * ratio / 2, centre + shift + size * ratio / 2), 1)
    return boxes.to(dtype), true.to(dtype)


# -- formulas, number by number, in Python's floats ------------------------------------------------------------------


def _iou(p: Box, t: Box) -> float:
    overlap = max(min(p[2], t[2]) - max(p[0], t[0]), 0) * max(min(p[3], t[3]) - max(p[1], t[1]), 0)
    return overlap / ((p[2] - p[0]) * (p[3] - p[1]) + (t[2] - t[0]) * (t[3] - t[1]) - overlap)


def _facts(p: Box, t: Box) -> tuple[float, ...]:
    w, h, tw, th = p[2] - p[0], p[3] - p[1], t[2] - t[0], t[3] - t[1]
    dx, dy = (t[0] + t[2] - p[0] - p[2]) / 2, (t[1] + t[3] - p[1] - p[3]) / 2
    return w, h, tw, th, dx, dy, max(p[2], t[2]) - min(p[0], t[0]), max(p[3], t[3]) - min(p[1], t[1])


def _diou(p: Box, t: Box) -> float:
    *_, dx, dy, cw, ch = _facts(p, t)
    return 1 - _iou(p, t) + (dx**2 + dy**2) / (cw**2 + ch**2)


def _ciou(p: Box, t: Box) -> float:
    w, h, tw, th, *_ = _facts(p, t)
    v = 4 / math.pi**2 * (math.atan(tw / th) - math.atan(w / h)) ** 2
    return _diou(p, t) + v**2 / (1 - _iou(p, t) + v)


def _giou(p: Box, t: Box) -> float:
    w, h, tw, th, _, _, cw, ch = _facts(p, t)
    iou = _iou(p, t)
    union = (w * h + tw * th) / (1 + iou)
    return 1 - iou + (cw * ch - union) / (cw * ch)


def _eiou(p: Box, t: Box) -> float:
    w, h, tw, th, _, _, cw, ch = _facts(p, t)
    return _diou(p, t) + (w - tw) ** 2 / cw**2 + (h - th) ** 2 / ch**2


def _focal_eiou(p: Box, t: Box) -> float:
    return _iou(p, t) ** 0.5 * _eiou(p, t)


def _siou(p: Box, t: Box) -> float:
    w, h, tw, th, dx, dy, cw, ch = _facts(p, t)
    angle = 1 - 2 * math.sin(math.asin(abs(dy) / math.hypot(dx, dy)) - math.pi / 4) ** 2
    distance = sum(1 - math.exp(-(2 - angle) * rho**2) for rho in (dx / cw, dy / ch))
    shape = sum((1 - math.exp(-abs(a - b) / max(a, b))) ** 4 for a, b in ((w, tw), (h, th)))
    return 1 - _iou(p, t) + (distance + shape) / 2


def _wiou_v1(p: Box, t: Box) -> float:
    *_, dx, dy, cw, ch = _facts(p, t)
    return math.exp((dx**2 + dy**2) / (cw**2 + ch**2)) * (1 - _iou(p, t))


def _alpha_ciou(p: Box, t: Box, power: float = 3.0) -> float:
    w, h, tw, th, dx, dy, cw, ch = _facts(p, t)
    v = 4 / math.pi**2 * (math.atan(tw / th) - math.atan(w / h)) ** 2
    parts = ((dx**2 + dy**2) / (cw**2 + ch**2), v**2 / (1 - _iou(p, t) + v))
    return 1 - _iou(p, t) ** power + sum(part**power for part in parts)


def _focaler(of: Callable[[Box, Box], float], low: float, high: float) -> Callable[[Box, Box], float]:
    return lambda p, t: of(p, t) + _iou(p, t) - min(max((_iou(p, t) - low) / (high - low), 0), 1)


def _mpdiou(p: Box, t: Box) -> float:
    corners = (math.hypot(*(8 * (a - b) for a, b in zip(p[i : i + 2], t[i : i + 2], strict=True))) for i in (0, 2))
    return 1 - _iou(p, t) + sum(distance**2 for distance in corners) / (640**2 + 480**2)


def _shape_iou(p: Box, t: Box, exponent: float = 0.0) -> float:
    w, h, tw, th, dx, dy, cw, ch = _facts(p, t)
    ww, hh = (2 * side**exponent / (tw**exponent + th**exponent) for side in (tw, th))
    shape = sum((1 - math.exp(-k * abs(a - b) / max(a, b))) ** 4 for k, a, b in ((hh, w, tw), (ww, h, th)))
    return 1 - _iou(p, t) + (hh * dx**2 + ww * dy**2) / (cw**2 + ch**2) + shape / 2


def _scaled(b: Box, ratio: float) -> Box:
    x, y, w, h = (b[0] + b[2]) / 2, (b[1] + b[3]) / 2, (b[2] - b[0]) * ratio / 2, (b[3] - b[1]) * ratio / 2
    return x - w, y - h, x + w, y + h


def _inner(of: Callable[[Box, Box], float], ratio: float) -> Callable[[Box, Box], float]:
    return lambda p, t: of(p, t) + _iou(p, t) - _iou(_scaled(p, ratio), _scaled(t, ratio))


def _nwd(p: Box, t: Box) -> float:
    w, h, tw, th, dx, dy, *_ = _facts(p, t)
    return 1 - math.exp(-8 * math.sqrt(dx**2 + dy**2 + ((w - tw) ** 2 + (h - th) ** 2) / 4) / 12.8)


FORMULAS: dict[str, Callable[[Box, Box], float]] = {
    "ciou": _ciou,
    "identity": _ciou,
    "diou": _diou,
    "giou": _giou,
    "eiou": _eiou,
    "eiou[gamma=0.5]": _focal_eiou,
    "siou": _siou,
    "wiou[version=v1]": _wiou_v1,
    "mpdiou": _mpdiou,
    "shape_iou": _shape_iou,
    "shape_iou[scale=0.5]": lambda p, t: _shape_iou(p, t, 0.5),
    "alpha_ciou": _alpha_ciou,
    "focaler": _focaler(_ciou, 0.0, 0.95),
    "focaler[of=siou,low=0.2,high=0.6]": _focaler(_siou, 0.2, 0.6),
    "inner": _inner(_ciou, 0.75),
    "inner[of=siou,ratio=1.2]": _inner(_siou, 1.2),
    "nwd": lambda p, t: (_nwd(p, t) + _ciou(p, t)) / 2,
    "nwd[ratio=1.0]": _nwd,
}


@pytest.mark.parametrize("text", [text for text in BOXES if text != "wiou"])
def test_a_loss_of_boxes_is_its_formula(text: str) -> None:
    boxes, targets = pairs()
    expected = [FORMULAS[text](tuple(p), tuple(t)) for p, t in zip(boxes.tolist(), targets.tolist(), strict=True)]
    ours = build(text)(boxes, targets, scale(32, torch.float64))
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_wise_iou_is_its_formula_and_its_mean_moves_batch_by_batch() -> None:
    loss, mean = build("wiou[momentum=0.25]"), 1.0
    boxes, targets = pairs()
    for part in (slice(0, 16), slice(16, 32)):
        couples = [(tuple(p), tuple(t)) for p, t in zip(boxes[part].tolist(), targets[part].tolist(), strict=True)]
        ious = [1 - _iou(p, t) for p, t in couples]
        mean += 0.25 * (sum(ious) / 16 - mean)
        expected = [
            (iou / mean) / (3.0 * 1.9 ** (iou / mean - 3.0)) * _wiou_v1(p, t)
            for iou, (p, t) in zip(ious, couples, strict=True)
        ]
        ours = loss(boxes[part], targets[part], scale(16, torch.float64))
        torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        loss(boxes, targets, scale(32, torch.float64))
    assert float(loss.mean) == pytest.approx(mean)


@pytest.mark.parametrize("text", SCORES)
def test_a_loss_of_classes_is_its_formula(text: str) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) * 3
    targets = torch.rand(2, 5, 3, generator=generator, dtype=torch.float64)
    targets = targets * (torch.rand(2, 5, 3, generator=generator) > 0.5)
    positive = targets[targets > 0]
    mean = max(float(positive.mean()), 0.2)

    def of(x: float, t: float) -> float:
        p = 1 / (1 + math.exp(-x))
        entropy = -(t * math.log(p) + (1 - t) * math.log(1 - p))
        wrong = (p * (1 - t) + (1 - p) * t) ** 2
        between = math.exp(mean if "authors" in text else 1 - mean)
        slide = 1.0 if t <= mean - 0.1 else between if t < mean else math.exp(1 - t)
        factors = {
            "focal": (0.25 * t + 0.75 * (1 - t)) * wrong,
            "focal[alpha=0.0]": wrong,
            "varifocal": t if t > 0 else 0.75 * p**2,
        }
        return entropy * (slide if text.startswith("slide") else factors.get(text, 1.0))

    expected = [of(x, t) for x, t in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)]
    ours = build(text, "cls")(logits, targets)
    torch.testing.assert_close(ours.flatten(), torch.tensor(expected, dtype=torch.float64))


# A factor of these has no gradient, by their papers; they are compared with their authors' gradients instead.
DETACHED = ("ciou", "identity", "wiou", "wiou[version=v1]", "inner", "nwd", "eiou[gamma=0.5]", "alpha_ciou", "focaler")


@pytest.mark.parametrize("text", [text for text in BOXES if text not in DETACHED])
def test_the_gradient_of_a_loss_of_boxes_is_that_of_its_values(text: str) -> None:
    boxes, targets = pairs(8)
    loss = build(text)
    assert torch.autograd.gradcheck(lambda b: loss(b, targets, scale(8, torch.float64)), boxes.requires_grad_())


@pytest.mark.parametrize("text", SCORES)
def test_the_gradient_of_a_loss_of_classes_is_that_of_its_values(text: str) -> None:
    logits = torch.linspace(-3, 3, 12, dtype=torch.float64).view(1, 4, 3).requires_grad_()
    targets = torch.linspace(0, 1, 12, dtype=torch.float64).flip(0).view(1, 4, 3)
    loss = build(text, "cls")
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits)


DEGENERATE: dict[str, tuple[Box, Box]] = {
    "equal": ((1, 1, 5, 5), (1, 1, 5, 5)),
    "a point": ((2, 2, 2, 2), (1, 1, 5, 5)),
    "a point on a point": ((2, 2, 2, 2), (2, 2, 2, 2)),
    "a line": ((1, 2, 5, 2), (1, 1, 5, 5)),
    "an upright line": ((2, 1, 2, 5), (1, 1, 5, 5)),
    "no height of the object": ((1, 1, 5, 5), (1, 2, 5, 2)),
    "inside out": ((5, 5, 1, 1), (1, 1, 5, 5)),
    "half inside out": ((5, 1, 1, 5), (1, 1, 5, 5)),
    "apart": ((0, 0, 1, 1), (70, 70, 79, 79)),
    "touching": ((0, 0, 2, 2), (2, 0, 4, 2)),
    "touching at a corner": ((0, 0, 2, 2), (2, 2, 4, 4)),
    "huge": ((-3000, -3000, 3000, 3000), (1, 1, 5, 5)),
    "tiny": ((1, 1, 1.001, 1.001), (1, 1, 5, 5)),
    "same centre": ((2, 2, 4, 4), (1, 1, 5, 5)),
}


@pytest.mark.parametrize("text", BOXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_degenerate_boxes_have_a_finite_loss_and_gradient(text: str, dtype: torch.dtype) -> None:
    kept = [pair for name, pair in DEGENERATE.items() if not _beyond_stock(text, name, dtype)]
    boxes = torch.tensor([pair[0] for pair in kept]).to(dtype).requires_grad_()
    targets = torch.tensor([pair[1] for pair in kept], dtype=torch.float32)  # as in a training with mixed precision
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not torch.float32):
        loss = build(text)(boxes, targets, scale(len(kept)))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(boxes.grad).all()  # type: ignore[arg-type]


def _beyond_stock(text: str, name: str, dtype: torch.dtype) -> bool:
    """Tell whether CIoU, which gives Ultralytics' digits, is as little finite as those for a pair of boxes.

    In a wrapper it is computed in single precision; its gradient at a box without width is beyond half precision.
    """
    if text in ("ciou", "identity"):
        return dtype is not torch.float32 and name in (
            "a point",
            "a point on a point",
            "an upright line",
            "a line",
            "huge",
        )
    without_width = name in ("a point", "a point on a point", "an upright line")
    return text in ("inner", "nwd", "focaler") and dtype is torch.float16 and without_width


@pytest.mark.parametrize("text", BOXES)
def test_equal_boxes_have_no_loss_and_a_similarity_of_one(text: str) -> None:
    _, targets = pairs(4)
    loss, where = build(text), scale(4, torch.float64)
    assert loss(targets, targets, where).abs().max() < 1e-3
    if hasattr(loss, "similarity") and "wiou" not in text:
        assert (loss.similarity(targets, targets, where) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("text", [text for text in BOXES if not text.startswith("wiou")])
def test_a_pair_has_one_loss_whatever_is_beside_it_and_no_pair_has_none(text: str) -> None:
    boxes, targets = pairs(8)
    loss = build(text)
    together = loss(boxes, targets, scale(8, torch.float64))
    alone = torch.cat([loss(boxes[i : i + 1], targets[i : i + 1], scale(1, torch.float64)) for i in range(8)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("text", BOXES)
def test_no_object_gives_no_loss(text: str) -> None:
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = build(text)
    assert loss(nothing, torch.zeros(0, 4), scale(0)).shape == (0,)
    assert all(torch.isfinite(tensor).all() for tensor in loss.state_dict().values())


@pytest.mark.parametrize("text", SCORES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_scores_have_a_finite_loss_and_gradient(text: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[-60.0, 0.0, 60.0], [60.0, -60.0, 9.0]]).to(dtype)[None].requires_grad_()
    targets = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.3, 1.0]]])
    for wanted in (targets, torch.zeros_like(targets)):
        loss = build(text, "cls")(logits, wanted.to(dtype))
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.npz")), ids=lambda path: path.stem)
def test_a_loss_gives_its_authors_numbers(path: Path) -> None:
    result = compare_any_case(path)
    assert result.passed, result


@pytest.mark.parametrize("folder", ["box", "cls"])
def test_options_out_of_range_are_refused_by_class_and_command_alike(folder: str) -> None:
    wrong = {
        "box": [
            "wiou[delta=0]",
            "wiou[alpha=1]",
            "wiou[momentum=2]",
            "siou[theta=0]",
            "eiou[gamma=-1]",
            "nwd[ratio=0]",
        ],
        "cls": ["focal[gamma=-1]", "focal[alpha=1]", "varifocal[alpha=0]", "slide[middle=x]"],
    }
    for text in wrong[folder]:
        with pytest.raises(ConfigError):
            check_loss(folder, text)
        with pytest.raises(Exception, match="ValueError"):
            build(text, folder)


def test_the_page_lists_every_loss_as_its_file_has_it_and_every_loss_has_a_card() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "python tests/losses/table.py"
    for name in {*loss_names("box"), *loss_names("cls")} - {"identity"}:
        card = (PAGE.parent / "losses" / f"{name}.md").read_text(encoding="utf-8")
        assert {"## Use", "## Where we differ", "## Golden values", "## Attribution"} <= set(card.splitlines())


def test_the_example_of_an_own_loss_works() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(example, {})
