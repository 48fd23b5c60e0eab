"""Stopping in two steps: nothing new is begun, and what runs may end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
from attrs import define, field

__all__ = ["Draining"]


@define(eq=False)
class Draining:
    """
    Ends a queue's `consume`, which cancels its handlers, without cancelling what they have begun.

    For that the handlers run within `handler`, whose shield is up while the draining goes on.
    """

    begun: bool = field(default=False, init=False)
    """Whether handlers are to begin nothing more."""
    _taking: anyio.CancelScope | None = field(default=None, init=False)
    _ended: anyio.Event = field(factory=anyio.Event, init=False)
    _handlers: set[anyio.CancelScope] = field(factory=set, init=False)

    async def take(self, consume: Callable[[], Awaitable[None]]) -> None:
        """Consume until drained."""
        with anyio.CancelScope() as self._taking:
            await consume()
        self._ended.set()

    @contextmanager
    def handler(self) -> Iterator[None]:
        """Hold what a handler does."""
        with anyio.CancelScope() as scope:
            self._handlers.add(scope)
            try:
                yield
            finally:
                self._handlers.discard(scope)

    async def drain(self) -> None:
        """Let nothing more begin, and wait for what runs; cancelled, it cancels what still runs."""
        self.begun = True
        if self._taking is None:
            return
        self._shield(up=True)
        self._taking.cancel()
        try:
            await self._ended.wait()
        finally:
            self._shield(up=False)

    def _shield(self, *, up: bool) -> None:
        for scope in self._handlers:
            scope.shield = up
