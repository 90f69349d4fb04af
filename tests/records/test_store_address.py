"""Where the store is, and that nobody reads in a record how to get into it."""

from __future__ import annotations

import pytest

from ablate.records.store_address import recorded, without_account


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://ann:secret@db.example.org:5432/mlflow", "postgresql://db.example.org:5432/mlflow"),
        ("postgresql+psycopg2://ann:a/b@c:d@localhost/mlflow", "postgresql+psycopg2://localhost/mlflow"),
        ("postgresql://ann@localhost/mlflow", "postgresql://localhost/mlflow"),
        ("https://:token@mlflow.example.org", "https://mlflow.example.org"),
        ("postgresql:///mlflow?host=h&user=ann&password=secret", "postgresql:///mlflow?host=h"),
        ("postgresql:///mlflow?password=secret&host=h", "postgresql:///mlflow?host=h"),
        ("postgresql:///mlflow?password=secret", "postgresql:///mlflow"),
        ("tracking.uri='postgresql://ann:secret@localhost/mlflow'", "tracking.uri='postgresql://localhost/mlflow'"),
        ("http://mlflow.example.org:5000", "http://mlflow.example.org:5000"),
        ("sqlite:////home/ann@work/multirun/mlflow.db", "sqlite:////home/ann@work/multirun/mlflow.db"),
    ],
)
def test_a_uri_is_shown_without_its_account(uri: str, shown: str) -> None:
    assert without_account(uri) == shown


def test_a_configuration_is_recorded_without_the_account_and_otherwise_whole() -> None:
    config = {"seed": 1, "tracking": {"uri": "postgresql://ann:secret@localhost/mlflow", "artifacts": True}}

    assert recorded(config) == {"seed": 1, "tracking": {"uri": "postgresql://localhost/mlflow", "artifacts": True}}
    assert config["tracking"]["uri"] == "postgresql://ann:secret@localhost/mlflow"
    assert recorded({"seed": 1, "tracking": {"uri": None}}) == {"seed": 1, "tracking": {"uri": None}}
    assert recorded({"seed": 1}) == {"seed": 1}
