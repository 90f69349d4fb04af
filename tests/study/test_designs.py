"""A design says which variants a study consists of, and the table's check marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ablate.errors import ConfigError
from ablate.records.json_struct import to_json
from ablate.settings.schema import Config, conf_dir, schema_node
from ablate.settings.signature import identify
from ablate.settings.trial_settings import TrialSettings
from ablate.study.designs import Layout, lay_out

THREE = ["hmha@c3k2", "acmix@head", "musgd"]


def axes(**levels: str) -> dict[str, list[str]]:
    return {key: [f"{key}={level}" for level in text.split(",")] for key, text in levels.items()}


def settings(design: str = "product", components: list[str] | None = None, **others: Any) -> dict[str, Any]:
    return {**asdict(Config()), "design": design, "components": components or [], **others}


def study(design: str, components: list[str], given: dict[str, list[str]] | None = None, **others: Any) -> Layout:
    return lay_out(given or {}, settings(design, components, **others))


# -- designs without components ------------------------------------------------------------------------------------


def test_the_product_is_every_combination_with_its_baselines() -> None:
    layout = lay_out(axes(module="hmha,acmix", optimizer="sgd,musgd"), settings())

    assert layout.cells == [
        (f"module={module}", f"optimizer={optimizer}")
        for optimizer in ("sgd", "musgd")
        for module in ("none", "hmha", "acmix")
    ]
    assert layout.joined == ["module=none" in cell for cell in layout.cells]
    assert layout.record(["a"] * 6) is None


def test_no_baseline_joins_with_baseline_false_but_one_that_is_named_stays() -> None:
    without = lay_out(axes(module="hmha,acmix"), settings(baseline=False))
    named = lay_out(axes(module="none,hmha"), settings(baseline=False))

    assert without.cells == [("module=hmha",), ("module=acmix",)]
    assert named.cells == [("module=none",), ("module=hmha",)]
    assert named.joined == [False, False]


def test_one_at_a_time_varies_each_factor_alone_and_repeats_with_every_seed() -> None:
    levels = axes(module="hmha,acmix", insertion="c3k2,head", seed="0,1", optimizer="sgd,musgd")
    layout = lay_out(levels, settings("one_at_a_time"))
    grafted = [cell for cell, joined in zip(layout.cells, layout.joined, strict=True) if not joined]

    assert len(grafted) == 2 * 4
    for seed in ("seed=0", "seed=1"):
        assert {cell for cell in grafted if seed in cell} == {
            ("module=hmha", "insertion=c3k2", seed, "optimizer=sgd"),
            ("module=acmix", "insertion=c3k2", seed, "optimizer=sgd"),
            ("module=hmha", "insertion=head", seed, "optimizer=sgd"),
            ("module=hmha", "insertion=c3k2", seed, "optimizer=musgd"),
        }
    baselines = [cell for cell in layout.cells if "module=none" in cell]
    assert sorted(baselines) == sorted(
        ("module=none", f"seed={seed}", f"optimizer={name}") for seed, name in product((0, 1), ("sgd", "musgd"))
    )
    assert layout.marks == []


def test_one_at_a_time_refuses_to_vary_the_place_of_nothing() -> None:
    with pytest.raises(ConfigError, match="would vary insertion with the first module named, which is none"):
        lay_out(axes(module="none,hmha", insertion="c3k2,head"), settings("one_at_a_time"))


# -- designs of components -----------------------------------------------------------------------------------------


def marks(design: str, components: list[str] = THREE) -> list[str]:
    return ["".join("+" if there else "." for there in row) for row in study(design, components).marks]


def test_leave_one_out_has_nothing_all_and_all_but_each() -> None:
    assert marks("leave_one_out") == ["...", "+++", ".++", "+.+", "++."]


def test_add_one_in_has_nothing_each_alone_and_all() -> None:
    assert marks("add_one_in") == ["...", "+..", ".+.", "..+", "+++"]


def test_a_factorial_has_every_subset_once() -> None:
    assert marks("factorial") == ["...", "+..", ".+.", "..+", "++.", "+.+", ".++", "+++"]


@pytest.mark.parametrize("design", ["leave_one_out", "add_one_in", "factorial"])
def test_one_component_is_with_and_without(design: str) -> None:
    assert marks(design, ["hmha"]) == [".", "+"]


def test_grafts_go_into_one_network_and_an_optimizer_has_another_level_without() -> None:
    layout = study("leave_one_out", THREE)
    assert layout.cells == [
        ("optimizer=sgd",),
        ("optimizer=musgd", "grafts=['hmha@c3k2','acmix@head']"),
        ("optimizer=musgd", "grafts=['acmix@head']"),
        ("optimizer=musgd", "grafts=['hmha@c3k2']"),
        ("optimizer=sgd", "grafts=['hmha@c3k2','acmix@head']"),
    ]


def test_without_a_component_its_key_has_the_value_of_the_command() -> None:
    layout = study("add_one_in", ["musgd", "train.mosaic=1.0"], axes(optimizer="adamw", **{"train.mosaic": "0.5"}))
    assert layout.cells == [
        ("optimizer=adamw", "train.mosaic=0.5"),
        ("optimizer=musgd", "train.mosaic=0.5"),
        ("optimizer=adamw", "train.mosaic=1.0"),
        ("optimizer=musgd", "train.mosaic=1.0"),
    ]


def test_without_a_component_whose_key_nobody_gave_the_default_stands() -> None:
    assert study("factorial", ["adamw", "train.mosaic=0.25"]).cells == [
        (),
        ("optimizer=adamw",),
        ("train.mosaic=0.25",),
        ("optimizer=adamw", "train.mosaic=0.25"),
    ]


def test_other_axes_multiply_and_each_has_its_own_study() -> None:
    layout = study("leave_one_out", ["hmha", "acmix"], axes(data="shapes,coco8", seed="0,1"))

    assert len(layout.cells) == len(set(layout.cells)) == 4 * 2 * 2
    assert len(layout.marks) == len(layout.studies) == len(layout.joined) == 16
    for cell, number in zip(layout.cells, layout.studies, strict=True):
        assert ("data=coco8" in cell) == (number == 1)


def test_grafts_of_the_command_are_in_every_variant() -> None:
    given = {"grafts": ["grafts=[sta@psa]"], **axes(module="hat")}
    layout = study("add_one_in", ["hmha"], given, grafts=["sta@psa"])
    assert layout.cells == [
        ("module=hat", "grafts=['sta@psa']"),
        ("module=hat", "grafts=['sta@psa','hmha']"),
    ]


def test_without_a_baseline_only_a_factorial_keeps_the_empty_subset() -> None:
    assert all(any(row) for row in study("leave_one_out", THREE, baseline=False).marks)
    assert len(study("factorial", THREE, baseline=False).marks) == 8


@pytest.mark.parametrize(
    ("design", "components", "given", "words"),
    [
        ("product", ["hmha"], {}, "components need a design that combines them: design=leave_one_out"),
        ("one_at_a_time", ["hmha"], {}, "components need a design"),
        ("factorial", [], {}, "design=factorial needs components, such as components=["),
        ("factorial", ["hmha"], axes(module="acmix,sta"), "module is swept together with components"),
        ("factorial", ["hmha"], axes(grafts="[],[acmix]"), "grafts is swept together with components"),
        ("factorial", ["hmha", "hmha"], {}, "'hmha' and 'hmha' are the same"),
        ("factorial", ["acmix", "acmix@head"], {}, "'acmix' and 'acmix@head' are the same"),
        ("factorial", ["musgd", "optimizer=musgd"], {}, "'musgd' and 'optimizer=musgd' are the same"),
        ("factorial", ["sgd", "adamw"], {}, "'sgd' and 'adamw' both set optimizer"),
        ("factorial", ["sgd"], axes(optimizer="sgd"), "has optimizer=sgd all the same; say what it has instead"),
        ("factorial", ["musgd"], axes(optimizer="musgd"), "say what it has instead: optimizer=sgd"),
        ("factorial", ["musgd"], axes(optimizer="sgd,adamw"), "sets optimizer, which is swept as well"),
        ("factorial", ["yolo26n"], {}, "without 'yolo26n' a variant has model=yolo26n all the same"),
        ("factorial", ["train.mosaic=1"], {}, "without 'train.mosaic=1' a variant has train.mosaic=1.0 all the same"),
        ("factorial", ["train.mosiac=1.0"], {}, "no such key in train. did you mean 'mosaic'?"),
        ("factorial", ["trian.mosaic=1.0"], {}, "no such key. did you mean 'train'?"),
        ("factorial", ["train.mosaic=0,1"], {}, "has several values"),
        ("factorial", ["train.mosaic=[1"], {}, "is no override"),
        ("factorial", ["hmah@c3k2"], {}, "'hmah@c3k2' is unknown. did you mean 'hmha'?"),
        ("factorial", ["hmha@c3k2@x"], {}, "components: 'hmha@c3k2@x' is no graft"),
        ("factorial", ["module=hmha"], {}, "a module is named with its point"),
        ("factorial", ["module.rerank=batch"], {}, "a module is named with its point"),
        ("factorial", ["seed=1"], {}, "seed is no part of a variant"),
        ("factorial", ["none"], {}, "'none' is unknown"),
        ("factorial", [f"train.degrees={n}" for n in range(1, 3)], {}, "both set train.degrees"),
        ("factorial", [f"hmha@{n}" for n in range(11)], {}, "11 components are 2048 variants; at most 10"),
        ("product", [], axes(design="product,factorial"), "design: takes one value for the whole command"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(
    design: str, components: list[str], given: dict[str, list[str]], words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        study(design, components, given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_that_two_groups_have_must_say_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "full.yaml").write_text("name: full\n")
    with pytest.raises(ConfigError, match="'full' is an option of train and of data; write train=full"):
        study("factorial", ["full"])
    assert study("factorial", ["train=full"]).cells == [(), ("train=full",)]


# -- what the report is told ---------------------------------------------------------------------------------------


def test_the_record_gives_the_marks_of_each_variant_and_the_reference() -> None:
    layout = study("add_one_in", ["hmha", "acmix"], axes(seed="0,1"))
    keys = ["none", "hmha", "acmix", "both"] * 2

    assert to_json(layout.record(keys)) == {
        "name": "add_one_in",
        "components": ["hmha", "acmix"],
        "marks": {"none": [False, False], "hmha": [True, False], "acmix": [False, True], "both": [True, True]},
        "reference": "none",
    }


def test_the_record_tells_studies_apart_and_leaves_out_what_was_left_out() -> None:
    layout = study("add_one_in", ["hmha"], axes(data="shapes,coco8"))
    record = layout.record([None, "a", "b", "c"])

    assert record is not None
    assert record.marks == {"a": (True,), "b": (False,), "c": (True,)}
    assert record.studies == {"a": 0, "b": 1, "c": 1}
    assert record.reference == "b"


def test_a_component_that_changes_nothing_is_refused() -> None:
    layout = study("add_one_in", ["hmha", "acmix"])
    with pytest.raises(ConfigError, match="'acmix' changes nothing"):
        layout.record(["none", "hmha", "none", "hmha"])


# -- through Hydra -------------------------------------------------------------------------------------------------


@pytest.fixture
def composed() -> Iterator[Any]:
    """How to compose a cell as the program does."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    from ablate.cli.hydra_bridge import plain

    ConfigStore.instance().store(name="ablate", node=schema_node())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield lambda cell: TrialSettings.from_plain(plain(compose("config", overrides=list(cell))))


