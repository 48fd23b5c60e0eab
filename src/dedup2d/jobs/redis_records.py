"""
Jobs as a Redis keeps them: a hash of what changes, a JSON text of what was asked for, one of the result.

The hash has a field for every value of a `Job` that is not None; fields that begin with `_` are the
store's own. Fields that are not known are passed over and missing ones have their default, so
records of other versions can be read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from enum import Enum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from attrs import evolve, fields_dict

from dedup2d.codec import from_data, from_json, to_json
from dedup2d.errors import UnreadableRecordError
from dedup2d.types import Job, SearchResult

__all__ = ["digest", "encoded", "hash_fields", "payload", "read_job"]

_ASKED = ("file_key", "file_name", "file_hash", "file_size")
"""What a job is about; with everything that is not a plain value it makes the payload."""

Reply = Sequence[Any]
"""What a script gives for a job: its id, JSON of its hash, payload, result."""


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def _plain(hint: Any) -> Callable[[str], Any] | None:
    """Return how a value of the type is read from text; None if it is not a plain value."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    kind = kinds[0] if get_origin(hint) is UnionType and len(kinds) == 1 else hint
    if kind in (int, float):
        return kind  # type: ignore[no-any-return]  # int or float
    if kind is bool:
        return _flag
    return str if isinstance(kind, type) and issubclass(kind, str) else None


_READERS = {
    name: reader
    for name, hint in get_type_hints(Job).items()
    if name in fields_dict(Job) and name not in (*_ASKED, "job_id") and (reader := _plain(hint))
}
_PAYLOAD = tuple(name for name in fields_dict(Job) if name not in (*_READERS, "job_id", "result"))


def hash_fields(job: Job) -> list[bytes]:
    """
    Return the fields and values of the hash of *job*, one after the other.

    Raises:
        UnreadableRecordError: a value could not be read back.
    """
    pairs: list[bytes] = []
    for name in _READERS:
        value = getattr(job, name)
        if value is not None:
            pairs += (name.encode(), encoded(value))
    return pairs


def encoded(value: str | float) -> bytes:
    """
    Return one value as the text of a field.

    Raises:
        UnreadableRecordError: it could not be read back.
    """
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, float) and not math.isfinite(value):
        raise UnreadableRecordError("Job", f"{value} is not a finite number")
    text = value.value if isinstance(value, Enum) else value if isinstance(value, str) else repr(value)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnreadableRecordError("Job", str(error)) from error


def payload(job: Job) -> bytes:
    """Return the JSON of what *job* asks for."""
    return to_json({name: getattr(job, name) for name in _PAYLOAD})


def digest(*parts: str | bytes) -> str:
    """Return a text of fixed length that stands for *parts*, which may be anything."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


def read_job(reply: Reply) -> Job:
    """
    Return the job that a script gave.

    Raises:
        UnreadableRecordError: it is damaged, or says what this version does not know.
    """
    job_id, fields, asked, result = (*reply, None)[:4]
    stored, wanted = from_json(fields, dict[str, str]), from_json(asked, dict[str, Any])
    try:
        data = {name: read(stored[name]) for name, read in _READERS.items() if name in stored}
        data |= {name: value for name, value in wanted.items() if name in _PAYLOAD}
        data["job_id"] = job_id.decode()
    except (ValueError, KeyError) as error:
        raise UnreadableRecordError("Job", repr(error)) from error
    job = from_data(data, Job)
    return job if result is None else evolve(job, result=from_json(result, SearchResult))
