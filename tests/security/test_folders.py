"""Trial and sweep folders of strangers: what their links and names lead to is neither sent, shown nor written to."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ablate
from ablate.__main__ import main
from ablate.analysis.comparison import compare
from ablate.errors import ConfigError
from ablate.execution.run_trial import run_job
from ablate.execution.trial_job import TrialJob, TrialOutcome
from ablate.log import configure, open_driver_log
from ablate.records.loading import load_sweep
from ablate.report.figures.detections import found_and_missed
from ablate.report.figures.samples import sample_detections
from ablate.settings.schema import Config
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.confined import inside, leave_plain_files, refuse_links
from ablate.storage.layout import OutputFolder
from ablate.storage.locking import held, lock
from ablate.study.trial import Trial
from ablate.tracking.mlflow_payload import trial_files
from ablate.tracking.run_inputs import one_at_a_time, one_at_a_trial
from ablate.tracking.sweep_files import sweep_files

Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]

FOLDER, REPORT = "Trial or sweep folder", "Report"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A private file outside of the output folder."""
    path = tmp_path / "home" / ".ssh" / "id_rsa"
    path.parent.mkdir(parents=True)
    path.write_text("PRIVATE KEY")
    return path


def first_trial(multirun: Path) -> Path:
    return sorted((multirun / "trials").iterdir())[0]


def change(trial: Path, **fields: Any) -> None:
    path = trial / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.security(
    FOLDER, "A record cannot have another file sent to MLflow: not by an absolute path, `..`, or a link."
)
def test_only_files_of_a_trials_own_folder_are_sent(records: Grid, write: Write, multirun: Path, secret: Path) -> None:
    directory = write(records(("none",), ("sgd",), (0,)), samples=True)
    trial = first_trial(multirun)
    (trial / "plot.png").write_bytes(b"a plot")
    (trial / "git.diff").symlink_to(secret)
    (trial / "train").symlink_to(secret.parent)
    (trial / "samples" / "key.jpg").symlink_to(secret)
    up = os.path.relpath(secret, trial)
    change(
        trial,
        artifacts={
            "best": str(secret),
            "evidence": {"best": up, "last": "train/id_rsa", "nul": "a\0b"},
            "plots": ["plot.png", "train/../train/id_rsa", "../../sweeps/shapes-attention/sweep.json", "git.diff"],
        },
    )
    record = load_sweep(directory).trials[0]

    sent = [path for path, _ in trial_files(trial, record)]  # type: ignore[arg-type]

    assert sorted(os.path.relpath(path, trial) for path in sent) == [
        "plot.png", "result.json", "samples/0.jpg", "samples/1.jpg", "samples/2.jpg", "samples/3.jpg",
    ]  # fmt: skip


@pytest.mark.security(FOLDER, "A link in a sweep's folder is not sent to MLflow.")
def test_only_files_of_a_sweeps_own_folder_are_sent(records: Grid, write: Write, secret: Path) -> None:
    directory = write(records(("none",), ("sgd",), (0,)))
    (directory / "notes.txt").symlink_to(secret)
    (directory / "more").symlink_to(secret.parent)

    assert [path.name for path, _ in sweep_files(directory)] == ["latency.json", "sweep.json"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x", "b/link", "nul\0", "..", "", "."])
def test_a_name_that_leads_out_of_a_folder_is_none(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (folder / "b" / "link").symlink_to("/etc/hostname")

    assert inside(folder, name) is None


@pytest.mark.parametrize("name", ["x", "b/x", "b/../x", "to_b/x", "missing/deeper", "...", "..x"])
def test_a_name_that_stays_in_a_folder_is_its_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "to_b").symlink_to("b")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)

    assert inside(folder, name) == folder / name
    assert inside(linked, name) == linked / name


@pytest.mark.security(FOLDER, "Signatures in `sweep.json` that are paths are left out; no other folder is read.")
def test_a_signature_that_is_a_path_is_left_out(records: Grid, write: Write, secret: Path) -> None:
    directory = write(records(("none",), ("sgd",), (0,)))
    head = json.loads((directory / "sweep.json").read_text())
    own = head["signatures"]
    for odd in ("../../../home", "/etc", "..", "", "a" * 3000, "nul\0", "line\n"):
        (directory / "sweep.json").write_text(json.dumps(head | {"signatures": [odd, *own]}))
        sweep = load_sweep(directory)
        assert list(sweep.signatures) == own
        assert any("cannot be one" in line for line in sweep.ignored)


@pytest.mark.security(REPORT, "Images of a record that lie outside of its trial are not shown in a report.")
def test_an_image_outside_of_its_trial_is_not_drawn(
    records: Grid, write: Write, multirun: Path, tmp_path: Path
) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)), samples=True)
    private = tmp_path / "holiday.png"
    Image.fromarray(np.full((160, 160, 3), 200, np.uint8)).save(private)
    for trial in (multirun / "trials").iterdir():
        (trial / "link.jpg").symlink_to(private)
        content = json.loads((trial / "result.json").read_text())
        for sample, name in zip(
            content["samples"], (str(private), os.path.relpath(private, trial), "link.jpg", "link.jpg"), strict=True
        ):
            sample["image"] = name
        (trial / "result.json").write_text(json.dumps(content))
    comparison = compare(load_sweep(directory))

    assert sample_detections(comparison.sweep, comparison.groups[0]) is None


