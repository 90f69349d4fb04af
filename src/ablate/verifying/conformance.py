"""What every module of the registry must do, as functions that raise where one does not.

The registry is `conf/module/`: a module is tested by existing. The test suite runs each check on each module, and so
does `python -m ablate verify`, for a user's own modules too.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ablate.grafting.construction import construct
from ablate.grafting.contract import check_output
from ablate.settings.graft import ModuleSpec, module_names
from ablate.settings.option_files import check_option_file
from ablate.settings.schema import option_file

CHANNELS = 32
SIZES = ((1, 1), (2, 2), (1, 5), (3, 7), (8, 8), (9, 13), (20, 12), (21, 21))
# Feature scales under autocast: from about 300 on, products of features overflow float16 in the authors' forms.
SCALES = {torch.float16: (1.0, 300.0), torch.bfloat16: (1.0, 1e4)}

Build = Callable[[], nn.Module]


def registry() -> dict[str, Build]:
    """Return for each module of `conf/module/` (ours and the working folder's) what builds it with its defaults.

    A module with two forms is there twice: `acmix[fused=true]` and `acmix[fused=false]`.

    Raises:
        ConfigError: A file of the user's is not what a module needs.
    """
    builders: dict[str, Build] = {}
    for name in module_names():
        check_option_file("module", name)
        content = option_file("module", name)
        content.pop("defaults", None)
        if "fused" in content:
            for form in (True, False):
                module = ModuleSpec.from_plain({**content, "fused": form})
                builders[f"{name}[fused={str(form).lower()}]"] = _builder(module)
        else:
            builders[name] = _builder(ModuleSpec.from_plain(content))
    return builders


def _builder(spec: ModuleSpec) -> Build:
    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = construct(spec, CHANNELS, 0, "alone")
            for parameter in module.parameters():  # nothing left at zero or one, where faults hide
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        return module

    return build


def keeps_the_shape_at_any_size(build: Build) -> None:
    """1x1, 2x2, odd and non-divisible maps come out with their shape, finite, and can be trained on."""
    for height, width in SIZES:
        module = build().train()
        x = _image(2, height, width).requires_grad_()
        y = module(x)
        check_output(y, tuple(x.shape), x)
        y.square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all(), f"gradient not finite at {height}x{width}"
        for name, parameter in module.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), f"gradient of {name} at {height}x{width}"


def survives_constant_images(build: Build) -> None:
    """The zero image, with which a network measures its strides, and constant channels give finite values."""
    module = build()
    for x in (torch.zeros(2, CHANNELS, 8, 8), torch.ones(2, CHANNELS, 8, 8), _image(2, 8, 8) * _one_dead_channel()):
        x = x.requires_grad_()
        y = module(x)
        assert y.isfinite().all(), "output not finite for a constant image"
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all(), "gradient not finite for a constant image"


def stays_finite_under_autocast(build: Build) -> None:
    """float16 and bfloat16 autocast give finite outputs and gradients, also for large features."""
    for dtype, scales in SCALES.items():
        for scale in scales:
            module = build()
            x = (_image(2, 9, 12) * scale).requires_grad_()
            with torch.autocast("cpu", dtype):
                y = module(x)
            assert y.isfinite().all(), f"output not finite under {dtype} at feature scale {scale:g}"
            y.float().square().mean().backward()
            assert x.grad is not None
            assert x.grad.isfinite().all(), f"gradient not finite under {dtype} at feature scale {scale:g}"


def runs_in_other_dtypes(build: Build) -> None:
    """The whole module can be cast to bfloat16, float16 and float64, and keeps the dtype."""
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        module = build().to(dtype).eval()
        x = _image(1, 9, 12).to(dtype)
        check_output(module(x), tuple(x.shape), x)


def every_parameter_gets_a_gradient(build: Build) -> None:
    """Each trainable parameter gets a gradient that is not None, and not zero on random images throughout."""
    module = build().train()
    if not list(module.parameters()):
        return
    module(_image(2, 16, 16)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad, f"{name} is a parameter without gradient; Ultralytics' trainer would train it"
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.abs().max() > 0, f"the gradient of {name} is zero"


def treats_each_image_by_itself(build: Build) -> None:
    """In eval mode an image's output is the same alone and in a batch."""
    module = build().eval()
    x = _image(4, 12, 10)
    together = module(x)
    for index in range(len(x)):
        _assert_close(module(x[index : index + 1]), together[index : index + 1], "alone and in a batch")


def does_not_depend_on_the_image_before(build: Build) -> None:
    """The same image gives the same output again, whatever ran in between."""
    module = build().eval()
    x = _image(1, 12, 10)
    first = module(x)
    module(_image(3, 7, 9, seed=5))
    assert torch.equal(module(x), first), "the output depends on what ran before"


def survives_round_trips(build: Build) -> None:
    """State dict, deepcopy, pickle and torch.save give a module with the same output; also after it ran."""
    module = build().eval()
    x = _image(2, 9, 12)
    expected = module(x)
    fresh = build().eval()
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_state_dict(module.state_dict(), strict=True)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    copies = {
        "state dict": fresh,
        "deepcopy": copy.deepcopy(module),
        "pickle": pickle.loads(pickle.dumps(module)),
        "torch.save": torch.load(buffer, weights_only=False),
    }
    for how, other in copies.items():
        assert torch.equal(other(x), expected), f"another output after {how}"


def state_dict_does_not_depend_on_what_ran(build: Build) -> None:
    """Nothing is added to the state dict by running at several sizes."""
    module = build()
    before = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for height, width in SIZES[-4:]:
        module(_image(1, height, width))
    after = {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert before == after, "the state dict changed by running"


def accepts_channels_last(build: Build) -> None:
    """channels_last tensors and weights, batch of 2 and more, give the same values."""
    module = build().eval()
    x = _image(2, 10, 12)
    expected = module(x)
    _assert_close(module(x.to(memory_format=torch.channels_last)), expected, "channels_last input")
    module = module.to(memory_format=torch.channels_last)
    y = module(x.to(memory_format=torch.channels_last).requires_grad_())
    _assert_close(y, expected, "channels_last weights")
    y.sum().backward()


def leaves_no_tensor_on_another_device(build: Build) -> None:
    """After it ran on one device a module moves to another (meta; CUDA where there is one) and runs there."""
    module = build().eval()
    module(_image(1, 9, 12))
    with torch.no_grad():
        y = copy.deepcopy(module).to("meta")(_image(1, 9, 12).to("meta"))
    assert y.device.type == "meta", f"the output is on {y.device}"
    if torch.cuda.is_available():
        expected = module(_image(1, 9, 12))
        _assert_close(module.cuda()(_image(1, 9, 12).cuda()).cpu(), expected, "on CUDA", tolerance=1e-3)


def declares_what_is_no_weight_matrix(build: Build) -> None:
    """`no_weight_decay()` names existing parameters, and every table and scalar that the optimizer would mistake."""
    module = build()
    declared: set[str] = getattr(module, "no_weight_decay", set)()
    parameters = dict(module.named_parameters())
    assert declared <= set(parameters), f"unknown names: {sorted(declared - set(parameters))}"
    for name, parameter in parameters.items():
        if "bias_table" in name or "temperature" in name or parameter.numel() == 1:
            assert name in declared, f"{name} would get weight decay or an orthogonalised step"


CHECKS: dict[str, Callable[[Build], None]] = {
    check.__name__: check
    for check in (
        keeps_the_shape_at_any_size,
        survives_constant_images,
        stays_finite_under_autocast,
        runs_in_other_dtypes,
        every_parameter_gets_a_gradient,
        treats_each_image_by_itself,
        does_not_depend_on_the_image_before,
        survives_round_trips,
        state_dict_does_not_depend_on_what_ran,
        accepts_channels_last,
        leaves_no_tensor_on_another_device,
        declares_what_is_no_weight_matrix,
    )
}


def run_checks(build: Build) -> Iterator[tuple[str, str | None]]:
    """Run every check on one module; yield its name and what went wrong, or None."""
    for name, check in CHECKS.items():
        try:
            with _seeded():
                check(build)
        except (Exception, SystemExit) as error:  # whatever a module raises is its failure, not ours
            yield name, f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        else:
            yield name, None


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _image(batch: int, height: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed))


def _one_dead_channel() -> Tensor:
    alive = torch.ones(1, CHANNELS, 1, 1)
    alive[:, 3] = 0
    return alive


def _assert_close(ours: Tensor, expected: Tensor, where: str, tolerance: float = 1e-4) -> None:
    error = float(((ours - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).detach())
    assert error < tolerance, f"{where}: relative difference {error:.1e}"
