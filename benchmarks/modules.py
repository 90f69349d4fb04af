"""The modules beside their authors' code and their plain forms: time, peak memory, distance from what is possible.

    python benchmarks/modules.py [--table] [--sweep] [--largest] [--authors DIR] [--only acmix,sta] [--sizes 64x80]
    python benchmarks/modules.py --page

--table (if nothing else is asked for) times every form forward, and forward and backward, in rounds whose order is
shuffled, in several fresh processes, and measures the peak memory of each form in a process of its own. --sweep does
the times for maps from 4x4 to 160x160, --largest looks for the largest map that fits into 2 GB. --authors names a
folder with checkouts of the authors' repositories (ACmix, STViT, HINT, HAT); without it the plain form
(`verifying/reference`) is what is compared with. Results go to results/modules.jsonl; --page writes them into
docs/speed.md. Needs an otherwise idle machine to say much.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from math import log
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import common
from authors import version
from module_forms import MODULES, forms_of, source_hash

PASSES = ("forward", "forward + backward")
COMPILED = " compiled"
SIZES = ((64, 80), (128, 40), (256, 20))  # channels and side: YOLO26n's P3, P4 and P5 at 640 px
SWEEP = (4, 5, 8, 13, 20, 40, 80, 160)
SWEEP_CHANNELS, SWEEP_BATCHES = 64, (1, 4)
LIMIT = 2000.0  # MB, for the largest map
LARGEST = (4, 64)  # batch and channels of it
CAP = 1024  # pixels: no map beyond is tried
STEP = 8  # pixels, to which the largest map is told

HERE = Path(__file__).parent


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="times and memory at --sizes")
    parser.add_argument("--sweep", action="store_true", help="times over all sizes of map")
    parser.add_argument("--largest", action="store_true", help="the largest map within 2 GB")
    parser.add_argument("--page", action="store_true", help="write what is kept into docs/speed.md; measures nothing")
    parser.add_argument("--authors", type=Path, help="folder with checkouts of the authors' repositories")
    parser.add_argument("--only", type=_words(MODULES), default=list(MODULES), help="modules, with commas between")
    parser.add_argument("--sizes", type=_sizes, default=list(SIZES), help="channels x side, with commas between")
    parser.add_argument("--batch", type=int, default=4, help="of the table")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--processes", type=int, default=3, help="fresh processes, whose rounds are pooled")
    parser.add_argument("--rounds", type=int, default=20, help="at most, in a process")
    parser.add_argument(
        "--seconds", type=float, default=2.5, help="of rounds for a pass in a process; at least 3 rounds"
    )
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor: for a busy machine")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument("--compile", action="store_true", help="every form through torch.compile too, in the table")
    parser.add_argument("--quick", action="store_true", help="a tiny map, one process: is everything in order?")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="folder of the results")
    asked = parser.parse_args()
    common.RESULTS = asked.results
    if asked.quick:
        asked.sizes, asked.batch, asked.processes, asked.rounds = [(32, 8)], 1, 1, 3
    if asked.page:
        from speed_page import write

        write()
        return
    if asked.table or not (asked.sweep or asked.largest):
        table(asked)
    if asked.sweep:
        sweep(asked)
    if asked.largest:
        largest(asked)


def table(asked: argparse.Namespace) -> None:
    """Times, memory and floors at the sizes that were asked for."""
    rates = child(asked, what="rates")
    for module in asked.only:
        for channels, side in asked.sizes:
            shape = [asked.batch, channels, side, side]
            work = ["composed", *(["default"] if "default" in forms_of(module, None) else [])]
            of = [(module, shape, form) for form in work]
            floors = child(asked, what="floors", of=of, **rates)
            found = _times(asked, module, shape)
            peaks = _memories(asked, module, shape)
            for kind in PASSES:
                least = {form: _rounded(floors[f"{module} {shape} {form}"][kind]) for form in work}
                line = _line(asked, "table", module, shape, kind, found)
                _keep({**line, "mb": peaks[kind], "floor": least, "rates": _rounded(rates)})


def sweep(asked: argparse.Namespace) -> None:
    """Times over the sizes of a map, fused form and default against the authors' (or the plain) form."""
    sides = (4, 5) if asked.quick else SWEEP
    for module in asked.only:
        names = [_reference(asked), "fused", *(["default"] if "default" in forms_of(module, None) else [])]
        what = {"what": "sweep", "module": module, "forms": names, "passes": PASSES, "sides": sides, "check": True}
        how = {"rounds": asked.rounds, "seconds": asked.seconds / 3, "clock": asked.clock}
        for batch in SWEEP_BATCHES:
            shape = [batch, SWEEP_CHANNELS]
            found = child(asked, **what, **how, shape=shape, seed=0)
            for side in sides:
                for kind in PASSES:
                    _keep(_line(asked, "sweep", module, [*shape, side, side], kind, [found[str(side)]]))