@pytest.mark.security(REPORT, "A record that names images elsewhere on this machine as its data shows none of them.")
def test_images_of_data_that_was_not_used_here_are_not_shown(
    records: Grid, write: Write, multirun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.report.test_figure_list import draw_images, with_evidence

    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    made = records(("none", "hmha"), ("sgd",), (0,))
    draw_images(tmp_path / "private")
    draw_images(tmp_path / "cache" / "views" / "used")

    def drawn(root: Path) -> bool:
        with_evidence(made, multirun, root)
        comparison = compare(load_sweep(write(made)))
        return found_and_missed(comparison.sweep, comparison.groups[0]) is not None

    assert drawn(tmp_path / "cache" / "views" / "used")
    assert not drawn(tmp_path / "private")
    assert not drawn(tmp_path / "cache" / "views" / ".." / ".." / "private")


@pytest.mark.security(REPORT, "A file that is called an image and is PostScript is not given to Ghostscript.")
def test_postscript_is_no_image(
    records: Grid, write: Write, multirun: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
    directory = write(records(("none",), ("sgd",), (0,)), samples=True)
    for image in (first_trial(multirun) / "samples").iterdir():
        image.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 160 160\n%%EndComments\nshowpage\n")
    comparison = compare(load_sweep(directory))

    assert sample_detections(comparison.sweep, comparison.groups[0]) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.security(FOLDER, "Predictions are arrays of numbers and names: a pickle in their place is not loaded.")
def test_a_pickle_in_place_of_predictions_is_not_loaded(
    records: Grid, write: Write, multirun: Path, tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/ran",)

    directory = write(records(("none",), ("sgd",), (0,)))
    trial = first_trial(multirun)
    np.savez(trial / "evidence.npz", names=np.array([Bomb()], dtype=object), schema=np.array(1))
    change(trial, artifacts={"evidence": {"best": "evidence.npz"}})
    variant = next(iter(ablate.load_sweep(directory)))

    with pytest.raises(ValueError, match="not complete"):
        variant.predictions  # noqa: B018
    assert not (tmp_path / "ran").exists()


@pytest.mark.security(FOLDER, "A link in place of a lock, a log or a report is not followed: what it leads to stays.")
def test_nothing_is_written_through_a_link(records: Grid, write: Write, multirun: Path, secret: Path) -> None:
    directory = write(records(("none",), ("sgd",), (0,)))
    output = OutputFolder(multirun)
    trial = output.trial(first_trial(multirun).name)
    for link in (trial.lock, output.tracking_lock, output.publishing_lock, directory / "driver.log"):
        link.symlink_to(secret)
    for form in ("csv", "md", "tex", "html", "ipynb"):
        (directory / f"comparison.{form}").symlink_to(secret)
    (directory / "differences.png").symlink_to(secret)

    with pytest.raises(OSError, match="is a link"), lock(trial.lock):
        pass
    with pytest.raises(OSError, match="is a link"), one_at_a_time(multirun):
        pass
    with pytest.raises(OSError, match="is a link"), one_at_a_trial(multirun, "a" * 64):
        pass
    assert held(trial.lock) is None
    os.mkfifo(multirun / "pipe.lock")
    with pytest.raises(OSError, match="no plain file"), lock(multirun / "pipe.lock"):
        pass
    with pytest.raises(ConfigError, match="no plain file"):
        refuse_links([multirun / "pipe.lock"])
    configure()
    open_driver_log(directory / "driver.log")
    assert main(["report", f"root={multirun}", "resamples=0", "notebook=false"]) == 0

    assert secret.read_text() == "PRIVATE KEY"
    assert not (directory / "comparison.csv").is_symlink()
    assert "hmha" not in (directory / "comparison.csv").read_text()


@pytest.mark.security(
    FOLDER, "A sweep's or a trial's folder that is a link is refused in one line before a run writes."
)
def test_folders_that_are_links_are_refused(
    tmp_path: Path, secret: Path, ablate_here: Callable[..., Any], records: Grid, write: Write, multirun: Path
) -> None:
    write(records(("none",), ("sgd",), (0,)))
    (multirun / "sweeps" / "elsewhere").symlink_to(secret.parent)
    (multirun / "mlflow.db").symlink_to(secret)

    done = ablate_here("report", "elsewhere", f"root={multirun}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is a link" in done.stderr
    for verb in (["ui"], ["train=smoke"]):
        done = ablate_here(*verb, f"root={multirun}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "mlflow.db" in done.stderr
        assert "is a link" in done.stderr
    (multirun / "mlflow.db").unlink()
    smoke = ("train=smoke", "optimizer=sgd", f"root={multirun}", "notebook=false")
    (planned,) = json.loads(ablate_here("plan", *smoke, "probe=false", "--json").stdout)["trials"]
    trial = multirun / "trials" / planned["signature"]
    for link in (trial, trial.with_suffix(".lock")):
        link.symlink_to(secret.parent)
        done = ablate_here(*smoke)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{link.name}: it is a link" in done.stderr
        link.unlink()
    with pytest.raises(ConfigError, match="is a link"):
        refuse_links([multirun / "sweeps" / "elsewhere"])
    assert sorted(path.name for path in secret.parent.iterdir()) == ["id_rsa"]


def test_links_that_lead_out_are_removed(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "trial"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "results.csv").symlink_to(secret)
    (folder / "samples").symlink_to(secret.parent)
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    (folder / "best.pt").write_text("own")
    (folder / "own").symlink_to("best.pt")
    os.mkfifo(folder / "train.log")

    leave_plain_files(folder)

    assert sorted(path.name for path in folder.rglob("*")) == ["best.pt", "own", "train"]
    assert (folder / "own").read_text() == "own"
    assert secret.read_text() == "PRIVATE KEY"


@pytest.mark.security(FOLDER, "`sweeps` and `trials` themselves may be links, to a larger disk: they work as folders.")
def test_sweeps_and_trials_may_be_links(
    records: Grid, write: Write, multirun: Path, tmp_path: Path, ablate_here: Callable[..., Any]
) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    for name in ("sweeps", "trials"):
        (multirun / name).rename(tmp_path / f"large-{name}")
        (multirun / name).symlink_to(tmp_path / f"large-{name}")

    assert len(ablate.load_sweep(directory).trials) == 2
    assert len(load_sweep(directory).trials) == 2
    done = ablate_here("report", f"root={multirun}", "resamples=0", "figures=false")
    assert done.returncode == 0
    assert (directory / "comparison.ipynb").is_file()
    assert "2 done" in ablate_here("status", f"root={multirun}").stdout


@pytest.mark.security(
    FOLDER, "MLflow's database of the folder cannot have files put elsewhere, and no link there is written through."
)
def test_files_of_runs_stay_in_the_folder(
    new_root: Callable[[Path], Path], multirun: Path, write: Write, records: Grid, secret: Path
) -> None:
    from ablate.tracking.store import Store

    new_root(multirun)
    write(records(("none",), ("sgd",), (0,)), runs=False)
    trial = first_trial(multirun)
    (trial / "train.log").write_text("hostile")
    run_id = Store(multirun).publish(trial)
    (place,) = multirun.glob(f"mlartifacts/**/{run_id}/artifacts")
    (place / "train.log").unlink()
    (place / "train.log").symlink_to(secret)
    (trial / "mlflow.json").unlink()

    assert Store(multirun).publish(trial) == run_id
    assert secret.read_text() == "PRIVATE KEY"
    assert (place / "train.log").read_text() == "hostile"

    for address in (secret.parent.as_uri(), "http://evil.example/files", str(secret.parent), "s3://evil/files"):
        with closing(sqlite3.connect(multirun / "mlflow.db")) as database, database:
            database.execute("update runs set artifact_uri = ?", (address,))
        (trial / "mlflow.json").unlink()
        store = Store(multirun)
        store.publish(trial)
        assert [refusal.what for refusal in store.take_refusals()] == ["its files"]
    assert [path.name for path in secret.parent.iterdir()] == ["id_rsa"]


@pytest.mark.security(FOLDER, "Links in a trial's folder that lead out of it are removed before it is trained there.")
def test_a_trial_that_runs_writes_through_no_link_of_its_folder(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATE_TEST_FLAGS", str(tmp_path))
    from tests.faults.quick_training import train

    content = asdict(Config()) | {"root": str(tmp_path / "multirun"), "device": "cpu"}
    content["data"] = {"name": "shapes", "train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0}
    content["train"] |= {"epochs": 1}
    trial = Trial.of(TrialSettings.from_plain(content))
    files = trial.files
    (files.path / "train" / "weights").mkdir(parents=True)
    files.training.history.symlink_to(secret)
    (files.path / "samples").symlink_to(secret.parent)
    os.mkfifo(files.path / "parameter_groups.json")
    for name in (
        "train.log",
        "system.jsonl",
        "tries.json",
        "config.yaml",
        "model.txt",
        "result.backup.json",
        "git.diff",
    ):
        (files.path / name).symlink_to(secret)

    outcome = run_job(TrialJob(trial.settings), train)

    assert isinstance(outcome, TrialOutcome)
    assert outcome.status == "finished"
    assert secret.read_text() == "PRIVATE KEY"
    assert [path.name for path in secret.parent.iterdir()] == ["id_rsa"]
    assert not files.log.is_symlink()
    assert "starts from the beginning" in files.log.read_text()
