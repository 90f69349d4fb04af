"""`ablate.load_sweep`: the results of a sweep for Python users, and the notebook that uses nothing else."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ablate
from ablate.report.notebook import source_notebook

Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
DOCS = Path(__file__).parents[1] / "docs" / "python-api.md"


def run(code: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_the_table_is_the_one_of_the_files_unrounded(records: Grid, write: Write) -> None:
    made = records()
    sweep = ablate.load_sweep(write(made))

    assert len(sweep) == len(sweep.table) == 10
    assert list(sweep.table.columns[:3]) == ["variant", "module", "insertion"]
    assert sweep.trials["signature"].tolist() == [record["signature"] for record in made]
    assert sweep.trials["map50_95"].tolist() == [record["metrics"]["map50_95"] for record in made]


def test_a_variant_has_its_difference_with_both_intervals_and_whether_it_is_supported(
    records: Grid, write: Write
) -> None:
    sweep = ablate.load_sweep(write(records()))
    for variant in sweep:
        row = sweep.table.set_index("variant").loc[variant.label]
        difference = variant.difference
        if difference is None:
            assert row["module"] == "none"
            continue
        assert difference.over_seeds is not None
        assert difference.over_images is None
        assert difference.estimate == row["delta_map50_95"] == difference.over_seeds.estimate
        assert (difference.over_seeds.low, difference.over_seeds.high) == (row["delta_ci_low"], row["delta_ci_high"])
        assert (difference.p_value, difference.p_holm) == (row["p_value"], row["p_holm"])
        assert difference.supported == (row["comparable"] == "yes" and row["p_holm"] < 0.05)
        assert set(difference.covers) == {"over_seeds", "over_images", "over_both"}
    assert {variant.difference.supported for variant in sweep if variant.difference} == {True, False}


def test_what_is_not_comparable_or_a_control_is_never_supported(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for record in made[3:6]:
        record["realised"]["batch"] = 4
    directory = write(made)
    head = json.loads((directory / "sweep.json").read_text())
    control = {"kind": "params", "comparison_key": made[0]["comparison_key"], "of": "hmha@c3k2"}
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": {made[6]["variant_key"]: control}}))
    sweep = ablate.load_sweep(directory)

    flagged, of_control = sweep["hmha@c3k2"].difference, sweep["control: params of hmha@c3k2"].difference
    assert flagged is not None
    assert flagged.p_value is not None
    assert flagged.p_value < 0.05
    assert flagged.p_holm is None  # it takes no part in the correction
    assert not flagged.supported
    assert of_control is not None
    assert of_control.p_holm is None
    assert not of_control.supported
    assert [variant.label for variant in ablate.load_sweep(directory, strict=True)] == [
        "none sgd", "control: params of hmha@c3k2 sgd"
    ]  # fmt: skip


def test_a_variant_is_named_with_or_without_its_optimizer(records: Grid, write: Write) -> None:
    one, two = (ablate.load_sweep(write(records(optimizers=o))) for o in (("sgd",), ("sgd", "musgd")))
    assert one["hmha@c3k2"].label == one["hmha@c3k2 sgd"].label == "hmha@c3k2 sgd"
    with pytest.raises(KeyError, match=r"several variants 'hmha@c3k2'.*hmha@c3k2 sgd, hmha@c3k2 musgd"):
        two["hmha@c3k2"]
    with pytest.raises(KeyError, match="did you mean 'acmix@head sgd'"):
        one["acmx@head sgd"]


def test_names_are_completed_and_what_is_no_name_is_a_key_error(records: Grid, write: Write) -> None:
    sweep = ablate.load_sweep(write(records(("none", "hmha"), ("sgd",), (0,))))
    assert sweep._ipython_key_completions_() == [variant.label for variant in sweep] == ["none sgd", "hmha@c3k2 sgd"]
    assert sweep.name in repr(sweep)
    with pytest.raises(KeyError, match="no variant 0"):
        sweep[0]  # type: ignore[index]
    assert "load_sweep" in dir(ablate)


def test_the_history_has_a_row_for_each_epoch_of_each_trial(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    history = ablate.load_sweep(write(made))["hmha@c3k2"].history
    assert len(history) == 80
    last = history[(history["seed"] == 1) & (history["epoch"] == 40)]
    assert last["map50_95"].tolist() == [made[3]["history"][-1]["map50_95"]]


def test_what_keeps_no_predictions_has_none(records: Grid, write: Write) -> None:
    variant = ablate.load_sweep(write(records(("none", "hmha"), ("sgd",), (0,))))["hmha@c3k2"]
    assert variant.predictions == {}
    assert variant.resample_images() is None


def test_a_folder_that_is_no_sweep_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"it has no sweep\.json"):
        ablate.load_sweep(tmp_path)


def test_results_come_without_torch_and_the_import_without_pandas(records: Grid, write: Write) -> None:
    heavy = "[m for m in ('torch', 'ultralytics', 'mlflow', 'pandas', 'numpy', 'matplotlib') if m in sys.modules]"
    assert run(f"import ablate, sys; print({heavy})") == "[]"
    code = f"import ablate, sys; s = ablate.load_sweep(sys.argv[1]); s.table, s.findings; print({heavy})"
    assert run(code, str(write(records()))) == "['pandas', 'numpy']"


def test_the_package_is_typed() -> None:
    assert (Path(ablate.__file__).parent / "py.typed").is_file()


def test_the_notebook_uses_nothing_else_of_ablate() -> None:
    cells = json.loads(source_notebook().read_text())["cells"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported | modules if name.partition(".")[0] == "ablate"} == {"ablate"}
    assert "ablate" in imported
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    assert {node.attr for node in used if node.value.id == "ablate"} <= set(ablate.__all__)  # type: ignore[attr-defined]


def test_the_examples_of_the_page_run(records: Grid, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(records(("none", "hmha", "acmix"), ("sgd",)))
    monkeypatch.chdir(directory.parent.parent.parent)
    results = DOCS.read_text().partition("## A trained network")[0]
    blocks = re.findall(r"```python\n(.*?)```", results, re.DOTALL)
    assert len(blocks) >= 2
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("multirun/sweeps/my-sweep", str(directory)), namespace)  # the page's own code


def test_the_example_of_a_trained_network_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    monkeypatch.chdir(tmp_path)
    torch.save({"model": DetectionModel("yolo26n.yaml", nc=3, verbose=False).half()}, "best.pt")
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text().partition("## A trained network")[2], re.DOTALL)
    namespace: dict[str, Any] = {}

    exec(block, namespace)  # the page's own code

    assert namespace["detections"].shape == (1, 300, 6)


def test_neither_the_package_nor_its_results_import_torch() -> None:
    code = "import sys, ablate; ablate.load_sweep; print('torch' in sys.modules, 'load' in dir(ablate))"
    assert run(code) == "False True"
