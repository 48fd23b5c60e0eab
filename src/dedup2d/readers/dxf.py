"""
DXF: model space and each layout with something on it, as ink and as line work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from ezdxf.addons.acadctb import new_ctb
from ezdxf.addons.drawing.config import (
    BackgroundPolicy,
    ColorPolicy,
    Configuration,
    ImagePolicy,
)
from ezdxf.addons.drawing.properties import RenderContext
from ezdxf.document import Drawing
from ezdxf.entities.dxfentity import DXFEntity
from ezdxf.enums import InsertUnits
from ezdxf.fonts import fonts
from ezdxf.fonts.font_manager import FontNotFoundError
from ezdxf.layouts.layout import Layout
from ezdxf.units import conversion_factor
from numpy.typing import NDArray

from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers.dxf_load import load
from dedup2d.readers.dxf_weight import block_weights, weigh
from dedup2d.readers.model import Entity, Sheet, Source, Text
from dedup2d.readers.plot import Frame, Layer, frame_of, paint
from dedup2d.readers.tape import RawText, Tape, record, too_many_entities

__all__ = ["sheets"]

_SAMPLE = 5000
_HATCHES = {"HATCH", "MPOLYGON"}
_MOST_HATCH_LINES = 5000
_INCH_MM = 25.4
_LEAST_MM, _MOST_MM = 1e-6, 1e6
_POINTS = ("insert", "start", "center", "end", "location", "defpoint")


def sheets(source: Source, data: bytes | None = None, notes: Iterable[str] = ()) -> Iterator[Sheet]:
    """
    Give model space and each layout that has more than viewports.

    *data* is a DXF that stands for the file, where it was converted; *notes* are
    warnings to add to each sheet.
    """
    document, warnings = load(source, data)
    weights = block_weights(document)
    layouts = _layouts(document, source)
    for number, layout in enumerate(layouts, start=1):
        if weigh(layout, weights) > source.limits.max_entities:
            raise too_many_entities(source.name, source.limits.max_entities)
        sheet = _sheet(document, layout, number, source, [*notes, *warnings])
        if sheet is not None:
            yield sheet


def _layouts(document: Drawing, source: Source) -> list[Layout]:
    found = [
        layout
        for layout in [document.modelspace(), *document.layouts]
        if any(entity.dxftype() != "VIEWPORT" for entity in layout)
    ]
    unique = list({layout.layout_key: layout for layout in found}.values())
    limit = source.limits.max_pages
    if len(unique) > limit:
        raise UnreadableDrawingError(
            source.name,
            f"it has {len(unique):,} layouts, above the limit of {limit:,} pages:"
            " split it or raise DEDUP2D_READ_MAX_ENTITIES",
        )
    return unique


def _sheet(document: Drawing, layout: Layout, number: int, source: Source, notes: list[str]) -> Sheet | None:
    size = _rough_size(document, layout)
    tape = Tape(size, source.name, source.limits)
    context = RenderContext(document, ctb=new_ctb())  # else it opens the file that the layout names
    context.set_current_layout(layout)
    warnings = record(layout, context, _configuration(size), tape)
    frame = frame_of(tape.layers, source.limits.raster_side)
    if frame is None:
        return None
    return Sheet(
        page=number,
        name=layout.name[:200],
        format=source.format,
        raster=paint(tape.layers, frame),
        entities=tuple(_entities(tape.layers, frame)),
        texts=tuple(_text(text, frame) for text in tape.texts),
        warnings=(*notes, *warnings, *_own_warnings(frame, tape)),
        units_per_pixel=1 / frame.scale,
        mm_per_pixel=_mm_per_pixel(document, layout, frame),
    )


def _mm_per_pixel(document: Drawing, layout: Layout, frame: Frame) -> float | None:
    """What one pixel covers; None where the drawing has no unit."""
    if not layout.is_modelspace:
        inches = layout.dxf_layout.dxf.get("plot_paper_units", 1) == 0
        return (_INCH_MM if inches else 1.0) / frame.scale
    try:
        unit = conversion_factor(InsertUnits(document.units), InsertUnits.Millimeters)
    except (ValueError, TypeError, KeyError):
        return None
    found = unit / frame.scale
    return found if document.units and _LEAST_MM < found < _MOST_MM else None


def _own_warnings(frame: Frame, tape: Tape) -> Iterator[str]:
    if frame.strays:
        yield f"{frame.strays:,} parts lie far away from the rest and are left out"
    if tape.texts and not _has_fonts():
        yield "no fonts are installed: texts are drawn as boxes"


def _has_fonts() -> bool:
    try:
        return bool(fonts.font_manager.fallback_font_name())
    except FontNotFoundError:
        return False


def _configuration(size: float) -> Configuration:
    """Bound every step of ezdxf by the size of a pixel; never open a file that the drawing names."""
    pixel = size / 2000
    return Configuration(
        image_policy=ImagePolicy.RECT,
        color_policy=ColorPolicy.BLACK,
        background_policy=BackgroundPolicy.WHITE,
        max_flattening_distance=pixel / 4,
        min_dash_length=pixel,
        min_hatch_line_distance=2 * pixel,
        hatching_timeout=2.0,
        infinite_line_length=2 * size,
        pdmode=0,
        pdsize=1,
    )


def _rough_size(document: Drawing, layout: Layout) -> float:
    """
    Estimate the drawing's size from some of its points.

    Exact extents are known only when everything has been drawn, but how finely to draw must be known before.
    """
    points = np.array(list(_some_points(layout)), dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) > 3:
        low, high = np.percentile(points, (3, 97), axis=0)
        size = float((high - low).max())
        if size > 1e-9:
            return min(size, 1e12)
    return _header_size(document)


def _some_points(layout: Layout) -> Iterator[tuple[float, float]]:
    for number, entity in enumerate(layout):
        if number >= _SAMPLE:
            return
        yield from _points_of(entity)


def _points_of(entity: DXFEntity) -> Iterator[tuple[float, float]]:
    radius = entity.dxf.get("radius", 0.0) if entity.dxf.is_supported("radius") else 0.0
    for name in _POINTS:
        if entity.dxf.is_supported(name) and entity.dxf.hasattr(name):
            point = entity.dxf.get(name)
            yield point.x - radius, point.y - radius
            yield point.x + radius, point.y + radius
    if entity.dxftype() == "LWPOLYLINE":
        yield from entity.vertices()  # type: ignore[attr-defined]  # the kinds that come here have it


def _header_size(document: Drawing) -> float:
    low, high = document.header.get("$EXTMIN"), document.header.get("$EXTMAX")
    try:
        size = max(high[0] - low[0], high[1] - low[1])
    except (TypeError, IndexError):
        return 1000.0
    return float(size) if math.isfinite(size) and 1e-9 < size < 1e9 else 1000.0


def _entities(layers: Iterable[Layer], frame: Frame) -> Iterator[Entity]:
    """Line work in pixels; the outlines of letters and the lines of dense hatches are not among it."""
    left = _MOST_HATCH_LINES
    for layer in layers:
        for stroke in layer.strokes:
            points = _pixels(stroke.points.reshape(-1, 2), frame)
            if stroke.points.ndim == 2 or stroke.kind not in _HATCHES:
                yield Entity(kind=stroke.kind, layer=stroke.layer, points=points)
            elif (left := left - len(stroke.points)) >= 0:
                for piece in points.reshape(-1, 2, 2):
                    yield Entity(kind=stroke.kind, layer=stroke.layer, points=piece)
        for fill in layer.fills:
            if fill.kind not in {"TEXT", "MTEXT", "ATTRIB"}:
                for outline in fill.outlines:
                    yield Entity(
                        kind=fill.kind, layer=fill.layer, points=_pixels(outline, frame), filled=True
                    )


def _pixels(points: NDArray[np.float64], frame: Frame) -> NDArray[np.float32]:
    return np.clip(np.nan_to_num(frame.pixels(points)), -1e9, 1e9).astype(np.float32)


def _text(text: RawText, frame: Frame) -> Text:
    ((x, y),) = frame.pixels(np.array([(text.left, text.bottom)]))
    return Text(
        text=text.text,
        x=float(x),
        y=float(y),
        height=text.height * frame.scale,
        rotation=text.rotation,
        width=text.width * frame.scale,
    )
