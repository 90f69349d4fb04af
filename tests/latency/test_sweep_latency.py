"""A sweep's latencies: measured in worker processes, written as everybody reads them, and only when they must be."""

from __future__ import annotations

import io
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.factories import decoded

from ablate.cli import verbs
from ablate.cli.latency_words import latency_words
from ablate.errors import ConfigError
from ablate.latency import processes
from ablate.latency import sweep_latency as latency
from ablate.latency.latency_settings import latency_request
from ablate.latency.measurement_job import Checkpoint
from ablate.latency.worker import _load
from ablate.launching.jobs import Outcome
from ablate.records.checkpoint_origin import SIGNATURE
from ablate.records.json_struct import to_json
from ablate.records.latency_record import LatencyReport
from ablate.records.loading import load_sweep, save_record
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import InputHashes, TrialRecord
from ablate.settings.schema import Config, LatencySettings
from ablate.sources.module_source import module_source
from ablate.storage.files import atomic_write_json

QUICK = {**asdict(Config().latency), "rounds": 3, "warmup": 1, "warmup_max": 1, "threads": 1}
ROW = {
    "variant", "variant_key", "signature", "latency_ms", "latency_p95_ms", "latency_ci_low", "latency_ci_high",
    "latency_ratio", "ratio_ci_low", "ratio_ci_high", "samples_ms",
}  # fmt: skip


def write_sweep(root: Path, modules: tuple[str, ...] = ("none", "sta")) -> Path:
    """A sweep whose trials are finished, with real checkpoints of untrained networks."""
    from tests.training.conftest import small_network
    from ultralytics.nn.tasks import DetectionModel

    from ablate.grafting.surgery import operate
    from ablate.settings.graft import GraftSpec

    signatures = []
    for number, module in enumerate(modules):
        torch.manual_seed(0)
        network = DetectionModel(small_network(), nc=3, verbose=False)
        if module != "none":
            operate(network, [GraftSpec.from_text(module)])
        signature = f"{number + 1}" * 64
        trial = root / "trials" / signature
        (trial / "samples").mkdir(parents=True)
        torch.save({"model": network}, trial / "best.pt")
        Image.effect_noise((80, 60), 50).convert("RGB").save(trial / "samples" / "0.jpg")
        image = {"image": "samples/0.jpg", "width": 80, "height": 60, "truth": [], "predictions": []}
        record = decoded(
            signature=signature,
            variant="baseline" if module == "none" else module,
            variant_key=module,
            comparison_key="all",
            factors={"module": module},
            config={},
            metrics={"map50_95": 0.1},
            realised={"imgsz": 64, "device": "cpu"},
            samples=[image],
            artifacts={"best": "best.pt"},
        )
        save_record(trial, record)
        signatures.append(signature)
    folder = root / "sweeps" / "tiny"
    folder.mkdir(parents=True)
    atomic_write_json(folder / "sweep.json", {"name": "tiny", "signatures": signatures, "latency": QUICK})
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("latency"))


