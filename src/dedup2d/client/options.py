"""How a client reaches its service."""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import Attribute, field, frozen

from dedup2d.errors import InvalidParameterError

__all__ = ["ClientOptions"]

_MIB = 1024 * 1024


def _url(_: object, attribute: Attribute[str], value: str) -> None:
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    # What stands before an @ may be a password: it is not shown.
    if not fits or "@" in value or parts.query or parts.fragment:
        given = "***" if "@" in str(value) else value
        raise InvalidParameterError(attribute.name, given, "http://HOST[:PORT] or https://..., without user")


def _key(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None and not (value and value.isascii() and value.isprintable()):
        raise InvalidParameterError(attribute.name, "***", "printable ASCII characters, or None")


@frozen(kw_only=True)
class ClientOptions:
    """
    Args:
        url: of the service, with the path below which it is served, if there is one.
        api_key: None for a service without keys.
        timeout_seconds: how long one answer may take, waiting for a job and sending a drawing aside.
        upload_seconds: how long sending a drawing may take, and the answer to it.
        attempts: how often a request is made that may be repeated, 1 or more.
        base_delay_seconds: wait before the second attempt; each further one takes twice as long.
        max_delay_seconds: longest wait; a service that asks for a longer one is not asked again.
        max_upload_bytes: largest drawing sent.
        max_answer_bytes: largest answer taken in.

    Raises:
        InvalidParameterError: a value is not allowed.
    """

    url: str = field(validator=_url)
    api_key: str | None = field(default=None, repr=False, validator=_key)
    timeout_seconds: float = 60.0
    upload_seconds: float = 600.0
    attempts: int = 4
    base_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    max_upload_bytes: int = 4096 * _MIB
    max_answer_bytes: int = 256 * _MIB
