"""`ablate import` says what a network file is made of and makes it a variant of its stock ancestor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import Ablate
from tests.fixtures.network_files import Content, insert, replaced, stock, write, write_code
from tests.security.traps import Traps

from ablate.checkpoints.stored_network import StoredNetwork
from ablate.errors import ConfigError
from ablate.grafting.insertion import GraftError
from ablate.importing import import_command
from ablate.importing.trial_build import Counts, build
from ablate.launching.jobs import Outcome
from ablate.settings.imported_network import KEY, ImportedNetwork, read_imported
from ablate.settings.signature import Identity, identify
from ablate.settings.trial_settings import TrialSettings
from ablate.study.grid import expand
from ablate.training.network import restore

NAME = "my-yolo26n-mine"


@pytest.fixture
def builds_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the imported network in this process, where no process is the subject."""

    def run(function: str, jobs: list[Any], **_: Any) -> list[Outcome]:
        return [Outcome(result=build(job)) for job in jobs]

    monkeypatch.setattr(import_command, "run_in_worker", run)


@pytest.fixture
def written(ablate_here: Ablate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a network with a layer of the user's, imported without being built."""
    counts = Counts(710, 708, 0, 240, 708, 2_500_000, (1.0, 0.53), ())
    monkeypatch.setattr(import_command, "_build", lambda file, network: counts)
    write(tmp_path, insert(stock(), 11, [-1, 1, "EMA", []]))
    write_code(tmp_path)
    done = ablate_here("import", f"{NAME}.yaml", "--code=own_layers")
    assert done.returncode == 0, done.stderr
    return tmp_path / f"{NAME}.ablate.yaml"


def identity(**changes: Any) -> Identity:
    config: dict[str, Any] = {"data": {"name": "shapes"}, **changes}
    return identify(TrialSettings.from_plain(config), "data")


def of_file(path: Path) -> Identity:
    found = read_imported(str(path))
    assert found is not None
    return identity(grafts=[found[1].to_graft(found[0])])


def test_the_report_says_what_was_changed_and_whose_weights_are_kept(
    builds_in_process: None, ablate_here: Ablate, tmp_path: Path
) -> None:
    write(tmp_path, insert(stock(), 11, [-1, 1, "EMA", []]))
    write_code(tmp_path)

    done = ablate_here("import", f"{NAME}.yaml", "--code=own_layers", "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ancestor"] == "yolo26n.yaml"
    assert [change["kind"] for change in report["changes"]] == ["inserted"]
    assert (report["weights"]["untouched"], report["weights"]["stock"], report["weights"]["by_index"]) == (
        708,
        708,
        240,
    )
    name, network = read_imported(str(tmp_path / f"{NAME}.ablate.yaml")) or pytest.fail("it is not read")
    assert (name, network.ancestor, network.aligned[10:13]) == (NAME, "yolo26n.yaml", (10, None, 11))
    assert network.classes == {"EMA": "own_layers.layers.EMA"}


def test_without_code_the_modules_of_the_catalogue_are_named_and_nothing_is_written(
    ablate_here: Ablate, tmp_path: Path
) -> None:
    write(tmp_path, insert(stock(), 11, [-1, 1, "HMHA", []]))

    done = ablate_here("import", f"{NAME}.yaml")

    assert done.returncode == 0, done.stderr
    assert "hmha@10" in done.stdout
    assert not list(tmp_path.glob("*.ablate.yaml"))


@pytest.mark.parametrize(
    ("content", "words", "reason"),
    [
        (insert(stock(), 11, [-1, 1, "Nobody", []]), [], "layer 11 (Nobody): Ultralytics has no Nobody; --code="),
        (
            insert(stock(), 11, [-1, 1, "Nobody", []]),
            ["--code=own_layers"],
            "neither Ultralytics nor --code=own_layers",
        ),
        (insert(stock(), 11, [-1, 1, "EMA", []]), ["--code=nowhere"], "no such file or folder"),
        (insert(stock(), 11, [-1, 1, "EMA", []]), ["--code=own_layers", "--out=x.yaml"], ".ablate.yaml"),
        (
            insert(stock(), 11, [-1, 1, "EMA", []]),
            ["--code=own_layers", "--out=no/x.ablate.yaml"],
            "there is no folder",
        ),
        (replaced(stock(), {5: [40, 1, "Conv", [512, 3, 2]]}), [], "layer 5: it reads layer 40"),
        (stock(), ["--scale=q"], "--scale=q: valid: n, s, m, l, x"),
        (stock("yolo26-pose"), [], "Pose26, which is no detector"),
    ],
)
def test_bad_input_is_one_line(
    ablate_here: Ablate, tmp_path: Path, content: Content, words: list[str], reason: str
) -> None:
    write(tmp_path, content)
    write_code(tmp_path)

    done = ablate_here("import", f"{NAME}.yaml", *words)

    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.ablate.yaml"))


def test_the_variant_and_the_stock_network_s_baseline_share_all_but_the_network(written: Path) -> None:
    variant, baseline = of_file(written), identity()

    assert variant.comparison_key == baseline.comparison_key
    assert variant.signature != baseline.signature
    assert (variant.factors["module"], variant.factors["insertion"]) == (NAME, "network")


def test_the_baseline_joins_by_the_name_of_the_file(written: Path) -> None:
    cells = expand({"model.architecture": [f"model.architecture={written}"], "seed": ["seed=0"]})

    assert cells == [
        ("module=none", "seed=0", "model.architecture=yolo26n.yaml", "model.name=yolo26n"),
        (f"model.architecture={written}", "seed=0"),
    ]


def test_the_signature_follows_layers_and_code_and_not_comments_and_places(written: Path, tmp_path: Path) -> None:
    before = of_file(written).signature
    text = written.read_text(encoding="utf-8")

    written.write_text(f"# another comment\n{text}", encoding="utf-8")
    assert of_file(written).signature == before
    written.write_text(text.replace("SPPF", "SPP", 1), encoding="utf-8")
    assert of_file(written).signature != before
    written.write_text(text, encoding="utf-8")
    code = tmp_path / "own_layers" / "layers.py"
    code.write_text(code.read_text(encoding="utf-8").replace("factor=8", "factor=4"), encoding="utf-8")
    assert of_file(written).signature != before


@pytest.mark.parametrize("further", ["grafts=['hmha@neck_p4']", "head=dyhead", "loss.box=wiou", "module=none"])
def test_components_beside_it_leave_it_where_it_is(written: Path, further: str) -> None:
    network = f"model.architecture={written}"

    cells = expand({_key(each): [each] for each in (network, further)})

    stock, variant = cells
    assert set(stock) == {"module=none", "model.architecture=yolo26n.yaml", "model.name=yolo26n"}
    assert {network, further} <= set(variant)


def _key(override: str) -> str:
    return override.partition("=")[0]


def test_what_is_recorded_builds_the_network_without_the_file(written: Path) -> None:
    found = read_imported(str(written))
    assert found is not None
    settings = TrialSettings.from_plain({"data": {"name": "shapes"}, "grafts": [found[1].to_graft(found[0])]})

    again = TrialSettings.from_plain(json.loads(json.dumps(settings.to_plain())))

    assert again == settings
    assert ImportedNetwork.from_options(again.grafts[0].module.options) == found[1]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"aligned": [0] * 25},
        {"aligned": "all"},
        {"ancestor": "../../evil.yaml"},
        {"classes": {"EMA": "os.system()"}},
        {"classes": {"Conv": "own_layers.layers.EMA"}},
        {"classes": []},
        {"scale": "q"},
        {"code": 7},
    ],
)
def test_a_damaged_file_is_refused(written: Path, change: Content) -> None:
    content = yaml.safe_load(written.read_text(encoding="utf-8"))
    content[KEY] |= change
    written.write_text(yaml.safe_dump(content), encoding="utf-8")

    with pytest.raises(ConfigError) as error:
        read_imported(str(written))

    assert str(written) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.security(
    "Network's yaml",
    "A network file that is imported is read as plain values: its activation is not evaluated, a layer is looked for "
    "in the source of `--code` only, and that is imported in a worker process when the network is built.",
)
def test_reading_and_describing_a_network_file_runs_nothing(
    tmp_path: Path, ablate_here: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "ran.txt"
    monkeypatch.setattr(import_command, "_build", lambda file, network: pytest.fail("it is not built"))
    code = write_code(tmp_path, "trapped_layers")
    trap = f"open({str(note)!r}, 'a').write('ran')\n"
    (code / "__init__.py").write_text(trap, encoding="utf-8")
    evil = {**insert(stock(), 11, [-1, 1, "Nobody", []]), "activation": f"open({str(note)!r}, 'w')"}
    write(tmp_path, evil)

    assert ablate_here("import", f"{NAME}.yaml", "--code=trapped_layers").returncode == 2
    write(tmp_path, insert(stock(), 11, [-1, 1, "Nobody", []]))
    assert ablate_here("import", f"{NAME}.yaml", "--code=trapped_layers").returncode == 2
    assert not note.exists()


@pytest.mark.security(
    "Network's yaml",
    "A file that `import` has written, or a stranger, imports its classes from the code that it names only: no "
    "function of Python or of an installed package is called.",
)
@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("subprocess.getoutput", None),
        ("subprocess.getoutput", Path(subprocess.__file__)),
        ("yaml.unsafe_load", Path(yaml.__file__).parent),
        ("yaml.unsafe_load", "own_layers"),
    ],
)
def test_an_imported_file_calls_its_own_code_alone(
    written: Path, ablate_here: Ablate, target: str, code: Path | None
) -> None:
    content = yaml.safe_load(written.read_text(encoding="utf-8"))
    content[KEY] |= {"classes": {"EMA": target}, "code": None if code is None else str(code)}
    written.write_text(yaml.safe_dump(content), encoding="utf-8")

    done = ablate_here("plan", f"model.architecture={written}", "data=shapes", "model.weights=null")

    assert done.returncode == 2
    assert f"{target}, is not in its code" in done.stderr


