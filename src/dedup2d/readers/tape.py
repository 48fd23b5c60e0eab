"""
Records what ezdxf draws, as polylines, under limits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from ezdxf.addons.drawing.backend import BackendInterface, ImageData
from ezdxf.addons.drawing.config import Configuration
from ezdxf.addons.drawing.frontend import UniversalFrontend
from ezdxf.addons.drawing.pipeline import (
    BackendStage2d,
    ClippingStage2d,
    LinetypeStage2d,
    RenderPipeline2d,
    RenderStage2d,
)
from ezdxf.addons.drawing.properties import BackendProperties, Properties, RenderContext
from ezdxf.entities.dxfentity import DXFEntity
from ezdxf.entities.dxfgfx import DXFGraphic
from ezdxf.entities.insert import Insert
from ezdxf.entities.mtext import MText
from ezdxf.math import Matrix44, Vec2
from ezdxf.npshapes import NumpyPath2d, NumpyPoints2d

from dedup2d.errors import Dedup2DError, UnreadableDrawingError
from dedup2d.readers.model import ReadLimits
from dedup2d.readers.plot import Fill, Layer, Mask, Points, Stroke

__all__ = ["RawText", "Tape", "record"]

_MOVE, _LINE, _CURVE3, _CURVE4 = 4, 1, 2, 3
_MAX_DEPTH = 64
_MAX_DASHES = 2000  # of one line; more are finer than a pixel
_PIECES_PER_ENTITY = 10
_MASK = "\0mask"  # a layer name that no file can have
_QUIET = {"VIEWPORT", "ATTDEF", "DGNUNDERLAY", "ACAD_PROXY_ENTITY"}


@frozen
class RawText:
    """A text as drawn: where its box starts, its size along its turn (degrees), in drawing units."""

    text: str
    left: float
    bottom: float
    width: float
    height: float
    rotation: float


class Tape(BackendInterface):
    """The back end that ezdxf draws on: keeps strokes, fills and masks in drawing order."""

    def __init__(self, size: float, name: str, limits: ReadLimits) -> None:
        self.layers = [Layer()]
        self.texts: list[RawText] = []
        self.kinds: list[str] = []
        self.writing: tuple[str, float] | None = None
        self._pixel = size / limits.raster_side
        self.name, self.limits = name, limits
        self._pieces = 0

    def configure(self, config: Configuration) -> None: ...

    def set_background(self, color: str) -> None: ...

    def enter_entity(self, entity: DXFGraphic, properties: Properties) -> None: ...

    def exit_entity(self, entity: DXFGraphic) -> None: ...

    def clear(self) -> None: ...

    def finalize(self) -> None: ...

    def draw_point(self, pos: Vec2, properties: BackendProperties) -> None:
        self._stroke(np.array([(pos.x, pos.y)]), properties)

    def draw_line(self, start: Vec2, end: Vec2, properties: BackendProperties) -> None:
        self._stroke(np.array([(start.x, start.y), (end.x, end.y)]), properties)

    def draw_solid_lines(self, lines: Iterable[tuple[Vec2, Vec2]], properties: BackendProperties) -> None:
        pieces = np.array([(s.x, s.y, e.x, e.y) for s, e in lines], dtype=np.float64)
        if len(pieces):
            self._count(len(pieces))
            self._stroke(pieces.reshape(-1, 2, 2), properties)

    def draw_path(self, path: NumpyPath2d, properties: BackendProperties) -> None:
        for points in _flatten(path, self._pixel):
            self._stroke(points, properties)

    def draw_filled_polygon(self, points: NumpyPoints2d, properties: BackendProperties) -> None:
        self._fill((np.array(points.np_vertices(), dtype=np.float64),), properties)

    def draw_filled_paths(self, paths: Iterable[NumpyPath2d], properties: BackendProperties) -> None:
        outlines = tuple(points for path in paths for points in _flatten(path, self._pixel))
        if outlines:
            self._note_text(outlines)
            self._fill(outlines, properties)

    def draw_image(self, image_data: ImageData, properties: BackendProperties) -> None: ...

    @property
    def _kind(self) -> str:
        return self.kinds[-1] if self.kinds else ""

    def _stroke(self, points: Points, properties: BackendProperties) -> None:
        self._count(1)
        if self.writing:
            self._note_text((points.reshape(-1, 2),))
        self.layers[-1].strokes.append(Stroke(points, self._kind, properties.layer))

    def _fill(self, outlines: tuple[Points, ...], properties: BackendProperties) -> None:
        self._count(len(outlines))
        if properties.layer == _MASK:
            self.layers.append(Layer(mask=Mask(outlines[0])))
        else:
            self.layers[-1].fills.append(Fill(outlines, self._kind, properties.layer))

    def _note_text(self, outlines: Sequence[Points]) -> None:
        if not self.writing or len(self.texts) >= self.limits.max_entities:
            return
        text, rotation = self.writing
        self.writing = None
        turn = math.radians(rotation)
        axes = np.array([(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))])
        points = np.concatenate(list(outlines)) @ axes.T
        low, high = points.min(axis=0), points.max(axis=0)
        (left, bottom), (width, height) = low @ axes, high - low
        self.texts.append(RawText(text, float(left), float(bottom), float(width), float(height), rotation))

    def _count(self, pieces: int) -> None:
        self._pieces += pieces
        limit = self.limits.max_entities
        if self._pieces > _PIECES_PER_ENTITY * limit:
            raise too_many_entities(self.name, limit)


def too_many_entities(name: str, limit: int) -> UnreadableDrawingError:
    """The error for a drawing of too many parts."""
    return UnreadableDrawingError(
        name,
        f"with all blocks and hatches taken apart it has more entities than the limit of {limit:,} entities:"
        " split it or raise DEDUP2D_READ_MAX_ENTITIES",
    )


def record(
    entities: Iterable[DXFEntity], context: RenderContext, config: Configuration, tape: Tape
) -> list[str]:
    """Draw *entities* on *tape* and say what could not be drawn."""
    frontend = _Frontend(context, tape, config)
    frontend.draw_entities(entities)  # type: ignore[arg-type]  # any iterable does
    return frontend.warnings()


class _Frontend(UniversalFrontend):
    """Takes entities apart; counts all that it visits, survives those that are broken."""

    def __init__(self, context: RenderContext, tape: Tape, config: Configuration) -> None:
        super().__init__(context, _Pipeline(tape), config)
        self._tape = tape
        self._visits = 0
        self._open: list[str] = []
        self._broken: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._notes: dict[str, None] = {}

    def log_message(self, message: str) -> None: ...

    def skip_entity(self, entity: DXFEntity, msg: str) -> None:
        if msg != "invisible" and entity.dxftype() not in _QUIET:
            self._unknown[entity.dxftype()] += 1

    def draw_entity(self, entity: DXFGraphic, properties: Properties) -> None:
        self._visit(1)
        self._tape.kinds.append(entity.dxftype())
        try:
            super().draw_entity(entity, properties)
        except (Dedup2DError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - one bad entity must not cost the drawing
            self._broken[entity.dxftype()] += 1
        finally:
            self._tape.kinds.pop()

    def draw_composite_entity(self, entity: DXFGraphic, properties: Properties) -> None:
        if not isinstance(entity, Insert):
            super().draw_composite_entity(entity, properties)
            return
        block = str(entity.dxf.name).lower()
        if block in self._open:
            self._notes[f"block {entity.dxf.name[:60]!a} contains itself: it is drawn once"] = None
            return
        if len(self._open) >= _MAX_DEPTH:
            self._notes[f"its blocks are nested deeper than {_MAX_DEPTH}: the inner ones are left out"] = None
            return
        self._visit(max(0, entity.mcount - 1))
        self._note_reference(entity)
        self._open.append(block)
        try:
            super().draw_composite_entity(entity, properties)
        finally:
            self._open.pop()

    def draw_simple_mtext(self, mtext: MText, properties: Properties) -> None:
        if "\\~" in mtext.text:  # ezdxf draws a non-breaking space as it is written
            self.draw_complex_mtext(mtext, properties)
        else:
            super().draw_simple_mtext(mtext, properties)

    def draw_complex_mtext(self, mtext: MText, properties: Properties) -> None:
        # without the style in the file ezdxf would draw nothing
        properties.font = self.get_font_face(properties)
        if mtext.doc and mtext.dxf.style not in mtext.doc.styles:
            mtext.dxf.discard("style")
            if mtext.dxf.style not in mtext.doc.styles:
                mtext.doc.styles.add(mtext.dxf.style, font="")
        super().draw_complex_mtext(mtext, properties)

    def draw_wipeout_entity(self, entity: DXFGraphic, properties: Properties) -> None:
        properties.layer = _MASK
        super().draw_wipeout_entity(entity, properties)

    def draw_image_entity(self, entity: DXFGraphic, properties: Properties) -> None:
        self._notes["it places pictures that are other files: only their frames are drawn"] = None
        super().draw_image_entity(entity, properties)

    def _note_reference(self, insert: Insert) -> None:
        block = insert.block()
        if block is None or (block.block is not None and block.block.is_xref):
            self._notes["it refers to other drawings (xrefs) or missing blocks: they are not drawn"] = None

    def _visit(self, entities: int) -> None:
        self._visits += entities
        if self._visits > self._tape.limits.max_entities:
            raise too_many_entities(self._tape.name, self._tape.limits.max_entities)

    def warnings(self) -> list[str]:
        """Say in sentences what was left out."""
        found = list(self._notes)[:5]
        for counter, why in ((self._broken, "are damaged"), (self._unknown, "cannot be drawn")):
            if counter:
                kinds = ", ".join(f"{count} {kind}" for kind, count in counter.most_common(5))
                found.append(f"some entities {why} and are left out: {kinds}")
        return found


class _Pipeline(RenderPipeline2d):
    """ezdxf's own, with texts noted and dashes bounded."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        super().__init__(tape)

    def build_render_pipeline(self) -> RenderStage2d:
        return _Clipping(
            self._tape,
            self.config,
            self.clipping_portal,
            next_stage=_Linetypes(
                self.config,
                get_ltype_scale=self.get_vp_ltype_scale,
                next_stage=BackendStage2d(self.backend, converter=self.get_backend_properties),
            ),
        )

    def draw_text(
        self, text: str, transform: Matrix44, properties: Properties, cap_height: float, dxftype: str = "TEXT"
    ) -> None:
        x_axis = transform.ux
        self._tape.writing = (text.strip(), math.degrees(math.atan2(x_axis.y, x_axis.x)))
        try:
            super().draw_text(text, transform, properties, cap_height, dxftype)
        finally:
            self._tape.writing = None


