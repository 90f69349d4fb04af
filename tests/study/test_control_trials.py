"""Control cells: they join for each combination of the other factors, and the identity is the baseline exactly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.variants import variants_of
from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.records.latency_record import LatencyRatio
from ablate.records.loading import load_sweep
from ablate.settings.losses import LossSettings
from ablate.settings.schema import Config, OptimizerSettings, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.settings.validation import check
from ablate.study.control_trials import Joined, join_controls
from ablate.study.matched_latency import MatchLatency, SlowerStock, stock_settings
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a", "b", "c"], {"train": 8, "val": 4}, {"train": 8, "val": 4}, "f" * 64)
KINDS = ("identity", "params", "scale")


def trial(
    module: str = "none", insertion: str = "customary", model: str = "yolo26n", wiring: str = "plain", **changes: Any
) -> Trial:
    content = asdict(Config())
    content["data"] = {"name": "mine", "path": "mine.yaml"}
    content["module"] = {**option_file("module", module), **changes.pop("options", {})}
    content["insertion"] |= {"name": insertion, "wiring": wiring}
    content["model"] |= {"name": model, "architecture": f"{model}.yaml", "weights": changes.pop("weights", None)}
    return Trial.of(TrialSettings.from_plain({**content, **changes}), DATA)


def not_asked(name: str) -> str:
    raise AssertionError(f"{name} is looked for")


def not_counted(trials: Sequence[Trial]) -> dict[str, float]:
    raise AssertionError(f"GFLOPs are counted of {len(trials)} trials")


def not_measured(trials: Sequence[Trial]) -> dict[str, SlowerStock]:
    raise AssertionError(f"latency is measured of {len(trials)} trials")


def join(
    *trials: Trial,
    kinds: tuple[str, ...] = KINDS,
    find: Callable[[str], str] = not_asked,
    count: Callable[[Sequence[Trial]], dict[str, float]] = not_counted,
    match: MatchLatency = not_measured,
) -> Joined:
    joined = join_controls(trials, kinds, find, count, match)
    for control in joined.trials:
        check(control.settings.to_plain())
    return joined


def names(joined: Joined) -> list[str]:
    return [f"{control.identity.name} {control.settings.model.name}" for control in joined.trials]


def test_each_graft_gets_a_block_each_insertion_point_an_identity_each_group_a_bigger_network() -> None:
    joined = join(trial(), trial("hmha"), trial("hmha", "head"), trial("acmix"))

    assert names(joined) == [
        "identity@c3k2 musgd s0 yolo26n",
        "identity@head musgd s0 yolo26n",
        "convblock[like=hmha]@c3k2 musgd s0 yolo26n",
        "convblock[like=hmha]@head musgd s0 yolo26n",
        "convblock[like=acmix]@head musgd s0 yolo26n",
        "control: scale yolo26s musgd s0 yolo26s",
    ]
    group = trial().identity.comparison_key
    entries = [joined.controls[control.identity.variant_key] for control in joined.trials]
    assert [entry.kind for entry in entries] == ["identity"] * 2 + ["params"] * 3 + ["scale"]
    assert {entry.comparison_key for entry in entries} == {group}
    assert [entry.of for entry in entries] == ["", "", "hmha@c3k2", "hmha@head", "acmix@head", ""]
    assert [entry.signatures for entry in entries] == [(c.identity.signature,) for c in joined.trials]


def test_controls_have_the_seed_optimizer_and_training_of_what_they_control() -> None:
    optimizer = {**asdict(OptimizerSettings()), **option_file("optimizer", "sgd")}
    seeds = [trial("sta", seed=seed, optimizer=optimizer) for seed in (0, 1)]
    joined = join(*seeds)

    assert [control.identity.seed for control in joined.trials] == [0, 1] * 3
    assert len(joined.controls) == 3
    same = ("optimizer", "train", "data", "device", "on_oom")
    for control in joined.trials:
        assert {getattr(control.settings, name) == getattr(seeds[0].settings, name) for name in same} == {True}


def test_a_block_is_wired_as_its_graft_and_an_identity_always_plainly() -> None:
    joined = join(trial("acmix", wiring="residual"), trial("acmix", wiring="rezero"), kinds=("identity", "params"))

    assert names(joined) == [
        "identity@head musgd s0 yolo26n",
        "convblock[like=acmix]@head[residual] musgd s0 yolo26n",
        "convblock[like=acmix]@head[rezero] musgd s0 yolo26n",
    ]


def test_of_several_grafts_each_has_its_block_and_each_place_one_identity() -> None:
    joined = join(trial("hmha", grafts=["acmix@head", "sta@head"]), kinds=("identity", "params"))
    identities, blocks = joined.trials

    assert identities.identity.variant == "identity@c3k2+identity@head musgd"
    assert blocks.identity.variant == (
        "convblock[like=hmha]@c3k2+convblock[like=acmix]@head+convblock[like=sta]@head musgd"
    )
    assert joined.controls[blocks.identity.variant_key].of == "hmha@c3k2+acmix@head+sta@head"


def test_a_block_takes_over_the_options_of_its_graft() -> None:
    (block,) = join(trial("acmix", options={"kernel_conv": 5}), kinds=("params",)).trials
    (graft,) = block.settings.grafts

    assert graft.module.like is not None
    assert graft.module.like.arguments["kernel_conv"] == 5
    assert block.identity.variant == "convblock[like=acmix[kernel_conv=5]]@head musgd"


def test_a_block_is_another_trial_once_the_source_of_its_graft_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "wide_block.py"
    text = "from torch import nn\nclass Wide(nn.Conv2d):\n    def __init__(self, channels):\n"
    mine = {"name": "wide", "_target_": "wide_block.Wide"}
    signatures = []
    for kernel in (1, 3):
        source.write_text(f"{text}        super().__init__(channels, channels, {kernel})\n", encoding="utf-8")
        (block,) = join(trial(options=mine, insertion="neck_p5"), kinds=("params",)).trials
        signatures.append(block.identity.signature)

    assert signatures[0] != signatures[1]


def test_a_baseline_alone_has_a_control_of_scale_only_and_that_is_said() -> None:
    joined = join(trial())

    assert names(joined) == ["control: scale yolo26s musgd s0 yolo26s"]
    assert joined.notes == ["controls: no trial has a graft that identity and params could be a control of"]


def test_what_was_asked_for_anyway_does_not_run_twice() -> None:
    bigger = [trial(model="yolo26s"), trial("sta", model="yolo26s")]
    joined = join(trial(), trial("sta"), *bigger, kinds=("scale",))

    assert names(joined) == ["control: scale yolo26m musgd s0 yolo26m"]
    entry = joined.controls[bigger[0].identity.variant_key]
    assert (entry.kind, entry.comparison_key, entry.signatures) == (
        "scale",
        trial().identity.comparison_key,
        (),
    )


def test_controls_have_no_controls_of_their_own() -> None:
    assert names(join(trial("identity"), trial("convblock"), kinds=("identity", "params"))) == []


@pytest.mark.parametrize(
    ("model", "bigger"),
    [("yolo26n", "yolo26s"), ("yolo26l", "yolo26x"), ("yolo11s", "yolo11m"), ("yolov10m", "yolov10b"),
     ("yolov10b", "yolov10l"), ("yolov8m", "yolov8l")],
)  # fmt: skip
def test_the_next_bigger_scale_is_of_the_same_family(model: str, bigger: str) -> None:
    (control,) = join(trial(model=model), kinds=("scale",)).trials
    expected = trial(model=bigger)

    assert control.identity.signature == expected.identity.signature
    assert control.identity.name == f"control: scale {bigger} musgd s0"


def test_the_biggest_scale_has_no_bigger_one_and_that_is_said() -> None:
    joined = join(trial(model="yolo26x"), kinds=("scale",))

    assert joined.trials == []
    assert joined.notes == ["controls: yolo26x is the biggest of its scales: it has no control of scale"]


def test_published_weights_have_their_like_in_the_bigger_scale(tmp_path: Path) -> None:
    small, big = tmp_path / "yolo26n.pt", tmp_path / "yolo26s.pt"
    small.write_bytes(b"n")
    (fetched,) = join(trial(weights=str(small)), kinds=("scale",), find=lambda name: f"/cache/{name}").trials
    big.write_bytes(b"s")
    (beside,) = join(trial(weights=str(small)), kinds=("scale",)).trials

    assert fetched.settings.model.weights == "/cache/yolo26s.pt"
    assert beside.settings.model.weights == str(big)


def test_other_weights_and_networks_have_no_bigger_scale(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"n")
    for given, words in (
        (trial(weights=str(tmp_path / "mine.pt")), "starts from mine.pt"),
        (trial(model="mynet"), "no stock network"),
    ):
        with pytest.raises(ConfigError, match=words) as refused:
            join(given, kinds=("scale",))
        assert "leave scale out" in str(refused.value)
        assert "\n" not in str(refused.value)


# -- of latency: the stock network that is as slow ---------------------------------------------------------------------


def slower(by: str, size: float) -> MatchLatency:
    """Every graft has the stock network of this size as its match."""
    ratio = LatencyRatio(ratio=0.98, low=0.95, high=1.01)

    def match(trials: Sequence[Trial]) -> dict[str, SlowerStock]:
        grafted = [one for one in trials if one.settings.grafts]
        return {one.identity.signature: SlowerStock(stock_settings(one.settings, by, size), ratio) for one in grafted}

    return match


def test_each_seed_of_a_graft_has_the_wider_network_of_its_latency_as_control() -> None:
    given = [trial("hmha", seed=seed) for seed in (0, 1)]
    joined = join(trial(), *given, kinds=("latency",), match=slower("width", 0.3125))
    (entry,) = joined.controls.values()

    assert names(joined) == [
        "control: latency yolo26n-width0.3125 musgd s0 yolo26n-width0.3125",
        "control: latency yolo26n-width0.3125 musgd s1 yolo26n-width0.3125",
    ]
    assert {one.settings.model.architecture for one in joined.trials} == {"yolo26n-width0.3125.yaml"}
    assert (entry.kind, entry.comparison_key) == ("latency", given[0].identity.comparison_key)
    assert entry.latency_ratios == {given[0].identity.variant_key: LatencyRatio(ratio=0.98, low=0.95, high=1.01)}
    assert entry.signatures == tuple(one.identity.signature for one in joined.trials)


def test_larger_images_that_match_in_flops_and_in_latency_are_one_control_with_both_ratios() -> None:
    given = at(224, "hmha")
    joined = join(given, kinds=("resolution", "latency"), count=counted({"hmha": 0.3}), match=slower("imgsz", 256))
    (entry,) = joined.controls.values()

    assert len(joined.trials) == 1
    assert entry.kind == "resolution"
    assert entry.gflops_ratios.keys() == entry.latency_ratios.keys() == {given.identity.variant_key}


def test_a_sweep_without_grafts_has_no_control_of_latency_and_that_is_said() -> None:
    joined = join(trial(), kinds=("latency",), match=slower("width", 0.5))

    assert joined.trials == []
    assert joined.notes == ["controls: no trial has a graft that latency could be a control of"]


# -- of resolution: the stock network on larger images -----------------------------------------------------------------


def counted(added: dict[str, float]) -> Callable[[Sequence[Trial]], dict[str, float]]:
    """Networks whose GFLOPs grow with the number of pixels: 1 at 224 pixels, and more by module."""

    def count(trials: Sequence[Trial]) -> dict[str, float]:
        found = {}
        for one in trials:
            size = (one.settings.train.imgsz / 224) ** 2
            more = sum(added[graft.module.name] for graft in one.settings.grafts)
            found[one.identity.variant_key] = size * (1 + more)
        return found

    return count


def at(imgsz: int, module: str = "none", **changes: Any) -> Trial:
    return trial(module, train={**asdict(Config())["train"], "imgsz": imgsz}, **changes)


@pytest.mark.parametrize(
    ("added", "imgsz", "ratio"),
    [
        (0.04, 256, 1.306 / 1.04),  # the given size would be nearest, so the next one is taken
        (0.30, 256, 1.306 / 1.30),
        (0.50, 288, 1.653 / 1.50),
        (3.00, 448, 1.0),
    ],
)
def test_larger_images_cost_the_stock_network_as_much_as_its_graft(added: float, imgsz: int, ratio: float) -> None:
    given = at(224, "hmha")
    joined = join(at(224), given, kinds=("resolution",), count=counted({"hmha": added}))
    (control,) = joined.trials
    (entry,) = joined.controls.values()

    assert control.settings.grafts == ()
    assert (control.settings.train.imgsz, control.settings.train.arguments["imgsz"]) == (imgsz, imgsz)
    assert control.identity == at(imgsz).identity.called(f"control: resolution {imgsz} px musgd")
    assert (entry.kind, entry.comparison_key) == ("resolution", given.identity.comparison_key)
    assert entry.gflops_ratios == {given.identity.variant_key: pytest.approx(ratio, rel=1e-3)}
    assert entry.signatures == (control.identity.signature,)


def test_grafts_of_about_the_same_cost_share_a_control_and_each_seed_has_its_own() -> None:
    given = [at(224, module, seed=seed) for module in ("hmha", "acmix") for seed in (0, 1)]
    joined = join(*given, kinds=("resolution",), count=counted({"hmha": 0.3, "acmix": 0.25}))
    (entry,) = joined.controls.values()

    assert [(one.identity.seed, one.settings.train.imgsz) for one in joined.trials] == [(0, 256), (1, 256)]
    assert entry.signatures == tuple(one.identity.signature for one in joined.trials)
    assert list(entry.gflops_ratios) == [given[0].identity.variant_key, given[2].identity.variant_key]


@pytest.mark.parametrize(
    ("given", "added", "why"),
    [
        (at(224, "hmha"), 0.02, "it has 1.02 times the GFLOPs"),
        (at(224, "hmha"), -0.5, "it has 0.50 times the GFLOPs"),
        (at(200, "hmha"), 0.5, "train.imgsz=200 is no multiple of 32"),
        (at(8192, "hmha"), 0.5, "larger than 8192 pixels"),
        (at(224, "hmha", model="yolo26n-p6", insertion="neck_p5"), 0.5, "train.imgsz=224 is no multiple of 64"),
    ],
)
def test_a_graft_without_larger_images_of_its_cost_has_no_control_and_that_is_said(
    given: Trial, added: float, why: str
) -> None:
    joined = join(given, kinds=("resolution",), count=counted({"hmha": added}))

    assert joined.trials == []
    (note,) = joined.notes
    assert note.startswith("controls: hmha@")
    assert why in note


def test_a_size_that_is_the_control_of_another_size_is_not_shown_twice() -> None:
    given = [at(224, "hmha"), at(256, "hmha")]
    joined = join(*given, kinds=("resolution",), count=counted({"hmha": 0.55}))
    by_size = {one.settings.train.imgsz: one for one in joined.trials}
    shared = join(at(224, "acmix"), at(256, "hmha"), kinds=("resolution",), count=counted({"hmha": 0.3, "acmix": 0.7}))

    assert sorted(by_size) == [288, 320]
    assert [one.settings.train.imgsz for one in shared.trials] == [288]
    assert "at train.imgsz=256 has no control of resolution" in shared.notes[0]


def test_no_network_is_counted_without_a_graft() -> None:
    joined = join(at(224), kinds=("resolution",), count=counted({}))

    assert joined.notes == ["controls: no trial has a graft that resolution could be a control of"]


# -- from the command line ---------------------------------------------------------------------------------------------

SMOKE = ["train=smoke", "probe=false", "--json"]
Ablate = Callable[..., Any]


def plan(ablate: Ablate, *words: str) -> dict[str, Any]:
    done = ablate("plan", *words, *SMOKE)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_plan_marks_controls_and_no_glob_means_one_and_the_block_is_as_large_as_the_module(
    ablate_here: Ablate,
) -> None:
    words = ["module=glob([acm*,convb*,iden*])", "insertion=head,c3k2", "controls=[identity,params]", "seed=0,1"]
    found = plan(ablate_here, *words, "design=one_at_a_time")
    first = [trial for trial in found["trials"] if trial["seed"] == 0]
    params = {trial["variant"]: trial["params"] for trial in first}

    assert [(trial["variant"], trial["control"]) for trial in first] == [
        ("baseline musgd", None),
        ("acmix@head musgd", None),
        ("acmix@c3k2 musgd", None),
        ("identity@head musgd", "identity"),
        ("identity@c3k2 musgd", "identity"),
        ("convblock[like=acmix]@head musgd", "params"),
        ("convblock[like=acmix]@c3k2 musgd", "params"),
    ]
    assert found["total"] == 2 * len(first)
    for place in ("head", "c3k2"):
        added = params[f"acmix@{place} musgd"] - params["baseline musgd"]
        block = params[f"convblock[like=acmix]@{place} musgd"] - params["baseline musgd"]
        assert block == pytest.approx(added, rel=0.01)
        assert params[f"identity@{place} musgd"] == params["baseline musgd"]


def test_a_plan_counts_larger_images_whose_stock_network_costs_as_much(ablate_here: Ablate) -> None:
    found = plan(ablate_here, "module=hmha", "insertion=c3k2", "controls=[resolution]", "train.imgsz=128", "-m")
    baseline, graft, control = found["trials"]

    assert (baseline["control"], graft["control"], control["control"]) == (None, None, "resolution")
    assert control["variant"] == "control: resolution 160 px musgd"
    assert control["params"] == baseline["params"]
    assert control["gflops"] / baseline["gflops"] == pytest.approx((160 / 128) ** 2, rel=0.01)
    assert graft["gflops"] > 1.03 * baseline["gflops"]


def test_a_plan_says_that_a_latency_is_still_to_be_measured_and_measures_nothing(ablate_here: Ablate) -> None:
    found = plan(ablate_here, "module=hmha", "insertion=c3k2", "controls=[latency]", "-m")

    assert [trial["control"] for trial in found["trials"]] == [None, None]
    (note,) = [note for note in found["notes"] if "control of latency" in note]
    assert "hmha@c3k2" in note
    assert "plan --measure" in note


@pytest.mark.slow
def test_a_latency_is_matched_by_measuring_real_networks_once(ablate_here: Ablate, tmp_path: Path) -> None:
    words = ["module=hmha", "insertion=c3k2", "controls=[latency]", "latency.processes=2", "latency.rounds=20"]
    words += [f"root={tmp_path / 'multirun'}", "device=cpu"]
    measured = plan(ablate_here, "--measure", *words)
    again = plan(ablate_here, *words)
    _, graft, control = measured["trials"]
    (file,) = (tmp_path / "multirun" / "latency_matches").glob("*[0-9a-f].json")
    match = json.loads(file.read_text())

    assert control["variant"].startswith("control: latency yolo26n-width")
    assert [trial["signature"] for trial in again["trials"]] == [trial["signature"] for trial in measured["trials"]]
    assert again["notes"] == measured["notes"]
    assert (match["by"], match["device"], match["model"]) == ("width", "cpu", "yolo26n.yaml")
    assert 0.6 < match["of_match"]["ratio"] < 1.6  # a loaded machine measures badly
    assert match["of_graft"]["ratio"] > 1.02
    assert control["params"] > graft["params"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["module=sta", "controls=[resolutoin]"], "controls: resolutoin: did you mean 'resolution'? valid: identity"),
        (["module=sta", "controls=[identity,parms]"], "controls: parms: did you mean 'params'? valid: identity"),
        (["components=[hmha,musgd]", "design=factorial", "controls=[scale]"], "design=factorial compares all"),
        (["module=sta", "controls=[identity],[scale]"], "controls: takes one value for the whole command"),
        (["module=convblock", "module.like=stb"], "module.like: 'stb': no module 'stb'. did you mean 'sta'?"),
        (["module=convblock", "module.like=3"], "module.like=3: the name of a module is needed"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(ablate_here: Ablate, words: list[str], said: str) -> None:
    done = ablate_here("plan", *words, *SMOKE)

    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_single_trial_has_no_controls_and_says_so(ablate_here: Ablate) -> None:
    done = ablate_here("module=sta", "controls=[identity]", "train=smoke")

    assert done.returncode == 2
    assert "add -m" in done.stderr


# -- trained for real --------------------------------------------------------------------------------------------------

TINY = ["train=smoke", "train.epochs=2", "train.fraction=1.0", "data.train_images=8", "data.val_images=4",
        "data.imgsz=64", "latency.enabled=false", "notebook=false", "tracking.artifacts=false"]  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with all controls."""
    folder = tmp_path_factory.mktemp("controls")
    words = ["module=sta", "insertion.wiring=residual", f"controls=[{','.join(KINDS)}]", *TINY, "-m"]
    command = [sys.executable, "-m", "ablate", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (directory,) = (folder / "multirun" / "sweeps").iterdir()
    return directory


def records(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("multirun/trials/*/result.json")]
    return {(record["factors"]["module"], record["factors"]["model"]): record for record in found}


@pytest.mark.slow
def test_a_sweep_trains_its_controls_and_shows_them_among_what_they_control(sweep: Path, ablate: Ablate) -> None:
    found = load_sweep(sweep)
    variants = variants_of(found)
    status = json.loads(ablate("status", "--json", cwd=sweep.parents[2]).stdout)

    assert [(variant.label, variant.is_baseline) for variant in variants] == [
        ("baseline musgd", True),
        ("sta@head[residual] musgd", False),
        ("control: identity@head musgd", False),
        ("control: params of sta@head[residual] musgd", False),
        ("control: scale yolo26s musgd", False),
    ]
    assert len({variant.comparison_key for variant in variants}) == 1
    assert all(trial.status == "finished" for trial in found.trials)
    assert found.ignored == []
    assert [trial["control"] for trial in status["trials"]] == [None, None, *KINDS]
    assert sweep.name.startswith("sta_shapes_yolo26n_")


@pytest.mark.slow
def test_an_identity_is_trained_exactly_as_the_baseline_to_the_last_digit(sweep: Path) -> None:
    import torch

    from ablate.grafting.replaced_layer import stock_name

    found = records(sweep.parents[2])
    baseline, identity = found["none", "yolo26n"], found["identity", "yolo26n"]
    clock = {"time", "seconds"}

    assert len(identity["graft"]["places"]) == 3
    assert identity["graft"]["wiring"] == "plain"
    assert [{k: v for k, v in row.items() if k not in clock} for row in identity["history"]] == [
        {k: v for k, v in row.items() if k not in clock} for row in baseline["history"]
    ]
    assert len(baseline["history"]) == 2
    for part in ("metrics", "metrics_last", "per_class"):
        assert identity[part] == baseline[part]
    for checkpoint in ("best.pt", "last.pt"):
        ours, theirs = (
            torch.load(
                sweep.parents[1] / "trials" / r["signature"] / "train" / "weights" / checkpoint, weights_only=False
            )["model"].state_dict()
            for r in (identity, baseline)
        )
        assert [stock_name(name) for name in ours] == list(theirs)
        assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))


