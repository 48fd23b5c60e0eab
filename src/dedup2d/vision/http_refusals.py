"""What the statuses and problems of a vision server mean to callers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus

from attrs import frozen

from dedup2d.errors import VisionRefusedError, VisionUnavailableError, VisionUnsupportedError, shown
from dedup2d.problems import error_saying, problem_of
from dedup2d.retry_after import seconds_to_wait
from dedup2d.vision.http_circuit import FailureError

__all__ = ["Refusal", "refusal"]

_LONGEST_WAIT_SECONDS = 3600.0
_DEFAULT_WAIT_SECONDS = 5.0
_LATER = frozenset({408, 425, 429})


_PASSED_ON = frozenset(
    {
        "DRAWING_NOT_FOUND",
        "EMPTY_FILE",
        "FILE_TOO_LARGE",
        "IMAGE_TOO_LARGE",
        "INDEX_FULL",
        "INVALID_PARAMETER",
        "JOB_TIMEOUT",
        "UNREADABLE_DRAWING",
        "UNSUPPORTED_FORMAT",
    }
)
"""Codes that mean to our callers what they mean here: of the file and the request, not of that server."""


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
    if code in _PASSED_ON and detail and (error := error_saying(code, detail)):
        return FailureError(error)
    if found.status >= 500 or found.status in _LATER:
        return _may_pass(found, code, detail)
    if found.status in (404, 405) and found.what:
        return FailureError(VisionUnsupportedError(found.what))
    reason = f"{_named(found.status)}{_hint(found.status)}: {detail or 'no reason'}"
    return FailureError(VisionRefusedError(reason))


def _may_pass(found: Refusal, code: str, detail: str) -> FailureError:
    header = found.headers.get("Retry-After")
    wait = seconds_to_wait(header, now=time.time(), longest=_LONGEST_WAIT_SECONDS)
    reason = f"it answers {_named(found.status)}" + (f": {detail}" if code and detail else "")
    error = VisionUnavailableError(reason, _DEFAULT_WAIT_SECONDS if wait is None else wait)
    # Who says when to come again is at work and knows what it does: it only has enough to do.
    failed = found.status >= 500 and not (found.status == 503 and wait is not None)
    return FailureError(error, server_failed=failed, again=True, wait=wait)


def _problem(data: bytes) -> tuple[str, str]:
    """Return code and detail of a problem (RFC 9457), or of what FastAPI makes, as far as they are there."""
    body = problem_of(data)
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
