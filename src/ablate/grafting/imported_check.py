"""Whether an imported network trains: it is run as training and validation run it, before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ablate.grafting.contract import GRADIENT_BUDGET, affordable, in_validation, noise
from ablate.grafting.imported import NewLayer
from ablate.grafting.insertion import GraftError
from ablate.grafting.module_calls import detail, is_of_user, start_clock, stop_clock
from ablate.grafting.placed import tensors_in

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


def check_imported(network: DetectionModel, imgsz: int) -> None:
    """Run an imported network on random images: one in evaluation, not square, and two in training, with gradients.

    Args:
        network: The network; its statistics are changed.
        imgsz: Height and width of the images that it is trained on; larger ones than are quick are checked smaller.

    Raises:
        GraftError: A layer raises, or what the network returns has values or gradients that are not finite.
    """
    step = int(max(network.stride))
    side = affordable(network, -(-imgsz // step) * step, step, GRADIENT_BUDGET)
    entered: list[str] = []

    def enter(layer: nn.Module, inputs: Any) -> None:
        entered.append(f"layer {layer.i} ({getattr(layer, 'target', '') or type(layer).__name__})")
        start_clock(f"{getattr(layer, 'target', '')}: {entered[-1]}")

    def leave(layer: nn.Module, inputs: Any, output: Any) -> None:
        stop_clock()
        entered.pop()

    layers = [layer for layer in network.model if isinstance(layer, NewLayer)]
    handles = [layer.register_forward_pre_hook(enter) for layer in layers]
    handles += [layer.register_forward_hook(leave) for layer in layers]
    where, channels = f"{side} px", network.yaml.get("channels", 3)
    try:
        with torch.no_grad():
            network.eval()(noise((1, channels, *in_validation(side, step))))
        answer = network.train()(noise((2, channels, side, side)))
        total = sum(it.float().sum() for it in tensors_in(answer) if it.requires_grad)
        if isinstance(total, Tensor):
            torch.autograd.backward([total])
            grads = [(name, it.grad) for name, it in network.named_parameters() if it.grad is not None]
            odd = [name for name, grad in grads if not grad.isfinite().all()]
            if not total.isfinite() or odd:
                raise GraftError(f"at {where}: it returns values or gradients that are not finite{_few(odd)}")
    except GraftError:
        raise
    except BaseException as error:
        if is_of_user(error) or not (entered or isinstance(error, Exception)):
            raise
        place = f"{entered[-1]}: " if entered else ""
        raise GraftError(f"{place}raised {type(error).__name__} at {where}: {detail(error)}") from error
    finally:
        for _ in entered:
            stop_clock()
        for handle in handles:
            handle.remove()


def _few(names: list[str]) -> str:
    return f", first in {names[0]}" if names else ""
