"""Controls: trials that join a sweep to separate the effect of a graft from that of size and of surgery.

| control | what it is | beside |
|---|---|---|
| identity | what does nothing instead of a graft or a loss (see below) | every insertion point, every loss |
| params | a plain block of convolutions with as many parameters, at the same places and wired alike | every graft |
| reset | the replaced layers with weights drawn anew | every replacement, where the sweep starts from weights |
| scale | the stock network of the next bigger scale | every combination of model, optimizer, data and training |
| resolution | the stock network on larger images, with as many GFLOPs | every graft that adds GFLOPs |
| latency | the stock network with wider layers, or on larger images, that is as slow | every graft that is slower |

An identity is a graft that returns its input; where a layer is replaced, the layer itself; the stock loss, computed by
ablate. A block of convolutions keeps the shape of a map, so a module that takes channels in and channels out has none.

Each is made from the settings of a requested trial, so it has that trial's seed, data, optimizer and training. Equal
controls are one trial. An identity is always wired plainly: x + x is twice the map, and a x + x is not the stock
network once a has been trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec

from ablate.errors import ConfigError
from ablate.records.latency_record import LatencyRatio
from ablate.records.sweep_record import Control
from ablate.settings.graft import GraftSpec, ModuleSpec
from ablate.settings.imported_network import ImportedNetwork
from ablate.settings.losses import PARTS, LossSettings, LossSpec
from ablate.settings.network_width import WIDTH
from ablate.settings.option_files import module_file
from ablate.settings.schema import CONTROL_MODULES, ModelSettings, option_file, options
from ablate.settings.trial_settings import TrialSettings
from ablate.sources.definitions import constructor
from ablate.sources.module_source import module_source
from ablate.sources.parameters import output_arguments
from ablate.study.matched_latency import MatchLatency, SlowerStock
from ablate.study.matched_resolution import CountGflops, LargerImages, larger_images
from ablate.study.trial import Trial

SCALES = "nsmblx"  # Ultralytics' letters, from small to big


@dataclass
class Joined:
    """The controls of a sweep.

    Attributes:
        trials: Those that were not requested anyway.
        controls: By variant key, with the signatures of those of `trials`.
        notes: Why there is no control where one could be expected.
    """

    trials: list[Trial] = field(default_factory=list)
    controls: dict[str, Control] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def join_controls(
    trials: Sequence[Trial],
    kinds: Sequence[str],
    find_weights: Callable[[str], str],
    count_gflops: CountGflops,
    match_latency: MatchLatency,
) -> Joined:
    """Return the controls of some trials.

    Args:
        trials: The requested trials, with their baselines.
        kinds: Which controls join, of `ablate.settings.schema.CONTROLS`.
        find_weights: Finds a checkpoint by the name under which it was published.
        count_gflops: See `ablate.study.matched_resolution.larger_images`; called for controls of resolution only.
        match_latency: Returns by signature the stock network that is as slow; called for controls of latency only.

    Raises:
        ConfigError: A model has no scales, or the sweep starts from a checkpoint that no bigger network has.
    """
    joined = Joined()
    signatures = {trial.identity.signature for trial in trials}
    larger = larger_images(trials, count_gflops, joined.notes) if "resolution" in kinds else {}
    slower = match_latency(trials) if "latency" in kinds else {}
    for kind in dict.fromkeys(kinds):
        for trial in trials:
            matched = _Matched.of(kind, trial, larger, slower)
            for settings, of in _controls(kind, trial, joined.notes, find_weights, matched):
                control = _named(kind, Trial.of(settings, trial.data))
                identity = control.identity
                entry = joined.controls.setdefault(
                    identity.variant_key, Control(kind=kind, comparison_key=trial.identity.comparison_key, of=of)
                )
                if matched is not None:
                    if entry.comparison_key != trial.identity.comparison_key:
                        joined.notes.append(_shown_elsewhere(kind, trial, settings))
                        continue
                    entry = matched.written_to(entry, trial.identity.variant_key)
                    joined.controls[identity.variant_key] = entry
                if identity.signature not in signatures:
                    signatures.add(identity.signature)
                    added = (*entry.signatures, identity.signature)
                    joined.controls[identity.variant_key] = msgspec.structs.replace(entry, signatures=added)
                    joined.trials.append(control)
    grafted = any(trial.settings.grafts for trial in trials)
    changed = grafted or any(trial.settings.losses != LossSettings() for trial in trials)
    has = {"identity": changed, "params": grafted, "reset": grafted, "scale": True}
    if without := [kind for kind in dict.fromkeys(kinds) if not has.get(kind, grafted)]:
        joined.notes.append(f"controls: no trial has a graft that {' and '.join(without)} could be a control of")
    joined.notes[:] = dict.fromkeys(joined.notes)
    return joined


def _controls(
    kind: str, trial: Trial, notes: list[str], find_weights: Callable[[str], str], matched: _Matched | None
) -> Iterator[tuple[TrialSettings, str]]:
    """Yield the control of a trial, at most one, and what it is matched with."""
    settings, grafts = trial.settings, trial.settings.grafts
    studied = [graft for graft in grafts if graft.module.name not in CONTROL_MODULES]
    losses = _identical(settings.losses)
    if kind == "scale":
        bigger = _bigger(settings, notes, find_weights)
        if bigger is not None:
            yield bigger, ""
    elif matched is not None:
        yield matched.settings, ""
    elif kind == "identity" and (studied or losses != settings.losses):
        yield replace(settings, grafts=_identities(studied), losses=losses), ""
    elif studied and kind == "params":
        if unmatched := [graft.text for graft in studied if not _has_a_block(graft)]:
            notes.append(
                f"controls: {', '.join(unmatched)} has no control of params: the block of convolutions is as large as "
                "a module that takes one number of channels, and keeps the shape of a map"
            )
        else:
            yield replace(settings, grafts=tuple(map(_matched, grafts))), "+".join(graft.text for graft in grafts)
    elif studied and kind == "reset":
        yield from _reset(settings, studied, notes)


@dataclass(frozen=True)
class _Matched:
    """The stock network that costs as much as a graft.

    Attributes:
        settings: Of its trial.
        gflops: Its GFLOPs as a multiple of the graft's; None where latency is matched.
        latency: The same of latency; None where GFLOPs are.
    """

    settings: TrialSettings
    gflops: float | None = None
    latency: LatencyRatio | None = None

    @classmethod
    def of(
        cls, kind: str, trial: Trial, larger: Mapping[str, LargerImages], slower: Mapping[str, SlowerStock]
    ) -> _Matched | None:
        """Return the match of a trial for a kind of control; None where there is none."""
        signature = trial.identity.signature
        if kind == "resolution" and signature in larger:
            return cls(larger[signature].settings, gflops=round(larger[signature].ratio, 4))
        if kind == "latency" and signature in slower:
            return cls(slower[signature].settings, latency=slower[signature].ratio)
        return None

    def written_to(self, entry: Control, variant_key: str) -> Control:
        """Return the entry of a control with the ratio to a variant."""
        if self.gflops is not None:
            return msgspec.structs.replace(entry, gflops_ratios={**entry.gflops_ratios, variant_key: self.gflops})
        if self.latency is not None:
            return msgspec.structs.replace(entry, latency_ratios={**entry.latency_ratios, variant_key: self.latency})
        return entry


def _named(kind: str, control: Trial) -> Trial:
    """Return a control under the name by which it is shown, where its own would be that of a baseline."""
    settings, identity = control.settings, control.identity
    if kind == "scale":
        what = settings.model.name
    elif kind in ("resolution", "latency"):
        what = settings.model.name if WIDTH in settings.model.name else f"{settings.train.imgsz} px"
    else:
        return control
    return replace(control, identity=identity.called(f"control: {kind} {what} {identity.factors['optimizer']}"))


def _shown_elsewhere(kind: str, trial: Trial, settings: TrialSettings) -> str:
    """Say why a graft has no control although there is a trial of it: a variant is shown as one control only."""
    return (
        f"controls: {trial.identity.variant} at train.imgsz={trial.settings.train.imgsz} has no control of {kind}: "
        f"the stock network at train.imgsz={settings.train.imgsz} is shown as that of another image size"
    )


def _identities(grafts: Sequence[GraftSpec]) -> tuple[GraftSpec, ...]:
    """Return one identity for each insertion point: the replaced layer itself where one is replaced."""
    modules = {name: ModuleSpec.from_plain(module_file(name)) for name in ("identity", "stock")}
    places = {graft.insertion.name: graft for graft in grafts}
    return tuple(
        _stock_network(graft)
        if graft.module.is_network
        else GraftSpec(modules["stock" if graft.replaces else "identity"], replace(graft.insertion, wiring="plain"))
        for graft in places.values()
    )


def _stock_network(graft: GraftSpec) -> GraftSpec:
    """Return the stock ancestor of an imported network, built in the same way."""
    network = ImportedNetwork.from_options(graft.module.options).identity()
    return GraftSpec.from_plain(network.to_graft(f"stock-{Path(network.ancestor).stem}"))


def _identical(losses: LossSettings) -> LossSettings:
    """Return losses with those of the stock network, computed here, in place of the others."""
    parts = {part: LossSpec.from_text("identity", part) for part in PARTS if getattr(losses, part) is not None}
    return replace(losses, **parts)


def _reset(
    settings: TrialSettings, studied: Sequence[GraftSpec], notes: list[str]
) -> Iterator[tuple[TrialSettings, str]]:
    """Yield the trial whose replaced layers have weights drawn anew, at most one, and what it is matched with."""
    drawn = [graft for graft in studied if graft.replaces and graft.kind not in ("upsample", "fuse")]
    if not drawn:
        text = "+".join(graft.text for graft in studied)
        notes.append(f"controls: {text} has no control of reset: it replaces no layer that has weights")
    elif settings.model.weights is None:
        notes.append("controls: reset has no trials: the networks start without weights, so every layer is drawn anew")
    else:
        module = ModuleSpec.from_plain(module_file("reset"))
        grafts = tuple(GraftSpec(module, graft.insertion) for graft in drawn)
        yield replace(settings, grafts=grafts), "+".join(graft.text for graft in studied)


def _has_a_block(graft: GraftSpec) -> bool:
    """Tell whether a block of convolutions can be as large as a graft and stand in its place."""
    if graft.kind not in ("insert", "block") or graft.module.is_network:
        return False
    parameters = constructor(module_source(graft.module.target).definition) if graft.replaces else None
    return parameters is None or not output_arguments(parameters, graft.module.options)


def _matched(graft: GraftSpec) -> GraftSpec:
    """Return a block with as many parameters as a graft; a graft that is a control itself stays."""
    if graft.module.name in CONTROL_MODULES:
        return graft
    block = ModuleSpec.from_plain(module_file("convblock"))
    options = {name: value for name, value in block.options.items() if name != "like"}
    like = replace(graft.module, default_insertion=None)
    return replace(graft, module=replace(block, options=options, like=like))


def _bigger(settings: TrialSettings, notes: list[str], find_weights: Callable[[str], str]) -> TrialSettings | None:
    """Return the baseline of the next bigger scale; None, and a note, where there is none."""
    model = settings.model
    match = re.fullmatch(rf"(yolo(?:v\d+|\d+))([{SCALES}])(-p\d)?", model.name)
    stock = option_file("model", model.name)
    if match is None or Path(model.architecture).name != stock.get("architecture"):
        raise ConfigError(
            f"controls: scale: {model.name} ({model.architecture}) is no stock network, so it has no next bigger "
            "scale; leave scale out"
        )
    scales = SCALES[SCALES.index(match[2]) + 1 :]
    names = [f"{match[1]}{scale}{match[3] or ''}" for scale in scales]
    bigger = next((name for name in names if name in options("model")), None)
    if bigger is None:
        notes.append(f"controls: {model.name} is the biggest of its scales: it has no control of scale")
        return None
    weights = None if model.weights is None else _weights_of(bigger, model.name, model.weights, find_weights)
    network = ModelSettings(**{**asdict(model), **option_file("model", bigger), "weights": weights})
    return replace(settings, grafts=(), losses=LossSettings(), model=network)


def _weights_of(bigger: str, name: str, weights: str, find_weights: Callable[[str], str]) -> str:
    """Return the checkpoint of a bigger network that was published with the one that the sweep starts from."""
    checkpoint = Path(weights)
    if checkpoint.name != f"{name}.pt":
        raise ConfigError(
            f"controls: scale: the sweep starts from {checkpoint.name}, and {bigger} has no such weights; only "
            f"published ones ({name}.pt) have their like ({bigger}.pt): start from these, from model.weights=null, or "
            "leave scale out"
        )
    beside = checkpoint.with_name(f"{bigger}.pt")
    return str(beside) if beside.is_file() else find_weights(beside.name)
