"""How far a difference in accuracy would move with other images of the same kind: the paired bootstrap over images.

| problem | customary | here |
|---|---|---|
| which images happened to be in the split | not spoken of | images drawn again with replacement (Efron 1979) |
| both detectors see the same hard images | two separate intervals | each resample is the same for both |
| mAP is no mean over images | a t-test over images | mAP itself, computed anew in each resample |
| frames of one recording are alike | each counts as an image of its own | whole groups are drawn again |

A resample counts each image zero, one or several times. Nothing is copied for it: with detections in the order of their
confidence, the counts of true and of all detections up to each of them are sums of their images' counts, and only
where a detection is true does recall move (`ablate.evaluation.weighted_curves`).

The interval speaks of images and of nothing else: what another seed would have changed is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.errors import AblateError
from ablate.evaluation.weighted_accuracy import weighted_accuracy
from ablate.evaluation.weighted_curves import image_rank
from ablate.records.predictions import Predictions
from ablate.settings.environment import cpu_threads
from ablate.settings.metric import MAP50_95, Metric
from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL
from ablate.statistics.seeds_and_images import ImageVariance, image_variance

RESAMPLES = 1000
CHUNK = 100_000  # numbers that a pass over some resamples works on: small enough to stay near the processor
MOST_THREADS = 8  # each holds a chunk; beyond it memory is what limits
BOX_TOLERANCE = 656  # 1 % of an image's side: as far as the same true box may move by being scaled for another size


class NotPaired(AblateError, ValueError):
    """Two trials were not evaluated on the same images and true objects; says in one line what differs."""


class ImageInterval(NamedTuple):
    """A difference in accuracy with its interval over images, in fractions.

    Attributes:
        interval: Variant - baseline on the images as they are, mean over the seeds, with its interval over images, for
            these very trials. Its ends are NaN where fewer than two resamples can be judged.
        resamples: Resamples that it rests on: those with at least one true object.
        images: Images drawn from.
        seeds: Pairs that the difference is the mean of.
        variance: What the images contribute to it; None where fewer than two resamples can be judged.
        groups: Groups of images drawn from, where whole groups are drawn; None where single images are.
    """

    interval: Interval
    resamples: int
    images: int
    seeds: int
    variance: ImageVariance | None = None
    groups: int | None = None


def paired_bootstrap(
    pairs: Sequence[tuple[Predictions, Predictions]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    groups: np.ndarray | None = None,
    metric: Metric = MAP50_95,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageInterval:
    """Difference variant - baseline of an accuracy with its interval over images.

    The interval says how far the difference, between these trained networks, would move on other images of the same
    kind. Averaging over several seeds narrows what the images alone contribute; it does not put the seeds' own spread
    into the interval. That is what the t interval over seeds is for.

    Args:
        pairs: Predictions of variant and baseline, one pair a seed. The same resample holds for all of them.
        resamples: How many.
        seed: The same seed gives the same resamples, whatever the predictions, the machine or the number of threads.
        level: Of the interval.
        groups: Number of the group of each image of the first pair's variant, (I,), as in `resampled_accuracy`.
        metric: Which accuracy.
        on_progress: Called with (done, total), in evaluations of a resample, now and then, from this thread.

    Raises:
        NotPaired: Where the predictions are not of the same images and true objects, or there are no true objects.
    """
    if not pairs:
        raise NotPaired("there is no pair of trials to compare")
    members = list({id(predictions): predictions for pair in pairs for predictions in pair}.values())
    for predictions in members[1:]:
        same_objects(members[0], predictions)
    if not len(members[0].true_image):
        raise NotPaired("the images have no true objects, so there is no accuracy to compare")
    accuracies = {}
    for index, predictions in enumerate(members):
        ahead = index * resamples

        def report(done: int, ahead: int = ahead) -> None:
            if on_progress is not None:
                on_progress(ahead + done, len(members) * resamples)

        of_these = None if groups is None else _in_order_of(predictions, members[0], groups)
        accuracies[id(predictions)] = resampled_accuracy(
            predictions, metric=metric, resamples=resamples, seed=seed, groups=of_these, on_progress=report
        )
    resampled = [(accuracies[id(variant)], accuracies[id(baseline)]) for variant, baseline in pairs]
    return image_interval(resampled, level, members[0], groups)


def image_interval(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    level: float,
    predictions: Predictions,
    groups: np.ndarray | None = None,
) -> ImageInterval:
    """The interval from what `resampled_accuracy` gave for variant and baseline, pair by pair, (1 + resamples,) each.

    Percentile interval, each tail widened as Hesterberg (2015, The American Statistician 69:371) advises: at the
    quantiles that the normal distribution has where Student's, with one degree of freedom less than images, has its
    tails, and by sqrt(n / (n - 1)), for the plain one is too narrow on few images. Where groups are drawn, (I,) as in
    `resampled_accuracy`, n is their number.
    """
    by_seed = np.array([variant - baseline for variant, baseline in pairs])  # (n, 1 + R)
    differences = by_seed.mean(axis=0)
    images = len(predictions.names)
    drawn = differences[1:][np.isfinite(differences[1:])]
    low = high = float("nan")
    variance = None
    units = images if groups is None else len(np.unique(groups))
    if len(drawn) >= 2 and units >= 2:
        reach = special.stdtrit(units - 1, 0.5 + level / 2) * np.sqrt(units / (units - 1))
        low, high = (float(q) for q in np.quantile(drawn, special.ndtr([-reach, reach])))
        variance = image_variance(by_seed[:, 1:][:, np.isfinite(differences[1:])], units)
    return ImageInterval(
        Interval(float(differences[0]), low, high),
        len(drawn),
        images,
        len(pairs),
        variance,
        None if groups is None else units,
    )


def same_objects(one: Predictions, other: Predictions) -> np.ndarray:
    """For each true object of one the index of the same in the other, (T,); whatever the order of either.

    Boxes of true objects may differ by 1 % of their image's side.

    Raises:
        NotPaired: Where the two do not speak of the same images, with the same true objects.
    """
    if not len(one.names) or not len(other.names):
        raise NotPaired("there are no images")
    if len(one.thresholds) != len(other.thresholds) or not np.allclose(one.thresholds, other.thresholds):
        raise NotPaired("the detections were judged at different thresholds of IoU")
    if not np.array_equal(one.names, other.names):
        missing = sorted(set(one.names.tolist()) ^ set(other.names.tolist()))
        if missing:
            raise NotPaired(f"{len(missing)} images are in one evaluation only, such as {missing[0]}")
        if len(one.names) != len(other.names) or len(set(one.names.tolist())) < len(one.names):
            raise NotPaired("some images share a name and the evaluations differ in order")
    if len(one.true_image) != len(other.true_image):
        raise NotPaired(f"one evaluation has {len(one.true_image)} true objects, the other {len(other.true_image)}")
    objects, of_other = _true_objects(one), _true_objects(other)
    for place in (False, True):
        ordered, alike = _order(objects, place), _order(of_other, place)
        if _equal(objects[ordered], of_other[alike]):
            index = np.empty(len(ordered), dtype=np.intp)
            index[ordered] = alike
            return index
    raise NotPaired("the true objects differ between the two evaluations")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tables of true objects say the same, row by row."""
    return bool((one[:, :2] == other[:, :2]).all() and (abs(one[:, 2:] - other[:, 2:]) <= BOX_TOLERANCE).all())


