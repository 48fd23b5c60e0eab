"""What the problems of a service (RFC 9457) are to its client: the errors that the library itself raises."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from dedup2d.errors import Dedup2DError, MissingExtraError, ServiceError, shown

try:
    import msgspec
except ImportError:
    raise MissingExtraError("client", "a client of a service (msgspec)") from None

__all__ = ["error_of", "error_of_code", "retry_after"]

_LONGEST_WAIT_SECONDS = 3600.0


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> Dedup2DError:
    """Return the error that an answer with *status* of 300 or more stands for."""
    problem = _problem(body)
    code, detail = str(problem.get("code", "")), shown(str(problem.get("detail", "")), 1000)
    error = error_of_code(code, detail or f"the service answers {status} without saying why", status=status)
    wait = retry_after(headers)
    if wait is not None:
        error.__dict__.update(retry_after=wait, asked_to_wait=wait)
    error.__dict__["status"] = status
    error.__dict__["request_id"] = shown(str(problem.get("request_id") or headers.get("X-Request-Id", "")))
    return error


def error_of_code(code: str, detail: str, *, status: int = 0) -> Dedup2DError:
    """Return the library's error of *code*, also that of a failed job, saying *detail*."""
    kind = _KINDS.get(code)
    if kind is None:
        return ServiceError(f"{code}: {detail}" if code else detail, problem_code=code, status=status)
    # What the library's own errors carry besides, as far as the text tells it.
    told = {"name": detail.partition("=")[0], "reason": detail, "limit": 0, "retry_after": 5.0}
    return kind.saying(detail, **told)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` (RFC 9110, 10.2.3) asks for: a number, or until a date."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text) if text[0].isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(_LONGEST_WAIT_SECONDS, max(0.0, seconds)) if math.isfinite(seconds) else None


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_code(kind: type[Dedup2DError]) -> Iterator[tuple[str, type[Dedup2DError]]]:
    for each in kind.__subclasses__():
        if each.code != Dedup2DError.code and each.__module__ == Dedup2DError.__module__:
            yield each.code, each
        yield from _with_code(each)


_KINDS = dict(_with_code(Dedup2DError))
