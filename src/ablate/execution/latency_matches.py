"""Find for each graft the stock network that is as slow: from its file in the output folder, or by measuring."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ablate import __version__
from ablate.console import print_line
from ablate.errors import ConfigError
from ablate.execution.launch import Launch
from ablate.execution.output_root import check_writable
from ablate.latency.latency_settings import Setting, settings_of
from ablate.latency.measurement_job import MeasurementOptions, ProcessTimes, UntrainedJob, UntrainedNetwork
from ablate.latency.processes import in_processes
from ablate.latency.sweep_latency import worst
from ablate.launching.devices import DEVICE
from ablate.preflight.networks import preflight
from ablate.records.code_version import code_hash
from ablate.records.latency_match import LatencyMatch, TriedSize, load_match, save_match
from ablate.records.latency_record import LatencyRatio
from ablate.settings.schema import LatencySettings
from ablate.settings.trial_settings import TrialSettings
from ablate.statistics.process_interval import mean_over_processes, process_ratios
from ablate.storage.content_hash import content_hash
from ablate.storage.layout import MatchFile, OutputFolder
from ablate.storage.locking import Held, lock
from ablate.study.matched_latency import (
    LEAST_RATIO,
    ROUNDS,
    LatencyKey,
    Search,
    Sizes,
    SlowerStock,
    is_matched,
    search,
    sizes_of,
    stock_settings,
)
from ablate.study.trial import Trial
from ablate.training.trainer_arguments import trained_classes

MEASURE = "ablate.latency.worker:measure_untrained"
GRAFT, STOCK = "graft", "stock"  # keys of the networks that every measurement has
LOOK = 2  # processes of the first look at a graft and its stock network; each step of the search takes one
LOOK_ROUNDS = 20  # of each of these processes
REACHED = 0.95  # of a graft's latency: the largest stock network that is slower than that still counts as a match
WAIT = 2.0  # seconds between two looks whether another command's measurement is over
START = 14.0  # seconds that a process takes, as far as one can expect

logger = logging.getLogger(__name__)


@dataclass
class LatencyMatcher:
    """Finds matches for the trials of a command.

    Attributes:
        launch: Where the trials run.
        measuring: Whether to measure what has no file yet; a plan says that it must be measured.
        console: Where to show it.
        notes: In words, what was found.
    """

    launch: Launch
    measuring: bool
    console: Console
    notes: list[str] = field(default_factory=list)

    def __call__(self, trials: Sequence[Trial]) -> dict[str, SlowerStock]:
        """Return the stock network that is as slow as the graft of each trial, by signature; without those of no match.

        Raises:
            ConfigError: A match must be measured, and cannot be: the trials run elsewhere, nothing can be written to
                the output folder, a network cannot be built, or the device is busy and is to be refused.
        """
        matches: dict[str, LatencyMatch | None] = {}
        slower = {}
        for trial in trials:
            if not is_matched(trial.settings):
                continue
            setting = settings_of(trial.settings.command.latency)[0]
            files = [_file(trial, setting, kind) for kind in self._devices(trial.settings)]
            key = files[0].key
            if key not in matches:
                matches[key] = self._match(trial, setting, files)
            match = matches[key]
            if match is not None and match.size is not None and match.of_match is not None:
                settings = stock_settings(trial.settings, match.by, match.size)
                slower[trial.identity.signature] = SlowerStock(settings, match.of_match)
        return slower

    def _devices(self, settings: TrialSettings) -> list[str]:
        """Return "gpu" or "cpu", on which the trial will run; both where only the node of a cluster will tell."""
        slots = self.launch.local_slots(settings.device)
        if slots:
            return ["cpu" if slots[0].environment.get(DEVICE) == "cpu" else "gpu"]
        return {"cpu": ["cpu"], "auto": ["gpu", "cpu"]}.get(settings.device, ["gpu"])

    def _match(self, trial: Trial, setting: Setting, files: Sequence[MatchFile]) -> LatencyMatch | None:
        """Return the match of a trial's graft; None where it is not measured yet, and is not to be now."""
        graft, ignored = _text(trial), list[str]()
        for file in files:
            match = _known(file, trial, ignored)
            if match is not None:
                self.notes.append(_note(match))
                return match
        self.notes += [f"controls: {line}: it is measured again" for line in ignored]
        if not self.launch.local_slots(trial.settings.device):
            problem = (
                f"controls=[latency]: {graft} has no measured match yet, and this launcher trains on other machines: "
                "on one that has the device that trains run, with the same root and words but hydra/launcher, "
                "python -m ablate plan --measure"
            )
            if self.measuring:
                raise ConfigError(problem)
            self.notes.append(problem)
            return None
        if not self.measuring:
            self.notes.append(
                f"controls: the control of latency of {graft} is not in this plan: its size must be measured first, "
                f"once, about {_minutes(trial.settings)} min on an idle machine; the sweep does, and plan --measure"
            )
            return None
        check_writable(Path(trial.settings.command.root).absolute())
        match = self._once(trial, setting, files[0])
        self.notes.append(_note(match))
        return match

    def _once(self, trial: Trial, setting: Setting, file: MatchFile) -> LatencyMatch:
        """Measure a match, unless another command does; two measurements at a time would disturb each other."""
        with self._locked(OutputFolder(Path(trial.settings.command.root).absolute()).matches_lock):
            match = _known(file, trial, [])
            if match is None:
                match = self._measured(trial, setting, file)
                try:
                    save_match(file, match)
                except OSError as error:
                    raise ConfigError(f"{file.path} cannot be written: {error.strerror}") from error
            return match

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold a lock; wait for whoever has it."""
        is_waiting = False
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(lock(path))
                    break
                except Held as other:
                    if not is_waiting:
                        words = f"another command measures latency ({other}); waiting for it"
                        print_line(self.console, words, "yellow")
                    is_waiting = True
                    time.sleep(WAIT)
                except OSError as error:
                    raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
            yield

    def _measured(self, trial: Trial, setting: Setting, file: MatchFile) -> LatencyMatch:
        preflight([trial])  # a module that cannot be built, or hangs, is named as in any other command
        print_line(self.console, f"latency of {_text(trial)}: the stock network that is as slow is measured, once")
        start = time.monotonic()
        sizes = sizes_of(trial.settings)
        measurement = _Measurement(trial, setting, sizes.by, self.launch, self.console)
        outcome = _search(measurement, sizes, trial.settings.command.latency)
        facts = measurement.facts
        threads = facts.get("threads")
        return LatencyMatch(
            key=file.key,
            graft=_text(trial),
            model=trial.settings.model.architecture,
            imgsz=trial.settings.train.imgsz,
            by=sizes.by,
            size=outcome.size,
            reason=outcome.reason,
            of_graft=outcome.of_graft,
            of_match=outcome.of_match,
            tried=tuple(TriedSize(size=size, ratio=ratio) for size, ratio in outcome.tried.items()),
            setting=str(setting),
            device=str(facts.get("device", "")),
            device_name=str(facts.get("device_name", "")),
            threads=threads if isinstance(threads, int) else None,
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
            ablate=__version__,
            code=code_hash(),
            seconds=round(time.monotonic() - start, 1),
            flags=tuple(worst(measurement.flags)),
        )


@dataclass(frozen=True)
class _Outcome:
    """What a search has come to; attributes as those of `LatencyMatch`."""

    of_graft: LatencyRatio
    size: float | None = None
    of_match: LatencyRatio | None = None
    reason: str = ""
    tried: Mapping[float, float | None] = field(default_factory=dict)


@dataclass
class _Measurement:
    """Measures a graft, its stock network and larger ones, interleaved.

    Attributes:
        by: What is larger: "width" or "imgsz".
        facts: Of the last process.
        flags: Of all processes.
    """

    trial: Trial
    setting: Setting
    by: str
    launch: Launch
    console: Console
    facts: Mapping[str, object] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    def __call__(self, sizes: Sequence[float], processes: int, rounds: int) -> list[ProcessTimes]:
        """Measure the stock network of these sizes beside the graft and the stock network as it is."""
        settings, command = self.trial.settings, self.trial.settings.command.latency
        larger = {f"{size:.9g}": stock_settings(settings, self.by, size) for size in sizes}
        networks = {GRAFT: settings, STOCK: stock_settings(settings), **larger}
        slot = self.launch.local_slots(settings.device)[0]
        options = MeasurementOptions(
            device="cpu" if slot.environment.get(DEVICE) == "cpu" else "cuda:0",
            rounds=rounds,
            warmup=command.warmup,
            warmup_max=command.warmup_max if rounds > LOOK_ROUNDS else command.warmup,
            threads=command.threads,
        )
        job = UntrainedJob(
            {key: self._network(each) for key, each in networks.items()},
            (self.setting,),
            options,
            refuse_busy=command.busy == "refuse",
        )
        visible = {name: value for name, value in slot.environment.items() if name == "CUDA_VISIBLE_DEVICES"}
        measured, failure = in_processes(MEASURE, job, processes, self.console, visible)
        failure = failure or _failure(measured, GRAFT) or _failure(measured, STOCK)
        if failure:
            raise ConfigError(f"controls=[latency]: {_text(self.trial)}: latency was not measured: {failure}")
        self.facts = measured[0].facts
        self.flags += [flag for process in measured for flag in process.flags]
        return measured

    def _network(self, settings: TrialSettings) -> UntrainedNetwork:
        data = self.trial.data
        return UntrainedNetwork(settings, tuple(trained_classes(settings, data)), data.channels)


def _search(measure: _Measurement, sizes: Sizes, latency: LatencySettings) -> _Outcome:
    """Look at a graft and its stock network, search the size that is as slow, and measure the nearest ones well."""
    first = _ratio(measure([], LOOK, LOOK * LOOK_ROUNDS), GRAFT, STOCK)
    if first.ratio < LEAST_RATIO:
        full = _ratio(measure([], latency.processes, latency.rounds), GRAFT, STOCK)
        if full.ratio < LEAST_RATIO:
            return _Outcome(full, reason=f"it is {full.in_words} times as slow as the stock network: none is needed")
        first = full

    def look(tried: Sequence[float]) -> dict[float, float | None]:
        measured = measure(tried, 1, LOOK_ROUNDS)
        ratios = _ratios(measured, tried)
        return {size: ratios[size].ratio if size in ratios else None for size in tried}

    searched = search(sizes, 1 / first.ratio, look)
    return _nearest(measure, searched, sizes, latency)


def _nearest(measure: _Measurement, searched: Search, sizes: Sizes, latency: LatencySettings) -> _Outcome:
    measured = measure(searched.nearest, latency.processes, latency.rounds)
    of_graft = _ratio(measured, GRAFT, STOCK)
    ratios = _ratios(measured, searched.nearest)
    what = "width" if sizes.by == "width" else "train.imgsz"
    if not ratios:
        return _Outcome(of_graft, reason=f"no other {what} of the stock network can be built", tried=searched.tried)
    size = min(ratios, key=lambda one: abs(math.log(ratios[one].ratio)))
    nearest = ratios[size]
    if abs(math.log(of_graft.ratio)) <= abs(math.log(nearest.ratio)):
        reason = (
            f"the stock network itself is nearest: it is {1 / of_graft.ratio:.2f} times as slow as the graft, that of "
            f"{what} {size:.9g} {nearest.in_words} times"
        )
        return _Outcome(of_graft, reason=reason, tried=searched.tried)
    if nearest.ratio < REACHED and not any(one.ratio >= 1 for one in ratios.values()):
        reason = (
            f"no {what} up to {size:.9g} is as slow: that is {nearest.in_words} times as slow as the graft; on a GPU a "
            "larger latency.batch or another latency.backend depends more on the arithmetic"
        )
        return _Outcome(of_graft, reason=reason, tried=searched.tried)
    return _Outcome(of_graft, size, nearest, tried=searched.tried)


def _ratios(processes: Sequence[ProcessTimes], sizes: Sequence[float]) -> dict[float, LatencyRatio]:
    """Return the latency of stock networks as a multiple of the graft's, of the sizes that every process measured."""
    keys = {size: f"{size:.9g}" for size in sizes}
    return {size: _ratio(processes, key, GRAFT) for size, key in keys.items() if not _failure(processes, key)}


