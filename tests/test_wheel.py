"""The wheel carries its configuration tree and its notebook: it works from any folder, without a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
pytestmark = pytest.mark.slow  # a wheel is built and installed


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; returns its Python.

    The libraries are borrowed from the running environment by path, because tests have no network. The editable
    install of ablate there is not: path files of borrowed folders are not read.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(REPOSITORY)], check=True)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def run(python: Path, folder: Path, *words: str, **further: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | further
    return subprocess.run(
        [str(python), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_wheel_is_used_and_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-c", "import ablate; print(ablate.__file__)")

    package = Path(done.stdout.strip())
    assert package.is_relative_to(installed.parents[1])
    assert package.with_name("py.typed").is_file()


def test_a_plan_works_from_any_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-m", "ablate", "plan", "module=hmha", "--json")

    assert done.returncode == 0, done.stderr
    assert [trial["trial"] for trial in json.loads(done.stdout)["trials"]] == [
        "baseline musgd s0",
        "hmha@c3k2 musgd s0",
    ]
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_the_notebook_s_source_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "from ablate.report.notebook import source_notebook; print(source_notebook())"
    done = run(installed, tmp_path, "-c", code)

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.parents[1])


def test_help_and_errors_work_there_too(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "-m", "ablate", "--help").returncode == 0
    assert "did you mean 'hmha'" in run(installed, tmp_path, "-m", "ablate", "module=hmah").stderr


OPEN = "import sys; from ultralytics import YOLO; print(type(YOLO(sys.argv[1]).model).__name__)"


def test_a_checkpoint_opens_where_the_wheel_is_installed_and_names_it_where_it_is_not(
    installed: Path, tmp_path: Path
) -> None:
    import torch
    from ultralytics.nn.tasks import yaml_model_load

    from ablate.training.grafted_model import saved_form
    from ablate.training.network import build_network

    module = {"_target_": "ablate.modules.acmix.ACmix"}
    graft = {"module": module, "insertion": {"name": "neck_p5", "at": None, "wiring": "plain"}}
    network, _, _ = build_network({**yaml_model_load("yolo26n.yaml"), "ablate": graft}, classes=2)
    torch.save({"model": saved_form(network.half()), "train_args": {}}, tmp_path / "best.pt")
    venv.create(tmp_path / "bare", with_pip=False)
    bare = tmp_path / "bare" / "bin" / "python"
    site = tmp_path / "bare" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    here = run(installed, tmp_path, "-c", OPEN, "best.pt")
    assert here.stdout.split()[-1] == "GraftedModel", here.stderr
    elsewhere = run(bare, tmp_path, "-c", OPEN, "best.pt", YOLO_AUTOINSTALL="false")
    assert elsewhere.returncode == 1
    assert "requires 'ablate_yolo'" in (told := elsewhere.stdout + elsewhere.stderr).replace("require '", "requires '")
    assert "'ablate'" not in told