@pytest.mark.security(
    "Checkpoint",
    "That of an imported network imports no code by the path and the names in it: only what the user has imported or "
    "named.",
)
def test_a_checkpoint_of_an_imported_network_imports_no_code(tmp_path: Path) -> None:
    folder = tmp_path / "strangers"
    traps = Traps(folder, tmp_path / "ran.txt")
    (folder / "evil_layers.py").write_text(traps.code, encoding="utf-8")
    content = insert(stock(), 11, [-1, 1, "EMA", []])
    rows = [*content["backbone"], *content["head"]]
    network = {
        "ancestor": "yolo26n.yaml",
        "layers": rows,
        "backbone": 12,
        "scale": "n",
        "scaling": [0.5, 0.25, 1024],
        "settings": {"end2end": True, "reg_max": 1},
        "classes": {"EMA": "evil_layers.EMA"},
        "aligned": [*range(11), None, *range(11, 24)],
        "code": str(folder / "evil_layers.py"),
    }
    graft = {
        "module": {"_target_": "ablate.grafting.imported.ImportedNetwork", **network},
        "insertion": {"name": "network"},
    }
    stored = StoredNetwork({}, yaml={**stock(), "scale": "n", "ablate": graft}, names={0: "a"})

    with pytest.raises(GraftError, match=r"evil_layers\.EMA"):
        restore(stored)

    assert traps.ran == ""


