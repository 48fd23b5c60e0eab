"""
How likely a judgement is right: a probability, from how far the evidence is from where it would turn.

One logistic curve per relation, and less for what another match surpasses: of the parts of a family on
one template, all of which look like revisions or parts of the query, few are. The constants were set by
hand from tables of some 1,500 matches of real drawings (their revisions, formats, neighbours, look-alikes and
copies: turned, scanned, faxed, cropped, placed on other sheets and more), not on a part of them.
"""

from __future__ import annotations

import math

from dedup2d.engine.noise import Changes
from dedup2d.types import Relation

__all__ = ["by_fingerprints", "confidence", "surpassed"]


def confidence(relation: Relation, strength: float, changes: Changes) -> float:
    """Probability 0..1 that `relation` is right, given how strongly the sheets agree and what changed."""
    if relation is Relation.IDENTICAL:
        return _logistic(_identical(changes))
    if relation is Relation.REVISION:
        clear = 1.0 - 1.2 * max(changes.heaviest, 0.1) ** -0.65
        return _logistic(clear - 8.0 * max(0.0, 0.65 - strength))
    if relation in (Relation.PARTIAL, Relation.MIRRORED):
        return _logistic(min(3.2, 4.0 * strength - 0.5))
    return _logistic(3.0 - 5.0 * strength)


def surpassed(relation: Relation, alone: float, gap: float) -> float:
    """
    Probability 0..1 of a relation that has the probability `alone`, when another match is better.

    `gap` is by how much the best match of the same query is more similar, 0 for the best itself. Sheets
    that are the same do not compete: all of them may be right.
    """
    if gap <= 0 or relation in (Relation.EXACT, Relation.IDENTICAL):
        return alone
    return alone * 0.25 * math.exp(-gap / 0.02)


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
