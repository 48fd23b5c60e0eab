"""
The connections that callbacks are sent over: the address that is dialled is the one that was checked.

Three checks, each enough by itself: of the URL before a connection is made or reused, of all addresses
when the name is resolved, and of the one address in the moment its socket is made. Nothing is
resolved between the last check and the dial, so a name that changes its addresses changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from dedup2d.callbacks.guard_addresses import Refusal, is_public
from dedup2d.callbacks.guard_url import GuardOptions, check_url
from dedup2d.errors import BlockedAddressError, CallbackUrlError, MissingExtraError, shown

try:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult
except ImportError:
    raise MissingExtraError("http", "sending callbacks (aiohttp)") from None

__all__ = ["GuardedConnector", "ThreadsResolver", "check_resolved", "connector"]

_RESOLVING_THREADS = 32
_RESOLVE_SECONDS = 3.0
_PUBLIC_HOST = "a host whose addresses are all public"


class ThreadsResolver(AbstractResolver):
    """
    Asks the system for addresses, on threads of its own.

    A slow name server of somebody's callback host then holds up callbacks at most: the event loop's own
    threads, which resolve the names of Redis, S3 and the vision server, stay free.
    """

    def __init__(self, threads: int = _RESOLVING_THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dedup2d-callback-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of *host*; a zone id stays with its address, to be refused."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port, family)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=proto, flags=0)
            for kind, proto, address in found
        ]

    async def close(self) -> None:
        """Let go of the threads, without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: int) -> list[tuple[int, int, str]]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(kind, proto, str(address[0])) for kind, _, proto, _, address in found]


class _CheckingResolver(AbstractResolver):
    """Refuses a host if any one of its addresses may not be called."""

    def __init__(self, options: GuardOptions, inner: AbstractResolver) -> None:
        self._options = options
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not found:
            raise OSError(socket.EAI_NONAME, f"{shown(host)} has no address")
        for one in found:
            refusal = self._options.refusal_of(one["host"])
            if refusal is not None:
                raise BlockedAddressError(host, refusal)
        return found

    async def close(self) -> None:
        await self._inner.close()


class _RefusedDialError(OSError):
    """An address came as far as the dial that may not be called."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(f"may not be called ({refusal})")


class GuardedConnector(aiohttp.TCPConnector):
    """
    Connects to what `GuardOptions` allow and to nothing else, whoever asks and after any redirect.

    Every request has a connection of its own, so that every one is resolved and checked anew.

    Raises:
        BlockedAddressError: on a request for anything that is not allowed, before a socket is made.
    """

    def __init__(self, options: GuardOptions, resolver: AbstractResolver, *, owns_resolver: bool) -> None:
        self._options = options
        self._guarded = _CheckingResolver(options, resolver)
        self._closes_resolver = owns_resolver
        super().__init__(
            resolver=self._guarded,
            use_dns_cache=False,
            force_close=True,
            limit=0,
            socket_factory=self._checked_socket,
        )

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - of aiohttp
    ) -> Any:
        """Connect for *req* if its URL is allowed and no proxy stands between."""
        host = req.url.raw_host or ""
        if req.proxy is not None:
            raise BlockedAddressError(host, Refusal.PROXY)
        try:
            check_url(str(req.url.origin()), self._options)
        except CallbackUrlError as error:
            raise BlockedAddressError(host, error.reason) from None
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _RefusedDialError):
                raise BlockedAddressError(host, error.os_error.refusal) from None
            raise

    def _checked_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for an address, the last thing that is done before it is dialled."""
        family, kind, protocol, _, address = info
        refusal = self._options.refusal_of(str(address[0]))
        if refusal is not None:
            raise _RefusedDialError(refusal)
        return socket.socket(family=family, type=kind, proto=protocol)

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections, and the resolver if it was made here."""
        await super().close(abort_ssl=abort_ssl)
        if self._closes_resolver:
            await self._guarded.close()


def connector(options: GuardOptions, *, resolver: AbstractResolver | None = None) -> GuardedConnector:
    """
    Make a connector for `aiohttp.ClientSession`; call it in the event loop that will use it.

    Args:
        options: what may be called.
        resolver: who resolves names (it stays the caller's to close); None asks the system.
    """
    return GuardedConnector(options, resolver or ThreadsResolver(), owns_resolver=resolver is None)


async def check_resolved(url: str, options: GuardOptions, resolver: AbstractResolver) -> None:
    """
    Refuse *url* at once if its host has no address, or one that may not be called.

    A courtesy to careless clients, not the guard: what counts is checked when a callback is sent. So a
    name server that does not answer within 3 s refuses nothing. The error is the same for a name that
    does not exist and for one of an internal address: names of this network cannot be explored by it.

    Args:
        url: as `check_url` returned it.
        options: what may be called; does nothing unless `resolve_dns`.
        resolver: who resolves the name.

    Raises:
        CallbackUrlError: the host does not exist, or may not be called.
    """
    host = urlsplit(url).hostname or ""
    if not options.resolve_dns or is_public(host) != Refusal.NOT_AN_ADDRESS:
        return  # of an address `check_url` has said already whether it may be called
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            await _CheckingResolver(options, resolver).resolve(host)
    except BlockedAddressError as error:
        raise _unusable(host, error.reason) from None
    except OSError as error:  # a time-out is one as well
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise _unusable(host, Refusal.UNRESOLVED) from None


def _unusable(host: str, reason: str) -> CallbackUrlError:
    return CallbackUrlError(reason, f"{shown(host)} has no public address", _PUBLIC_HOST)
