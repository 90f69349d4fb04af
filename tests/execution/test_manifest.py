"""A sweep's folder has a name that is safe as a folder and as a word of a tag, whatever the data file is called."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.execution.test_plan import trial as make_trial

from ablate.execution.manifest import open_sweep, sweep_name
from ablate.records.latency_record import LatencyRatio
from ablate.records.loading import load_manifest
from ablate.records.sweep_record import Control


def trials(data: str) -> Any:
    factors = {"module": "hmha", "insertion": "c3k2", "optimizer": "sgd", "model": "yolo26n", "data": data}
    return [SimpleNamespace(identity=SimpleNamespace(signature="ab" * 32, factors=factors))]


@pytest.mark.parametrize("data", ["my data", "a\nb", "50% $x", "a#b?c", "x/../y", "[v2]", "'q'\""])
def test_odd_letters_of_a_data_file_do_not_get_into_the_name(data: str) -> None:
    assert re.fullmatch(r"hmha_[\w.+@=-]+_yolo26n_[0-9a-f]{6}", sweep_name(trials(data)))


def test_a_manifest_that_is_cut_off_is_written_anew_and_named(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, "none")
    folder = open_sweep([trial], ["module=none"])
    whole = folder.manifest.read_bytes()
    folder.manifest.write_bytes(whole[:20])
    ignored: list[str] = []

    open_sweep([trial], ["module=none"], ignored=ignored)

    assert load_manifest(folder).signatures == (trial.identity.signature,)
    (reason,) = ignored
    assert "sweep.json is not complete JSON (20 bytes)" in reason


def test_a_named_sweep_keeps_what_controls_of_earlier_commands_are_matched_with(tmp_path: Path) -> None:
    ratio = LatencyRatio(ratio=0.98, low=0.95, high=1.01)
    for module in ("hmha", "acmix"):
        trial = make_trial(tmp_path, module, sweep="mine")
        control = Control(
            kind="latency",
            comparison_key=trial.identity.comparison_key,
            signatures=(f"of {module}",),
            latency_ratios={module: ratio},
            gflops_ratios={module: 1.5},
        )
        folder = open_sweep([trial], [f"module={module}"], controls={"wider": control})

    (control,) = load_manifest(folder).controls.values()
    assert control.latency_ratios == {"hmha": ratio, "acmix": ratio}
    assert control.gflops_ratios == {"hmha": 1.5, "acmix": 1.5}
    assert control.signatures == ("of hmha", "of acmix")


def test_an_ordinary_name_is_as_it_was() -> None:
    assert sweep_name(trials("größe-1.v2")).startswith("hmha_größe-1.v2_yolo26n_")
