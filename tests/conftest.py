"""What all tests share: no network, no user settings touched, one cache of data for the whole run."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

REPOSITORY = Path(__file__).parents[1]

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]


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


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
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
