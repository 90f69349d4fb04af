"""Several data sets, one verdict: means, the next data set, ranks; as table, sentences and pictures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from tests.factories import make_record

from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.data_sets import data_set_studies
from ablate.analysis.phrases import probability_text
from ablate.findings.all_findings import sentences
from ablate.records.loading import load_sweep
from ablate.report.data_set_table import data_set_columns
from ablate.report.figures.data_sets import critical_difference, over_data_sets
from ablate.report.html import page_html, table_html
from ablate.report.terminal_table import print_table
from ablate.report.write import markdown
from ablate.storage.files import atomic_write_json

DATA = ("shapes", "coco8", "bccd", "voc", "wheat")
GAINS = {"hmha": (0.02, 0.03, 0.01, 0.04, -0.005), "acmix": (0.001, -0.01, 0.005, -0.001, -0.02)}
LUCK = (0.0, 0.004, -0.004)


def record(data: str, module: str, seed: int, gain: float, rerank: str = "sample") -> dict[str, Any]:
    place = "none" if module == "none" else "c3k2"
    levels = {"module": module, "insertion": place, "optimizer": "sgd", "model": "yolo26n", "data": data}
    identity = f"{sorted(levels.items())}{rerank}"
    base = 0.2 + 0.1 * DATA.index(data)
    wobble = LUCK[seed] * (1 + (module != "none") * (1 + DATA.index(data)) / 10)
    content = make_record(
        signature=hashlib.sha256(f"{identity}{seed}".encode()).hexdigest(),
        variant=f"{'baseline' if module == 'none' else f'{module}@c3k2'} sgd",
        variant_key=hashlib.sha256(identity.encode()).hexdigest()[:16],
        comparison_key=hashlib.sha256(data.encode()).hexdigest()[:16],
        factors=levels,
        seed=seed,
    )
    content["config"] = {"module": {"name": module, "rerank": rerank}, "data": {"name": data}, "seed": seed}
    content["metrics"]["map50_95"] = base + gain + wobble
    return content


def records(data: tuple[str, ...] = DATA, modules: tuple[str, ...] = ("hmha", "acmix"), seeds: int = 3) -> list[Any]:
    return [
        record(name, module, seed, 0.0 if module == "none" else GAINS[module][DATA.index(name)])
        for name in data
        for module in ("none", *modules)
        for seed in range(seeds)
    ]


def compared(folder: Path, made: list[dict[str, Any]]) -> Comparison:
    for each in made:
        atomic_write_json(folder / "trials" / each["signature"] / "result.json", each)
    head = {"name": "s", "signatures": [each["signature"] for each in made]}
    atomic_write_json(folder / "sweeps" / "s" / "sweep.json", head)
    return compare(load_sweep(folder / "sweeps" / "s"))


def text_of(comparison: Comparison) -> str:
    return " ".join(sentences(comparison))


def test_variants_are_matched_by_all_but_the_data_and_pooled_over_data_sets(tmp_path: Path) -> None:
    comparison = compared(tmp_path, records())
    (study,) = data_set_studies(comparison)

    assert study.data == DATA
    assert study.baseline == "baseline sgd"
    assert [variant.label for variant in study.variants] == ["hmha@c3k2 sgd", "acmix@c3k2 sgd"]
    hmha = study.variants[0]
    on = [one.estimate for one in hmha.on]
    assert on == pytest.approx([row.estimate for data in DATA for row in comparison.rows
                                if (row.module, row.data) == ("hmha", data)])  # fmt: skip
    expected = stats.ttest_1samp(on, 0)
    low, high = expected.confidence_interval(0.95)
    assert hmha.pooled.interval is not None
    assert tuple(hmha.pooled.interval) == pytest.approx((np.mean(on), low, high))
    assert hmha.pooled.p_value == pytest.approx(expected.pvalue)
    assert hmha.p_holm == pytest.approx(min(1, 2 * expected.pvalue))
    assert hmha.higher == 4
    assert hmha.pooled.prediction is not None
    assert hmha.pooled.prediction.higher == pytest.approx(
        stats.t.cdf(np.mean(on) / (np.std(on, ddof=1) * np.sqrt(1 + 1 / 5)), 4)
    )


def test_the_sentence_says_on_how_many_it_helps_and_what_the_next_one_will_show(tmp_path: Path) -> None:
    text = text_of(compared(tmp_path, records()))
    assert "hmha@c3k2 sgd +1.9" in text
    assert "higher on 4 of 5 and on the next one with probability 0.8" in text
    assert "Mean ranks over the data sets (1 is the most accurate): hmha@c3k2 sgd 1.20" in text


def test_two_data_sets_predict_nothing_and_say_so(tmp_path: Path) -> None:
    comparison = compared(tmp_path, records(DATA[:2]))
    (study,) = data_set_studies(comparison)
    assert study.variants[0].pooled.prediction is None
    assert study.variants[0].pooled.interval is not None
    assert "Two data sets do not tell what the next one will show" in text_of(comparison)
    assert "with probability" not in text_of(comparison)


def test_one_seed_on_each_data_set_is_enough_for_a_mean_over_data_sets(tmp_path: Path) -> None:
    (study,) = data_set_studies(compared(tmp_path, records(seeds=1)))
    assert study.variants[0].pooled.interval is not None
    assert study.variants[0].pooled.between is None


def test_one_data_set_has_no_study(tmp_path: Path) -> None:
    comparison = compared(tmp_path, records(DATA[:1]))
    assert data_set_studies(comparison) == []
    assert over_data_sets(comparison) is None
    assert critical_difference(comparison) is None
    assert "Several data sets" not in markdown(comparison)


def test_what_is_missing_on_a_data_set_has_no_rank_and_the_mean_of_the_others(tmp_path: Path) -> None:
    made = [r for r in records() if (r["factors"]["module"], r["factors"]["data"]) != ("acmix", "voc")]
    (study,) = data_set_studies(compared(tmp_path, made))
    acmix = next(variant for variant in study.variants if variant.label.startswith("acmix"))
    assert [one.data for one in acmix.on] == ["shapes", "coco8", "bccd", "wheat"]
    assert acmix.mean_rank is None
    assert study.ranks is None, "a baseline and one variant are two"


def test_what_may_not_be_compared_on_a_data_set_takes_no_part(tmp_path: Path) -> None:
    made = records()
    for each in made:
        if (each["factors"]["module"], each["factors"]["data"]) == ("hmha", "wheat"):
            each["realised"]["batch"] = 3
    (study,) = data_set_studies(compared(tmp_path, made))
    assert "wheat" not in [one.data for one in study.variants[0].on]


def test_variants_of_one_label_are_matched_by_their_settings(tmp_path: Path) -> None:
    made = [r for r in records(modules=("hmha",)) if r["factors"]["module"] == "none"]
    for rerank, sign in (("batch", -1), ("sample", 1)):
        made += [record(d, "hmha", s, sign * GAINS["hmha"][i], rerank) for i, d in enumerate(DATA) for s in range(3)]
    (study,) = data_set_studies(compared(tmp_path, made))
    assert [variant.label for variant in study.variants] == [
        "hmha[rerank=sample]@c3k2 sgd",
        "hmha[rerank=batch]@c3k2 sgd",
    ]
    assert [len(variant.on) for variant in study.variants] == [5, 5]
    assert study.ranks is not None
    assert study.rank_of["hmha[rerank=sample]@c3k2 sgd"] == pytest.approx((4 * 1 + 3) / 5)


def test_ranks_are_those_of_scipy(tmp_path: Path) -> None:
    (study,) = data_set_studies(compared(tmp_path, records()))
    assert study.ranks is not None
    accuracies = np.array([[0.0, GAINS["hmha"][i], GAINS["acmix"][i]] for i in range(5)])
    assert len(study.ranked) == 3
    assert study.rank_of["hmha@c3k2 sgd"] == pytest.approx(stats.rankdata(-accuracies, axis=1).mean(axis=0)[1])


def test_table_page_notebook_markdown_and_terminal_say_the_same(tmp_path: Path) -> None:
    comparison = compared(tmp_path, records())
    (study,) = data_set_studies(comparison)
    columns = {column.name: column for column in data_set_columns(study)}
    assert columns["higher"].cells == ("4 of 5", "2 of 5")
    mean = columns["mean"].cells[0]
    assert mean.startswith("+0.0190")
    stream = io.StringIO()
    print_table(comparison, console=Console(file=stream, width=160, force_terminal=False))
    for text in (markdown(comparison), page_html(comparison, [], ""), table_html(comparison), stream.getvalue()):
        assert text.count("Higher on") == 1
        assert mean in text.replace("\N{MINUS SIGN}", "-")


def test_pictures_have_all_variants_and_say_what_bars_are(tmp_path: Path) -> None:
    comparison = compared(tmp_path, records())
    forest, ranks = over_data_sets(comparison), critical_difference(comparison)
    assert forest is not None
    assert ranks is not None
    assert "prediction interval" in forest.caption
    assert "Nemenyi" in ranks.caption
    words = [text.get_text() for text in ranks.figure.axes[0].texts]
    assert any(word.startswith("hmha@c3k2 sgd") for word in words)
    assert any(word.startswith("CD ") for word in words)


def test_a_probability_is_never_said_to_be_certain() -> None:
    said = [probability_text(value) for value in (0.0001, 0.01, 0.5, 0.994, 0.9999)]
    assert said == ["< 0.01", "0.01", "0.50", "0.99", "> 0.99"]
