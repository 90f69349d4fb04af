"""Words that cannot be meant end in one line that names them, exit code 2, and nothing runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.__main__ import main

Run = Callable[..., tuple[int, str, str]]

QUICK = ("probe=false", "latency.enabled=false", "train=smoke", "data.train_images=8", "data.val_images=4")

REFUSED = {
    "+note=x": "note: no such key. did you mean 'notebook'?",
    "+epochs=50": "epochs: no such key. did you mean 'train.epochs'?",
    "+lr0=0.1": "lr0: no such key. did you mean 'optimizer.lr0'?",
    "++imgsz=640": "imgsz: no such key",
    "+optimizer.lr=1": "optimizer.lr: no such key. did you mean 'lr",
    "++latency.round=3": "latency.round: no such key. did you mean 'rounds'?",
    "+data.pth=x": "data.pth: no such key. did you mean 'path'?",
    "+model.depth=3": "model.depth: no such key",
    "+train.imgz=3": "train.imgz: not an Ultralytics training argument. did you mean 'imgsz'?",
    "++train.lr0=0.1": "train.lr0: set it with optimizer.lr0",
    "+train.epochs=3": "write train.epochs=",
    "+module=hmha": "write module=",
    "+module@extra=hmha": "one place only",
    "module=hmha +module.depth=3": "module.depth: ablate.modules.hmha.HMHA has no such option",
    "~train.epochs": "~train.epochs: a key cannot be deleted; write train.epochs=",
    "~seed": "write seed=",
    "~data": "write data=",
    "~latency": "write latency=",
    "~module": "write module=none",
    "seed=null": "seed=null: a value is needed",
    "optimizer.lr0=null": "optimizer.lr0=null: a value is needed",
    "train.hsv_h=null": "train.hsv_h=null: a value is needed; its default is 0.015",
    "data.imgsz=null": "data.imgsz=null: a value is needed; its default is 128",
    "latency.rounds=null": "latency.rounds=null: a value is needed",
    "module=sta module.num_heads=null": "module.num_heads=null: a whole number is needed",
    "train.scale=nan": "train.scale=nan: a finite number is needed",
    "seed=true": "seed=true: a whole number is needed",
    "module=": "module=: it names no option; valid: acmix",
    "optimizer=null": "optimizer=null: it names no option",
    "train=3": "train=3: no such option. valid: demo",
    "model=1,2": "model=1,2: no such option",
    "module=glob(x*)": "matches no option",
    "module=hmha.yaml": "the option is named without its suffix: module=hmha",
    "optimizer=sgd,adamw.yaml": "named without its suffix: optimizer=adamw",
    "module=hmha,": "module=hmha,: it cannot be read: a value is missing beside a comma",
    "module=[hmha,acmix]": "grafts=[hmha@c3k2,acmix@head]",
    "module={a:1}": "module.<key>=<value>",
    "seed=range(0,2": "a bracket is not closed",
    "seed=range(3,0)": "this range holds no value",
    "seed=range(0,3,0)": "this range holds no value",
    "seed=range(0,1,-1)": "this range holds no value",
    "module=hmha module=acmix": "module is chosen twice; a sweep over several is module=a,b -m",
    "optimizer=sgd optimizer=adamw": "optimizer is chosen twice",
    "root=": "root=: a value is needed; leave it out for the default, multirun",
    "tracking.experiment=": "tracking.experiment=: a value is needed",
    "root=[a]": "root=[a]: a text is needed",
    "controls=[null]": "controls=[null]: a text is needed",
    "exclude={module:hmha}": "a list is needed, in brackets",
    "latency=false": "such as latency.enabled=false",
    "sweep=..": "does not begin with a dot",
    "sweep=.": "does not begin with a dot",
    "hydra.launcher.cpu_workers=0": "hydra.launcher.cpu_workers=0 is out of range: it must be >= 1",
    "hydra.launcher.cpu_workers=many": "hydra.launcher.cpu_workers=many: auto, or a whole number is needed",
    "hydra.launcher.cpu_workers=1.5": "auto, or a whole number is needed",
    "hydra.launcher.timeout=-5": "hydra.launcher.timeout=-5.0 is out of range: it must be > 0",
    "hydra.launcher.memory_gb=0": "hydra.launcher.memory_gb=0.0 is out of range",
    "hydra.launcher.trials_per_gpu=0": "hydra.launcher.trials_per_gpu=0 is out of range",
    "hydra.launcher.max_retries=-1": "hydra.launcher.max_retries=-1 is out of range",
    "hydra.launcher.gpus=0": "hydra.launcher.gpus=0: auto, or a list of different GPU numbers",
    "hydra.launcher.gpus=[a]": "hydra.launcher.gpus=[a]: auto, or a list",
    "hydra.launcher.gpus=[-1]": "hydra.launcher.gpus=[-1]: auto, or a list",
    "hydra.launcher.gpus=[0,0]": "hydra.launcher.gpus=[0,0]: auto, or a list",
    "hydra/launcher=ray hydra.launcher.num_gpus=some": "hydra.launcher.num_gpus=some: auto, or a number is needed",
    "shuffle(seed)=1": "'shuffle(seed)' is no key",
    "module.rerank=batch": "the module is none, which has no options",
    "module=hmha module._target_=null": "package.module.Class is needed",
    "--config-name=nope": "ablate reads its own configuration",
    "--config-dir=.": "ablate reads its own configuration",
    "--config-path=/tmp": "ablate reads its own configuration",
    "--fast": "no such flag: --fast",
    "hydra/sweeper=basic": "ablate's own sweeper",
    "hydra.mode=RUN": "ablate's own sweeper",
    "hydra.launcher=null": "cannot be deleted",
    "+hydra.note=x": "no such key of Hydra",
    "module=hmha root=${module.name}": "root: takes one value for the whole command, but it is none in one",
    "module=hmha tracking.experiment=${module.name}": "tracking.experiment: takes one value for the whole command",
    "module=hmha latency.rounds=10,20": "latency.rounds: takes one value for the whole command",
    "probe=3": "probe=3: true or false is needed",
    "skip_invalid=2": "skip_invalid=2: true or false is needed",
    "optimizer.cos_lr=0.5,true": "true or false is needed",
    "tracking.uri=foo://bar": "tracking.uri=foo://...: MLflow has no such store. valid: http, https, sqlite",
    "tracking.uri=http://user:secret@host:99999": "tracking.uri=http://...: port out of range",
    "train.fraction=2": "2 images are fewer than a batch (train.batch=8)",
    "root=/proc/nowhere": "root=/proc/nowhere: results cannot be written there",
    "seed=range(0,1e9)": "holds more than 10000 values",
    "seed=range(0,inf)": "a range needs finite numbers",
    "seed=range(0,9999) optimizer.lr0=range(0.1,0.9,0.001)": "trials; a command has at most 20000",
    "train.mosaic=glob(*)": "glob lists the options of a group, and train.mosaic is none",
    "exclude=[{module:glob(*)}]": "glob lists the options of a group",
    "module=sort(hmha,1)": "sort(hmha,1): only values of one kind can be sorted",
    "seed=int(a)": "int(a): 'a' is no whole number",
    "module=nosuch(1)": "there is no function nosuch; valid: choice, range",
    "module==hmha": "one = is enough",
    "=x": "no key stands before =",
    "+~seed=1": "'+~seed' is no key",
    "sweep=mine(2)": """written "sweep='mine(2)'\"""",
    "seed=${nosuch}": "seed: ${nosuch}: there is no such key",
    "seed=${oc.env:ABLATE_NOSUCH}": "seed: the environment has no variable ABLATE_NOSUCH",
    "seed=${nosuch:1}": "seed: ${nosuch:...}: there is no such resolver",
    "insertion.at=${model.name}": "insertion.at=yolo26n: a list is needed, in brackets",
    "latency.rounds=${model.name}": "latency.rounds: a whole number is needed",
    "data.path=5": "data.path=5: a text is needed",
    "data.name=null": "data.name=null: a text is needed",
    "module=hmha module.name=[x]": "module.name=[x]: a text is needed",
    "module=/etc/passwd": "module=/etc/passwd: no such option. valid: acmix",
    "module=status status": "'status': a command stands first: python -m ablate status",
    "hydra/launcher=nosuch": "hydra/launcher=nosuch: no such option. valid: local, ray, slurm",
    "hydra/launcher=basic": "sweeps run on local, ray or slurm",
    "hydra/launcher=[local]": "the name of one option is needed",
    "hydra.launcher._target_=os.getcwd": "a launcher is chosen by its name: hydra/launcher=local",
    "hydra.launcher.stagger=1,2": "takes one value for the whole command",
    "hydra.searchpath=[nowhere]": "hydra.searchpath: nowhere: no such folder",
    "hydra.run=5": "hydra.run=5: another kind of value is needed",
    "--experimental-rerun=x": "ablate reads its own configuration",
    "-cn x": "ablate reads its own configuration",
    "--resolve": "--resolve goes with --cfg only",
    "--package": "--package: a value is needed",
    "--cfg=job": "--cfg shows something else than a plan",
    "--info": "--info shows something else than a plan",
    "-mv": "no such flag: -mv",
    "--conf=x seed=1": "no such flag: --conf. did you mean '--cfg'?",
    "--multirun=1": "this flag takes no value",
    "train.freeze=" + "[" * 3000: "nested too deeply",
    "grafts=[{modul:{}}]": "no module '{modul",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process and an empty folder; return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, errors = capsys.readouterr()
        return code, out, errors

    return command


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_meant_is_one_line(words: str, run: Run, tmp_path: Path) -> None:
    code, out, errors = run("plan", *words.split(), *QUICK)

    assert (code, out) == (2, "")
    assert REFUSED[words] in errors
    assert len(errors.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "something was written"


OTHER_COMMANDS = {
    "status --jso": "status: no such flag: --jso. did you mean '--json'?",
    "status --all=1": "status: --all takes no value",
    "status --json --watch": "exclude each other",
    "verify module=hmha": "verify module=hmha: no such module. did you mean 'hmha'?",
    "verify --golden": "verify: --golden: a value is needed",
    "ui --port=0": "0 is no port",
    "ui --port=99999": "99999 is no port",
    "--resolve seed=1": "--resolve goes with --cfg only",
    "--cfg=job --info": "--cfg and --info exclude each other",
    "--cfg=jobs": "--cfg=jobs: did you mean 'job'? valid: job, hydra, all",
    "-sc": "--shell-completion: say what",
}


@pytest.mark.parametrize("words", OTHER_COMMANDS)
def test_other_commands_answer_in_one_line_too(words: str, run: Run) -> None:
    code, out, errors = run(*words.split())

    assert (code, out) == (2, "")
    assert OTHER_COMMANDS[words] in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_line_stays_one_line_whatever_was_typed(run: Run) -> None:
    code, _, errors = run("plan", "module='a\nb\x1b[31m'")
    assert code == 2
    assert errors.count("\n") == 1
    assert r"module=a\nb\x1b[31m: no such option" in errors

    code, _, errors = run("plan", "sweep=" + "x" * 100_000)
    assert code == 2
    assert len(errors) < 3000


def test_an_option_file_that_cannot_be_one_is_named(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "conf/train"
    folder.mkdir(parents=True)
    (folder / "folder.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    (folder / "nothing.yaml").symlink_to("nowhere")
    words = {"folder": "is a folder", "pipe": "is no regular file", "nothing": "is a link to nothing"}
    for name, reason in words.items():
        code, _, errors = run("plan", f"train={name}")
        assert (code, f"conf/train/{name}.yaml {reason}, where a file is needed" in errors) == (2, True), errors
    assert "folder" not in run("plan", "train=nosuch")[2], "no file is no option"


def plan_of(run: Run, *words: str) -> list[dict[str, Any]]:
    code, out, errors = run("plan", *words, *QUICK, "--json")
    assert code == 0, errors
    trials: list[dict[str, Any]] = json.loads(out)["trials"]
    return trials


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["++optimizer.lr0=0.02"], ["optimizer.lr0=0.02"]),
        (["seed=0,0,1"], ["seed=0,1"]),
        (["optimizer.lr0=0.1,1e-1,.10"], ["optimizer.lr0=0.1"]),
        (["train.batch=${train.imgsz}"], ["train.batch=64"]),
    ],
)
def test_one_thing_written_in_two_ways_is_one_trial(words: list[str], same: list[str], run: Run) -> None:
    assert [t["signature"] for t in plan_of(run, *words)] == [t["signature"] for t in plan_of(run, *same)]


def test_flags_may_stand_between_overrides(run: Run) -> None:
    code, out, _ = run("seed=3", "--cfg", "job", "module=none", "-p", "seed")
    assert (code, out.strip()) == (0, "3")

    code, _, errors = run("seed=3", "--cfg", "job", "module=none", "-p", "nothing")
    assert code == 2
    assert "'nothing'" in errors
