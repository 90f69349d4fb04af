"""Networks that are not trained yet are built as their trials would start with them, and measured side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.latency.latency_settings import Setting
from ablate.latency.measurement_job import MeasurementOptions, UntrainedJob, UntrainedNetwork
from ablate.latency.worker import measure_untrained
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.study.matched_latency import stock_settings

OPTIONS = MeasurementOptions(rounds=3, warmup=1, warmup_max=1)


def untrained(settings: TrialSettings) -> UntrainedNetwork:
    return UntrainedNetwork(settings, ("a", "b"), 3)


def grafted(**changes: Any) -> TrialSettings:
    content = asdict(Config()) | {"data": {"name": "mine", "path": "mine.yaml"}, "device": "cpu"}
    content["module"] = option_file("module", "eca")
    content["train"] |= {"imgsz": 60}
    return TrialSettings.from_plain({**content, **changes})


def test_each_network_has_times_and_a_width_that_cannot_be_built_its_reason() -> None:
    settings = grafted()
    networks = {
        "graft": settings,
        "stock": stock_settings(settings),
        "wider": stock_settings(settings, "width", 0.2578125),
        "larger": stock_settings(settings, "imgsz", 96),
        "unbuildable": stock_settings(settings, "width", 50 / 128),  # 200 channels of attention for 3 heads
    }
    job = UntrainedJob({key: untrained(each) for key, each in networks.items()}, (Setting(),), OPTIONS)
    (measured,) = measure_untrained(job).settings

    assert measured.imgsz == [64, 96]
    for key in ("graft", "stock", "wider", "larger"):
        assert measured.networks[key].reason is None
        assert len(measured.networks[key].totals) == 3
    assert "cannot be built" in (measured.networks["unbuildable"].reason or "")


def test_a_graft_at_a_place_that_the_network_lacks_is_an_error_of_ours() -> None:
    settings = grafted(insertion={"name": "nowhere", "at": [999], "wiring": "plain"})
    with pytest.raises(ConfigError, match="no network can be measured: the network cannot be built"):
        measure_untrained(UntrainedJob({"graft": untrained(settings)}, (Setting(),), OPTIONS))
