"""The page on speed says what was measured, and the benchmark measures what it says, on maps of a few pixels."""

from __future__ import annotations

import argparse
import json
import random
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[1]
sys.path.insert(0, str(BENCHMARKS))
import authors  # noqa: E402
import common  # noqa: E402
import floors  # noqa: E402
import instructions  # noqa: E402
import module_forms  # noqa: E402
import musgd  # noqa: E402
import speed_page  # noqa: E402
import timing  # noqa: E402

import modules  # noqa: E402
import training  # noqa: E402

sys.path.remove(str(BENCHMARKS))

CPU = torch.device("cpu")
PAGE = BENCHMARKS.parent / "docs" / "speed.md"


def line(**changes: Any) -> dict[str, Any]:
    """A line of the table as `keep` writes it."""
    return {
        "time": "2026-01-02T03:04:05+00:00",
        "cpu": "Processor",
        "torch": "9.9",
        "part": "table",
        "module": "acmix",
        "batch": 4,
        "channels": 64,
        "side": 80,
        "pass": "forward",
        "device": "cpu",
        "device_name": None,
        "precision": "float32",
        "threads": 2,
        "clock": "wall",
        "reference": "authors",
        "authors": "81dddb6",
        "load": 0.1,
        "ms": {"authors": 400.0, "fused": 32.0},
        "faster": {
            "authors": {"median": 1.0, "quartiles": [1.0, 1.0]},
            "fused": {"median": 12.5, "quartiles": [12.4, 12.6]},
        },
        "mb": {"authors": 1000.0, "fused": 80.0},
        "floor": {"composed": {"ms": 8.0, "by": "arithmetic"}},
        **changes,
    }


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert speed_page.with_tables(page, BENCHMARKS / "results") == page


def test_tables_hold_the_measured_numbers() -> None:
    both = line(**{"pass": "forward + backward", "mb": {"authors": 3000.0, "fused": 300.0}})
    text = speed_page.generated([line(), both], [])
    assert "## Processor with AVX-512, 2 threads, float32" in text
    assert "| ACmix | **12.5x** | **12.5x** | **1/10.0** |" in text
    assert "| 4 x 64 x 80 x 80 | forward | 400 | 32 (12.50x, 12.40 to 12.60) | 8 (arithmetic) | 4.0 |" in text
    assert "| 4 x 64 x 80 x 80 | forward + backward | 3000 | 300 (10%) |" in text


def test_of_repeated_measurements_the_last_one_counts_and_settings_stay_apart() -> None:
    later = line(ms={"authors": 100.0, "fused": 77.0})
    other = line(threads=1, ms={"authors": 100.0, "fused": 55.0})
    text = speed_page.generated([line(), later, other], [])
    assert "| 77 (" in text
    assert "| 55 (" in text
    assert "| 32 (" not in text
    assert text.count("### ACmix") == 2


def test_instruction_sets_stay_apart_and_one_that_was_forced_says_so() -> None:
    forced = instructions.describe(["sse2", "avx", "avx2", "avx512f"], instructions.FORCE_AVX2)
    lines = [line(), line(instructions="AVX-512"), line(instructions="AVX2"), line(instructions=forced)]
    text = speed_page.generated(lines, [])
    assert [row for row in text.splitlines() if row.startswith("## Processor")] == [
        "## Processor with AVX-512, 2 threads, float32",
        "## Processor with AVX2, 2 threads, float32",
        "## Processor with AVX2, forced on an AVX-512 processor, 2 threads, float32",
    ]


