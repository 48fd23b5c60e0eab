"""What comparing the query's geometry with those of matches gives."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from dedup2d.geometry.result import GeometryDiff, Section

__all__ = ["Facts", "Finding"]


@frozen(kw_only=True)
class Facts:
    """
    What is known of a geometry once it was read.

    Args:
        entities: how many it has.
        drawing_number: as its `meta` has it, None if it does not.
        warnings: what reading left out.
    """

    entities: int
    drawing_number: str | None = None
    warnings: tuple[str, ...] = ()


@frozen(kw_only=True)
class Finding:
    """
    One geometry beside the query's.

    Args:
        score: 0 to 1; None if the two have nothing to compare.
        breakdown: by section that both have.
        diff: all that differs, of which the first are named.
        mirrored: they lie on each other only seen in a mirror.
        drawing_number: of the match.
        warnings: what limits the score.
        failure: why there is none; the rest then says nothing.
    """

    score: float | None = None
    breakdown: Mapping[str, Section] = field(factory=dict)
    diff: GeometryDiff = field(factory=GeometryDiff)
    mirrored: bool = False
    drawing_number: str | None = None
    warnings: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def changes(self) -> dict[str, int]:
        """How many entries differ in what is drawn, by kind: how a layer looks is no change of it."""
        found: dict[str, int] = {}
        for name, count in self.diff.counts.items():
            section, _, kind = name.partition(".")
            if section != "layers" and count:
                found[kind] = found.get(kind, 0) + count
        return found

    @property
    def kept(self) -> float:
        """Share of the entries of both that nothing happened to, 0 to 1."""
        entries = sum(max(each.query, each.other) for each in self.breakdown.values())
        changed = sum(self.diff.counts.values())
        return max(0.0, 1.0 - changed / entries) if entries else 0.0
