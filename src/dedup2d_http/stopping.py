"""Stopping in two steps: nothing new, then nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from attrs import define, field

__all__ = ["Stopping"]


@define(eq=False)
class Stopping:
    """
    Whether the service is about to stop.

    After `begin` nothing waits for what may take long; `cut` ends the requests that are still under way.
    """

    _event: anyio.Event = field(factory=anyio.Event, init=False)
    _requests: set[anyio.CancelScope] = field(factory=set, init=False)

    def begin(self) -> None:
        self._event.set()

    @property
    def begun(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    @contextmanager
    def request(self) -> Iterator[anyio.CancelScope]:
        """Hold a request that `cut` may end; the scope then tells `cancelled_caught`."""
        with anyio.CancelScope() as scope:
            self._requests.add(scope)
            try:
                yield scope
            finally:
                self._requests.discard(scope)

    def cut(self) -> None:
        for scope in tuple(self._requests):
            scope.cancel()
