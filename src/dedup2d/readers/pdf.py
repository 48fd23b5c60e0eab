"""
PDF with PDFium: each page rendered straight at the size that is wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers.grey import Grey, ink_grey
from dedup2d.readers.model import Sheet, Source, Text
from dedup2d.readers.pdf_paths import Matrix, paths, to_pixels

__all__ = ["sheets"]

_MAX_TEXTS, _MAX_CHARACTERS = 20_000, 500_000
_WORD = re.compile(r"[^\s\x00-\x1f\ufffe\uffff]+")
_POINT_MM = 25.4 / 72


def sheets(source: Source) -> Iterator[Sheet]:
    """Give each page."""
    document = _open(source)
    try:
        limit = source.limits.max_pages
        if len(document) > limit:
            raise UnreadableDrawingError(
                source.name,
                f"it has {len(document):,} pages, above the limit of {limit:,} pages:"
                " split it or raise DEDUP2D_READ_MAX_PAGES",
            )
        for index in range(len(document)):
            yield _sheet(document, index, source)
    finally:
        document.close()


def _open(source: Source) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(source.path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium.FPDF_ERR_PASSWORD:
            raise UnreadableDrawingError(
                source.name, "the PDF is locked with a password: save it without one"
            ) from None
        raise


def _sheet(document: pypdfium2.PdfDocument, index: int, source: Source) -> Sheet:
    page = document[index]
    try:
        width, height = page.get_size()
        if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
            raise UnreadableDrawingError(source.name, f"page {index + 1} of the PDF has no size")
        scale = source.limits.raster_side / max(width, height)
        place = to_pixels(page, width * scale, height * scale)
        return Sheet(
            page=index + 1,
            name=_label(document, index),
            format="pdf",
            raster=_render(page, width * scale, height * scale),
            entities=paths(page, place),
            texts=tuple(_texts(page, place)),
            units_per_pixel=_POINT_MM / scale,
            mm_per_pixel=_POINT_MM / scale,
        )
    finally:
        page.close()


def _label(document: pypdfium2.PdfDocument, index: int) -> str:
    try:
        return str(document.get_page_label(index))[:200]
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return ""


def _render(page: pypdfium2.PdfPage, width: float, height: float) -> Grey:
    """Render by pixels, not by scale: a page of 1 x 1,000,000 still gets a line of pixels."""
    columns, rows = max(1, round(width)), max(1, round(height))
    bitmap = pypdfium2.PdfBitmap.new_native(columns, rows, pdfium.FPDFBitmap_BGR)
    try:
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, columns, rows)
        pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, columns, rows, 0, pdfium.FPDF_ANNOT)
        return ink_grey(np.asarray(bitmap.to_numpy(), dtype=np.uint8))
    finally:
        bitmap.close()


def _texts(page: pypdfium2.PdfPage, place: Matrix) -> Iterator[Text]:
    """
    Texts by word.

    Only the first and last character of each are asked for their places: one call for each of the
    tens of thousands of characters of a circuit diagram would take longer than drawing it.
    """
    textpage = page.get_textpage()
    try:
        whole = textpage.get_text_range(0, min(textpage.count_chars(), _MAX_CHARACTERS))
        for word in islice(_WORD.finditer(whole), _MAX_TEXTS):
            # the text leaves out some characters of the page
            first, last = (
                pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, index)
                for index in (word.start(), word.end() - 1)
            )
            if first >= 0 and last >= 0 and _is_visible(textpage, first):
                yield _word(textpage, word[0], first, last, place)
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return  # the picture is what counts
    finally:
        textpage.close()


def _is_visible(textpage: pypdfium2.PdfTextPage, index: int) -> bool:
    """Text that is not drawn lies over scans and over letters drawn as lines; what is drawn counts."""
    item = pdfium.FPDFText_GetTextObject(textpage, index)
    return not item or pdfium.FPDFTextObj_GetTextRenderMode(item) != pdfium.FPDF_TEXTRENDERMODE_INVISIBLE


def _word(textpage: pypdfium2.PdfTextPage, text: str, first: int, last: int, place: Matrix) -> Text:
    """A word by the boxes of its first and last character, along the way that it is turned."""
    turn = pdfium.FPDFText_GetCharAngle(textpage, first)  # clockwise
    a, b, c, d, e, f = place
    corners = []
    for left, bottom, right, top in (
        textpage.get_charbox(first),
        textpage.get_charbox(last),
    ):
        for x, y in ((left, bottom), (right, bottom), (right, top), (left, top)):
            corners.append((a * x + c * y + e, b * x + d * y + f))
    angle = -turn + math.atan2(-b, a)
    along, up = (math.cos(angle), -math.sin(angle)), (-math.sin(angle), -math.cos(angle))
    ways = [x * along[0] + y * along[1] for x, y in corners]
    rises = [x * up[0] + y * up[1] for x, y in corners]
    way, rise = min(ways), min(rises)
    return Text(
        text=text,
        x=way * along[0] + rise * up[0],
        y=way * along[1] + rise * up[1],
        height=max(rises) - rise,
        rotation=(math.degrees(angle) + 180) % 360 - 180,
        width=max(ways) - way,
    )
