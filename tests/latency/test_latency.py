"""Latencies of real networks: every backend, precision and batch, checked against fp32 in eager mode."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ablate.latency import backends
from ablate.latency.backends import Unusable, deploy, deviation, head_of, prepare, reference, verify
from ablate.latency.latency_settings import Setting
from ablate.latency.measurement_job import MeasurementOptions
from ablate.latency.percentiles import variant_latencies
from ablate.latency.pipeline import Pipeline, drawn_pictures
from ablate.latency.worker import measure_networks
from ablate.measuring import machine as surroundings
from ablate.records.latency_record import VariantLatency

SIZE = 64
QUICK = MeasurementOptions(rounds=8, warmup=1, warmup_max=1)


def detector(module: str = "none", head: str = "one_to_many", names: int = 3) -> nn.Module:
    """A small untrained network with YOLO26's head, with a module at its customary place, fused."""
    from tests.training.conftest import small_network
    from ultralytics.nn.tasks import DetectionModel

    from ablate.grafting.surgery import operate
    from ablate.settings.graft import GraftSpec

    torch.manual_seed(0)
    network = DetectionModel(small_network(1 / 8), nc=names, verbose=False)
    if module != "none":
        operate(network, [GraftSpec.from_text(module)])
    # Untrained scores are all alike, which would leave the order of an end-to-end head's rows to rounding.
    for parameter in network.model[-1].parameters():
        nn.init.normal_(parameter, std=0.3)
    return deploy(network, head)


@pytest.fixture(scope="module")
def stock() -> nn.Module:
    return detector()


@pytest.fixture(scope="module")
def end_to_end() -> nn.Module:
    return detector(head="one_to_one")


class Tiny(nn.Module):
    """Small enough to be compiled in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.relu(self.convolution(x))
        return y


def image(batch: int = 1, size: int = SIZE, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def difference(network: nn.Module, backend: str, precision: str = "fp32", batch: int = 1) -> float:
    """By how much a backend's output differs from fp32 in eager mode, on an image that it was not traced with."""
    forward = prepare(network, backend, precision, image(batch), threads=1)
    other = image(batch, seed=1)
    return verify(forward, reference(network, other), other, precision)


# -- deployment ---------------------------------------------------------------------------------------------------


def test_deployment_folds_batch_norms_and_keeps_one_branch_of_the_head(stock: nn.Module, end_to_end: nn.Module) -> None:
    for network in (stock, end_to_end):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        assert not network.training
    many, one = stock.model[-1], end_to_end.model[-1]
    assert (many.cv2 is None, many.one2one_cv2 is None) == (False, True)
    assert (one.cv2 is None, one.one2one_cv2 is None) == (True, False)
    assert "suppression is post" in head_of(stock)
    assert "no non-maximum suppression" in head_of(end_to_end)


def test_a_head_with_one_branch_is_deployed_with_that() -> None:
    from ultralytics.nn.tasks import DetectionModel

    network = deploy(DetectionModel("yolov8n.yaml", nc=3, verbose=False), "one_to_one")

    with torch.inference_mode():
        assert backends.tensor_of(network(image())).shape[1] == 4 + 3


# -- backends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("backend", ["eager", "torchscript", "onnx"])
def test_a_backend_computes_what_the_network_does(stock: nn.Module, backend: str, batch: int) -> None:
    assert difference(stock, backend, batch=batch) < 1e-3


@pytest.mark.parametrize("backend", ["torchscript", "onnx"])
def test_an_end_to_end_head_is_exported_with_its_selection(end_to_end: nn.Module, backend: str) -> None:
    assert difference(end_to_end, backend) < 1e-3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_run_on_a_processor_and_stay_near(stock: nn.Module, precision: str) -> None:
    assert 0 < difference(stock, "eager", precision) < backends.TOLERANCE[precision]


@pytest.mark.parametrize("module", ["hmha", "acmix", "sta", "hat"])
def test_grafts_are_traced(module: str) -> None:
    assert difference(detector(module), "torchscript") < 1e-3


@pytest.mark.parametrize("module", ["hmha", "acmix", "sta", "hat"])
def test_grafts_are_exported_to_onnx(module: str) -> None:
    assert difference(detector(module), "onnx") < 1e-3


