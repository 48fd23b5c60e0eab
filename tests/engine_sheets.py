"""Small drawings for the engine's tests: one company's template, with parts drawn from a seed."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def template(title: str = "PLATE") -> Grey:
    """An empty sheet of 1400 x 990: frame, title block, notes."""
    page = np.full((990, 1400), 255, np.uint8)
    cv2.rectangle(page, (25, 25), (1374, 964), 0, 2)
    cv2.rectangle(page, (930, 780), (1374, 964), 0, 2)
    for row, text in enumerate(("ACME GEARWORKS", "SCALE 1:2", "DRAWN BY R.S.", title)):
        cv2.line(page, (930, 826 + 46 * row), (1374, 826 + 46 * row), 0, 1)
        cv2.putText(page, text, (942, 814 + 46 * row), _FONT, 0.7, 0, 1, cv2.LINE_AA)
    for row in range(3):
        note = "BREAK ALL SHARP EDGES 0.5 MM"
        cv2.putText(page, note, (60, 880 + 30 * row), _FONT, 0.55, 0, 1, cv2.LINE_AA)
    return page


def part(seed: int, title: str = "PLATE") -> Grey:
    """The template with two views of a part: outlines, holes, slots, centre lines, dimensions."""
    rng = np.random.default_rng(seed)
    page = template(title)
    for left, top in ((90, 90), (760, 110)):
        width, height = (int(v) for v in rng.integers((300, 260), (520, 560)))
        _view(page, rng, (left, top), (width, height))
    return page


def _view(page: Grey, rng: np.random.Generator, place: tuple[int, int], size: tuple[int, int]) -> None:
    (left, top), (width, height) = place, size
    corner = rng.integers(20, 80, 4)
    right, bottom = left + width, top + height
    outline = [
        (left + corner[0], top),
        (right - corner[1], top),
        (right, top + corner[1]),
        (right, bottom - corner[2]),
        (right - corner[2], bottom),
        (left + corner[3], bottom),
        (left, bottom - corner[3]),
        (left, top + corner[0]),
    ]
    cv2.polylines(page, [np.array(outline, np.int32)], isClosed=True, color=0, thickness=2)
    for _ in range(int(rng.integers(5, 9))):
        x, y = int(rng.integers(left + 60, right - 60)), int(rng.integers(top + 60, bottom - 60))
        radius = int(rng.integers(8, 38))
        cv2.circle(page, (x, y), radius, 0, 2, cv2.LINE_AA)
        cv2.line(page, (x - radius - 10, y), (x + radius + 10, y), 0, 1)
        cv2.line(page, (x, y - radius - 10), (x, y + radius + 10), 0, 1)
    for _ in range(3):
        x, y = int(rng.integers(left + 50, right - 130)), int(rng.integers(top + 50, bottom - 80))
        cv2.rectangle(page, (x, y), (x + int(rng.integers(30, 90)), y + int(rng.integers(15, 50))), 0, 2)
    y = bottom + 35
    cv2.line(page, (left, y), (right, y), 0, 1)
    cv2.putText(
        page, f"{rng.integers(100, 999)}", ((left + right) // 2, y - 6), _FONT, 0.6, 0, 1, cv2.LINE_AA
    )
