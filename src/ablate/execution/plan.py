"""What a command would do and what that would cost, without doing it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.execution.declarations import late_note
from ablate.execution.earlier_looks import warning as looks_warning
from ablate.execution.expected_seeds import ExpectedSeeds, expect_seeds
from ablate.execution.launch import Launch
from ablate.execution.make_request import LeftOut, Request
from ablate.execution.manifest import declared
from ablate.execution.output_root import check_makeable
from ablate.execution.reconcile import Job, Reconciled, reconcile
from ablate.execution.sequential_sweep import SequentialSweep, analysis_plan
from ablate.execution.tune import ended, rates_in_words, tuning_note, with_chosen_rates
from ablate.launching.devices import Slot
from ablate.launching.sharing import Sharing
from ablate.measuring.processor import total_memory_gb
from ablate.measuring.step_cost import StepCost
from ablate.preflight.estimate import disk, finish_seconds, trial_seconds
from ablate.preflight.memory_probe import ProbeFailure, Probes, probe_variants
from ablate.preflight.network_answer import NetworkAnswer, NetworkCost
from ablate.preflight.networks import contract_notes, preflight
from ablate.preflight.throughput import share_cores
from ablate.records.graft_report import KeptTensors
from ablate.records.sweep_record import AnalysisPlan, LateDeclaration
from ablate.statistics.sequential import FIRST_LOOK
from ablate.study.rate_tuning import short_trials
from ablate.study.trial import Trial, data_warnings

DEVICES = (1, 2, 4, 8)  # numbers of trials at a time for which the finish is estimated


@dataclass(frozen=True)
class PlanRow:
    """A trial of a plan.

    Attributes:
        trial, variant, variant_key, signature, factors, seed, fold: Of the trial's identity.
        state: ``run``, ``resume``, ``reuse`` or ``failed`` (see `Reconciled.states`).
        epochs: Of the whole training; None where it is limited by time.
        epochs_done: Epochs that need not be trained any more.
        places: Where its network is grafted.
        params, gflops, gflops_ultralytics: Size and arithmetic of its network.
        weights_transferred, weights_expected: Tensors that the starting weights fill, and all of the stock network.
        seconds, peak_memory_gb: Of a trial that is to run; None where its variant was not probed, or failed.
        probe_failure: How its first steps failed.
        control: Its kind, where the trial joined as a control.
        kept: Tensors of replaced layers that keep their values, and all of them; None where no layer is replaced.
    """

    trial: str
    variant: str
    variant_key: str
    signature: str
    state: str
    factors: dict[str, str]
    seed: int
    epochs: int | None
    epochs_done: int
    places: tuple[str, ...]
    params: int
    gflops: float
    gflops_ultralytics: float | None
    weights_transferred: int | None
    weights_expected: int
    seconds: float | None = None
    peak_memory_gb: float | None = None
    probe_failure: ProbeFailure | None = None
    control: str | None = None
    kept: KeptTensors | None = None
    fold: int | None = None


@dataclass(frozen=True)
class DiskNeed:
    """GB that all trials need at most, and that are free."""

    needed: float
    free: float


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of the trials that share a device.

    Attributes:
        device: Its name; None where nothing was probed.
        needed: GB that they take together at most.
        there: GB that the device has.
    """

    device: str | None
    needed: float | None
    there: float | None


@dataclass(frozen=True)
class Plan:
    """What a command would do.

    Attributes:
        trials: In the order in which they are to run.
        slots: How many trials run at a time.
        trial_hours: Of all trials that are to run; None where they were not probed.
        finish: By number of trials at a time, the seconds until all are done; empty where they were not probed.
        disk: On the disk.
        memory: Of a device.
        sharing: How the trials share the cores; None where there is nothing to decide.
        left_out: Trials that were left out.
        notes: What the user should know.
        expected: How many seeds it will take; None where they are named.
        analysis: What the command declares of its analysis.
        late: What it declares when results are there already.
    """

    trials: list[PlanRow]
    slots: int
    trial_hours: float | None
    finish: dict[int, float]
    disk: DiskNeed
    memory: MemoryNeed
    sharing: Sharing | None = None
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()
    expected: ExpectedSeeds | None = None
    analysis: AnalysisPlan = field(default_factory=AnalysisPlan)
    late: Sequence[LateDeclaration] = ()

    @property
    def counts(self) -> Counter[str]:
        """How many trials are in each state."""
        return Counter(row.state for row in self.trials)


