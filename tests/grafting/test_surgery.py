"""Surgery puts modules in place, says so, and leaves the stock network's tensors as they were."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.insertion import INSERTIONS, GraftError
from ablate.grafting.replaced_layer import stock_name
from ablate.grafting.surgery import Graft, Grafted, grafts_of, operate
from ablate.settings.graft import GraftSpec, InsertionSpec, ModuleSpec

MODULES = {
    "hmha": {"_target_": "ablate.modules.hmha.HMHA"},
    "acmix": {"_target_": "ablate.modules.acmix.ACmix"},
    "sta": {"_target_": "ablate.modules.sta.StokenAttention"},
    "hat": {"_target_": "ablate.modules.hat.RHAG", "depth": 1},
}


def spec(module: str = "hmha", insertion: str = "c3k2", wiring: str = "plain", **options: Any) -> list[GraftSpec]:
    return [GraftSpec(ModuleSpec.from_plain({**MODULES[module], **options}), InsertionSpec(insertion, wiring=wiring))]


@cache
def built(name: str) -> DetectionModel:
    torch.manual_seed(0)
    return DetectionModel(name, verbose=False)


def network(name: str = "yolo26n.yaml") -> DetectionModel:
    return copy.deepcopy(built(name))


def image(size: int = 64, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def output(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = model.eval()(x)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("insertion", INSERTIONS)
@pytest.mark.parametrize("module", MODULES)
def test_every_module_at_every_insertion_point_runs_and_is_reported(module: str, insertion: str) -> None:
    model = network()

    surgery = operate(model, spec(module, insertion))

    assert len(surgery.places) == sum(isinstance(m, Graft) for m in model.modules())
    for path, (_, new) in surgery.replaced.items():
        assert model.get_submodule(path) is new
    assert output(model, image()).isfinite().all()


@pytest.mark.parametrize("insertion", INSERTIONS)
def test_rezero_starts_as_the_stock_network(insertion: str) -> None:
    stock, grafted = network(), network()
    operate(grafted, spec(insertion=insertion, wiring="rezero"))

    assert torch.equal(output(grafted, image()), output(stock, image()))


def test_residual_adds_the_module_to_what_it_receives() -> None:
    double = Graft(nn.Identity(), "residual")
    assert torch.equal(double(image()), 2 * image())


def test_an_unknown_wiring_is_refused() -> None:
    with pytest.raises(GraftError, match="valid: plain, residual, rezero"):
        Graft(nn.Identity(), "series")


@pytest.mark.parametrize("insertion", ["c3k2", "head", "neck_p3", "psa"])
def test_stock_tensors_keep_their_values_and_behind_the_host_their_names(insertion: str) -> None:
    stock, grafted = network(), network()
    operate(grafted, spec(insertion=insertion))

    kept = {stock_name(name): tensor for name, tensor in grafted.state_dict().items() if stock_name(name)}

    assert kept.keys() == stock.state_dict().keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in stock.state_dict().items())


def test_the_neck_reads_ungrafted_maps_where_only_the_head_is_grafted() -> None:
    stock, grafted = network(), network()
    operate(grafted, spec(insertion="head"))
    seen: dict[str, Tensor] = {}
    for name, model in (("stock", stock), ("grafted", grafted)):
        model.model[22].register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o))
        output(model, image())

    assert torch.equal(seen["stock"], seen["grafted"])


def test_surgery_leaves_the_random_state_alone() -> None:
    model = network()
    before = torch.get_rng_state()

    operate(model, spec())

    assert torch.equal(torch.get_rng_state(), before)


def test_a_graft_s_weights_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = network(), network(), network()
    operate(first, spec(), seed=1)
    torch.rand(100)
    operate(again, spec(), seed=1)
    operate(other, spec(), seed=2)

    def weight(model: DetectionModel) -> Tensor:
        return model.state_dict()["model.4.m.0.cv2.graft.module.qkv.weight"]

    assert torch.equal(weight(first), weight(again))
    assert not torch.equal(weight(first), weight(other))


def test_the_spec_travels_with_the_network_through_copies_pickles_and_files(tmp_path: Path) -> None:
    model = network()
    operate(model, spec("hmha", "c3k2", cache="paper"))
    expected = output(model, image())
    torch.save(model, tmp_path / "network.pt")

    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(tmp_path / "network.pt", weights_only=False),
    ):
        assert list(grafts_of(other)) == spec("hmha", "c3k2", cache="paper")
        assert torch.equal(output(other, image()), expected)


def test_a_grafted_network_fuses_for_deployment() -> None:
    model = network()
    operate(model, spec("acmix", "c3k2"))
    expected = output(model, image())

    fused = copy.deepcopy(model).eval().fuse(verbose=False)

    torch.testing.assert_close(output(fused, image()), expected, rtol=1e-3, atol=1e-3)


def test_two_grafts_in_one_network_are_refused() -> None:
    model = network()
    operate(model, spec())
    with pytest.raises(GraftError, match="carries a graft already"):
        operate(model, spec())


def test_channels_that_a_module_cannot_divide_are_refused_with_place_and_number() -> None:
    with pytest.raises(GraftError, match=r"at c3k2 \(model\.2\.m\.0\.cv2\): .* 16 channels: .*num_heads=7"):
        operate(network(), spec("sta", "c3k2", num_heads=7))


def test_a_class_that_cannot_be_imported_is_refused() -> None:
    broken = [GraftSpec(ModuleSpec("no.such.Thing"), InsertionSpec("head"))]
    with pytest.raises(GraftError, match=r"no\.such\.Thing"):
        operate(network(), broken)


def test_the_query_key_cache_reaches_the_next_graft_and_no_other_image() -> None:
    model = network()
    operate(model, spec("hmha", "c3k2", cache="paper"))
    alone = output(model, image())

    output(model, image(96, batch=2))

    assert torch.equal(output(model, image()), alone)


def several(*grafts: list[GraftSpec]) -> list[GraftSpec]:
    return [graft for one in grafts for graft in one]


PAIRS = {
    "apart": (spec("hmha", "c3k2"), spec("acmix", "head")),
    "nested": (spec("hmha", "backbone_p3"), spec("acmix", "c3k2")),
    "chained behind a layer": (spec("acmix", "neck_p4"), spec("hmha", "neck_p4")),
    "chained before the head": (spec("acmix", "head"), spec("sta", "head")),
    "the same twice": (spec("acmix", "psa"), spec("acmix", "psa")),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_two_grafts_run_in_one_network_and_leave_its_stock_tensors_as_they_were(pair: str) -> None:
    stock, model = network(), network()

    surgery = operate(model, several(*PAIRS[pair]))

    assert len(surgery.places) == sum(isinstance(module, Graft) for module in model.modules())
    assert output(model, image()).isfinite().all()
    kept = {stock_name(name): tensor for name, tensor in model.state_dict().items() if stock_name(name)}
    assert kept.keys() == stock.state_dict().keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in stock.state_dict().items())


@pytest.mark.parametrize("pair", PAIRS)
def test_two_grafts_by_rezero_start_as_the_stock_network(pair: str) -> None:
    stock, model = network(), network()
    operate(
        model, [replace(graft, insertion=replace(graft.insertion, wiring="rezero")) for graft in several(*PAIRS[pair])]
    )

    assert torch.equal(output(model, image()), output(stock, image()))


def test_the_places_of_each_graft_are_those_it_has_alone() -> None:
    first, second = spec("hmha", "backbone_p3"), spec("acmix", "c3k2")
    alone = [[str(place) for place in operate(network(), one).places] for one in (first, second)]

    together = operate(network(), several(first, second))

    assert [str(place) for place in together.places] == alone[0] + alone[1]


@pytest.mark.parametrize("order", [("acmix", "hmha"), ("hmha", "acmix")])
def test_grafts_at_one_place_are_chained_in_the_order_of_the_spec(order: tuple[str, str]) -> None:
    model = network()
    surgery = operate(model, several(*(spec(module, "neck_p4") for module in order)))
    seen: list[Tensor] = []
    outer = model.get_submodule("model.19")
    assert isinstance(outer, Grafted)
    assert isinstance(outer.host, Grafted)
    outer.host.graft.register_forward_hook(lambda m, i, o: seen.append(o))
    outer.graft.register_forward_hook(lambda m, i, o: seen.append(i[0]))

    output(model, image())

    assert torch.equal(seen[0], seen[1])
    names = [type(graft.module).__name__.lower() for graft in (outer.host.graft, outer.graft)]
    assert tuple(names) == order
    assert surgery.replaced["model.19"] == (outer.host.host, outer)


def test_weights_of_a_graft_do_not_depend_on_what_is_grafted_elsewhere() -> None:
    alone, together = network(), network()
    operate(alone, spec("acmix", "head"), seed=3)
    operate(together, several(spec("hmha", "c3k2"), spec("acmix", "head")), seed=3)

    new = {name: tensor for name, tensor in alone.state_dict().items() if stock_name(name) is None}
    assert new
    state = together.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in new.items())


def test_the_same_module_twice_at_one_place_has_two_sets_of_weights() -> None:
    model, again = network(), network()
    for one in (model, again):
        operate(one, several(spec("hmha", "neck_p4"), spec("hmha", "neck_p4")), seed=1)

    first, second = (model.state_dict()[f"model.19.{path}graft.module.qkv.weight"] for path in ("host.", ""))
    assert not torch.equal(first, second)
    assert torch.equal(second, again.state_dict()["model.19.graft.module.qkv.weight"])


def test_a_summary_names_the_module_of_each_place_where_there_are_several() -> None:
    one = operate(network(), spec("acmix", "head")).report()
    two = operate(network(), several(spec("hmha", "psa", "rezero"), spec("acmix", "head"))).report()

    assert one.wiring == "plain"
    assert set(one.places[0].content) == {"place", "channels", "stride"}
    assert two.wiring == "rezero+plain"
    assert [
        (place.place, str(place.content["module"]).rpartition(".")[2], place.content["wiring"]) for place in two.places
    ] == [
        ("model.10.m.0.attn", "HMHA", "rezero"),
        *[(f"model.23 input {port}", "ACmix", "plain") for port in range(3)],
    ]


def test_a_network_with_two_grafts_travels_as_one_with_one(tmp_path: Path) -> None:
    model = network()
    asked = several(spec("hmha", "c3k2", cache="paper"), spec("acmix", "head"))
    operate(model, asked)
    expected = output(model, image())
    torch.save(model, tmp_path / "network.pt")

    other = torch.load(tmp_path / "network.pt", weights_only=False)

    assert list(grafts_of(other)) == asked
    assert torch.equal(output(other, image()), expected)
    fused = copy.deepcopy(model).eval().fuse(verbose=False)
    torch.testing.assert_close(output(fused, image()), expected, rtol=1e-3, atol=1e-3)


def test_a_network_s_yaml_holds_one_graft_in_the_form_of_old_checkpoints() -> None:
    one, two = network(), network()
    operate(one, spec("acmix", "head"))
    operate(two, several(spec("hmha", "c3k2", cache="paper"), spec("acmix", "head")))

    assert one.yaml["ablate"] == {
        "module": {"_target_": "ablate.modules.acmix.ACmix"},
        "insertion": {"name": "head", "at": None, "wiring": "plain"},
    }
    assert two.yaml["ablate"]["grafts"][1] == one.yaml["ablate"]
    assert two.yaml["ablate"]["grafts"][0]["module"] == {"_target_": "ablate.modules.hmha.HMHA", "cache": "paper"}


def test_a_place_that_a_second_graft_lacks_is_refused() -> None:
    with pytest.raises(GraftError, match="insertion=c3k2: yolov8n has no such place"):
        operate(network("yolov8n.yaml"), several(spec("acmix", "head"), spec("hmha", "c3k2")))