@pytest.mark.slow
def test_a_block_s_record_says_how_close_it_came_at_every_place(sweep: Path) -> None:
    found = records(sweep.parents[2])
    places = found["convblock", "yolo26n"]["graft"]["places"]

    assert len(places) == 3
    assert all(abs(place["params_error"]) < 0.01 for place in places)
    assert found["convblock", "yolo26n"]["graft"]["wiring"] == "residual"
    added = {key: record["cost"]["params"] for key, record in found.items()}
    stock = added["none", "yolo26n"]
    assert added["convblock", "yolo26n"] - stock == sum(place["params"] for place in places)
    assert added["sta", "yolo26n"] - stock == sum(place["params_like"] for place in places)


@pytest.mark.slow
def test_a_control_of_scale_is_the_bigger_stock_network(sweep: Path) -> None:
    record = records(sweep.parents[2])["none", "yolo26s"]

    assert record["graft"]["places"] == []
    assert record["cost"]["params_train"] > 3 * records(sweep.parents[2])["none", "yolo26n"]["cost"]["params_train"]


WIDE = "name: wide\n_target_: wide_block.Wide\ninsertion: down_neck\nabout: {kind: [block, downsample]}\n"


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's convolution, which takes channels in and out; returns its name."""
    (tmp_path / "conf" / "module").mkdir(parents=True)
    (tmp_path / "conf" / "module" / "wide.yaml").write_text(WIDE)
    body = "    def __init__(self, in_channels, out_channels, stride): super().__init__()\n"
    (tmp_path / "wide_block.py").write_text(f"from torch import nn\nclass Wide(nn.Module):\n{body}")
    monkeypatch.chdir(tmp_path)
    return "wide"


