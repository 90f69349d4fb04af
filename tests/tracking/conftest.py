"""An MLflow store to begin with: making one takes MLflow many seconds, so it is made once and copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.tracking.store import Store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of an empty store."""
    root = tmp_path_factory.mktemp("template")
    Store(root)._client._tracking_client.store.engine.dispose()
    return root / "mlflow.db"


@pytest.fixture
def new_root(template: Path) -> Callable[[Path], Path]:
    """How to make an output folder with an empty store."""

    def make(root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, root / "mlflow.db")
        return root

    return make
