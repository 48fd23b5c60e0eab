"""
What happens to drawings on their way: seeded makers of queries from a grey raster.

Each takes a grey picture (uint8, dark ink on light paper) and a `numpy.random.Generator` and gives a
new grey picture; the same seed gives the same picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["TRANSFORMS", "Grey", "Maker", "apply_transform"]

Grey = npt.NDArray[np.uint8]
Maker = Callable[[Grey, np.random.Generator], Grey]

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def apply_transform(name: str, grey: Grey, seed: int) -> Grey:
    """
    The picture `grey` after transform `name`.

    Raises:
        KeyError: there is no transform of this name.
    """
    return np.ascontiguousarray(TRANSFORMS[name](grey, np.random.default_rng(seed)), np.uint8)


def same(grey: Grey, _: np.random.Generator) -> Grey:
    return grey


def reencoded(grey: Grey, _: np.random.Generator) -> Grey:
    """900 pixels on the long side, JPEG quality 40."""
    return _jpeg(_resized(grey, 900), 40)


def posed(grey: Grey, rng: np.random.Generator) -> Grey:
    """Turned by 90, 180 or 270 degrees."""
    return np.rot90(grey, int(rng.integers(1, 4)))


def mirrored(grey: Grey, rng: np.random.Generator) -> Grey:
    """Mirrored, and turned by a multiple of 90 degrees."""
    return np.rot90(grey[:, ::-1], int(rng.integers(0, 4)))


def thicker(grey: Grey, _: np.random.Generator) -> Grey:
    return np.asarray(cv2.erode(grey, np.ones((5, 5), np.uint8)), np.uint8)


def thinner(grey: Grey, _: np.random.Generator) -> Grey:
    """Lines to about half their width: eroded after an enlargement, so that none is lost."""
    large = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    thin = cv2.dilate(large, np.ones((2, 2), np.uint8))
    return np.asarray(cv2.resize(thin, grey.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def faxed(grey: Grey, _: np.random.Generator) -> Grey:
    """850 pixels on the long side, one bit a pixel."""
    return np.where(_resized(grey, 850) < 200, 0, 255).astype(np.uint8)


def inverted(grey: Grey, _: np.random.Generator) -> Grey:
    """White on black."""
    return 255 - grey


def blueprint(grey: Grey, rng: np.random.Generator) -> Grey:
    """Light lines on an uneven dark ground, as grey."""
    ground = 60 + 25 * _shading(grey.shape, rng)
    light = grey.astype(np.float32) / 255
    return _noisy(ground * light + 215 * (1 - light), rng, 4)


def turned(grey: Grey, rng: np.random.Generator) -> Grey:
    """Turned by any angle, on paper large enough for it."""
    return _turned(grey, float(rng.uniform(10, 350)))


def scanned(grey: Grey, rng: np.random.Generator) -> Grey:
    """Skew up to 2 degrees, perspective, blur, shading, noise, JPEG quality 50."""
    skewed = _turned(grey, float(rng.uniform(-2, 2)))
    height, width = skewed.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    away = rng.uniform(-0.015, 0.015, (4, 2)) * max(height, width)
    bent = cv2.getPerspectiveTransform(corners, (corners + away).astype(np.float32))
    page = cv2.warpPerspective(skewed, bent, (width, height), flags=cv2.INTER_LINEAR, borderValue=255)
    soft = cv2.GaussianBlur(page, (0, 0), float(rng.uniform(0.8, 1.4))).astype(np.float32)
    shaded = (40 + soft * (215 - 40) / 255 + 20) * (1 - 0.25 * _shading(page.shape, rng))
    return _jpeg(_noisy(shaded, rng, 6), 50)


def stamped(grey: Grey, rng: np.random.Generator) -> Grey:
    """Two stamps and four pen strokes over it."""
    page = grey.copy()
    side = max(page.shape)
    for text in ("RELEASED", "COPY"):
        page = np.minimum(page, _stamp(page.shape, text, rng))
    for _ in range(4):
        steps = rng.normal(0, side / 40, (12, 2)).cumsum(axis=0)
        start = rng.uniform(0.15, 0.85, 2) * page.shape[::-1]
        curve = np.round(start + steps).astype(np.int32)
        cv2.polylines(page, [curve], isClosed=False, color=60, thickness=max(2, side // 400))
    return page


def revised(grey: Grey, rng: np.random.Generator) -> Grey:
    """Two areas with ink erased, six lines and a circle added."""
    page = grey.copy()
    height, width = page.shape
    side = max(page.shape)
    for _ in range(2):
        x, y = _place_with_ink(grey, rng)
        w, h = (rng.uniform(0.05, 0.1, 2) * side).astype(int)
        page[max(0, y - h // 2) : y + h // 2, max(0, x - w // 2) : x + w // 2] = 255
    for _ in range(6):
        start = rng.uniform(0.15, 0.85, 2) * (width, height)
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.04, 0.12) * side
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(page, _pixel(start), _pixel(end), 0, max(1, side // 700), cv2.LINE_AA)
    middle = rng.uniform(0.25, 0.75, 2) * (width, height)
    cv2.circle(page, _pixel(middle), int(rng.uniform(0.02, 0.05) * side), 0, max(1, side // 700), cv2.LINE_AA)
    return page


def cropped_70(grey: Grey, rng: np.random.Generator) -> Grey:
    return _cropped(grey, rng, 0.7)


def cropped_40(grey: Grey, rng: np.random.Generator) -> Grey:
    return _cropped(grey, rng, 0.4)


def placed(grey: Grey, rng: np.random.Generator) -> Grey:
    """Shrunk to 50 to 75 % and placed on another sheet with its own frame, title block and text."""
    factor = float(rng.uniform(0.5, 0.75))
    x, y, width, height = _ink_box(grey)
    part = grey[y : y + height, x : x + width]
    page = _sheet(rng)
    fit = min(page.shape[1] / grey.shape[1], page.shape[0] / grey.shape[0]) * factor
    small = _scaled(part, fit)
    room_x, room_y = page.shape[1] - small.shape[1], page.shape[0] - small.shape[0]
    left, top = int(room_x * rng.uniform(0.15, 0.85)), int(room_y * rng.uniform(0.15, 0.6))
    spot = page[top : top + small.shape[0], left : left + small.shape[1]]
    np.minimum(spot, small, out=spot)
    return page


def turned_cropped_scanned(grey: Grey, rng: np.random.Generator) -> Grey:
    """Turned by 90 degrees, cropped to 70 % of the area, scanned."""
    return scanned(_cropped(np.ascontiguousarray(np.rot90(grey)), rng, 0.7), rng)


def reframed_turned_scanned(grey: Grey, rng: np.random.Generator) -> Grey:
    """Views on another frame, turned by up to 8 degrees, scanned."""
    height, width = grey.shape
    page = _sheet(rng)
    inner = grey[height // 14 : height - height // 14, width // 14 : width - width // 14]
    fit = 0.86 * min(page.shape[1] / width, page.shape[0] / height)
    small = _scaled(inner, fit)
    top, left = (page.shape[0] - small.shape[0]) // 2, (page.shape[1] - small.shape[1]) // 2
    spot = page[top : top + small.shape[0], left : left + small.shape[1]]
    np.minimum(spot, small, out=spot)
    return scanned(_turned(page, float(rng.uniform(-8, 8))), rng)


TRANSFORMS: dict[str, Maker] = {
    "same": same,
    "reencoded": reencoded,
    "posed": posed,
    "mirrored": mirrored,
    "thicker": thicker,
    "thinner": thinner,
    "faxed": faxed,
    "inverted": inverted,
    "blueprint": blueprint,
    "turned": turned,
    "scanned": scanned,
    "stamped": stamped,
    "revised": revised,
    "cropped_70": cropped_70,
    "cropped_40": cropped_40,
    "placed": placed,
    "turned_cropped_scanned": turned_cropped_scanned,
    "reframed_turned_scanned": reframed_turned_scanned,
}


def _resized(grey: Grey, side: int) -> Grey:
    return _scaled(grey, side / max(grey.shape))


def _scaled(grey: Grey, factor: float) -> Grey:
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, size, interpolation=way), np.uint8)


def _jpeg(grey: Grey, quality: int) -> Grey:
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _turned(grey: Grey, degrees: float) -> Grey:
    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(width * cosine + height * sine), int(width * sine + height * cosine))
    matrix[:, 2] += [(size[0] - width) / 2, (size[1] - height) / 2]
    return np.asarray(cv2.warpAffine(grey, matrix, size, flags=cv2.INTER_LINEAR, borderValue=255), np.uint8)


def _shading(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Smooth darkness 0..1."""
    coarse = rng.random((4, 4)).astype(np.float32)
    return np.clip(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32)


