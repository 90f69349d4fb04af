"""What every module of the registry must do, as functions that raise where one does not.

The test suite runs each check on each module, and so does `python -m ablate verify`, for a user's own modules too. What
a check raises is an error: it would make a wrong or a failing trial. What it returns are notes: what fails only at
sizes, devices or values that a trial may never meet, and what Ultralytics treats otherwise than the module's author may
expect.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from ablate.grafting.construction import construct
from ablate.grafting.contract import check_output
from ablate.grafting.module_calls import is_of_user, limited, reason, start_clock, stop_clock
from ablate.settings.environment import prepare
from ablate.settings.graft import ModuleSpec
from ablate.verifying.examination import Examination, Finding

CHANNELS = (32, 64, 128, 256)  # the first that the constructor takes is checked
SIZES = ((1, 1), (2, 2), (1, 5), (3, 7), (8, 8), (9, 13), (20, 12), (21, 21))
TINY = 4  # sides below it are those of maps at stride 32 of images below 128 px
# Feature scales under autocast: from about 300 on, products of features overflow float16 in the authors' forms.
SCALES = {torch.float16: (1.0, 300.0), torch.bfloat16: (1.0, 1e4)}
CHECK_SECONDS = 300.0  # that one check may take

Notes = Sequence[str]


@dataclass(frozen=True)
class Subject:
    """A module that is checked.

    Attributes:
        spec: Its class and options.
        channels: Of the maps that it is checked with.
    """

    spec: ModuleSpec
    channels: int = CHANNELS[0]

    def build(self) -> nn.Module:
        """Return a new module, the same each time; no parameter is left at zero or one, where faults hide."""
        module = construct(self.spec, self.channels, 0, "alone")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return module

    def image(self, batch: int, height: int, width: int, seed: int = 1) -> Tensor:
        """Return random maps (batch, channels, height, width)."""
        return torch.randn(batch, self.channels, height, width, generator=torch.Generator().manual_seed(seed))


def keeps_the_shape_at_any_size(subject: Subject) -> Notes:
    """1x1, 2x2, odd and non-divisible maps come out with their shape, finite, and can be trained on."""
    notes = []
    x = subject.image(2, 8, 8)
    before = x.clone()
    subject.build().train()(x)
    if not torch.equal(x, before):
        notes.append("changes its input in place; refused where others read it: at head, with residual and rezero")
    for height, width in SIZES:
        module = subject.build().train()
        x = subject.image(2, height, width).requires_grad_()
        try:
            y = module(x.clone())
            check_output(y, tuple(x.shape), x)
            if y.requires_grad:
                y.square().sum().backward()
            _assert_finite_gradients(module, x, f"at {height}x{width}")
        except Exception as error:
            if min(height, width) >= TINY:
                raise
            notes.append(f"not for maps of {height}x{width}: {reason(error)}")
    return notes


def _assert_finite_gradients(module: nn.Module, x: Tensor, where: str) -> None:
    assert x.grad is None or x.grad.isfinite().all(), f"gradient not finite {where}"
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"gradient of {name} {where}"


def survives_constant_images(subject: Subject) -> Notes:
    """The zero image, with which a network measures its strides, and constant channels give finite values."""
    module, notes = subject.build(), []
    flat = torch.ones(2, subject.channels, 8, 8)
    for x in (0 * flat, flat, subject.image(2, 8, 8) * _one_dead_channel(subject.channels)):
        x = x.requires_grad_()
        y = module(x.clone())
        assert y.isfinite().all(), "output not finite for a constant image"
        if y.requires_grad:
            y.sum().backward()
        if x.grad is not None and not x.grad.isfinite().all():
            notes.append("gradient not finite for a constant image")
    return notes


def stays_finite_under_autocast(subject: Subject) -> Notes:
    """float16 and bfloat16 autocast give finite outputs and gradients, also for large features."""
    notes = []
    for dtype, scales in SCALES.items():
        for scale in scales:
            where = f"under {dtype} at feature scale {scale:g}"
            try:
                module = subject.build()
                x = (subject.image(2, 9, 12) * scale).requires_grad_()
                with torch.autocast("cpu", dtype):
                    y = module(x.clone())
                if y.requires_grad:
                    y.float().square().mean().backward()
            except Exception as error:
                notes.append(f"raises {where}: {reason(error)}")
                continue
            finite = y.isfinite().all() and (x.grad is None or x.grad.isfinite().all())
            assert finite or scale > 1, f"not finite {where}"
            notes += [] if finite else [f"not finite {where}"]
    return notes


def runs_in_other_dtypes(subject: Subject) -> Notes:
    """The whole module can be cast to bfloat16, float16 and float64, and keeps the dtype."""
    notes = []
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        try:
            module = subject.build().to(dtype).eval()
            x = subject.image(1, 9, 12).to(dtype)
            check_output(module(x.clone()), tuple(x.shape), x)
        except Exception as error:
            use = ", in which a GPU validates with train.amp=true" if dtype is torch.float16 else ""
            notes.append(f"not in {str(dtype).removeprefix('torch.')}{use}: {reason(error)}")
    return notes


def every_parameter_gets_a_gradient(subject: Subject) -> Notes:
    """Each trainable parameter gets a gradient that is not None, and not zero on random images throughout."""
    module = subject.build().train()
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        assert parameter.requires_grad, f"{name} is a parameter without gradient; Ultralytics' trainer would train it"
    y = module(subject.image(2, 16, 16))
    if not parameters or not y.requires_grad:
        return [f"{name} gets no gradient" for name in parameters]
    y.square().sum().backward()
    idle = {name: p.grad is None or not p.grad.abs().max() > 0 for name, p in parameters.items()}
    return [f"{name} gets no gradient" for name in parameters if idle[name]]


def treats_each_image_by_itself(subject: Subject) -> Notes:
    """In eval mode an image's output is the same alone and in a batch."""
    module = subject.build().eval()
    x = subject.image(4, 12, 10)
    together = module(x.clone())
    for index in range(len(x)):
        _assert_close(module(x[index : index + 1].clone()), together[index : index + 1], "alone and in a batch")
    return ()


