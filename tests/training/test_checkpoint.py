"""What a checkpoint carries comes back as it was; a file that cannot be continued from is told from one that can."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate.checkpoints.file_check import UnsafeCheckpoint
from ablate.execution.trial_checks import own_checkpoint, set_foreign_aside
from ablate.records.checkpoint_origin import SIGNATURE, checkpoint_signature
from ablate.training import checkpoint


def whole(path: Path, **content: Any) -> Path:
    state = {"format": checkpoint.FORMAT, "epoch": 3, "epochs": 5, "resumed": 1, "weights": torch.rand(1000), **content}
    checkpoint.write(path, {"epoch": 2, checkpoint.KEY: state})
    return path


def test_tensors_come_back_with_values_types_and_memory_layout() -> None:
    convolution = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    tree = {
        "network": dict(convolution.state_dict()),
        "state": {0: {"step": torch.tensor(7.0), "buffer": torch.rand(4, 5).t(), "name": "x"}},
        "counts": [torch.tensor(3), torch.zeros(0, dtype=torch.int64), (1.5, None)],
        "half": torch.rand(3).half(),
        "expanded": torch.rand(3, 1).expand(3, 4),
    }

    back = checkpoint.split(checkpoint.join(tree))

    assert back["counts"][2] == (1.5, None)
    assert back["state"][0]["name"] == "x"
    for old, new in [
        (tree["network"]["weight"], back["network"]["weight"]),
        (tree["network"]["bias"], back["network"]["bias"]),
        (tree["state"][0]["step"], back["state"][0]["step"]),
        (tree["state"][0]["buffer"], back["state"][0]["buffer"]),
        (tree["counts"][0], back["counts"][0]),
        (tree["counts"][1], back["counts"][1]),
        (tree["half"], back["half"]),
    ]:
        assert torch.equal(old, new)
        assert (old.dtype, old.stride()) == (new.dtype, new.stride())
    assert torch.equal(tree["expanded"], back["expanded"])


def test_joined_tensors_are_copies() -> None:
    weight = torch.ones(3)

    joined = checkpoint.join({"weight": weight})
    weight.zero_()
    first, second = checkpoint.split(joined), checkpoint.split(joined)
    first["weight"].zero_()

    assert second["weight"].tolist() == [1, 1, 1]


def test_all_random_generators_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    states = checkpoint.random_states(torch.device("cpu"))
    first = draw()
    checkpoint.set_random_states(states, torch.device("cpu"))

    assert draw() == first


def test_a_whole_checkpoint_says_how_far_its_training_is(tmp_path: Path) -> None:
    assert (state := checkpoint.read_state(whole(tmp_path / "last.pt"))) is not None
    assert (state.epoch, state.epochs, state.resumed) == (3, 5, 1)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_checkpoint_that_was_cut_off_cannot_be_continued(tmp_path: Path, kept: float) -> None:
    path = whole(tmp_path / "last.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])

    assert checkpoint.read_state(path) is None


def test_a_checkpoint_with_a_flipped_bit_cannot_be_continued(tmp_path: Path) -> None:
    path = whole(tmp_path / "last.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert checkpoint.read_state(path) is None


def test_what_is_no_checkpoint_of_ours_cannot_be_continued(tmp_path: Path) -> None:
    stock, text = tmp_path / "stock.pt", tmp_path / "text.pt"
    checkpoint.write(stock, {"epoch": 2, "model": None})
    text.write_text("not a checkpoint", encoding="utf-8")

    for path in (stock, text, tmp_path / "missing.pt", tmp_path, whole(tmp_path / "other.pt", format=-1)):
        assert checkpoint.read_state(path) is None


MINE, OTHER = "a" * 64, "b" * 64


def trained(
    folder: Path, *, last: str | None = MINE, best: str | None = MINE, stage: str = "epochs", written_anew: bool = False
) -> Path:
    """Write the checkpoints of a trial as these trials would write them; return last.pt."""
    weights = folder / MINE / "train" / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    state = {"format": checkpoint.FORMAT, "epoch": 3, "epochs": 5, "resumed": 1, "stage": stage, "best": written_anew}
    checkpoint.write(weights / "last.pt", {SIGNATURE: last, "epoch": 2, checkpoint.KEY: state})
    checkpoint.write(weights / "best.pt", {SIGNATURE: best, "epoch": 2})
    return weights / "last.pt"


def test_a_checkpoint_tells_which_trial_wrote_it(tmp_path: Path) -> None:
    last = trained(tmp_path)

    assert checkpoint_signature(last) == MINE
    assert checkpoint_signature(last.rename(tmp_path / "moved.pt")) == MINE


def test_a_checkpoint_of_an_earlier_version_tells_it_by_its_folder(tmp_path: Path) -> None:
    arguments = {"model": "x.yaml", "project": f"/somewhere/trials/{OTHER}", "name": "train"}
    checkpoint.write(tmp_path / "last.pt", {"epoch": 2, "train_args": arguments})

    assert checkpoint_signature(tmp_path / "last.pt") == OTHER


def test_what_is_no_checkpoint_of_a_trial_tells_nothing(tmp_path: Path) -> None:
    whole(tmp_path / "unsigned.pt")
    torch.save({"project": None, SIGNATURE: None, "name": OTHER}, tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text(f"{SIGNATURE} {OTHER}", encoding="utf-8")
    cut = trained(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-200])

    for path in (*tmp_path.glob("*.pt"), cut, tmp_path / "missing.pt", tmp_path):
        assert checkpoint_signature(path) is None


@pytest.mark.parametrize("writers", [{"last": OTHER}, {"last": None}, {"best": OTHER}, {"best": None}])
def test_only_what_a_trial_wrote_itself_is_continued(tmp_path: Path, writers: dict[str, Any]) -> None:
    state = own_checkpoint(trained(tmp_path))
    assert state is not None
    assert state.epoch == 3
    assert own_checkpoint(trained(tmp_path, **writers)) is None


def test_a_best_checkpoint_of_another_trial_does_no_harm_where_it_is_written_anew(tmp_path: Path) -> None:
    assert own_checkpoint(trained(tmp_path, best=OTHER, written_anew=True)) is not None


def test_a_training_that_is_over_needs_what_it_wrote_down_itself(tmp_path: Path) -> None:
    last = trained(tmp_path, stage="over")
    realised = last.parents[1] / "realised.json"

    for content, own in (('{"batch": 4}', False), (f'{{"signature": "{OTHER}"}}', False), ("", False)):
        realised.write_text(content, encoding="utf-8")
        assert (own_checkpoint(last) is not None) == own
    realised.write_text(f'{{"signature": "{MINE}"}}', encoding="utf-8")
    assert own_checkpoint(last) is not None


def test_the_checkpoint_of_another_trial_is_kept_beside(tmp_path: Path) -> None:
    last = trained(tmp_path, last=OTHER)
    content = last.read_bytes()

    note = set_foreign_aside(last)

    assert note is not None
    assert OTHER[:12] in note
    assert not last.exists()
    assert (tmp_path / MINE / f"last-of-{OTHER[:12]}.pt").read_bytes() == content
    assert set_foreign_aside(trained(tmp_path)) is None
    assert own_checkpoint(trained(tmp_path)) is not None


class Touch:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.security(
    "Checkpoint", "A `last.pt` in a trial's folder runs nothing when the trial resumes; one that could starts anew."
)
@pytest.mark.parametrize("targets", [(), ("my_blocks.Mine",)])
def test_a_strangers_last_checkpoint_runs_nothing(
    targets: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inner = checkpoint.JoinedTensors(pickle.dumps({"a": Touch()}), [])
    state = {"format": 1, "epoch": 3, "epochs": 5, "resumed": 1, "random": {"python": Touch(), "numpy": 0, "torch": 0}}
    torch.save({"epoch": 2, checkpoint.KEY: state}, "last.pt")

    read = checkpoint.read_state(Path("last.pt"), targets)
    assert (read is None) == (not targets)
    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        checkpoint.split(inner)
    assert not Path("ran").exists()


def test_the_state_of_the_first_format_is_read_as_it_was_written() -> None:
    tree = {"weight": torch.arange(6.0).reshape(2, 3).t(), "step": [torch.tensor(3), (1.5, None)]}
    joined = checkpoint.join(tree)

    def old(value: Any) -> Any:
        if isinstance(value, dict) and checkpoint.PIECE in value:
            return checkpoint._Piece(*value[checkpoint.PIECE])
        if isinstance(value, dict):
            return {key: old(item) for key, item in value.items()}
        return type(value)(map(old, value)) if isinstance(value, list | tuple) else value

    back = checkpoint.split(checkpoint.JoinedTensors(pickle.dumps(old(joined.skeleton)), joined.tensors))

    assert torch.equal(back["weight"], tree["weight"])  # type: ignore[arg-type]
    assert back["weight"].stride() == (1, 3)
    assert (back["step"][0].item(), back["step"][1]) == (3, (1.5, None))


def test_random_states_of_the_first_format_are_restored(tmp_path: Path) -> None:
    states = checkpoint.random_states(torch.device("cpu"))
    plain = {"python": states.python, "numpy": np.random.get_state(), "torch": states.torch, "cuda": None}
    first = float(np.random.rand())
    torch.save(
        {checkpoint.KEY: {"format": 1, "epoch": 3, "epochs": 5, "resumed": 1, "random": plain}}, tmp_path / "last.pt"
    )

    read = checkpoint.read_state(tmp_path / "last.pt")
    assert read is not None
    assert read.random is not None
    checkpoint.set_random_states(read.random, torch.device("cpu"))
    assert float(np.random.rand()) == first


def test_the_state_holds_no_pickle_and_names_nothing(tmp_path: Path) -> None:
    state = checkpoint.TrainingState(
        epoch=1, epochs=2, resumed=0, random=checkpoint.random_states(torch.device("cpu")),
        tensors=checkpoint.TrainingTensors(*[checkpoint.join({"a": torch.ones(2)})] * 4),
    )  # fmt: skip
    torch.save(state.to_plain(), tmp_path / "state.pt")

    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == 1
