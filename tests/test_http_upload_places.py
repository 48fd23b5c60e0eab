"""How many bodies are read at once."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.types import Message, Receive, Scope, Send

from dedup2d.keys import Principal
from dedup2d_http.problems import HttpError
from dedup2d_http.upload_places import UploadPlaces

PIECE: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"x", "more_body": False}


class Clients:
    """Clients that each send a first piece, and the last when they are told to."""

    def __init__(self, **limits: Any) -> None:
        self.places = UploadPlaces(self.app, **limits)
        self.reading = 0
        self.done = 0
        self.refused: list[str] = []
        self.end = anyio.Event()
        self.leave = anyio.Event()

    async def app(self, scope: Scope, receive: Receive, _: Send) -> None:
        await receive()
        self.reading += 1
        if scope["path"] == "/early":
            return
        await receive()
        self.done += 1
        await self.leave.wait()

    async def call(self, tenant: str, path: str = "/", *, length: bytes = b"2") -> None:
        pieces = [PIECE, LAST]

        async def receive() -> Message:
            if len(pieces) == 1:
                await self.end.wait()
            return pieces.pop(0)

        async def send(_: Message) -> None: ...

        scope = {
            "type": "http",
            "path": path,
            "headers": [(b"content-length", length)],
            "state": {"principal": Principal(tenant)},
        }
        try:
            await self.places(scope, receive, send)
        except HttpError as error:
            self.refused.append(error.code)


async def settle() -> None:
    for _ in range(5):
        await checkpoint()


async def test_a_tenant_has_so_many_places() -> None:
    """If this fails, slow bodies of one tenant fill memory and disk, or shut the others out."""
    clients = Clients(most_per_tenant=2, wait_seconds=0.05)
    async with anyio.create_task_group() as tasks:
        for tenant in ("slow", "slow", "slow", "other"):
            tasks.start_soon(clients.call, tenant)
        await settle()
        assert clients.reading == 3
        await anyio.sleep(0.1)
        assert clients.refused == ["TOO_MANY_UPLOADS"]
        tasks.cancel_scope.cancel()


async def test_all_tenants_together_have_so_many_places() -> None:
    """If this fails, many tenants together fill memory and disk."""
    clients = Clients(most=2, wait_seconds=0.05)
    async with anyio.create_task_group() as tasks:
        for tenant in ("a", "b", "c"):
            tasks.start_soon(clients.call, tenant)
        await anyio.sleep(0.1)
        assert (clients.reading, clients.refused) == (2, ["TOO_MANY_UPLOADS"])
        clients.end.set()
        await settle()
        tasks.start_soon(clients.call, "c")
        await settle()
        assert clients.done == 3  # nobody kept a place of the one that gave up
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/", "/early"])
async def test_a_place_is_free_once_the_body_is_in_or_the_answer_out(path: str) -> None:
    """If this fails, searches that take long keep others from sending their drawings."""
    clients = Clients(most_per_tenant=1, wait_seconds=5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clients.call, "t", path)
        await settle()
        tasks.start_soon(clients.call, "t", path)
        clients.end.set()
        await settle()
        assert clients.reading == 2
        assert clients.refused == []
        tasks.cancel_scope.cancel()


async def test_requests_without_a_body_need_no_place() -> None:
    """If this fails, polls wait behind uploads."""
    clients = Clients(most_per_tenant=1, wait_seconds=5)
    async with anyio.create_task_group() as tasks:
        for length in (b"2", b"0", b"0"):
            tasks.start_soon(lambda length=length: clients.call("t", length=length))  # type: ignore[misc]  # mypy knows no defaults of lambdas
        await settle()
        assert clients.reading == 3
        tasks.cancel_scope.cancel()