def _failure(processes: Sequence[ProcessTimes], key: str) -> str:
    """Return why a process has no times of a network; empty where all have them."""
    return next((reason for each in processes if (reason := each.settings[0].networks[key].reason)), "")


def _ratio(processes: Sequence[ProcessTimes], key: str, other: str) -> LatencyRatio:
    """Return the latency of one network as a multiple of another's in the same rounds."""
    times = [process.settings[0].networks for process in processes]
    mean = mean_over_processes(
        process_ratios([each[key].totals for each in times], [each[other].totals for each in times])
    )
    low, high = (None, None) if mean.interval is None else (mean.interval.low, mean.interval.high)
    return LatencyRatio(ratio=round(mean.estimate, 4), low=low and round(low, 4), high=high and round(high, 4))


def _known(file: MatchFile, trial: Trial, ignored: list[str]) -> LatencyMatch | None:
    """Return what was measured; None where nothing was, or not a size that this trial's stock network can have.

    Args:
        file: Of the graft.
        trial: That has the graft.
        ignored: Gets in words what was not taken.
    """
    match = load_match(file, ignored)
    sizes = sizes_of(trial.settings)
    if match is None or match.size is None or (match.by == sizes.by and match.size in sizes.larger):
        return match
    ignored.append(f"{file.path.parent.name}/{file.path.name} has no size of the stock network ({match.size_in_words})")
    return None


def _file(trial: Trial, setting: Setting, device: str) -> MatchFile:
    key = content_hash(LatencyKey.of(trial, str(setting), device))[:16]
    return OutputFolder(Path(trial.settings.command.root).absolute()).match(key)


def _note(match: LatencyMatch) -> str:
    if match.size is None or match.of_match is None:
        text = f"controls: {match.graft} has no control of latency: {match.reason}"
    else:
        text = (
            f"controls: {match.graft} is {match.of_graft.in_words} times as slow as the stock network, and that of "
            f"{match.size_in_words} {match.of_match.in_words} times as slow as the graft"
        )
        if match.of_match.is_uncertain:
            text += (
                f", an uncertain match (to measure it anew, delete latency_matches/{match.key}.* in the output folder)"
            )
    load = " under the load of other processes" if match.flags else ""
    return f"{text}; measured {match.measured[:10]} on {match.device_name}{load} ({match.setting})"


def _minutes(settings: TrialSettings) -> int:
    """Return about how long a match takes to measure."""
    processes = LOOK + ROUNDS - 1 + settings.command.latency.processes
    return math.ceil(processes * START / 60)


def _text(trial: Trial) -> str:
    return "+".join(graft.text for graft in trial.settings.grafts)
