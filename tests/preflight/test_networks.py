"""Networks are built before any training starts: each once, in processes of their own, and known again after that."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.preflight import networks as rooms
from ablate.preflight.builders import Builders
from ablate.preflight.networks import contract_notes, preflight
from ablate.settings.graft import write_grafts
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a", "b", "c"], {"train": 8, "val": 4}, {"train": 8, "val": 4}, "f" * 64)


def trial(module: str = "none", insertion: str = "customary", model: str = "yolo26n", **changes: Any) -> Trial:
    content = asdict(Config())
    content["data"] = {"name": "mine", "path": "mine.yaml"}
    content["module"] = {**option_file("module", module), **changes.pop("options", {})}
    content["insertion"]["name"] = insertion
    content["model"] |= {"name": model, "architecture": f"{model}.yaml", "weights": changes.pop("weights", None)}
    content["train"]["imgsz"] = 64
    return Trial.of(TrialSettings.from_plain({**content, **changes}), DATA)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "costs"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's own module, in a file that a test writes."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "my_block.py"
    forget()


def forget() -> None:
    """Let the next import of the user's module read its file, as a new process does."""
    sys.modules.pop("my_block", None)
    importlib.invalidate_caches()


def own(target: str = "my_block.Mine", **changes: Any) -> Trial:
    return trial(options={"name": "mine", "_target_": target}, insertion="neck_p5", **changes)


def block(body: str) -> str:
    head = "import os\nfrom torch import nn\nclass Mine(nn.Conv2d):\n    def __init__(self, channels):\n"
    return f"{head}        {body}\n"


@pytest.mark.usefixtures("builds_here")
def test_the_cost_is_that_of_the_network_itself() -> None:
    from ultralytics.nn.tasks import yaml_model_load

    from ablate.measuring.complexity import complexity
    from ablate.training.network import build_network

    asked = trial("acmix")
    (answer,) = preflight([asked], with_cost=True).answers.values()

    content = yaml_model_load("yolo26n.yaml")
    content["ablate"] = write_grafts(asked.settings.grafts)
    network, report, _ = build_network(content, classes=3)
    assert answer.places == tuple(place.place for place in report.places)
    assert answer.cost is not None
    assert asdict(answer.cost).items() <= asdict(complexity(network, 64)).items()


@pytest.mark.usefixtures("builds_here")
def test_trials_that_differ_in_seed_or_optimizer_share_one_network(cache: Path) -> None:
    adamw = {**asdict(Config())["optimizer"], "name": "AdamW"}
    trials = [trial("hmha"), trial("hmha", seed=1), trial("hmha", optimizer=adamw), trial()]

    answers = preflight(trials, with_cost=True).answers

    assert len(list(cache.glob("*.json"))) == 2
    assert answers[trials[0].identity.variant_key] == answers[trials[2].identity.variant_key]
    assert set(answers) == {t.identity.variant_key for t in trials}


@pytest.mark.usefixtures("builds_here")
def test_weights_that_are_not_fetched_yet_give_a_network_their_class_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from ablate.checkpoints.stored_network import StoredNetwork
    from ablate.measuring.complexity import complexity
    from ablate.training.network import build_network

    (answer,) = preflight([trial(weights="yolo26n.pt")], with_cost=True).answers.values()

    assert answer.transferred is None
    assert answer.cost is not None
    coco = DetectionModel("yolo26n.yaml", nc=80, verbose=False)
    network, _, _ = build_network("yolo26n.yaml", classes=3, weights=StoredNetwork.of(coco))
    assert answer.cost.params_train == complexity(network, 64).params_train


@pytest.mark.usefixtures("builds_here")
def test_a_layer_to_freeze_that_the_network_lacks_is_refused() -> None:
    frozen = {**asdict(Config())["train"], "imgsz": 64, "freeze": [0, "23.cv9"]}
    given = trial("hmha", train=frozen)
    with pytest.raises(ConfigError, match=r"train\.freeze: this network has no layer '23\.cv9'.*0 to 23"):
        preflight([given])


def test_what_was_built_before_is_not_built_again(builds_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial("sta"), trial()]
    first = preflight(trials, with_cost=True)

    monkeypatch.setattr(rooms, "run_jobs", lambda *_: pytest.fail("a network is built"))

    assert preflight(trials, with_cost=True) == first
    assert preflight(trials).answers.keys() == first.answers.keys()