def test_every_cell_composes_to_the_variant_that_its_marks_say(composed: Any) -> None:
    words = ["hmha[rerank=batch]@c3k2[rezero]", "acmix", "musgd", "train.mosaic=0.25"]
    layout = lay_out({}, {**settings("factorial", words)})
    variants = {}
    for cell, marked in zip(layout.cells, layout.marks, strict=True):
        config = composed(cell)
        grafts = [name for name, there in zip(("hmha", "acmix"), marked, strict=False) if there]
        found = identify(config, "f")
        assert found.factors["module"] == ("+".join(grafts) or "none")
        assert found.factors["optimizer"] == ("musgd" if marked[2] else "sgd")
        assert (config.train.mosaic == 0.25) == marked[3]
        variants[marked] = found

    assert len({found.variant_key for found in variants.values()}) == 16
    assert variants[True, True, True, False].variant == "hmha[rerank=batch]@c3k2[rezero]+acmix@head musgd"
    assert variants[False, False, True, False].variant == "baseline musgd"


def test_every_override_of_a_cell_is_one_that_hydra_reads() -> None:
    words = ["hmha[rerank=batch,bias=true]@4+6[rezero]", "model=yolo26s", "optimizer.lr0=1e-3"]
    parser = OverridesParser.create()
    for cell in study("factorial", words).cells:
        assert not any(override.is_sweep_override() for override in parser.parse_overrides(list(cell)))
