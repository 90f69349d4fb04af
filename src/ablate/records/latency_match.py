"""The stock network that is as slow as a graft, as it was measured: one file in the output folder for each graft.

The size that was chosen is part of the control's trials, so it is measured once, and read wherever the sweep is
continued: on another machine, too, and by another version of ablate. The file says where it was measured.
"""

from __future__ import annotations

import contextlib
from typing import Annotated

import msgspec

from ablate.records.json_struct import JsonStruct, from_json, to_json, written
from ablate.records.latency_record import LatencyRatio, Positive
from ablate.records.loading import DamagedRecordError, read_object
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import MatchFile

BY = "^(width|imgsz)$"


class TriedSize(JsonStruct, frozen=True, kw_only=True):
    """A size of the stock network that was looked at.

    Attributes:
        size: A width multiple, or pixels.
        ratio: Its latency as a multiple of the graft's, in one process; None where it cannot be built.
    """

    size: Positive
    ratio: Positive | None = None


class LatencyMatch(JsonStruct, frozen=True, kw_only=True):
    """Which stock network has the latency of a graft.

    Attributes:
        key: Of everything that the choice depends on: network, image size, setting and kind of device.
        graft: Its name, such as "hmha@c3k2".
        model: Architecture of the stock network.
        imgsz: Side in pixels of the graft's images.
        by: What is larger in the match: "width" (of the layers) or "imgsz" (of the images).
        size: The width multiple, or the pixels; None where there is no match.
        reason: Why there is none, in words.
        of_graft: The graft's latency as a multiple of the stock network's.
        of_match: The match's latency as a multiple of the graft's.
        tried: Sizes that were looked at before.
        setting: In which latency was measured, in words.
        device, device_name, threads: Where.
        measured: ISO time.
        ablate, code: Version, and hash of the code that trains.
        seconds: That it took.
        flags: In words, how others used the device before or meanwhile.
    """

    key: str
    graft: str
    model: str
    imgsz: Annotated[int, msgspec.Meta(gt=0)]
    by: Annotated[str, msgspec.Meta(pattern=BY)]
    size: Positive | None = written(None)
    reason: str = written("")
    of_graft: LatencyRatio
    of_match: LatencyRatio | None = written(None)
    tried: tuple[TriedSize, ...] = ()
    setting: str = written("")
    device: str = written("")
    device_name: str = written("")
    threads: int | None = written(None)
    measured: str = written("")
    ablate: str = written("")
    code: str = written("")
    seconds: float = written(0.0)
    flags: tuple[str, ...] = ()

    @property
    def size_in_words(self) -> str:
        """The size of the match."""
        return f"width {self.size:.9g}" if self.by == "width" else f"{self.size:.0f} px"


def load_match(file: MatchFile, ignored: list[str]) -> LatencyMatch | None:
    """Return what was measured; None where nothing was, or what is there cannot be read.

    Where the file is damaged its copy is read.

    Args:
        file: Of the graft.
        ignored: Gets in words what could not be read.
    """
    problems = []
    for path in (file.path, file.copy):
        try:
            match = from_json(read_object(path), LatencyMatch)
            if match.key != file.key:
                raise ValueError("is of another network")
            return match
        except FileNotFoundError:
            continue
        except DamagedRecordError as error:
            problems.append(f"{file.path.parent.name}/{path.name} {error.reason}")
        except ValueError as error:
            problems.append(f"{file.path.parent.name}/{path.name} is no matched latency: {error}")
    ignored += problems
    return None


def save_match(file: MatchFile, match: LatencyMatch) -> None:
    """Write what was measured, and a copy. Raises OSError when the disk refuses."""
    content = to_json(match)
    atomic_write_json(file.path, content)
    with contextlib.suppress(OSError):
        atomic_write_json(file.copy, content)
