"""Page tokens: where the next page of a newest-first list goes on."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from math import isfinite
from zlib import crc32

from dedup2d.errors import InvalidParameterError

__all__ = ["MAX_PAGE", "check_limit", "make_token", "read_numbered_token", "read_token"]

MAX_PAGE = 500

_NUMBER = re.compile(r"[0-9]{1,18}")


def check_limit(limit: int) -> None:
    """
    Check the length asked of a page.

    Raises:
        InvalidParameterError: *limit* is not 1 to 500.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise InvalidParameterError("limit", limit, f"a whole number from 1 to {MAX_PAGE}")


def make_token(kind: str, created_at: float, key: str) -> str:
    """
    Return the token of a page whose last entry was made at *created_at* and is called *key*.

    It begins with a letter, as *kind* does: a command line takes what begins with "-" for an option.
    """
    place = f"{kind}:{float(created_at).hex()}:{key}".encode()
    plain = place + crc32(place).to_bytes(4)
    return urlsafe_b64encode(plain).decode().rstrip("=")


def read_token(kind: str, token: str) -> tuple[float, str]:
    """
    Return the `created_at` and key that `make_token` put into *token*.

    Raises:
        InvalidParameterError: *token* was not made by `make_token` for this *kind* of list.
    """
    try:
        plain = urlsafe_b64decode(token + "=" * (-len(token) % 4))[:-4].decode()
        found, created_at, key = plain.split(":", 2)
        place = float.fromhex(created_at), key
    except (ValueError, TypeError, OverflowError):
        raise _foreign(token) from None
    # Making it again also checks its sum, and what base64 decoding passes over. But anybody can make the sum.
    if found != kind or not isfinite(place[0]) or make_token(kind, *place) != token:
        raise _foreign(token)
    return place


def read_numbered_token(kind: str, token: str) -> int:
    """
    Return the key that `make_token` put into *token*, for a list whose keys are whole numbers.

    Raises:
        InvalidParameterError: *token* was not made by `make_token` for this *kind* of list.
    """
    _, key = read_token(kind, token)
    if not _NUMBER.fullmatch(key):
        raise _foreign(token)
    return int(key)


def _foreign(token: str) -> InvalidParameterError:
    return InvalidParameterError("page_token", token, "a next_page_token of this list, or none")
