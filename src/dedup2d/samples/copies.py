"""What happens to drawings on their way: scanned, photocopied, turned, cut out, held to the wrong side."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

__all__ = ["detail", "flip", "photocopy", "png", "scan", "tiff_g4", "tiff_jpeg", "turn"]

Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""Grey, (H, W), 0 black to 255 white."""


def png(picture: Picture, *, dpi: int | None = None) -> bytes:
    """Return *picture* as PNG."""
    return _saved(picture, "PNG", dpi, compress_level=4)


def tiff_jpeg(picture: Picture, *, dpi: int, quality: int = 60) -> bytes:
    """Return *picture* as a grey TIFF with JPEG inside, as scanners write it."""
    return _saved(picture, "TIFF", dpi, compression="jpeg", quality=quality)


def tiff_g4(picture: Picture, *, dpi: int) -> bytes:
    """Return *picture* as a TIFF of 1 bit per pixel in CCITT group 4 (ITU-T T.6)."""
    stream = io.BytesIO()
    Image.fromarray(picture).point(lambda value: 255 if value > 140 else 0).convert("1").save(
        stream, "TIFF", compression="group4", dpi=(dpi, dpi)
    )
    return stream.getvalue()


def scan(picture: Picture, rng: np.random.Generator) -> Picture:
    """Lay the sheet a little askew on the glass: skew up to 1.2°, shading, blur, noise, JPEG blocks."""
    angle = float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.2))
    skewed = _skewed(picture, angle, scale=0.985, paper=246)
    lit: Any = skewed.astype(np.float32) * _shade(skewed.shape, rng)
    lit = cv2.GaussianBlur(lit, (0, 0), 0.7) + rng.normal(0, 3.5, lit.shape).astype(np.float32)
    grey = np.clip(lit * 0.9 + 18, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 55])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


def photocopy(picture: Picture, rng: np.random.Generator) -> Picture:
    """Copy on an old machine: harsh contrast, toner specks, a dark edge, lines that thin out."""
    turned = _skewed(picture, float(rng.uniform(-0.5, 0.5)), scale=0.99, paper=255)
    soft = cv2.GaussianBlur(turned, (0, 0), 1.0).astype(np.float32)
    soft += cv2.resize(
        rng.normal(0, 22, (soft.shape[0] // 12, soft.shape[1] // 12)).astype(np.float32), soft.shape[::-1]
    )
    copy = np.where(soft > 168, 255, 0).astype(np.uint8)
    height, width = copy.shape
    for x, y in rng.integers(0, (width, height), (width * height // 14_000, 2)):
        cv2.circle(copy, (int(x), int(y)), int(rng.integers(0, 3)), 0, -1)
    copy[:, : int(rng.integers(3, 14))] = 0
    return copy


def turn(picture: Picture, quarters: int) -> Picture:
    """Turn counter-clockwise by *quarters* of 90°."""
    return np.ascontiguousarray(np.rot90(picture, quarters))


def flip(picture: Picture) -> Picture:
    """Show the tracing from its back."""
    return np.ascontiguousarray(picture[:, ::-1])


def detail(picture: Picture, box: tuple[float, float, float, float], sheet: tuple[float, float]) -> Picture:
    """
    Cut *box* (x0, y0, x1, y1; mm, y upwards) of a *sheet* (width, height; mm) out of its *picture*.
    """
    height, width = picture.shape
    scale = width / sheet[0]
    x0, x1 = max(0, round(box[0] * scale)), min(width, round(box[2] * scale))
    y0, y1 = max(0, round((sheet[1] - box[3]) * scale)), min(height, round((sheet[1] - box[1]) * scale))
    return np.ascontiguousarray(picture[y0:y1, x0:x1])


def _skewed(picture: Picture, angle: float, *, scale: float, paper: int) -> Picture:
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_AREA, borderValue=(paper,)), np.uint8
    )


def _shade(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a lamp's unevenness: 0.82 to 1.0, darker toward one corner."""
    corners = rng.uniform(0.82, 1.0, (2, 2)).astype(np.float32)
    return np.asarray(cv2.resize(corners, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _saved(picture: Picture, kind: str, dpi: int | None, **options: Any) -> bytes:
    stream = io.BytesIO()
    if dpi is not None:
        options["dpi"] = (dpi, dpi)
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()
