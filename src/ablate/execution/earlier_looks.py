"""Was this comparison looked at before with fewer seeds? Then a p-value of a fixed number of seeds is not valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ablate.monitor.time_left import variant_of
from ablate.records.loading import load_manifest
from ablate.records.replicate import Replicate, split_name
from ablate.records.sweep_record import SweepManifest
from ablate.statistics.sequential import FIRST_LOOK
from ablate.storage.layout import SweepFolder


def earlier_looks(folder: SweepFolder, names: Mapping[str, str]) -> tuple[int, ...]:
    """Return with how many seeds a comparison was reported before, fewest first; empty where this is the first time.

    A look is a sweep of this output folder with the same variants, all of whose trials are among these, and a report;
    a sweep whose seeds were added until its variants were decided has looked after each of them.

    Args:
        folder: Of the sweep.
        names: Name of each of its trials, by signature.
    """
    now = _seeds(names.values())
    looks: set[int] = set()
    for other in folder.root.sweep_folders():
        manifest = load_manifest(other)
        if manifest.analysis.until is None and not other.report("html").is_file():
            continue
        if other.path.name == folder.path.name:
            looks |= set(manifest.looks)
        if _is_part(manifest, names):
            seeds = _seeds(manifest.names[signature] for signature in manifest.signatures)
            looks |= {seeds} if manifest.analysis.until is None else set(range(FIRST_LOOK, seeds + 1))
    over_folds = any(replicate.fold is not None for replicate in _replicates(names.values()))
    fewest = 1 if over_folds else 2  # one seed has folds to test
    return tuple(sorted(look for look in looks if fewest <= look < now))


def _is_part(manifest: SweepManifest, names: Mapping[str, str]) -> bool:
    """Whether a sweep has the same variants and no trial that is not among these."""
    if not set(manifest.signatures) <= names.keys() or not set(manifest.signatures) <= manifest.names.keys():
        return False
    variants = {variant_of(manifest.names[signature]) for signature in manifest.signatures}
    return variants == set(map(variant_of, names.values()))


def _seeds(names: Iterable[str]) -> int:
    """Return how many seeds the trials of these names have."""
    return len({replicate.seed for replicate in _replicates(names)})


def _replicates(names: Iterable[str]) -> list[Replicate]:
    return [replicate for _, replicate in map(split_name, names) if replicate]


def warning(looks: Sequence[int], *, over_folds: bool) -> str:
    """Say what looking more than once does to p-values; `until=decided` is no way out over folds."""
    before = " and ".join(filter(None, [", ".join(map(str, looks[:-1])), str(looks[-1])]))
    seeds = "seed" if tuple(looks) == (1,) else "seeds"
    text = (
        f"this comparison was reported before with {before} {seeds}: p-values of a fixed number of seeds are too small "
        "where seeds are added after a look (20 % false alarms by ten looks); p_sequential is valid"
    )
    return text if over_folds else f"{text}, and until=decided needs fewer seeds"
