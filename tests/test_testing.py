"""The fakes and checks that other tests, here and elsewhere, stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from hashlib import sha256

import anyio
import pytest

from dedup2d.errors import DrawingNotFoundError, VisionUnavailableError
from dedup2d.protocols import CallbackSigner, VisionClient
from dedup2d.testing import ContractError, FakeVision, ManualClock, check_callback_signer
from dedup2d.types import DrawingFile, SearchParams, SearchResult


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def drawing_file(data: bytes = b"data", name: str = "a.png") -> DrawingFile:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return DrawingFile(name=name, sha256=sha256(data).hexdigest(), size=len(data), open=chunks)


def test_clock_moves_only_when_moved() -> None:
    """If this fails, tests of time depend on how fast the machine is."""
    clock = ManualClock(100.0)
    assert (clock(), clock()) == (100.0, 100.0)
    assert clock.advance(0.5) == clock() == 100.5
    clock.set(3)
    assert clock() == 3.0


async def test_fake_finds_what_was_added() -> None:
    """If this fails, tests of the doors cannot tell a found drawing from a lost one."""
    async with FakeVision() as fake:
        vision: VisionClient = fake
        added = await vision.add("one", drawing_file(), source="drawings/a.png")
        assert (await vision.add("one", drawing_file(), source="drawings/a.png")).added is False
        [match] = (await vision.search("one", drawing_file(), SearchParams())).duplicates
        assert match.drawing_id == added.drawing_id
        assert (await vision.search("two", drawing_file(), SearchParams())).total_matches == 0
        assert (await vision.search("one", drawing_file(b"other"), SearchParams())).total_matches == 0
        assert (await vision.search("one", drawing_file(), SearchParams(exclude_self=True))).duplicates == ()
        assert (await vision.drawing("one", added.drawing_id)).file_name == "a.png"
        assert (await vision.compare(drawing_file(), drawing_file(), SearchParams())).similarity == 1.0
        await vision.remove("one", added.drawing_id)
        with pytest.raises(DrawingNotFoundError):
            await vision.picture("one", added.drawing_id)


async def test_fake_pages_its_drawings() -> None:
    """If this fails, tests of the list route see one page only."""
    async with FakeVision() as vision:
        for number in range(5):
            await vision.add("one", drawing_file(bytes([number]), f"{number}.png"))
        first = await vision.drawings("one", limit=3)
        second = await vision.drawings("one", limit=3, page_token=first.next_page_token)

    names = [drawing.file_name for drawing in (*first.drawings, *second.drawings)]
    assert names == ["4.png", "3.png", "2.png", "1.png", "0.png"]
    assert (first.total, second.next_page_token) == (5, None)


async def test_fake_fails_as_planned() -> None:
    """If this fails, tests of retries see another number of failures than they ask for."""
    async with FakeVision() as vision:
        vision.fail(VisionUnavailableError("planned"), times=2)
        for _ in range(2):
            with pytest.raises(VisionUnavailableError, match="planned"):
                await vision.search("one", drawing_file(), SearchParams())
        vision.result = SearchResult(warnings=("set",))
        assert (await vision.search("one", drawing_file(), SearchParams())).warnings == ("set",)
        assert [(call.method, call.data) for call in vision.calls] == [("search", b"data")] * 3


async def test_fake_holds_and_is_cancelled() -> None:
    """If this fails, tests of concurrency and cancel wait for ever, or for nothing."""
    async with FakeVision() as vision:
        vision.hold()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(vision.search, "one", drawing_file(), SearchParams())
                await vision.until_running(3)
                tasks.cancel_scope.cancel()
            assert (vision.cancelled, vision.running, vision.most) == (3, 0, 3)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(vision.search, "one", drawing_file(), SearchParams())
                await vision.until_called(4)
                vision.let_go()
            await vision.search("one", drawing_file(), SearchParams())
    assert vision.running == 0


class Signs:
    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        return {"X-Signature": sha256(f"{timestamp}.{job_id}.".encode() + body).hexdigest()}


class SignsNothing:
    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        return {}


class CountsCalls:
    calls = 0

    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        self.calls += 1
        return {"X-Signature": f"{self.calls}"}


class ForgetsTheBody:
    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        return {"X-Signature": f"{timestamp}"}


class ReadsTheBody:
    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        return {"X-Signature": body.decode()}


class SplitsHeaders:
    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        return {"X-Signature": f"{len(body)}\r\nX-Other: 1"}


@pytest.mark.parametrize("signer", [Signs(), SignsNothing()])
async def test_signers_that_keep_the_contract_pass(signer: CallbackSigner) -> None:
    """If this fails, a good signer is refused."""
    await check_callback_signer(signer)


@pytest.mark.parametrize("signer", [CountsCalls(), ForgetsTheBody(), ReadsTheBody(), SplitsHeaders()])
async def test_broken_signers_are_refused(signer: CallbackSigner) -> None:
    """If this fails, callbacks are signed in a way that no receiver can rely on."""
    with pytest.raises(ContractError):
        await check_callback_signer(signer)
