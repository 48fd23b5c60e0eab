"""
A pen that draws part geometry onto a sheet of paper, as DXF entities.

A part is drawn in its own millimetres; the pen scales, mirrors and shifts it to the
paper's millimetres. Texts, arrows and offsets keep their size on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from attrs import evolve, frozen
from ezdxf.document import Drawing as DxfDocument
from ezdxf.enums import TextEntityAlignment
from ezdxf.filemanagement import new
from ezdxf.layouts.layout import Modelspace

__all__ = ["ALIGNMENTS", "Pen", "new_document"]

Point = tuple[float, float]
Vertex = tuple[float, float] | tuple[float, float, float]

_LAYERS = {
    "VISIBLE": (7, "CONTINUOUS", 50),
    "THIN": (7, "CONTINUOUS", 18),
    "HIDDEN": (3, "DASHED2", 25),
    "CENTRE": (1, "CENTER2", 18),
    "DIMENSION": (2, "CONTINUOUS", 18),
    "HATCH": (8, "CONTINUOUS", 13),
    "TEXT": (4, "CONTINUOUS", 25),
    "FRAME": (7, "CONTINUOUS", 70),
    "TITLE": (7, "CONTINUOUS", 35),
}
_LINETYPES = {"DASHED2": [4.5, 3.0, -1.5], "CENTER2": [14.0, 8.0, -2.0, 2.0, -2.0]}
_STYLE = "PART"
ALIGNMENTS = {
    "left": TextEntityAlignment.LEFT,
    "centre": TextEntityAlignment.MIDDLE_CENTER,
    "right": TextEntityAlignment.RIGHT,
}


def new_document(*, font: str, dim_text: float, decimal: str) -> DxfDocument:
    """
    Return an empty document in millimetres with the layers and styles of a drawing office.

    Args:
        font: font file named by the text style.
        dim_text: height of dimension texts, mm on paper.
        decimal: the decimal sign of dimensions.
    """
    doc = new("R2010", units=4)
    doc.header["$LTSCALE"] = 1.0
    for name, pattern in _LINETYPES.items():
        doc.linetypes.add(name, pattern)
    for name, (color, linetype, weight) in _LAYERS.items():
        doc.layers.add(name, color=color, linetype=linetype, lineweight=weight)
    doc.styles.add(_STYLE, font=font)
    style = doc.dimstyles.new(_STYLE)
    style.dxf.dimtxsty = _STYLE
    style.dxf.dimtxt = dim_text
    style.dxf.dimasz = 3.0
    style.dxf.dimexe = 1.5
    style.dxf.dimexo = 0.8
    style.dxf.dimgap = 0.8
    style.dxf.dimtad = 1
    style.dxf.dimtih = 0
    style.dxf.dimtoh = 0
    style.dxf.dimzin = 8
    style.dxf.dimdec = 1
    style.dxf.dimdsep = ord(decimal)
    style.dxf.dimblk = ""
    return doc


@frozen(kw_only=True)
class Pen:
    """
    Draws in a coordinate system of its own onto the paper.

    Args:
        space: where the entities go.
        origin: the paper point, mm, of the part's point *pivot*.
        scale: paper mm per part mm.
        mirror: draw the part's left on the right.
    """

    space: Modelspace
    origin: Point = (0.0, 0.0)
    pivot: Point = (0.0, 0.0)
    scale: float = 1.0
    mirror: bool = False

    def at(self, x: float, y: float) -> Point:
        """Map a point of the part to the paper."""
        sign = -1 if self.mirror else 1
        return (
            self.origin[0] + sign * self.scale * (x - self.pivot[0]),
            self.origin[1] + self.scale * (y - self.pivot[1]),
        )

    @property
    def paper(self) -> Pen:
        """The pen that draws in the paper's own millimetres."""
        return evolve(self, origin=(0.0, 0.0), pivot=(0.0, 0.0), scale=1.0, mirror=False)

    def line(self, x1: float, y1: float, x2: float, y2: float, layer: str = "VISIBLE") -> None:
        self.space.add_line(self.at(x1, y1), self.at(x2, y2), dxfattribs={"layer": layer})

    def path(self, points: Iterable[Vertex], layer: str = "VISIBLE", *, closed: bool = True) -> None:
        """Draw a polyline of (x, y) or (x, y, bulge to the next point)."""
        self.space.add_lwpolyline(
            self._vertices(points), format="xyb", close=closed, dxfattribs={"layer": layer}
        )

    def rect(self, x: float, y: float, width: float, height: float, layer: str = "VISIBLE") -> None:
        self.path([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], layer)

    def circle(self, x: float, y: float, radius: float, layer: str = "VISIBLE") -> None:
        self.space.add_circle(self.at(x, y), radius * self.scale, dxfattribs={"layer": layer})

    def hole(self, x: float, y: float, radius: float) -> None:
        """Draw a round hole seen from above, with its centre cross."""
        self.circle(x, y, radius)
        self.cross(x, y, radius)

    def cross(self, x: float, y: float, radius: float) -> None:
        """Draw centre lines that stand out 2.5 mm on paper beyond *radius*."""
        reach = radius + 2.5 / self.scale
        self.line(x - reach, y, x + reach, y, "CENTRE")
        self.line(x, y - reach, x, y + reach, "CENTRE")

    def axis(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Draw a centre line that stands out 4 mm on paper at both ends."""
        length = math.hypot(x2 - x1, y2 - y1)
        dx, dy = (x2 - x1) / length * 4 / self.scale, (y2 - y1) / length * 4 / self.scale
        self.line(x1 - dx, y1 - dy, x2 + dx, y2 + dy, "CENTRE")

    def hatch(self, *boundaries: Sequence[Vertex], angle: float = 0.0, spacing: float = 2.8) -> None:
        """Hatch the area between closed *boundaries*; *spacing* is in mm on paper."""
        hatch = self.space.add_hatch(dxfattribs={"layer": "HATCH"})
        offset = [0.0, 0.0]
        turn = math.radians(45 + angle)
        offset = [-spacing * math.sin(turn), spacing * math.cos(turn)]
        hatch.set_pattern_fill("SECTION", definition=[[45 + angle, (0.0, 0.0), tuple(offset), []]], style=0)
        for boundary in boundaries:
            hatch.paths.add_polyline_path(self._vertices(boundary), is_closed=True)

    def text(  # noqa: PLR0917 - as the others of a pen
        self,
        x: float,
        y: float,
        content: str,
        height: float = 2.5,
        align: str = "left",
        turn: float = 0.0,
        layer: str = "TEXT",
    ) -> None:
        """Write *content*, *height* mm on paper, turned by *turn* degrees."""
        text = self.space.add_text(
            content, height=height, rotation=turn, dxfattribs={"layer": layer, "style": _STYLE}
        )
        text.set_placement(self.at(x, y), align=ALIGNMENTS[align])

    def note(self, x: float, y: float, content: str, dx: float, dy: float) -> None:
        """Point at (x, y) with a leader; the text stands (dx, dy) mm on paper away."""
        tip = self.at(x, y)
        if self.mirror:
            dx = -dx
        knee = (tip[0] + dx, tip[1] + dy)
        side = 1 if dx >= 0 else -1
        pen = self.paper
        width = 0.78 * 3.0 * len(content)
        pen.line(*tip, *knee, "DIMENSION")
        pen.line(*knee, knee[0] + side * (width + 1), knee[1], "DIMENSION")
        _arrow(pen, tip, math.atan2(dy, dx))
        left = knee[0] + 0.8 if side > 0 else knee[0] - width - 0.2
        pen.text(left, knee[1] + 0.9, content, 3.0, layer="DIMENSION")

    def across(self, x1: float, x2: float, y: float, offset: float, text: str = "<>") -> None:
        """Dimension the distance from *x1* to *x2*; the line lies *offset* mm on paper above *y*."""
        base = self.at(x1, y)
        self._linear((base[0], base[1] + offset), self.at(x1, y), self.at(x2, y), 0, text)

    def upright(self, y1: float, y2: float, x: float, offset: float, text: str = "<>") -> None:
        """Dimension the height from *y1* to *y2*; the line lies *offset* mm on paper right of *x*."""
        base = self.at(x, y1)
        sign = -1 if self.mirror else 1
        self._linear((base[0] + sign * offset, base[1]), self.at(x, y1), self.at(x, y2), 90, text)

    def _linear(self, base: Point, p1: Point, p2: Point, angle: float, text: str) -> None:
        dimension = self.space.add_linear_dim(
            base=base,
            p1=p1,
            p2=p2,
            angle=angle,
            text=text,
            dimstyle=_STYLE,
            override={"dimlfac": 1 / self.scale},
            dxfattribs={"layer": "DIMENSION"},
        )
        dimension.render()

    def _vertices(self, points: Iterable[Vertex]) -> list[tuple[float, float, float]]:
        sign = -1 if self.mirror else 1
        return [(*self.at(p[0], p[1]), sign * p[2] if len(p) == 3 else 0.0) for p in points]


def _arrow(pen: Pen, tip: Point, direction: float) -> None:
    barbs = [
        (tip[0] + 3 * math.cos(direction + side), tip[1] + 3 * math.sin(direction + side))
        for side in (-0.16, 0.16)
    ]
    pen.space.add_solid([tip, *barbs, barbs[-1]], dxfattribs={"layer": "DIMENSION"})
