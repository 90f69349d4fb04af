"""An audit as one page with pictures: pairs beside each other, in a file that needs nothing from elsewhere."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import jinja2
import numpy as np

from ablate.audit.audit_sentences import facts, pair_words
from ablate.data.data_errors import DataError
from ablate.data.image_listing import bounded_content
from ablate.data.images import quiet_decoders
from ablate.data.scanning import MOST_IMAGE_BYTES
from ablate.records.audit_record import AuditRecord, ImagePair
from ablate.safe_text import visible

MOST_PAIRS: Final = 200
"""Pairs with pictures, leaks first; `audit.json` has all."""

MOST_FRAMES: Final = 8
"""Pictures of a recording."""

WIDE: Final = 360
NARROW: Final = 150
"""Longer side of a picture in pixels."""


class _Shown(NamedTuple):
    """A picture with its name; the URL is empty where it cannot be shown."""

    name: str
    url: str


class _ShownPair(NamedTuple):
    words: str
    first: _Shown
    second: _Shown


class _ShownRecording(NamedTuple):
    reason: str
    splits: str
    number: int
    frames: list[_Shown]


def audit_html(record: AuditRecord, paths: Mapping[str, Path]) -> str:
    """Return an audit as HTML.

    Args:
        record: What was found.
        paths: The file of each image, by its name.
    """

    def shown(name: str, side: int, area: Sequence[tuple[float, float]] = ()) -> _Shown:
        return _Shown(visible(name), _url(paths.get(name), side, area))

    def shown_pair(pair: ImagePair) -> _ShownPair:
        return _ShownPair(pair_words(pair), shown(pair.first, WIDE), shown(pair.second, WIDE, pair.area))

    with quiet_decoders():
        recordings = sorted(record.recordings, key=lambda each: (len(each.splits) < 2, -len(each.images)))
        pairs = [shown_pair(pair) for pair in record.pairs[:MOST_PAIRS]]
        return _template().render(
            data=visible(record.data),
            source=visible(record.source),
            created=record.created[:16].replace("T", " "),
            fingerprint=record.fingerprint[:16],
            facts=[visible(fact) for fact in facts(record)],
            leaks=pairs[: len(record.leaks)],
            pairs=pairs[len(record.leaks) :],
            all_leaks=len(record.leaks),
            all_pairs=len(record.pairs) - len(record.leaks),
            recordings=[
                _ShownRecording(
                    visible(each.reason),
                    ", ".join(each.splits),
                    len(each.images),
                    [shown(name, NARROW) for name in _spread(each.images)],
                )
                for each in recordings[:MOST_PAIRS]
            ],
            same_labels=[[shown(name, NARROW) for name in names[:MOST_FRAMES]] for names in record.same_labels[:50]],
            without_labels=[visible(name) for name in record.without_labels[:MOST_PAIRS]],
            not_compared=[(visible(each.image), visible(each.reason)) for each in record.not_compared[:MOST_PAIRS]],
        )


def _spread(images: Sequence[str]) -> list[str]:
    """Some images of a recording, spread over it."""
    places = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_FRAMES)).astype(int))
    return [images[place] for place in places]


def _url(path: Path | None, side: int, area: Sequence[tuple[float, float]]) -> str:
    """An image as a small JPEG in a data URL, with the outline of an area; empty where it cannot be read."""
    from PIL import Image, ImageOps

    if path is None:
        return ""
    try:
        with Image.open(io.BytesIO(bounded_content(path, MOST_IMAGE_BYTES))) as opened:
            opened.draft("RGB", (2 * side, 2 * side))
            small = ImageOps.exif_transpose(opened).convert("RGB")
            small.thumbnail((side, side))
            pixels = np.array(small)
    except (DataError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    if area:
        corners = np.array(area) * (pixels.shape[1], pixels.shape[0])
        cv2.polylines(pixels, [np.rint(np.clip(corners, -1e4, 1e4)).astype(np.int32)], True, (255, 120, 0), 2)
    encoded, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}" if encoded else ""


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("audit.html")
