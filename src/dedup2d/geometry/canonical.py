"""The canonical form of geometry JSON, so that equal geometry has equal bytes and an equal hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from dedup2d.errors import InvalidGeometryError, MissingExtraError
from dedup2d.geometry.model import Geometry

try:
    import msgspec
except ImportError:
    raise MissingExtraError("engine", "geometry of drawings") from None

__all__ = ["canonical_json", "geom_hash", "to_data"]


def to_data(geometry: Geometry) -> dict[str, Any]:
    """Return *geometry* as v2 JSON in Python's own types."""
    data = msgspec.to_builtins(geometry)
    del data["warnings"]
    return dict(data)


def canonical_json(geometry: Geometry | Mapping[str, Any] | bytes) -> bytes:
    """
    Return *geometry* as JSON with sorted keys, no spaces, and numbers rounded to three decimals.

    A number without decimals is written as integer, so that 1, 1.0 and 1.0000001 are one; there is no
    negative zero. JSON as sent keeps what the model does not know.

    Raises:
        InvalidGeometryError: it is not JSON, or has a number that is not finite.
    """
    try:
        if isinstance(geometry, Geometry):
            data: Any = to_data(geometry)
        elif isinstance(geometry, bytes):
            data = msgspec.json.decode(geometry)
        else:
            data = geometry
        return msgspec.json.encode(_rounded(data), order="deterministic")
    except InvalidGeometryError:
        raise
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidGeometryError("the document", f"is not JSON ({error})") from error


def geom_hash(geometry: Geometry | Mapping[str, Any] | bytes) -> str:
    """Return the sha256 of the canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical_json(geometry)).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        rounded = round(value, 3)
        if rounded - rounded != 0:
            raise InvalidGeometryError("the document", f"has the number {value}", "send finite numbers only")
        return int(rounded) if rounded == int(rounded) else rounded
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