@pytest.fixture
def measures_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks be measured in this process; one of their own takes seconds to import torch."""

    def run(backend: object, function: str, jobs: Sequence[Any], *_: object) -> list[Outcome]:
        measure = pkgutil.resolve_name(function)
        return [Outcome(result=measure(job)) for job in jobs]

    monkeypatch.setattr(processes, "run_jobs", run)


def run(folder: Path, again: bool = False, device: str = "auto", **words: Any) -> tuple[LatencyReport | None, str]:
    said = io.StringIO()
    console = Console(file=said, width=200)
    settings = LatencySettings(**{**QUICK, **words})
    return latency.measure_sweep(folder, settings, console, device=device, again=again), said.getvalue()


@pytest.fixture(scope="module")
def measured(sweep: Path) -> dict[str, Any]:
    report, _ = run(sweep, backend=["eager", "torchscript"], batch=[1, 2])
    assert report is not None
    content: dict[str, Any] = to_json(report)
    return content


def test_the_first_setting_stands_on_top_and_all_of_them_below(sweep: Path, measured: dict[str, Any]) -> None:
    written = json.loads((sweep / "latency.json").read_text(encoding="utf-8"))

    assert written == json.loads(json.dumps(measured))
    assert [(s["scope"], s["backend"], s["precision"], s["batch"]) for s in written["settings"]] == [
        (scope, backend, "fp32", batch)
        for scope in ("network", "pipeline")
        for backend in ("eager", "torchscript")
        for batch in (1, 2)
    ]
    assert written["variants"] == written["settings"][0]["variants"]
    for setting in written["settings"]:
        assert [row["variant"] for row in setting["variants"]] == ["baseline", "sta"]
        for row in setting["variants"]:
            assert set(row) >= ROW
            assert row["latency_ms"] > 0
            assert len(row["samples_ms"]) == 3
            assert ("parts_ms" in row) == (setting["scope"] == "pipeline")
        assert setting["variants"][0]["latency_ratio"] == 1.0


def test_the_protocol_tells_all_that_a_reader_must_know(measured: dict[str, Any]) -> None:
    protocol = measured["protocol"]

    assert protocol["device"] == "cpu"
    assert protocol["imgsz"] == 64
    assert (protocol["rounds"], protocol["processes"], protocol["threads"]) == (3, 1, 1)
    assert protocol["head"].startswith("one-to-many")  # what the accuracy was measured with
    for name in ("device_name", "clock", "torch", "order", "interval", "load_before", "load_after", "memory_format"):
        assert protocol[name] is not None
    for name in ("others_cpu_before", "others_cpu_during"):
        assert 0 <= protocol[name] <= 1
    pipeline = measured["settings"][-1]["protocol"]
    assert pipeline["pictures"] == "1 of the data"


def changed(folder: Path, signature: str, **fields: Any) -> None:
    """Record something else of a trial."""
    path = load_sweep(folder).folder.trial(signature).result
    atomic_write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **fields})


@pytest.mark.usefixtures("measures_here")
def test_a_control_is_compared_with_the_baseline_of_what_it_controls_and_told_from_it(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, ("none", "sta"))
    # The second becomes what the stock network of the next bigger scale is: a baseline by its own factors.
    words = {"module": "none", "model": "yolo26s", "optimizer": "sgd"}
    changed(folder, "2" * 64, variant="baseline", variant_key="bigger", comparison_key="other", factors=words)
    head = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    head["controls"] = {"bigger": {"kind": "scale", "comparison_key": "all", "signatures": ["2" * 64]}}
    atomic_write_json(folder / "sweep.json", head)
    found, _ = run(folder, pipeline=False)

    assert found is not None
    stock, bigger = found.variants
    assert (stock.variant, bigger.variant) == ("baseline", "control: scale yolo26s sgd")
    assert stock.latency_ratio == 1.0
    assert bigger.latency_ratio not in (None, 1.0)


@pytest.mark.usefixtures("measures_here")
def test_variants_of_a_design_are_compared_with_the_one_that_has_no_component(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, ("none", "sta"))
    changed(folder, "2" * 64, comparison_key="other")  # an optimizer that is a component makes it another group
    head = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    marks = {"none": [False, False], "sta": [True, True]}
    head["design"] = {"name": "factorial", "components": ["sta", "musgd"], "marks": marks, "studies": {}}
    atomic_write_json(folder / "sweep.json", head)
    found, _ = run(folder, pipeline=False)

    assert found is not None
    assert [row.variant for row in found.variants] == ["baseline", "sta + musgd"]
    assert found.variants[1].latency_ratio not in (None, 1.0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema": 7}, "recorded by another version: schema 7, this one reads 1"),
        ({"metrics": {"map50_95": None}}, "finished without a number for mAP50-95"),
        ({"realised": {}}, "its record lacks the image size or the device"),
        ({"artifacts": {"best": "gone.pt"}}, "its checkpoint is not there"),
    ],
)
def test_a_record_that_cannot_be_measured_costs_its_own_row_and_is_named(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    folder = write_sweep(tmp_path, ("none", "sta"))
    changed(folder, "2" * 64, **fields)
    sweep = load_sweep(folder)
    chosen = latency._first_of_each_variant(sweep)

    assert list(chosen) == ["none"]
    assert latency._left_out(sweep, chosen) == [f"sta was not measured: {reason}"]

    changed(folder, "1" * 64, **fields)
    found, said = run(folder)
    assert found is None
    assert said.splitlines() == [f"latency: {name} was not measured: {reason}" for name in ("baseline", "sta")]


def test_the_same_is_not_measured_twice(sweep: Path, measured: dict[str, Any]) -> None:
    found, said = run(sweep, backend=["eager", "torchscript"], batch=[1, 2])

    assert found is None
    assert said == ""


@pytest.mark.parametrize(
    "change",
    [
        {"batch": [1]},
        {"precision": ["bf16"]},
        {"backend": ["eager"]},
        {"pipeline": False},
        {"rounds": 4},
        {"head": "one_to_one"},
        {"processes": 3},
        {"threads": 2},
    ],
)
def test_something_else_is_measured_anew(sweep: Path, measured: dict[str, Any], change: dict[str, Any]) -> None:
    content = load_sweep(sweep)
    chosen = latency._first_of_each_variant(content)
    before = {**QUICK, "backend": ["eager", "torchscript"], "batch": [1, 2]}

    assert latency._is_measured(content, chosen, latency_request(LatencySettings(**before), "cpu"))
    assert not latency._is_measured(content, chosen, latency_request(LatencySettings(**{**before, **change}), "cpu"))
    assert not latency._is_measured(content, chosen, latency_request(LatencySettings(**before), "cuda:0"))
    assert latency._is_measured(
        content, chosen, latency_request(LatencySettings(**{**before, "busy": "refuse"}), "cpu")
    )


def test_an_old_measurement_without_settings_is_no_error_and_is_made_anew(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, ("none",))
    content = load_sweep(folder)
    row = {"variant_key": "none", "signature": content.signatures[0], "latency_ms": 5.0}
    old = {"protocol": {"rounds": 50}, "variants": [row]}
    atomic_write_json(folder / "latency.json", old)
    content = load_sweep(folder)

    assert not latency._is_measured(
        content, latency._first_of_each_variant(content), latency_request(LatencySettings(**QUICK), "cpu")
    )


@pytest.mark.usefixtures("measures_here")
def test_a_damaged_checkpoint_costs_its_own_row_only(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path)
    checkpoint = load_sweep(folder).folder.trial("2" * 64).path / "best.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    found, said = run(folder, pipeline=False)

    assert found is not None
    stock, broken = found.variants
    assert stock.latency_ms > 0
    assert (broken.latency_ms, broken.latency_ratio, broken.samples_ms) == (None, None, ())
    assert "the checkpoint cannot be loaded" in str(broken.reason)
    assert "sta has no latency: the checkpoint cannot be loaded" in said
    assert any("sta has no latency" in flag for flag in found.flags)


class Touch:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.security(
    "Checkpoint", "In a trial's folder it runs nothing when latency is measured; the message says what it names."
)
def test_a_strangers_checkpoint_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.nn.tasks import DetectionModel

    monkeypatch.chdir(tmp_path)
    torch.save({"model": DetectionModel("yolo26n.yaml", nc=3, verbose=False), "x": Touch()}, "best.pt")

    networks, unreadable = _load({"a": Checkpoint("best.pt", 64, "one_to_one")})
    assert not networks
    assert "posix.system" in unreadable["a"]
    assert "trust_weights=true" in unreadable["a"]
    networks, _ = _load({"a": Checkpoint("best.pt", 64, "one_to_one", trust=True)})
    assert networks.keys() == {"a"}
    assert not Path("ran").exists()


def test_a_checkpoint_of_another_trial_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({SIGNATURE: "2" * 64, "model": None}, path)

    networks, reasons = _load({"a": Checkpoint(str(path), 64, "one_to_one", signature="1" * 64)})

    assert networks == {}
    assert reasons == {"a": f"the checkpoint is of another trial, {'2' * 12}"}


def made_from(sweep: Sweep, sources: dict[str, str]) -> TrialRecord:
    record = sweep.trials[1]
    assert isinstance(record, TrialRecord)
    return msgspec.structs.replace(
        record, inputs=InputHashes(data="", weights=None, architecture="yolo26n.yaml", sources=sources)
    )


def test_a_checkpoint_whose_module_was_edited_since_is_not_measured(sweep: Path) -> None:
    target = "ablate.modules.sta.StokenAttention"
    content = load_sweep(sweep)
    for sources, reason in (
        ({target: module_source(target).sha256}, None),
        ({target: "0" * 64}, f"the source of {target} was edited after it was trained"),
    ):
        assert latency._unfit(content, made_from(content, sources)) == reason
    missing = latency._unfit(content, made_from(content, {"gone_blocks.Gone": "0" * 64}))
    assert missing is not None
    assert "gone_blocks" in missing


def test_a_busy_machine_is_refused_where_that_is_asked_for(sweep: Path, busy_machine: None) -> None:
    with pytest.raises(ConfigError, match=r"latency\.busy=refuse: other processes took \d+% of the processor's time"):
        run(sweep, again=True, busy="refuse")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_said_in_one_line(sweep: Path) -> None:
    with pytest.raises(ConfigError, match="device=cuda:3: this machine has no CUDA devices"):
        run(sweep, again=True, device="3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latency.backend=onx"], "latency.backend=onx: did you mean 'onnx'? valid: eager, compile, torchscript, onnx"),
        (["latency.precision=[fp32,int8]"], "latency.precision=int8: "),
        (["latency.batch=0"], "latency.batch=0 is out of range: it must be >= 1 and <= 4096"),
        (["latency.batch=[]"], "latency.batch=[]: a list with at least one value is needed, such as [1]"),
        (["latency.batch=many"], "latency.batch=many: "),
        (["latency.rounds=2"], "latency.rounds=2 is out of range: it must be >= 3"),
        (["latency.busy=maybe"], "latency.busy=maybe: valid: flag, refuse"),
        (["latency.head=both"], "latency.head=both: "),
        (["latency.pipeline=7up"], "latency.pipeline=7up: "),
        (["latency.round=5"], "latency.round: no such key. did you mean 'latency.rounds'? valid: root, device, "),
        (["rounds=5"], "rounds: no such key. "),
        (["device=gpu"], "device=gpu: valid are auto, cpu, or GPU numbers"),
    ],
)
def test_a_bad_word_ends_in_one_line(
    sweep: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert verbs.latency([*words, f"root={sweep.parent.parent}"]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"ablate: {message}")
    assert said.count("\n") == 1


def test_a_bad_word_is_found_without_torch() -> None:
    code = (
        "import sys; from ablate.cli.verbs import latency; latency(['latency.batch=0']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_a_value_may_stand_for_a_list() -> None:
    several = latency_words(["latency.batch=1,8", "latency.backend=onnx", "device=0"])
    assert (several.device, several.values) == ("0", {"batch": [1, 8], "backend": ["onnx"]})

    listed = latency_words(["latency.batch=[1,8]", "latency.threads=null"])
    assert (listed.device, listed.values) == ("auto", {"batch": [1, 8], "threads": None})


def test_onnx_is_refused_at_once_where_it_is_not_installed(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "onnx" in name else find(name, *rest))

    assert verbs.latency(["latency.backend=onnx", f"root={sweep.parent.parent}"]) == 2
    assert "latency.backend=onnx: onnx is not installed: pip install 'ablate-yolo[export]'" in capsys.readouterr().err


def test_progress_of_a_worker_is_shown_from_its_file(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=100)
    path = tmp_path / "progress.json"
    with processes._Bar(console, processes=2) as bar:
        bar.shower(0, path)(0)  # not there yet
        path.write_text('["network, batch 1, fp32, eager", 30,', encoding="utf-8")
        bar.shower(0, path)(0)  # half written
        path.write_text('["network, batch 1, fp32, eager", 30, 60]', encoding="utf-8")
        bar.shower(1, path)(0)
        assert bar._progress.tasks[0].completed == 1.5
        bar._progress.refresh()

    assert "latency: network, batch 1, fp32, eager" in said.getvalue()


def test_flags_that_differ_in_numbers_only_are_said_once() -> None:
    from ablate.latency.sweep_latency import worst

    busy = "other processes took {}% of the processor's time during the measurement (up to 10% is accepted)"
    assert worst([busy.format(23), "alone", busy.format(68), busy.format(9)]) == [
        f"{busy.format(68)}, the worst of 3 processes",
        "alone",
    ]