def test_compile_computes_what_the_network_does() -> None:
    network = deploy(Tiny(), "one_to_many")

    assert difference(network, "compile") < 1e-3


@pytest.mark.slow
def test_compile_takes_a_whole_detector(stock: nn.Module) -> None:
    assert difference(stock, "compile") < 1e-3


def test_the_network_itself_is_left_as_it_is(stock: nn.Module) -> None:
    before = {name: value.clone() for name, value in stock.state_dict().items()}
    for backend in ("eager", "torchscript", "onnx"):
        prepare(stock, backend, "bf16" if backend == "eager" else "fp32", image(), threads=1)

    assert all(torch.equal(value, before[name]) for name, value in stock.state_dict().items())
    assert not stock.model[-1].export


def test_what_a_backend_cannot_do_is_said_in_one_line(stock: nn.Module) -> None:
    with pytest.raises(Unusable) as caught:
        difference(stock, "onnx", "bf16")

    assert str(caught.value)
    assert "\n" not in str(caught.value)


class Forgets(nn.Module):
    """A graph traced with one image computes something else for the next: the branch is taken while tracing."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.mean())


def test_a_graph_that_is_wrong_for_another_image_is_found_out() -> None:
    network = deploy(Forgets(), "one_to_many")
    forward = prepare(network, "torchscript", "fp32", image(), threads=1)
    other = image() * 0.5  # half as bright

    with pytest.raises(Unusable, match="gives another output than fp32 in eager mode"):
        verify(forward, reference(network, other), other, "fp32")


def test_an_output_of_another_shape_or_without_a_number_is_found_out() -> None:
    expected = torch.rand(1, 7, 84)
    with pytest.raises(Unusable, match="shape"):
        verify(lambda x: torch.rand(1, 7, 83), expected, image(), "fp32")
    with pytest.raises(Unusable, match="another output"):
        verify(lambda x: expected * float("nan"), expected, image(), "bf16")


def test_rows_of_an_end_to_end_head_may_come_in_another_order_but_not_with_other_boxes() -> None:
    rows = torch.cat([torch.rand(1, 50, 4) * 100, torch.rand(1, 50, 1), torch.randint(0, 3, (1, 50, 1)).float()], dim=2)

    assert deviation(rows[:, torch.randperm(50)], rows) == 0
    moved = rows.clone()
    moved[..., :4] += 20
    assert deviation(moved, rows) > 0.03
    renamed = rows.clone()
    renamed[..., 5] = 7
    assert deviation(renamed, rows) > 1


# -- measuring ---------------------------------------------------------------------------------------------------


def rows(
    networks: dict[str, Any], settings: list[Setting], plan: MeasurementOptions = QUICK
) -> list[dict[str, VariantLatency]]:
    found = measure_networks(networks, settings, plan)
    return [variant_latencies([setting], dict.fromkeys(networks, "base")) for setting in found.settings]


def test_every_setting_gives_every_network_a_number(stock: nn.Module, end_to_end: nn.Module) -> None:
    networks = {"base": (stock, SIZE), "other": (end_to_end, SIZE)}
    settings = [
        Setting(),
        Setting(batch=2),
        Setting(precision="bf16"),
        Setting(backend="torchscript"),
        Setting(backend="onnx"),
        Setting(scope="pipeline"),
    ]
    found = measure_networks(networks, settings, QUICK)

    for setting in found.settings:
        figures = variant_latencies([setting], {"base": "base", "other": "base"})
        for row in figures.values():
            assert row.latency_ms > 0
            assert len(row.samples_ms) == QUICK.rounds
            assert min(row.samples_ms) <= row.latency_ms <= row.latency_p95_ms <= max(row.samples_ms) + 1e-3
        assert figures["base"].latency_ratio == 1.0
        assert setting.imgsz == SIZE
    assert [times.setting for times in found.settings] == settings
    assert found.facts["threads"] == 1
    assert found.facts["load_before"] is not None
    assert "one-to-many" in found.facts["head"]


@pytest.mark.parametrize(("rounds", "warmed_up"), [(0, None), (1, False)])
def test_what_was_not_warmed_up_is_not_called_warm(rounds: int, warmed_up: bool | None) -> None:
    plan = MeasurementOptions(rounds=3, warmup=rounds, warmup_max=rounds)
    found = measure_networks({"base": (Tiny(), 32)}, [Setting()], plan)

    assert found.settings[0].warmup == rounds
    assert found.settings[0].warmed_up is warmed_up


def test_each_network_gets_its_own_image_size() -> None:
    seen: dict[str, set[int]] = {"a": set(), "b": set()}

    class Looks(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: Tensor) -> Tensor:
            seen[self.name].add(x.shape[-1])
            return x

    found = measure_networks({"a": (Looks("a"), 32), "b": (Looks("b"), 64)}, [Setting()], QUICK)

    assert seen == {"a": {32}, "b": {64}}
    assert found.settings[0].imgsz == [32, 64]


class NoExport(nn.Module):
    """Runs, but leaves nothing that could be traced."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("cannot be traced\nmore that nobody reads")
        return x


