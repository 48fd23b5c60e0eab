"""
What a vision server answers, read strictly into our types: all of what the contract demands, or an error.

Fields that are not known are passed over. What only our own server says (`relation`, `transform`, `page`, and
others) may be missing; a `relation` is then the most that can be said of a match without it.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from attrs import evolve

from dedup2d.errors import MissingExtraError, VisionBadResponseError, VisionRefusedError, shown
from dedup2d.types import (
    AddResult,
    Comparison,
    DiffRegion,
    DrawingFile,
    Health,
    LevelScore,
    Match,
    RebuildResult,
    Relation,
    SearchResult,
    Timing,
    Transform,
    Verdict,
)

try:
    import msgspec
except ImportError:
    raise MissingExtraError("http", "calling a vision server (msgspec)") from None

__all__ = [
    "read_added",
    "read_as",
    "read_comparison",
    "read_health",
    "read_picture",
    "read_rebuilt",
    "read_result",
]

T = TypeVar("T")

_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURES = (_PNG, b"\xff\xd8\xff")
_LONGEST_ID = 500
_LONGEST_NAME = 500
_LONGEST_PATH = 4096
_LONGEST_REASON = 500
_ROUNDING = 1e-6
_MOST_DETAILS = 32
_HEALTHY = frozenset({"healthy", "ok", "up", "pass", "ready", "alive"})
_DEGRADED = frozenset({"degraded", "warn", "warning"})
_IGNORED_NOT = "the vision server does not know ignore: nothing was left out of the comparison"
_UNKNOWN_REGIONS = "the vision server gives difference regions in a form that is not known here: left out"


_REGION_NUMBERS = ("shift_x", "shift_y", "x_mm", "y_mm", "width_mm", "height_mm")


class _Match(msgspec.Struct):
    drawing_id: str | int
    file_hash: str
    file_name: str
    similarity: float
    confidence: float
    match_level: int
    verdict: str
    levels: dict[str, Any]
    relation: str | None = None
    page: int = 1
    query_page: int = 1
    source: str | None = None
    reason: str = ""
    thresholds: dict[str, Any] = {}
    changed_area: float | None = None
    transform: Transform | None = None
    diff_image_base64: str | None = None
    diff_regions: list[Any] | None = None


class _Result(msgspec.Struct):
    success: bool
    total_matches: int
    duplicates: list[_Match]
    similar: list[_Match]
    final_level: int
    timing: Timing
    level_stats: dict[str, Any]
    warnings: list[str]
    error: Any = None
    file_hash: str = ""
    pages: int = 1
    ignored: list[str] | None = None


class _Ignored(msgspec.Struct):
    ignored: list[str] | None = None


class _Added(msgspec.Struct):
    success: bool
    drawing_id: str | int | None
    file_hash: str
    message: str
    processing_time_ms: float
    s3_key: str | None = None
    drawing_ids: list[str] | None = None
    added: bool = True
    warnings: list[str] = []


class _Rebuilt(msgspec.Struct):
    success: bool
    message: str
    drawings: int = 0


def read_as(data: bytes, kind: type[T]) -> T:
    """
    Return the value of *kind* that *data* holds as JSON.

    Raises:
        VisionBadResponseError: it does not.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise VisionBadResponseError(str(error)) from None


def read_comparison(data: bytes, ignore: Sequence[object] = ()) -> Comparison:
    """
    Return the result of a comparison that was to *ignore* something.

    Raises:
        VisionBadResponseError: it is none.
    """
    found = read_as(data, Comparison)
    warnings = _not_ignored(read_as(data, _Ignored).ignored, ignore)
    return evolve(found, warnings=(*found.warnings, *warnings))


def read_result(data: bytes, file: DrawingFile, ignore: Sequence[object] = ()) -> SearchResult:
    """
    Return the result of the search for *file* that was to *ignore* something.

    Raises:
        VisionBadResponseError: something that the contract demands is missing or wrong.
        VisionRefusedError: the server says that it did not succeed.
    """
    found = read_as(data, _Result)
    if not found.success:
        raise VisionRefusedError(_words(found.error))
    # Of our own server only: another may hash otherwise.
    if len(found.file_hash) == 64 and found.file_hash != file.sha256:
        raise VisionBadResponseError("it is for a file of other bytes than were sent")
    warnings = [*found.warnings, *_not_ignored(found.ignored, ignore)]
    duplicates = tuple(_match(one, Verdict.DUPLICATE, file, warnings) for one in found.duplicates)
    similar = tuple(_match(one, Verdict.SIMILAR, file, warnings) for one in found.similar)
    return SearchResult(
        total_matches=len(duplicates) + len(similar),
        duplicates=duplicates,
        similar=similar,
        final_level=found.final_level,
        timing=found.timing,
        level_stats={name: _looked_at(value) for name, value in found.level_stats.items()},
        warnings=tuple(dict.fromkeys(warnings)),
        file_hash=file.sha256,
        pages=found.pages,
    )


def _not_ignored(done: list[str] | None, asked: Sequence[object]) -> list[str]:
    """Return the warning that the server did not leave out what it was asked to, if so."""
    return [_IGNORED_NOT] if asked and done != [str(one) for one in asked] else []


def read_added(data: bytes) -> AddResult:
    """
    Return what adding did.

    Raises: as `read_result`.
    """
    found = read_as(data, _Added)
    if not found.success:
        raise VisionRefusedError(_words(found.message))
    drawing_id = "" if found.drawing_id is None else str(found.drawing_id)
    ids = tuple(found.drawing_ids or ()) or ((drawing_id,) if drawing_id else ())
    return AddResult(
        drawing_id=drawing_id,
        file_hash=found.file_hash,
        drawing_ids=ids,
        added=found.added,
        message=found.message,
        processing_time_ms=found.processing_time_ms,
        warnings=tuple(found.warnings),
        s3_key=found.s3_key,
    )


