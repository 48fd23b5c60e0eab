"""Whether a confidence of 0.9 is right in nine of ten: bins, one figure, and a plot."""

from __future__ import annotations

from collections.abc import Container, Iterable

from attrs import frozen

from benchmarks.accuracy.queries import EXPECTED
from benchmarks.accuracy.rows import Answer, Hit
from benchmarks.accuracy.scores import REPORTED
from benchmarks.corpus import Corpus

__all__ = ["Bin", "calibration_error", "plot", "reliability"]

_BINS = 10


@frozen(kw_only=True)
class Bin:
    """Matches whose confidence lies in one tenth: how many, their mean confidence, the share right."""

    count: int
    confidence: float
    right: float


def reliability(
    corpus: Corpus, answers: Iterable[Answer], disputed: Container[frozenset[str]] = ()
) -> list[Bin]:
    """
    Return the bins over all reported matches of which the truth is known, least confident first.

    A match is right if it is the drawing asked for, under a relation that fits the question or, known by
    fingerprints alone, under none. *disputed* pairs are left out.
    """
    judged = [
        (hit.confidence, right)
        for answer in answers
        for hit in answer.hits
        if hit.score >= REPORTED
        and frozenset({answer.query, hit.id}) not in disputed
        and (right := _is_right(corpus, answer, hit)) is not None
    ]
    found = []
    for number in range(_BINS):
        some = [one for one in judged if min(int(one[0] * _BINS), _BINS - 1) == number]
        if some:
            confidence, right = (sum(column) / len(some) for column in zip(*some, strict=True))
            found.append(Bin(count=len(some), confidence=confidence, right=right))
    return found


def _is_right(corpus: Corpus, answer: Answer, hit: Hit) -> bool | None:
    """Whether what was said is true; None where nobody knows."""
    if hit.id == answer.about and answer.transform in EXPECTED:
        return hit.relation in EXPECTED[answer.transform] or hit.relation == "similar"
    if hit.id == answer.about and answer.transform == "lookalike different":
        return False
    return False if corpus.unrelated(answer.query, hit.id) else None


def calibration_error(bins: Iterable[Bin]) -> float:
    """Return the expected calibration error (Naeini, Cooper and Hauskrecht, 2015), 0 (best) to 1."""
    bins = list(bins)
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.right) for one in bins) / max(total, 1)


def plot(bins: Iterable[Bin]) -> str:
    """Return an SVG picture: confidence to the right, share that is right upwards; best is the diagonal."""
    side, margin = 400, 50
    marks = []
    for one in bins:
        x, y = margin + one.confidence * side, margin + (1 - one.right) * side
        radius = 3 + min(12.0, one.count**0.5 / 4)
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#0072b2" fill-opacity="0.6"/>'
            f'<text x="{x + radius + 2:.1f}" y="{y + 4:.1f}" font-size="11">{one.count}</text>'
        )
    low, high, label = margin + side, margin, margin + side / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 2 * margin} {side + 2 * margin}"'
        ' font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>'
        f'<rect x="{margin}" y="{margin}" width="{side}" height="{side}" fill="none" stroke="#666"/>'
        f'<path d="M{margin} {low}L{margin + side} {high}" stroke="#999" stroke-dasharray="6 4"/>'
        f'<text x="{label}" y="{low + 35}" text-anchor="middle">stated confidence</text>'
        f'<text x="15" y="{label}" text-anchor="middle" transform="rotate(-90 15 {label})">'
        "share that is right</text>"
        + "".join(
            f'<g font-size="11"><text x="{margin + at * side}" y="{low + 18}" text-anchor="middle">'
            f"{at}</text>"
            f'<text x="{margin - 6}" y="{low - at * side + 4}" text-anchor="end">{at}</text></g>'
            for at in (0, 0.5, 1)
        )
        + "".join(marks)
        + "</svg>\n"
    )
