"""Window attention in Triton: its numbers in Triton's interpreter, on the CPU; its compilation; and the same on a GPU.

Whether Triton interprets is settled when the kernels are imported. So the checks for the interpreter run in one process
of their own, which runs this file, and what failed there is what the tests here report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.modules.kernels import neighbourhood_triton
from ablate.modules.kernels.neighbourhood_triton import available, neighbourhood_attention

# B, m, d, H, W, kernel, dilation, stride
SHAPES = [
    (1, 1, 16, 2, 3, 7, 1, 1),
    (1, 3, 5, 3, 7, 3, 1, 1),
    (1, 1, 24, 1, 1, 4, 2, 1),
    (1, 1, 1, 3, 50, 5, 1, 2),
    (2, 1, 5, 7, 5, 3, 2, 2),
    (1, 4, 16, 4, 4, 1, 1, 1),
    (1, 1, 33, 3, 5, 3, 1, 3),
    (1, 1, 129, 2, 3, 2, 1, 1),
]
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest number


def plain(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int = 1, stride: int = 1) -> Tensor:
    """The same by its definition: windows unfolded, logits, softmax, weighted sum."""
    b, m, d, height, width = q.shape
    k, v = (
        F.unfold(t.flatten(0, 1), kernel, dilation=dilation, stride=stride).view(b, m, d, kernel**2, height, width)
        for t in (k, v)
    )
    attention = torch.einsum("bmdhw,bmdnhw->bmnhw", q, k).softmax(dim=2)
    return torch.einsum("bmnhw,bmdnhw->bmdhw", attention, v)


def drawn(
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...] = (torch.float32,) * 3,
    device: str = "cpu",
    lay: Callable[[Tensor], Tensor] = lambda t: t,
) -> list[Tensor]:
    """q, k and v as leaves, with the layout that `lay` gives them."""
    b, m, d, height, width, kernel, dilation, stride = shape
    reach = dilation * (kernel - 1)
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = [(-(-height // stride), -(-width // stride)), *((height + reach, width + reach),) * 2]
    tensors = [torch.randn(b, m, d, *size, generator=generator) * 0.7 for size in sizes]
    return [lay(t.to(device, dtype)).requires_grad_() for t, dtype in zip(tensors, dtypes, strict=True)]


def passes(
    attend: Callable[..., Tensor], inputs: list[Tensor], window: tuple[int, ...], dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Output and the gradients of q, k and v."""
    leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in inputs] if dtype else inputs
    y = attend(*leaves, *window)
    y.backward(torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape).to(inputs[2].dtype).to(y.dtype))
    gradients = [t.grad for t in leaves]
    for t in inputs:
        t.grad = None
    return [y.detach(), *(g for g in gradients if g is not None)]


def agree(shape: tuple[int, ...], inputs: list[Tensor], tolerance: float) -> None:
    window = shape[5:]
    assert available(*inputs, *window)
    ours = passes(neighbourhood_attention, inputs, window)
    theirs = passes(plain, inputs, window, torch.float64)
    assert [t.dtype for t in ours] == [inputs[2].dtype, *(t.dtype for t in inputs)]
    for name, a, b in zip("yqkv", ours, theirs, strict=True):
        wrong = (a.double() - b).abs().max().item() / max(b.abs().max().item(), 1e-3)
        assert wrong <= tolerance, f"{name} of {shape}: {wrong}"


def beside_other_channels(t: Tensor) -> Tensor:
    """As a slice of a larger map: rows and channels not next to each other."""
    larger = t.new_full((t.shape[0], t.shape[1], t.shape[2] + 1, t.shape[3] + 2, t.shape[4] * 2), float("nan"))
    larger[:, :, :-1, 1:-1, ::2] = t.detach()
    return larger[:, :, :-1, 1:-1, ::2]


def channels_last(t: Tensor) -> Tensor:
    return t.flatten(1, 2).to(memory_format=torch.channels_last).view_as(t)


# What runs in the interpreter, and again on a GPU where there is one.


def shapes_and_windows(device: str = "cpu") -> None:
    for shape in SHAPES:
        agree(shape, drawn(shape, device=device), 1e-5)