@pytest.mark.slow
def test_an_imported_network_trains_beside_its_baseline_and_is_loaded_where_its_code_is_named(
    ablate: Ablate, tmp_path: Path
) -> None:
    home = tmp_path / "elsewhere"
    write(tmp_path, insert(stock(), 11, [-1, 1, "EMA", []]))
    write_code(home)
    assert ablate("import", f"{NAME}.yaml", f"--code={home / 'own_layers'}").returncode == 0

    words = [f"model.architecture={NAME}.ablate.yaml", "train=smoke", "latency.rounds=3", "latency.warmup=0", "-m"]
    done = ablate(*words)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("multirun/trials/*/result.json")]
    by_module = {record["factors"]["module"]: record for record in records}
    assert set(by_module) == {"none", NAME}
    assert by_module[NAME]["comparison_key"] == by_module["none"]["comparison_key"]
    assert [place["module"] for place in by_module[NAME]["graft"]["places"]] == ["EMA"]
    again = ablate(*words)
    assert "2 done" in again.stdout + again.stderr

    best = tmp_path / "multirun" / "trials" / by_module[NAME]["signature"] / "train" / "weights" / "best.pt"
    assert best.is_file()
    script = f"import ablate; ablate.load({str(best)!r}); print('loaded')"
    refused = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "own_layers.layers.EMA" in refused.stderr
    named = subprocess.run(
        [sys.executable, "-c", f"import own_layers.layers; {script}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert named.stdout.strip() == "loaded", named.stderr
