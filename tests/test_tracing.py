"""Request id and trace: from a client's header through API, queue and worker to the vision server."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import structlog

from dedup2d.callbacks.sending import CallbackSender
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d.tracing import REQUEST_ID, TRACE, Trace, current_traceparent, trace_of, working_for
from dedup2d.types import SearchParams
from dedup2d.vision.http import HTTPVisionClient, VisionOptions
from dedup2d_http.logs import configure_logging
from tests.callback_receiver import options_for, receiving
from tests.http_support import PNG, Bench, bench
from tests.vision_stub import vision_stub

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
SENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        SENT[:-1],
        SENT.upper(),
        f" {SENT}",
        f"{SENT}-more",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"{SENT}\n",
        f"{SENT},{SENT}",
    ],
)
def test_what_is_no_traceparent_counts_as_not_sent(header: str) -> None:
    """If this fails, a client writes what it likes into the log, and into headers that are sent on."""
    assert trace_of(header) is None


def test_later_versions_are_read_as_far_as_they_are_known() -> None:
    """If this fails, a trace ends here as soon as clients use a newer version."""
    later = trace_of(f"01-{TRACE_ID}-{SPAN_ID}-03-what-comes-next")

    assert later == Trace(trace_id=TRACE_ID, span_id=SPAN_ID, sampled=True)
    assert later.traceparent == SENT


def test_a_child_shares_the_trace_and_nothing_outlives_the_block() -> None:
    """If this fails, lines of different requests are taken for one, or a task keeps another's trace."""
    with working_for("r1", SENT) as trace:
        assert (trace.trace_id, trace.sampled) == (TRACE_ID, True)
        assert trace.span_id != SPAN_ID
        assert (REQUEST_ID.get(), current_traceparent()) == ("r1", trace.traceparent)
        with working_for(None, "nonsense") as other:
            assert other.trace_id != TRACE_ID
    assert (REQUEST_ID.get(), TRACE.get()) == ("", None)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Log JSON into a stream, and put the logging of the process back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging(level="info", form="json", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(stream: io.StringIO, **wanted: Any) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in read if wanted.items() <= line.items()]


class _Asking(FakeVision):
    """A vision that asks a vision server, as one that is set by DEDUPCAD_VISION_URL does."""

    def __init__(self, client: HTTPVisionClient) -> None:
        super().__init__()
        self.client = client

    async def search(self, tenant_id: str, file: Any, params: SearchParams, **more: Any) -> Any:
        return await self.client.search(tenant_id, file, params)


async def submit(api: Bench, **headers: str) -> str:
    answer = await api.client.post(
        "/api/v1/dedup/2d/search",
        params={"async": "true"},
        files={"file": ("a.png", PNG)},
        headers=headers,
    )
    assert answer.status_code == 202, answer.text
    path: str = answer.json()["poll_url"]
    return path


async def test_one_trace_from_the_client_to_the_vision_server(logged: io.StringIO) -> None:
    """If this fails, nobody can follow a search from the request to the machine where it failed."""
    async with (
        vision_stub() as stub,
        HTTPVisionClient(VisionOptions(url=stub.url)) as client,
        bench(Settings(), vision=_Asking(client)) as api,
    ):
        path = await submit(api, traceparent=SENT, **{"X-Request-Id": "order-17"})
        with anyio.fail_after(10):
            job = (await api.client.get(path, headers={"Prefer": "wait=10"})).json()
        stored = await api.service.get("default", job["job_id"])
        sent = stub.last

    assert sent is not None
    assert (job["status"], job["request_id"]) == ("completed", "order-17")
    kept, passed = trace_of(stored.traceparent), trace_of(sent.headers["traceparent"])
    assert kept is not None
    assert passed is not None
    assert {kept.trace_id, passed.trace_id} == {TRACE_ID}
    assert len({SPAN_ID, kept.span_id, passed.span_id}) == 3
    assert passed.sampled
    assert sent.headers["X-Request-Id"] == "order-17"
    (request,) = lines(logged, event="request", method="POST")
    (started,) = lines(logged, event="job started")
    for line in (request, started):
        assert (line["request_id"], line["trace_id"]) == ("order-17", TRACE_ID)
    assert request["span_id"] != started["span_id"]


async def test_the_callback_of_a_job_belongs_to_its_trace(logged: io.StringIO) -> None:
    """If this fails, a callback that never came cannot be found by the request that asked for it."""
    async with receiving() as receiver:
        sender = CallbackSender(options=options_for(receiver))
        async with bench(Settings(), callbacks=sender) as api:
            headers = {"traceparent": SENT, "X-Request-Id": "order-18"}
            answer = await api.client.post(
                "/api/v1/dedup/2d/search",
                params={"callback_url": receiver.url},
                files={"file": ("a.png", PNG)},
                headers=headers,
            )
            assert answer.status_code == 202, answer.text
            with anyio.fail_after(10):
                while not lines(logged, event="callback has ended"):  # noqa: ASYNC110 - only the log tells
                    await anyio.sleep(0.01)

    (ended,) = lines(logged, event="callback has ended")
    assert (ended["request_id"], ended["trace_id"]) == ("order-18", TRACE_ID)
    (received,) = receiver.received
    assert "traceparent" not in {name.lower() for name in received.headers}


async def test_a_job_of_nobodys_trace_begins_one(logged: io.StringIO) -> None:
    """If this fails, lines of a job without a trace have none, or a hostile header gets into the log."""
    async with bench(Settings()) as api:
        path = await submit(api, traceparent=f'00-{"g" * 32}-"injected"-01')
        await api.client.get(path, headers={"Prefer": "wait=10"})

    (request,) = lines(logged, event="request", method="POST")
    (started,) = lines(logged, event="job started")
    assert request["trace_id"] == started["trace_id"]
    assert len(request["trace_id"]) == 32
    assert "injected" not in logged.getvalue()
