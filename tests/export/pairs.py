"""Export each module at each place as a user does, and write what is measured into docs/export.md.

    PYTHONPATH=. python tests/export/pairs.py [FOLDER]

Every network is trained for a moment, saved as a trial saves it, and exported by plain Ultralytics:
`YOLO("best.pt").export(...)`. The outputs of the exported file are compared with those of the network in PyTorch, on
images that it was not exported with. Checkpoints and exports lie in the folder, else in a temporary one.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.settings.graft import GraftSpec, write_grafts

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
MODULES = ("hmha", "acmix", "sta", "hat")
PLACES = ("head", "c3k2", "neck_p4", "backbone_p4")
LIMIT = 1e-4
FIXED = (2, 96, 64)  # batch, height and width of an export with a fixed size
EXAMPLE = (1, 64, 64)  # of an export for all sizes, which is then checked with the others
OTHERS = ((2, 64, 64), (3, 96, 64), (1, 64, 160), (2, 128, 192), (1, 32, 32), (1, 160, 160), (4, 224, 96))


@dataclass(frozen=True)
class Form:
    """One way of exporting: the title of its column, the arguments, and the inputs that are compared."""

    title: str
    format: str
    dynamic: bool
    shapes: tuple[tuple[int, int, int], ...]


FORMS = (
    Form("ONNX, fixed", "onnx", False, (FIXED,)),
    Form("ONNX, dynamic", "onnx", True, (EXAMPLE, *OTHERS)),
    Form("TorchScript, dynamic", "torchscript", True, (EXAMPLE, *OTHERS)),
)


def train(folder: Path, *grafts: str, **options: Any) -> Path:
    """Train YOLO26n for one epoch of eight images, with grafts such as hmha@head; return its best.pt."""
    from tests.training.conftest import make_trainer

    spec = {"name": "shapes", "path": None, "train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0}
    content = write_grafts([GraftSpec.from_text(graft) for graft in grafts]) if grafts else None
    trainer = make_trainer(folder, resolve(DataSettings.from_plain(spec)).yaml, grafts=content, **options)
    trainer.train()
    return Path(trainer.best)


def export(checkpoint: Path, form: Form) -> Callable[[Tensor], Tensor]:
    """Export a checkpoint by plain Ultralytics, and load what it wrote."""
    from ultralytics import YOLO

    batch, height, width = form.shapes[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters' own
        options = {"dynamic": True} if form.dynamic else {}
        file = YOLO(checkpoint).export(format=form.format, imgsz=[height, width], batch=batch, **options)
    if form.format == "torchscript":
        graph = torch.jit.load(file)  # type: ignore[no-untyped-call]
        return lambda x: graph(x)  # type: ignore[no-any-return]
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1  # more would spin, beside other tests
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def eager(checkpoint: Path) -> nn.Module:
    """Load a checkpoint as the exporter does: in float32, fused, with the branch that it exports by default."""
    from ultralytics import YOLO

    network: Any = YOLO(checkpoint).model
    network.end2end = False
    fused: nn.Module = network.float().eval().fuse(verbose=False)
    return fused


def largest_difference(checkpoint: Path, form: Form) -> float:
    """Return by how much the outputs of an export differ at most from those in PyTorch, over all its input shapes.

    Of a score, or of a box coordinate as a share of the image's longer side, whichever is larger.
    """
    exported, network, largest = export(checkpoint, form), eager(checkpoint), 0.0
    for batch, height, width in form.shapes:
        x = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height + width))
        with torch.inference_mode():
            expected = network(x)[0]
            difference = (exported(x) - expected).abs()
        assert difference.shape[0] == batch
        assert difference.isfinite().all()
        boxes, scores = difference[:, :4].max() / max(height, width), difference[:, 4:].max()
        largest = max(largest, float(boxes), float(scores))
    return largest


def measure(folder: Path) -> str:
    """Return the table of all pairs, with the stock network before them."""
    lines = [f"| Module | Insertion point | {' | '.join(form.title for form in FORMS)} |", "|---|---|---|---|---|"]
    lines.append(row(folder, None, "-"))
    lines += [row(folder, module, place) for module in MODULES for place in PLACES]
    return "\n".join(lines)


def row(folder: Path, module: str | None, place: str) -> str:
    """Measure one pair; return its line of the table."""
    checkpoint = train(folder, *([] if module is None else [f"{module}@{place}"]), width=0.25)
    cells = [f"{largest_difference(checkpoint, form):.1e}" for form in FORMS]
    line = f"| {module or 'none (YOLO26n)'} | {place} | {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def main() -> None:
    """Measure, and write the table into the page."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    with tempfile.TemporaryDirectory() as temporary:
        table = measure(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary))
    page = PAGE.read_text(encoding="utf-8")
    marks = "<!-- measured: begin -->", "<!-- measured: end -->"
    versions = _versions()
    new = f"{marks[0]}\n\n{versions}\n\n{table}\n\n{marks[1]}"
    PAGE.write_text(re.sub(f"{marks[0]}.*{marks[1]}", lambda _: new, page, flags=re.DOTALL), encoding="utf-8")


def _versions() -> str:
    from importlib.metadata import version

    names = {"torch": "torch", "ultralytics": "Ultralytics", "onnx": "onnx", "onnxruntime": "ONNX Runtime"}
    return "Measured with " + ", ".join(f"{title} {version(name)}" for name, title in names.items()) + "."


if __name__ == "__main__":
    main()
