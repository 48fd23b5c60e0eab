"""
Puts drawings that belong together into groups.

A chain is not a group: if A is a revision of B and B of C, but C has nothing of A, then one
group of all three would say something that nobody measured. Two groups therefore become one only if
at least half of the pairs across them are linked (average linkage, Sokal and Michener 1958). Copies
with the same bytes count as one drawing in this, however many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from dedup2d.types import Drawing, Relation

__all__ = ["Group", "Link", "Member", "find_groups"]

_ORDER = {relation: place for place, relation in enumerate(Relation)}
_IN_THE_MIDDLE = 0.9  # of the likeness to all others that the most central drawing has


@frozen(kw_only=True)
class Link:
    """What a search by one drawing found about another."""

    a: str
    b: str
    relation: Relation
    similarity: float


@frozen(kw_only=True)
class Member:
    """One drawing of a group, and how it is related to `other` (the group's reference if it can be)."""

    drawing: Drawing
    relation: Relation
    similarity: float
    other: Drawing


@frozen(kw_only=True)
class Group:
    """Drawings that belong together: a reference, the others from near to far, copies behind their first."""

    reference: Drawing
    members: tuple[Member, ...]

    @property
    def kind(self) -> Relation:
        """The farthest relation in it: a group of copies is `exact`, one with a revision `revision`."""
        return max((member.relation for member in self.members), key=_ORDER.__getitem__)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """All drawings, the reference first."""
        return (self.reference, *(member.drawing for member in self.members))


def find_groups(drawings: Iterable[Drawing], links: Iterable[Link]) -> list[Group]:
    """
    Return the groups of two or more, largest likeness first, the same for the same input.

    *links* may name a pair twice (the better counts) and drawings that are not there.
    """
    by_id = {drawing.drawing_id: drawing for drawing in drawings}
    copies = _copies(by_id.values())
    stands_for = {one.drawing_id: same[0].drawing_id for same in copies for one in same}
    best = _best_links(links, stands_for)
    groups = _linkage(best, [same[0].drawing_id for same in copies])
    copies_of = {same[0].drawing_id: same for same in copies}
    found = [
        _group([by_id[one] for one in group], copies_of, _Links(best))
        for group in groups
        if len(group) > 1 or len(copies_of[group[0]]) > 1
    ]
    return sorted(found, key=lambda group: (_ORDER[group.kind], -len(group.members), _place(group.reference)))


def _place(drawing: Drawing) -> tuple[int, str, int]:
    name = drawing.source or drawing.file_name
    return len(name), name, drawing.page


def _copies(drawings: Iterable[Drawing]) -> list[list[Drawing]]:
    same: defaultdict[tuple[str, int, str], list[Drawing]] = defaultdict(list)
    for drawing in sorted(drawings, key=_place):
        same[drawing.file_hash, drawing.page, drawing.sheet].append(drawing)
    return list(same.values())


def _best_links(links: Iterable[Link], stands_for: Mapping[str, str]) -> dict[tuple[str, str], Link]:
    best: dict[tuple[str, str], Link] = {}
    for link in links:
        a, b = stands_for.get(link.a), stands_for.get(link.b)
        if a is None or b is None or a == b:
            continue
        pair = (a, b) if a < b else (b, a)
        if pair not in best or _nearer(link) < _nearer(best[pair]):
            best[pair] = link
    return best


def _nearer(link: Link) -> tuple[int, float]:
    return _ORDER[link.relation], -link.similarity


def _linkage(links: Mapping[tuple[str, str], Link], ids: Sequence[str]) -> list[list[str]]:
    near: defaultdict[str, set[str]] = defaultdict(set)
    for a, b in links:
        near[a].add(b)
        near[b].add(a)
    group_of = {one: [one] for one in ids}
    for a, b in sorted(links, key=lambda pair: (*_nearer(links[pair]), pair)):
        left, right = group_of[a], group_of[b]
        if left is not right and _belong_together(left, right, near):
            left.extend(right)
            for one in right:
                group_of[one] = left
    return list({id(group): group for group in group_of.values()}.values())


def _belong_together(left: list[str], right: list[str], near: Mapping[str, set[str]]) -> bool:
    linked = sum(len(near[one].intersection(right)) for one in left)
    return 2 * linked >= len(left) * len(right)


class _Links:
    """The best link of each pair."""

    def __init__(self, links: Mapping[tuple[str, str], Link]) -> None:
        self._links = links

    def between(self, one: Drawing, other: Drawing) -> Link | None:
        a, b = one.drawing_id, other.drawing_id
        return self._links.get((a, b) if a < b else (b, a))

    def closeness(self, one: Drawing, others: Iterable[Drawing]) -> float:
        found = (self.between(one, other) for other in others)
        return sum(link.similarity for link in found if link)

    def nearest(self, one: Drawing, others: Iterable[Drawing]) -> tuple[Drawing, Link]:
        found = [(other, link) for other in others if (link := self.between(one, other))]
        return min(found, key=lambda pair: (_nearer(pair[1]), _place(pair[0])))


def _group(group: list[Drawing], copies_of: Mapping[str, list[Drawing]], links: _Links) -> Group:
    reference = _reference(group, links)
    others = [_related(one, reference, group, links) for one in group if one is not reference]
    others.sort(key=lambda member: (_ORDER[member.relation], -member.similarity, _place(member.drawing)))
    members = _copies_among(copies_of[reference.drawing_id])
    for member in others:
        members += [member, *_copies_among(copies_of[member.drawing.drawing_id])]
    return Group(reference=reference, members=tuple(members))


def _reference(group: Sequence[Drawing], links: _Links) -> Drawing:
    """Return the simplest name among the drawings in the middle: rather `part.dxf` than `part_scan.tif`."""
    closeness = {one.drawing_id: links.closeness(one, group) for one in group}
    enough = _IN_THE_MIDDLE * max(closeness.values())
    return min((one for one in group if closeness[one.drawing_id] >= enough), key=_place)


def _related(drawing: Drawing, reference: Drawing, group: Sequence[Drawing], links: _Links) -> Member:
    direct = links.between(drawing, reference)
    other, link = (reference, direct) if direct else links.nearest(drawing, group)
    return Member(drawing=drawing, relation=link.relation, similarity=link.similarity, other=other)


def _copies_among(same: Sequence[Drawing]) -> list[Member]:
    """Return the copies of the first drawing of *same*."""
    first, *others = same
    return [Member(drawing=one, relation=Relation.EXACT, similarity=1.0, other=first) for one in others]