class _Clipping(ClippingStage2d):
    """Takes letters at the edge of a clipped view whole or not at all: to cut each takes 10 ms."""

    def __init__(self, tape: Tape, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tape = tape

    def draw_filled_paths(self, paths: list[Any], properties: Properties) -> None:
        portal = self.clipping_portal
        if not (self._tape.writing and portal.is_active):
            super().draw_filled_paths(paths, properties)
            return
        paths = [path for path in paths if len(path)]
        kept = [
            path for path in paths if portal.clip_point(Vec2(path.np_vertices().mean(axis=0))) is not None
        ]
        matrix = portal.transform_matrix(Matrix44())
        for path in kept:
            path.transform_inplace(matrix)
        if kept:
            self.next_stage.draw_filled_paths(kept, properties)


class _Linetypes(LinetypeStage2d):
    """Draws a line solid when its dashes would be countless: it is far too long, or not finite."""

    def draw_line(self, start: Vec2, end: Vec2, properties: Properties) -> None:
        if self._countless(start.distance(end), properties):
            self.next_stage.draw_line(start, end, properties)
        else:
            super().draw_line(start, end, properties)

    def draw_path(self, path: Any, properties: Properties) -> None:
        points = path.np_vertices()
        length = float(np.hypot(*np.diff(points, axis=0).T).sum()) if len(points) > 1 else 0.0
        if self._countless(length, properties):
            self.next_stage.draw_path(path, properties)
        else:
            super().draw_path(path, properties)

    def _countless(self, length: float, properties: Properties) -> bool:
        if len(properties.linetype_pattern) < 2:
            return False
        pattern = self.pattern(properties)
        period = sum(pattern)
        return not (period > 0 and math.isfinite(length) and length * len(pattern) / period < _MAX_DASHES)


def _flatten(path: NumpyPath2d, pixel: float) -> list[Points]:
    """
    Give each sub-path as polyline; curves in steps that stay within a fraction of a *pixel*.

    The number of steps follows from the length of the control polygon and is bounded,
    so no coordinate can make it long.
    """
    points = np.asarray(path.np_vertices(), dtype=np.float64)
    codes = path.command_codes()
    if not path.has_curves and _MOVE not in codes:
        return [points] if len(points) else []
    found: list[Points] = []
    parts: list[Points] = [points[:1]]
    index = 1
    for code in codes:
        if code == _MOVE:
            found.append(np.concatenate(parts))
            parts = [points[index : index + 1]]
            index += 1
        elif code == _LINE:
            parts.append(points[index : index + 1])
            index += 1
        else:
            degree = 3 if code == _CURVE4 else 2
            parts.append(_curve(points[index - 1 : index + degree], pixel))
            index += degree
    found.append(np.concatenate(parts))
    return [points for points in found if len(points) > 1]


def _curve(control: Points, pixel: float) -> Points:
    length = float(np.abs(np.diff(control, axis=0)).sum()) / pixel if pixel > 0 else 0.0
    steps = int(min(64, max(3, math.sqrt(1.2 * length)))) if math.isfinite(length) else 3
    return np.asarray(_basis(len(control) - 1, steps) @ control)


_BASES: dict[tuple[int, int], Points] = {}


def _basis(degree: int, steps: int) -> Points:
    """Bernstein polynomials at the ends of all steps (without the start)."""
    if (degree, steps) not in _BASES:
        t = np.linspace(0, 1, steps + 1)[1:]
        _BASES[degree, steps] = np.stack(
            [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)], axis=1
        )
    return _BASES[degree, steps]