def does_not_depend_on_the_image_before(subject: Subject) -> Notes:
    """The same image gives the same output again, whatever ran in between."""
    module = subject.build().eval()
    x = subject.image(1, 12, 10)
    first = module(x.clone())
    module(subject.image(3, 7, 9, seed=5))
    assert torch.equal(module(x.clone()), first), "the output depends on what ran before"
    return ()


def survives_round_trips(subject: Subject) -> Notes:
    """State dict, deepcopy, pickle and torch.save give a module with the same output; also after it ran."""
    module = subject.build().eval()
    x = subject.image(2, 9, 12)
    expected = module(x.clone())
    fresh = subject.build().eval()
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
        assert torch.equal(other(x.clone()), expected), f"another output after {how}"
    return ()


def state_dict_does_not_depend_on_what_ran(subject: Subject) -> Notes:
    """Nothing is added to the state dict by running at several sizes."""
    module = subject.build()
    parameters = dict(module.named_parameters())
    before = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for height, width in SIZES[-4:]:
        module(subject.image(2, height, width))
    now = dict(module.named_parameters())
    late = [name for name, parameter in now.items() if parameters.get(name) is not parameter]
    assert not late, f"parameters made in a forward, which nothing trains: {', '.join(late)}"
    after = {name: tensor.shape for name, tensor in module.state_dict().items()}
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"running changes {name} in the state: an interrupted training cannot resume" for name in changed]


def accepts_channels_last(subject: Subject) -> Notes:
    """channels_last tensors and weights, batch of 2 and more, give the same values."""
    module = subject.build().eval()
    x = subject.image(2, 10, 12)
    expected = module(x.clone())
    _assert_close(module(x.clone(memory_format=torch.channels_last)), expected, "channels_last input")
    module = module.to(memory_format=torch.channels_last)
    y = module(x.clone(memory_format=torch.channels_last).requires_grad_() * 1)
    _assert_close(y, expected, "channels_last weights")
    y.sum().backward()
    return ()


