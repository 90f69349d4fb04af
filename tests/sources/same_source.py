"""Print the lines that say which of our modules compute the same as their first version, whose hashes stand here.

    python tests/sources/same_source.py

The lines go into `SAME_SOURCE` in src/ablate/sources/same_source.py, in place of lines of hashes that were never
released. Only after an edit that leaves every digit as it was: old and new files give equal outputs and gradients, bit
for bit, in training and evaluation, `python tests/golden_sweeps/training.py --check` finds no difference, and the tests
of the modules pass. A module that computes something else gets no line: its trials are new ones.
"""

from __future__ import annotations

from hashlib import sha256

from ablate.sources.module_source import module_source
from ablate.sources.same_source import SAME_SOURCE

VERSION_0_1_0 = {
    "ablate.modules.hmha.HMHA": "a985f3cb91e267777ae570dfe99dd9f9041ec51c7852cd8002f8aac2f944296c",
    "ablate.modules.acmix.ACmix": "f0e2b7dcd2dc785cf0688f06dfa77b19f9dfa843928dd35b898af6b9f96bdc89",
    "ablate.modules.sta.StokenAttention": "b4d097c2d722724dea7e9fba5e03721819a3621e9b7a7e481337c63879216c12",
    "ablate.modules.hat.RHAG": "29615e7e4a6b1d77aca5398560377f0cf2c182371ae7f78a0a6240157079bd54",
    "ablate.modules.convblock.ConvBlock": "d8413e8bb0752edea5d2cd3632a61aa084b94572b4e3d69cdf945f8e09c1e8ee",
    "ablate.modules.identity.Identity": "af93ffd6bfdf6529ab98b262fcd97b4a64c2904873f22e15d8663770adcae4c2",
}
"""Hash of each module's files in version 0.1.0."""


def current(target: str) -> str:
    """Return the hash of a module's files as they are."""
    return sha256(b"".join(path.read_bytes() for path in module_source(target).files)).hexdigest()


def lines() -> list[str]:
    """Return the lines that the modules as they are need; none for a module whose files are those of its version."""
    pairs = [(current(target), first) for target, first in VERSION_0_1_0.items()]
    return [f'    "{now}": "{first}",  # noqa: E501' for now, first in pairs if now != first]


if __name__ == "__main__":
    print("\n".join(lines()))
    missing = [
        current(target) for target, first in VERSION_0_1_0.items() if current(target) not in {first, *SAME_SOURCE}
    ]
    print("each is in SAME_SOURCE" if not missing else f"{len(missing)} of these are not in SAME_SOURCE")
