"""How long a sweep will take, as far as that is known before its first trial starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console

from ablate.console import print_line
from ablate.errors import count
from ablate.execution.launch import Launch
from ablate.execution.reconcile import Job
from ablate.launching.devices import DEVICE
from ablate.launching.sharing import Sharing
from ablate.monitor.render import estimate_words
from ablate.monitor.time_left import LONG
from ablate.preflight.estimate import expected_seconds, finish_seconds, reasons, rough_throughput
from ablate.preflight.network_answer import NetworkCost
from ablate.preflight.throughput import measured_trial, share_cores
from ablate.settings.environment import visible_cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forecast:
    """The expected time of trials.

    Attributes:
        sizes: By variant key the FLOPs of its network, as a multiple of the baseline's.
        seconds: By signature the seconds of a trial.
        why: What makes the sweep long, in words.
        rough: The seconds were not measured.
        total: Seconds until the last trial ends; None where nothing is known.
    """

    sizes: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    rough: bool = False
    total: float | None = None


UNKNOWN = Forecast()


def announce_forecast(
    console: Console, jobs: Sequence[Job], launch: Launch, costs: Mapping[str, NetworkCost]
) -> Forecast:
    """Decide how the trials share the cores; print the decision and how long all of them will take.

    Args:
        console: Where to print it.
        jobs: What runs.
        launch: Where it runs.
        costs: By variant key, as far as they were counted.
    """
    trials = [job.trial for job in jobs]
    device = trials[0].settings.device

    def before_measuring(assumed: Sharing) -> None:
        expected = make_forecast(jobs, costs, assumed, assumed.layout.trials, on_cpu=True)
        words = _words(expected, len(trials), assumed.layout.trials)
        print_line(console, f"{f'{words}; ' if words else ''}now some steps are measured, to say it exactly")

    sharing = share_cores(trials, launch, before=before_measuring)
    if sharing is not None:
        print_line(console, str(sharing))
    local, slots = launch.local_slots(device), launch.slots(device)
    words = f"{count(len(trials), 'trial')} on {count(slots, 'slot')}"
    logger.info("%s; cores: %s", words, sharing or "not shared out by ablate")
    on_cpu = bool(local) and all(slot.environment.get(DEVICE) == "cpu" for slot in local)
    forecast = make_forecast(jobs, costs, sharing, slots, on_cpu=on_cpu)
    if forecast.total is None:
        return forecast
    print_line(console, _words(forecast, len(trials), slots))
    if forecast.total <= LONG:
        return forecast
    print_line(console, f"why so long: {forecast.why}", "yellow")
    return replace(forecast, why="")


def make_forecast(
    jobs: Sequence[Job],
    costs: Mapping[str, NetworkCost],
    sharing: Sharing | None,
    slots: int,
    *,
    on_cpu: bool,
) -> Forecast:
    """Return the expected time of trials.

    Args:
        jobs: What runs.
        costs: By variant key, as far as they were counted.
        sharing: How the cores are shared, with the steps that were measured for it.
        slots: How many trials run at a time.
        on_cpu: Whether the trials run on processors of this machine.
    """
    trials = [job.trial for job in jobs]
    basis = measured_trial(trials)
    cost = costs.get(basis.identity.variant_key)
    sizes = {} if cost is None else {variant: each.gflops / cost.gflops for variant, each in costs.items()}
    why = reasons(trials, sharing, visible_cores() if on_cpu else None)
    steps = None if sharing is None else sharing.chosen
    rough = steps is None
    if steps is None and on_cpu and cost is not None:
        steps = rough_throughput(basis, cost)
    if steps is None:
        return Forecast(sizes, why=why)
    seconds = {
        job.trial.identity.signature: expected_seconds(
            job.trial, steps, sizes.get(job.trial.identity.variant_key, 1.0), job.epochs_done
        )
        for job in jobs
    }
    return Forecast(sizes, seconds, why, rough, finish_seconds(list(seconds.values()), slots))


def _words(forecast: Forecast, trials: int, slots: int) -> str:
    return "" if forecast.total is None else estimate_words(forecast.total, trials, slots, rough=forecast.rough)
