"""A finding: a sentence, and what it claims, so that a claim can be held against a truth that is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a finding is about."""

    CHECK = "check"  # is the comparison itself sound?
    ACCURACY = "accuracy"
    DATA_SETS = "data sets"
    EQUIVALENCE = "equivalence"
    PAIRS = "pairs"  # variants with one another
    COMPONENTS = "components"
    FACTORS = "factors"
    CONTROLS = "controls"
    IMAGES = "images"
    FAILURES = "failures"
    COST = "cost"
    EPOCHS = "epochs"
    SIZES = "sizes"
    TEST_SPLIT = "test split"
    MISSING = "missing"  # what is not there


class Relation(StrEnum):
    """How a claim relates a subject to its reference."""

    HIGHER = "higher"
    LOWER = "lower"
    DIFFERENT = "different"
    EQUIVALENT = "equivalent"
    SMALL = "smaller than half a point"  # in either direction


@dataclass(frozen=True)
class Claim:
    """A statement about what is true, beyond what was measured: the truth may contradict it.

    A measured difference, an interval or a missing result is none.

    Attributes:
        subject: Label of a variant.
        relation: How it is said to relate to the reference.
        reference: Label of a variant.
        outcome: Of what: "accuracy", "accuracy on the test split", "AP small", "failure rate", "best minus last epoch".
    """

    subject: str
    relation: Relation
    reference: str
    outcome: str = "accuracy"


@dataclass(frozen=True)
class Finding:
    """One or two plain sentences, and all that they claim."""

    text: str
    kind: Kind
    claims: tuple[Claim, ...] = ()


def without_claims(kind: Kind, texts: Iterable[str]) -> list[Finding]:
    """Findings that report what was measured and claim nothing."""
    return [Finding(text, kind) for text in texts]


def direction(estimate: float) -> Relation:
    """The relation that a difference of this sign has."""
    return Relation.HIGHER if estimate > 0 else Relation.LOWER
