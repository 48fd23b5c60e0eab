"""Request headers that steer an answer: `Prefer`, `If-None-Match`, `Idempotency-Key`."""

from __future__ import annotations

import hashlib

from attrs import frozen
from starlette.datastructures import Headers

from dedup2d.errors import InvalidParameterError

__all__ = ["MAX_WAIT_SECONDS", "Preferences", "etag_of", "idempotency_key", "matches_etag", "preferences"]

MAX_WAIT_SECONDS = 60


@frozen
class Preferences:
    """What a `Prefer` header asks for (RFC 7240); unknown preferences are left out, as it demands."""

    respond_async: bool = False
    wait: int | None = None


def preferences(headers: Headers) -> Preferences:
    """Read `respond-async` and `wait=N`; the first of a kind counts, and N is cut to `MAX_WAIT_SECONDS`."""
    found: dict[str, str] = {}
    for part in ",".join(headers.getlist("prefer")).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return Preferences("respond-async" in found, _wait(found.get("wait")))


def _wait(value: str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdecimal()):
        return None
    return MAX_WAIT_SECONDS if len(value) > 4 else min(int(value), MAX_WAIT_SECONDS)


def idempotency_key(headers: Headers) -> str | None:
    """
    Return the `Idempotency-Key`, if there is one.

    Raises:
        InvalidParameterError: it is empty, longer than 255, not printable ASCII, or given twice.
    """
    keys = headers.getlist("idempotency-key")
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 1 <= len(key) <= 255 or not (key.isascii() and key.isprintable()):
        raise InvalidParameterError(
            "Idempotency-Key", ", ".join(keys), "one of 1 to 255 printable ASCII characters"
        )
    return key


def etag_of(body: bytes) -> str:
    """Return a strong entity tag for *body*."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches_etag(headers: Headers, etag: str) -> bool:
    """Whether `If-None-Match` names *etag* (weak comparison, as RFC 9110 has it for reading)."""
    given = ",".join(headers.getlist("if-none-match"))
    tags = (tag.strip().removeprefix("W/") for tag in given.split(","))
    return any(tag in ("*", etag) for tag in tags)
