"""One process's share of a measurement: times of several forms in shuffled rounds, or the peak memory of one.

    python benchmarks/timing.py '{"what": "times", "module": "acmix", ...}'

is started by `modules.py`; the last line it prints is the result.
"""

from __future__ import annotations

import ctypes
import gc
import json
import random
import re
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from floors import copy_rate, floor, matrix_rate
from module_forms import autocast, build, check_agreement
from torch import Tensor, nn

PASSES = ("forward", "forward + backward")
LEAST_ROUNDS = 2
SLOW = 0.2  # seconds of a call that needs no second one to warm up
SAMPLE = 0.004  # seconds that a sample takes at least; quick passes are repeated within one
COMPILED = " compiled"  # after the name of a form


def main() -> None:
    """Measure what is asked for in the first argument."""
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    print(json.dumps(_WHAT[asked["what"]](asked)))


def times(asked: dict[str, Any]) -> dict[str, Any]:
    """Time forms of a module on one map, in rounds.

    Args:
        asked: ``module``, ``shape`` (B, C, H, W), ``forms`` (a name with `COMPILED` after it is compiled), ``passes``,
            ``authors`` (a folder or null), ``check`` (whether to compare what the forms compute), ``device``, ``amp``,
            ``rounds`` at most, ``seconds`` for a pass after which no round begins (but for the first two), ``clock``
            (wall or processor), ``seed`` of the order.

    Returns:
        ``agreement`` by form, ``failed`` by form, and ``passes``: by pass and form the milliseconds of each round.
    """
    module, shape, authors = asked["module"], asked["shape"], asked["authors"] and Path(asked["authors"])
    device, amp = torch.device(asked["device"]), asked["amp"]
    names = list(dict.fromkeys(name.removesuffix(COMPILED) for name in asked["forms"]))
    forms = {name: build(module, name, shape[1], shape[2], authors).to(device) for name in names}
    agreement = check_agreement(module, forms, shape, device) if asked["check"] else {}
    compiled = {name: torch.compile(forms[name.removesuffix(COMPILED)]) for name in asked["forms"] if COMPILED in name}
    forms = {**forms, **compiled}
    order = random.Random(asked["seed"])
    failed: dict[str, str] = {}
    passes = {}
    for kind in asked["passes"]:
        calls, slow = {}, set()
        for name in asked["forms"]:
            call = make_call(forms[name], shape, kind, device, amp)
            try:
                if _warm(call, device) > SLOW:
                    slow.add(name)
            except Exception as error:  # such as a form that cannot be compiled
                failed[name] = " ".join(str(error).split())[:200] or type(error).__name__
                continue
            calls[name] = call
        passes[kind] = rounds(calls, device, asked["rounds"], asked["seconds"], order, asked["clock"], slow)
    return {"agreement": agreement, "failed": failed, "passes": passes}


def sweep(asked: dict[str, Any]) -> dict[str, Any]:
    """Time forms of a module on maps of all ``sides``, as `times` does; ``shape`` is (B, C). By side, as a text."""
    return {str(side): times({**asked, "shape": [*asked["shape"], side, side]}) for side in asked["sides"]}


def rounds(
    calls: dict[str, Callable[[], None]],
    device: torch.device,
    most: int,
    seconds: float,
    order: random.Random,
    clock: str = "wall",
    slow: Collection[str] = (),
) -> dict[str, list[float]]:
    """Time each call once a round, in another order each time; return milliseconds of one call by round.

    A quick one (all but those in `slow`) is called once more before, to tell how often it fits into a sample.
    """
    repeats = dict.fromkeys(slow, 1)
    for name in calls.keys() - set(slow):
        call = calls[name]
        repeats[name] = max(1, min(200, int(SAMPLE / max(_seconds(call, 1, device, "wall"), 1e-6))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    names, began = list(calls), time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for done in range(most):
            if done >= LEAST_ROUNDS and time.perf_counter() - began > seconds:
                break
            order.shuffle(names)
            for name in names:
                found[name].append(1e3 * _seconds(calls[name], repeats[name], device, clock))
            gc.collect(1)  # what is young: a whole collection takes longer than a round
    finally:
        gc.enable()
    return found


def make_call(
    module: nn.Module, shape: list[int], kind: str, device: torch.device, amp: bool = False
) -> Callable[[], None]:
    """Put a module into the mode of a pass and return a function that runs it once.

    ``forward`` is evaluation without gradient, ``forward + backward`` training with gradients of input and parameters.
    """
    module.train(kind != "forward")
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device)
    if kind == "forward":

        def forward() -> None:
            with torch.no_grad(), autocast(device, amp):
                module(x)

        return forward
    leaf = x.requires_grad_()
    cotangent = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(device)
    leaves: list[Tensor] = [leaf, *module.parameters()]

    def both() -> None:
        for tensor in leaves:
            tensor.grad = None
        with autocast(device, amp):
            y = module(leaf)
        y.backward(cotangent.to(y.dtype))

    return both


def memory(asked: dict[str, Any]) -> dict[str, Any]:
    """Return by how many MB (1e6 bytes) one pass of one form raises this process's peak memory.

    On a CPU the peak of resident memory (VmHWM) over what is resident before the pass; on CUDA that of the allocator.
    A pass on a small map comes first, so that libraries are loaded and threads started.
    """
    module, shape, form = asked["module"], asked["shape"], asked["form"]
    device, authors = torch.device(asked["device"]), asked["authors"] and Path(asked["authors"])
    small = [1, shape[1], 8, 8]
    # Another object, so that what a module keeps for a size counts in the pass that is measured.
    make_call(build(module, form, shape[1], 8, authors).to(device), small, asked["pass"], device, asked["amp"])()
    built = build(module, form, shape[1], shape[2], authors).to(device)
    call = make_call(built, shape, asked["pass"], device, asked["amp"])
    return {"mb": rise(call, device)}


def rise(call: Callable[[], None], device: torch.device) -> float:
    """Return by how many MB a call raises the peak memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the pass would use up what is free first
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew, see proc(5)
    before = _resident("VmRSS")
    call()
    return (_resident("VmHWM") - before) / 1e6


def rates(asked: dict[str, Any]) -> dict[str, Any]:
    """Measure what this machine can do at best: products of matrices and copies."""
    device = torch.device(asked["device"])
    return {"flops": matrix_rate(device, asked["amp"]), "bytes": copy_rate(device)}


def floors(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the least time of each pass of the modules, shapes and forms in ``of``, at given rates."""
    given = {"flops": asked["flops"], "bytes": asked["bytes"], "amp": asked["amp"]}
    return {
        f"{module} {shape} {form}": {kind: floor(module, form, shape, kind, **given) for kind in PASSES}
        for module, shape, form in asked["of"]
    }


_WHAT: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "times": times,
    "sweep": sweep,
    "memory": memory,
    "rates": rates,
    "floors": floors,
}


def _warm(call: Callable[[], None], device: torch.device) -> float:
    """Call once; return the seconds that it took."""
    return _seconds(call, 1, device, "wall")


def _seconds(call: Callable[[], None], repeats: int, device: torch.device, clock: str) -> float:
    """Return the seconds of one call, from several in a row."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3 / repeats
    now = time.process_time if clock == "processor" else time.perf_counter
    began = now()
    for _ in range(repeats):
        call()
    return (now() - began) / repeats


def _resident(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if match is None:
        raise OSError(f"the system does not tell {field}")
    return int(match[1]) * 1024


if __name__ == "__main__":
    main()
