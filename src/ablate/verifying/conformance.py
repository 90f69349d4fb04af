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
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ablate.grafting.module_calls import is_of_user, limited, reason, start_clock, stop_clock
from ablate.settings.environment import prepare
from ablate.settings.graft import ModuleSpec
from ablate.verifying.examination import Examination, Finding
from ablate.verifying.subject import CHANNELS, Maps, Subject

SIZES = ((1, 1), (2, 2), (1, 5), (3, 7), (8, 8), (9, 13), (20, 12), (21, 21))
TINY = 4  # sides below it are those of maps at stride 32 of images below 128 px
# Feature scales under autocast: from about 300 on, products of features overflow float16 in the authors' forms.
SCALES = {torch.float16: (1.0, 300.0), torch.bfloat16: (1.0, 1e4)}
CHECK_SECONDS = 300.0  # that one check may take

IN_PLACE = "changes its input in place; refused where others read it: at head, with residual and rezero"
ONE_NUMBER = "returns as many channels as it receives: it fits in place of layers that do"
WHOLE_HEAD = "what takes the place of Detect is checked in a network: python -m ablate plan head=<name> -m"

Notes = Sequence[str]


def keeps_the_shape_at_any_size(subject: Subject) -> Notes:
    """1x1, 2x2, odd and non-divisible maps give the shape that the kind needs, finite, and can be trained on."""
    notes = []
    maps = subject.maps(2, 8, 8)
    before = [each.clone() for each in maps]
    subject.run(subject.build().train(), maps)
    if not all(map(torch.equal, maps, before)):
        notes.append(
            IN_PLACE if subject.kind == "insert" else "changes its input in place, which other layers may read"
        )
    for height, width in SIZES:
        module = subject.build().train()
        maps = [each.requires_grad_() for each in subject.maps(2, height, width)]
        try:
            outputs = _run(subject, module, maps)
            subject.check(outputs, maps)
            _backward(outputs)
            _assert_finite_gradients(module, maps, f"at {height}x{width}")
        except Exception as error:
            if min(height, width) >= TINY:
                raise
            notes.append(f"not for maps of {height}x{width}: {reason(error)}")
    return notes


def _run(subject: Subject, module: nn.Module, maps: Maps) -> Maps:
    """Return what a module makes of copies of maps, which it may change."""
    return subject.run(module, [each.clone() for each in maps])


def _backward(outputs: Maps, measure: Callable[[Tensor], Tensor] = lambda y: y.square().sum()) -> None:
    """Compute gradients of a number that a measure makes of the outputs, where they have any."""
    total = sum(measure(each) for each in outputs if each.requires_grad)
    if isinstance(total, Tensor):
        total.backward()  # type: ignore[no-untyped-call]


def _assert_finite_gradients(module: nn.Module, maps: Maps, where: str) -> None:
    assert all(x.grad is None or x.grad.isfinite().all() for x in maps), f"gradient not finite {where}"
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"gradient of {name} {where}"


def survives_constant_images(subject: Subject) -> Notes:
    """The zero image, with which a network measures its strides, and constant channels give finite values."""
    module, notes = subject.build(), []
    flat = [torch.ones_like(each) for each in subject.maps(2, 8, 8)]
    dead = [each * _one_dead_channel(each.shape[1]) for each in subject.maps(2, 8, 8)]
    for maps in ([0 * each for each in flat], flat, dead):
        maps = [each.requires_grad_() for each in maps]
        outputs = _run(subject, module, maps)
        assert all(each.isfinite().all() for each in outputs), "output not finite for a constant image"
        _backward(outputs, torch.sum)
        if any(x.grad is not None and not x.grad.isfinite().all() for x in maps):
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
                maps = [(each * scale).requires_grad_() for each in subject.maps(2, 9, 12)]
                with torch.autocast("cpu", dtype):
                    outputs = _run(subject, module, maps)
                _backward(outputs, lambda y: y.float().square().mean())
            except Exception as error:
                notes.append(f"raises {where}: {reason(error)}")
                continue
            tensors = [*outputs, *(x.grad for x in maps if x.grad is not None)]
            finite = all(each.isfinite().all() for each in tensors)
            assert finite or scale > 1, f"not finite {where}"
            notes += [] if finite else [f"not finite {where}"]
    return notes


def runs_in_other_dtypes(subject: Subject) -> Notes:
    """The whole module can be cast to bfloat16, float16 and float64, and keeps the dtype."""
    notes = []
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        try:
            module = subject.build().to(dtype).eval()
            maps = [each.to(dtype) for each in subject.maps(1, 9, 12)]
            subject.check(_run(subject, module, maps), maps)
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
    _backward(_run(subject, module, subject.maps(2, 16, 16)))
    idle = {name: p.grad is None or not p.grad.abs().max() > 0 for name, p in parameters.items()}
    return [f"{name} gets no gradient" for name in parameters if idle[name]]


def treats_each_image_by_itself(subject: Subject) -> Notes:
    """In eval mode an image's output is the same alone and in a batch."""
    module = subject.build().eval()
    maps = subject.maps(4, 12, 10)
    together = _run(subject, module, maps)
    for index in range(len(maps[0])):
        alone = _run(subject, module, [each[index : index + 1] for each in maps])
        _assert_close(alone, [each[index : index + 1] for each in together], "alone and in a batch")
    return ()


def does_not_depend_on_the_image_before(subject: Subject) -> Notes:
    """The same image gives the same output again, whatever ran in between."""
    module = subject.build().eval()
    maps = subject.maps(1, 12, 10)
    first = _run(subject, module, maps)
    _run(subject, module, subject.maps(3, 7, 9, seed=5))
    assert _equal(_run(subject, module, maps), first), "the output depends on what ran before"
    return ()


