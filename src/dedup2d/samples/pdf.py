"""
Writes a DXF drawing as a PDF page: ezdxf's frontend draws, PDFium writes.

Texts become real text objects in the built-in Helvetica, so that the result does not
depend on the fonts of the machine.
"""

from __future__ import annotations

import ctypes
import io
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pypdfium2 as pdfium
from ezdxf.addons.drawing import layout
from ezdxf.addons.drawing.backend import BackendInterface, BkPath2d, BkPoints2d, ImageData
from ezdxf.addons.drawing.config import (
    BackgroundPolicy,
    ColorPolicy,
    Configuration,
    LineweightPolicy,
)
from ezdxf.addons.drawing.frontend import Frontend, UniversalFrontend
from ezdxf.addons.drawing.pipeline import RenderPipeline2d, prepare_string_for_rendering
from ezdxf.addons.drawing.properties import BackendProperties, Properties, RenderContext
from ezdxf.addons.drawing.svg import SVGBackend
from ezdxf.document import Drawing as DxfDocument
from ezdxf.math import Matrix44, Vec2, Vec3
from ezdxf.path.commands import Curve4To, LineTo, MoveTo
from pypdfium2 import raw

__all__ = ["pdf_bytes", "svg_bytes"]

POINTS_PER_MM = 72 / 25.4
_CAP_HEIGHT = 0.718  # of Helvetica, per em (Adobe's font metrics)
_WIDEST = 1.12  # letters are not stretched further where the machine has no fonts to measure with
_CONFIGURATION = Configuration(
    background_policy=BackgroundPolicy.WHITE,
    color_policy=ColorPolicy.BLACK,
    lineweight_policy=LineweightPolicy.ABSOLUTE,
)


def pdf_bytes(doc: DxfDocument, width: float, height: float) -> bytes:
    """
    Return the model space from (0, 0) to (*width*, *height*) mm as a PDF of one page of that size.

    The same drawing gives the same bytes.
    """
    pdf = pdfium.PdfDocument.new()
    try:
        page = pdf.new_page(width * POINTS_PER_MM, height * POINTS_PER_MM)
        backend = _PageBackend(pdf, page)
        with _steady_random():
            UniversalFrontend(RenderContext(doc), _Pipeline(backend), config=_CONFIGURATION).draw_layout(
                doc.modelspace(), finalize=True
            )
        buffer = io.BytesIO()
        pdf.save(buffer)
    finally:
        pdf.close()
    return _without_time(buffer.getvalue())


def svg_bytes(doc: DxfDocument, width: float, height: float) -> bytes:
    """Return the model space from (0, 0) to (*width*, *height*) mm as SVG, by ezdxf's own writer."""
    backend = SVGBackend()
    with _steady_random():
        Frontend(RenderContext(doc), backend, config=_CONFIGURATION).draw_layout(doc.modelspace())
    page = layout.Page(width, height, layout.Units.mm, margins=layout.Margins.all(0))
    return backend.get_string(page).encode()


