"""What an audit found, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ablate.errors import count
from ablate.records.audit_record import AuditRecord, ImagePair, grouped


def facts(record: AuditRecord) -> list[str]:
    """Return what was found, one sentence each, what matters most first."""
    return list(_facts(record))


def pair_words(pair: ImagePair) -> str:
    """Return what a pair of images has in common, in one line."""
    one, other = pair.splits
    where = f"{one} and {other}" if pair.is_leak else one
    if pair.kind == "same file":
        words = f"{where}: the same file twice"
    else:
        mirrored = ", mirrored" if pair.is_mirrored else ""
        common = f"{pair.overlap:.0%} of the smaller image, correlation {pair.correlation:.2f}"
        words = f"{where}: {pair.kind}{mirrored}, {common}"
    if pair.labels_differ:
        words += f"; {pair.labels_differ} of {count(pair.boxes or 0, 'box', 'boxes')} have no counterpart"
    return words


def _facts(record: AuditRecord) -> Iterator[str]:
    splits = ", ".join(f"{number} in {split}" for split, number in record.images.items())
    images = count(sum(record.images.values()), "image")
    leaks = Counter(frozenset(pair.splits) for pair in record.leaks)
    for both, number in leaks.items():
        one, other = sorted(both, key=list(record.images).index)
        shown = [pair for pair in record.leaks if set(pair.splits) == both]
        hit = len({name for pair in shown for name in (pair.first, pair.second) if name.split("/")[1] == other})
        kinds = Counter(pair.kind for pair in shown)
        words = ", ".join(f"{times} {kind}" for kind, times in kinds.items())
        share = f"{count(hit, 'image')} of {record.images[other]} in {other}"
        yield f"{share} show what an image in {one} shows ({count(number, 'pair')}: {words})"
    if not leaks and len(record.images) > 1:
        yield "no image is in two splits, as far as was found"
    within = Counter(pair.kind for pair in record.pairs if not pair.is_leak)
    if within:
        yield f"within a split: {', '.join(f'{number} {kind}' for kind, number in within.items())}"
    if record.split_recordings:
        yield f"{count(len(record.split_recordings), 'recording has', 'recordings have')} images in several splits"
    if record.recordings:
        frames = sum(len(recording.images) for recording in record.recordings)
        yield f"{count(len(record.recordings), 'recording')} with {count(frames, 'image')}"
    if record.disagreeing:
        yield f"{count(len(record.disagreeing), 'pair shows', 'pairs show')} the same with different labels"
    if record.same_labels:
        files = count(len(record.same_labels), "label file is", "label files are")
        yield f"{files} equal for several different images"
    if record.without_labels:
        yield f"{count(len(record.without_labels), 'image has', 'images have')} no label file"
    if record.not_compared:
        yield f"{count(len(record.not_compared), 'image was', 'images were')} not compared as a picture"
    groups = grouped(record)
    alone = sum(record.images.values()) - len(groups)
    yield f"{images} ({splits}) are {count(len(set(groups.values())) + alone, 'group')}"
