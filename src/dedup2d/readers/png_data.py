"""
Whether a PNG holds as many pixels as its header says.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers.model import Source

__all__ = ["check_png_data"]

_PIECE = 1024 * 1024
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def check_png_data(source: Source, image: Image.Image) -> None:
    """
    Refuse a PNG with fewer rows of data than it declares.

    Pillow leaves missing rows black without a word, which would look like a drawing.
    Interlaced pictures are left to Pillow.

    Raises:
        UnreadableDrawingError: rows are missing.
    """
    with source.path.open("rb") as file:
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(33)[16:29])
        if interlaced or image.size != (width, height):
            return
        row = 1 + (width * depth * _CHANNELS.get(colour, 1) + 7) // 8
        if _expanded(file, row * height) < row * height:
            raise UnreadableDrawingError(source.name, "the PNG is damaged or incomplete (rows are missing)")


def _expanded(file: BinaryIO, enough: int) -> int:
    """Count the bytes of pixel data, without keeping them, up to *enough*."""
    inflater = zlib.decompressobj()
    total = 0
    for data in _pixel_data(file):
        rest = data
        while rest and total < enough:
            try:
                total += len(inflater.decompress(rest, _PIECE))
            except zlib.error:
                return total
            rest = inflater.unconsumed_tail
    return total + len(inflater.flush()) if total < enough else total


def _pixel_data(file: BinaryIO) -> Iterator[bytes]:
    """The data of all IDAT chunks, in pieces."""
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind != b"IDAT":
            file.seek(length + 4, 1)
            continue
        while length > 0 and (piece := file.read(min(length, _PIECE))):
            length -= len(piece)
            yield piece
        file.seek(4, 1)
