"""Limits of requests: for each tenant, and for addresses that send wrong keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dedup2d.keys import Principal
from dedup2d_http.addresses import Networks, client_address, same_client
from dedup2d_http.counters import Allowance, Counters
from dedup2d_http.problems import HttpError, problem_response

__all__ = ["RequestLimit", "WrongKeys", "limit_headers"]

_BUCKETS = 2**14


def limit_headers(allowance: Allowance) -> dict[str, str]:
    """Return the headers that tell a client how it stands (draft-ietf-httpapi-ratelimit-headers-10)."""
    return {
        "RateLimit-Policy": f'"requests";q={allowance.limit};w={allowance.window_seconds}',
        "RateLimit": f'"requests";r={allowance.left};t={allowance.reset_seconds}',
    }


class RequestLimit:
    """
    ASGI middleware behind `Authentication`: so many requests of a tenant in a second.

    Args:
        app: the app.
        counters: counts.
        per_second: gives the limit of a tenant; 0 for none.
    """

    def __init__(self, app: ASGIApp, *, counters: Counters, per_second: Callable[[str], int]) -> None:
        self._app = app
        self._counters = counters
        self._per_second = per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal: Principal | None = scope.get("state", {}).get("principal")
        most = 0 if principal is None else self._per_second(principal.tenant_id)
        if principal is None or not most:
            await self._app(scope, receive, send)
            return
        allowance = await self._counters.take(RateLimitItemPerSecond(most), f"tenant/{principal.tenant_id}")
        headers = limit_headers(allowance)
        if not allowance.granted:
            detail = (
                f"this tenant may send {most} requests in a second: try again in"
                f" {allowance.reset_seconds} s, and wait with Prefer: wait=N rather than poll often"
            )
            headers["Retry-After"] = str(allowance.reset_seconds)
            await problem_response(scope, "RATE_LIMITED", detail, headers)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw = list(message.get("headers", ()))
                MutableHeaders(raw=raw).update(headers)
                message = {**message, "headers": raw}
            await send(message)

        await self._app(scope, receive, with_headers)


class WrongKeys:
    """
    Counts wrong keys by the address that they come from.

    Args:
        counters: counts.
        per_minute: how many are looked at; 0 for any number.
        trusted: proxies that say truly for whom they ask.
    """

    def __init__(self, counters: Counters, *, per_minute: int, trusted: Networks = ()) -> None:
        self._counters = counters
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._trusted = trusted

    async def check(self, scope: Scope) -> None:
        """
        Make sure that the address of *scope* may send another key that was never right.

        Raises:
            HttpError: it has sent too many wrong ones.
        """
        if self._item is None:
            return
        allowance = await self._counters.look(self._item, self._name(scope))
        if not allowance.granted:
            raise HttpError(
                "RATE_LIMITED",
                f"{self._item.amount} wrong API keys came from this address within a minute:"
                f" try again in {allowance.reset_seconds} s, with a valid one",
                {"Retry-After": str(allowance.reset_seconds)},
            )

    async def count(self, scope: Scope) -> None:
        """Count a wrong key."""
        if self._item is not None:
            await self._counters.take(self._item, self._name(scope))

    def _name(self, scope: Scope) -> str:
        # So many counters at most: who has many addresses must not fill the memory with them.
        address = same_client(client_address(scope, self._trusted))
        bucket = int.from_bytes(hashlib.sha256(address.encode(errors="replace")).digest()[:8]) % _BUCKETS
        return f"wrong-keys/{bucket}"
