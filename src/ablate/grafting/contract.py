"""What a module's output must be: finite, of its input's dtype and device, and of the shape that its kind says.

A module that is inserted returns its input's shape; what replaces a layer returns what the layer would have returned
(`ablate.grafting.placed.returned_shape`); an adapter before Detect returns maps of the shapes that it received.

One contract in two places: the preflight holds the modules of each network to it where they are grafted, before
anything trains, and the conformance suite holds a module to it alone.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ablate.grafting.construction import made_too_late
from ablate.grafting.contract_findings import Findings
from ablate.grafting.insertion import GraftError
from ablate.grafting.module_calls import NoReturn, calling, detail, is_of_user, start_clock, stop_clock
from ablate.grafting.placed import Placed, Shape, in_words, placed_modules, returned_shape, tensors_in

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

# Parameters x pixels up to which a network is run with values: YOLO26n at 640 px has 1.1e12. A larger one is run with
# values on a smaller image, and at its own size with shapes alone. With gradients, which keep every map: a part of it.
BUDGET = 1.5e12
GRADIENT_BUDGET = BUDGET / 4
_TRAINED = 2  # images in train mode: one may be too few for a batch norm, and has a note of its own


class ContractError(GraftError):
    """A module's output is not what its place needs; the message says what it returned for what."""


def check_output(
    output: Any,
    shape: Shape | list[Shape],
    like: Tensor,
    *,
    finite: bool = True,
    kind: str = "insert",
    channels: int | None = None,
) -> None:
    """Check a module's output against its input.

    Args:
        output: What the module returned.
        shape: Shape of its input, (B, C, H, W); of each of its inputs for the kinds fuse and head.
        like: A tensor of the input's dtype and device.
        finite: Whether to look at the values; not possible on the meta device.
        kind: What the module is at its place, of `ablate.settings.about.KINDS`.
        channels: Of the map that it has to return; None: those that it receives.

    Raises:
        ContractError: The message says what it returned, and for which input.
    """
    needed = returned_shape(kind, shape, channels)
    if isinstance(needed, list):
        if not isinstance(output, list | tuple) or len(output) != len(needed):
            raise ContractError(f"returned {_kind(output)} for {in_words(shape)}; as many maps are needed")
        for each, one in zip(output, needed, strict=True):
            check_output(each, one, like, finite=finite)
        return
    wanted = f"for {in_words(shape)}"
    if not isinstance(output, Tensor):
        same = "the same shape" if kind == "insert" else f"shape {needed}"
        raise ContractError(f"returned {_kind(output)} {wanted}; a tensor of {same} is needed")
    if tuple(output.shape) != needed:
        instead = "" if kind == "insert" else f"; {needed} is needed"
        raise ContractError(f"returned {tuple(output.shape)} {wanted}{instead}")
    if output.dtype != like.dtype:
        raise ContractError(f"returned {_name(output.dtype)} {wanted} of {_name(like.dtype)}")
    if output.device != like.device:
        raise ContractError(f"returned a tensor on {output.device} {wanted} on {like.device}")
    if finite and not output.is_meta:
        odd = int((~output.detach().isfinite()).sum())
        if odd:
            raise ContractError(f"returned {odd} values of {output.numel()} that are not finite {wanted}")