def test_a_changed_module_is_built_again(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.write_text(block("super().__init__(channels, channels, 1)"), encoding="utf-8")
    (small,) = preflight([own()], with_cost=True).costs.values()
    mine.write_text(block("super().__init__(channels, channels, 3, padding=1)"), encoding="utf-8")
    (large,) = preflight([own()], with_cost=True).costs.values()

    assert large.params - small.params == 8 * 256 * 256


def test_what_is_known_of_a_module_edited_meanwhile_is_not_kept(mine: Path, cache: Path) -> None:
    edits = "open(__file__, 'a').write('# edited'); super().__init__(channels, channels, 1)"
    mine.write_text(block(edits), encoding="utf-8")

    preflight([own()], with_cost=True)

    assert not list(cache.glob("*.json"))


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"answer": 1}'])
def test_a_damaged_entry_of_the_cache_is_built_again(damage: str, cache: Path) -> None:
    first = preflight([trial()], with_cost=True)
    (entry,) = cache.glob("*.json")
    whole = json.loads(entry.read_text(encoding="utf-8"))
    entry.write_text(damage, encoding="utf-8")

    assert preflight([trial()], with_cost=True) == first
    assert json.loads(entry.read_text(encoding="utf-8")) == whole


@pytest.mark.usefixtures("builds_here")
def test_a_cache_that_cannot_be_written_costs_time_only(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where a folder should be", encoding="utf-8")

    assert preflight([trial()], with_cost=True).answers


@pytest.mark.usefixtures("builds_here")
def test_an_illegal_combination_is_named_with_its_variant_place_and_reason() -> None:
    with pytest.raises(
        ConfigError, match=r"^sta.*@head musgd: yolo26n: sta at head \(model\.23 input 0\): .* 64 channels: .*divide"
    ):
        preflight([trial("sta", options={"num_heads": 7})])
    with pytest.raises(ConfigError, match=r"hmha@psa musgd: insertion=psa: yolov8n has no such place"):
        preflight([trial("hmha", "psa", "yolov8n")])


@pytest.mark.usefixtures("builds_here")
def test_of_several_trials_it_says_that_the_others_can_be_had_without() -> None:
    with pytest.raises(ConfigError, match=r"nor can 1 more; skip_invalid=true"):
        preflight([trial("hmha", "psa", "yolov8n"), trial("sta", "psa", "yolov8n"), trial()])


@pytest.mark.usefixtures("builds_here")
def test_illegal_combinations_are_left_out_where_that_is_asked_for() -> None:
    good, bad = trial("sta"), trial("sta", options={"num_heads": 7})

    found = preflight([good, bad, trial("hmha", "psa", "yolov8n")], skip_invalid=True)

    assert set(found.answers) == {good.identity.variant_key}
    assert len(found.invalid) == 2
    assert (
        "sta at head (model.23 input 0): constructor with 64 channels: ValueError"
        in found.invalid[bad.identity.variant_key]
    )


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("content", ["a network of another architecture", "no checkpoint"])
def test_weights_that_cannot_be_loaded_are_a_mistake_that_nothing_leaves_out(content: str, tmp_path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"nothing")
    if content != "no checkpoint":
        torch.save({"model": DetectionModel("yolov8n.yaml", verbose=False)}, weights)

    with pytest.raises(ConfigError, match=r"weights\.pt: (it is no file that PyTorch wrote|a checkpoint of another)"):
        preflight([trial("hmha", weights=str(weights))], skip_invalid=True)


@pytest.mark.usefixtures("builds_here")
def test_how_many_tensors_the_weights_fill_is_counted(tmp_path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    weights = tmp_path / "weights.pt"
    torch.save({"model": DetectionModel("yolo26n.yaml", verbose=False)}, weights)

    (answer,) = preflight([trial("hmha", weights=str(weights))]).answers.values()
    assert answer.transferred is not None
    assert 600 < answer.transferred < answer.tensors  # other classes than the 80


@pytest.mark.usefixtures("builds_here")
def test_a_checkpoint_that_is_not_there_yet_does_not_keep_from_planning() -> None:
    (answer,) = preflight([trial("hmha", weights="yolo26n.pt")], with_cost=True).answers.values()

    assert answer.transferred is None
    assert answer.cost is not None
    assert answer.cost.gflops > 0


@pytest.mark.security("Module", "A module that ends its process ends a worker, not the command.")
def test_a_module_that_takes_its_process_along_is_named(mine: Path) -> None:
    mine.write_text(block("os._exit(3)"), encoding="utf-8")

    (reason,) = preflight([own()], skip_invalid=True).invalid.values()

    assert reason.startswith(
        "mine@neck_p5 musgd in yolo26n: the worker process died (exit code 3) in mine at neck_p5: "
    )
    assert reason.endswith("constructor with 256 channels")


@pytest.mark.usefixtures("builds_here")
def test_several_grafts_in_one_network_are_built_and_known_apart() -> None:
    one = trial("hmha", "head")
    two = trial("hmha", "head", grafts=["sta@neck_p5"])

    networks = preflight([one, two], with_cost=True)
    keys = [trial.identity.variant_key for trial in (one, two)]
    fewer, more = (networks.answers[key] for key in keys)
    small, large = (networks.costs[key] for key in keys)

    assert len(more.places) == len(fewer.places) + 1
    assert large.params > small.params


def test_builders_may_be_started_before_it_is_known_what_they_build() -> None:
    with Builders(1) as builders:
        early = preflight([trial("sta")], with_cost=True, builders=builders)

    assert early == preflight([trial("sta")], with_cost=True)


def test_builders_that_nobody_needs_are_gone_in_the_end() -> None:
    preflight([trial()], with_cost=True)
    before = set(psutil.Process().children(recursive=True))

    with Builders(1) as builders:
        assert preflight([trial()], with_cost=True, builders=builders).answers

    left = set(psutil.Process().children(recursive=True)) - before
    assert not [process for process in left if "spawn_main" in " ".join(process.cmdline())]


@pytest.mark.usefixtures("builds_here")
def test_a_module_that_breaks_its_contract_is_named_and_checked_anew_once_it_is_mended(mine: Path) -> None:
    mine.write_text(block("super().__init__(channels, channels, 3, 2, 1)"), encoding="utf-8")
    shrinking, good = own(), trial("sta")
    expected = "yolo26n: mine at neck_p5: returned (1, 256, 1, 1) for (1, 256, 2, 2)"

    with pytest.raises(ConfigError) as refused:
        preflight([shrinking])
    left = preflight([shrinking, good], skip_invalid=True)
    mine.write_text(block("super().__init__(channels, channels, 3, 1, 1)"), encoding="utf-8")
    forget()

    assert str(refused.value) == f"mine@neck_p5 musgd: {expected}"
    assert left.invalid == {shrinking.identity.variant_key: expected}
    assert set(left.answers) == {good.identity.variant_key}
    assert preflight([own()]).answers


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize(("batch", "refused"), [(4, False), (7, True), (1, True)])
def test_a_module_that_needs_two_images_is_refused_where_a_batch_has_one(mine: Path, batch: int, refused: bool) -> None:
    mine.write_text(
        "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
        "        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels))\n"
        "    def forward(self, x):\n        return x * self.gate(x)\n",
        encoding="utf-8",
    )
    train = {**asdict(Config())["train"], "imgsz": 64, "batch": batch}

    found = preflight([own(train=train)], skip_invalid=True)

    assert bool(found.invalid) is refused
    if refused:
        assert "for one image in train mode" in next(iter(found.invalid.values()))


@pytest.mark.usefixtures("builds_here")
def test_of_two_variants_with_one_network_the_one_with_a_batch_of_one_is_refused(mine: Path) -> None:
    mine.write_text(
        "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
        "        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels))\n"
        "    def forward(self, x):\n        return x * self.gate(x)\n",
        encoding="utf-8",
    )
    one, four = (own(train={**asdict(Config())["train"], "imgsz": 64, "batch": batch}) for batch in (1, 4))

    networks = preflight([one, four], skip_invalid=True)

    assert set(networks.invalid) == {one.identity.variant_key}
    assert set(networks.answers) == {four.identity.variant_key}


@pytest.mark.usefixtures("builds_here")
def test_what_is_odd_about_a_module_is_noted(mine: Path) -> None:
    mine.write_text(
        "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
        "        self.idle = nn.Linear(2, 2, bias=False)\n    def forward(self, x):\n        return x\n",
        encoding="utf-8",
    )
    trials = [own(), trial()]

    notes = contract_notes(trials, preflight(trials).answers)

    assert notes == ["mine at neck_p5: idle.weight never gets a gradient"]


@pytest.mark.usefixtures("builds_here")
def test_the_same_graft_twice_is_noted() -> None:
    trials = [trial(grafts=["sta@neck_p5", "sta@neck_p5"])]

    notes = contract_notes(trials, preflight(trials).answers)

    assert notes == ["sta@neck_p5 is there 2 times: one module after the other"]