def read_rebuilt(data: bytes) -> RebuildResult:
    """
    Return what rebuilding did.

    Raises: as `read_result`.
    """
    found = read_as(data, _Rebuilt)
    if not found.success:
        raise VisionRefusedError(_words(found.message))
    return RebuildResult(message=found.message, drawings=found.drawings)


def read_health(data: bytes) -> Health:
    """
    Return the health, with what else the server says that is plain.

    Raises:
        VisionBadResponseError: it is no JSON object with a text `status`.
    """
    found = read_as(data, dict[str, Any])
    status = found.pop("status", None)
    if not isinstance(status, str):
        raise VisionBadResponseError("Object missing required field `status`")
    word = status.lower()
    known = "healthy" if word in _HEALTHY else "degraded" if word in _DEGRADED else "unhealthy"
    plain = {shown(key): _plain(value) for key, value in list(found.items())[:_MOST_DETAILS]}
    return Health(status=known, details={key: value for key, value in plain.items() if value is not None})


def read_picture(data: bytes) -> bytes:
    """
    Return the PNG picture.

    Raises:
        VisionBadResponseError: it is none.
    """
    if not data.startswith(_PNG):
        raise VisionBadResponseError("it is not a PNG picture")
    return data


def _match(found: _Match, verdict: Verdict, file: DrawingFile, warnings: list[str]) -> Match:
    regions = _regions(found.diff_regions or ())
    if regions is None:
        warnings.append(_UNKNOWN_REGIONS)
    return Match(
        drawing_id=_id(found.drawing_id),
        file_hash=shown(found.file_hash, _LONGEST_ID),
        file_name=shown(found.file_name, _LONGEST_NAME),
        similarity=_share("similarity", found.similarity),
        confidence=_share("confidence", found.confidence),
        match_level=found.match_level,
        verdict=verdict,
        relation=_relation(found, verdict, file),
        page=found.page,
        query_page=found.query_page,
        source=None if found.source is None else shown(found.source, _LONGEST_PATH),
        levels=_levels(found.levels),
        transform=found.transform,
        diff_image_base64=_picture(found.diff_image_base64),
        diff_regions=regions or (),
        reason=shown(found.reason, _LONGEST_REASON),
        thresholds={name: float(value) for name, value in found.thresholds.items() if _is_number(value)},
        changed_area=None if found.changed_area is None else _share("changed_area", found.changed_area),
    )


def _id(given: str | int) -> str:
    """Return an id that can be shown, and asked for."""
    found = str(given)
    if not (0 < len(found) <= _LONGEST_ID and found.isprintable()):
        raise VisionBadResponseError(
            f"drawing_id {shown(found)} is not 1 to {_LONGEST_ID} characters that can be printed"
        )
    return found


def _relation(found: _Match, verdict: Verdict, file: DrawingFile) -> Relation:
    try:
        return Relation(found.relation or "")
    except ValueError:
        if found.file_hash == file.sha256:
            return Relation.EXACT
        return Relation.IDENTICAL if verdict is Verdict.DUPLICATE else Relation.SIMILAR


def _share(name: str, value: float) -> float:
    if not -_ROUNDING <= value <= 1 + _ROUNDING:
        raise VisionBadResponseError(f"{name} {value:g} is not between 0 and 1")
    return min(1.0, max(0.0, value))


def _levels(found: Mapping[str, Any]) -> dict[str, LevelScore]:
    """Return the evidence, as far as it is numbers under the name of a level."""
    levels = {}
    for name, value in found.items():
        details = dict(value) if isinstance(value, dict) else {"score": value}
        details.update(details.pop("details", None) or {} if isinstance(details.get("details"), dict) else {})
        numbers = {key: float(one) for key, one in details.items() if _is_number(one)}
        score = numbers.pop("score", numbers.pop("similarity", None))
        if score is not None:
            levels[name] = LevelScore(score=score, details=numbers)
    return levels


def _regions(found: Any) -> tuple[DiffRegion, ...] | None:
    """Return the regions, None if they are in another form than the contract of our own server."""
    try:
        return tuple(
            DiffRegion(
                x=int(one["x"]),
                y=int(one["y"]),
                width=int(one["width"]),
                height=int(one["height"]),
                area=int(one.get("area", one["width"] * one["height"])),
                change=one.get("change", "changed"),
                place=one.get("place", "sheet"),
                **{name: None if one.get(name) is None else float(one[name]) for name in _REGION_NUMBERS},
            )
            for one in found
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return None


def _picture(text: str | None) -> str | None:
    if not text:
        return None
    plain = text.partition(",")[2] if text.startswith("data:") else text
    try:
        binascii.a2b_base64(plain, strict_mode=True)
    except ValueError:
        raise VisionBadResponseError("diff_image_base64 is not base64") from None
    if not binascii.a2b_base64(plain[:16]).startswith(_PICTURES):
        raise VisionBadResponseError("diff_image_base64 is neither a PNG nor a JPEG picture")
    return plain


def _looked_at(stats: Any) -> int:
    """Return how many drawings a level looked at: those that passed it and those that it took out."""
    parts = (stats.get("passed"), stats.get("filtered")) if isinstance(stats, dict) else (stats,)
    return int(sum(_number(part) for part in parts))


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value, 200)
    return value if value is None or isinstance(value, int | float) else None


def _words(error: Any) -> str:
    text = error if isinstance(error, str) else "" if error is None else repr(error)
    return text or "it gives no reason"
