"""Files in a folder with a question mark have another path, which Ultralytics takes for a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.data.plain_paths import plain_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["plain", "a b", "50%", "run#2", "ü[v2]", "a&user=me", "m@il:3@x"])
def test_a_path_without_a_question_mark_stays_as_it_is(tmp_path: Path, name: str) -> None:
    assert plain_path(tmp_path / name / "best.pt") == tmp_path / name / "best.pt"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["what?x=1", "a%3Fb", "a?/b?/c", "best.pt?"])
def test_a_file_in_a_folder_with_one_has_a_second_path(tmp_path: Path, name: str) -> None:
    from ultralytics.utils.checks import check_file

    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "best.pt").write_bytes(b"weights")
    for _ in range(2):
        place = plain_path(folder / "best.pt")
        assert place.read_bytes() == b"weights"
        assert check_file(place, suffix=".pt") == str(place)
    assert plain_path(folder / "new" / "last.pt").parent.parent == place.parent, "one link for one folder"