def leaves_no_tensor_on_another_device(subject: Subject) -> Notes:
    """After it ran on one device a module moves to another (meta; CUDA where there is one) and runs there."""
    module, notes = subject.build().eval(), []
    x = subject.image(1, 9, 12)
    expected = module(x.clone())
    moved = copy.deepcopy(module).to("meta")
    try:
        with torch.no_grad():
            y = moved(x.to("meta"))
    except Exception as error:
        if "same device" in str(error) or "on cpu" in str(error).lower():
            raise
        notes.append(f"needs values, not shapes alone: {reason(error)}")
    else:
        assert y.device.type == "meta", f"the output is on {y.device}"
    if torch.cuda.is_available():
        _assert_close(module.cuda()(x.cuda()).cpu(), expected, "on CUDA", tolerance=1e-3)
    return notes


def declares_what_is_no_weight_matrix(subject: Subject) -> Notes:
    """`no_weight_decay()` names existing parameters, and every table and scalar that the optimizer would mistake.

    Ultralytics itself exempts biases and what norms have from weight decay.
    """
    module = subject.build()
    parameters = dict(module.named_parameters())
    declared: set[str] = set()
    exempt: set[str] = set()
    norms = tuple(kind for name, kind in vars(nn).items() if "Norm" in name)
    for path, inner in module.named_modules():
        names = getattr(inner, "no_weight_decay", None)
        declared |= {f"{path}.{name}".lstrip(".") for name in names()} if callable(names) else set()
        for name, parameter in inner.named_parameters(recurse=False):
            if parameter.ndim not in (2, 4) and ("bias" in name or "logit_scale" in name or isinstance(inner, norms)):
                exempt.add(f"{path}.{name}".lstrip("."))
    assert declared <= set(parameters), f"unknown names: {sorted(declared - set(parameters))}"
    return [
        f"{name} gets weight decay or an orthogonalised step, unless no_weight_decay() names it"
        for name, parameter in parameters.items()
        if name not in declared | exempt
        and ("bias_table" in name or "temperature" in name or (parameter.numel() == 1 and subject.channels > 1))
    ]


CHECKS: dict[str, Callable[[Subject], Notes]] = {
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


def examine(spec: ModuleSpec) -> Examination:
    """Run every check on one module; runs in a worker, for the module's code may do anything."""
    prepare()
    with TemporaryDirectory(prefix="ablate-verify-") as folder, limited(Path(folder) / "running"):
        first: BaseException | None = None
        for channels in CHANNELS:
            try:
                Subject(spec, channels).build()
            except Exception as error:
                first = first or error
                continue
            findings = list(run_checks(Subject(spec, channels)))
            if first is not None:
                findings.append(
                    Finding(
                        "constructor", "note", f"{reason(first).partition(': ')[2]}; checked with {channels} channels"
                    )
                )
            return Examination(len(CHECKS), tuple(findings))
    assert first is not None
    return Examination(0, (Finding("constructor", "error", reason(first).partition(": ")[2]),))


def run_checks(subject: Subject) -> Iterator[Finding]:
    """Run every check on one module; yield what was found."""
    for name, check in CHECKS.items():
        start_clock(f"{subject.spec.target} {name}", CHECK_SECONDS)
        try:
            with _seeded():
                notes = check(subject)
        except BaseException as error:  # whatever a module raises is its failure, not ours
            if is_of_user(error):
                raise
            yield Finding(name, "error", reason(error))
        else:
            yield from (Finding(name, "note", note) for note in dict.fromkeys(notes))
        finally:
            stop_clock()


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _one_dead_channel(channels: int) -> Tensor:
    alive = torch.ones(1, channels, 1, 1)
    alive[:, 3] = 0
    return alive


def _assert_close(ours: Tensor, expected: Tensor, where: str, tolerance: float = 1e-4) -> None:
    error = float(((ours - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).detach())
    assert error < tolerance, f"{where}: relative difference {error:.1e}"