def survives_round_trips(subject: Subject) -> Notes:
    """State dict, deepcopy, pickle and torch.save give a module with the same output; also after it ran."""
    module = subject.build().eval()
    maps = subject.maps(2, 9, 12)
    expected = _run(subject, module, maps)
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
        assert _equal(_run(subject, other, maps), expected), f"another output after {how}"
    return ()


def state_dict_does_not_depend_on_what_ran(subject: Subject) -> Notes:
    """Nothing is added to the state dict by running at several sizes."""
    module = subject.build()
    parameters = dict(module.named_parameters())
    before = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for height, width in SIZES[-4:]:
        subject.run(module, subject.maps(2, height, width))
    now = dict(module.named_parameters())
    late = [name for name, parameter in now.items() if parameters.get(name) is not parameter]
    assert not late, f"parameters made in a forward, which nothing trains: {', '.join(late)}"
    after = {name: tensor.shape for name, tensor in module.state_dict().items()}
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"running changes {name} in the state: an interrupted training cannot resume" for name in changed]


def accepts_channels_last(subject: Subject) -> Notes:
    """channels_last tensors and weights, batch of 2 and more, give the same values."""
    module = subject.build().eval()
    maps = subject.maps(2, 10, 12)
    last = [each.clone(memory_format=torch.channels_last) for each in maps]
    expected = _run(subject, module, maps)
    _assert_close(_run(subject, module, last), expected, "channels_last input")
    module = module.to(memory_format=torch.channels_last)
    outputs = subject.run(module, [each.clone().requires_grad_() * 1 for each in last])
    _assert_close(outputs, expected, "channels_last weights")
    _backward(outputs, torch.sum)
    return ()


def leaves_no_tensor_on_another_device(subject: Subject) -> Notes:
    """After it ran on one device a module moves to another (meta; CUDA where there is one) and runs there."""
    module, notes = subject.build().eval(), []
    maps = subject.maps(1, 9, 12)
    expected = _run(subject, module, maps)
    moved = copy.deepcopy(module).to("meta")
    try:
        with torch.no_grad():
            outputs = subject.run(moved, [each.to("meta") for each in maps])
    except Exception as error:
        if "same device" in str(error) or "on cpu" in str(error).lower():
            raise
        notes.append(f"needs values, not shapes alone: {reason(error)}")
    else:
        for y in outputs:
            assert y.device.type == "meta", f"the output is on {y.device}"
    if torch.cuda.is_available():
        on_gpu = subject.run(module.cuda(), [each.cuda() for each in maps])
        _assert_close([each.cpu() for each in on_gpu], expected, "on CUDA", tolerance=1e-3)
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
    """Run every check on one module as each of its kinds; runs in a worker, for the module's code may do anything."""
    prepare()
    kinds = spec.kinds or ("insert",)
    with TemporaryDirectory(prefix="ablate-verify-") as folder, limited(Path(folder) / "running"):
        examinations = [_examine(spec, kind, several=len(kinds) > 1) for kind in kinds]
    findings = [finding for each in examinations for finding in each.findings]
    return Examination(sum(each.checks for each in examinations), tuple(dict.fromkeys(findings)))


def _examine(spec: ModuleSpec, kind: str, *, several: bool) -> Examination:
    """Run every check on one module as one kind."""
    as_kind = f"as {kind}: " if several else ""
    try:
        if kind == "head" and Subject(spec, kind=kind).is_head:
            return Examination(1, (Finding("head", "note", f"{as_kind}{WHOLE_HEAD}"),))
        buildable = subject_of(spec, kind)
    except Exception as error:
        return Examination(0, (Finding("constructor", "error", f"{as_kind}{reason(error).partition(': ')[2]}"),))
    findings = [replace(finding, text=f"{as_kind}{finding.text}") for finding in run_checks(buildable.subject)]
    findings += [Finding("constructor", "note", f"{as_kind}{note}") for note in buildable.notes]
    return Examination(len(CHECKS), tuple(findings))


class Buildable(NamedTuple):
    """How a module can be checked, and what its constructor refused before."""

    subject: Subject
    notes: list[str]


def subject_of(spec: ModuleSpec, kind: str) -> Buildable:
    """Return a module with the first number of channels that its constructor takes.

    A block is checked with other output channels than input channels where it takes two numbers.

    Raises:
        Exception: Of its constructor, which takes none of them.
    """
    first: Exception | None = None
    for channels in CHANNELS:
        for widens in (True, False) if kind == "block" else (False,):
            subject = Subject(spec, channels, kind, widens)
            try:
                module = subject.build()
                if widens:
                    subject.run(module, subject.maps(2, 8, 8))
            except Exception as error:
                first = first or error
                continue
            notes = [ONE_NUMBER] if kind == "block" and not widens else []
            if first is not None and channels != CHANNELS[0]:
                notes.append(f"{reason(first).partition(': ')[2]}; checked with {channels} channels")
            return Buildable(subject, notes)
    assert first is not None
    raise first


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


def _equal(ours: Maps, expected: Maps) -> bool:
    return len(ours) == len(expected) and all(map(torch.equal, ours, expected))


def _assert_close(ours: Maps, expected: Maps, where: str, tolerance: float = 1e-4) -> None:
    for one, other in zip(ours, expected, strict=True):
        error = float(((one - other).abs().max() / other.abs().max().clamp_min(1e-12)).detach())
        assert error < tolerance, f"{where}: relative difference {error:.1e}"
