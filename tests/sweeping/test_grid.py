"""The baseline joins every sweep by itself, once for each combination of the other factors."""

from __future__ import annotations

from ablate.sweeping.grid import expand


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
