"""Callbacks through the service and over HTTP: asked for, delivered, shown, sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from dedup2d.callbacks import verify
from dedup2d.callbacks.sending import CallbackSender
from dedup2d.keys import Principal, Scope
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d_http.routing import PREFIX
from tests.callback_receiver import SECRET, Receiver, answering, options_for, receiving
from tests.http_support import KEY, KEYS, OTHER_KEY, Bench, assert_problem, bench, holding

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def calling(
    vision: FakeVision | None = None, settings: Settings | None = None, **options: Any
) -> AsyncIterator[tuple[Bench, Receiver]]:
    async with receiving() as receiver:
        sender = CallbackSender(options=options_for(receiver, **options))
        async with bench(
            settings, vision=vision, callbacks=sender, key=KEY if settings and settings.api_keys else None
        ) as api:
            yield api, receiver


async def ended(api: Bench, path: str) -> dict[str, Any]:
    """Return the job once its callback has ended."""
    with anyio.fail_after(10):
        while True:
            job: dict[str, Any] = (await api.client.get(path)).json()
            if job["callback_status"] != "pending":
                return job
            await anyio.sleep(0.01)


async def test_a_search_with_callback_url_is_a_job_whose_end_is_told() -> None:
    """If this fails, a client that asked for a callback never hears of its search."""
    async with calling() as (api, receiver):
        answer = await api.search(callback_url=receiver.url)
        assert answer.status_code == 202, answer.text
        job = await ended(api, answer.json()["poll_url"])
        (received,) = receiver.received

    assert answer.json()["forced_async_reason"] == "callback_url"
    assert verify(received.headers, received.body, SECRET).payload["result"] == job["result"]
    told = {name: job[f"callback_{name}"] for name in ("status", "attempts", "http_status", "last_error")}
    assert told == {"status": "success", "attempts": 1, "http_status": 204, "last_error": None}
    assert job["callback_message_id"] == received.message_id
    assert job["callback_finished_at"] >= job["finished_at"]
    assert job["callback_next_attempt_at"] is None
    assert "token=of-the-receiver" not in str(job)


async def test_a_callback_that_fails_leaves_the_job_as_it_is() -> None:
    """If this fails, a broken receiver makes a good search look failed."""
    async with calling() as (api, receiver):
        receiver.behaviours = [answering(410)]
        job = await ended(api, await api.submit(callback_url=receiver.url))

    assert (job["status"], job["error"]) == ("completed", None)
    assert (job["callback_status"], job["callback_http_status"]) == ("failed", 410)
    assert job["result"]["total_matches"] == 0


async def test_a_canceled_job_is_told() -> None:
    """If this fails, who cancels a job leaves its receiver waiting."""
    async with calling(holding()) as (api, receiver):
        path = await api.submit(callback_url=receiver.url)
        await api.client.post(f"{path}/cancel")
        job = await ended(api, path)

    assert receiver.received[0].payload["status"] == job["status"] == "canceled"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://user:password@example.com/",
        "http://127.0.0.1:1/",
        "file:///etc/passwd",
        "//example.com",
        "https://example.com/?secret=" + "x" * 3000,
        " ",
    ],
)
async def test_a_url_that_may_not_be_called_is_refused_before_the_file_is_read(url: str) -> None:
    """If this fails, clients learn only from a failed callback, or not, that a URL is wrong."""
    async with calling() as (api, _):
        answer = await api.search(callback_url=url)
        stored = await api.stored_files()
        rendered = (await api.client.get("/metrics")).text

    assert_problem(answer, 400, "CALLBACK_URL_INVALID", "callback_url is not allowed")
    assert "secret" not in answer.text
    assert "password" not in answer.text.replace("user or password", "")
    assert stored == 0
    assert api.asked == []
    assert "dedup2d_callbacks_blocked_total{reason=" in rendered


async def test_receivers_that_are_gone_do_not_fill_the_store() -> None:
    """If this fails, a tenant fills memory or disk with the callbacks of a receiver that never answers."""
    async with calling(settings=Settings(callback_max_waiting=2)) as (api, receiver):
        receiver.behaviours = [answering(503)] * 3
        for number in (1, 2):
            await api.submit(callback_url=receiver.url)
            await receiver.wait_for(number)
        refused = await api.search(callback_url=receiver.url)
        without = await api.search(**{"async": "true"})
        stored = await api.client.get(f"{PREFIX}/jobs")

    assert_problem(refused, 429, "CALLBACK_QUEUE_FULL", "2 callbacks", "DEDUP2D_CALLBACK_MAX_WAITING")
    assert refused.headers["Retry-After"] == "60"
    assert without.status_code == 202
    assert stored.json()["total"] == 3


async def test_the_same_key_with_another_callback_is_a_conflict() -> None:
    """If this fails, a client believes that its second receiver is told, and it is not."""
    async with calling(holding()) as (api, receiver):

        async def submit(url: str) -> Any:
            return await api.client.post(
                f"{PREFIX}/search",
                params={"callback_url": url},
                files={"file": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(9))},
                headers={"Idempotency-Key": "one"},
            )

        first, again = await submit(receiver.url), await submit(receiver.url)
        other = await submit(receiver.url + "x")

    assert first.json()["job_id"] == again.json()["job_id"]
    assert_problem(other, 422, "IDEMPOTENCY_CONFLICT", "callback")


async def test_a_callback_is_sent_again_on_request() -> None:
    """If this fails, a receiver that lost news has to search again."""
    async with calling() as (api, receiver):
        receiver.behaviours = [answering(404)]
        path = await api.submit(callback_url=receiver.url)
        failed = await ended(api, path)
        answer = await api.client.post(f"{path}/callback/redeliver")
        await receiver.wait_for(2)
        done = await ended(api, path)

    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "job_id": failed["job_id"],
        "tenant_id": failed["tenant_id"],
        "callback_message_id": failed["callback_message_id"],
        "callback_status": "pending",
    }
    assert answer.headers["Location"] == path
    assert (done["callback_status"], done["callback_attempts"]) == ("success", 1)
    assert receiver.message_ids == {failed["callback_message_id"]}


async def test_only_callbacks_that_there_are_can_be_sent_again() -> None:
    """If this fails, a client believes that something is on its way that is not."""
    vision = holding()
    async with calling(vision) as (api, receiver):
        waits = await api.submit(callback_url=receiver.url)
        silent = await api.submit()
        early = await api.client.post(f"{waits}/callback/redeliver")
        await api.client.post(f"{silent}/cancel")
        without = await api.client.post(f"{silent}/callback/redeliver")
        unknown = await api.client.post(f"{PREFIX}/jobs/{'0' * 32}/callback/redeliver")

    assert_problem(early, 409, "CALLBACK_CONFLICT", "not final yet")
    assert_problem(without, 409, "CALLBACK_CONFLICT", "without callback_url")
    assert_problem(unknown, 404, "JOB_NOT_FOUND")


async def test_another_tenant_neither_sees_nor_sends_a_callback() -> None:
    """If this fails, a tenant can flood the receiver of another, or learn that a job is there."""
    owners = {key: Principal(tenant, frozenset(Scope)) for key, tenant in KEYS.items()}
    async with calling(settings=Settings(api_keys=owners)) as (api, receiver):
        path = await api.submit(callback_url=receiver.url)
        await ended(api, path)
        foreign = await api.client.post(f"{path}/callback/redeliver", headers={"X-API-Key": OTHER_KEY})
        nobody = await api.client.post(f"{path}/callback/redeliver", headers={"X-API-Key": "wrong" * 5})

    assert_problem(foreign, 404, "JOB_NOT_FOUND")
    assert nobody.status_code == 401
    assert len(receiver.received) == 1


async def test_a_service_without_sender_says_so() -> None:
    """If this fails, a client waits for a callback that never comes."""
    async with bench() as api:
        answer = await api.search(callback_url="https://example.com/hook")

    assert_problem(answer, 400, "CALLBACK_URL_INVALID", "sends no callbacks", "poll")
