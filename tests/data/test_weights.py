"""Checkpoints are found by path, or by Ultralytics' name in the cache, and fetched there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.data.data_errors import DataError, NotDownloaded
from ablate.data.weights import find_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_a_file_is_named_by_its_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"1")
    assert find_weights("best.pt") == str(tmp_path / "best.pt")


def test_a_published_checkpoint_is_taken_from_the_cache(cache: Path) -> None:
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "yolo26n.pt").write_bytes(b"1")
    assert find_weights("yolo26n.pt") == str(cache / "weights" / "yolo26n.pt")


def test_a_plan_does_not_fetch(cache: Path) -> None:
    with pytest.raises(NotDownloaded, match=r"yolo26n\.pt"):
        find_weights("yolo26n.pt", download=False)
    assert not cache.exists()


def test_a_download_that_fails_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(DataError, match=r"model\.weights=yolo26n\.pt: the download failed"):
        find_weights("yolo26n.pt")
    assert not list((cache / "weights").iterdir())


@pytest.mark.parametrize("name", ["nowhere.pt", "folder/yolo26n.pt"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        find_weights(name)


def test_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.pt").mkdir()
    with pytest.raises(DataError, match=r"model\.weights=best\.pt: it is a folder"):
        find_weights("best.pt")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.pt").touch()
    with pytest.raises(DataError, match="the file is empty"):
        find_weights("best.pt")
