"""Work that ends early when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio import CancelScope
from starlette.types import Receive

__all__ = ["client_gone", "unless"]

T = TypeVar("T")


async def client_gone(receive: Receive) -> None:
    """Return when the client closes the connection; its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless(call: Callable[[], Awaitable[T]], *interruptions: Callable[[], Awaitable[None]]) -> T | None:
    """Return what *call* gives, or None, with *call* cancelled, if one of *interruptions* returns first."""
    result: T | None = None
    failure: Exception | None = None

    async def interrupt(interruption: Callable[[], Awaitable[None]], scope: CancelScope) -> None:
        await interruption()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        for interruption in interruptions:
            tasks.start_soon(interrupt, interruption, tasks.cancel_scope)
        try:
            result = await call()
        except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
            failure = error
        tasks.cancel_scope.cancel()
    if failure:
        raise failure
    return result
