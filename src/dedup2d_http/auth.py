"""
Who is asking: API keys, and the guard that stands in for them where there are none.

Both decide on the headers alone, before any byte of the body is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dedup2d.errors import ConfigurationError, StoreUnavailableError, shown
from dedup2d.keys import Principal
from dedup2d.keys.ring import KeyRing
from dedup2d_http.limiting import WrongKeys
from dedup2d_http.problems import HttpError, refusal

__all__ = ["Authentication", "LoopbackGuard", "check_exposure", "is_loopback"]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]*)(:[0-9]{1,5})?")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dedup2d"'}


class Authentication:
    """
    ASGI middleware: what lies under *prefix* needs a key, and runs as the key's tenant.

    While there are no keys every request runs as *default_tenant*; `LoopbackGuard` must stand before it.

    Args:
        app: the app.
        keys: knows them.
        default_tenant: for whom is asked where no key is needed.
        prefix: of the paths that need a key.
        wrong_keys: counts those that are none; None does not.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        default_tenant: str,
        prefix: str,
        wrong_keys: WrongKeys | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._nobody = Principal(default_tenant)
        self._prefix = prefix
        self._wrong_keys = wrong_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            try:
                principal = await self._principal(scope, Headers(scope=scope))
            except (HttpError, StoreUnavailableError) as error:
                await refusal(scope, error)(scope, receive, send)
                return
            scope["state"]["principal"] = principal
        await self._app(scope, receive, send)

    async def _principal(self, scope: Scope, headers: Headers) -> Principal:
        if not await self._keys.needed():
            return self._nobody
        given = set(_given_keys(headers))
        if not given:
            raise HttpError(
                "UNAUTHORIZED", "send the API key as X-API-Key or Authorization: Bearer", _CHALLENGE
            )
        key = given.pop()
        if self._wrong_keys and not self._keys.met(key):
            await self._wrong_keys.check(scope)
        principal = None if given else await self._keys.find(key)
        if principal is None:
            if self._wrong_keys:
                await self._wrong_keys.count(scope)
            raise HttpError("UNAUTHORIZED", "this API key is not valid", _CHALLENGE)
        return principal


def _given_keys(headers: Headers) -> list[str]:
    keys = [key.strip() for key in headers.getlist("x-api-key")]
    for value in headers.getlist("authorization"):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(key.strip())
    return keys


class LoopbackGuard:
    """
    ASGI middleware for a service without keys: refuses what a web page could send, until there is a key.

    A page of any site can make its visitor's browser call loopback. It shows in the `Host` (a name of the
    attacker's that was rebound to 127.0.0.1) or in the `Origin`; a local program sends neither. Callers from
    other machines are refused too, should the server listen to them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        keys_setting: str = "DEDUP2D_API_KEYS",
    ) -> None:
        self._app = app
        self._origins = frozenset(allowed_origins) - {"*"}  # a page that nobody named is a stranger
        self._keys = keys
        self._keys_setting = keys_setting
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not await self._keyed():
            try:
                self._check_caller(scope)
                self._check(Headers(scope=scope))
            except HttpError as error:
                await refusal(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _keyed(self) -> bool:
        try:
            return await self._keys.needed()
        except StoreUnavailableError:
            return False

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
        if origin in self._origins:
            return
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
    *,
    keyed: bool,
    host_setting: str = "DEDUP2D_HOST",
    keys_setting: str = "DEDUP2D_API_KEYS (or make a key with dedup2d keys create)",
) -> None:
    """
    Make sure that a service without keys is not reachable from other machines.

    Raises:
        ConfigurationError: *host* is not loopback, and it is not *keyed*.
    """
    if not keyed and not is_loopback(host.lower()):
        raise ConfigurationError(
            host_setting,
            host,
            f"127.0.0.1, ::1 or localhost, or set {keys_setting} to serve other machines",
        )
