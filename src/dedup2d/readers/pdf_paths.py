"""
Line work of a PDF page: its paths, taken from PDFium's page objects, as polylines.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from numpy.typing import NDArray

from dedup2d.readers.model import Entity

__all__ = ["Matrix", "paths", "to_pixels"]

_MOST_SEGMENTS = 80_000  # some 0.2 s; a page with more is a map or a scan in pieces
_MOST_DEPTH = 8
_WHITE = 250
_STEPS = 8  # straight pieces that a Bezier curve becomes

Matrix = tuple[float, float, float, float, float, float]
"""a to f of PDF: x' = a x + c y + e, y' = b x + d y + f."""

Points = NDArray[np.float32]

_UNMOVED: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_T = np.linspace(0, 1, _STEPS + 1)[1:, None]
_BERNSTEIN = np.hstack([(1 - _T) ** 3, 3 * _T * (1 - _T) ** 2, 3 * _T**2 * (1 - _T), _T**3]).astype(
    np.float32
)


def to_pixels(page: pypdfium2.PdfPage, width: float, height: float) -> Matrix:
    """How a page that is rendered `width` x `height` pixels large takes its points to pixels."""
    fine = 1000.0  # PDFium answers in whole pixels
    columns, rows = max(1, round(width * fine)), max(1, round(height * fine))
    x, y = ctypes.c_int(), ctypes.c_int()
    far = max(page.get_size())
    places = []
    for point in ((0.0, 0.0), (far, 0.0), (0.0, far)):
        pdfium.FPDF_PageToDevice(page, 0, 0, columns, rows, 0, *point, x, y)
        places.append((x.value / fine, y.value / fine))
    (e, f), (ax, ay), (bx, by) = places
    return (ax - e) / far, (ay - f) / far, (bx - e) / far, (by - f) / far, e, f


def paths(page: pypdfium2.PdfPage, place: Matrix) -> tuple[Entity, ...]:
    """
    All visible paths in pixels, taken there by `place`; none where there are too many.

    Curves are flattened. What a clipping path hides is not taken away.
    """
    reader = _Reader()
    count = pdfium.FPDFPage_CountObjects(page)
    if not reader.read(count, lambda index: pdfium.FPDFPage_GetObject(page, index), place, 0):
        return ()
    return tuple(reader.entities())


class _Reader:
    """Walks through page objects and forms; keeps the buffers that PDFium writes to."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._kinds: list[int] = []
        self._closed: list[int] = []
        self._paths: list[tuple[Matrix, int, bool]] = []
        self._matrix = pdfium.FS_MATRIX()
        self._fill, self._stroke = ctypes.c_int(), ctypes.c_int()
        self._x, self._y = ctypes.c_float(), ctypes.c_float()
        self._colour = tuple(ctypes.c_uint() for _ in range(4))

    def read(self, count: int, get: Callable[[int], Any], outer: Matrix, depth: int) -> bool:
        """Take over `count` objects; whether they were not too many."""
        for index in range(count):
            item = get(index)
            kind = pdfium.FPDFPageObj_GetType(item)
            whole = True
            if kind == pdfium.FPDF_PAGEOBJ_PATH:
                whole = self._read_path(item, outer)
            elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < _MOST_DEPTH:
                whole = self._read_form(item, outer, depth)
            if not whole:
                return False
        return True

    def _read_form(self, form: Any, outer: Matrix, depth: int) -> bool:
        inner = _product(self._matrix_of(form), outer)
        count = pdfium.FPDFFormObj_CountObjects(form)
        return self.read(count, lambda index: pdfium.FPDFFormObj_GetObject(form, index), inner, depth + 1)

    def _matrix_of(self, item: Any) -> Matrix:
        matrix = self._matrix
        if not pdfium.FPDFPageObj_GetMatrix(item, matrix):
            return _UNMOVED
        return matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f

    def _read_path(self, path: Any, outer: Matrix) -> bool:
        pdfium.FPDFPath_GetDrawMode(path, self._fill, self._stroke)
        stroked = bool(self._stroke.value) and not self._is_white(path, pdfium.FPDFPageObj_GetStrokeColor)
        filled = bool(self._fill.value) and not self._is_white(path, pdfium.FPDFPageObj_GetFillColor)
        if not (stroked or filled):
            return True
        count = pdfium.FPDFPath_CountSegments(path)
        if len(self._kinds) + count > _MOST_SEGMENTS:
            return False
        for index in range(count):
            segment = pdfium.FPDFPath_GetPathSegment(path, index)
            pdfium.FPDFPathSegment_GetPoint(segment, self._x, self._y)
            self._points.append((self._x.value, self._y.value))
            self._kinds.append(pdfium.FPDFPathSegment_GetType(segment))
            self._closed.append(pdfium.FPDFPathSegment_GetClose(segment))
        self._paths.append((_product(self._matrix_of(path), outer), count, not stroked))
        return True

    def _is_white(self, path: Any, colour_of: Callable[..., Any]) -> bool:
        red, green, blue, alpha = self._colour
        if not colour_of(path, red, green, blue, alpha):
            return False
        return alpha.value == 0 or min(red.value, green.value, blue.value) >= _WHITE

    def entities(self) -> Iterator[Entity]:
        """What was read as polylines in pixels."""
        if not self._paths:
            return
        matrices = np.array([matrix for matrix, _, _ in self._paths])
        counts = np.array([count for _, count, _ in self._paths])
        each = np.repeat(matrices, counts, axis=0)
        x, y = np.array(self._points).T
        places = np.stack(
            [x * each[:, 0] + y * each[:, 2] + each[:, 4], x * each[:, 1] + y * each[:, 3] + each[:, 5]],
            axis=1,
        )
        places = np.clip(np.nan_to_num(places), -1e9, 1e9).astype(np.float32)
        start = 0
        for _, count, filled in self._paths:
            end = start + count
            for points in _polylines(places[start:end], self._kinds[start:end], self._closed[start:end]):
                yield Entity(kind="PATH", layer="", points=points, filled=filled)
            start = end


def _polylines(places: Points, kinds: list[int], closed: list[int]) -> Iterator[Points]:
    """The sub-paths of one path, curves flattened."""
    moves = [index for index, kind in enumerate(kinds) if kind == pdfium.FPDF_SEGMENT_MOVETO]
    curved = pdfium.FPDF_SEGMENT_BEZIERTO in kinds
    for start, end in pairwise([*moves, len(kinds)]):
        if end - start < 2:
            continue
        points = places[start:end]
        if curved:
            points = _flattened(points, kinds[start:end])
        yield np.concatenate([points, points[:1]]) if closed[end - 1] else points


def _flattened(points: Points, kinds: list[int]) -> Points:
    parts = [points[:1]]
    index = 1
    while index < len(kinds):
        if kinds[index] == pdfium.FPDF_SEGMENT_BEZIERTO and index + 3 <= len(kinds):
            parts.append(_BERNSTEIN @ points[index - 1 : index + 3])
            index += 3
        else:
            parts.append(points[index : index + 1])
            index += 1
    return np.concatenate(parts)


def _product(first: Matrix, then: Matrix) -> Matrix:
    """The matrix of PDF that does `first`, then `then`."""
    a, b, c, d, e, f = first
    p, q, r, s, t, u = then
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u
