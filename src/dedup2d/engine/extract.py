"""
The heavy steps of indexing and searching, as functions that a child process can be given.

Arguments and results are small and can be pickled: pictures travel as PNG, fingerprints as
the bytes that the index stores.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from attrs import field, frozen

from dedup2d.engine.candidates import Candidate, Candidates
from dedup2d.engine.clean import decode_ink
from dedup2d.engine.diff import diff
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint, fingerprint, fingerprint_ink
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.records import Likeness, SheetRecord
from dedup2d.engine.verify import Evidence, verify_prepared
from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers import ReadLimits, Sheet, iterate
from dedup2d.types import DiffRegion

__all__ = [
    "Difference",
    "Overlay",
    "compare_likenesses",
    "differences",
    "extract",
    "refingerprint",
    "verify_batch",
]

Difference = tuple[bytes, tuple[DiffRegion, ...]]
"""A PNG picture and the regions in it."""

_UNMOVED = np.eye(3)


@frozen
class Overlay:
    """An ink picture, and how the query lies on it; see `Evidence`. No evidence: it lies as it is."""

    ink: bytes = field(repr=False)
    evidence: Evidence | None


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
    )


def refingerprint(inks: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
    """Return new fingerprints of ink pictures, None for one that is damaged."""
    return tuple(_refingerprint(ink) for ink in inks)


def _refingerprint(ink: bytes) -> bytes | None:
    try:
        return fingerprint_ink(decode_ink(ink)).to_bytes()
    except (ValueError, cv2.error):
        return None


def verify_batch(query: Likeness, others: tuple[Likeness, ...]) -> tuple[Evidence | None, ...]:
    """Verify *query* against *others*; None where there is no ink or the stored data are damaged."""
    prepared = _prepared(query)
    return tuple(_verified(prepared, other) for other in others)


def _prepared(sheet: Likeness) -> Prepared:
    return Prepared(Fingerprint.from_bytes(sheet.fingerprint), decode_ink(sheet.ink))


def _verified(query: Prepared, other: Likeness) -> Evidence | None:
    try:
        return verify_prepared(query, _prepared(other))
    except (ValueError, cv2.error):
        return None


def differences(query_ink: bytes, others: tuple[Overlay, ...]) -> tuple[Difference | None, ...]:
    """Return what the query changed against each of *others*, None where stored data are damaged."""
    return tuple(_difference(query_ink, other) for other in others)


def _difference(query_ink: bytes, other: Overlay) -> Difference | None:
    try:
        own, its = decode_ink(query_ink), decode_ink(other.ink)
        if other.evidence is None:
            return diff(own, its, _UNMOVED)
        return diff(own, its, other.evidence.placement, tolerance=other.evidence.tolerance)
    except (ValueError, cv2.error):
        return None


def compare_likenesses(
    query: Likeness, other: Likeness
) -> tuple[Candidate, Evidence | None, Difference | None]:
    """Run every level on one pair; the difference is seen from *other*."""
    finder = Candidates()
    finder.add(0, Fingerprint.from_bytes(other.fingerprint))
    found = finder.query(Fingerprint.from_bytes(query.fingerprint), limit=1)
    evidence = _verified(_prepared(query), other)
    difference = _difference(query.ink, Overlay(other.ink, evidence)) if evidence else None
    return (found[0] if found else Candidate(key=0)), evidence, difference
