"""
PNG, JPEG and TIFF (each page; 1-bit, G3/G4, 16-bit, palette, CMYK, alpha) with Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers.grey import Grey, check_pixels, has_light_ground, ink_grey, shrink, to_uint8
from dedup2d.readers.model import Sheet, Source
from dedup2d.readers.png_data import check_png_data

__all__ = ["sheets"]

_LEAST_DPI, _MOST_DPI = 99.0, 5000.0
"""Below are 72 and 96, which programs write that know nothing of the paper."""
_STRIP_PIXELS = 8_000_000
_SUBFILE_TYPE, _REDUCED = 254, 1
_ORIENTATION = 0x0112
_TURNS: dict[int, Callable[[Grey], Grey]] = {
    # EXIF orientation: how the stored picture becomes the one to look at
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


def sheets(source: Source) -> Iterator[Sheet]:
    """Give each page of a TIFF, or the one picture of a PNG or JPEG."""
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked below, before anything is decoded
    with source.path.open("rb") as file, Image.open(file, formats=[source.format.upper()]) as image:
        for number, _ in enumerate(_pages(image, source), start=1):
            wide = max(image.size)  # before a JPEG is decoded at a part of its size
            raster = _raster(image, source)
            yield Sheet(
                page=number,
                name="",
                format=source.format,
                raster=raster,
                mm_per_pixel=_mm_per_pixel(image, wide / max(raster.shape)),
            )


def _mm_per_pixel(image: Image.Image, reduced: float) -> float | None:
    """What a pixel covers after the picture was reduced; None where its resolution is no scanner's."""
    try:
        across, down = (float(value) for value in image.info.get("dpi", ()))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (_LEAST_DPI <= across <= _MOST_DPI and math.isclose(across, down, rel_tol=0.01)):
        return None
    return 25.4 / across * reduced


def _pages(image: Image.Image, source: Source) -> Iterator[int]:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        yield 0
        return
    for index in _frames(image, source):
        image.seek(index)
        if not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _REDUCED:  # thumbnails are no pages
            yield index


def _frames(image: TiffImagePlugin.TiffImageFile, source: Source) -> range:
    """Count the pages by walking the directories, at most one more than allowed."""
    limit = source.limits.max_pages
    count = 0
    try:
        while count <= limit:
            image.seek(count)
            count += 1
    except EOFError:
        return range(count)
    raise UnreadableDrawingError(
        source.name,
        f"it has more pages than the limit of {limit:,} pages: split it or raise DEDUP2D_READ_MAX_PAGES",
    )


def _raster(image: Image.Image, source: Source) -> Grey:
    limits = source.limits
    width, height = image.size
    check_pixels(source.name, width, height, limits.max_pixels)
    if image.format == "PNG":
        check_png_data(source, image)
    if image.format == "JPEG":
        image.draft(None, (limits.raster_side, limits.raster_side))  # decodes at 1/2, 1/4 or 1/8
    image.load()
    raster = shrink(_grey(image), limits.raster_side)
    # Pillow turns TIFF pages itself while loading
    turn = None if image.format == "TIFF" else _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return np.ascontiguousarray(turn(raster)) if turn else raster


def _grey(image: Image.Image) -> Grey:
    """Convert strip by strip: a colour copy of the whole would take four times its size."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // max(1, width))
    if _is_plain(image):
        return to_uint8(np.asarray(image if image.mode != "1" else image.convert("L")))
    light = has_light_ground(_colour(image.resize((128, 128), Image.Resampling.NEAREST)))
    grey = np.empty((height, width), np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        grey[top : top + rows] = ink_grey(_colour(strip), light_ground=light)
    return grey


def _is_plain(image: Image.Image) -> bool:
    if "transparency" in image.info:
        return False
    return image.mode in {"1", "L", "I", "F"} or image.mode.startswith("I;16")


def _colour(strip: Image.Image) -> NDArray[np.uint8]:
    """Any colour mode as RGB, laid on white where it is transparent."""
    if strip.mode == "LAB":
        strip = strip.getchannel("L").convert("RGB")
    if "transparency" in strip.info or strip.mode in {"LA", "La", "PA", "RGBA", "RGBa"}:
        strip = strip.convert("RGBA")
        ground = Image.new("RGBA", strip.size, "white")
        strip = Image.alpha_composite(ground, strip)
    return np.asarray(strip.convert("RGB"))
