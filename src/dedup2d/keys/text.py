"""
What a key looks like: `d2d_<id>_<secret>_<checksum>`.

The id names the key in lists and logs. The checksum lets a mistyped key be refused without a look into any
store, and lets scanners of leaked secrets tell a key from noise (as GitHub's tokens do, "Behind GitHub's new
authentication token formats", 2021).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from zlib import crc32

from attrs import field, frozen

__all__ = ["KEY_PATTERN", "NewKey", "id_of", "make_key", "read_key"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _SUM_LENGTH = 10, 32, 6

KEY_PATTERN = rf"d2d_[0-9a-z]{{{_ID_LENGTH}}}_[0-9A-Za-z]{{{_SECRET_LENGTH}}}_[0-9A-Za-z]{{{_SUM_LENGTH}}}"
"""Regular expression of a key, for scanners of secrets; 190 of its bits are random."""

_KEY = re.compile(KEY_PATTERN)
_ID = re.compile(rf"(?:d2d_)?([0-9a-z]{{{_ID_LENGTH}}})(?:_.*)?")


@frozen
class NewKey:
    """A key that was just made; nothing else knows its `text`."""

    key_id: str
    text: str = field(repr=False)


def make_key(choice: Callable[[str], str] = secrets.choice) -> NewKey:
    """Return a new key; *choice* picks one of the characters it is given."""
    key_id = "".join(choice(_ID_DIGITS) for _ in range(_ID_LENGTH))
    body = f"d2d_{key_id}_" + "".join(choice(_DIGITS) for _ in range(_SECRET_LENGTH))
    return NewKey(key_id, f"{body}_{_checksum(body)}")


def read_key(text: str) -> str | None:
    """Return the id in the key *text*; None if it is not a key, or mistyped."""
    if not _KEY.fullmatch(text):
        return None
    body, _, checksum = text.rpartition("_")
    return body.split("_")[1] if checksum == _checksum(body) else None


def id_of(text: str) -> str | None:
    """Return the id that a person means by *text*: the id, with or without what surrounds it in a key."""
    match = _ID.fullmatch(text.strip())
    return match[1] if match else None


def _checksum(body: str) -> str:
    rest, digits = crc32(body.encode()), ""
    for _ in range(_SUM_LENGTH):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
