"""Makes pictures small enough for a report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFilter

from dedup2d.engine.overlay import ADDED, CHANGED, REMOVED
from dedup2d.types import DiffRegion

__all__ = ["as_data_url", "shrunk", "shrunk_difference"]

# The engine's own thin boxes are lost in a thumbnail.
_FRAMES = {"added": ADDED, "removed": REMOVED, "changed": CHANGED, "moved": CHANGED}
_MOST_FRAMES = 40


def shrunk(png: bytes, *, side: int, colours: int) -> bytes:
    """
    Return the picture as a PNG of at most *side* pixels and *colours* colours.

    Thin lines stay visible: shrinking averages, and the palette keeps the greys between.
    """
    with Image.open(BytesIO(png)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = BytesIO()
    small.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def shrunk_difference(png: bytes, regions: Sequence[DiffRegion], *, side: int, colours: int) -> bytes:
    """Return the picture of a difference as `shrunk`, with a frame around each of the largest regions."""
    with Image.open(BytesIO(png)) as picture:
        # What differs may be a hair line: it must survive being shrunk to a thumbnail.
        marked = picture.convert("RGB").filter(ImageFilter.MinFilter(3))
    pen = ImageDraw.Draw(marked)
    width = max(2, max(marked.size) // 350)
    for region in regions[:_MOST_FRAMES]:
        x, y, gap = region.x, region.y, 3 * width
        box = (x - gap, y - gap, x + region.width + gap, y + region.height + gap)
        pen.rounded_rectangle(box, radius=gap, outline=_FRAMES[region.change], width=width)
    out = BytesIO()
    marked.save(out, "PNG", compress_level=1)
    return shrunk(out.getvalue(), side=side, colours=colours)


def as_data_url(png: bytes) -> str:
    """Return the picture as it stands in an `img` of a page without other files."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
