"""How a client reaches its service."""

from __future__ import annotations

from attrs import Attribute, field, frozen

from dedup2d.errors import InvalidParameterError
from dedup2d.search_params import Between
from dedup2d.vision.http_options import SERVER_URL_RULE, is_server_url, without_secrets

__all__ = ["ClientOptions"]

_MIB = 1024 * 1024
_SECONDS = Between(0.01, 86_400)
_PAUSE = Between(0, 86_400)
_BYTES = Between(1, 2**63)


def _url(_: object, attribute: Attribute[str], value: str) -> None:
    if not is_server_url(value):
        raise InvalidParameterError(attribute.name, without_secrets(value), SERVER_URL_RULE)


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
    timeout_seconds: float = field(default=60.0, validator=_SECONDS)
    upload_seconds: float = field(default=600.0, validator=_SECONDS)
    attempts: int = field(default=4, validator=Between(1, 1000))
    base_delay_seconds: float = field(default=0.5, validator=_PAUSE)
    max_delay_seconds: float = field(default=30.0, validator=_PAUSE)
    max_upload_bytes: int = field(default=4096 * _MIB, validator=_BYTES)
    max_answer_bytes: int = field(default=256 * _MIB, validator=_BYTES)
