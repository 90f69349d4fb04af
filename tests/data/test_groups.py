from __future__ import annotations

from pathlib import Path

import pytest

from ablate.data.data_errors import DataError
from ablate.data.datafile import Image
from ablate.data.groups import ImageGroups, find_groups, read_groups, write_groups
from ablate.data.view import name_in_view
from ablate.storage.layout import OutputFolder

FINGERPRINT = "ab" * 32
GROUPS = ImageGroups({"images/val/a.jpg": "1", "images/val/b.jpg": "1", "images/val/c.jpg": "2"}, "audit", FINGERPRINT)


def test_groups_are_found_again_by_root_and_fingerprint(tmp_path: Path) -> None:
    assert find_groups(tmp_path, FINGERPRINT) is None
    write_groups(OutputFolder(tmp_path).audit(FINGERPRINT).groups, GROUPS)
    assert find_groups(tmp_path, FINGERPRINT) == GROUPS


def test_groups_of_another_data_set_are_refused(tmp_path: Path) -> None:
    write_groups(OutputFolder(tmp_path).audit(FINGERPRINT).groups, GROUPS)
    with pytest.raises(DataError, match="another data set"):
        find_groups(tmp_path, FINGERPRINT[:16] + "0" * 48)


def test_an_image_that_is_not_listed_is_a_group_of_its_own() -> None:
    names = ["images/val/c.jpg", "images/val/x.jpg", "images/val/a.jpg", "images/val/b.jpg"]
    assert GROUPS.numbered(names).tolist() == [0, 1, 2, 2]


def test_a_table_of_the_users_own_is_read(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text('image,age,group\nimages/val/a.jpg,7,p1\n"images/val/b, c.jpg",8,p1\n', encoding="utf-8")
    assert read_groups(table) == ImageGroups({"images/val/a.jpg": "p1", "images/val/b, c.jpg": "p1"}, "patients.csv")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "image\nx\n", "columns image and group"),
        ("a.csv", "", "columns image and group"),
        ("a.csv", "image,group\n", "empty"),
        ("a.csv", "image,group\nx\n", "line 2"),
        ("a.csv", "image,group\nx,1\nx,2\n", "in the groups 1 and 2"),
        ("a.json", "[" * 100_000, "no file of groups"),
        ("a.json", '{"schema": 1, "source": "a", "fingerprint": "", "groups": {"a": 1}}', "no file of groups"),
        ("a.json", '{"schema": 9, "source": "a", "fingerprint": "", "groups": {}}', "schema 9"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=reason) as caught:
        read_groups(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.security("Trial or sweep folder", "Groups of images are read from a plain file of their folder, no link.")
def test_groups_behind_a_link_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    write_groups(secret, GROUPS)
    folder = OutputFolder(tmp_path / "root").audit(FINGERPRINT)
    folder.path.mkdir(parents=True)
    folder.groups.symlink_to(secret)
    with pytest.raises(DataError, match="leads out"):
        find_groups(tmp_path / "root", FINGERPRINT)


def test_an_image_has_the_name_that_predictions_have() -> None:
    assert name_in_view("val", Image("images/a.jpg", Path("x"), Path("y"))) == "images/val/images_/a.jpg"
