"""Writes the page, group by group, so that no more than one group's pictures are in memory."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Protocol, TextIO

from attrs import frozen

from dedup2d.cli.groups import Group, Member
from dedup2d.cli.indexing import Failure
from dedup2d.cli.report.pictures import as_data_url
from dedup2d.cli.text import below, counted, visible
from dedup2d.types import Drawing, Relation

__all__ = ["Budget", "Pictures", "Report", "write_report"]

_KINDS = {
    Relation.EXACT: ("copies", "the same bytes"),
    Relation.IDENTICAL: ("same drawing", "another format, size, scan or pose of it"),
    Relation.REVISION: ("revisions", "changed in places"),
    Relation.PARTIAL: ("parts", "one holds a part of the other"),
    Relation.MIRRORED: ("mirrored", "the mirror image"),
    Relation.VARIANT: ("variants", "the same kind of part with other dimensions"),
    Relation.SIMILAR: ("similar", "alike"),
}

_COMPARED = '<div class="soft">the others are compared with this one</div>'


@frozen(kw_only=True)
class Budget:
    """
    How large a report may grow.

    Args:
        groups: groups shown; the others are counted.
        members: drawings shown of one group; the others are counted.
        picture_bytes: pictures in all; later groups go without.
    """

    groups: int = 1000
    members: int = 24
    picture_bytes: int = 30_000_000


class Pictures(Protocol):
    """Gives the pictures of a group, as small PNGs."""

    async def drawings(self, drawings: Sequence[Drawing]) -> dict[str, bytes]:
        """Return pictures by `drawing_id`."""

    async def differences(self, reference: Drawing, members: Sequence[Member]) -> dict[str, bytes]:
        """Return pictures of what differs between the reference and members, by `drawing_id`."""


@frozen(kw_only=True)
class Report:
    """What the page says. `folder` is what was scanned, `created` when, as text."""

    folder: str
    created: str
    drawings: int
    groups: Sequence[Group]
    failures: Sequence[Failure] = ()
    failed: int = 0
    budget: Budget = Budget()


async def write_report(
    path: Path,
    report: Report,
    pictures: Pictures,
    *,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """
    Write the report to *path*, all or nothing.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as out:
            out.write(_head(report))
            await _groups(out, report, pictures, advance)
            out.write(_foot(report))
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


async def _groups(out: TextIO, report: Report, pictures: Pictures, advance: Callable[[], None]) -> None:
    left = report.budget.picture_bytes
    for number, group in enumerate(report.groups[: report.budget.groups], 1):
        shown = group.members[: report.budget.members]
        images = _Images(folder=report.folder, reference=group.reference, drawings={}, differences={})
        if left > 0:
            images = _Images(
                folder=report.folder,
                reference=group.reference,
                drawings=await pictures.drawings([group.reference, *(one.drawing for one in shown)]),
                differences=await pictures.differences(group.reference, shown),
            )
            left -= images.size
        out.write(_group(number, group, shown, images))
        advance()