@contextmanager
def _steady_random() -> Iterator[None]:
    """Give ezdxf's hatching, which jitters each pattern by chance, the same chance every time."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _without_time(data: bytes) -> bytes:
    """Replace the creation time and the random file id, which are of fixed length."""
    data = re.sub(rb"D:\d{14}", b"D:20240101120000", data)
    return re.sub(
        rb"/ID\s*\[\s*<[0-9A-Fa-f]+>\s*<[0-9A-Fa-f]+>\s*\]",
        lambda match: re.sub(rb"[0-9A-Fa-f](?=[0-9A-Fa-f]*>)", b"0", match.group()),
        data,
    )


class _PageBackend(BackendInterface):
    """Draws onto a PDF page; input in mm."""

    def __init__(self, pdf: pdfium.PdfDocument, page: pdfium.PdfPage) -> None:
        self._pdf = pdf
        self._page = page
        self._font = raw.FPDFText_LoadStandardFont(pdf, b"Helvetica")

    def draw_point(self, pos: Vec2, properties: BackendProperties) -> None:
        self.draw_line(pos, pos + Vec2(0.05, 0), properties)

    def draw_line(self, start: Vec2, end: Vec2, properties: BackendProperties) -> None:
        self.draw_solid_lines([(start, end)], properties)

    def draw_solid_lines(self, lines: Iterable[tuple[Vec2, Vec2]], properties: BackendProperties) -> None:
        path = raw.FPDFPageObj_CreateNewPath(0, 0)
        for start, end in lines:
            raw.FPDFPath_MoveTo(path, *_points(start))
            raw.FPDFPath_LineTo(path, *_points(end))
        self._stroke(path, properties)

    def draw_path(self, path: BkPath2d, properties: BackendProperties) -> None:
        handle = raw.FPDFPageObj_CreateNewPath(0, 0)
        _trace(handle, path)
        self._stroke(handle, properties)

    def draw_filled_polygon(self, points: BkPoints2d, properties: BackendProperties) -> None:  # noqa: ARG002 - of the base class
        handle = raw.FPDFPageObj_CreateNewPath(0, 0)
        for index, vertex in enumerate(points.vertices()):
            (raw.FPDFPath_LineTo if index else raw.FPDFPath_MoveTo)(handle, *_points(vertex))
        self._fill(handle)

    def draw_filled_paths(self, paths: Iterable[BkPath2d], properties: BackendProperties) -> None:  # noqa: ARG002 - of the base class
        handle = raw.FPDFPageObj_CreateNewPath(0, 0)
        for path in paths:
            _trace(handle, path)
        self._fill(handle)

    def draw_text(self, text: str, place: Matrix44, cap_height: float, width: float) -> None:
        """Write *text*, *width* wide, along the x axis of *place*; all in mm."""
        size = cap_height / _CAP_HEIGHT * POINTS_PER_MM
        handle = raw.FPDFPageObj_CreateTextObj(self._pdf, self._font, size)
        encoded = (text + "\0").encode("utf-16-le")
        raw.FPDFText_SetText(handle, ctypes.cast(ctypes.c_char_p(encoded), raw.FPDF_WIDESTRING))
        stretch = min(_WIDEST, width * POINTS_PER_MM / max(_ink_width(handle), 0.01))
        a, b, _, _, c, d, *_ = place
        e, f = place.transform((0, 0, 0)).vec2
        raw.FPDFPageObj_Transform(
            handle, a * stretch, b * stretch, c, d, e * POINTS_PER_MM, f * POINTS_PER_MM
        )
        raw.FPDFPage_InsertObject(self._page, handle)

    def draw_image(self, image_data: ImageData, properties: BackendProperties) -> None:
        raise NotImplementedError  # the samples hold no pictures

    def set_background(self, color: str) -> None: ...

    def configure(self, config: Configuration) -> None: ...

    def enter_entity(self, entity: Any, properties: Any) -> None: ...

    def exit_entity(self, entity: Any) -> None: ...

    def clear(self) -> None: ...

    def finalize(self) -> None:
        self._page.gen_content()

    def _stroke(self, handle: Any, properties: BackendProperties) -> None:
        raw.FPDFPageObj_SetStrokeColor(handle, 0, 0, 0, 255)
        raw.FPDFPageObj_SetStrokeWidth(handle, properties.lineweight * POINTS_PER_MM)
        raw.FPDFPageObj_SetLineCap(handle, raw.FPDF_LINECAP_ROUND)
        raw.FPDFPageObj_SetLineJoin(handle, raw.FPDF_LINEJOIN_ROUND)
        raw.FPDFPath_SetDrawMode(handle, raw.FPDF_FILLMODE_NONE, True)
        raw.FPDFPage_InsertObject(self._page, handle)

    def _fill(self, handle: Any) -> None:
        raw.FPDFPath_Close(handle)
        raw.FPDFPageObj_SetFillColor(handle, 0, 0, 0, 255)
        raw.FPDFPath_SetDrawMode(handle, raw.FPDF_FILLMODE_ALTERNATE, False)
        raw.FPDFPage_InsertObject(self._page, handle)


class _Pipeline(RenderPipeline2d):
    """Hands texts on as texts, which ezdxf would draw as outlines."""

    def __init__(self, backend: _PageBackend) -> None:
        super().__init__(backend)
        self._page_backend = backend

    def draw_text(
        self,
        text: str,
        transform: Matrix44,
        properties: Properties,
        cap_height: float,
        dxftype: str = "TEXT",
    ) -> None:
        if not text.strip():
            return
        text = prepare_string_for_rendering(text, dxftype)
        face = properties.font or self.default_font_face
        width = self.text_engine.get_text_line_width(text, face, cap_height)
        self._page_backend.draw_text(text, transform, cap_height, width)


def _trace(handle: Any, path: BkPath2d) -> None:
    raw.FPDFPath_MoveTo(handle, *_points(path.start))
    for command in path.commands():
        if isinstance(command, LineTo):
            raw.FPDFPath_LineTo(handle, *_points(command.end))
        elif isinstance(command, Curve4To):
            raw.FPDFPath_BezierTo(
                handle, *_points(command.ctrl1), *_points(command.ctrl2), *_points(command.end)
            )
        elif isinstance(command, MoveTo):
            raw.FPDFPath_MoveTo(handle, *_points(command.end))
        else:
            raise NotImplementedError  # the samples have no quadratic curves


def _points(vertex: Vec2 | Vec3) -> tuple[float, float]:
    return vertex.x * POINTS_PER_MM, vertex.y * POINTS_PER_MM


def _ink_width(handle: Any) -> float:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    raw.FPDFPageObj_GetBounds(handle, left, bottom, right, top)
    return right.value - left.value
