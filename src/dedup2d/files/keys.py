"""What is a key of a file store."""

from __future__ import annotations

import re

from dedup2d.errors import InvalidParameterError

__all__ = ["check_key", "is_key"]

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}")


def is_key(key: str) -> bool:
    """Say whether *key* is one by the words of `dedup2d.protocols.FileStore`."""
    return len(key) <= 512 and _KEY.fullmatch(key) is not None


def check_key(key: str) -> None:
    """
    Check that *key* is one.

    Raises:
        InvalidParameterError: it is not.
    """
    if not is_key(key):
        raise InvalidParameterError(
            "key",
            key,
            "one to eight segments of A-Z a-z 0-9 . _ - joined by /, none starting with a dot"
            " or longer than 200 characters, at most 512 characters in all",
        )