def _resource(name: str) -> str:
    return (files("dedup2d.cli.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _text(text: str) -> str:
    return escape(visible(text))


def _head(report: Report) -> str:
    style, script = _resource("page.css"), _resource("page.js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Duplicates in {_text(report.folder)}</title>
<style>{style}</style>
<header>
<h1>Duplicates in {_text(report.folder)}</h1>
<div class="soft">{_text(report.created)}</div>
{_tiles(report)}
{_notices(report)}
</header>
{_filters(report.groups)}
<main>
"""


def _tiles(report: Report) -> str:
    members = Counter(member.relation for group in report.groups for member in group.members)
    tiles = [
        (report.drawings, "drawings", ""),
        (len(report.groups), "groups", ""),
        *((members[kind], name, meaning) for kind, (name, meaning) in _KINDS.items() if members[kind]),
    ]
    items = (f'<li title="{meaning}"><b>{count:,}</b>{name}</li>' for count, name, meaning in tiles)
    return f'<ul class="tiles">{"".join(items)}</ul>'


def _notices(report: Report) -> str:
    parts = []
    left_out = len(report.groups) - report.budget.groups
    if left_out > 0:
        parts.append(
            f'<div class="notice">{counted(left_out, "more group is", "more groups are")} not shown here;'
            " the table of dedup2d scan --csv has all of them.</div>"
        )
    if report.failed:
        lines = "".join(f"<li>{_text(one.source)}: {_text(one.reason)}</li>" for one in report.failures[:200])
        parts.append(
            f'<details class="notice"><summary>{counted(report.failed, "file")} could not be read,'
            f" so not compared</summary><ul>{lines}</ul></details>"
        )
    return "".join(parts)


def _filters(groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    counts = Counter(kind for group in groups for kind in {member.relation for member in group.members})
    chips = "".join(
        f'<label class="chip {kind}"><input type="checkbox" value="{kind}" checked>'
        f"<span>{name} {counts[kind]:,}</span></label>"
        for kind, (name, _) in _KINDS.items()
        if counts[kind]
    )
    return (
        f'<nav><form>{chips}<input type="search" name="text" placeholder="File name" aria-label="File name">'
        '<output name="shown" class="soft"></output>'
        '<span class="legend"><span><i class="added"></i>only in the first, solid</span>'
        '<span><i class="removed"></i>only in this one, hatched</span></span></form></nav>'
    )


@frozen(kw_only=True)
class _Images:
    """The pictures of one group by `drawing_id`, and what its drawings are told relative to."""

    folder: str
    reference: Drawing
    drawings: Mapping[str, bytes]
    differences: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """Bytes they take in the page."""
        return sum(map(len, (*self.drawings.values(), *self.differences.values()))) * 4 // 3


def _group(number: int, group: Group, shown: Sequence[Member], images: _Images) -> str:
    kinds = Counter(member.relation for member in group.members)
    badges = "".join(
        f'<span class="badge {kind}" title="{meaning}">{kinds[kind]} {name}</span>'
        for kind, (name, meaning) in _KINDS.items()
        if kinds[kind]
    )
    names = _text(" ".join(below(images.folder, drawing) for drawing in group.drawings).lower())
    sheets = [_sheet(group.reference, None, images)]
    sheets += [_sheet(member.drawing, member, images) for member in shown]
    hidden = len(group.members) - len(shown)
    if hidden:
        sheets.append(f'<div class="sheet"><div class="none">and {hidden:,} more</div></div>')
    return (
        f'<section class="group" id="group-{number}" data-kinds="{" ".join(kinds)}" data-names="{names}">'
        f'<h2>Group {number:,} <span class="soft">{counted(len(group.drawings), "drawing")}</span>{badges}'
        f'<a href="#group-{number}" title="link to this group">#</a></h2>'
        f'<div class="sheets">{"".join(sheets)}</div></section>\n'
    )


def _sheet(drawing: Drawing, member: Member | None, images: _Images) -> str:
    name = below(images.folder, drawing)
    views = [_view(images.drawings.get(drawing.drawing_id), name, "")]
    if drawing.drawing_id in images.differences:
        views.append(_view(images.differences[drawing.drawing_id], f"{name}: difference", "difference"))
    if member and member.relation is not Relation.EXACT and len(views) == 1 and images.differences:
        views.append('<div class="none">no difference found</div>')
    details = [drawing.format.upper(), drawing.sheet or (f"page {drawing.page}" if drawing.page > 1 else "")]
    first, last = os.path.split(name)
    return (
        f'<article class="sheet{"" if member else " first"}"><div class="views">{"".join(views)}</div>'
        f'<div><div class="name">{_text(last)}</div>'
        f'<div class="where">{_text(" · ".join(filter(None, [first, *details])))}</div></div>'
        f"{_relation(member, images) if member else _COMPARED}</article>"
    )


def _relation(member: Member, images: _Images) -> str:
    other = below(images.folder, member.other)
    of = "" if member.other is images.reference else f'<div class="where">to {_text(other)}</div>'
    return (
        f'<div class="measure"><span class="badge {member.relation}">{member.relation}</span>'
        f'<meter min="0" max="1" value="{member.similarity:.3f}"></meter>{member.similarity:.3f}</div>{of}'
    )


def _view(png: bytes | None, title: str, label: str) -> str:
    if png is None:
        return '<div class="none">no picture</div>'
    small = f"<small>{label}</small>" if label else ""
    return (
        f'<button type="button" title="{_text(title)}">'
        f'<img loading="lazy" alt="{_text(title)}" src="{as_data_url(png)}">{small}</button>'
    )


def _foot(report: Report) -> str:
    nothing = "No group fits the filter." if report.groups else "No duplicates were found."
    return f"""<p class="empty"{" hidden" if report.groups else ""}>{nothing}</p>
</main>
<footer>Made by dedup2d. Similarity 1 is the same drawing. This file asks the network for nothing.</footer>
<dialog><div><p><span></span><button type="button">Close</button></p><img alt=""></div></dialog>
<script>{_resource("page.js")}</script>
</html>
"""
