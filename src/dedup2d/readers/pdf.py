"""
PDF with PDFium: each page rendered straight at the size that is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers.grey import Grey, ink_grey
from dedup2d.readers.model import Sheet, Source, Text

__all__ = ["sheets"]

_MAX_TEXTS, _MAX_CHARACTERS = 20_000, 500_000
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
        return Sheet(
            page=index + 1,
            name=_label(document, index),
            format="pdf",
            raster=_render(page, width * scale, height * scale),
            texts=tuple(_texts(page, scale)),
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


def _texts(page: pypdfium2.PdfPage, scale: float) -> Iterator[Text]:
    """
    Texts by line. PDF has y upwards from the bottom of the page.

    Only the boxes of each line's first and last character are asked for: one call for each of
    the tens of thousands of characters of a circuit diagram would take longer than drawing it.
    """
    height = page.get_height()
    textpage = page.get_textpage()
    try:
        start = 0
        lines = textpage.get_text_range(0, min(textpage.count_chars(), _MAX_CHARACTERS)).split("\r\n")
        for line in lines[:_MAX_TEXTS]:
            if text := line.strip():
                left, bottom, _, top = textpage.get_charbox(start + line.index(text[0]))
                yield Text(
                    text=text, x=left * scale, y=(height - bottom) * scale, height=(top - bottom) * scale
                )
            start += len(line) + 2
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return  # the picture is what counts
    finally:
        textpage.close()
