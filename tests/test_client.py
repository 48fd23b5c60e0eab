"""`dedup2d.client` against a real service on loopback, and against servers that fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from dedup2d.client import ClientOptions, Dedup2DClient, verify_callback
from dedup2d.client.problems import error_of_code
from dedup2d.errors import (
    CallbackNotGenuineError,
    Dedup2DError,
    DrawingNotFoundError,
    FileTooLargeError,
    IdempotencyConflictError,
    InvalidParameterError,
    JobNotFoundError,
    JobTimeoutError,
    ServiceError,
    ServiceUnreachableError,
    UnreadableDrawingError,
    UnsupportedFormatError,
)
from dedup2d.types import Area, Job, JobStatus, Mode, SearchParams, SearchResult
from dedup2d_http.problems import PROBLEMS
from tests.http_support import KEY, PNG, Bench, bench, failing, holding, keyed, png_of, served
from tests.serving import free_port

QUICK = {"base_delay_seconds": 0.01, "max_delay_seconds": 0.2, "timeout_seconds": 10.0}


@asynccontextmanager
async def connected(api: Bench, **options: Any) -> AsyncIterator[Dedup2DClient]:
    """Serve *api* on loopback and give a client of it."""
    async with served(api) as url:
        client = Dedup2DClient(ClientOptions(**{"url": url, "api_key": KEY, **QUICK, **options}))
        async with client:
            yield client


async def test_search_now_and_as_a_job_give_the_same(tmp_path: Path) -> None:
    """If this fails, a search that the service makes a job of has no result in the client."""
    path = tmp_path / "Größe 1.png"
    path.write_bytes(PNG)
    async with bench(keyed()) as api, connected(api) as client:
        now = await client.search(path)
        later = await client.search(PNG, file_name="b.png", params=SearchParams(mode=Mode.PRECISE))
        streamed = await client.search(_pieces(PNG), file_name="c.png")

    assert isinstance(now, SearchResult)
    assert now.success
    assert later.success
    assert streamed.success
    assert [name for name, _ in api.searched] == ["Größe 1.png", "b.png", "c.png"]
    assert {size for _, size in api.searched} == {len(PNG)}


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7):
        yield data[start : start + 7]


async def test_parameters_arrive_as_they_are() -> None:
    """If this fails, the service searches with other parameters than were asked for."""
    params = SearchParams(
        mode=Mode.FAST,
        max_results=7,
        compute_diff=False,
        exclude_self=True,
        duplicate_threshold=0.9123,
        ignore=("frame", Area(x=0.1, y=0, width=0.5, height=0.25)),
    )
    async with bench(keyed(), concurrency=0) as api, connected(api) as client:
        job = await client.submit(PNG, params=params)
        preset = await client.submit(PNG, preset="loose")
        stored = await api.service.get("first", job.job_id)

    assert job.params == stored.params == params
    assert isinstance(job, Job)
    assert (job.status, job.file_key) == (JobStatus.PENDING, "")
    assert preset.params != SearchParams()


async def test_life_of_a_job() -> None:
    """If this fails, jobs cannot be followed, listed or canceled through the client."""
    vision = holding()
    async with bench(keyed(), vision=vision, concurrency=1) as api, connected(api) as client:
        first, second = await client.submit(PNG), await client.submit(PNG)
        with anyio.fail_after(10):
            await vision.until_running(1)
        early = await client.wait(first.job_id, timeout=0)
        assert await client.cancel(second.job_id)
        vision.let_go()
        done = await client.wait(first.job_id, timeout=10)
        listed = [job.job_id async for job in client.jobs()]
        canceled = await client.job_page(status=JobStatus.CANCELED, limit=1)

    assert early.status is JobStatus.IN_PROGRESS
    assert (done.status, done.result is not None) == (JobStatus.COMPLETED, True)
    assert listed == [second.job_id, first.job_id]
    assert [job.job_id for job in canceled.jobs] == [second.job_id]
    assert (canceled.total, canceled.next_page_token) == (1, None)


async def test_events_of_a_job() -> None:
    """If this fails, the client misses changes of a job, or waits for ever after its end."""
    vision = holding()
    async with bench(keyed(), vision=vision) as api, connected(api) as client:
        job = await client.submit(PNG)
        seen: list[JobStatus] = []
        with anyio.fail_after(20):
            await vision.until_running(1)
            async for change in client.events(job.job_id):
                seen.append(change.status)
                vision.let_go()

    assert seen[0] is JobStatus.IN_PROGRESS
    assert seen[-1] is JobStatus.COMPLETED


async def test_the_index(tmp_path: Path) -> None:
    """If this fails, an index cannot be kept through the client."""
    async with bench(keyed()) as api, connected(api) as client:
        added = [await client.add(PNG + bytes([n]), file_name=f"{n}.png") for n in range(3)]
        twice = await client.add(PNG + b"\0", file_name="0.png", metadata={"order": "17"})
        names = [drawing.file_name async for drawing in client.drawings()]
        shown = await client.drawing(added[1].drawing_id)
        picture = await client.picture(added[1].drawing_id)
        await client.remove(added[1].drawing_id)
        with pytest.raises(DrawingNotFoundError) as gone:
            await client.drawing(added[1].drawing_id)
        with pytest.raises(ServiceError, match="no route"):
            await client.remove("../../jobs")
        rebuilt = await client.rebuild()
        health = await client.health()

    assert [each.added for each in added] == [True, True, True]
    assert not twice.added
    assert names == ["2.png", "1.png", "0.png"]
    assert shown.file_name == "1.png"
    assert picture.startswith(b"\x89PNG")
    assert gone.value.__dict__["status"] == 404
    assert gone.value.__dict__["request_id"]
    assert (rebuilt.success, rebuilt.drawings) == (True, 2)
    assert health.status == "healthy"


async def test_errors_are_those_of_the_library() -> None:
    """If this fails, a caller must know HTTP to tell a wrong file from a wrong id."""
    settings = keyed(max_upload_bytes=1000)
    async with bench(settings, concurrency=0) as api, connected(api) as client:
        with pytest.raises(JobNotFoundError, match="does not exist or has expired"):
            await client.job("0" * 32)
        with pytest.raises(UnsupportedFormatError):
            await client.search(b"no drawing")
        with pytest.raises(FileTooLargeError, match="1,000 bytes"):
            await client.search(png_of(100_000))
        with pytest.raises(InvalidParameterError, match="page_token"):
            await client.job_page(page_token="forged")
        await client.submit(PNG, idempotency_key="k")
        with pytest.raises(IdempotencyConflictError):
            await client.submit(png_of(200), idempotency_key="k")
        same = await client.submit(PNG, idempotency_key="k")
        assert (await client.job_page()).total == 1
        assert same.idempotency_key is None


async def test_a_failed_search_raises_why() -> None:
    """If this fails, a search that failed as a job looks like one that found nothing."""
    vision = failing(UnreadableDrawingError("a.png", "it is truncated"))
    async with bench(keyed(), vision=vision) as api, connected(api) as client:
        for mode in (Mode.FAST, Mode.PRECISE):
            with pytest.raises(UnreadableDrawingError, match="truncated"):
                await client.search(PNG, params=SearchParams(mode=mode))


async def test_a_search_that_takes_too_long_is_told_apart_from_one_that_failed() -> None:
    """If this fails, a caller waits for ever, or takes a job that goes on for failed."""
    async with bench(keyed(), vision=holding()) as api, connected(api) as client:
        with pytest.raises(JobTimeoutError) as late:
            await client.search(PNG, params=SearchParams(mode=Mode.PRECISE), timeout=0)
        (job,) = (await client.job_page()).jobs

    assert f"job {job.job_id} is not final" in str(late.value)


async def test_a_wrong_key_is_refused_and_never_shown() -> None:
    """If this fails, a wrong key is hard to find, or stands in a log."""
    secret = "a-key-that-nobody-may-see"
    async with bench(keyed()) as api, connected(api, api_key=secret) as client:
        with pytest.raises(ServiceError) as refused:
            await client.job_page()

    assert (refused.value.problem_code, refused.value.status) == ("UNAUTHORIZED", 401)
    assert secret not in repr(refused.value) + repr(ClientOptions(url="http://a", api_key=secret))


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:80", "ftp://a", "http://", "http://u:secret@a", "http://a?secret", "http://a?"),
        *("http://[::1", "http://a b", "http://a:80800"),
    ],
)
def test_urls_that_are_none(url: str) -> None:
    """If this fails, a client is made that can reach nothing, or whose URL puts a password into messages."""
    with pytest.raises(InvalidParameterError) as refused:
        ClientOptions(url=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "option",
    [
        {"timeout_seconds": 0},
        {"upload_seconds": float("nan")},
        {"attempts": 0},
        {"max_delay_seconds": -1},
        {"max_answer_bytes": 0},
    ],
)
def test_options_that_cannot_be_kept(option: dict[str, Any]) -> None:
    """If this fails, a client waits for ever, asks without end, or takes no answer."""
    with pytest.raises(InvalidParameterError, match=next(iter(option))):
        ClientOptions(url="http://a", **option)


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_every_code_has_an_error(code: str) -> None:
    """If this fails, the client hides what a service says behind an error of its own."""
    error = error_of_code(code, "name=value is wrong", status=PROBLEMS[code].status)

    assert isinstance(error, Dedup2DError)
    assert "name=value is wrong" in str(error)
    assert code == (error.problem_code if isinstance(error, ServiceError) else error.code)
    repr(error)


# Servers that fail


class _Failing:
    """A server that answers with *statuses* one after the other, then well."""

    def __init__(self, *answers: tuple[int, dict[str, str]] | None) -> None:
        self.answers = list(answers)
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        if not self.answers:
            return self._well(request)
        answer = self.answers.pop(0)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, headers = answer
        code = {429: "JOB_QUEUE_FULL", 503: "STORE_UNAVAILABLE", 504: "JOB_TIMEOUT"}.get(status, "")
        problem = {"code": code, "detail": "not now"}
        return web.json_response(problem, status=status, headers=headers)

    def _well(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/search"):
            return web.json_response({})
        if request.path.endswith("/index/add"):
            return web.json_response(
                {
                    "drawing_id": "d",
                    "file_hash": "h",
                    "drawing_ids": ["d"],
                    "added": False,
                    "message": "",
                    "processing_time_ms": 1,
                }
            )
        return web.json_response({"drawings": [], "total": 0})


@asynccontextmanager
async def failing_server(server: _Failing) -> AsyncIterator[Dedup2DClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        options = ClientOptions(url=f"http://127.0.0.1:{port}", **QUICK)  # type: ignore[arg-type]  # any of its keywords
        async with Dedup2DClient(options) as client:
            yield client
    finally:
        await runner.cleanup()


async def test_reading_is_tried_again_until_it_works() -> None:
    """If this fails, a restart of the service breaks its clients."""
    server = _Failing(None, (503, {}), (502, {}))
    async with failing_server(server) as client:
        assert (await client.drawing_page()).total == 0
    assert len(server.seen) == 4


async def test_an_upload_is_sent_again_with_the_same_key_and_from_its_beginning() -> None:
    """If this fails, a broken connection makes two jobs of one search, or sends half a drawing."""
    server = _Failing(None, (429, {"Retry-After": "0"}), (503, {"Retry-After": "0"}))
    async with failing_server(server) as client:
        assert (await client.search(PNG)).success
    assert len({request.headers["Idempotency-Key"] for request in server.seen}) == 1
    assert len(server.bodies) == 4
    assert all(PNG in body for body in server.bodies)


async def test_what_may_not_be_done_twice_is_not_sent_twice() -> None:
    """If this fails, a removal that worked is told as one of a drawing that was not there."""
    for answer, most in ((None, 1), ((503, {}), 1), ((429, {"Retry-After": "0"}), 2)):
        server = _Failing(answer)
        async with failing_server(server) as client:
            if most == 1:
                with pytest.raises(Dedup2DError):
                    await client.remove("d")
            else:
                await client.remove("d")
        assert len(server.seen) == most


async def test_a_rebuild_is_asked_for_once() -> None:
    """If this fails, one that takes long goes on several times at once."""
    server = _Failing(None)
    async with failing_server(server) as client:
        with pytest.raises(ServiceUnreachableError):
            await client.rebuild()
    assert len(server.seen) == 1


async def test_events_go_on_after_a_restart_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, whoever follows a job loses it when the service, behind a proxy, is upgraded."""
    monkeypatch.setattr("dedup2d.client.events._PAUSE_SECONDS", 0.01)
    server = _Failing((503, {}), None, (502, {}), (404, {}))
    async with failing_server(server) as client:
        with pytest.raises(ServiceError, match="not now"):
            await anext(client.events("j"))
    assert len(server.seen) == 4


