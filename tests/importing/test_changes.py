"""Each kind of difference is said in words, and as a component of ours where one does the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.network_files import Content, insert, replaced, stock, write

from ablate.importing.catalogue_names import catalogue_name
from ablate.importing.changes import Change, components_of, describe
from ablate.importing.network_file import read_network_file
from ablate.importing.stock_networks import find_ancestor


def changes(folder: Path, content: Content, said: str | None = "yolo26") -> tuple[Change, ...]:
    path = write(folder, content)
    return describe(find_ancestor(read_network_file(path), str(path), said))


def test_a_stock_network_has_no_difference(tmp_path: Path) -> None:
    assert changes(tmp_path, stock()) == ()


def test_an_inserted_module_of_the_catalogue_is_a_graft_after_its_layer(tmp_path: Path) -> None:
    (change,) = changes(tmp_path, insert(stock(), 11, [-1, 1, "HMHA", []]))

    assert (change.kind, change.layer, change.stock) == ("inserted", 11, 10)
    assert "after layer 10 (C2PSA)" in change.text
    assert change.component == "hmha@10"


def test_modules_on_all_inputs_of_the_head_are_one_component(tmp_path: Path) -> None:
    content = stock()
    for at in (23, 20, 17):
        content = insert(content, at, [-1, 1, "ACmix", []])
    found = changes(tmp_path, content)

    assert [change.stock for change in found] == [16, 19, 22]
    # The neck reads these layers too, through what was inserted, as a graft behind the layer is read.
    assert components_of(found) == ["acmix@head"]


def test_what_only_some_readers_get_is_no_component(tmp_path: Path) -> None:
    content = insert(stock(), 5, [-1, 1, "HMHA", []])
    rows = [*content["backbone"], *content["head"]]
    rows[16][0] = [-1, 4]  # the neck still reads the stock layer
    (change,) = changes(tmp_path, {**content, "backbone": rows[:12], "head": rows[12:]})

    assert change.kind == "inserted"
    assert change.component is None
    assert "some of the readers" in change.why_not


def test_a_replaced_layer_is_named_with_its_point(tmp_path: Path) -> None:
    found = changes(tmp_path, replaced(stock(), {5: [-1, 1, "ADown", [512]]}))

    assert [(change.kind, change.layer, change.stock) for change in found] == [("replaced", 5, 5)]
    assert "Conv -> ADown" in found[0].text
    assert "down_backbone" in found[0].text
    assert found[0].component == "adown@replace_layer5"


def test_all_layers_of_a_point_are_that_point(tmp_path: Path) -> None:
    widths = {1: 128, 3: 256, 5: 512, 7: 1024, 17: 256, 20: 512}
    rows = {index: [-1, 1, "ADown", [width]] for index, width in widths.items()}
    backbone = {index: row for index, row in rows.items() if index < 10}
    some = {index: row for index, row in rows.items() if index > 4}

    assert components_of(changes(tmp_path, replaced(stock(), rows))) == ["adown@down"]
    assert components_of(changes(tmp_path, replaced(stock(), backbone))) == ["adown@down_backbone"]
    assert components_of(changes(tmp_path, replaced(stock(), some))) == ["adown@replace_layer5+7+17+20"]


def test_other_channels_are_no_component(tmp_path: Path) -> None:
    (change,) = changes(tmp_path, replaced(stock(), {5: [-1, 1, "ADown", [256]]}))

    assert change.component is None
    assert "512 -> 256" in change.why_not


@pytest.mark.parametrize(
    ("rows", "kind", "text"),
    [
        ({6: [-1, 2, "C3k2", [256, True]]}, "arguments", "changed width of C3k2 at layer 6"),
        ({6: [-1, 4, "C3k2", [512, True]]}, "arguments", "2 -> 4 times"),
        ({9: [-1, 1, "SPPF", [1024, 9, 3, True]]}, "arguments", "SPPF"),
        (
            {23: [[4, 16, 19, 22], 1, "Detect", ["nc"]]},
            "inputs",
            "other inputs of layer 23 (Detect): 16, 19, 22 -> 4, 16",
        ),
    ],
)
def test_a_change_of_a_stock_layer_is_said(tmp_path: Path, rows: dict[int, list[object]], kind: str, text: str) -> None:
    (change,) = changes(tmp_path, replaced(stock(), rows))

    assert change.kind == kind
    assert text in change.text
    assert change.component is None
    assert change.why_not


def test_an_added_branch_is_structural(tmp_path: Path) -> None:
    found = changes(tmp_path, stock("yolo26-p2"))

    assert {"inputs"} <= {change.kind for change in found}
    assert any(change.kind in ("inserted", "added") and change.name == "Concat" for change in found)
    assert components_of(found) is None


def test_settings_of_the_network_are_differences(tmp_path: Path) -> None:
    content = {**stock(), "activation": "nn.ReLU()", "scales": {"n": [0.33, 0.25, 1024]}}

    kinds = [change.text for change in changes(tmp_path, content)]

    assert any("activation" in text for text in kinds)
    assert any("depth 0.5 -> 0.33" in text for text in kinds)


@pytest.mark.parametrize(
    ("name", "point", "module"),
    [
        ("ADown", "down_backbone", "adown"),
        ("SimAM", "insert", "simam"),
        ("BiFPN_Concat2", "fuse", "bifpn"),
        ("Concat_bifpn", "fuse", "bifpn"),
        ("HMHA", "insert", "hmha"),
        ("ADown", "insert", None),
        ("NobodyKnowsThis", "insert", None),
    ],
)
def test_a_class_of_a_collection_is_known_by_the_core_of_its_name(name: str, point: str, module: str | None) -> None:
    assert catalogue_name(name, point) == module
