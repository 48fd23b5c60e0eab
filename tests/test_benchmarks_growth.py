"""The measurement of growth: it fills up an index, and finds the real drawings among the made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.growth import Growing, made_up, measured
from tests.segment_writer import made_up as fingerprint_of


def test_a_grown_index_is_measured(tmp_path: Path) -> None:
    """The published figures could not be repeated, or would be of searches that find nothing."""
    real = [fingerprint_of(seed) for seed in range(20)]
    with Growing(tmp_path, real) as growing:
        assert growing.fill(30) > 0
        growing.fill(90)
    found = measured(tmp_path, [(key, real[key - 1].to_bytes()) for key in (1, 7, 20)])

    assert found["right"] == 1
    assert 0 < found["p50"] <= found["p95"]
    assert found["disk"] > 500
    assert found["segments"] >= 1


def test_made_up_drawings_are_alike_but_not_the_same() -> None:
    """An index of copies, or of noise, would say nothing about growth."""
    real = [fingerprint_of(seed) for seed in range(4)]
    made = made_up(real)
    assert [next(made) for _ in real] == real
    several = [next(made) for _ in range(8)]
    shares = []
    for one in several:
        nearest = [
            min(int(np.bitwise_count(code ^ every.features.codes).sum(axis=1).min()) for every in real)
            for code in one.features.codes
        ]
        shares.append(float(np.mean(nearest)) / 256)

    assert min(shares) > 0
    assert max(shares) < 0.4
    assert len({one.hash for one in several}) == 8
