"""What all tests share: no network, no user settings touched, one cache of data for the whole run."""

from __future__ import annotations

import fcntl
import gc
import multiprocessing.util
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fixtures.comparisons import as_failed, multirun, record, records, study, write  # noqa: F401
from tests.fixtures.fake_slurm import slurm  # noqa: F401
from tests.fixtures.planted_sweeps import swept  # noqa: F401
from tests.fixtures.trials import holder, sweep_of, terminal_of, written  # noqa: F401
from tests.fixtures.warm_python import ABLATE, WarmPython, spawning_from
from xdist.scheduler import LoadScopeScheduling

REPOSITORY = Path(__file__).parents[1]

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports Ultralytics or MLflow: their settings and caches go to a folder of this run.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    cache = Path(tempfile.gettempdir()) / f"ablate-tests-{os.getuid()}" / run
    os.environ["ABLATE_CACHE"] = str(cache)
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ablate.settings.environment import prepare

    prepare()


# Files whose tests share nothing: each test may run beside the others of its file. All other files stay whole, so that
# the fixtures of a module run once.
SPREAD = ("faults/test_processes.py", "faults/test_storage.py")


class _FilesOrTests(LoadScopeScheduling):
    """Hands out whole files to pytest-xdist's workers, and the tests of some files one by one.

    Its own ``--dist loadgroup`` does nothing with pytest 9.2, whose node ids cannot be changed.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return nodeid if file.endswith(SPREAD) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _FilesOrTests(config, log)


# Files of long tests, which are handed out first: a long file that is begun last is waited for by the other workers.
LONGEST = ("faults/", "launching/", "training/", "work/", "test_sweep.py", "test_readme.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = str(Path(__file__).parent) + os.sep
    items.sort(key=lambda item: not str(item.path).removeprefix(tests).startswith(LONGEST))
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


def pytest_collection_finish() -> None:
    # Ultralytics collects garbage in every epoch, and the libraries that are imported by now are a million objects.
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries report what is alive at the end


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return what makes a folder once for all of pytest-xdist's workers; whoever needs it later waits for it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = base / f"once-{name}"
        with (base / f"once-{name}.lock").open("a+") as state:
            fcntl.flock(state, fcntl.LOCK_EX)
            state.seek(0)
            if not state.read():
                shutil.rmtree(folder, ignore_errors=True)  # what another worker has begun in vain
                folder.mkdir()
                fill(folder)
                state.write("made")
        return folder

    return make


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """Where commands begin with every library imported."""
    warm = WarmPython()
    yield warm
    warm.close()


@pytest.fixture
def warm_workers(warm_python: WarmPython, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers that this process starts begin with every library imported."""
    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", spawning_from(warm_python.source))


@pytest.fixture
def ablate(tmp_path: Path) -> Ablate:
    """Run `python -m ablate` in an empty folder, as a user does; return the finished process."""

    def run(
        *words: str, cwd: Path = tmp_path, timeout: float = 600, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ablate", *words],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def ablate_warm(tmp_path: Path, warm_python: WarmPython) -> Ablate:
    """Do as `ablate` in a process that has every library imported: how it begins is not the subject."""

    def run(*words: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        driver = warm_python.start(ABLATE, ["ablate", *words], cwd, {**os.environ, **environment})
        out, err = driver.communicate()
        return subprocess.CompletedProcess(words, driver.wait(), out, err)

    return run


@pytest.fixture(scope="session")
def empty_store(made_once: MadeOnce) -> Path:
    """The SQLite file of an empty MLflow store: making one takes MLflow seconds, so it is made once and copied."""

    def make(folder: Path) -> None:
        from ablate.tracking.store import Store

        Store(folder)._client._tracking_client.store.engine.dispose()

    return made_once("store", make) / "mlflow.db"


@pytest.fixture
def new_root(empty_store: Path) -> Callable[[Path], Path]:
    """How to make an output folder with an empty store."""

    def make(root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty_store, root / "mlflow.db")
        return root

    return make


@pytest.fixture
def builds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks be built in this process; one of their own takes seconds to import torch.

    Not for a test of a user's module that changes: this process would keep the first one.
    """
    import ultralytics  # noqa: F401 - prints on its first import, which is no output of a command

    from ablate.launching.jobs import Limits, Observer, Outcome
    from ablate.preflight import builders, networks

    builders.warm_up(None)  # Ultralytics prints a line where it is imported first

    def run(backend: object, function: str, payloads: Sequence[Any], observer: Observer, limits: Limits) -> None:
        build = pkgutil.resolve_name(function)
        for index, payload in enumerate(payloads):
            observer.end(index, Outcome(result=build(payload)))

    monkeypatch.setattr(networks, "run_jobs", run)


@pytest.fixture
def ablate_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], builds_here: None
) -> Ablate:
    """Run `python -m ablate` in this process and in an empty folder, where no process is the subject."""
    from ablate.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the working folder

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        code = main(words)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Real processes that keep more than a tenth of the machine busy."""
    words = [sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"]
    count = (psutil.cpu_count() or 1) // 4 + 1
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    yield
    for process in processes:
        process.kill()
        process.wait()