def largest(asked: argparse.Namespace) -> None:
    """The largest square map of each form, forward and backward, whose peak is within the limit."""
    batch, channels = LARGEST
    jobs = [(module, form) for module in asked.only for form in forms_of(module, asked.authors)]

    def peak(module: str, form: str) -> Callable[[int], float]:
        shape = [batch, channels]
        what = {"what": "memory", "module": module, "form": form, "pass": PASSES[1]}
        return lambda side: float(child(asked, **what, shape=[*shape, side, side])["mb"])

    limit, cap = (30.0, 64) if asked.quick else (LIMIT, CAP)
    found = _at_once(asked, [lambda job=job: search(peak(*job), limit, cap, STEP) for job in jobs])
    for module in asked.only:
        sides = {form: side for (name, form), side in zip(jobs, found, strict=True) if name == module}
        head = {"part": "largest", "module": module, "batch": batch, "channels": channels, "pass": PASSES[1]}
        _keep({**head, **_setting(asked, module), "limit_mb": limit, "cap": cap, "side": sides})


def search(peak: Callable[[int], float], limit: float, cap: int, step: int) -> int:
    """Return the largest multiple of `step` up to `cap` whose peak is within the limit; 0 if there is none.

    A peak grows with a map's pixels or, with attention among all tokens, with their square. The next size to try is
    where the limit should be, by the two sizes that are known around it, so no much larger map is ever run.
    """
    known = {0: 0.0}
    side = min(8 * step, cap)
    while True:
        known[side] = peak(side)
        fits = max(tried for tried in known if known[tried] <= limit)
        over = min((tried for tried in known if known[tried] > limit), default=cap + step)
        if over - fits <= step:
            return fits
        base = fits or over
        power = 2.0
        if fits and over in known:
            power = log(known[over] / max(known[fits], 1e-3)) / log(over / fits)
        guess = min(base * (limit / max(known[base], 1e-3)) ** (1 / power), 3.0 * base)
        side = min(max(int(guess) // step * step, fits + step), over - step)


def child(asked: argparse.Namespace, **words: Any) -> dict[str, Any]:
    """Run one process of `timing.py` and return its result, in an environment with malloc's default behaviour.

    Raises:
        RuntimeError: It failed.
    """
    threads = str(asked.threads)
    removed = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    authors = str(asked.authors.resolve()) if asked.authors else None
    given = {"device": asked.device, "amp": asked.amp, "threads": asked.threads, "authors": authors, **words}
    command = [sys.executable, str(HERE / "timing.py"), json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=common.ROOT)
    if done.returncode:
        raise RuntimeError(f"{words}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(samples: dict[str, list[float]], processes: Sequence[int], reference: str) -> dict[str, Any]:
    """Return milliseconds of each form, and how many times as fast as the reference it was.

    Args:
        samples: By form the milliseconds of each round, of all processes one after the other.
        processes: How many rounds each process made.
        reference: The form that is 1.0.

    Returns:
        ``ms``: medians. ``faster``: by form the median of the ratios within rounds, their quartiles, and the medians of
        the processes.
    """
    faster = {}
    for form, times in samples.items():
        ratios = [base / mine for base, mine in zip(samples[reference], times, strict=True)]
        ends = [sum(processes[: i + 1]) for i in range(len(processes))]
        parts = [ratios[end - count : end] for end, count in zip(ends, processes, strict=True)]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        faster[form] = {
            "median": round(median(ratios), 3),
            "quartiles": [round(low, 3), round(high, 3)],
            "processes": [round(median(part), 3) for part in parts],
        }
    return {"ms": {form: round(median(times), 4) for form, times in samples.items()}, "faster": faster}


def _times(asked: argparse.Namespace, module: str, shape: list[int]) -> list[dict[str, Any]]:
    forms = forms_of(module, asked.authors)
    if asked.compile:
        forms += [f"{form}{COMPILED}" for form in forms]
    what = {"what": "times", "module": module, "shape": shape, "forms": forms, "passes": PASSES}
    how = {"rounds": asked.rounds, "seconds": asked.seconds, "clock": asked.clock}
    return [child(asked, **what, **how, seed=seed, check=seed == 0) for seed in range(asked.processes)]


def _memories(asked: argparse.Namespace, module: str, shape: list[int]) -> dict[str, dict[str, float]]:
    """Peak memory by pass and form, each in its own process; as many at a time as there are processors."""
    jobs = [(kind, form) for kind in PASSES for form in forms_of(module, asked.authors)]
    what = {"what": "memory", "module": module, "shape": shape}
    found = _at_once(asked, [lambda job=job: child(asked, **what, **{"pass": job[0], "form": job[1]}) for job in jobs])
    peaks: dict[str, dict[str, float]] = {kind: {} for kind in PASSES}
    for (kind, form), answer in zip(jobs, found, strict=True):
        peaks[kind][form] = round(answer["mb"], 2)
    return peaks


def _at_once(asked: argparse.Namespace, jobs: Iterable[Callable[[], Any]]) -> list[Any]:
    """Do what needs no quiet machine side by side; on a GPU, whose memory they would share, one after the other."""
    side_by_side = 1 if asked.device == "cuda" else min(4, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(side_by_side) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def _line(
    asked: argparse.Namespace, part: str, module: str, shape: list[int], kind: str, found: list[dict[str, Any]]
) -> dict[str, Any]:
    failed = {form: reason for one in found for form, reason in one["failed"].items()}
    names = [form for form in found[0]["passes"][kind] if form not in failed]
    samples = {form: [ms for one in found for ms in one["passes"][kind][form]] for form in names}
    counts = [len(one["passes"][kind][names[0]]) for one in found]
    return {
        "part": part,
        "module": module,
        **dict(zip(("batch", "channels", "side"), shape[:3], strict=True)),
        "pass": kind,
        **_setting(asked, module),
        "rounds": counts,
        **compare(samples, counts, _reference(asked)),
        "disagreement": {form: float(f"{error:.1e}") for form, error in found[0]["agreement"].items()},
        **({"failed": failed} if failed else {}),
    }


def _setting(asked: argparse.Namespace, module: str) -> dict[str, Any]:
    amp = "amp float16" if asked.device == "cuda" else "amp bfloat16"
    return {
        "device": asked.device,
        "device_name": _device_name(asked.device),
        "precision": amp if asked.amp else "float32",
        "threads": asked.threads,
        "clock": asked.clock,
        "reference": _reference(asked),
        "authors": version(module, asked.authors) if asked.authors else None,
        "source": source_hash(module),
        "load": round(os.getloadavg()[0], 2),
    }


def _device_name(device: str) -> str | None:
    if device == "cpu":
        return None  # `keep` tells the processor
    import torch

    return str(torch.cuda.get_device_name())


def _reference(asked: argparse.Namespace) -> str:
    return "authors" if asked.authors else "plain"


def _keep(line: dict[str, Any]) -> None:
    """Keep a line and print it shortly."""
    with redirect_stdout(io.StringIO()):
        common.keep("modules", line)
    what = " ".join(str(line[key]) for key in ("part", "module", "batch", "channels", "side", "pass") if key != "side")
    if line["part"] == "largest":
        print(what, line["side"], flush=True)
        return
    times = "  ".join(
        f"{form} {ms:.3g} ms x{line['faster'][form]['median']:.2f}"
        + (f" {line['mb'][form]:.0f} MB" if form in line.get("mb", {}) else "")
        for form, ms in line["ms"].items()
    )
    print(f"{what} {line['side']}: {times}", *line.get("failed", {}).items(), flush=True)


def _rounded(found: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}


def _words(valid: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        words = text.split(",")
        unknown = [word for word in words if word not in valid]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(valid)}")
        return words

    return read


def _sizes(text: str) -> list[tuple[int, int]]:
    try:
        pairs = [tuple(int(number) for number in word.split("x")) for word in text.split(",")]
        return [(channels, side) for channels, side in pairs]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: channels x side, as 64x80,128x40") from None


if __name__ == "__main__":
    main()