def test_a_replacement_gets_the_layer_itself_and_the_layer_with_new_weights(wide: str, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"")
    started = trial(wide, grafts=["hmha@psa_attention"], weights=str(tmp_path / "mine.pt"))
    joined = join(started, kinds=("identity", "params", "reset"))

    assert names(joined) == [
        "stock@down_neck+stock@psa_attention musgd s0 yolo26n",
        "reset@down_neck+reset@psa_attention musgd s0 yolo26n",
    ]
    assert [entry.kind for entry in joined.controls.values()] == ["identity", "reset"]
    assert [entry.of for entry in joined.controls.values()] == ["", "wide@down_neck+hmha@psa_attention"]
    assert len(joined.notes) == 1
    assert "wide@down_neck has no control of params" in joined.notes[0]


def test_a_block_stands_for_a_module_that_replaces_a_layer_of_equal_channels() -> None:
    (block,) = join(trial("hmha", "psa_attention"), kinds=("params",)).trials
    assert block.identity.variant == "convblock[like=hmha]@psa_attention musgd"


def test_without_starting_weights_or_layers_with_weights_there_is_nothing_to_reset(wide: str) -> None:
    joined = join(trial(wide), trial("hmha"), kinds=("reset",))
    assert joined.trials == []
    assert [note.split(":")[1][:30] for note in joined.notes] == [
        " reset has no trials",
        " hmha@c3k2 has no control of r",
    ]


def test_a_changed_loss_has_the_stock_loss_by_the_same_path_as_its_identity() -> None:
    (control,) = join(trial(loss={"box": "siou"}), kinds=("identity",)).trials
    assert control.identity.variant == "identity@box musgd"


def test_the_control_of_scale_has_the_stock_losses() -> None:
    (control,) = join(trial(loss={"box": "siou"}), kinds=("scale",)).trials
    assert control.settings.losses == LossSettings()
    assert control.identity.variant == "control: scale yolo26s musgd"


def test_losses_alone_have_no_control_of_size_and_that_is_said() -> None:
    joined = join(trial(loss={"box": "siou"}), kinds=("identity", "params"))

    assert names(joined) == ["identity@box musgd s0 yolo26n"]
    assert joined.notes == ["controls: no trial has a graft that params could be a control of"]