def layouts(device: str = "cpu") -> None:
    shape = (2, 2, 8, 3, 2, 2, 1, 1)
    dense = passes(neighbourhood_attention, drawn(shape, device=device), shape[5:])
    for lay in (channels_last, beside_other_channels):
        inputs = drawn(shape, device=device, lay=lay)
        agree(shape, inputs, 1e-5)
        for a, b in zip(passes(neighbourhood_attention, inputs, shape[5:]), dense, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    last = drawn(shape, device=device, lay=channels_last)
    assert neighbourhood_attention(*last, 2).stride(2) == 1, "the output has the layout of the queries"
    shape = (1, 1, 4, 3, 3, 3, 1, 1)
    q, k, v = (t.detach() for t in drawn(shape, device=device))
    same = k[:, :, :1].expand(-1, -1, 4, -1, -1)
    agree(shape, [q.requires_grad_(), same.requires_grad_(), v.requires_grad_()], 1e-5)


def dtypes(device: str = "cpu") -> None:
    half, brain, single = torch.float16, torch.bfloat16, torch.float32
    shape = (1, 1, 16, 3, 4, 3, 1, 1)
    for mixed in ((half,) * 3, (brain,) * 3, (single, single, brain), (brain, single, half)):
        agree(shape, drawn(shape, mixed, device), max(TOLERANCES[dtype] for dtype in mixed))


def large_logits(device: str = "cpu") -> None:
    shape = (1, 1, 4, 3, 4, 3, 1, 1)
    q, k, v = drawn(shape, device=device)
    inputs = [(q.detach() * 1e3).requires_grad_(), (k.detach() * 1e3).requires_grad_(), v]
    assert torch.einsum("bmdhw,bmdhw->bmhw", inputs[0], inputs[1][..., 1:-1, 1:-1]).abs().max() > 1e5
    ours = passes(neighbourhood_attention, inputs, (3, 1, 1))
    theirs = passes(plain, inputs, (3, 1, 1), torch.float64)
    assert all(bool(t.isfinite().all()) for t in ours)
    torch.testing.assert_close(ours[0].double(), theirs[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[3].double(), theirs[3], rtol=1e-5, atol=1e-6)


def determinism(device: str = "cpu") -> None:
    shape = (1, 2, 5, 3, 5, 3, 1, 1)
    inputs = drawn(shape, device=device)
    for a, b in zip(*(passes(neighbourhood_attention, inputs, shape[5:]) for _ in range(2)), strict=True):
        assert torch.equal(a, b)


def gradients_that_are_not_wanted(device: str = "cpu") -> None:
    inputs = drawn((1, 1, 4, 3, 3, 3, 1, 1), device=device)
    whole = passes(neighbourhood_attention, inputs, (3, 1, 1))
    for wanted in ((0,), (1,), (2,), (0, 2)):
        some = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(inputs)]
        ours = passes(neighbourhood_attention, some, (3, 1, 1))
        for i, gradient in zip(wanted, ours[1:], strict=True):
            assert torch.equal(gradient, whole[1 + i])
    with torch.inference_mode():
        assert torch.equal(neighbourhood_attention(*inputs, 3), whole[0])
    with torch.autocast(device, torch.bfloat16):
        y = neighbourhood_attention(*inputs, 3)
    assert torch.equal(y, whole[0]), "autocast leaves the kernels alone"


def no_double_backward(device: str = "cpu") -> None:
    inputs = drawn((1, 1, 4, 2, 2, 1, 1, 1), device=device)
    y = neighbourhood_attention(*inputs, 1)
    (gradient,) = torch.autograd.grad(y.square().sum(), inputs[2], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradient.sum().backward()


def compiling(device: str = "cpu", backend: str = "aot_eager") -> None:
    def halved(q: Tensor, k: Tensor, v: Tensor, kernel: int) -> Tensor:
        assert available(q, k, v, kernel)
        return neighbourhood_attention(q, k, v, kernel) / 2

    inputs = drawn((1, 1, 4, 3, 4, 3, 1, 1), device=device, lay=channels_last)
    eager = passes(halved, inputs, (3,))
    compiled = passes(torch.compile(halved, backend=backend, fullgraph=True), inputs, (3,))
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b)


def an_operator_as_torch_wants_it(device: str = "cpu") -> None:
    inputs = drawn((1, 1, 4, 2, 3, 2, 1, 1), device=device)
    torch.library.opcheck(
        torch.ops.ablate.neighbourhood_attention.default,
        (*inputs, 2, 1, 1),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def what_does_not_belong_together(device: str = "cpu") -> None:
    q, k, v = drawn((1, 1, 4, 3, 4, 3, 1, 1), device=device)
    for wrong in ((q, k, v[..., 1:], 3), (q, k, v, 4), (q, k, v, 3, 2), (q, k, v, 3, 1, 2), (q[:, :, 1:], k, v, 3)):
        with pytest.raises(ValueError, match=r"q, k and v do not belong together|are not padded for kernel"):
            neighbourhood_attention(*wrong)


CHECKS: dict[str, Callable[..., None]] = {
    check.__name__: check
    for check in (
        shapes_and_windows,
        layouts,
        dtypes,
        large_logits,
        determinism,
        gradients_that_are_not_wanted,
        no_double_backward,
        compiling,
        an_operator_as_torch_wants_it,
        what_does_not_belong_together,
    )
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What failed in Triton's interpreter, by check; empty where nothing did."""
    pytest.importorskip("triton", reason="Triton is not installed")
    answer = tmp_path_factory.mktemp("interpreted") / "failures.json"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(answer)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failures: dict[str, str] = json.loads(answer.read_text())
    return failures


@pytest.mark.parametrize("check", CHECKS)
def test_the_kernels_interpreted_on_the_cpu(check: str, interpreted: dict[str, str]) -> None:
    assert not interpreted[check], interpreted[check]


@pytest.mark.gpu
@pytest.mark.parametrize("check", CHECKS)
def test_the_kernels_on_a_gpu(check: str) -> None:
    CHECKS[check](device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("lay", [lambda t: t, channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_on_a_gpu_they_equal_the_portable_form_on_real_maps(
    dtype: torch.dtype, lay: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablate.modules.kernels import neighbourhood

    for shape in ((2, 4, 16, 40, 40, 7, 1, 1), (2, 4, 64, 20, 20, 7, 1, 1), (1, 2, 24, 21, 33, 5, 2, 2)):
        inputs = drawn(shape, (dtype,) * 3, "cuda", lay)
        agree(shape, inputs, TOLERANCES[dtype])
        ours = passes(neighbourhood_attention, inputs, shape[5:])
        with monkeypatch.context() as patch:
            patch.setattr(neighbourhood_triton, "available", lambda *_: False)
            portable = passes(neighbourhood.neighbourhood_attention, inputs, shape[5:])
        for a, b in zip(ours, portable, strict=True):
            assert (a - b).abs().max() <= 2 * TOLERANCES[dtype] * b.abs().max()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*TensorFloat32.*:UserWarning")  # the compiler's advice to give up precision
def test_on_a_gpu_they_go_through_the_compiler() -> None:
    compiling("cuda", backend="inductor")


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ablate.modules.kernels import neighbourhood_kernels

window = dict(KERNEL=3, DILATION=1, STRIDE=2, D=5, BLOCK_D=8, BLOCK=64, NEEDED=True, NEEDED_K=True, NEEDED_V=True)
numbers = dict(q="bf16", k="fp32", v="bf16", out="bf16", grad="bf16", grad_q="bf16", grad_k="fp32", grad_v="bf16")
numbers.update(lse="fp32", delta="fp32")
for name in ("forward", "backward_queries", "backward_keys"):
    kernel = getattr(neighbourhood_kernels, name)
    fixed = {word: window[word] for word in kernel.arg_names if word in window}
    fixed.update({word: 1 for word in kernel.arg_names if word.endswith("_x")})
    types = {word: "*" + numbers[word] if word in numbers else "i32" for word in kernel.arg_names}
    types.update(dict.fromkeys(fixed, "constexpr"))
    source = ASTSource(kernel, types, {(kernel.arg_names.index(word),): value for word, value in fixed.items()})
    made = compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 2, "enable_fp_fusion": True})
    assert made.asm["cubin"]
    print(name)
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {word: value for word, value in os.environ.items() if word != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.split() == ["forward", "backward_queries", "backward_keys"], done.stderr


UNTOUCHED = """
import sys, torch
import ablate.modules.acmix
from ablate.modules.kernels import neighbourhood_triton
q = torch.ones(1, 1, 4, 2, 2)
assert not neighbourhood_triton.available(q, q, q, 1)
assert "triton" not in sys.modules, "imported without need"
"""


def test_triton_is_not_imported_before_it_is_needed() -> None:
    environment = {word: value for word, value in os.environ.items() if word != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_the_kernels_cannot_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    t = torch.ones(1, 1, 4, 2, 2)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not available(t, t, t, 1), "on the CPU"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert available(t, t, t, 1)
    assert not available(t, t.double(), t, 1), "float64"
    assert not available(t, t, t.to("meta"), 1), "on several devices"
    assert not available(t[:0], t[:0], t[:0], 1), "nothing"
    assert not available(t[0], t[0], t[0], 1), "four dimensions"
    assert not available(t, t, t, 0), "no window"
    wide = t.as_strided((1, 1, 257, 2, 2), (0, 0, 0, 2, 1))
    assert not available(wide, wide, wide, 1), "more channels than a block holds"
    many = t.as_strided((2**16, 1, 4, 2, 2), (0, 0, 4, 2, 1))
    assert not available(many, many, many, 1), "more images and heads than a grid's axis"
    far = t.as_strided((1, 1, 16, 2**14, 2**13), (0, 0, 0, 0, 0))
    assert not available(t, far, far, 1), "more than 32 bits of positions"
    monkeypatch.setattr(neighbourhood_triton, "_importable", lambda: False)
    assert not available(t, t, t, 1), "without Triton"


@pytest.mark.parametrize(("capability", "taken"), [((6, 1), False), ((7, 0), True), ((9, 0), True)])
def test_only_gpus_that_triton_compiles_for_are_taken(
    capability: tuple[int, int], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGPU(Tensor):
        device = torch.device("cuda:0")  # type: ignore[assignment]

    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    t = torch.ones(1, 1, 4, 2, 2).as_subclass(OnGPU)
    assert available(t, t, t, 1) is taken


if __name__ == "__main__":
    failures = {}
    for name, check in CHECKS.items():
        try:
            check()
            failures[name] = ""
        except Exception:
            failures[name] = traceback.format_exc()
    Path(sys.argv[1]).write_text(json.dumps(failures))
