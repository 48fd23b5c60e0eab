"""Callbacks of real processes that are killed: each is received, under one id, and the job is unharmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.to_thread import run_sync

from dedup2d.callbacks import verify
from tests.callback_receiver import SECRET, Receiver, answering, hanging, receiving
from tests.drawings import small_png
from tests.serving import serving
from tests.test_worker_process import Here, becomes
from tests.test_worker_process import here as here  # noqa: PLC0414 - a fixture

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120), pytest.mark.once]

PREFIX = "/api/v1/dedup/2d"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def settings_for(receiver: Receiver, **more: str) -> dict[str, Any]:
    return {
        "DEDUP2D_CALLBACK_HMAC_SECRET": SECRET,
        "DEDUP2D_CALLBACK_ALLOW_HTTP": "1",
        "DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS": "0",
        "DEDUP2D_CALLBACK_PORTS": str(receiver.port),
        "DEDUP2D_CALLBACK_TIMEOUT_SECONDS": "1",
        **more,
    }


async def job_of(client: httpx.AsyncClient, path: str, status: str, *, seconds: float = 30) -> dict[str, Any]:
    """Return the job once its callback is *status*."""
    with anyio.fail_after(seconds):
        while True:
            job: dict[str, Any] = (await client.get(path)).json()
            if job["callback_status"] == status and job["callback_attempts"]:
                return job
            await anyio.sleep(0.05)


async def test_a_service_killed_while_it_sends_sends_again(tmp_path: Path) -> None:
    """If this fails, a power cut during a callback loses it, or tells it under another id."""
    data = tmp_path / "data"
    async with receiving() as receiver:
        receiver.behaviours = [hanging]
        variables = settings_for(receiver, DEDUP2D_CALLBACK_TIMEOUT_SECONDS="3")
        running = serving(data, variables)
        served = await run_sync(running.__enter__)
        async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=30) as client:
            answer = await client.post(
                f"{PREFIX}/search",
                params={"callback_url": receiver.url},
                files={"file": ("a.png", small_png(), "image/png")},
            )
            path = answer.json()["poll_url"]
            await receiver.wait_for(1)
            served.kill()
        await run_sync(running.__exit__, None, None, None)

        running = serving(data, variables)
        served = await run_sync(running.__enter__)
        async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=30) as client:
            job = await job_of(client, path, "success")
        await run_sync(running.__exit__, None, None, None)

    assert (job["status"], job["callback_attempts"]) == ("completed", 2)
    assert len(receiver.received) == 2
    assert receiver.message_ids == {job["callback_message_id"]}
    told = verify(receiver.received[1].headers, receiver.received[1].body, SECRET)
    assert told.payload["result"] == job["result"]


async def test_a_worker_killed_between_attempts_is_replaced(here: Here) -> None:
    """If this fails, a retry that was due is lost with the worker that made the first attempt."""
    async with receiving() as receiver:
        receiver.behaviours = [answering(500)]
        variables = settings_for(receiver)
        first = await here.worker(**variables)
        async with here.producer(**variables) as service:
            job = await service.submit("acme", small_png(), file_name="a.png", callback_url=receiver.url)
            await receiver.wait_for(1)
            with anyio.fail_after(10):
                while (await service.get("acme", job.job_id)).callback_http_status is None:  # noqa: ASYNC110 - another process writes it
                    await anyio.sleep(0.02)
            first.kill()
            between = await service.get("acme", job.job_id)
            await here.worker(**variables)
            await receiver.wait_for(2)
            with anyio.fail_after(10):
                while (  # noqa: ASYNC110 - another process does it
                    done := await service.get("acme", job.job_id)
                ).callback_status != "success":
                    await anyio.sleep(0.02)

    assert (between.status, between.callback_status, between.callback_attempts) == ("completed", "pending", 1)
    assert (done.status, done.result, done.callback_attempts) == ("completed", between.result, 2)
    assert receiver.message_ids == {job.callback_message_id}
    assert len(receiver.received) == 2


async def test_a_cancel_that_the_api_takes_is_told_by_a_worker(here: Here) -> None:
    """If this fails, callbacks of jobs that were canceled in the API, which sends none, are never sent."""
    async with receiving() as receiver:
        variables = settings_for(receiver)
        async with here.producer(**variables) as service:
            job = await service.submit("acme", small_png(), file_name="a.png", callback_url=receiver.url)
            await service.cancel("acme", job.job_id)
            await anyio.sleep(0.3)
            before = len(receiver.received)
            await here.worker(**variables)
            await receiver.wait_for(1)
            await becomes(service, job, job.status.CANCELED)

    assert before == 0
    assert receiver.received[0].payload["status"] == "canceled"
