"""
Who is asking: API keys, and the guard that stands in for them where there are none.

Both decide on the headers alone, before any byte of the body is read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dedup2d.errors import ConfigurationError, shown
from dedup2d.keys import Principal
from dedup2d_http.problems import HttpError, problem_response

__all__ = ["Authentication", "Keys", "LoopbackGuard", "check_exposure", "is_loopback"]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]*)(:[0-9]{1,5})?")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dedup2d"'}


class Keys:
    """
    API keys and the tenants they belong to.

    Kept as hashes under a secret of this process: a dump of memory or a log shows no key, and the time
    that a look-up takes says nothing about how much of a key was right.
    """

    def __init__(self, tenants: Mapping[str, str]) -> None:
        self._secret = secrets.token_bytes(32)
        self._principals = [(self._hash(key.encode()), Principal(tenant)) for key, tenant in tenants.items()]

    def __bool__(self) -> bool:
        return bool(self._principals)

    def find(self, key: bytes) -> Principal | None:
        digest = self._hash(key)
        found = None
        for known, principal in self._principals:
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def _hash(self, key: bytes) -> bytes:
        return hmac.new(self._secret, key, hashlib.sha256).digest()


class Authentication:
    """
    ASGI middleware: what lies under *prefix* needs a key, and runs as the key's tenant.

    Without any keys every request runs as *default_tenant*; `LoopbackGuard` must then stand before it.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, default_tenant: str, prefix: str) -> None:
        self._app = app
        self._keys = keys
        self._nobody = Principal(default_tenant)
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            try:
                principal = self._principal(Headers(scope=scope))
            except HttpError as error:
                response = problem_response(scope, error.code, error.detail, error.headers)
                await response(scope, receive, send)
                return
            scope["state"]["principal"] = principal
        await self._app(scope, receive, send)

    def _principal(self, headers: Headers) -> Principal:
        if not self._keys:
            return self._nobody
        given = set(_given_keys(headers))
        if not given:
            raise HttpError(
                "UNAUTHORIZED", "send the API key as X-API-Key or Authorization: Bearer", _CHALLENGE
            )
        principal = self._keys.find(given.pop())
        if principal is None or given:
            raise HttpError("UNAUTHORIZED", "this API key is not valid", _CHALLENGE)
        return principal


def _given_keys(headers: Headers) -> list[bytes]:
    keys = [key.strip().encode("latin-1") for key in headers.getlist("x-api-key")]
    for value in headers.getlist("authorization"):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(key.strip().encode("latin-1"))
    return keys


class LoopbackGuard:
    """
    ASGI middleware for a service without keys: refuses what a web page could send.

    A page of any site can make its visitor's browser call loopback. It shows in the `Host` (a name of the
    attacker's that was rebound to 127.0.0.1) or in the `Origin`; a local program sends neither. Callers from
    other machines are refused too, should the server listen to them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Collection[str] = (),
        keys_setting: str = "DEDUP2D_API_KEYS",
    ) -> None:
        self._app = app
        self._keys_setting = keys_setting
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check_caller(scope)
                self._check(Headers(scope=scope))
            except HttpError as error:
                response = problem_response(scope, error.code, error.detail, error.headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        if not (is_loopback(name) or name in self._allowed):
            raise HttpError(
                "HOST_NOT_ALLOWED",
                f"a service without API keys answers to loopback only, not to {shown(','.join(hosts))}:"
                f" set {self._keys_setting} or DEDUP2D_ALLOWED_HOSTS",
            )
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != hosts[0].lower()
        if foreign or headers.get("sec-fetch-site") == "cross-site":
            raise HttpError(
                "CROSS_ORIGIN",
                f"a service without API keys takes nothing from pages of {shown(origin or 'another site')}",
            )

    def _check_caller(self, scope: Scope) -> None:
        caller = scope.get("client")  # None where the server has no address for it: a Unix socket
        if caller and not is_loopback(caller[0]):
            raise HttpError(
                "UNAUTHORIZED",
                f"a service without API keys answers to its own machine only: set {self._keys_setting}",
                _CHALLENGE,
            )


def host_name(host: str) -> str:
    """Return the name in a `Host` header, lower case, without port and brackets; empty if it is none."""
    match = _HOST.fullmatch(host.strip().lower())
    return match[1].strip("[]").rstrip(".") if match else ""


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, is this machine and only this machine."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    # Before Python 3.13 an IPv4 address in IPv6 form is not told to be loopback.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def check_exposure(
    host: str,
    keys: Collection[str],
    *,
    host_setting: str = "DEDUP2D_HOST",
    keys_setting: str = "DEDUP2D_API_KEYS",
) -> None:
    """
    Make sure that a service without keys is not reachable from other machines.

    Raises:
        ConfigurationError: *host* is not loopback and there are no *keys*.
    """
    if not keys and not is_loopback(host.lower()):
        raise ConfigurationError(
            host_setting,
            host,
            f"127.0.0.1, ::1 or localhost, or set {keys_setting} to serve other machines",
        )
