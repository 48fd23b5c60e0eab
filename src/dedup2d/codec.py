"""
JSON of the domain types, for records in stores and for the wire.

Reading ignores fields it does not know and gives the default to fields that are missing, so
records of other versions can be read. Needs msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from dedup2d.errors import MissingExtraError, UnreadableRecordError

try:
    import msgspec
except ImportError:
    raise MissingExtraError("engine", "reading and writing JSON (msgspec)") from None

__all__ = ["from_data", "from_json", "to_json"]

T = TypeVar("T")


def to_json(value: Any) -> bytes:
    """
    Return *value* as JSON that `from_json` reads back to an equal value.

    Raises:
        UnreadableRecordError: it cannot be read back: it has a number that is not finite, a
            text with half a surrogate pair, or a type that is not one of ours.
    """
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        raise UnreadableRecordError(type(value).__name__, str(error)) from error
    if attrs.has(type(value)):
        # msgspec writes NaN and infinity as null, which would be noticed by the reader only.
        from_json(data, type(value))
    return data


def from_json(data: bytes | str, as_type: type[T]) -> T:
    """
    Return the value of *as_type* that *data* holds.

    Raises:
        UnreadableRecordError: *data* is not JSON, or not of this type.
    """
    try:
        return msgspec.json.decode(data, type=as_type)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecordError(as_type.__name__, str(error)) from error


def from_data(data: Mapping[str, Any], as_type: type[T]) -> T:
    """
    Return the value of *as_type* whose fields *data* holds, as `json.loads` gives them.

    Raises:
        UnreadableRecordError: *data* is not of this type.
    """
    try:
        return msgspec.convert(data, type=as_type)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecordError(as_type.__name__, str(error)) from error
