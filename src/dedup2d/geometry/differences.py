"""The diff of two geometries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dedup2d.geometry.comparing import Comparison
from dedup2d.geometry.flatten import Item
from dedup2d.geometry.items import Matched
from dedup2d.geometry.line_changes import line_changes
from dedup2d.geometry.linework import Affine
from dedup2d.geometry.result import DiffEntry, DiffKind, GeometryDiff
from dedup2d.geometry.sections import named_layers

__all__ = ["differences"]

_ORDER = ("dimensions", "texts", "entities", "hatches", "blocks", "layers")


def differences(comparison: Comparison, max_paths: int) -> GeometryDiff:
    """Return what differs, at most *max_paths* entries, and how much there is of it in all."""
    back = None if comparison.pose is None else comparison.pose.affine().inverse()
    flats = comparison.query_flat, comparison.other_flat
    items = {
        "dimensions": (flats[0].dimensions, flats[1].dimensions),
        "texts": (flats[0].texts, flats[1].texts),
        "hatches": (flats[0].hatches, flats[1].hatches),
        "blocks": (comparison.query_flat.named_inserts, comparison.other_flat.named_inserts),
    }
    found: list[DiffEntry] = []
    counts: Counter[str] = Counter()
    for section in _ORDER:
        if section == "entities":
            entries, kinds = line_changes(comparison, max_paths)
            counts.update({f"entities.{kind.value}": count for kind, count in kinds.items()})
            found += entries
            continue
        new = list(_layers(comparison)) if section == "layers" else []
        if section in comparison.items:
            new = list(_of_items(section, comparison.items[section], *items[section], back))
        counts.update(f"{section}.{entry.kind.value}" for entry in new)
        found += new
    return GeometryDiff(
        entries=tuple(found[:max_paths]), counts=dict(counts), truncated=counts.total() > max_paths
    )


def _of_items(
    section: str, matched: Matched, query: Sequence[Item], other: Sequence[Item], back: Affine | None
) -> Iterator[DiffEntry]:
    for kind, pairs in ((DiffKind.CHANGED, matched.changed), (DiffKind.MOVED, matched.moved)):
        for i, j in pairs:
            yield DiffEntry(
                kind=kind,
                section=section,
                type=query[i].kind,
                path=query[i].path,
                other_path=other[j].path,
                before=_told(query[i]),
                after=_told(other[j]),
                place=query[i].place,
            )
    for i in matched.removed:
        item = query[i]
        yield DiffEntry(
            kind=DiffKind.REMOVED,
            section=section,
            type=item.kind,
            path=item.path,
            before=_told(item),
            place=item.place,
        )
    for j in matched.added:
        item = other[j]
        yield DiffEntry(
            kind=DiffKind.ADDED,
            section=section,
            type=item.kind,
            path=item.path,
            after=_told(item),
            place=back.point(*item.place) if item.place is not None and back is not None else None,
        )


_CONTENT = {"DIMENSION": "text", "HATCH": "pattern", "INSERT": "name"}


def _told(item: Item) -> dict[str, object]:
    told: dict[str, object] = {_CONTENT.get(item.kind, "text"): item.content}
    if item.value is not None:
        told["area" if item.kind == "HATCH" else "value"] = item.value
    if item.place is not None:
        told["place"] = item.place
    return told


def _layers(comparison: Comparison) -> Iterator[DiffEntry]:
    ours, theirs = named_layers(comparison.query), named_layers(comparison.other)
    if not ours or not theirs:
        return
    for name in sorted(ours.keys() | theirs.keys()):
        before, after = ours.get(name), theirs.get(name)
        if before == after:
            continue
        kind = DiffKind.CHANGED if before and after else DiffKind.REMOVED if before else DiffKind.ADDED
        yield DiffEntry(
            kind=kind,
            section="layers",
            type="LAYER",
            path=f"layers.{name}",
            other_path=f"layers.{name}" if kind is DiffKind.CHANGED else None,
            before={"color": before.color, "linetype": before.linetype} if before else None,
            after={"color": after.color, "linetype": after.linetype} if after else None,
        )
