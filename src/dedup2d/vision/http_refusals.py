"""What the statuses and problems of a vision server mean to callers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from attrs import frozen

from dedup2d.errors import (
    Dedup2DError,
    DrawingNotFoundError,
    EmptyFileError,
    FileTooLargeError,
    ImageTooLargeError,
    IndexFullError,
    InvalidParameterError,
    JobTimeoutError,
    MissingExtraError,
    UnreadableDrawingError,
    UnsupportedFormatError,
    VisionRefusedError,
    VisionUnavailableError,
    VisionUnsupportedError,
    shown,
)
from dedup2d.vision.http_circuit import FailureError

try:
    import msgspec
except ImportError:
    raise MissingExtraError("http", "calling a vision server (msgspec)") from None

__all__ = ["Refusal", "refusal"]

_LONGEST_WAIT_SECONDS = 3600.0
_DEFAULT_WAIT_SECONDS = 5.0
_LATER = frozenset({408, 425, 429})


def _parameter(detail: str) -> Dedup2DError:
    return InvalidParameterError.saying(detail, name=detail.partition("=")[0])


def _unreadable(detail: str) -> Dedup2DError:
    return UnreadableDrawingError.saying(detail, reason=detail)


def _too_many_pixels(detail: str) -> Dedup2DError:
    return ImageTooLargeError.saying(detail, reason=detail)


def _too_large(detail: str) -> Dedup2DError:
    return FileTooLargeError.saying(detail, limit=0)


def _index_full(detail: str) -> Dedup2DError:
    return IndexFullError.saying(detail, limit=0)


_KINDS: Mapping[str, Callable[[str], Dedup2DError]] = {
    "DRAWING_NOT_FOUND": DrawingNotFoundError.saying,
    "EMPTY_FILE": EmptyFileError.saying,
    "FILE_TOO_LARGE": _too_large,
    "IMAGE_TOO_LARGE": _too_many_pixels,
    "INDEX_FULL": _index_full,
    "INVALID_PARAMETER": _parameter,
    "JOB_TIMEOUT": JobTimeoutError.saying,
    "UNREADABLE_DRAWING": _unreadable,
    "UNSUPPORTED_FORMAT": UnsupportedFormatError.saying,
}


@frozen(kw_only=True)
class Refusal:
    """
    An answer with another status than 2xx.

    Args:
        status: its status.
        headers: its headers.
        data: the beginning of its body.
        what: what was asked for, as it goes on after "the vision server cannot"; empty if every server can.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes
    what: str


def refusal(found: Refusal) -> FailureError:
    """Return what callers are told, and what follows for retries and circuit."""
    code, detail = _problem(found.data)
    if code in _KINDS and detail:
        return FailureError(_KINDS[code](detail))
    if found.status >= 500 or found.status in _LATER:
        return _may_pass(found, code, detail)
    if found.status in (404, 405) and found.what:
        return FailureError(VisionUnsupportedError(found.what))
    reason = f"{_named(found.status)}{_hint(found.status)}: {detail or 'no reason'}"
    return FailureError(VisionRefusedError(reason))


def _may_pass(found: Refusal, code: str, detail: str) -> FailureError:
    wait = _retry_after(found.headers)
    reason = f"it answers {_named(found.status)}" + (f": {detail}" if code and detail else "")
    error = VisionUnavailableError(reason, _DEFAULT_WAIT_SECONDS if wait is None else wait)
    # Who says when to come again is at work and knows what it does: it only has enough to do.
    failed = found.status >= 500 and not (found.status == 503 and wait is not None)
    return FailureError(error, server_failed=failed, again=True, wait=wait)


def _problem(data: bytes) -> tuple[str, str]:
    """Return code and detail of a problem (RFC 9457), or of what FastAPI makes, as far as they are there."""
    try:
        body: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    if not isinstance(body, dict):
        return "", ""
    code, detail = body.get("code"), body.get("detail")
    text = detail if isinstance(detail, str) else "" if detail is None else repr(detail)
    return code if isinstance(code, str) else "", shown(text, 500)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _hint(status: int) -> str:
    if status in (401, 403):
        return ", see DEDUPCAD_VISION_API_KEY"
    if 300 <= status < 400:
        return ", which is not followed: let DEDUPCAD_VISION_URL name the server itself"
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` (RFC 9110, 10.2.3) asks for: a number, or until a date."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text) if text[0].isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(_LONGEST_WAIT_SECONDS, max(0.0, seconds)) if math.isfinite(seconds) else None
