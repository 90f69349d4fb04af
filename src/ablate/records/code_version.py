"""Which code made a result: ours, and the packages it stands on."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ablate import __version__
from ablate.sources.package_walk import code_digest, imported_files

# Where one trial begins, and the rooms and files of which what it imports can change its accuracy. A module's own file
# is part of the trial's signature already; records, launchers and cost figures change no training.
ENTRY = "execution.run_trial"
CHANGES_RESULTS = (
    *("execution.run_trial", "study.trial", "training", "grafting", "data", "evaluation", "records.predictions"),
    *("settings.environment", "settings.graft", "settings.losses", "settings.trial_settings", "checkpoints"),
)

# What reads or changes pixels, by name, with the packages that may bring it. Ultralytics augments with Albumentations
# where that is installed. Records of older versions lack all of them.
PIXELS = {
    "opencv": (
        "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"
    ),
    "pillow": ("pillow",),
    "albumentations": ("albumentations",),
}  # fmt: skip

# Code hash -> that of an earlier version which gives the same results: trials of the two are compared as if one code
# had trained them. An entry claims that nothing differs, so it is made only when a sweep of each (tests/golden_sweeps)
# gave the same numbers; `python tests/records/same_results.py` prints the line.
SAME_RESULTS: dict[str, str] = {
    "1eb3af9dc2f2a3392ec0514f849b60ed853041ecc63a79f511db24e32257d727": "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917",  # noqa: E501
    "3a242238b5a9967218e6ef900222aa3a0bb082160c03476b911df21248f6e0f1": "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917",  # noqa: E501
    "903d20e98fec0f1d80c4f07e4c791997723d7532d9b7855e74094fae85d82c7a": "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917",  # noqa: E501
    "1d0845472fd7f240492694415c749ef299a1c2e59a78e601c7630373124291c5": "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917",  # noqa: E501
    "65964077b0e97bf08b4184e0faaa9c8a88c2ea7e88c77764dfa402a49ead71fa": "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917",  # noqa: E501
    "d087f334a38b0ee3af992daeb47a969145ef20a8bee5140ba92bf6b3ca6a2550": "6c3b6fc06041056fbfd7ead79f5b838136117a1674dbceb03ac2fe189ee42917",  # noqa: E501
}


def remember_versions() -> None:
    """Read now what this process runs; files may be edited, and packages replaced, while it lives."""
    code_hash()
    versions()


@cache
def code_hash() -> str:
    """Return a SHA-256, hex, over what can change a result; the same wherever ablate is installed.

    Files may move and be renamed, and their comments, docstrings and imports change, without changing it. They are read
    once: a process goes on with what it has imported.
    """
    digests = sorted(map(code_digest, imported_files(ENTRY, CHANGES_RESULTS).values()))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def result_code(code: str) -> str:
    """Return the hash of the first code that is known to give the same results as that of this hash."""
    return SAME_RESULTS.get(code, code)


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result depends on; they are looked up once, as `code_hash` is."""
    return {
        "python": platform.python_version(),
        "ablate": __version__,
        **{name: version(name) for name in ("torch", "torchvision", "ultralytics", "numpy")},
        **{name: found for name, packages in PIXELS.items() if (found := _first_version(packages))},
    }


def _first_version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        with suppress(PackageNotFoundError):
            return version(package)
    return None
