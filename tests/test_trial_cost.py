"""What a record says of the time that a trial took."""

from __future__ import annotations

from ablate.training.history import seconds_per_epoch


def test_an_epoch_s_time_is_the_median_without_the_first() -> None:
    def of(*seconds: float) -> float:
        return seconds_per_epoch([{"seconds": each} for each in seconds])

    assert of(90.0, 10.0, 14.0, 11.0) == 11.0
    assert of(90.0, 10.0) == 10.0
    assert of(90.0) == 90.0