@pytest.mark.parametrize("call", ["cancel", "submit", "job_page", "health"])
async def test_answers_of_something_else(call: str) -> None:
    """If this fails, what is no service of ours gives a KeyError."""

    async def other(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"hello": "world"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", other)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with Dedup2DClient(ClientOptions(url=f"http://127.0.0.1:{port}")) as client:
            given = {"cancel": ("j",), "submit": (PNG,)}.get(call, ())
            with pytest.raises(ServiceError, match="cannot be used"):
                await getattr(client, call)(*given)
    finally:
        await runner.cleanup()


async def test_patience_ends() -> None:
    """If this fails, the client asks for ever, or comes back before it was told to."""
    for answer, seen in (((503, {"Retry-After": "3600"}), 1), ((504, {}), 1), ((503, {}), 4), ((500, {}), 1)):
        server = _Failing(*[answer] * 10)
        async with failing_server(server) as client:
            with pytest.raises(Dedup2DError, match="not now"):
                await client.drawing_page()
        assert len(server.seen) == seen


async def test_nobody_there() -> None:
    """If this fails, a service that is down gives an error of the HTTP library, or the port is not told."""
    async with Dedup2DClient(ClientOptions(url=f"http://127.0.0.1:{free_port()}", attempts=1)) as client:
        with pytest.raises(ServiceUnreachableError, match=r"127\.0\.0\.1") as error:
            await client.drawing_page()
    assert error.value.transient


async def test_redirects_are_not_followed() -> None:
    """If this fails, a service that was taken over sends the key wherever it likes."""
    server = _Failing((307, {"Location": f"http://127.0.0.1:{free_port()}/"}))
    async with failing_server(server) as client:
        with pytest.raises(ServiceError, match="not now"):
            await client.drawing_page()
    assert len(server.seen) == 1


async def test_answers_that_are_none_or_too_long() -> None:
    """If this fails, a wrong server fills the memory of its client, or half an answer is taken for one."""

    async def other(_: web.Request) -> web.Response:
        return web.Response(body=b"<html>" * 1000)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", other)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    url = f"http://127.0.0.1:{port}"
    try:
        async with Dedup2DClient(ClientOptions(url=url)) as client:
            with pytest.raises(ServiceError, match="cannot be used"):
                await client.job("j")
        async with Dedup2DClient(ClientOptions(url=url, max_answer_bytes=100)) as client:
            with pytest.raises(ServiceError, match="larger than 100 bytes"):
                await client.picture("d")
    finally:
        await runner.cleanup()


def test_callbacks_are_verified_with_the_client_alone() -> None:
    """If this fails, a receiver that has the client cannot tell a genuine callback."""
    with pytest.raises(CallbackNotGenuineError):
        verify_callback({}, json.dumps({}).encode(), "a-secret-of-16-bytes", now=0)
