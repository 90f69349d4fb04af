"""The baseline joins every sweep by itself, once for each combination of the other factors."""

from __future__ import annotations

from ablate.study.grid import expand, key_of, with_baselines


def axes(**levels: str) -> dict[str, list[str]]:
    return {key: [f"{key}={level}" for level in text.split(",")] for key, text in levels.items()}


def test_the_baseline_joins_once_for_each_optimizer_and_seed() -> None:
    cells = expand(axes(module="hmha,acmix", optimizer="sgd,musgd", seed="0,1,2"))

    baselines = [cell for cell in cells if "module=none" in cell]
    assert len(baselines) == 2 * 3
    assert len(cells) == 2 * 3 * (1 + 2)
    assert len(set(cells)) == len(cells)


def test_none_does_not_multiply_over_insertion_points() -> None:
    cells = expand(axes(module="none,hmha", insertion="c3k2,head,psa"))

    assert cells.count(("module=none",)) == 1
    assert len(cells) == 1 + 3


def test_options_of_a_module_are_left_out_of_its_baseline() -> None:
    levels = {**axes(module="hmha"), "module.rerank": ["module.rerank=sample", "module.rerank=batch"]}

    assert expand(levels) == [
        ("module=none",),
        ("module=hmha", "module.rerank=sample"),
        ("module=hmha", "module.rerank=batch"),
    ]


def test_each_baseline_comes_before_what_is_compared_with_it() -> None:
    cells = expand(axes(module="hmha,none", seed="0,1"))

    assert cells == [
        ("module=none", "seed=0"),
        ("module=hmha", "seed=0"),
        ("module=none", "seed=1"),
        ("module=hmha", "seed=1"),
    ]


def test_a_sweep_without_modules_is_a_plain_product() -> None:
    assert expand(axes(optimizer="sgd,musgd")) == [("optimizer=sgd",), ("optimizer=musgd",)]


def test_a_baseline_that_nobody_asked_for_is_told_from_one_that_was() -> None:
    combinations = [("module=hmha", "seed=0"), ("module=none", "seed=1"), ("module=hmha", "seed=1")]

    assert with_baselines(combinations, join=True) == {
        ("module=none", "seed=0"): True,
        ("module=hmha", "seed=0"): False,
        ("module=none", "seed=1"): False,
        ("module=hmha", "seed=1"): False,
    }


def test_no_baseline_joins_where_it_is_not_wanted() -> None:
    assert list(with_baselines([("module=hmha",)], join=False)) == [("module=hmha",)]


def test_the_baseline_of_further_grafts_has_none_of_them() -> None:
    levels = {"grafts": ["grafts=['hmha@c3k2']", "grafts=['acmix@head','hmha@c3k2']"], "seed": ["seed=0"]}

    assert expand(levels) == [
        ("module=none", "seed=0"),
        ("module=none", "seed=0", "grafts=['hmha@c3k2']"),
        ("module=none", "seed=0", "grafts=['acmix@head','hmha@c3k2']"),
    ]


def test_a_further_graft_stays_where_the_module_is_none() -> None:
    levels = {**axes(module="none,hmha", insertion="c3k2,head"), "grafts": ["grafts=['acmix']"]}

    assert expand(levels) == [
        ("module=none",),
        ("module=none", "grafts=['acmix']"),
        ("module=hmha", "insertion=c3k2", "grafts=['acmix']"),
        ("module=hmha", "insertion=head", "grafts=['acmix']"),
    ]


def test_an_empty_list_of_grafts_is_the_baseline() -> None:
    assert expand({"grafts": ["grafts=[]", "grafts=['hmha']"]}) == [
        ("module=none",),
        ("module=none", "grafts=['hmha']"),
    ]


def test_keys_are_found_whatever_stands_before_and_behind_them() -> None:
    assert [key_of(item) for item in ("+module.rerank=a=b", "~seed", "optimizer@here=sgd")] == [
        "module.rerank",
        "seed",
        "optimizer",
    ]
