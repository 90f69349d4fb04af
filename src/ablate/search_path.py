"""The module search path without the working folder, in which files of strangers may lie: a `rich.py`, a `yaml.py`.

What a `_target_` names in the working folder is found all the same (`ablate.sources.working_folder`). Nothing but
built-in modules is imported here: this runs before all else.
"""

import os
import sys


def leave_out_working_folder() -> None:
    """Take the working folder off the module search path, of this process and of those that it starts.

    `python -m` and `python -c` put it in front, and an empty part of PYTHONPATH means it too. It stays where ablate
    itself lies in it.
    """
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109 - pathlib is not imported yet
    except FileNotFoundError:
        return
    if here == os.path.dirname(os.path.dirname(os.path.realpath(__file__))):  # noqa: PTH120
        return
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]
    os.environ["PYTHONSAFEPATH"] = "1"
    if inherited := os.environ.get("PYTHONPATH"):
        entries = [os.path.abspath(entry) for entry in inherited.split(os.pathsep)]  # noqa: PTH100
        os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in entries if os.path.realpath(entry) != here)