def _noisy(page: npt.NDArray[np.floating], rng: np.random.Generator, sigma: float) -> Grey:
    noise = rng.standard_normal(page.shape, dtype=np.float32) * np.float32(sigma)
    return np.clip(page + noise, 0, 255).astype(np.uint8)


def _stamp(shape: tuple[int, ...], text: str, rng: np.random.Generator) -> Grey:
    side = max(shape)
    size = side / 700
    (width, height), _ = cv2.getTextSize(text, _FONT, size, max(2, side // 500))
    pad = side // 60
    plate = np.full((height + 2 * pad, width + 2 * pad), 255, np.uint8)
    cv2.rectangle(plate, (3, 3), (plate.shape[1] - 4, plate.shape[0] - 4), 90, max(2, side // 400))
    cv2.putText(plate, text, (pad, height + pad), _FONT, size, 90, max(2, side // 500), cv2.LINE_AA)
    middle = rng.uniform(0.2, 0.8, 2) * shape[::-1]
    matrix = cv2.getRotationMatrix2D((plate.shape[1] / 2, plate.shape[0] / 2), rng.uniform(-30, 30), 1)
    away = middle - (plate.shape[1] / 2, plate.shape[0] / 2)
    matrix = matrix + np.array([[0, 0, away[0]], [0, 0, away[1]]])
    return np.asarray(cv2.warpAffine(plate, matrix, shape[::-1], borderValue=255), np.uint8)


def _pixel(place: npt.NDArray[np.floating]) -> tuple[int, int]:
    return int(place[0]), int(place[1])


def _place_with_ink(grey: Grey, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel of ink away from the rim (the middle where there is none)."""
    height, width = grey.shape
    rows, columns = np.nonzero(grey[height // 8 : -height // 8, width // 8 : -width // 8] < 128)
    if not len(rows):
        return width // 2, height // 2
    pick = int(rng.integers(len(rows)))
    return int(columns[pick]) + width // 8, int(rows[pick]) + height // 8


def _cropped(grey: Grey, rng: np.random.Generator, area: float) -> Grey:
    """A window of `area` of the ink's box that holds at least half as much ink as its share."""
    x, y, width, height = _ink_box(grey)
    w, h = max(8, int(width * area**0.5)), max(8, int(height * area**0.5))
    ink = grey < 128
    whole = max(1, int(ink.sum()))
    window = grey[y : y + h, x : x + w]
    for _ in range(20):
        left, top = x + int(rng.integers(0, width - w + 1)), y + int(rng.integers(0, height - h + 1))
        window = grey[top : top + h, left : left + w]
        if ink[top : top + h, left : left + w].sum() > 0.5 * area * whole:
            break
    return window


def _ink_box(grey: Grey) -> tuple[int, int, int, int]:
    ink = np.asarray(grey < 128, np.uint8)
    if not ink.any():
        return 0, 0, grey.shape[1], grey.shape[0]
    x, y, width, height = cv2.boundingRect(ink)
    return int(x), int(y), int(width), int(height)


def _sheet(rng: np.random.Generator) -> Grey:
    """An empty A3 sheet of another company: frame, zones, title block, notes."""
    page = np.full((1414, 2000), 255, np.uint8)
    cv2.rectangle(page, (30, 30), (1969, 1383), 0, 3)
    cv2.rectangle(page, (60, 60), (1939, 1353), 0, 2)
    for zone in range(1, 8):
        cv2.line(page, (60 + 235 * zone, 30), (60 + 235 * zone, 60), 0, 2)
        cv2.putText(page, chr(64 + zone), (60 + 235 * zone - 120, 54), _FONT, 0.6, 0, 1, cv2.LINE_AA)
    left, top = 1339, 1133
    cv2.rectangle(page, (left, top), (1939, 1353), 0, 2)
    for row in range(1, 5):
        cv2.line(page, (left, top + 44 * row), (1939, top + 44 * row), 0, 1)
        _words(page, (left + 10, top + 44 * row - 12), rng, 4)
    cv2.line(page, (left + 300, top), (left + 300, 1353), 0, 1)
    for row in range(4):
        _words(page, (90, 1200 + 34 * row), rng, 7)
    return page


def _words(page: Grey, place: tuple[int, int], rng: np.random.Generator, count: int) -> None:
    letters = "ABCDEFGHIKLMNOPRSTUVW0123456789"
    text = " ".join("".join(rng.choice(list(letters), int(rng.integers(2, 8)))) for _ in range(count))
    cv2.putText(page, text, place, _FONT, 0.7, 0, 1, cv2.LINE_AA)