def check_grafts(network: DetectionModel, imgsz: int, names: Mapping[str, str]) -> Findings:
    """Run a network and hold each module that was put into it to the contract, at two image sizes and in both modes.

    The second image is not square, as images in validation are. The network is spent by it: batch statistics change,
    and a module may keep what it has seen.

    Args:
        network: Built and grafted, on the CPU.
        imgsz: Height and width of the images that it is trained on.
        names: Readable name of a module by the path of its class or function.

    Raises:
        ContractError: One breaks the contract or raises; the message begins with the module and its place.
    """
    grafts = placed_modules(network)
    if not grafts:
        return Findings()
    step = int(max(network.stride))
    side = -(-imgsz // step) * step  # as Ultralytics rounds it
    small, tiny = (affordable(network, side, step, budget) for budget in (BUDGET, GRADIENT_BUDGET))
    watch = _Watch(network, {graft: _label(graft, names) for graft in grafts})
    _check_hooks(watch.labels)
    network.eval()
    with torch.no_grad():
        if small < side:
            _run_without_values(network, watch, ((side, side), in_validation(side, step)))
        for height, width in ((small, small), in_validation(small, step)):
            watch.run(1, height, width, real=small == side)
        network.train()
        watch.run(_TRAINED, small, small, real=small == side)
        network.eval()
    watch.run(1, tiny, tiny, gradients=True, real=tiny == side)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        watch.run(1, tiny, tiny, autocast=True)
    return Findings(tuple(dict.fromkeys(watch.notes)), watch.with_one_image(), watch.mixed)


def check_copies(network: nn.Module) -> None:
    """Check that the grafted modules of a network can be copied and saved, as training does with them.

    Raises:
        ModuleError: One cannot.
    """
    for graft in placed_modules(network):
        with calling(graft.target, f"at {graft.insertion}: cannot be copied, as the average of weights (EMA) is"):
            deepcopy(graft.module)
        with calling(graft.target, f"at {graft.insertion}: cannot be saved in a checkpoint"):
            pickle.dumps(graft.module)


@dataclass
class _Watch:
    """Runs a network with a look at the input and output of each graft's module."""

    network: DetectionModel
    labels: dict[Placed, str]
    notes: list[str] = field(default_factory=list)
    mixed: str | None = None
    seen: dict[Placed, Tensor | list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = {graft: dict(graft.module.named_parameters()) for graft in self.labels}
        self.state = {graft: set(graft.module.state_dict()) for graft in self.labels}

    def run(
        self,
        batch: int,
        height: int,
        width: int,
        *,
        gradients: bool = False,
        autocast: bool = False,
        real: bool = True,
    ) -> None:
        """Run random images through the network.

        Args:
            batch: Number of images.
            height: Of the images, pixels.
            width: Of the images, pixels.
            gradients: Also look at the gradients of each module.
            autocast: The caller runs it under automatic mixed precision, where either dtype will do.
            real: Whether the trial has images of this size; else a module that raises may do so for the size alone.

        Raises:
            ContractError: A module breaks the contract or raises.
        """
        parameter = next(self.network.parameters())
        shape = (batch, self.network.yaml.get("channels", 3), height, width)
        image = torch.zeros(shape, device="meta") if parameter.is_meta else noise(shape)
        entered: list[_Entered] = []

        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            call = _Entered.of(owners[module], inputs[0])
            entered.append(call)
            start_clock(f"{call.graft.target} at {call.graft.insertion}: forward of {in_words(call.shape)}")

        def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            stop_clock()
            call = entered.pop()
            graft = call.graft
            with _named(self.labels[graft]):
                first, maps = tensors_in(output), call.maps
                like = first[0] if autocast and first else maps[0]  # either dtype will do there
                if not graft.is_head:
                    check_output(output, call.shape, like, kind=graft.kind, channels=graft.channels)
                if [each._version for each in maps] != call.versions:
                    self._changes_input(graft)
                self._look_at_parameters(graft)
                if gradients:
                    self._look_at_gradients(graft, maps, first)
                    copies = [each.detach().clone() for each in maps]
                    self.seen[graft] = copies if isinstance(inputs[0], list | tuple) else copies[0]

        owners = {graft.module: graft for graft in self.labels}
        handles = [module.register_forward_pre_hook(enter) for module in owners]
        handles += [module.register_forward_hook(leave) for module in owners]
        try:
            self.network(image)
        except BaseException as error:
            if is_of_user(error) or not (entered or isinstance(error, Exception)):
                raise
            self._take_down(error, entered, autocast=autocast, real=real)
        finally:
            for _ in entered:
                stop_clock()
            for handle in handles:
                handle.remove()

    def _take_down(self, error: BaseException, entered: Sequence[_Entered], *, autocast: bool, real: bool) -> None:
        """Note what went wrong in a run; raise it where it breaks the contract."""
        problem, is_ours = self._problem(error, entered), isinstance(error, ContractError)
        if autocast and isinstance(error, Exception):
            self.mixed = problem
        elif problem is not None and not real and not is_ours and isinstance(error, Exception):
            self.notes.append(problem)
        elif problem is not None:
            raise ContractError(problem) from (None if is_ours else error)

    def _problem(self, error: BaseException, entered: Sequence[_Entered]) -> str | None:
        """Return what a module did wrong; None where none is to blame, but the network does not take this image."""
        if isinstance(error, ContractError):
            return str(error)
        if not entered:
            return None
        mode = " in train mode" if self.network.training else ""
        label, shape = self.labels[entered[-1].graft], in_words(entered[-1].shape)
        if isinstance(error, NoReturn):
            return f"{label}: {error} for {shape}{mode}"
        return f"{label}: raised {type(error).__name__} for {shape}{mode}: {detail(error)}"

    def _look_at_parameters(self, graft: Placed) -> None:
        """Refuse parameters that a forward has made: nothing trains them."""
        before, now = self.parameters[graft], dict(graft.module.named_parameters())
        late = [name for name, parameter in now.items() if before.get(name) is not parameter]
        if late:
            raise ContractError(f"{self.labels[graft]}: {made_too_late(late)}")
        added = sorted(set(graft.module.state_dict()) - self.state[graft])
        if added:
            problem = f"its first forward adds {', '.join(added)} to its state: an interrupted training cannot resume"
            self.notes.append(f"{self.labels[graft]}: {problem}")

    def _changes_input(self, graft: Placed) -> None:
        label = self.labels[graft]
        if graft.shares_input:
            raise ContractError(f"{label}: changes its input in place, which is read by others too")
        self.notes.append(f"{label}: changes its input in place")

    def _look_at_gradients(self, graft: Placed, maps: Sequence[Tensor], returned: Sequence[Tensor]) -> None:
        """Note what gets no gradient."""
        label = self.labels[graft]
        learning = [y for y in returned if y.requires_grad]
        trainable = {name: p for name, p in graft.module.named_parameters() if p.requires_grad}
        inputs = [x for x in maps if x.requires_grad]
        wanted = [*inputs, *trainable.values()]
        if wanted and not learning:
            self.notes.append(f"{label}: no gradient passes through it")
        elif wanted:
            start_clock(f"{graft.target} at {graft.insertion}: gradient")
            try:
                total = torch.stack([y.float().sum() for y in learning]).sum()
                gradients = torch.autograd.grad(total, wanted, retain_graph=True, allow_unused=True)
            except BaseException as error:
                if is_of_user(error):
                    raise
                raise ContractError(f"{label}: its gradient cannot be computed: {detail(error)}") from error
            finally:
                stop_clock()
            if any(gradient is None for gradient in gradients[: len(inputs)]):
                self.notes.append(f"{label}: no gradient reaches its input")
            idle = [name for name, grad in zip(trainable, gradients[-len(trainable) :], strict=True) if grad is None]
            if trainable and idle:
                self.notes.append(f"{label}: {', '.join(idle)} never get{'s' * (len(idle) == 1)} a gradient")

    def with_one_image(self) -> str | None:
        """Return why a module fails with one image in train mode, or None."""
        for graft, x in self.seen.items():
            start_clock(f"{graft.target} at {graft.insertion}: forward of one image in train mode")
            try:
                with torch.no_grad():
                    graft.module.train()(x)
            except ValueError as error:  # what torch's batch norm raises; alone, a module may lack what others share
                return f"{self.labels[graft]}: raised ValueError for one image in train mode: {detail(error)}"
            except BaseException as error:
                if is_of_user(error):
                    raise
            finally:
                stop_clock()
        return None


def _check_hooks(labels: Mapping[Placed, str]) -> None:
    """Call the optional methods of modules that a training calls later.

    Raises:
        ContractError: One names a parameter that does not exist.
        ModuleError: One raises, or returns something else than is needed.
    """
    for graft, label in labels.items():
        for inner in graft.module.modules():
            names = getattr(inner, "no_weight_decay", None)
            if callable(names):
                with calling(graft.target, f"at {graft.insertion}: no_weight_decay"):
                    unknown = sorted(set(names()) - set(dict(inner.named_parameters())))
                if unknown:
                    raise ContractError(f"{label}: no_weight_decay() names unknown parameters: {', '.join(unknown)}")
        flops = getattr(graft.module, "uncounted_flops", None)
        if callable(flops):
            with calling(graft.target, f"at {graft.insertion}: uncounted_flops"):
                int(flops(8, 8))


def _run_without_values(network: DetectionModel, watch: _Watch, sizes: tuple[tuple[int, int], ...]) -> None:
    """Check shapes at the real image sizes on the meta device; a module that must see values is left alone."""
    try:
        copied = deepcopy(network)
        strides = copied.model[-1].stride
        copied = copied.to("meta")
    except Exception:  # a module that cannot be copied or moved is checked with values alone
        return
    copied.model[-1].stride = strides  # Detect makes numbers of them
    grafts = placed_modules(copied)
    labels = dict(zip(grafts, watch.labels.values(), strict=True))
    for height, width in sizes:
        try:
            _Watch(copied, labels).run(1, height, width)
        except ContractError as error:
            if error.__cause__ is None:  # a wrong output, not something that it raised for want of values
                raise


@dataclass(frozen=True)
class _Entered:
    """A call of a module that has not returned yet: what it received."""

    graft: Placed
    maps: list[Tensor]
    shape: Shape | list[Shape]
    versions: list[int]

    @classmethod
    def of(cls, graft: Placed, received: Any) -> _Entered:
        maps = tensors_in(received)
        shapes = [tuple(each.shape) for each in maps]
        several = isinstance(received, list | tuple)
        return cls(graft, maps, shapes if several else shapes[0], [each._version for each in maps])


@contextmanager
def _named(label: str) -> Iterator[None]:
    try:
        yield
    except ContractError as error:
        text = str(error)
        raise ContractError(text if text.startswith(label) else f"{label}: {text}") from None


def _label(graft: Placed, names: Mapping[str, str]) -> str:
    return f"{names.get(graft.target, type(graft.module).__name__)} at {graft.insertion or 'its place'}"


def affordable(network: DetectionModel, side: int, step: int, budget: float) -> int:
    """Return the largest image side, of at most `side`, at which the network runs within a budget."""
    params = sum(p.numel() for p in network.parameters())
    affordable = int((budget / max(params, 1)) ** 0.5) // step * step
    return max(min(side, affordable), min(side, 2 * step))


def in_validation(side: int, step: int) -> tuple[int, int]:
    """Return the size of an image of 4 x 3 in validation, where Ultralytics pads by half a step and rounds up."""
    return side + step, math.ceil(0.75 * side / step + 0.5) * step


def noise(shape: tuple[int, ...]) -> Tensor:
    """Return the same random values between 0 and 1 at each call."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _kind(output: Any) -> str:
    if output is None:
        return "None"
    size = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
    return f"a {type(output).__name__}{size}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
