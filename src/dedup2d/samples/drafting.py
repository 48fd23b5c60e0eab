"""Draws a part on a company's sheet: the DXF document, and its PDF and picture."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pypdfium2 as pdfium
from attrs import evolve, field, frozen
from ezdxf._options import options
from ezdxf.document import Drawing as DxfDocument

from dedup2d.samples.layout import Placement, arrange
from dedup2d.samples.parts import KINDS, Part, Words
from dedup2d.samples.pdf import pdf_bytes, svg_bytes
from dedup2d.samples.pen import Pen, new_document
from dedup2d.samples.sheets import COMPANIES, SHEET_SIZES, Company, Revision, TitleData

__all__ = ["Draft", "Drawn", "draw", "raster"]

_LEAST_SCALE = Fraction(1, 2)
_PEOPLE = (("K. Brandt", "H. Vogel", "M. Seidel"), ("T. Ashby", "R. Cole", "J. Marsh"))


@frozen(kw_only=True)
class Draft:
    """
    A drawing to be made: a part in a frame.

    Args:
        part: what is drawn.
        company: index into `COMPANIES`.
        size: preferred sheet, `A4` to `A2`; a larger one is taken where the views do not fit.
        revisions: words of each revision, oldest first.
        base: the first issue of a revised part, whose views keep their places.
        mirrored: draw the opposite hand.
        clerk: chooses people and dates of the title block.
    """

    part: Part
    company: int
    size: str
    revisions: tuple[Words, ...] = ()
    base: Part | None = None
    mirrored: bool = False
    clerk: int = 0

    @property
    def number(self) -> str:
        """The drawing number, in the manner of its company."""
        hand = "L" if self.mirrored else ""
        if self.company == 0:
            return f"NW-{self.part.serial // 100:02}.{self.part.serial % 100:02}.{200 + self.clerk}{hand}"
        return f"HP{30000 + self.part.serial * 7}-{1 + self.clerk % 9}{hand}"


@frozen(kw_only=True, eq=False)
class Drawn:
    """A finished drawing: the DXF document, the sheet's size in mm, each view's box on paper."""

    doc: DxfDocument = field(repr=False)
    width: float
    height: float
    boxes: tuple[tuple[float, float, float, float], ...]

    def dxf(self) -> bytes:
        """Return the drawing as DXF (R2010, UTF-8)."""
        stream = io.StringIO()
        classes = self.doc.classes
        classes.add_required_classes(self.doc.dxfversion)
        # ezdxf takes them from a set, whose order changes from process to process
        classes.classes = dict(sorted(classes.classes.items()))
        with _fixed_meta_data():
            self.doc.write(stream)
        return stream.getvalue().encode("utf-8", "surrogateescape")

    def pdf(self) -> bytes:
        """Return the drawing as a one-page PDF."""
        return pdf_bytes(self.doc, self.width, self.height)

    def svg(self) -> bytes:
        """Return the drawing as SVG, texts as outlines."""
        return svg_bytes(self.doc, self.width, self.height)


def draw(draft: Draft) -> Drawn:
    """Draw *draft* at the largest standard scale that fits its sheet, or a larger sheet."""
    company = COMPANIES[draft.company]
    views, base = draft.part.views, (draft.base or draft.part).views
    size, placement = _fit(draft, company)
    doc = _document(company)
    pen = Pen(space=doc.modelspace())
    company.draw(pen, _title(draft, size, placement.label))
    boxes = []
    for view, before, centre in zip(views, base, placement.centres, strict=True):
        x0, y0, x1, y1 = before.box
        scale = float(placement.scale)
        pivot = ((x0 + x1) / 2, (y0 + y1) / 2)
        view.draw(evolve(pen, origin=centre, pivot=pivot, scale=scale, mirror=draft.mirrored))
        half = ((x1 - x0) / 2 * scale + 14, (y1 - y0) / 2 * scale + 14)
        boxes.append((centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]))
    width, height = SHEET_SIZES[size]
    return Drawn(doc=doc, width=width, height=height, boxes=tuple(boxes))


def raster(pdf: bytes, *, long_side: int) -> np.ndarray:
    """Return the first page of *pdf* as a grey picture (H, W) whose long side has *long_side* pixels."""
    document = pdfium.PdfDocument(pdf)
    try:
        page = document[0]
        picture = page.render(scale=long_side / max(page.get_size()), grayscale=True).to_numpy()
        return np.ascontiguousarray(picture[:, :, 0] if picture.ndim == 3 else picture)
    finally:
        document.close()


def _document(company: Company) -> DxfDocument:
    with _fixed_meta_data():
        return new_document(font=company.font, dim_text=company.dim_text, decimal=company.decimal)


def _fit(draft: Draft, company: Company) -> tuple[str, Placement]:
    """Choose the sheet, `draft.size` or larger, on which the views are half their size or more."""
    sizes = list(SHEET_SIZES)
    views = (draft.base or draft.part).views
    best = None
    for size in sizes[sizes.index(draft.size) :]:
        placement = arrange(views, company.area(size))
        if placement is not None:
            best = size, placement
            if placement.scale >= _LEAST_SCALE:
                break
    if best is None:
        raise ValueError(f"the views of {draft.number} fit no sheet")
    return best


def _title(draft: Draft, size: str, scale: str) -> TitleData:
    company, part, clerk = COMPANIES[draft.company], draft.part, draft.clerk
    people = _PEOPLE[draft.company]

    def date(after: int) -> str:
        return company.date_format.format(
            day=1 + (clerk * 7 + after * 11) % 28,
            month=1 + (clerk + after * 5) % 12,
            year=2016 + clerk % 5 + after,
        )

    name = KINDS[part.kind].names[draft.company]
    if draft.mirrored:
        name += (" links", " LH")[draft.company]
    letters = ("A", "B", "C", "D", "E")
    first = Revision(
        letter="A", text=("Erstausgabe", "FIRST ISSUE")[draft.company], date=date(0), by=people[clerk % 3][:1]
    )
    later = [
        Revision(
            letter=letters[index],
            text=text[draft.company],
            date=date(index),
            by=people[(clerk + index) % 3][:1],
        )
        for index, text in enumerate(draft.revisions, start=1)
    ]
    return TitleData(
        number=draft.number,
        name=name,
        material=part.material,
        finish=part.finish[draft.company],
        scale=scale,
        size=size,
        drawn_by=people[clerk % 3],
        checked_by=people[(clerk + 1) % 3],
        date=date(0),
        mass=f"{(part.serial * 37 % 90) / 10 + 0.4:.1f}",
        notes=tuple(note[draft.company] for note in part.notes),
        revisions=(first, *later),
    )


@contextmanager
def _fixed_meta_data() -> Iterator[None]:
    """Keep ezdxf from writing the time and random ids, so that the same seed gives the same bytes."""
    before = options.write_fixed_meta_data_for_testing
    options.write_fixed_meta_data_for_testing = True
    try:
        yield
    finally:
        options.write_fixed_meta_data_for_testing = before