def _true_objects(predictions: Predictions) -> np.ndarray:
    """Image by name, class and box of the true objects, (T, 6)."""
    columns = [image_rank(predictions)[predictions.true_image], predictions.true_cls, predictions.true_box]
    return np.asarray(np.column_stack(columns).astype(int))


def _order(objects: np.ndarray, place: bool) -> np.ndarray:
    """Order of true objects (T, 6): as labelled, image by image, or by class and place."""
    keys = (objects[:, 3], objects[:, 2], objects[:, 1], objects[:, 0]) if place else (objects[:, 0],)
    return np.asarray(np.lexsort(keys))


def resampled_accuracy(
    predictions: Predictions,
    *,
    metric: Metric = MAP50_95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: np.ndarray | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The accuracy of the images as they are, and of each resample of them.

    What `paired_bootstrap` computes for each of its members; call it to keep a baseline's for many variants.

    Args:
        predictions: Of I images.
        metric: Which accuracy.
        resamples: R.
        seed: Decides the resamples.
        groups: Number of the group of each image, (I,): whole groups are drawn (the cluster bootstrap; Davison and
            Hinkley 1997, Bootstrap Methods and their Application, section 3.8). None draws single images.
        on_progress: Called with the resamples done, now and then.

    Returns:
        Shape (1 + R,); NaN where a resample has no true object. A class without a true object in a resample takes no
        part in its mean, as in Ultralytics.
    """
    weighted = weighted_accuracy(predictions, metric)
    groups = None if groups is None else _by_rank(groups, predictions)
    answers = np.empty(1 + resamples)
    answers[0] = weighted.accuracy(np.ones((1, weighted.images), dtype=np.int32))[0]

    def work(chunk: range) -> range:
        weights = np.stack([draw(weighted.images, seed, index, groups) for index in chunk])
        answers[1 + chunk.start : 1 + chunk.stop] = weighted.accuracy(weights)
        return chunk

    chunks = list(_chunks(resamples, weighted.load))
    done = 0
    with ThreadPoolExecutor(max(1, min(len(chunks), cpu_threads(), MOST_THREADS))) as threads:
        try:
            for chunk in threads.map(work, chunks):
                done += len(chunk)
                if on_progress is not None:
                    on_progress(done)
        except BaseException:  # Ctrl-C among them: what has not begun is not waited for
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return answers


def draw(images: int, seed: int, index: int, groups: np.ndarray | None = None) -> np.ndarray:
    """How often each image, in the alphabetical order of their names, is in a resample: (I,), int32.

    The sum is I; where groups are drawn, (I,) from 0 in the order of images, it varies with their sizes.
    """
    random = np.random.default_rng([seed, index])
    units = images if groups is None else int(groups.max()) + 1
    times = np.bincount(random.integers(0, units, units), minlength=units).astype(np.int32)
    return times if groups is None else times[groups]


def _by_rank(groups: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Groups of the images in the alphabetical order of their names, numbered in the order in which they appear."""
    ordered = groups[np.argsort(predictions.names, kind="stable")]
    _, first, number = np.unique(ordered, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[number])


def _in_order_of(predictions: Predictions, other: Predictions, groups: np.ndarray) -> np.ndarray:
    """Groups of the images of another evaluation, (I,), in the order of these."""
    ordered = np.empty_like(groups)
    ordered[image_rank(other)] = groups
    return np.asarray(ordered[image_rank(predictions)])


def _chunks(resamples: int, load: int) -> Iterator[range]:
    """Ranges of resamples that bound the memory of one pass."""
    size = max(1, CHUNK // max(1, load))
    for start in range(0, resamples, size):
        yield range(start, min(resamples, start + size))
