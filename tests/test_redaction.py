"""No password of an address and no value of a secret variable is shown or stored."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from tests.conftest import Ablate

from ablate.cli.messages import fail
from ablate.launching.jobs import exception_outcome
from ablate.log import configure, open_driver_log
from ablate.records.failures import describe
from ablate.records.store_address import recorded
from ablate.redaction import without_secrets
from ablate.tracking.store_problems import problem_of

SECRET = "s3cret-pw"
URI = f"postgresql://ann:{SECRET}@127.0.0.1:9/mlflow"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"no answer of {URI} yet", "no answer of postgresql://127.0.0.1:9/mlflow yet"),
        (f"two: http://a:{SECRET}@h/x, and http://{SECRET}@g", "two: http://h/x, and http://g"),
        (f"http://u:{SECRET}/x@y@h:80/p", "http://h:80/p"),
        (f"https://h/x.pt?b=1&X-Amz-Signature={SECRET}&c=2", "https://h/x.pt?b=1&X-Amz-Signature=***&c=2"),
        (f"https://h/x?access_token={SECRET}#part", "https://h/x?access_token=***#part"),
        (f"s3://key:{SECRET}@bucket/x", "s3://bucket/x"),
        ("http://h:5000/a@b of hmha@c3k2", "http://h:5000/a@b of hmha@c3k2"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
        ("https://h/x?monkey=1", "https://h/x?monkey=1"),
    ],
)
def test_an_address_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.security(
    "Secrets",
    "Values of variables such as MLFLOW_TRACKING_PASSWORD or AWS_SECRET_ACCESS_KEY are not shown or stored.",
)
@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "MY_API_KEY",
        "PGPASSWORD",
    ],
)
def test_the_value_of_a_secret_variable_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    assert without_secrets(f"401 for {SECRET}!") == "401 for ***!"
    assert recorded({"train": {"name": SECRET, "list": [SECRET]}}) == {"train": {"name": "***", "list": ["***"]}}


def test_what_is_no_secret_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-or-true")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    text = f"false-or-true x {tmp_path}"
    assert without_secrets(text) == text


@pytest.mark.security("Secrets", "A password in an address is in no message, log, traceback, record or failure.")
def test_every_way_out_is_without_the_password(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    error = ValueError(f"cannot connect to {URI}")
    fail(str(error))
    configure(verbose=True)
    open_driver_log(tmp_path / "driver.log")
    logging.getLogger("ablate.x").error("no store: %s", URI, exc_info=error)
    configure()
    (tmp_path / "train.log").write_text(f"{URI}\n", encoding="utf-8")
    ways = {
        "terminal": "".join(capfd.readouterr()),
        "driver.log": (tmp_path / "driver.log").read_text(encoding="utf-8"),
        "outcome": exception_outcome(error).message,
        "failure": str(describe("code", error, tmp_path / "train.log")),
        "problem": problem_of(ValueError(f"{'x' * 150} {URI}")).message,
        "record": str(recorded({"tracking": {"uri": URI}, "model": {"weights": f"https://u:{SECRET}@h/x.pt"}})),
    }
    for name, text in ways.items():
        assert "127.0.0.1" in text or name in ("problem", "record"), name
        assert SECRET not in text, name
        assert "ann:" not in text, name


@pytest.mark.security(
    "Secrets", "`plan`, `--cfg` and a sweep's folder show the address of the store without user and password."
)
def test_a_command_shows_and_stores_no_password(ablate_here: Ablate, tmp_path: Path) -> None:
    words = ("data.train_images=8", "data.val_images=4", "train=smoke", f"tracking.uri={URI}")
    outputs = [
        ablate_here(*words, "--cfg", "job"),
        ablate_here("plan", *words, "probe=false", "--json"),
        ablate_here("-v", "plan", *words, "probe=false"),
        ablate_here("plan", *words, "tracking.nope=1"),
        ablate_here("plan", *words, f"data.path=https://ann:{SECRET}@h/data.yaml", "data=custom"),
        ablate_here("plan", *words, f"model.weights=https://h/x.pt?token={SECRET}"),
    ]
    assert "uri: postgresql://127.0.0.1:9/mlflow" in outputs[0].stdout
    for done in outputs:
        assert SECRET not in done.stdout + done.stderr
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            assert SECRET.encode() not in (Path(folder) / name).read_bytes()
