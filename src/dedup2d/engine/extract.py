"""
The heavy steps of indexing and searching, as functions that a child process can be given.

Arguments and results are small and can be pickled: pictures and fingerprints travel as the bytes that the
index stores.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from attrs import evolve, frozen

from dedup2d.engine.candidates import Candidate, Candidates
from dedup2d.engine.clean import Picture, decode_ink
from dedup2d.engine.diff import diff
from dedup2d.engine.entities import compare_entities
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint, fingerprint, fingerprint_ink
from dedup2d.engine.geometry import inverted
from dedup2d.engine.layout import Box
from dedup2d.engine.masks import ignored_boxes
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.records import Likeness, SheetRecord
from dedup2d.engine.rivals import Outcome, Rival, contest
from dedup2d.engine.shapes import Shapes, shapes_of
from dedup2d.engine.verify import Evidence, relaid, verify_prepared
from dedup2d.engine.words import boxes_of
from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers import ReadLimits, Sheet, iterate
from dedup2d.types import Area, DiffRegion

__all__ = [
    "Difference",
    "Overlay",
    "compare_likenesses",
    "differences",
    "extract",
    "refingerprint",
    "tell_apart",
    "verify_batch",
]

Ignored = tuple[Area | str, ...]
"""As in `dedup2d.types.SearchParams`."""

Difference = tuple[bytes, tuple[DiffRegion, ...]]
"""A PNG picture and the regions in it."""

_UNMOVED = np.eye(3)
_TOLERANCE = 2.0  # pixels, of sheets that were not verified
_LINES_AGREE = 0.8  # of their length: then they know best how the sheets lie
_LIKE = 0.5  # of the ink: sheets that agree less are no candidates for a closer look


@frozen
class Overlay:
    """
    A sheet, and how the query lies on it; see `Evidence`. No evidence: it lies as it is.

    `side` is the long side in pixels of the raster that its millimetres per pixel are of.
    """

    sheet: Likeness
    evidence: Evidence | None
    side: int


def extract(path: str, name: str, limits: ReadLimits, first: int | None = None) -> tuple[SheetRecord, ...]:
    """
    Read the file at *path*, called *name*, one sheet at a time; return what the index keeps of each.

    Only the *first* sheets are read if that is given.

    Raises:
        EmptyFileError, FileTooLargeError, UnsupportedFormatError, UnreadableDrawingError,
        ImageTooLargeError: as `dedup2d.readers.read`.
    """
    return tuple(_record(sheet, name) for sheet in islice(iterate(Path(path), name, limits), first))


def _record(sheet: Sheet, name: str) -> SheetRecord:
    try:
        made, ink = fingerprint(sheet.raster)
    except (ValueError, cv2.error) as error:
        raise UnreadableDrawingError(name, f"sheet {sheet.page} is no picture ({error})") from error
    height, width = sheet.raster.shape
    return SheetRecord(
        page=sheet.page,
        sheet=sheet.name,
        format=sheet.format,
        width=width,
        height=height,
        fingerprint_version=FINGERPRINT_VERSION,
        fingerprint=made.to_bytes(),
        ink=ink,
        warnings=sheet.warnings,
        mm_per_pixel=sheet.mm_per_pixel,
        shapes=shapes_of(sheet).to_bytes() if sheet.entities or sheet.texts else b"",
    )


def refingerprint(inks: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
    """Return new fingerprints of ink pictures, None for one that is damaged."""
    return tuple(_refingerprint(ink) for ink in inks)


def _refingerprint(ink: bytes) -> bytes | None:
    try:
        return fingerprint_ink(decode_ink(ink)).to_bytes()
    except (ValueError, cv2.error):
        return None


def verify_batch(
    query: Likeness,
    others: tuple[Likeness, ...],
    ignore: Ignored = (),
    placements: tuple[tuple[float, ...] | None, ...] | None = None,
) -> tuple[Evidence | None, ...]:
    """
    Verify *query* against *others*; None where there is no ink or the stored data are damaged.

    *placements* say how the search saw the query on each of them, see `Candidate.placement`.
    """
    prepared, shapes = _prepared_query(query), _shapes(query)
    masks = _masks(prepared.fingerprint, prepared.ink, ignore)
    seen = placements or (None,) * len(others)
    return tuple(
        _verified(prepared, shapes, other, masks, placement)
        for other, placement in zip(others, seen, strict=True)
    )


def tell_apart(
    query: Likeness, rivals: tuple[tuple[Likeness, tuple[float, ...] | None], ...], ignore: Ignored = ()
) -> Outcome:
    """
    Tell which of *rivals* the *query* shows, see `dedup2d.engine.rivals.contest`.

    With each comes how the query lies on it (`Evidence.matrix`), None if as it is. The first is taken where
    stored data are damaged.
    """
    try:
        prepared = _prepared_query(query)
        masks = _masks(prepared.fingerprint, prepared.ink, ignore)
        others = [
            Rival(_prepared(one), _UNMOVED if matrix is None else np.array(matrix, np.float64).reshape(3, 3))
            for one, matrix in rivals
        ]
        return contest(prepared, others, masks)
    except (ValueError, cv2.error, np.linalg.LinAlgError):
        return Outcome(0, (0.0,) * len(rivals), (False,) * len(rivals))


def _masks(fingerprint: Fingerprint, ink: Picture, ignore: Ignored) -> tuple[Box, ...]:
    return ignored_boxes(ignore, (ink.shape[1], ink.shape[0]), fingerprint.layout)


@lru_cache(maxsize=1)
def _prepared_query(sheet: Likeness) -> Prepared:
    """As `_prepared`, kept until another search comes: one search asks a child several times."""
    return _prepared(sheet)


def _prepared(sheet: Likeness) -> Prepared:
    return Prepared(Fingerprint.from_bytes(sheet.fingerprint), decode_ink(sheet.ink))


def _shapes(sheet: Likeness) -> Shapes | None:
    """Vector primitives; None where the sheet has none that can be read."""
    try:
        return Shapes.from_bytes(sheet.shapes) if sheet.shapes else None
    except ValueError:
        return None


def _verified(
    query: Prepared,
    shapes: Shapes | None,
    other: Likeness,
    masks: tuple[Box, ...],
    placement: tuple[float, ...] | None,
) -> Evidence | None:
    seen = None if placement is None else np.array(placement, np.float64).reshape(3, 3)
    try:
        prepared = _prepared(other)
        evidence = verify_prepared(query, prepared, seen, ignore=masks)
    except (ValueError, cv2.error, np.linalg.LinAlgError):
        return None
    if evidence is None or evidence.rough or min(evidence.query.agreed, evidence.other.agreed) < _LIKE:
        return evidence
    its = _shapes(other) if shapes else None
    if shapes is None or its is None:
        return evidence
    entities = compare_entities(shapes, its, evidence.placement, ignore=masks)
    if entities is not None and min(entities.lines_query, entities.lines_other) >= _LINES_AGREE:
        evidence = relaid(evidence, query, prepared, entities.placement, ignore=masks)
    return evolve(evidence, entities=entities)


def differences(
    query: Likeness, others: tuple[Overlay, ...], ignore: Ignored = ()
) -> tuple[Difference | None, ...]:
    """Return what the query changed against each of *others*, None where stored data are damaged."""
    return tuple(_difference(query, other, ignore) for other in others)


def _difference(query: Likeness, other: Overlay, ignore: Ignored) -> Difference | None:
    evidence = other.evidence
    try:
        own, its = decode_ink(query.ink), decode_ink(other.sheet.ink)
        prints = Fingerprint.from_bytes(query.fingerprint), Fingerprint.from_bytes(other.sheet.fingerprint)
        return diff(
            own,
            its,
            _UNMOVED if evidence is None else evidence.placement,
            tolerance=_TOLERANCE if evidence is None else evidence.tolerance,
            ignore=_masks(prints[0], own, ignore) + _same_words(query, other),
            layouts=(prints[0].layout, prints[1].layout),
            mm_per_pixel=_mm_per_ink_pixel(other, its),
            redrawn=() if evidence is None else evidence.redrawn.on_other(evidence.placement),
        )
    except (ValueError, cv2.error):
        return None


def _same_words(query: Likeness, other: Overlay) -> tuple[Box, ...]:
    """Where on the query both sheets write the same, in whatever font: if nothing at all differs."""
    entities = None if other.evidence is None else other.evidence.entities
    if other.evidence is None or entities is None or entities.changes or not entities.decides:
        return ()
    own, its = _shapes(query), _shapes(other.sheet)
    if own is None or its is None or not entities.texts_same:
        return ()
    back = inverted(other.evidence.placement)
    return (*boxes_of(own.words, _UNMOVED), *boxes_of(its.words, back))


def _mm_per_ink_pixel(other: Overlay, ink: Picture) -> float | None:
    raster = other.sheet.mm_per_pixel
    return None if raster is None else raster * other.side / max(ink.shape)


def compare_likenesses(
    query: Likeness, other: Likeness, side: int, ignore: Ignored = ()
) -> tuple[Candidate, Evidence | None, Difference | None]:
    """Run every level on one pair; the difference is seen from *other*, read from a raster *side* long."""
    finder = Candidates()
    finder.add(0, Fingerprint.from_bytes(other.fingerprint))
    found = finder.query(Fingerprint.from_bytes(query.fingerprint), limit=1)
    (evidence,) = verify_batch(query, (other,), ignore)
    difference = _difference(query, Overlay(other, evidence, side), ignore) if evidence else None
    return (found[0] if found else Candidate(key=0)), evidence, difference