@pytest.mark.parametrize(
    ("features", "environment", "expected"),
    [
        ("sse2 avx avx2", {}, "AVX2"),
        ("sse2 avx avx2 avx512f avx512_bf16", {}, "AVX-512"),
        ("sse2 avx avx2 avx512f amx_bf16", {"ONEDNN_MAX_CPU_ISA": "ALL"}, "AMX"),
        ("sse2", {}, "SSE"),
        ("sse2 avx avx2", instructions.FORCE_AVX2, "AVX2"),
        ("sse2 avx avx2 avx512f", instructions.FORCE_AVX2, "AVX2, forced on an AVX-512 processor"),
        ("sse2 avx avx2 avx512f", {"DNNL_MAX_CPU_ISA": "avx2_vnni"}, "AVX-512, oneDNN held to AVX2"),
        ("avx avx2 avx512f amx_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "AMX, oneDNN held to AVX-512"),
    ],
)
def test_the_instruction_set_is_that_of_the_processor_or_what_libraries_are_held_to(
    features: str, environment: dict[str, str], expected: str
) -> None:
    assert instructions.describe(features.split(), environment) == expected


def test_every_result_names_the_instruction_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    for name, value in instructions.FORCE_AVX2.items():
        monkeypatch.setenv(name, value)
    common.keep("any", {"found": 1})
    kept = json.loads((tmp_path / "any.jsonl").read_text(encoding="utf-8"))
    assert kept["instructions"] == instructions.instruction_set()


def test_a_step_of_musgd_is_measured_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(musgd, "_optimizer", lambda model, arithmetic: SteppingOptimizer())
    found = musgd.measure("n", rounds=2, seconds=0.0)
    assert (found["rounds"], found["matrices"], set(found["ms"])) == (2, 2, set(musgd.HEAD))
    kept = {"device": "cpu", "cpu": "Processor", "instructions": "AVX2", "model": "yolo26n", **found}
    kept |= {"threads": 2, "auto": "emulated"}
    kept["ms"] = {"Ultralytics": 4900.0, "bf16": 4800.0, "emulated": 100.4, "fp32": 80.04}
    kept["faster"] = {"Ultralytics": 1.0, "bf16": 1.02, "emulated": 49.0, "fp32": 61.0}
    text = speed_page.generated([], [], [{**kept, "ms": dict.fromkeys(musgd.HEAD, 1.0)}, kept])
    assert "| Processor, AVX2 | YOLO26n | 2 | 4900 | 4800 | 100 | 80 | emulated | 49.0x |" in text
    assert text.count("| YOLO26n |") == 1


class SteppingOptimizer:
    """Stands for an optimizer of two matrices and a bias."""

    param_groups = ({"use_muon": True, "params": [1, 2]}, {"use_muon": False, "params": [3]})

    def step(self) -> None:
        """Do nothing."""


def test_trainings_are_compared_with_the_plain_form_and_with_the_network_alone() -> None:
    asked = argparse.Namespace(device="cpu", threads=2, imgsz=320, batch=16, steps=50)
    lines = []
    for module, form, speed, peak in (
        ("none", "stock", 1.0, 2.0),
        ("sta", "plain", 0.4, 4.0),
        ("sta", "fused", 0.8, 3),
    ):
        found = {"warmup": 5, "steps_per_second": speed, "peak_gb": peak}
        lines.append({"cpu": "Processor", "torch": "9.9", **training._row(asked, module, form), **found})
    text = " ".join(speed_page.generated([], [*lines[:2], {**lines[2], "steps": 20}]).split())

    assert "20 or 50 steps at 320 px, batch 16" in text
    assert "| YOLO26n alone | | 1.00 | | | 2.00 | |" in text
    assert "| STA | plain | 0.40 | 0.40x | | 4.00 | |" in text
    assert "| STA | fused | 0.80 | 0.80x | 2.00x | 3.00 | 75% |" in text


def test_the_page_says_what_no_gpu_has_measured() -> None:
    assert "Nothing on this page has been measured on a GPU yet" in speed_page.generated([line()], [])
    text = speed_page.generated([line(), line(device="cuda", device_name="GPU", precision="amp float16")], [])
    assert "## GPU, amp float16" in text
    assert "Not yet measured on a GPU: times and memory of STA, HMHA, HAT; the sweep over sizes of ACmix, STA," in text


# -- times and memory -------------------------------------------------------------------------------------------------


def test_every_form_is_timed_once_a_round_in_changing_order() -> None:
    made: list[str] = []
    calls = {name: lambda name=name: made.append(name) for name in "abc"}
    quick = timing.SAMPLE
    try:
        timing.SAMPLE = 0.0  # one call a sample
        found = timing.rounds(calls, CPU, 12, 60.0, random.Random(0))
    finally:
        timing.SAMPLE = quick
    assert {name: len(times) for name, times in found.items()} == {"a": 12, "b": 12, "c": 12}
    orders = [tuple(made[i : i + 3]) for i in range(3, len(made), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 2


def test_rounds_end_with_the_time_but_not_before_the_second() -> None:
    found = timing.rounds({"a": lambda: None}, CPU, 50, 0.0, random.Random(0))
    assert len(found["a"]) == timing.LEAST_ROUNDS


def test_ratios_are_taken_within_rounds() -> None:
    found = modules.compare({"plain": [10.0, 20.0, 40.0, 30.0], "fused": [5.0, 4.0, 10.0, 30.0]}, [2, 2], "plain")
    assert found["ms"] == {"plain": 25.0, "fused": 7.5}
    assert found["faster"]["fused"] == {"median": 3.0, "quartiles": [1.75, 4.25], "processes": [3.5, 2.5]}
    assert found["faster"]["plain"]["median"] == 1.0


def test_a_pass_that_takes_memory_is_seen_to() -> None:
    assert 45 < timing.rise(lambda: torch.ones(12_500_000), CPU) < 70
    assert timing.rise(lambda: None, CPU) < 5


@pytest.mark.parametrize("power", [2, 3, 4])
@pytest.mark.parametrize("largest", [8, 64, 120, 1000])
def test_the_largest_map_is_found_without_trying_a_much_larger_one(power: int, largest: int) -> None:
    tried: list[int] = []

    def peak(side: int) -> float:
        tried.append(side)
        return 3.0 + (side / (largest + 1)) ** power * 1997

    assert modules.search(peak, 2000.0, 1024, 8) == largest
    assert len(tried) <= 10
    assert max(tried) <= max(64, 3 * largest)


def test_no_map_may_fit_and_all_may() -> None:
    assert modules.search(lambda side: 3000.0, 2000.0, 1024, 8) == 0
    assert modules.search(lambda side: 1.0, 2000.0, 1024, 8) == 1024


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", module_forms.MODULES)
def test_forms_with_equal_weights_agree_before_they_are_timed(module: str) -> None:
    shape = [1, 32, 9, 9]
    forms = {name: module_forms.build(module, name, 32, 9) for name in module_forms.forms_of(module, None)}
    found = module_forms.check_agreement(module, forms, shape, CPU)
    first, *others = (name for name in forms if name in module_forms.EQUAL)
    assert set(found) == set(others)
    parameter = max(forms["fused"].parameters(), key=lambda p: p.numel())
    with torch.no_grad():
        parameter.mul_(1.5)
    with pytest.raises(ValueError, match=f"{module}: fused differs from {first}"):
        module_forms.check_agreement(module, forms, shape, CPU)


def test_the_authors_classes_are_read_without_what_their_file_imports(tmp_path: Path) -> None:
    file = tmp_path / "their.py"
    file.write_text(
        "import no_such_package\n"
        "def twice(x):\n    return 2 * x\n"
        "class Theirs(nn.Module):\n    def forward(self, x):\n        return twice(x)\n"
        "class Network(no_such_package.Base):\n    def mask(self, size):\n        return self.window * size\n"
    )
    found = authors._definitions(file, ("twice", "Theirs"), {}, of_class=("Network", ("mask",)))
    assert found["Theirs"]()(torch.ones(1)) == 2
    assert found["mask"](argparse.Namespace(window=3), 4) == 12
    with pytest.raises(KeyError, match="Gone"):
        authors._definitions(file, ("Gone",), {})


def test_a_weight_without_a_counterpart_is_an_error() -> None:
    with pytest.raises(KeyError, match="bias"):
        authors.load_weights(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))


# -- floors -----------------------------------------------------------------------------------------------------------


def test_a_floor_is_the_arithmetic_or_the_bytes() -> None:
    of: tuple[str, str, list[int]] = ("sta", "composed", [2, 16, 8, 8])
    work = floors.floor(*of, "forward", flops=1e9, bytes=1e30)
    parameters = sum(p.numel() for p in module_forms.build("sta", "composed", 16, 8).parameters())
    assert work["by"] == "arithmetic"
    assert work["ms"] == pytest.approx(1e3 * work["gflop"])
    assert floors.floor(*of, "forward + backward", flops=1e9, bytes=1e30)["ms"] == pytest.approx(3 * work["ms"])
    moved = floors.floor(*of, "forward", flops=1e30, bytes=1e6)
    assert moved["by"] == "bytes"
    assert moved["ms"] == pytest.approx((2 * 2 * 16 * 8 * 8 + parameters) * 4 / 1e3)
    assert floors.floor(*of, "forward + backward", flops=1e30, bytes=1e6)["ms"] == pytest.approx(2 * moved["ms"])


def test_rates_are_measured() -> None:
    assert floors.matrix_rate(CPU, size=64) > 1e6
    assert floors.copy_rate(CPU, megabytes=1) > 1e6


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process's share be done here, and small products tell the machine's rate."""
    monkeypatch.setattr(timing, "matrix_rate", lambda device, amp: floors.matrix_rate(device, amp, size=64))
    monkeypatch.setattr(timing, "copy_rate", lambda device: floors.copy_rate(device, megabytes=1))

    def child(asked: argparse.Namespace, **words: Any) -> dict[str, Any]:
        given = {"device": asked.device, "amp": asked.amp, "threads": 1, "authors": None, **words}
        result: dict[str, Any] = timing._WHAT[words["what"]](json.loads(json.dumps(given)))
        return result

    monkeypatch.setattr(modules, "child", child)


@pytest.mark.usefixtures("in_process")
def test_all_parts_of_the_benchmark_end_in_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--table", "--sweep", "--largest", "--quick", "--only", "sta", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["modules.py", *words])
    monkeypatch.setattr(common, "RESULTS", common.RESULTS)  # back to what it was, after the test
    monkeypatch.setattr(modules, "_at_once", lambda asked, jobs: [job() for job in jobs])  # peaks are the process's
    monkeypatch.setattr(timing, "LEAST_ROUNDS", 1)
    monkeypatch.setattr(timing, "SAMPLE", 0.0)  # one call a sample

    modules.main()

    kept = [json.loads(text) for text in (tmp_path / "modules.jsonl").read_text().splitlines()]
    assert [one["part"] for one in kept].count("table") == 2
    assert [one["part"] for one in kept].count("sweep") == 8
    assert all(set(one["ms"]) == set(module_forms.forms_of("sta", None)) for one in kept if one["part"] == "table")
    page = speed_page.with_tables(PAGE.read_text(encoding="utf-8"), tmp_path)
    for title in ("### Summary", "### STA", "### From 4x4 to 160x160", "### The largest map in 2 GB"):
        assert title in page


def test_a_process_of_its_own_answers() -> None:
    asked = argparse.Namespace(device="cpu", amp=False, threads=1, authors=None)
    what = {"what": "memory", "module": "hmha", "form": "composed", "pass": "forward", "shape": [1, 32, 64, 64]}
    assert modules.child(asked, **what)["mb"] > 1


def test_a_training_that_is_known_is_not_repeated(tmp_path: Path) -> None:
    asked = argparse.Namespace(steps=9, imgsz=64, batch=4, device="cpu", threads=1)
    row = training._row(asked, "hmha", "plain")
    results = tmp_path / "training.jsonl"
    assert not training.known(row, results)
    versions = {name: version(name) for name in ("torch", "ultralytics")}
    machine = {"cpu": common._cpu(), "instructions": instructions.instruction_set()}
    results.write_text(json.dumps({**machine, **versions, **row}) + "\n")
    assert training.known(row, results)
    assert not training.known({**row, "source": "changed"}, results)
    assert not training.known({**row, "threads": 2}, results)
    results.write_text(json.dumps({**machine, **versions, **row, "instructions": "another"}) + "\n")
    assert not training.known(row, results)
    assert not training.known(training._row(asked, "hmha", "fused"), results)


def test_a_training_is_what_a_user_would_ask_for() -> None:
    asked = argparse.Namespace(steps=9, imgsz=64, batch=4, device="cpu", threads=1)
    words = training.overrides(training._row(asked, "hat", "plain"))
    assert "module=hat" in words
    assert "module._target_=ablate.verifying.reference.plain_hat.PlainRHAG" in words
    assert "data.train_images=36" in words