def test_a_broken_export_costs_one_row_and_says_why() -> None:
    networks = {"base": (Tiny(), 32), "broken": (NoExport(), 32)}
    traced, eager = rows(networks, [Setting(backend="torchscript"), Setting()])

    assert traced["broken"].latency_ms is None
    assert traced["broken"].reason == "torchscript cannot take this network: cannot be traced"
    assert traced["base"].latency_ms > 0
    assert eager["broken"].latency_ms > 0


class Waits(nn.Module):
    """Takes a known time."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.seconds = milliseconds / 1e3

    def forward(self, x: Tensor) -> Tensor:
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return x


def test_a_network_of_three_times_the_work_takes_three_times_as_long() -> None:
    networks = {"base": (Waits(10.0), 32), "slow": (Waits(30.0), 32)}
    (figures,) = rows(networks, [Setting()], MeasurementOptions(rounds=31, warmup=2, warmup_max=2))

    assert figures["slow"].latency_ratio == pytest.approx(3.0, rel=0.4)  # a busy machine delays both


# -- the pipeline ---------------------------------------------------------------------------------------------------


@pytest.fixture
def build(stock: nn.Module, end_to_end: nn.Module) -> Callable[..., Pipeline]:
    def make(head: str = "one_to_many", backend: str = "eager", precision: str = "fp32", batch: int = 1) -> Pipeline:
        network = stock if head == "one_to_many" else end_to_end
        forward = prepare(network, backend, precision, image(batch), threads=1)
        pictures = drawn_pictures(3, 100)
        setting = Setting(batch, precision, backend, "pipeline")
        return Pipeline(network, forward, pictures, SIZE, setting, "cpu")

    return make


@pytest.mark.parametrize("backend", ["eager", "onnx"])
@pytest.mark.parametrize("head", ["one_to_many", "one_to_one"])
def test_the_pipeline_ends_in_boxes_on_the_picture(build: Callable[..., Pipeline], head: str, backend: str) -> None:
    pipeline = build(head, backend)
    parts = pipeline(0)

    assert len(parts) == 3
    assert all(part > 0 for part in parts)
    (result,) = pipeline.results
    assert result.orig_shape == (100, 100)
    assert len(result.boxes) > 0
    assert float(result.boxes.xyxy.max()) <= 100


def test_the_pipeline_does_what_the_predictor_does(stock: nn.Module, build: Callable[..., Pipeline]) -> None:
    from ultralytics.models.yolo.detect import DetectionPredictor

    predictor = DetectionPredictor(overrides={"imgsz": SIZE, "device": "cpu", "rect": False, "verbose": False})
    picture = drawn_pictures(3, 100)[0]
    (expected,) = predictor(picture, model=stock)
    pipeline = build()
    pipeline(0)
    (found,) = pipeline.results

    assert len(found.boxes) == len(expected.boxes) > 0
    assert torch.allclose(found.boxes.data, expected.boxes.data, atol=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_pipeline_runs_in_half_precision(build: Callable[..., Pipeline], precision: str) -> None:
    pipeline = build(precision=precision, batch=2)

    assert all(part > 0 for part in pipeline(0))
    assert len(pipeline.results) == 2


def test_the_parts_of_the_pipeline_add_up(stock: nn.Module) -> None:
    (figures,) = rows({"base": (stock, SIZE)}, [Setting(scope="pipeline")])
    row = figures["base"]

    assert set(row.parts_ms) == {"preprocess", "network", "postprocess"}
    assert max(row.parts_ms.values()) < row.latency_ms < 2 * sum(row.parts_ms.values())


def test_drawn_pictures_are_the_same_each_time_and_hold_something() -> None:
    first, again = drawn_pictures(2, 64), drawn_pictures(2, 64)

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape == (64, 64, 3)
    assert first[0].std() > 10


# -- surroundings ---------------------------------------------------------------------------------------------------


def test_other_processes_are_seen(busy_machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "BUSY", 0.02)  # far less than what is busy
    facts, reasons = surroundings.busy_before("cpu", seconds=0.5)

    assert facts["others_cpu_before"] > 0.02
    assert "other processes took" in reasons[0]
    assert "before the measurement" in reasons[0]


def test_ones_own_work_is_not_taken_for_that_of_others() -> None:
    others = surroundings.OthersLoad()
    mine = surroundings.OthersLoad()
    mine._start = (others._start[0], others._start[1] - 1000.0, others._start[2])  # as if all had been our own work
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        pass

    assert mine.share() == 0.0
    assert 0 <= others.share() <= 1


def test_who_comes_to_the_gpu_while_it_is_measured_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = iter([frozenset({1, 7}), frozenset({1, 7, 8})])  # 7: ourselves, as a container's host counts
    monkeypatch.setattr(surroundings, "gpu_processes", lambda device: next(listed))
    monkeypatch.setattr(surroundings, "BUSY", 1.0)
    found = measure_networks({"base": (Tiny(), 32)}, [Setting()], QUICK)

    assert list(found.flags) == ["1 other process came to the GPU during the measurement"]


def test_what_runs_between_the_rounds_is_no_others_load(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0, 0.0, 0.0]  # seconds of all cores' work, of ours, of the clock
    monkeypatch.setattr(surroundings.OthersLoad, "_now", staticmethod(lambda: tuple(now)))
    monkeypatch.setattr("psutil.cpu_count", lambda: 1)
    others = surroundings.OthersLoad(watching=False)
    now[:] = [60.0, 0.0, 60.0]  # a minute of a compiler that we started
    assert others.share() == 0.0

    others.resume()
    now[:] = [64.0, 2.0, 64.0]
    others.pause()
    now[:] = [90.0, 2.0, 90.0]  # another one
    others.resume()
    now[:] = [94.0, 6.0, 94.0]
    others.pause()

    assert others.share() == pytest.approx(2.0 / 8.0)


def test_the_surroundings_tell_device_threads_and_clocks() -> None:
    facts, state = surroundings.describe("cpu"), surroundings.state("cpu")

    assert facts["device_name"]
    assert facts["threads"] == torch.get_num_threads()
    assert facts["torch"] == torch.__version__
    assert state["load"] >= 0
    assert state["cpu_mhz"] is None or 100 < state["cpu_mhz"] < 10_000


# -- on a GPU ---------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_gpu_is_timed_with_events_in_every_precision(precision: str) -> None:
    settings = [Setting(precision=precision), Setting(precision=precision, scope="pipeline")]
    found = measure_networks(
        {"base": (detector(), 128)}, settings, MeasurementOptions(device="cuda:0", rounds=20, warmup=5)
    )

    for setting in found.settings:
        row = variant_latencies([setting], {"base": "base"})["base"]
        assert 0 < row.latency_ms < 1000
        assert setting.clock == "CUDA events"
    assert found.facts["device"] == "cuda:0"
    assert found.facts["cuda"]


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torchscript", "compile"])
def test_a_gpu_runs_every_backend_of_pytorch(backend: str) -> None:
    found = measure_networks(
        {"base": (detector(), 128)},
        [Setting(backend=backend)],
        MeasurementOptions(device="cuda:0", rounds=10, warmup=3),
    )

    assert variant_latencies(found.settings, {"base": "base"})["base"].latency_ms > 0


@pytest.mark.gpu
def test_a_gpu_tells_its_driver_clocks_and_use() -> None:
    facts, _ = surroundings.busy_before("cuda:0", seconds=0.2)

    assert surroundings.describe("cuda:0")["driver"]
    assert surroundings.state("cuda:0")["gpu_mhz"] > 0
    assert isinstance(facts["gpu_use_before"], int)
