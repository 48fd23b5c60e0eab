"""What the problems of a service (RFC 9457) are to its client: the errors that the library itself raises."""

from __future__ import annotations

import time
from collections.abc import Mapping

from dedup2d.errors import Dedup2DError, MissingExtraError, ServiceError, shown
from dedup2d.retry_after import seconds_to_wait

try:
    from dedup2d.problems import error_saying, problem_of
except ImportError:
    raise MissingExtraError("client", "a client of a service (msgspec)") from None

__all__ = ["error_of", "error_of_code"]

_LONGEST_WAIT_SECONDS = 3600.0


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> Dedup2DError:
    """Return the error that an answer with *status* of 300 or more stands for."""
    problem = problem_of(body)
    code, detail = str(problem.get("code", "")), shown(str(problem.get("detail", "")), 1000)
    error = error_of_code(code, detail or f"the service answers {status} without saying why", status=status)
    wait = seconds_to_wait(headers.get("Retry-After"), now=time.time(), longest=_LONGEST_WAIT_SECONDS)
    if wait is not None:
        error.__dict__.update(retry_after=wait, asked_to_wait=wait)
    error.__dict__["status"] = status
    error.__dict__["request_id"] = shown(str(problem.get("request_id") or headers.get("X-Request-Id", "")))
    return error


def error_of_code(code: str, detail: str, *, status: int = 0) -> Dedup2DError:
    """Return the library's error of *code*, also that of a failed job, saying *detail*."""
    if (known := error_saying(code, detail)) is not None:
        return known
    return ServiceError(f"{code}: {detail}" if code else detail, problem_code=code, status=status)
