"""Matching things with content and place: texts, dimensions, hatches, inserts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from attrs import define, evolve, field, frozen
from scipy.optimize import linear_sum_assignment

from dedup2d.geometry.flatten import Item
from dedup2d.geometry.linework import Affine, Floats, Ints, tree_of

__all__ = ["Matched", "match", "without_drawn"]

ASSIGNED = 200
"""Things of one content on one side up to which the best assignment is found; the nearest are taken above."""


@frozen(kw_only=True)
class Matched:
    """
    Pairs of positions (query, other), and what has no partner.

    Args:
        same: equal in content and place.
        moved: equal in content.
        changed: equal in place.
        removed: of the query.
        added: of the other.
    """

    same: Sequence[tuple[int, int]]
    moved: Sequence[tuple[int, int]]
    changed: Sequence[tuple[int, int]]
    removed: Sequence[int]
    added: Sequence[int]


def match(
    query: Sequence[Item],
    other: Sequence[Item],
    content: Callable[[Item, bool], Hashable],
    pose: Affine | None,
    reach: float,
) -> Matched:
    """
    Pair *query* and *other*, whose places are compared under *pose*, if there is one.

    *content* tells what makes one thing (of the query if the flag is set) equal to another; *reach* is how
    far in the other's coordinates two equal places may be apart.
    """
    matching = _Matching(_places(query, pose), _places(other, Affine() if pose else None), reach)
    groups = _groups(query, other, content)
    for ours, theirs in groups:
        matching.within(ours, theirs, matching.same, reach)
    matching.in_place()
    for ours, theirs in groups:
        matching.within(ours, theirs, matching.moved, np.inf)
    return matching.result()


def without_drawn(
    matched: Matched,
    items: tuple[Sequence[Item], Sequence[Item]],
    drawn: tuple[Sequence[Item], Sequence[Item]],
    pose: Affine | None,
    reach: float,
) -> tuple[Matched, set[str], set[str]]:
    """
    Leave out of *matched* what a dimension of the other side draws: there it was taken apart.

    All are pairs of query and other: *items* are those that were matched, *drawn* those that dimensions
    draw. Also returned are the paths of these dimensions, of the query and of the other.
    """

    def same(query: Sequence[Item], other: Sequence[Item]) -> Sequence[tuple[int, int]]:
        return match(query, other, lambda item, _: item.content, pose, reach).same

    removed = same([items[0][i] for i in matched.removed], drawn[1])
    added = same(drawn[0], [items[1][j] for j in matched.added])
    gone = {matched.removed[i] for i, _ in removed}
    come = {matched.added[j] for _, j in added}
    rest = evolve(
        matched,
        removed=[i for i in matched.removed if i not in gone],
        added=[j for j in matched.added if j not in come],
    )
    return rest, {drawn[0][i].path for i, _ in added}, {drawn[1][j].path for _, j in removed}


def _places(items: Sequence[Item], pose: Affine | None) -> Floats:
    """Return places (N, 2) under *pose*; NaN where there is none."""
    nowhere = (np.nan, np.nan)
    raw = np.array([item.place if item.place and pose else nowhere for item in items], float).reshape(-1, 2)
    return raw if pose is None else pose.points(raw)


def _groups(
    query: Sequence[Item], other: Sequence[Item], content: Callable[[Item, bool], Hashable]
) -> list[tuple[list[int], list[int]]]:
    found: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, items in enumerate((query, other)):
        for position, item in enumerate(items):
            found[content(item, side == 0)][side].append(position)
    return [group for group in found.values() if group[0] and group[1]]


@define
class _Matching:
    query: Floats
    other: Floats
    reach: float
    same: list[tuple[int, int]] = field(factory=list)
    moved: list[tuple[int, int]] = field(factory=list)
    changed: list[tuple[int, int]] = field(factory=list)
    taken_query: set[int] = field(factory=set)
    taken_other: set[int] = field(factory=set)

    def pair(self, one: int, two: int, into: list[tuple[int, int]]) -> None:
        into.append((one, two))
        self.taken_query.add(one)
        self.taken_other.add(two)

    def within(self, ours: list[int], theirs: list[int], into: list[tuple[int, int]], reach: float) -> None:
        """Pair things of one content, no further apart than *reach*; what has no place fits anywhere."""
        ours = [i for i in ours if i not in self.taken_query]
        theirs = [j for j in theirs if j not in self.taken_other]
        if not ours or not theirs:
            return
        a, b = self.query[ours], self.other[theirs]
        placed_a, placed_b = np.isfinite(a[:, 0]), np.isfinite(b[:, 0])
        ours_there, theirs_there = np.flatnonzero(placed_a), np.flatnonzero(placed_b)
        for i, j in _nearest(a[ours_there], b[theirs_there], reach):
            self.pair(ours[ours_there[i]], theirs[theirs_there[j]], into)
        if placed_a.all() and placed_b.all():
            return
        left = [i for i in ours if i not in self.taken_query]
        right = [j for j in theirs if j not in self.taken_other]
        for i, j in zip(left, right, strict=False):
            if not (np.isfinite(self.query[i, 0]) and np.isfinite(self.other[j, 0])):
                self.pair(i, j, self.same)

    def in_place(self) -> None:
        """Pair what is left where two stand in one place."""
        ours = [i for i in range(len(self.query)) if i not in self.taken_query]
        theirs = [j for j in range(len(self.other)) if j not in self.taken_other]
        ours = [i for i in ours if np.isfinite(self.query[i, 0])]
        theirs = [j for j in theirs if np.isfinite(self.other[j, 0])]
        for i, j in _nearest(self.query[ours], self.other[theirs], self.reach):
            self.pair(ours[i], theirs[j], self.changed)

    def result(self) -> Matched:
        return Matched(
            same=self.same,
            moved=self.moved,
            changed=self.changed,
            removed=[i for i in range(len(self.query)) if i not in self.taken_query],
            added=[j for j in range(len(self.other)) if j not in self.taken_other],
        )


def _nearest(a: Floats, b: Floats, reach: float) -> list[tuple[int, int]]:
    """Return pairs of places, each in one pair at most, so that their distances are small."""
    if not len(a) or not len(b):
        return []
    if len(a) == len(b) == 1:
        return [(0, 0)] if math.hypot(*(a[0] - b[0])) <= reach else []
    if max(len(a), len(b)) <= ASSIGNED:
        distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
        # Beyond the reach all are equally bad: otherwise one far pair would push near ones apart.
        cost = np.minimum(distance, reach) if np.isfinite(reach) else distance
        rows, columns = linear_sum_assignment(cost)
        near = distance[rows, columns] <= reach
        return list(zip(rows[near].tolist(), columns[near].tolist(), strict=True))
    return _greedy(a, b, reach)


def _greedy(a: Floats, b: Floats, reach: float) -> list[tuple[int, int]]:
    tree = tree_of(b)
    away, near = tree.query(a, k=min(8, len(b)), distance_upper_bound=reach)
    away, near = away.reshape(len(a), -1), near.reshape(len(a), -1)
    row = np.repeat(np.arange(len(a)), away.shape[1])
    flat, column = away.reshape(-1), near.reshape(-1)
    order: Ints = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]
    used_a, used_b, pairs = set(), set(), []
    for position in order:
        i, j = int(row[position]), int(column[position])
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            pairs.append((i, j))
    return pairs
