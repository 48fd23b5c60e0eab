"""How a vision server is reached, and how patient its client is."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen

from dedup2d.errors import ConfigurationError

__all__ = ["SERVER_URL_RULE", "VisionOptions", "check_vision_url", "is_server_url", "without_secrets"]

_URL_VARIABLE = "DEDUPCAD_VISION_URL"
SERVER_URL_RULE = "http://HOST:PORT or https://HOST, a path if it has one, without user, query and fragment"
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0]")


def check_vision_url(url: str) -> str:
    """
    Return *url* without slashes at its end.

    Raises:
        ConfigurationError: it is not the URL of an HTTP server, or holds a user or a query, which would
            end up in logs.
    """
    if not is_server_url(url):
        raise ConfigurationError(_URL_VARIABLE, without_secrets(url), SERVER_URL_RULE)
    return url.rstrip("/")


def is_server_url(url: str) -> bool:
    """Whether *url* is that of an HTTP server, as `SERVER_URL_RULE` says."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is none
    except ValueError:
        return False
    plain = not ("@" in parts.netloc or "?" in url or "#" in url or _BLANK_OR_CONTROL.search(url))
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def without_secrets(url: str) -> str:
    """Return *url* to be shown, or stars: what stands before an @ or behind a ? may be a secret."""
    return "***" if "@" in url or "?" in url else url


def _at_least(variable: str, low: float) -> Any:
    def check(_: Any, __: Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
            raise ConfigurationError(variable, value, f"a number from {low:g}")

    return check


def _check_key(_: Any, __: Attribute[Any], value: str | None) -> None:
    if value is not None and not (value and value.isascii() and value.isprintable() and " " not in value):
        raise ConfigurationError("DEDUPCAD_VISION_API_KEY", "***", "printable ASCII without spaces")


@frozen(kw_only=True)
class VisionOptions:
    """
    Args:
        url: where the vision server is; a path in it goes before those of the contract.
        timeout_seconds: how long one request may take, the upload and the answer with it.
        api_key: sent as `X-API-Key`; None sends none.
        retry_attempts: how often a health check, a search or a look at the index is tried in all; what
            changes the index is tried once.
        retry_base_delay_seconds: least pause before the second try; it doubles with each one more.
        retry_max_delay_seconds: longest pause; a server that asks for a longer one is not asked again.
        circuit_failures: how many failures of the server in a row open the circuit of an endpoint.
        circuit_open_seconds: how long an open circuit refuses all calls.
        circuit_half_open_calls: how many calls at once may then try.
        circuit_close_successes: how many of them must succeed to close it; one failure opens it again.

    Raises:
        ConfigurationError: a value is not allowed; names the variable that sets it.
    """

    url: str = field(converter=check_vision_url)
    timeout_seconds: float = field(default=60.0, validator=_at_least("DEDUPCAD_VISION_TIMEOUT_SECONDS", 0.01))
    api_key: str | None = field(default=None, repr=False, validator=_check_key)
    retry_attempts: int = field(default=2, validator=_at_least("DEDUPCAD_VISION_RETRY_ATTEMPTS", 1))
    retry_base_delay_seconds: float = field(
        default=0.5, validator=_at_least("DEDUPCAD_VISION_RETRY_BASE_DELAY_SECONDS", 0)
    )
    retry_max_delay_seconds: float = field(
        default=5.0, validator=_at_least("DEDUPCAD_VISION_RETRY_MAX_DELAY_SECONDS", 0)
    )
    circuit_failures: int = field(default=5, validator=_at_least("DEDUPCAD_VISION_CIRCUIT_FAILURES", 1))
    circuit_open_seconds: float = field(
        default=30.0, validator=_at_least("DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS", 0)
    )
    circuit_half_open_calls: int = field(
        default=2, validator=_at_least("DEDUPCAD_VISION_CIRCUIT_HALF_OPEN_CALLS", 1)
    )
    circuit_close_successes: int = field(
        default=2, validator=_at_least("DEDUPCAD_VISION_CIRCUIT_CLOSE_SUCCESSES", 1)
    )
