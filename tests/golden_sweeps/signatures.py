"""Signatures of varied configurations: `python tests/golden_sweeps/signatures.py --keep` writes signatures.json anew.

A finished trial is found by its signature, so that none of these may ever change: to write them anew is to say that
what users have trained so far is trained again. A built-in module counts by the content of its files, so that an edit
in `ablate.modules`, of a comment too, is such a change.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE / "signatures.json"
SMALL = ["train=smoke", "data.train_images=8", "data.val_images=4", "data.imgsz=64", "device=cpu", "probe=false"]
GRAFTS = (
    "[hmha[rerank=batch,fidelity=authors]@c3k2]",
    "[sta[stoken_size=2]@neck_p4[residual]]",
    "[sta[stoken_size=2]@neck_p4[rezero]]",
    "[acmix[heads=2]@4+6]",
    "[hmha[rerank=none]@c3k2,acmix@head[rezero]]",
    "[convblock[like=hmha]@c3k2]",
)
COMMANDS = {
    "grafts": ["module=none", f"grafts={','.join(GRAFTS)}"],
    "optimizers and seeds": ["module=hmha,acmix", "optimizer=musgd,sgd,adamw", "seed=0,7", "train.epochs=3"],
    "models": [
        "module=none",
        "model=yolo26s,yolo11n,yolov8n",
        "model.weights=null",
        "optimizer.orthogonalise=auto,fp32",
    ],
    "frozen layers": ["module=hat", "train.freeze=10", "freeze_grafts=true,false", "on_oom=halve", "train.imgsz=96"],
    "controls": ["module=acmix", "controls=[identity,params,scale]", "train.single_cls=true"],
    "data and module of the user": ["module=scale", "data=custom", "data.path=mine/data.yaml"],
    "components": ["design=leave_one_out", "components=[hmha@c3k2,acmix@head,musgd]", "optimizer=sgd"],
    "folds": ["module=acmix", "folds=3", "train.fraction=1.0", "-m"],
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]  # of words in a folder
OWN_DATA = ("data and module of the user",)


def in_a_process(work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ablate", *words]
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)


def planned(name: str, folder: Path, run: Run = in_a_process) -> dict[str, list[list[str]]]:
    """Plan a command in a copy of the working folder; return by name the signature and variant key of each trial."""
    work = Path(shutil.copytree(HERE / "work", folder / "work"))
    small = [word for word in SMALL if name not in OWN_DATA or not word.startswith("data.")]
    done = run(work, "plan", *small, *COMMANDS[name], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[list[str]]] = {}
    for trial in json.loads(done.stdout)["trials"]:
        label = f"{trial['trial']} on {trial['factors']['model']}"
        found.setdefault(label, []).append([trial["signature"], trial["variant_key"]])
    return found


def main() -> None:
    """Write signatures.json."""
    if sys.argv[1:] != ["--keep"]:
        raise SystemExit(__doc__)
    found = {}
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = planned(name, Path(folder))
            print(name, *found[name], sep="\n  ")
    KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
