"""Files that write down that they ran."""

from __future__ import annotations

from pathlib import Path

# What ablate, its libraries and Python's own workers import early, late or only where it is installed.
# fmt: off
NAMES = ("comet_ml", "hydra", "mlflow", "numpy", "omegaconf", "pi_heif", "pickle", "psutil", "pynvml", "random", "ray",
         "rich", "signal", "socket", "struct", "tempfile", "torch", "ultralytics", "uvicorn", "wandb", "yaml")
# fmt: on


class Traps:
    """Python files in a folder, each of which writes down that it ran.

    Args:
        folder: Where they lie.
        note: The file in which they write.
    """

    def __init__(self, folder: Path, note: Path) -> None:
        self._note = note
        self.code = f"import sys\nopen({str(note)!r}, 'a').write(f'{{__name__}} in {{sys.argv}}\\n')\n"
        (folder / "hydra_plugins").mkdir(parents=True)
        for name in (*NAMES, "hydra_plugins/evil"):
            (folder / f"{name}.py").write_text(self.code, encoding="utf-8")

    @property
    def ran(self) -> str:
        """What ran; empty where nothing did."""
        return self._note.read_text(encoding="utf-8") if self._note.exists() else ""
