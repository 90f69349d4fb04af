"""Bad input ends in one line on stderr that names what is valid, exit code 2, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.__main__ import main

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]

CASES = [
    (
        ["module=hmah"],
        "module=hmah: no such option. did you mean 'hmha'? valid: acmix, aconv",
    ),
    (["module=none,hmah", "-m"], "did you mean 'hmha'?"),
    (["module=HMHA"], "did you mean 'hmha'?"),
    (["insertion=heda", "module=hmha"], "did you mean 'head'?"),
    (["model=yolo26z"], "yolo26n"),
    (["optimizer=auto"], "refused"),
    (["optimizer.name=auto"], "refused"),
    (["optimizer=sgd,auto", "-m"], "refused"),
    (["optimizer.lr0=-1"], "optimizer.lr0=-1.0 is out of range: it must be > 0"),
    (["optimizer.lr0=fast"], "optimizer.lr0"),
    (["optimizer.lr=0.1"], "did you mean 'lr"),
    (["train.epohcs=3"], "did you mean 'epochs'?"),
    (["+train.epohcs=3"], "did you mean 'epochs'?"),
    (["trian.epochs=3"], "did you mean 'train'?"),
    (["train.epochs=0"], "train.epochs=0 is out of range: it must be >= 1"),
    (["train.batch=2.5"], "train.batch=2.5: a whole number is needed"),
    (["train.mosaic=2"], "train.mosaic=2 is out of range"),
    (["train.cos_lr=true"], "set it with optimizer.cos_lr"),
    (["train.lr0=0.1"], "set it with optimizer.lr0"),
    (["train.rect=maybe"], "train.rect=maybe: true or false is needed"),
    (["seed=-1"], "seed=-1 is out of range"),
    (["device=gpu"], "device=gpu: valid are auto, cpu"),
    (["on_oom=retry"], "valid: fail, halve"),
    (["sweep=a/b"], "sweep=a/b"),
    (["insertion.wiring=serial"], "valid: plain, residual, rezero"),
    (["module=hmha", "insertion.at=[-1]"], "insertion.at"),
    (["module=hmha", "module.rerank=smaple"], "module.rerank=smaple: did you mean 'sample'?"),
    (["module=hmha", "module.rerak=batch"], "did you mean 'rerank'?"),
    (["module=sta", "module.num_heads=0"], "module.num_heads=0 is out of range: it must be >= 1"),
    (["module=hmha", "module._target_=no.such.Module"], "'no.such.Module' cannot be found"),
    (["module=hmha", "module._target_=ablate.modules.hmha.HMAH"], "did you mean 'HMHA'?"),
    (["data=custom"], "data.path"),
    (["data=custom", "data.path=nowhere.yaml"], "nowhere.yaml"),
    (["train.fraction=1.5"], "train.fraction=1.5"),
    (["train.save=false"], "checkpoints are always kept"),
    (["module=hmha,acmix", "module.rerank=batch", "-m"], "(in module=acmix module.rerank=batch)"),
    (["optimizer.orthogonalise=fp23"], "did you mean 'fp32'?"),
    (["optimizer=adamw", "optimizer.orthogonalise=fp32"], "AdamW does not orthogonalise, only MuSGD does; valid: auto"),
    (["device=7"], "device=7: this machine has"),
    (["model.weights=nowhere/best.pt"], "model.weights=nowhere/best.pt: no such file"),
    (["seed=interval(0,1)", "-m"], "no grid"),
    (["paln", "module=hmha"], "did you mean 'plan'?"),
    (["status"], "no sweep in"),
    (["report", "nothing"], "no sweep in"),
    (["status", "root="], "root=: a folder is needed"),
    (["module=hat", "hydra.launcher.cpu_workers=0"], "hydra.launcher.cpu_workers=0 is out of range"),
    (["latency", "latency.batch=[a]"], "latency.batch=[a]: a whole number is needed"),
    (["latency", "latency.batch="], "latency.batch=: a whole number is needed"),
    (["verify", "--golden", "nowhere"], "nowhere: no golden case"),
    (["ui"], "no trial has been recorded"),
    (["grafts=[hmah@c3k2]"], "did you mean 'hmha'?"),
    (["grafts=[hmha@heda]"], "did you mean 'head'?"),
    (["grafts=[hmha[rerank=smaple]@c3k2]"], "did you mean 'sample'?"),
    (["components=[hmha@c3k2]", "-m"], "components need a design"),
    (["design=leave_one_out", "-m"], "needs components"),
    (["components=[hmha@c3k2,mugsd]", "design=factorial", "-m"], "did you mean 'musgd'?"),
    (["components=[hmha,acmix]", "module=sta,hat", "design=add_one_in", "-m"], "swept together with components"),
    (["design=one_at_time", "module=hmha", "-m"], "did you mean 'one_at_a_time'?"),
    (["exclude=[{modul: hat}]", "module=hat", "-m"], "did you mean 'module'?"),
    (["order=longest", "module=hat", "-m"], "did you mean 'longest_first'?"),
    (["retry=oops", "module=hat", "-m"], "valid: none, failed, oom, all"),
    (["module=hat", "hydra.launcher.gpus=[3]", "-m"], "gpus=[3]: this machine has"),
    (["module=hat", "hydra/launcher=lokal", "-m"], "did you mean 'local'?"),
    (["module=hat", "hydra.launcher.timout=3", "-m"], "timout"),
    (["module=hat", "root=/proc/ablate", "-m"], "results cannot be written there"),
    (["module=hat", "device=1", "hydra/launcher=slurm_local", "-m"], "Slurm chooses the GPUs"),
    (["module=hat", "hydra/launcher=ray", "hydra.launcher.address=127.0.0.1:9", "-m"], "127.0.0.1:9"),
]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that this process stands in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the working folder
    return tmp_path


@pytest.mark.parametrize(("words", "expected"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], expected: str, user: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(words)

    printed = capfd.readouterr()
    assert code == 2
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert expected in printed.err
    assert not list(user.glob("multirun/*")), "something was written"


@pytest.mark.parametrize("words", [["module=hmah"], ["ui"]])
def test_a_process_of_its_own_ends_the_same(words: list[str], ablate: Ablate, tmp_path: Path) -> None:
    done = ablate(*words)

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("multirun/*")), "something was written"


def test_an_empty_data_file_is_named(user: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (user / "empty.yaml").write_text("", encoding="utf-8")

    assert main(["data=custom", "data.path=empty.yaml"]) == 2
    assert "empty.yaml" in capfd.readouterr().err


def test_ambiguous_sweep_without_m_says_to_add_it(user: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["module=hmha,acmix"]) == 2
    assert "--multirun" in capfd.readouterr().err


def test_errors_and_help_come_without_importing_torch() -> None:
    commands = [["module=hmah"], ["module=hmha", "module.rerank=x"], ["--help"], ["train.epochs=0"]]
    code = (
        "import sys; from ablate.__main__ import main\n"
        f"for words in {commands!r}:\n"
        "    code = main(words)\n"
        "    heavy = {'torch', 'ultralytics', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "    print('code', code, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    ends = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert ends == [f"code {0 if '--help' in words else 2} set()" for words in commands], done.stderr


def test_help_is_one_screen_and_names_every_group(ablate: Ablate) -> None:
    done = ablate("--help")

    assert done.returncode == 0
    for word in ("module", "insertion", "optimizer", "hmha", "plan", "verify", "musgd"):
        assert word in done.stdout
    assert len(done.stdout.splitlines()) < 60
