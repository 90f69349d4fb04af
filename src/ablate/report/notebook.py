"""Run the comparison notebook on one sweep, in this very interpreter and without traces elsewhere."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ablate.analysis.image_groups import AUTO, NONE
from ablate.errors import AblateError
from ablate.storage.files import atomic_write_text

NAME = "comparison.ipynb"


class NotebookError(AblateError, RuntimeError):
    """The notebook could not be found or did not run to its end; the message is one line."""


def source_notebook(name: str = NAME) -> Path:
    """Path of a notebook's source, in an installed package or in a checkout.

    Raises NotebookError when it is in neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "notebooks", package.parents[1] / "notebooks"):
        if (folder / name).is_file():
            return folder / name
    raise NotebookError(f"the notebook {name} is neither in the installed package nor in a checkout")


def execute(
    sweep_dir: Path,
    target: Path,
    *,
    strict: bool = False,
    judge: str = "",
    delta: float | None = None,
    groups: str = AUTO,
    metric: str | None = None,
    source: Path | None = None,
) -> Path:
    """Execute the comparison notebook for a sweep and write it, with its outputs, to `target`.

    The kernel is `sys.executable`, whatever kernels are installed for this user. The paths of the sweep and of a file
    of groups go in relative to the notebook, so that they can be moved together. Raises NotebookError.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    target = Path(target).parent.resolve() / Path(target).name  # a link of that name is replaced, not followed
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source or source_notebook()
    parameters: dict[str, Any] = {"sweep_dir": os.path.relpath(Path(sweep_dir).resolve(), target.parent)}
    if strict:
        parameters["strict"] = True
    if judge:
        parameters["judge"] = judge
    if delta is not None:
        parameters["delta"] = delta
    if metric is not None:
        parameters["metric"] = metric
    if groups != AUTO:
        is_file = groups != NONE
        parameters["groups"] = os.path.relpath(Path(groups).resolve(), target.parent) if is_file else groups
    try:
        with tempfile.TemporaryDirectory(prefix="ablate-kernel-") as scratch:
            notebook = papermill.execute_notebook(
                str(source),
                None,
                parameters=parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=str(target.parent),
                kernel_manager_class=_kernel_manager(scratch),
            )
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        name = getattr(error, "ename", type(error).__name__)
        reason = str(getattr(error, "evalue", error)).strip().splitlines() or ["no reason given"]
        raise NotebookError(f"the notebook did not run to its end: {name}: {reason[0]}") from error
    _forget_where(notebook)
    atomic_write_text(target, nbformat.writes(notebook))
    return target


def _kernel_manager(scratch: str) -> Any:
    """A kernel manager class that looks for no kernel: it starts this interpreter.

    Files that IPython would keep in the user's home go to `scratch`.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    here = str(Path(__file__).resolve().parents[2])
    inherited = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    quiet = "--IPKernelApp.log_level=50"  # else it warns of TCP, and of the interrupt that ends it
    # The notebook works in the sweep's folder, whose files, such as a numpy.py, anybody may have written.
    launch = [sys.executable, "-P", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = KernelSpec(
        argv=[*launch, quiet, "--InteractiveShellApp.ignore_cwd=True"],
        name="python3",
        display_name="Python 3",
        language="python",
        env={
            "PYTHONPATH": os.pathsep.join(dict.fromkeys([here, *inherited])),
            "IPYTHONDIR": scratch,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        },
    )

    class ThisInterpreter(AsyncKernelManager):  # type: ignore[misc]
        """Starts `sys.executable` as the kernel."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return ThisInterpreter


def _forget_where(notebook: Any) -> None:
    """Take absolute paths of this machine out of the notebook's metadata."""
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
