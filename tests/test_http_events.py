"""Server-sent events of a job: what is told, how it goes on after a break, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest

from dedup2d_http.routes.events import JobEvents
from dedup2d_http.routing import Api
from dedup2d_http.streams import Streams
from dedup2d_http.uploads import UploadLimits
from tests.http_support import KEY, OTHER_KEY, assert_problem, bench, holding, keyed, served

Event = dict[str, str]


def events_of(text: str) -> list[Event]:
    """Return the events in *text*, as a browser reads them."""
    found: list[Event] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append(fields)
    return found


async def test_a_job_is_told_until_it_is_final() -> None:
    """If this fails, a client that follows a job misses its end, or is never let go."""
    vision = holding()
    async with bench(vision=vision) as api:
        path = await api.submit()
        async with anyio.create_task_group() as tasks:
            answers: list[httpx.Response] = []

            async def follow() -> None:
                answers.append(await api.client.get(f"{path}/events"))

            tasks.start_soon(follow)
            with anyio.fail_after(10):
                await vision.until_running(1)
                await anyio.sleep(0.7)
                vision.let_go()
        (answer,) = answers
        job = (await api.client.get(path)).json()

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("retry: 2000\n\n")
    events = events_of(answer.text)
    assert [each["event"] for each in events] == ["progress"] * (len(events) - 1) + ["final"]
    assert len(events) >= 2
    assert len({each["id"] for each in events}) == len(events)
    last = json.loads(events[-1]["data"])
    assert last == {name: value for name, value in job.items() if name != "result"}


async def test_what_was_told_is_not_told_again() -> None:
    """If this fails, each reconnect repeats events, or a browser connects to a finished job for ever."""
    async with bench(concurrency=0) as api:
        path = await api.submit()
        context = Api(
            service=api.service,
            settings=keyed(),
            limits=UploadLimits(max_file_bytes=1),
            stopping=api.stopping,
            metrics=None,
        )
        job_id = path.rpartition("/")[2]
        follow = JobEvents(context, "default", job_id, look_seconds=0.01, most_seconds=0.2)
        first = b"".join([chunk async for chunk in follow.follow("")]).decode()
        (told,) = events_of(first)
        again = b"".join([chunk async for chunk in follow.follow(told["id"])]).decode()
        await api.client.post(f"{path}/cancel")
        (final,) = events_of((await api.client.get(f"{path}/events")).text)
        ended = await api.client.get(f"{path}/events", headers={"Last-Event-ID": final["id"]})

    assert told["event"] == "progress"
    assert events_of(again) == []
    assert (final["event"], json.loads(final["data"])["status"]) == ("final", "canceled")
    assert (ended.status_code, ended.content) == (204, b"")


async def test_silence_is_broken_by_comments() -> None:
    """If this fails, proxies close the connection of a job that waits."""
    async with bench(concurrency=0) as api:
        job_id = (await api.submit()).rpartition("/")[2]
        context = Api(
            service=api.service,
            settings=keyed(),
            limits=UploadLimits(max_file_bytes=1),
            stopping=api.stopping,
            metrics=None,
        )
        follow = JobEvents(
            context, "default", job_id, look_seconds=0.01, silence_seconds=0.05, most_seconds=0.4
        )
        chunks = [chunk async for chunk in follow.follow("")]

    comments = [chunk for chunk in chunks if chunk.startswith(b":")]
    assert 2 <= len(comments) <= 9
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)


async def test_no_more_streams_than_may_be() -> None:
    """If this fails, one tenant holds all connections, or a closed stream keeps its place."""
    streams = Streams(most=3, most_per_tenant=2)
    with streams.opened("a"), streams.opened("a"):
        with pytest.raises(Exception, match="all 2 streams of this tenant"):
            streams.check("a")
        streams.check("b")
        with streams.opened("b"), pytest.raises(Exception, match="all 3 streams that may be open"):
            streams.check("c")
    streams.check("a")
    assert not streams._open


async def test_head_opens_no_stream() -> None:
    """If this fails, a HEAD request hangs until the job ends."""
    async with bench(concurrency=0) as api:
        path = await api.submit()
        with anyio.fail_after(3):
            head = await api.client.head(f"{path}/events")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_events_of_nobodys_job() -> None:
    """If this fails, the events of another tenant's job are told, or open a stream."""
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        path = await api.submit()
        theirs = await api.client.get(f"{path}/events", headers={"X-API-Key": OTHER_KEY})
        unknown = await api.client.get(path.replace(path[-8:], "00000000") + "/events")
        without = await api.client.get(f"{path}/events", headers={"X-API-Key": "wrong"})

    assert_problem(theirs, 404, "JOB_NOT_FOUND")
    assert_problem(unknown, 404, "JOB_NOT_FOUND")
    assert_problem(without, 401, "UNAUTHORIZED")


async def test_a_stream_that_is_full_is_refused_and_one_that_is_left_ends() -> None:
    """If this fails, streams that nobody reads pile up on a server until it has no connections left."""
    async with bench(concurrency=0) as api, served(api) as url, httpx.AsyncClient(base_url=url) as client:
        path = await api.submit()
        routes: Any = api.app.routes
        (streams,) = {route.endpoint.api.streams for route in routes}
        streams.most_per_tenant = 1
        async with client.stream("GET", f"{path}/events") as first:
            lines = first.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            refused = await client.get(f"{path}/events")
        with anyio.fail_after(5):
            while streams._open:  # noqa: ASYNC110 - no event tells of it
                await anyio.sleep(0.05)

    problem: dict[str, Any] = refused.json()
    assert (refused.status_code, problem["code"]) == (429, "TOO_MANY_STREAMS")
    assert refused.headers["retry-after"] == "30"


async def test_streams_end_when_the_service_stops() -> None:
    """If this fails, a deploy waits for every client that follows a job."""
    async with bench(concurrency=0) as api, served(api) as url, httpx.AsyncClient(base_url=url) as client:
        path = await api.submit()
        async with client.stream("GET", f"{path}/events") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            with anyio.fail_after(5):
                api.stopping.begin()
                rest = [line async for line in lines]

    assert any(line.startswith("event: progress") for line in rest)
