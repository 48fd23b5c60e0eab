"""
What readers are limited by and what they give.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen, validators

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Entity", "ReadLimits", "Sheet", "Source", "Text"]

MIB = 1024**2


@frozen(kw_only=True)
class ReadLimits:
    """
    What reading one file may cost; each is checked before the step that costs.

    Args:
        max_bytes: of the file.
        max_expanded_bytes: of what a compressed file expands to.
        max_pixels: declared width times height of one picture.
        max_pages: pages of a PDF or TIFF, layouts of a DXF or DWG.
        max_entities: drawn entities of a DXF or DWG sheet with all its blocks taken apart.
        max_seconds: for the whole file; whoever calls `Children.call` passes it on.
        raster_side: long side of the pictures made, in pixels.
        max_memory_bytes: address space of the process that reads; passed to `Children`.
    """

    max_bytes: int = field(default=200 * MIB, validator=validators.ge(1))
    max_expanded_bytes: int = field(default=500 * MIB, validator=validators.ge(1))
    max_pixels: int = field(default=120_000_000, validator=validators.ge(1))
    max_pages: int = field(default=200, validator=validators.ge(1))
    max_entities: int = field(default=300_000, validator=validators.ge(1))
    max_seconds: float = field(default=60.0, validator=validators.gt(0))
    raster_side: int = field(default=2000, validator=[validators.ge(64), validators.le(10_000)])
    max_memory_bytes: int = field(default=2048 * MIB, validator=validators.ge(1))


@frozen(kw_only=True, eq=False)
class Entity:
    """
    One drawn entity as line work.

    Args:
        kind: its DXF type (`LINE`, `CIRCLE`, `INSERT` parts carry the type of the part).
        layer: name of its layer.
        points: float32 (N, 2), x to the right and y down in pixels of the sheet's raster;
            curves are flattened. One point is a dot.
        filled: the points are the outline of an area rather than a line.
    """

    kind: str
    layer: str
    points: NDArray[np.float32]
    filled: bool = False


@frozen(kw_only=True)
class Text:
    """
    A line of text, or a word of it.

    Args:
        text: its characters.
        x: left end of the baseline, pixels of the sheet's raster.
        y: the same, downwards.
        height: of a capital letter, pixels.
        rotation: degrees counter-clockwise.
        width: along the baseline, pixels.
    """

    text: str
    x: float
    y: float
    height: float
    rotation: float = 0.0
    width: float = 0.0


@frozen(kw_only=True, eq=False)
class Sheet:
    """
    One page, layout or picture of a file.

    Args:
        page: from 1.
        name: label of the page or layout, may be empty.
        format: `png`, `jpeg`, `tiff`, `pdf`, `dxf`, `dwg` or `svg`.
        raster: uint8 (H, W), long side at most `raster_side`. Vector formats give black ink (0) on
            white (255); pictures are as scanned, in grey.
        entities: line work where the format has it, else empty.
        texts: texts where the format has them, else empty.
        warnings: what may be missing or changed, each a sentence for the user.
        units_per_pixel: drawing units that one pixel covers, where the format has units.
        mm_per_pixel: millimetres that one pixel covers, None where the file does not say: of the paper
            for PDF, pictures, SVG and layouts, of what is drawn for model space.
    """

    page: int
    name: str
    format: str
    raster: NDArray[np.uint8]
    entities: tuple[Entity, ...] = ()
    texts: tuple[Text, ...] = ()
    warnings: tuple[str, ...] = ()
    units_per_pixel: float | None = None
    mm_per_pixel: float | None = None


@frozen
class Source:
    """A file that is being read: where it lies, what to call it, what it is."""

    path: Path
    name: str
    format: str
    limits: ReadLimits
