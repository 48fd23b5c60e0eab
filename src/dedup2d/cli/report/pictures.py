"""Makes pictures small enough for a report."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

__all__ = ["as_data_url", "shrunk"]


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


def as_data_url(png: bytes) -> str:
    """Return the picture as it stands in an `img` of a page without other files."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
