"""Problems (RFC 9457) as a server sends them, and the library's errors that their codes stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup2d.errors import Dedup2DError, MissingExtraError

try:
    import msgspec
except ImportError:
    raise MissingExtraError("http", "reading the answers of a server (msgspec)") from None

__all__ = ["error_saying", "problem_of"]

_DEFAULT_WAIT_SECONDS = 5.0


def problem_of(body: bytes) -> dict[str, Any]:
    """Return the problem that *body* holds; empty if it holds none."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def error_saying(code: str, detail: str) -> Dedup2DError | None:
    """Return the library's error of *code*, as of a failed job, saying *detail*; None if it has none."""
    kind = _KINDS.get(code)
    if kind is None:
        return None
    # What the library's own errors carry besides, as far as the text tells it.
    told: dict[str, Any] = {"name": detail.partition("=")[0], "reason": detail, "limit": 0}
    if kind.transient:
        told["retry_after"] = _DEFAULT_WAIT_SECONDS
    return kind.saying(detail, **told)


def _with_code(kind: type[Dedup2DError]) -> Iterator[tuple[str, type[Dedup2DError]]]:
    for each in kind.__subclasses__():
        if each.code != Dedup2DError.code and each.__module__ == Dedup2DError.__module__:
            yield each.code, each
        yield from _with_code(each)


# Of several errors with one code it stands for the most general, which comes first.
_KINDS = dict(reversed(tuple(_with_code(Dedup2DError))))
