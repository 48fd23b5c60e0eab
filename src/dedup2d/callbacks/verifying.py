"""For receivers: is this callback genuine? Needs nothing but the standard library and attrs."""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from dedup2d.callbacks.signing import (
    DEDUP_SIGNATURE,
    STANDARD_ID,
    STANDARD_SIGNATURE,
    STANDARD_TIMESTAMP,
    dedup_digest,
    standard_digest,
)
from dedup2d.errors import CallbackNotGenuineError

__all__ = ["Verified", "verify"]

_JOB_ID = "X-Dedup-Job-Id"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MOST_SIGNATURES = 32
_LONGEST_HEADER = 8192


@frozen(kw_only=True)
class Verified:
    """
    A callback that is genuine.

    `message_id` is the same whenever the same news is sent again: a receiver that has seen it is done (None
    where only dedup v1 signed, which does not cover it: take `job_id`). `timestamp` is the Unix time of this
    attempt. `payload` is the body: `job_id`, `tenant_id`, `status`, `started_at`, `finished_at`, `result`,
    `error`, `error_code`.
    """

    job_id: str
    timestamp: int
    message_id: str | None
    payload: Mapping[str, Any] = field(repr=False)


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: str | Iterable[str],
    *,
    now: float | None = None,
    tolerance_seconds: float = 300.0,
) -> Verified:
    """
    Return what a callback says if one of *secrets* has signed it lately, by either scheme.

    Args:
        headers: those of the request, in any case.
        body: the bytes as they came, not JSON that was read and written again.
        secrets: those it may be signed with, the old and the new one while they are changed.
        now: the Unix time; None takes this machine's.
        tolerance_seconds: how old, or how far ahead of this machine's clock, it may be.

    Raises:
        CallbackNotGenuineError: it is not signed, not by these secrets, altered, or too old.
    """
    # Bytes that are no text come as lone surrogates from some servers; what replaces them is never genuine.
    given = {name.lower(): value.encode(errors="replace").decode() for name, value in headers.items()}
    known = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    if not known or not all(known):
        raise CallbackNotGenuineError("no secret was given to verify it with")
    if STANDARD_SIGNATURE in given:
        message_id, timestamp = _standard(given, body, known)
    elif DEDUP_SIGNATURE.lower() in given:
        message_id, timestamp = None, _dedup(given, body, known)
    else:
        raise CallbackNotGenuineError("it has no signature")
    if abs((time.time() if now is None else now) - timestamp) > tolerance_seconds:
        raise CallbackNotGenuineError("its timestamp is too far from this machine's time")
    payload = _payload(body)
    return Verified(job_id=payload["job_id"], timestamp=timestamp, message_id=message_id, payload=payload)


def _standard(given: Mapping[str, str], body: bytes, secrets: tuple[str, ...]) -> tuple[str, int]:
    message_id, timestamp = given.get(STANDARD_ID, ""), _timestamp(given.get(STANDARD_TIMESTAMP, ""))
    found = [
        signature
        for version, _, signature in (part.partition(",") for part in _parts(given[STANDARD_SIGNATURE], " "))
        if version == "v1"
    ]
    wanted = [
        standard_digest(secret, message_id=message_id, body=body, timestamp=timestamp) for secret in secrets
    ]
    _match(found, wanted)
    return message_id, timestamp


def _dedup(given: Mapping[str, str], body: bytes, secrets: tuple[str, ...]) -> int:
    parts = [part.partition("=") for part in _parts(given[DEDUP_SIGNATURE.lower()], ",")]
    timestamp = _timestamp(next((value for name, _, value in parts if name == "t"), ""))
    job_id = given.get(_JOB_ID.lower(), "")
    found = [value for name, _, value in parts if name == "v1"]
    _match(found, [dedup_digest(secret, job_id=job_id, body=body, timestamp=timestamp) for secret in secrets])
    return timestamp


def _parts(header: str, separator: str) -> list[str]:
    if len(header) > _LONGEST_HEADER:
        raise CallbackNotGenuineError("its signature header is too long")
    return [part.strip() for part in header.split(separator)][:_MOST_SIGNATURES]


def _timestamp(text: str) -> int:
    if not _TIMESTAMP.fullmatch(text):
        raise CallbackNotGenuineError("its timestamp is missing or not a whole number")
    return int(text)


def _match(found: Iterable[str], wanted: list[str]) -> None:
    """Compare each signature with each that is right, in a time that does not tell where they differ."""
    same = [hmac.compare_digest(one.encode(), other.encode()) for one in found for other in wanted]
    if not any(same):
        raise CallbackNotGenuineError("no signature fits its body and one of the secrets")


def _payload(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict) or not isinstance(payload.get("job_id"), str):
        raise CallbackNotGenuineError("its body is not that of a callback of dedup2d")
    return payload
