"""The report of a scan: one file that anyone can open, whatever the files in it are called."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from anyio import run
from attrs import define
from PIL import Image

from dedup2d.cli.groups import Group, Link, Member, find_groups
from dedup2d.cli.indexing import Failure
from dedup2d.cli.listing import write_csv
from dedup2d.cli.report import Budget, Report, write_report
from dedup2d.cli.report.pictures import shrunk, shrunk_difference
from dedup2d.engine.diff import diff
from dedup2d.types import Drawing, Relation

HOSTILE = [
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "a' onmouseover='alert(1)",
    "</style></script><!--",
    "line\nbreak\x1b[31m\u202egnp.exe",
    "&lt;not escaped&gt;.dxf",
]

TAGS = (
    *("html", "meta", "title", "style", "header", "h1", "h2", "div", "p", "b", "i", "a", "span", "small"),
    *("ul", "li", "nav", "form", "label", "input", "output", "main", "section", "article", "button"),
    *("img", "meter", "footer", "dialog", "script", "details", "summary"),
)


def drawing(name: str, number: int = 0) -> Drawing:
    return Drawing(
        drawing_id=f"id{number}",
        file_hash=f"hash{number}",
        file_name=name,
        page=1,
        format="png",
        width=100,
        height=100,
        created_at=0.0,
        sheet=name,
        source=f"/drawings/{name}",
    )


def group_of(names: Sequence[str]) -> Group:
    drawings = [drawing(name, number) for number, name in enumerate(names)]
    links = [
        Link(a="id0", b=one.drawing_id, relation=Relation.REVISION, similarity=0.9) for one in drawings[1:]
    ]
    links += [
        Link(a=one.drawing_id, b=other.drawing_id, relation=Relation.IDENTICAL, similarity=0.96)
        for one in drawings[1:]
        for other in drawings[1:]
    ]
    (group,) = find_groups(drawings, links)
    return group


def png(width: int = 40, height: int = 30) -> bytes:
    out = io.BytesIO()
    Image.new("L", (width, height), 200).save(out, "PNG")
    return out.getvalue()


@define
class FakePictures:
    """Pictures of one size, counting how many were asked for."""

    size: int = 100
    asked: int = 0

    async def drawings(self, drawings: Sequence[Drawing]) -> dict[str, bytes]:
        self.asked += 1
        return {one.drawing_id: b"\0" * self.size for one in drawings}

    async def differences(self, reference: Drawing, members: Sequence[Member]) -> dict[str, bytes]:
        return {one.drawing.drawing_id: b"\1" * self.size for one in members}


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.code: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag in {"script", "style"}:
            self.code.setdefault(self.lasttag, data)
        self.texts.append(data)


def written(tmp_path: Path, report: Report, pictures: FakePictures | None = None) -> tuple[str, Page]:
    path = tmp_path / "report.html"
    run(write_report, path, report, pictures or FakePictures())
    assert [path] == list(tmp_path.iterdir())
    text, page = path.read_text(encoding="utf-8"), Page()
    page.feed(text)
    return text, page


def report_of(*groups: Group, budget: Budget | None = None) -> Report:
    return Report(
        folder="/drawings",
        created="today",
        drawings=10,
        groups=groups,
        failures=[Failure(name, "UNREADABLE_DRAWING", name) for name in HOSTILE],
        failed=len(HOSTILE),
        budget=budget or Budget(),
    )


def test_names_stay_text(tmp_path: Path) -> None:
    """If this fails, whoever may name a file runs code in the browser of whoever reads the report."""
    _, page = written(tmp_path, report_of(group_of(HOSTILE)))

    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {tag for tag, _ in page.tags} <= set(TAGS)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img" and "src" in attributes]
    assert sources
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert all(text.isprintable() or not text.strip("\n") for text in page.texts if "alert" in text)


def test_it_asks_for_nothing_outside_of_itself(tmp_path: Path) -> None:
    """If this fails, the report does not work offline, or tells others that it was opened."""
    text, page = written(tmp_path, report_of(group_of(["a.png", "b.png"])))

    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.code[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://|url\(|@import|\blink\b rel", text)


def test_a_report_of_very_many_groups_stays_small(tmp_path: Path) -> None:
    """If this fails, a scan of a large archive writes gigabytes that no browser opens."""
    groups = [group_of([f"{number}a.png", f"{number}b.png"]) for number in range(60)]
    pictures = FakePictures(size=10_000)

    text, _ = written(tmp_path, report_of(*groups, budget=Budget(groups=50, picture_bytes=200_000)), pictures)

    assert len(text) < 500_000
    assert pictures.asked < 10
    assert "10 more groups are not shown" in text
    assert "49a.png" in text
    assert "50a.png" not in text


def test_a_group_of_very_many_drawings_is_cut(tmp_path: Path) -> None:
    """If this fails, one drawing with a thousand copies makes a page of a thousand pictures."""
    names = [f"copy{number}.png" for number in range(40)]

    _, page = written(tmp_path, report_of(group_of(names), budget=Budget(members=5)))

    assert sum(tag == "article" for tag, _ in page.tags) == 6
    assert any("34 more" in text for text in page.texts)


def test_a_report_without_groups_says_so(tmp_path: Path) -> None:
    """If this fails, a clean folder gives an empty page."""
    text, _ = written(tmp_path, report_of())

    assert "No duplicates were found." in text


def test_a_report_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    """If this fails, a full disk or Ctrl-C destroys last week's report."""

    class Broken(FakePictures):
        async def drawings(self, drawings: Sequence[Drawing]) -> dict[str, bytes]:
            raise OSError(28, "No space left on device")

    path = tmp_path / "report.html"
    path.write_text("old")

    with pytest.raises(OSError, match="No space"):
        run(write_report, path, report_of(group_of(["a", "b"])), Broken())

    assert path.read_text() == "old"
    assert [path] == list(tmp_path.iterdir())


def test_pictures_are_made_small() -> None:
    """If this fails, each thumbnail is as large as the drawing."""
    small = shrunk(png(4000, 100), side=700, colours=8)

    with Image.open(io.BytesIO(small)) as picture:
        assert picture.size == (700, 18)
        assert picture.mode == "P"


def test_a_small_change_is_framed_in_a_thumbnail() -> None:
    """If this fails, a changed dimension is lost in the thumbnail of an A0 sheet."""
    old = np.zeros((1400, 2000), np.uint8)
    cv2.rectangle(old, (100, 100), (1900, 1300), (255,), 2)
    cv2.line(old, (700, 700), (724, 700), (255,), 1)
    new = old.copy()
    new[690:710, 690:730] = 0
    difference, regions = diff(new, old, np.eye(3))

    with Image.open(io.BytesIO(shrunk_difference(difference, regions, side=500, colours=24))) as picture:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int32), 2, 0)
    assert np.count_nonzero((red > 180) & (green < 150) & (blue < 80)) > 20


def test_no_cell_of_the_table_is_a_formula(tmp_path: Path) -> None:
    """If this fails, a file named =HYPERLINK(...) runs in the spreadsheet of whoever opens the table."""
    names = ["=1+1.png", "+a.png", "-a.png", "@a.png", "a\nb.png", "ok.png"]
    path = tmp_path / "groups.csv"

    write_csv(path, [group_of(names)], "/drawings")

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    cells = [cell for row in rows for cell in (row["file"], row["sheet"], row["compared_with"])]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@")) or "\n" in cell]
    assert {row["group"] for row in rows} == {"1"}