def make_plan(request: Request, launch: Launch) -> Plan:
    """Return what a command would do. Nothing is started, and only caches are written.

    Args:
        request: The trials, in the order in which they are to run.
        launch: Where they will run.

    Raises:
        ConfigError: A network of the plan cannot be built, results cannot be written to the output folder, or the sweep
            has results and was declared otherwise.
    """
    settings = request.trials[0].settings
    check_makeable(Path(settings.command.root).absolute())
    short = short_trials(request.trials)
    tuned = ended(short)
    request = with_chosen_rates(request, tuned)
    reconciled = reconcile([*(trial for it in short for _, trial in it.trials), *request.trials])
    analysis = analysis_plan(request.trials, request.design, request.controls)
    done = _done(request, reconciled, analysis)
    late, looks = declared(request.trials, request.controls, request.design, analysis, done)
    networks = preflight(reconciled.trials, with_cost=True)
    running = [job.trial for job in reconciled.jobs]
    probing = settings.command.probe
    sharing = share_cores(running, launch, measuring=probing)
    slots, local = launch.slots(settings.device), launch.local_slots(settings.device)
    probes = probe_variants(running, local) if probing and running else Probes()
    kinds = {key: control.kind for key, control in request.controls.items() if control.signatures}
    jobs = {job.trial.identity.signature: job for job in reconciled.jobs}
    costs, states = networks.costs, reconciled.states
    rows = []
    for trial in reconciled.trials:
        key, signature = trial.identity.variant_key, trial.identity.signature
        answer, job = networks.answers[key], jobs.get(signature)
        rows.append(_row(trial, states[signature], answer, costs[key], job, probes, kinds.get(key)))
    seconds = [row.seconds for row in rows if row.seconds is not None]
    is_timed = probing or not running
    return Plan(
        rows,
        slots,
        trial_hours=sum(seconds) / 3600 if is_timed else None,
        finish={count: finish_seconds(seconds, count) for count in sorted({*DEVICES, slots})} if is_timed else {},
        disk=_disk(reconciled.jobs, Path(settings.command.root).absolute(), costs, probes, slots),
        memory=_memory(list(probes.costs.values()), slots, local),
        sharing=sharing,
        left_out=request.left_out,
        notes=[
            *request.notes,
            *([tuning_note(short)] if short else []),
            *rates_in_words(tuned, request.tuned),
            *([_seeds_note(request)] if settings.command.until else []),
            *([late_note(late)] if late else []),
            *([looks_warning(looks, over_folds=bool(settings.command.folds))] if looks else []),
            *contract_notes(reconciled.trials, networks.answers),
            *data_warnings(request.trials),
        ],
        expected=expect_seeds(request, analysis, len(done), slots) if analysis.until else None,
        analysis=analysis,
        late=late,
    )


def _done(request: Request, reconciled: Reconciled, analysis: AnalysisPlan) -> list[Trial]:
    """Return the trials that have finished: where seeds are added, those of all seeds that the sweep has so far."""
    if analysis.until is None:
        signatures = {trial.identity.signature for trial in request.trials}
        return [trial for trial in reconciled.done if trial.identity.signature in signatures]
    sequential = SequentialSweep(request.trials, analysis, request.design, request.controls)
    return reconcile(sequential.trials).done


def _seeds_note(request: Request) -> str:
    """How many trials a sweep may take whose seeds are added; the plan has one seed of each variant."""
    variants = len({trial.identity.variant_key for trial in request.trials})
    most = request.trials[0].settings.command.max_seeds
    return (
        f"until=decided: each of {variants} variants, baselines included, takes {FIRST_LOOK} to {most} seeds, which is "
        f"{FIRST_LOOK * variants} to {most * variants} trials; the plan shows those that are named"
    )


def _row(
    trial: Trial,
    state: str,
    network: NetworkAnswer,
    cost: NetworkCost,
    job: Job | None,
    probes: Probes,
    control: str | None,
) -> PlanRow:
    """Return the row of a trial; `job` is what remains to be done of it, if anything."""
    identity, train = trial.identity, trial.settings.train
    step = probes.costs.get(identity.variant_key) if job else None
    epochs_done = job.epochs_done if job else train.epochs if state == "reuse" else 0
    return PlanRow(
        trial=identity.name,
        variant=identity.variant,
        variant_key=identity.variant_key,
        signature=identity.signature,
        state=state,
        factors=identity.factors,
        seed=identity.seed,
        epochs=None if train.time else train.epochs,
        epochs_done=epochs_done,
        places=network.places,
        params=cost.params,
        gflops=cost.gflops,
        gflops_ultralytics=cost.gflops_ultralytics,
        weights_transferred=network.transferred,
        weights_expected=network.tensors,
        seconds=trial_seconds(trial, step.times, epochs_done) if step else None,
        peak_memory_gb=step.peak_memory_gb if step else None,
        probe_failure=probes.failures.get(identity.variant_key) if job else None,
        control=control,
        kept=network.kept,
        fold=identity.fold,
    )


def _disk(jobs: Sequence[Job], root: Path, costs: Mapping[str, NetworkCost], probes: Probes, slots: int) -> DiskNeed:
    """Return the GB that the trials need when most of them have finished and the last ones run, and what is free."""
    keys = [(job.trial, job.trial.identity.variant_key) for job in jobs]
    needs = [disk(trial, costs[key], probes.costs.get(key)) for trial, key in keys]
    more = sorted((need.running - need.final for need in needs), reverse=True)[:slots]
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    needed = sum(need.final for need in needs) + sum(max(extra, 0) for extra in more)
    return DiskNeed(needed / 1e9, shutil.disk_usage(existing).free / 1e9)


def _memory(steps: Sequence[StepCost], slots: int, local: Sequence[Slot]) -> MemoryNeed:
    """Return what trials that share a device take together at most, and what it has."""
    devices = [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in local]
    on_cpu = all(step.device_memory_gb is None for step in steps)
    sharing = slots if on_cpu else max((devices.count(device) for device in devices), default=1)
    peaks = [step.peak_memory_gb for step in steps if step.peak_memory_gb is not None]
    return MemoryNeed(
        device=next((step.device_name for step in steps), None),
        needed=max(peaks) * sharing if peaks else None,
        there=min((step.device_memory_gb or total_memory_gb() for step in steps), default=None),
    )
