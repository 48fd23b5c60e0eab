"""How much of both drawings' line work lies on the other's, entity by entity."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from dedup2d.geometry.aligning import LARGE, Side
from dedup2d.geometry.coverage import SAMPLE_POINTS, Ground, covered, ground, points_for, sampled
from dedup2d.geometry.linework import Affine, Floats, Ints, Linework, joined, transformed
from dedup2d.geometry.poses import Pose

__all__ = ["Overlay", "Shares", "overlay"]


@frozen(eq=False)
class Shares:
    """
    One drawing's part of an overlay.

    Args:
        lines: those looked up: all, or a sample of a large drawing.
        share: float64 (N,), part of each that lies on the other's, 0 to 1.
        weight: float64 (N,).
    """

    lines: Linework
    share: Floats
    weight: Floats

    @property
    def found(self) -> float:
        """The weighted share of all, exactly 1 if nothing is missing."""
        total = float(self.weight.sum())
        return 1.0 - float((self.weight * (1.0 - self.share)).sum()) / total if total > 0 else 1.0

    def by_source(self) -> tuple[Ints, Floats, Floats]:
        """Return the numbers of the entities, their lengths and the share of each that is found."""
        sources, number = np.unique(self.lines.sources, return_inverse=True)
        lengths = self.lines.lengths
        total = np.bincount(number, lengths)
        missing = np.bincount(number, lengths * (1.0 - self.share))
        return sources, np.asarray(total, float), 1.0 - missing / np.maximum(total, 1e-300)


@frozen(eq=False)
class Overlay:
    """Both drawings' parts, and whether samples had to stand for them."""

    query: Shares
    other: Shares
    sampled: bool


def overlay(
    query: Side, other: Side, *, extras: tuple[Linework, Linework], pose: Pose, tolerance: float
) -> Overlay:
    """
    Lay *query* onto *other* under *pose*.

    The extra line work of each may cover the other's, and is not looked up itself.
    """
    if pose == Pose(1 + 0j, 0j) and query.lines.same_as(other.lines):
        return Overlay(_whole(query.lines), _whole(other.lines), sampled=False)
    there, back = pose.affine(), pose.affine().inverse()
    scale = pose.scale
    ours = _shares(query.lines, there, _ground(other, extras[1]), tolerance)
    theirs = _shares(other.lines, back, _ground(query, extras[0]), tolerance / scale)
    return Overlay(ours, theirs, max(len(query.lines), len(other.lines)) > LARGE)


def _ground(side: Side, extra: Linework) -> Ground:
    return ground(joined([side.lines, extra])) if len(extra) else side.ground


def _shares(lines: Linework, by: Affine, onto: Ground, tolerance: float) -> Shares:
    weight = _weights(lines)
    if len(lines) > LARGE:
        lines, weight = _some(lines, weight)
    moved = transformed(lines, by)
    samples = sampled(moved, points_for(moved, SAMPLE_POINTS))
    hit = covered(samples, moved, onto, tolerance, in_crowds=True)
    share = np.bincount(samples.owner, hit, len(lines)) / np.bincount(samples.owner, minlength=len(lines))
    return Shares(lines, share, weight)


def _whole(lines: Linework) -> Shares:
    return Shares(lines, np.ones(len(lines)), _weights(lines))


def _weights(lines: Linework) -> Floats:
    """
    Weigh an entity by the root of its length, whatever it was split into.

    By length alone a hole would be nothing beside the frame; by number alone a dash would be as much as it.
    """
    lengths = lines.lengths
    _, number = np.unique(lines.sources, return_inverse=True)
    whole = np.bincount(number, lengths)
    return np.asarray(lengths / np.sqrt(whole[number]))


def _some(lines: Linework, weight: Floats) -> tuple[Linework, Floats]:
    chosen = np.zeros(len(lines), bool)
    chosen[np.random.default_rng(7).choice(len(lines), LARGE, replace=False)] = True
    return lines.part(chosen), weight[chosen]
