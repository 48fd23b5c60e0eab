"""
URLs of a Redis: what they may say, and how they are shown. Standard library only, so that settings
can be checked without the packages of the extra.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import Factory, field, frozen

__all__ = ["REDIS_URL_RULE", "RedisTarget", "check_redis_url", "read_redis_url", "safe_redis_url"]

REDIS_URL_RULE = (
    "redis://[user:password@]host[:port][/db], rediss://... (TLS, also ?ssl_ca_certs=FILE), unix:///path[?db=N],"
    " or redis+sentinel://[user:password@]host[:port],host[:port]/service[/db] (rediss+sentinel:// for TLS);"
    " special characters of a password are percent-encoded"
)

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_PORT, _SENTINEL_PORT = 6379, 26379
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")


@frozen(kw_only=True)
class RedisTarget:
    """
    What a URL names: the servers, or the sentinels that know the server of *service*.

    `path` is that of a Unix socket; `options` are those of TLS and of the sentinels.
    """

    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default=Factory(dict), repr=False)


def check_redis_url(url: str) -> None:
    """
    Check that *url* can name a Redis.

    Raises:
        ValueError: it cannot; the message says what is allowed and never shows a password.
    """
    read_redis_url(url)


def safe_redis_url(url: str) -> str:
    """Return *url* without its passwords, for messages and logs."""
    scheme, mark, rest = url.partition("://")
    # A password that was not encoded may hold any mark, so the last @ is where it ends.
    secret, at, place = rest.rpartition("@")
    user = secret.partition(":")[0]
    place, question, query = place.partition("?")
    shown = f"{user}:***@{place}" if at else place
    return f"{scheme}{mark}{shown}{question}" + ("***" if "password" in query else query)


def read_redis_url(url: str) -> RedisTarget:
    """
    Return what *url* names.

    Raises:
        ValueError: as `check_redis_url`.
    """
    try:
        parts = urlsplit(url)
        _expect(parts.scheme in _SCHEMES and "://" in url, "the scheme is none of them")
        _expect(not parts.fragment, "a # of a password must be written %23")
        return _unix(parts) if parts.scheme == "unix" else _network(parts)
    except ValueError as error:
        # Errors of the standard library may show the whole text, a password included.
        reason = str(error) if isinstance(error, _RuleError) else "it cannot be read"
        raise ValueError(f"{reason}: give {REDIS_URL_RULE}") from None


class _RuleError(ValueError):
    """What is wrong, in words that show no part of the URL."""


def _expect(condition: object, reason: str) -> None:
    if not condition:
        raise _RuleError(reason)


def _unix(parts: SplitResult) -> RedisTarget:
    username, password, host = _user(parts.netloc)
    _expect(not host and len(parts.path) > 1, "the path of the socket is not absolute")
    options = _options(parts.query, ("db",))
    return RedisTarget(
        path=unquote(parts.path),
        database=_database(options.get("db", "")),
        username=username,
        password=password,
    )


def _network(parts: SplitResult) -> RedisTarget:
    tls, sentinel = parts.scheme.startswith("rediss"), parts.scheme.endswith("+sentinel")
    username, password, netloc = _user(parts.netloc)
    path = [unquote(part) for part in parts.path.strip("/").split("/")]
    service = path.pop(0) if sentinel else None
    _expect(not sentinel or service, "it does not name the sentinels' service")
    _expect(len(path) <= 1, "its path has too many parts")
    allowed = (*(_TLS_OPTIONS if tls else ()), *(_SENTINEL_OPTIONS if sentinel else ()))
    names = netloc.split(",") if sentinel else [netloc]
    return RedisTarget(
        tls=tls,
        hosts=tuple(_host(name, _SENTINEL_PORT if sentinel else _PORT) for name in names),
        service=service,
        database=_database(path[0] if path else ""),
        username=username,
        password=password,
        options=_options(parts.query, allowed),
    )


def _user(netloc: str) -> tuple[str | None, str | None, str]:
    secret, _, hosts = netloc.rpartition("@")
    username, _, password = secret.partition(":")
    return unquote(username) or None, unquote(password) or None, hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    found = urlsplit(f"//{text}")
    _expect(_HOST.fullmatch(found.hostname or ""), "a host is missing or has a wrong character")
    _expect(found.port != 0, "a port is 1 to 65535")
    return found.hostname or "", default_port if found.port is None else found.port


def _database(text: str) -> int:
    _expect(not text or (text.isascii() and text.isdigit()), "the database is not a number")
    return int(text or 0)


def _options(query: str, allowed: tuple[str, ...]) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    options = dict(pairs)
    known = ", ".join(allowed) or "none"
    _expect(set(options) <= set(allowed) and len(options) == len(pairs), f"its options may be: {known}")
    return options
