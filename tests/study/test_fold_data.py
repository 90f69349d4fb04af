"""A command's trials over folds: each cell on each fold, compared with its baseline on the same images."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablate.console import Terminal
from ablate.data.catalogue import resolve
from ablate.data.data_errors import DataError
from ablate.data.data_settings import DataSettings
from ablate.data.fold_sets import divided
from ablate.data.groups import AUDIT, ImageGroups, write_groups
from ablate.execution.latency_matches import LatencyMatcher
from ablate.execution.make_request import Request, make_request
from ablate.execution.run_trial import run_job
from ablate.execution.trial_job import PlannedTrial, TrialJob, TrialOutcome
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.layout import OutputFolder
from ablate.study.fold_data import DataFinder
from ablate.study.rate_tuning import short_trials
from ablate.study.trial import Trial, of_each_fold
from ablate.study.trial_inputs import TrialInputs

SHAPES = {"name": "shapes", "path": None, "train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0}


def settings(tmp_path: Path, module: str = "none", **changes: Any) -> TrialSettings:
    content = {**asdict(Config()), "data": dict(SHAPES), "root": str(tmp_path / "multirun"), "folds": 3, **changes}
    content["module"] = option_file("module", module)
    return TrialSettings.from_plain(content)


def of_folds(first: TrialSettings) -> list[Trial]:
    finder = DataFinder()
    return of_each_fold(Trial.of(first, finder.find(first)), finder)


def requested(tmp_path: Path, axes: dict[str, list[str]], **changes: Any) -> Request:
    """The trials of a command over modules and seeds, without Hydra."""
    finder = DataFinder()

    def make(cells: Any) -> list[Trial]:
        trials = []
        for cell in cells:
            values = dict(item.split("=") for item in cell)
            one = settings(tmp_path, values.get("module", "none"), seed=int(values.get("seed", 0)), **changes)
            trials.append(Trial.of(one, finder.find(one)))
        return trials

    matcher = LatencyMatcher(SimpleNamespace(), measuring=False, console=Terminal())
    return make_request(axes, {**asdict(Config()), "folds": 3, **changes}, make, str, finder, matcher)


AXES = {"module": ["module=none", "module=eca"], "seed": ["seed=0", "seed=1"]}


def test_each_variant_is_trained_on_each_fold_with_each_seed(tmp_path: Path) -> None:
    request = requested(tmp_path, AXES)

    names = [trial.identity.name for trial in request.trials]
    assert len(names) == len(set(names)) == 2 * 2 * 3
    assert names[:4] == ["baseline musgd s0 f0", "baseline musgd s0 f1", "baseline musgd s0 f2", "eca@head musgd s0 f0"]
    for fold in range(3):
        trials = [trial for trial in request.trials if trial.identity.fold == fold]
        assert len({trial.data.yaml for trial in trials}) == 1
        assert len({trial.data.yaml for trial in request.trials}) == 3
    assert len({trial.identity.comparison_key for trial in request.trials}) == 1
    assert len({trial.identity.variant_key for trial in request.trials}) == 2
    assert len({trial.identity.signature for trial in request.trials}) == 12
    assert any("12 images of train and val in 3 folds of 4 images" in note for note in request.notes)


def test_controls_are_trained_on_each_fold_too(tmp_path: Path) -> None:
    request = requested(tmp_path, AXES, controls=["identity"])

    joined = [trial for trial in request.trials if trial.identity.variant.startswith("identity")]
    assert sorted((trial.identity.seed, trial.identity.fold) for trial in joined) == [
        (seed, fold) for seed in (0, 1) for fold in range(3)
    ]
    (control,) = request.controls.values()
    assert len(control.signatures) == 6


def test_by_seed_takes_the_first_fold_of_every_variant_first(tmp_path: Path) -> None:
    names = [trial.identity.name for trial in requested(tmp_path, AXES, order="by_seed").trials]

    assert names[:4] == ["baseline musgd s0 f0", "eca@head musgd s0 f0", "baseline musgd s0 f1", "eca@head musgd s0 f1"]


def test_a_record_names_the_fold_its_images_and_the_whole_data_set(tmp_path: Path) -> None:
    whole = resolve(DataSettings.from_plain(SHAPES))

    for index, trial in enumerate(of_folds(settings(tmp_path))):
        header = trial.header()
        assert (header.fold, header.replicate.fold) == (index, index)
        assert header.setting("fold", "folds") == 3
        assert header.setting("fold", "index") == index
        assert header.data is not None
        assert header.data.images == {"train": 8, "val": 4}
        assert header.data.fingerprint == whole.fingerprint
        assert Trial.of(TrialSettings.from_plain(header.config)).identity == trial.identity


def test_the_learning_rate_is_tuned_on_the_first_fold(tmp_path: Path) -> None:
    trials = of_folds(settings(tmp_path, tune=2))

    (variant,) = short_trials(list(reversed(trials)))

    assert [short.identity.fold for _, short in variant.trials] == [0, 0]
    assert {short.data.yaml for _, short in variant.trials} == {trials[0].data.yaml}


def groups_of(tmp_path: Path, size: int) -> ImageGroups:
    """Groups of so many images each, over both splits."""
    data = resolve(DataSettings.from_plain(SHAPES))
    names = [image.name for image in divided(data, 2, None).images]
    return ImageGroups({name: f"g{index // size}" for index, name in enumerate(names)}, AUDIT, data.fingerprint)


def audited(tmp_path: Path, groups: ImageGroups) -> None:
    file = OutputFolder(tmp_path / "multirun").audit(groups.fingerprint).groups
    file.parent.mkdir(parents=True, exist_ok=True)
    write_groups(file, groups)


def test_groups_of_an_audit_are_kept_whole_and_make_other_trials(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, 4)
    audited(tmp_path, groups)

    one, two, three = of_folds(settings(tmp_path, split="groups"))

    assert {len({groups.group_of(name) for name in groups.groups if _holds(t, name)}) for t in (one, two, three)} == {1}
    assert one.identity.signature != of_folds(settings(tmp_path))[0].identity.signature
    audited(tmp_path, replace(groups, groups={name: f"h{ord(name[-5]) % 6}" for name in groups.groups}))
    assert of_folds(settings(tmp_path, split="groups"))[0].identity.signature != one.identity.signature


def _holds(trial: Trial, name: str) -> bool:
    return (trial.data.yaml.parent / "images" / "val" / name.removeprefix("images/")).exists()


def test_a_trial_whose_groups_change_before_it_starts_is_not_trained(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, 4)
    audited(tmp_path, groups)
    trial = of_folds(settings(tmp_path, split="groups"))[1]
    planned = PlannedTrial(trial, TrialInputs.of(trial.settings, trial.data.fingerprint))
    audited(tmp_path, replace(groups, groups={name: f"h{name[-6:]}" for name in groups.groups}))

    outcome = run_job(TrialJob(trial.settings, planned=planned), lambda *_: pytest.fail("it was trained"))

    assert isinstance(outcome, TrialOutcome)
    assert outcome.failure is not None
    assert outcome.failure.type == "changed"
    assert "the groups of data set shapes" in outcome.failure.message


def test_a_table_of_groups_gives_the_same_trials_as_the_same_groups_of_an_audit(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, 4)
    audited(tmp_path, groups)
    table = tmp_path / "patients.csv"
    table.write_text("image,group\n" + "".join(f"{image},{group}\n" for image, group in groups.groups.items()))

    by_table, by_audit = (of_folds(settings(tmp_path, split=split)) for split in (str(table), "groups"))

    assert [t.identity.signature for t in by_table] == [t.identity.signature for t in by_audit]


def test_without_an_audit_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    root = tmp_path / "multirun"

    with pytest.raises(DataError) as refused:
        of_folds(settings(tmp_path, split="groups"))

    words = "python -m ablate data audit data=shapes data.train_images=8 data.val_images=4 data.imgsz=64"
    assert f"run first: {words} root={root}" in str(refused.value)


def test_that_folds_at_random_divide_groups_of_an_audit_is_told(tmp_path: Path) -> None:
    audited(tmp_path, groups_of(tmp_path, 4))

    notes = requested(tmp_path, AXES).notes

    assert any("split=groups keeps them whole" in note for note in notes)
