"""How many bodies are taken in at once."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dedup2d.keys import Principal
from dedup2d_http.lingering import has_body
from dedup2d_http.problems import HttpError

__all__ = ["UploadPlaces"]

_RETRY_AFTER_SECONDS = 30


class UploadPlaces:
    """
    ASGI middleware behind `Authentication`: a body is read once there is a place for it.

    Each body under way holds memory and disk, so their number has a bound; a bound for each tenant keeps one
    that sends slowly from holding up the others. Whoever finds no place waits for one, unread.

    Args:
        app: the app.
        most: bodies at once, over all tenants.
        most_per_tenant: bodies at once of one tenant.
        wait_seconds: how long one waits for a place.
    """

    def __init__(
        self, app: ASGIApp, *, most: int = 1000, most_per_tenant: int = 300, wait_seconds: float = 10.0
    ) -> None:
        self._app = app
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._wait_seconds = wait_seconds
        self._all: anyio.Semaphore | None = None
        self._own: dict[str, anyio.Semaphore] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal: Principal | None = scope.get("state", {}).get("principal")
        if principal is None or not has_body(scope):
            await self._app(scope, receive, send)
            return
        held: list[anyio.Semaphore] = []
        begun = False

        async def placed() -> Message:
            nonlocal begun
            if not begun:
                held.extend(await self._take(principal.tenant_id))
                begun = True
            message = await receive()
            if not message.get("more_body", False):
                _give_back(held)
            return message

        try:
            await self._app(scope, placed, send)
        finally:
            _give_back(held)

    async def _take(self, tenant_id: str) -> tuple[anyio.Semaphore, ...]:
        # Made here, as a semaphore belongs to an event loop.
        everybody = self._all = self._all or anyio.Semaphore(self._most)
        own = self._own.setdefault(tenant_id, anyio.Semaphore(self._most_per_tenant))
        with anyio.move_on_after(self._wait_seconds):
            await own.acquire()
            try:
                await everybody.acquire()
            except BaseException:
                own.release()
                raise
            return own, everybody
        raise HttpError(
            "TOO_MANY_UPLOADS",
            f"{self._most_per_tenant} bodies of this tenant, or {self._most} of all, are being received:"
            f" try again in {_RETRY_AFTER_SECONDS} s",
            {"Retry-After": str(_RETRY_AFTER_SECONDS)},
        )


def _give_back(held: list[anyio.Semaphore]) -> None:
    while held:
        held.pop().release()
