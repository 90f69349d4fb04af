"""Checks that a trial's inputs and checkpoint are its own, before the training, at its start and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ablate.checkpoints.file_check import CheckpointError, UnsafeCheckpoint
from ablate.data.catalogue import DataError, DataSet, fingerprint_on_disk
from ablate.data.view import discard_caches
from ablate.grafting.module_import import edited_late, import_module_of, imported_source
from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.failures import kind_of
from ablate.records.loading import load_object
from ablate.records.trial_record import short
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.layout import TrialFolder
from ablate.study.trial_inputs import InputsChanged, TrialInputs, weights_hash

if TYPE_CHECKING:
    from ablate.training.checkpoint import TrainingState


def import_classes(inputs: TrialInputs) -> None:
    """Import the modules of a trial's classes; what is wrong with one is said where the network is built.

    Raises:
        InputsChanged: What was imported is not what was hashed a moment before.
    """
    for target in inputs.sources:
        with suppress(Exception):
            import_module_of(target)
        if imported_source(target) is not None:
            check_imported({target: imported_source(target)}, inputs, intact=True)


def check_imported(sources: Mapping[str, str | None], inputs: TrialInputs, *, intact: bool = False) -> None:
    """Compare the sources that a training process has imported with those of its trial.

    Raises:
        InputsChanged: They differ.
    """
    for target, source in sources.items():
        if source != inputs.sources.get(target):
            message = f"changed while it was imported: source of {target}; the same command, given again, trains it"
            raise InputsChanged(message, intact=intact)


def check_weights(settings: TrialSettings, inputs: TrialInputs) -> None:
    """Compare the starting weights, which have just been loaded, with what was hashed before.

    Raises:
        InputsChanged: They differ.
    """
    now = msgspec.structs.replace(inputs, weights=weights_hash(settings))
    if now != inputs:
        changes = "; ".join(inputs.changes(now, settings))
        raise InputsChanged(f"changed while it was loaded: {changes}; the same command, given again, trains from it")


def check_unchanged(settings: TrialSettings, data: DataSet) -> None:
    """Compare what a training has used with what is on disk when it is over.

    Raises:
        InputsChanged: The data set, or a file that a module reads late, is another one: nobody can say what was
            trained on. What Ultralytics has kept of it beside the data is removed.
    """
    edited = edited_late(settings.targets)
    before = data.fingerprint
    try:
        now = fingerprint_on_disk(settings.data)
        if now != before:
            edited.append(f"data set {data.name} (fingerprint {before[:8]} -> {now[:8]})")
    except DataError as error:
        edited.append(str(error))
    if edited:
        discard_caches(data.yaml)
        changes = "; ".join(edited)
        raise InputsChanged(
            f"changed while this trial was trained: {changes}; the same command, given again, trains it anew"
        )


def cause(error: Exception, settings: TrialSettings, data: DataSet) -> Exception:
    """Return why a training failed: where its files were changed under it, that is the reason, whatever it led to."""
    if isinstance(error, InputsChanged) or kind_of(error) not in ("code", "data"):
        return error
    try:
        check_unchanged(settings, data)
    except InputsChanged as changed:
        return changed
    return error


def own_checkpoint(last: Path, targets: Sequence[str] = (), *, trust: bool = False) -> TrainingState | None:
    """Return what a trial's checkpoint can be resumed from, or None where it cannot, or is of another trial.

    Also None where another file that resuming needs is not this trial's own: `best.pt`, which is
    evaluated at the end, and what a training that is over has written down.

    Args:
        last: The checkpoint.
        targets: The classes of the trial's grafts.
        trust: Whether it may name what is no part of a network.
    """
    files = _files_of(last)
    signature = files.signature
    if not last.is_file() or checkpoint_signature(last) != signature:
        return None
    from ablate.training.checkpoint import read_state

    state = read_state(last, targets, trust=trust)
    if state is None:
        return None
    if not state.best and checkpoint_signature(files.best) != signature:
        return None
    if state.stage == "over" and load_object(files.training.report).get("signature") != signature:
        return None
    return state


def refused_checkpoint(last: Path, targets: Sequence[str]) -> str | None:
    """Say why a trial does not resume from a checkpoint that could run code; None where it is no such one."""
    from ablate.checkpoints.stored_network import read_own

    try:
        read_own(last, targets)
    except UnsafeCheckpoint as error:
        return f"last.pt is not resumed from: {error}: trust_weights=true"
    except (CheckpointError, OSError):
        return None
    return None


def set_foreign_aside(last: Path) -> str | None:
    """Move a `last.pt` that another trial has written out of the way; say so, or return None where there is none."""
    files = _files_of(last)
    signature = checkpoint_signature(last)
    if signature in (None, files.signature):
        return None
    aside = files.foreign(short(signature))
    last.replace(aside)
    return f"last.pt was of trial {short(signature)}: moved to {aside.name}; this trial starts anew"


def _files_of(last: Path) -> TrialFolder:
    """Return the folder of the trial that a last checkpoint is in."""
    return TrialFolder(last.parents[2])
