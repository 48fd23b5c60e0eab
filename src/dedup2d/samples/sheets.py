"""
Frames, zones, title blocks and revision tables of two companies.

All measures are mm on paper, origin at the sheet's lower left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import field, frozen

from dedup2d.samples.pen import Pen

__all__ = ["COMPANIES", "SHEET_SIZES", "Company", "Revision", "TitleData"]

Area = tuple[float, float, float, float]

_REVISIONS = 3  # rows of the revision table that room is kept for
SHEET_SIZES = {"A4": (297.0, 210.0), "A3": (420.0, 297.0), "A2": (594.0, 420.0)}
"""Width and height of ISO 216 sheets lying on their long side, mm."""


@frozen(kw_only=True)
class Revision:
    """One row of the revision table."""

    letter: str
    text: str
    date: str
    by: str


@frozen(kw_only=True)
class TitleData:
    """What is written in a title block."""

    number: str
    name: str
    material: str
    finish: str
    scale: str
    size: str
    drawn_by: str
    checked_by: str
    date: str
    mass: str
    notes: tuple[str, ...] = ()
    revisions: tuple[Revision, ...] = field(default=())


@frozen(kw_only=True)
class Company:
    """
    A drawing office: its name, text style and the way it draws sheets.

    `draw` draws everything but the views; `area` gives the room (x0, y0, x1, y1) that it leaves for
    them on a sheet of that size.
    """

    name: str
    font: str
    dim_text: float
    decimal: str
    date_format: str
    draw: Callable[[Pen, TitleData], None]
    area: Callable[[str], Area]


def _zones(pen: Pen, inner: Area, columns: int, rows: int, *, downwards: bool) -> None:
    x0, y0, x1, y1 = inner
    for index in range(columns):
        left, step = x0 + (x1 - x0) * index / columns, (x1 - x0) / columns
        for y in (y0 - 2.5, y1 + 2.5):
            number = index + 1 if downwards else columns - index
            pen.text(left + step / 2, y, str(number), 2.5, "centre", layer="FRAME")
        if index:
            pen.line(left, y0, left, y0 - 5, "TITLE")
            pen.line(left, y1, left, y1 + 5, "TITLE")
    for index in range(rows):
        low, step = y0 + (y1 - y0) * index / rows, (y1 - y0) / rows
        letter = chr(ord("A") + (rows - 1 - index if downwards else index))
        for x in (x0 - 2.5, x1 + 2.5):
            pen.text(x, low + step / 2, letter, 2.5, "centre", layer="FRAME")
        if index:
            pen.line(x0, low, x0 - 5, low, "TITLE")
            pen.line(x1, low, x1 + 5, low, "TITLE")


def _cells(
    pen: Pen, x: float, y: float, cells: Sequence[tuple[float, float, float, float, str, str]]
) -> None:
    """Draw boxes (x, y, width, height, label, value) relative to (*x*, *y*)."""
    for left, low, width, height, label, value in cells:
        pen.rect(x + left, y + low, width, height, "TITLE")
        pen.text(x + left + 1, y + low + height - 2.6, label, 1.6)
        size = min(4.2, (height - 3.2) * 0.75, (width - 2) / max(1, len(value)) / 0.82)
        pen.text(x + left + 1.5, y + low + 1.3, value, max(1.7, size), layer="TITLE")


def _projection(pen: Pen, x: float, y: float, *, third_angle: bool) -> None:
    """Draw the ISO 5456 symbol: a cone from the side and from its end."""
    cone, rings = (x + 9, x) if third_angle else (x, x + 13)
    pen.path([(cone, y - 1.6), (cone + 9, y - 3.2), (cone + 9, y + 3.2), (cone, y + 1.6)], "TITLE")
    pen.circle(rings + 3, y, 1.6, "TITLE")
    pen.circle(rings + 3, y, 3.2, "TITLE")
    pen.line(x - 2, y, x + 21, y, "CENTRE")
    pen.line(rings + 3, y - 4.2, rings + 3, y + 4.2, "CENTRE")


def _surface_mark(pen: Pen, x: float, y: float, value: str) -> None:
    """Draw the ISO 1302 mark of a machined surface."""
    pen.path([(x - 2.2, y + 4), (x, y), (x + 4.6, y + 8), (x + 13, y + 8)], "THIN", closed=False)
    pen.line(x - 2.2, y + 4, x + 2.3, y + 4, "THIN")
    pen.text(x + 4.6, y + 4.8, value, 2.5)


def _notes(pen: Pen, x: float, y: float, notes: Sequence[str], heading: str) -> None:
    pen.text(x, y, heading, 3.0)
    for index, note in enumerate(notes, start=1):
        pen.text(x, y - 4.6 * index, f"{index}. {note}", 2.5)


def _draw_nordwerk(pen: Pen, data: TitleData) -> None:
    """Binding margin at the left, title block in the corner, revisions above it."""
    width, height = SHEET_SIZES[data.size]
    inner = (20.0, 10.0, width - 10, height - 10)
    pen.rect(0, 0, width, height, "THIN")
    pen.rect(inner[0], inner[1], inner[2] - inner[0], inner[3] - inner[1], "FRAME")
    fields = {"A4": (4, 3), "A3": (6, 4), "A2": (8, 6)}[data.size]
    _zones(pen, inner, *fields, downwards=True)
    x, y = inner[2] - 170, inner[1]
    pen.rect(x, y, 170, 42, "FRAME")
    letter = data.revisions[-1].letter if data.revisions else "-"
    _cells(
        pen,
        x,
        y,
        [
            (0, 30, 34, 12, "Allgemeintoleranzen", "ISO 2768-mK"),
            (34, 30, 40, 12, "Werkstoff", data.material),
            (74, 30, 36, 12, "Oberfläche", data.finish),
            (110, 30, 24, 12, "Maßstab", data.scale),
            (134, 30, 36, 12, "Projektion", ""),
            (0, 20, 20, 10, "Gezeichnet", data.drawn_by),
            (20, 20, 24, 10, "Datum", data.date),
            (0, 10, 20, 10, "Geprüft", data.checked_by),
            (20, 10, 24, 10, "Masse kg", data.mass),
            (0, 0, 44, 10, "Ersatz für", ""),
            (44, 15, 126, 15, "Benennung", data.name),
            (44, 0, 80, 15, "Zeichnungs-Nr.", data.number),
            (124, 0, 14, 15, "Rev.", letter),
            (138, 0, 16, 15, "Blatt", "1/1"),
            (154, 0, 16, 15, "Format", data.size),
        ],
    )
    _projection(pen, x + 140.5, y + 35, third_angle=False)
    pen.text(x + 168, y + 26.4, "NORDWERK ANTRIEBSTECHNIK GMBH", 2.2, "right")
    _revisions_above(pen, x, y + 42, data.revisions)
    notes_x = inner[0] + 6
    _notes(pen, notes_x, y + 4.6 * len(data.notes) + 6, data.notes, "Hinweise")
    _surface_mark(pen, inner[2] - 62, inner[3] - 16, "Ra 3.2")
    pen.text(inner[2] - 46.5, inner[3] - 13.4, "(", 5)
    _surface_mark(pen, inner[2] - 39, inner[3] - 16, "Ra 1.6")
    pen.text(inner[2] - 22.5, inner[3] - 13.4, ")", 5)


def _area_nordwerk(size: str) -> Area:
    width, height = SHEET_SIZES[size]
    return 24.0, 56 + 5 * _REVISIONS, width - 14, height - 22


def _revisions_above(pen: Pen, x: float, y: float, revisions: Sequence[Revision]) -> None:
    for index, revision in enumerate(revisions):
        low = y + 5 * index
        left = x
        for width, content in (
            (12, revision.letter),
            (100, revision.text),
            (30, revision.date),
            (28, revision.by),
        ):
            pen.rect(left, low, width, 5, "THIN")
            pen.text(left + 1.5, low + 1.4, content, 2.2)
            left += width


def _draw_halden(pen: Pen, data: TitleData) -> None:
    """Even margins, a column of boxes along the right edge, revisions in the top right corner."""
    width, height = SHEET_SIZES[data.size]
    inner = (12.0, 12.0, width - 12, height - 12)
    pen.rect(inner[0] - 5, inner[1] - 5, inner[2] - inner[0] + 10, inner[3] - inner[1] + 10, "THIN")
    pen.rect(inner[0], inner[1], inner[2] - inner[0], inner[3] - inner[1], "FRAME")
    fields = {"A4": (4, 2), "A3": (8, 4), "A2": (8, 4)}[data.size]
    _zones(pen, inner, *fields, downwards=False)
    x, y = inner[2] - 64, inner[1]
    pen.line(x, y, x, inner[3], "FRAME")
    letter = data.revisions[-1].letter if data.revisions else "A"
    _cells(
        pen,
        x,
        y,
        [
            (0, 0, 46, 13, "DRG No.", data.number),
            (46, 0, 18, 13, "ISSUE", letter),
            (0, 13, 64, 13, "TITLE", data.name),
            (0, 26, 22, 10, "SCALE", data.scale),
            (22, 26, 20, 10, "SIZE", data.size),
            (42, 26, 22, 10, "SHEET", "1 OF 1"),
            (0, 36, 32, 10, "DRAWN", f"{data.drawn_by} {data.date}"),
            (32, 36, 32, 10, "CHECKED", data.checked_by),
            (0, 46, 64, 10, "MATERIAL", data.material),
            (0, 56, 64, 10, "FINISH", data.finish),
            (0, 66, 42, 10, "TOLERANCES UNLESS STATED", "X ±0.5   X.X ±0.2"),
            (42, 66, 22, 10, "MASS kg", data.mass),
        ],
    )
    pen.rect(x, y + 76, 64, 12, "TITLE")
    _projection(pen, x + 40, y + 82, third_angle=True)
    pen.text(x + 2, y + 80.8, "THIRD ANGLE", 2.2)
    pen.text(x + 32, y + 95.5, "HALDEN & PIKE LTD", 4.4, "centre", layer="TITLE")
    pen.text(x + 32, y + 90.6, "DO NOT SCALE - REMOVE BURRS", 2.0, "centre")
    pen.line(x, y + 100, inner[2], y + 100, "TITLE")
    _revisions_down(pen, x, inner[3], data.revisions)
    _notes(pen, inner[0] + 4, inner[3] - 6, data.notes, "NOTES:")


def _area_halden(size: str) -> Area:
    width, height = SHEET_SIZES[size]
    return 16.0, 15.0, width - 79, height - 38


def _revisions_down(pen: Pen, x: float, top: float, revisions: Sequence[Revision]) -> None:
    pen.rect(x, top - 5, 64, 5, "THIN")
    pen.text(x + 1.5, top - 3.7, "ISS   CHANGE", 2.2)
    for index, revision in enumerate(revisions, start=1):
        low = top - 5 - 9 * index
        pen.rect(x, low, 64, 9, "THIN")
        pen.text(x + 1.5, low + 5.4, revision.letter, 2.2)
        pen.text(x + 9, low + 5.4, revision.text, min(2.2, 53 / max(1, len(revision.text)) / 0.85))
        pen.text(x + 9, low + 1.4, f"{revision.date}  {revision.by}", 2.0)


COMPANIES = (
    Company(
        name="Nordwerk Antriebstechnik GmbH",
        font="isocpeur.ttf",
        dim_text=3.5,
        decimal=",",
        date_format="{day:02}.{month:02}.{year}",
        draw=_draw_nordwerk,
        area=_area_nordwerk,
    ),
    Company(
        name="Halden & Pike Ltd",
        font="arial.ttf",
        dim_text=3.0,
        decimal=".",
        date_format="{year}-{month:02}-{day:02}",
        draw=_draw_halden,
        area=_area_halden,
    ),
)
