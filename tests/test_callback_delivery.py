"""Callbacks as a real HTTP client delivers them to receivers that misbehave, under a movable clock."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import web
from attrs import define, evolve, frozen
from standardwebhooks import Webhook

from dedup2d.callbacks import CallbackSecrets, verify
from dedup2d.callbacks.attempts import CallbackOptions, Signing
from dedup2d.callbacks.body import callback_body
from dedup2d.callbacks.delivery import Deliverer
from dedup2d.callbacks.guard_url import GuardOptions
from dedup2d.callbacks.schedule import delay_after
from dedup2d.callbacks.sending import CallbackSender
from dedup2d.errors import CallbackUrlError
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.metrics import PrometheusMetrics
from dedup2d.testing import ManualClock
from dedup2d.testing.job_making import RESULT, TOKEN, admit, claim, complete
from dedup2d.types import CallbackStatus, Job, JobStatus
from tests.callback_receiver import (
    SECRET,
    Receiver,
    answering,
    babbling,
    dropping,
    endless,
    hanging,
    options_for,
    receiving,
    trusting,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define(kw_only=True)
class Bench:
    """A store of jobs, a receiver, and what delivers from one to the other."""

    clock: ManualClock
    jobs: MemoryJobStore
    receiver: Receiver
    deliverer: Deliverer
    metrics: PrometheusMetrics

    async def finished(self, job_id: str = "job", **fields: Any) -> Job:
        """Give a job that has just been completed."""
        await admit(self.jobs, self.clock, job_id, **{"callback_url": self.receiver.url, **fields})
        await claim(self.jobs, job_id)
        return await complete(self.jobs, job_id)

    async def deliver(self, job_id: str = "job") -> Job:
        """Make the attempts that are due and return the job."""
        await self.deliverer.deliver_due()
        return await self.jobs.get(job_id)

    async def next_attempt(self, job_id: str = "job") -> Job:
        """Let the time come at which the callback is tried again."""
        due = (await self.jobs.get(job_id)).callback_next_attempt_at
        assert due is not None
        self.clock.set(due)
        return await self.deliver(job_id)


@asynccontextmanager
async def bench(authority: trustme.CA | None = None, **options: Any) -> AsyncIterator[Bench]:
    clock, metrics = ManualClock(), PrometheusMetrics()
    jobs = MemoryJobStore(clock=clock)
    async with receiving(authority) as receiver:
        sender = CallbackSender(options=options_for(receiver, **options), clock=clock)
        async with sender:
            numbers = iter(range(10**6))
            deliverer = Deliverer(
                jobs=jobs,
                sender=sender,
                ttl_seconds=3600.0,
                observer=metrics,
                clock=clock,
                new_id=lambda: f"lease-{next(numbers)}",
                jitter=lambda: 0.0,
            )
            yield Bench(clock=clock, jobs=jobs, receiver=receiver, deliverer=deliverer, metrics=metrics)


# -- what is sent -----------------------------------------------------------------------------


async def test_a_delivery_is_verified_by_the_library_and_by_ours() -> None:
    """If this fails, a receiver cannot know a callback for genuine, or is told something else than `get`."""
    async with bench() as here:
        here.clock.set(time.time())
        job = await here.finished()
        done = await here.deliver()
        (received,) = here.receiver.received

    payload = json.loads(received.body)
    assert Webhook(SECRET).verify(received.body, received.headers) == payload
    verified = verify(received.headers, received.body, SECRET, now=here.clock())
    assert (verified.job_id, verified.message_id) == ("job", job.callback_message_id)
    assert payload["status"] == "completed"
    assert payload["result"]["duplicates"][0]["file_name"] == RESULT.duplicates[0].file_name
    assert set(payload) == {
        *("job_id", "tenant_id", "status", "started_at", "finished_at", "result", "error", "error_code")
    }
    assert payload["finished_at"] == job.finished_at
    headers = {name.lower(): value for name, value in received.headers.items()}
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("dedup2d/")
    assert (headers["x-dedup-job-id"], headers["x-dedup-tenant-id"]) == ("job", "tenant")
    assert received.path == "/hook?token=of-the-receiver"
    assert (done.callback_status, done.callback_http_status, done.callback_attempts) == (
        CallbackStatus.SUCCESS,
        204,
        1,
    )
    assert (done.status, done.result, done.callback_last_error) == (JobStatus.COMPLETED, RESULT, None)
    assert done.expires_at == here.clock() + 3600


async def test_each_tenant_has_its_own_secrets_and_scheme() -> None:
    """If this fails, tenants can forge callbacks to each other, or a changed secret is not used yet."""
    own = "secret-of-the-other-tenant"
    secrets = CallbackSecrets(common=("new-secret-of-everybody", SECRET), tenants={"other": (own,)})
    async with bench(secrets=secrets, signing=Signing.DEDUP) as here:
        await here.finished("one")
        await here.finished("two", tenant_id="other")
        await here.deliverer.deliver_due()
        by_job = {each.headers["X-Dedup-Job-Id"]: each for each in here.receiver.received}

    for secret, job_id in (("new-secret-of-everybody", "one"), (SECRET, "one"), (own, "two")):
        verify(by_job[job_id].headers, by_job[job_id].body, secret, now=here.clock())
    with pytest.raises(ValueError, match="no signature fits"):
        verify(by_job["two"].headers, by_job["two"].body, SECRET, now=here.clock())
    assert not [name for name in by_job["one"].headers if name.lower().startswith("webhook-")]


async def test_a_signer_of_ones_own_is_asked_for_each_tenant() -> None:
    """If this fails, nobody can sign callbacks as their receivers want it."""

    @frozen
    class Stamp:
        tenant_id: str

        def headers(self, **given: Any) -> dict[str, str]:
            return {"X-Stamp": f"{self.tenant_id} {given['message_id']} {len(given['body'])}"}

    async with bench(signers=Stamp) as here:
        job = await here.finished(tenant_id="acme")
        await here.deliver()
        (received,) = here.receiver.received

    assert received.headers["X-Stamp"] == f"acme {job.callback_message_id} {len(received.body)}"
    assert "webhook-signature" not in {name.lower() for name in received.headers}


async def test_without_a_secret_nothing_is_signed() -> None:
    """If this fails, callbacks are signed with an empty secret, which looks genuine and is not."""
    async with bench(secrets=CallbackSecrets(tenants={"other": (SECRET,)})) as here:
        await here.finished()
        await here.deliver()
        (received,) = here.receiver.received

    assert not [name for name in received.headers if "signature" in name.lower()]


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELED])
async def test_other_ends_are_told_too(status: JobStatus) -> None:
    """If this fails, a receiver waits for ever for the end of a job that failed or was canceled."""
    async with bench() as here:
        await admit(here.jobs, here.clock, "job", callback_url=here.receiver.url)
        await claim(here.jobs, "job")
        await here.jobs.finish(
            "job", TOKEN, status=status, ttl_seconds=9, error_code="UNREADABLE_DRAWING", error="why"
        )
        done = await here.deliver()
        (received,) = here.receiver.received

    told = received.payload
    assert (told["status"], told["result"], told["error"]) == (status, None, "why")
    assert told["error_code"] == "UNREADABLE_DRAWING"
    assert done.callback_status is CallbackStatus.SUCCESS


async def test_a_result_that_is_too_large_is_told_without_its_pictures() -> None:
    """If this fails, a large result is never told, or fills the memory of a receiver."""
    match = RESULT.duplicates[0]
    large = evolve(
        RESULT,
        duplicates=tuple(
            evolve(
                match,
                drawing_id=f"d-{n}",
                diff_image_base64="A" * 10_000,
                diff_regions=match.diff_regions * 20,
            )
            for n in range(50)
        ),
    )
    job = Job(
        job_id="job",
        tenant_id="tenant",
        file_key="k",
        file_name="n",
        file_hash="h",
        file_size=1,
        created_at=1.0,
        status=JobStatus.COMPLETED,
        result=large,
    )
    bodies = [callback_body(job, max_bytes=most) for most in (10**7, 400_000, 60_000, 2_000)]
    told = [json.loads(body)["result"] for body in bodies]

    assert [
        len(body) <= most for body, most in zip(bodies, (10**7, 400_000, 60_000, 2_000), strict=True)
    ] == [True] * 4
    assert told[0]["duplicates"][0]["diff_image_base64"]
    assert [len(each["duplicates"]) for each in told] == [50, 50, 50, 0]
    assert [bool(each["duplicates"][0]["diff_regions"]) for each in told[:3]] == [True, True, False]
    assert told[1]["duplicates"][0]["diff_image_base64"] is None
    assert [each["total_matches"] for each in told] == [large.total_matches] * 4
    assert ["left out" in "".join(each["warnings"]) for each in told] == [False, True, True, True]
    assert callback_body(job, max_bytes=2_000) == bodies[3], "the same at every attempt"


# -- receivers that are away, or misbehave ----------------------------------------------------


async def test_a_receiver_that_is_down_for_ten_minutes_is_told_when_it_is_up() -> None:
    """If this fails, an outage of a receiver loses news, or tells them under a new id each time."""
    async with bench() as here:
        assert here.receiver.open
        assert here.receiver.close
        job = await here.finished()
        begin = here.clock()
        await here.receiver.close()
        states = []
        down = await here.deliver()
        while (due := down.callback_next_attempt_at or 0) < begin + 600:
            assert down.callback_last_error == "the receiver could not be reached, or closed the connection"
            states.append((here.clock() - begin, down.callback_attempts, down.callback_status))
            here.clock.set(due)
            down = await here.deliver()
        await here.receiver.open()
        done = await here.next_attempt()

    assert states == [(0, 1, "pending"), (5, 2, "pending")]
    assert (here.clock() - begin, done.callback_attempts) == (305 + 1800, 4)
    assert done.callback_status is CallbackStatus.SUCCESS
    assert (done.status, done.result, done.error) == (JobStatus.COMPLETED, RESULT, None)
    assert [each.message_id for each in here.receiver.received] == [job.callback_message_id]


async def test_answers_that_may_pass_are_tried_again_under_the_same_id() -> None:
    """If this fails, a receiver that is busy is never told, or cannot know repetitions."""
    async with bench() as here:
        statuses = [500, 503, 408, 425, 429, 502]
        here.receiver.behaviours = [answering(status) for status in statuses]
        await here.finished()
        first = await here.deliver()
        seen = [first.callback_http_status]
        while (now := await here.next_attempt()).callback_status is CallbackStatus.PENDING:
            seen.append(now.callback_http_status)

    assert seen == statuses
    assert (now.callback_status, now.callback_attempts) == (CallbackStatus.SUCCESS, 7)
    assert first.callback_last_error == "the receiver answered 500"
    assert (len(here.receiver.received), len(here.receiver.message_ids)) == (7, 1)
    assert len({each.body for each in here.receiver.received}) == 1
    timestamps = [int(each.headers["webhook-timestamp"]) for each in here.receiver.received]
    assert timestamps == sorted(set(timestamps)), (
        "each attempt has its own time, or receivers refuse it as old"
    )


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 451])
async def test_answers_that_will_not_pass_end_it(status: int) -> None:
    """If this fails, a receiver that has said no is asked for days."""
    async with bench() as here:
        here.receiver.behaviours = [answering(status)]
        await here.finished()
        done = await here.deliver()

    assert (done.callback_status, done.callback_http_status) == (CallbackStatus.FAILED, status)
    assert done.callback_last_error == f"the receiver answered {status}"
    assert done.status is JobStatus.COMPLETED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """If this fails, a receiver sends the service to wherever it likes, loopback too."""
    async with bench() as here:
        where = f"http://127.0.0.1:{here.receiver.port}/elsewhere"
        here.receiver.behaviours = [answering(status, Location=where)]
        await here.finished()
        done = await here.deliver()

    assert here.receiver.redirected == 0
    assert (done.callback_status, done.callback_http_status) == (CallbackStatus.FAILED, status)
    assert "redirects are not followed" in (done.callback_last_error or "")


async def test_a_receiver_that_hangs_is_left_in_time() -> None:
    """If this fails, a receiver that does not answer holds a place for ever."""
    async with bench(timeout_seconds=0.3) as here:
        here.receiver.behaviours = [hanging]
        await here.finished()
        with anyio.fail_after(3):
            waits = await here.deliver()
        done = await here.next_attempt()

    assert waits.callback_status is CallbackStatus.PENDING
    assert waits.callback_last_error == "the receiver took longer than 0.3 s"
    assert done.callback_status is CallbackStatus.SUCCESS
    assert len(here.receiver.message_ids) == 1


@pytest.mark.parametrize(("status", "ended"), [(200, CallbackStatus.SUCCESS), (500, CallbackStatus.PENDING)])
async def test_a_reply_without_end_is_cut_off(status: int, ended: CallbackStatus) -> None:
    """If this fails, a reply of gigabytes fills the memory, or the status before it is forgotten."""
    flood = endless(status)
    async with bench() as here:
        here.receiver.behaviours = [flood]
        await here.finished()
        with anyio.fail_after(10):
            done = await here.deliver()
        await anyio.sleep(0.1)
        sent = sum(flood.sent)  # type: ignore[attr-defined]  # noted on the function itself

    assert (done.callback_status, done.callback_http_status) == (ended, status)
    assert sent < 30_000_000, "what lies in the buffers of the system, and no more"


async def test_a_reply_that_drips_counts_by_its_status() -> None:
    """If this fails, a receiver that ends its reply slowly is told again and again."""
    async with bench() as here:

        async def drip(request: Any) -> Any:
            response = web.StreamResponse(status=202)
            await response.prepare(request)
            while True:
                await response.write(b"x")
                await anyio.sleep(0.05)

        here.receiver.behaviours = [drip]
        await here.finished()
        with anyio.fail_after(4):
            done = await here.deliver()

    assert (done.callback_status, done.callback_http_status) == (CallbackStatus.SUCCESS, 202)


async def test_a_connection_that_breaks_is_tried_again() -> None:
    """If this fails, a receiver that restarts in the middle is never told."""
    async with bench() as here:
        here.receiver.behaviours = [dropping]
        await here.finished()
        broken = await here.deliver()
        done = await here.next_attempt()

    assert (broken.callback_status, broken.callback_http_status) == (CallbackStatus.PENDING, None)
    assert done.callback_status is CallbackStatus.SUCCESS


async def test_what_is_not_http_is_tried_again() -> None:
    """If this fails, garbage from a receiver stops the process that sends, or shows in errors."""
    async with bench() as here:
        here.receiver.behaviours = [babbling]
        await here.finished()
        broken = await here.deliver()
        done = await here.next_attempt()

    assert (broken.callback_status, broken.callback_http_status) == (CallbackStatus.PENDING, None)
    assert "secret" not in (broken.callback_last_error or "")
    assert done.callback_status is CallbackStatus.SUCCESS


async def test_only_certificates_that_are_trusted_are_talked_to() -> None:
    """If this fails, whoever sits between can read results and answer for the receiver."""
    authority, stranger = trustme.CA(), trustme.CA()
    async with bench(authority, tls=trusting(stranger)) as here:
        await here.finished()
        refused = await here.deliver()
        assert here.receiver.received == []
        here.deliverer.sender.options = evolve(here.deliverer.options, tls=trusting(authority))  # type: ignore[misc]  # frozen elsewhere, replaced for the test
        done = await here.next_attempt()

    assert refused.callback_status is CallbackStatus.PENDING
    assert refused.callback_last_error == "the receiver's TLS certificate or protocol cannot be trusted"
    assert (done.callback_status, len(here.receiver.received)) == (CallbackStatus.SUCCESS, 1)


async def test_a_certificate_that_nobody_knows_is_refused_by_default() -> None:
    """If this fails, callbacks are sent without looking at certificates unless somebody asks for it."""
    async with bench(trustme.CA()) as here:
        await here.finished()
        refused = await here.deliver()

    assert "TLS" in (refused.callback_last_error or "")
    assert here.receiver.received == []


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, callbacks go through a proxy, which reaches what the guard refuses."""
    async with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base)
        monkeypatch.setenv("no_proxy", "")
        async with bench() as here:
            await here.finished()
            done = await here.deliver()

    assert done.callback_status is CallbackStatus.SUCCESS
    assert (len(here.receiver.received), proxy.received) == (1, [])


# -- when it is tried again -------------------------------------------------------------------


async def test_the_attempts_come_to_an_end() -> None:
    """If this fails, callbacks of receivers that are gone pile up for ever."""
    async with bench(max_attempts=4) as here:
        here.receiver.behaviours = [answering(503)] * 9
        job = await here.finished()
        done = await here.deliver()
        while done.callback_status is CallbackStatus.PENDING:
            done = await here.next_attempt()
        rendered = here.metrics.render().decode()

    assert (done.callback_status, done.callback_attempts) == (CallbackStatus.FAILED, 4)
    assert (done.callback_http_status, done.callback_last_error) == (503, "the receiver answered 503")
    assert done.callback_finished_at == here.clock()
    assert (done.status, done.result, done.finished_at) == (JobStatus.COMPLETED, RESULT, job.finished_at)
    assert len(here.receiver.received) == 4
    assert 'dedup2d_callback_attempts_total{outcome="passing_status"} 4.0' in rendered
    assert "dedup2d_callback_retries_total 3.0" in rendered
    assert 'dedup2d_callbacks_finished_total{status="failed"} 1.0' in rendered


def test_the_delays_are_those_of_the_documentation() -> None:
    """If this fails, receivers are asked too often, or too late."""
    assert [delay_after(n, jitter=0.0) for n in range(1, 9)] == [
        *(5, 300, 1800, 7200, 18_000, 36_000, 36_000, 36_000)
    ]
    assert delay_after(1, jitter=1.0) == 6.0
    assert delay_after(1, jitter=0.0, retry_after=120.0) == 120.0
    assert delay_after(2, jitter=0.0, retry_after=1.0) == 300.0
    assert delay_after(1, jitter=0.0, retry_after=10.0**9) == 36_000.0


async def test_a_receiver_may_ask_for_time() -> None:
    """If this fails, a receiver that asks for a pause is asked again at once."""
    async with bench() as here:
        here.receiver.behaviours = [
            answering(429, Retry_After="1000"),
            answering(503, Retry_After="99999999"),
        ]
        await here.finished()
        first = await here.deliver()
        asked = here.clock()
        second = await here.next_attempt()

    assert (first.callback_next_attempt_at or 0) - asked == 1000
    assert (second.callback_next_attempt_at or 0) - here.clock() == 36_000


async def test_asked_again_it_is_sent_again_under_the_same_id() -> None:
    """If this fails, a receiver that lost news cannot get them again, or takes them for others."""
    async with bench() as here:
        here.receiver.behaviours = [answering(400)]
        await here.finished()
        assert (await here.deliver()).callback_status is CallbackStatus.FAILED
        await here.jobs.redeliver("job", "tenant")
        done = await here.deliver()

    assert (done.callback_status, done.callback_attempts) == (CallbackStatus.SUCCESS, 1)
    assert (len(here.receiver.received), len(here.receiver.message_ids)) == (2, 1)


# -- what may be called -----------------------------------------------------------------------


async def test_a_url_that_is_no_longer_allowed_is_skipped() -> None:
    """If this fails, narrowing the allowlist does not hold for jobs that were taken in before."""
    async with bench() as here:
        await here.finished()
        here.deliverer.sender.options = evolve(  # type: ignore[misc]  # frozen elsewhere, replaced for the test
            here.deliverer.options, guard=GuardOptions(allow_http=True)
        )
        done = await here.deliver()
        rendered = here.metrics.render().decode()

    assert (done.callback_status, done.callback_http_status) == (CallbackStatus.SKIPPED, None)
    assert "token" not in (done.callback_last_error or "")
    assert here.receiver.received == []
    assert "dedup2d_callbacks_blocked_total" in rendered


async def test_the_check_refuses_what_may_not_be_called() -> None:
    """If this fails, a job is taken in whose callback is never sent."""
    async with CallbackSender(options=CallbackOptions()) as sender:
        for url in ("http://example.com/", "https://127.0.0.1/", "https://169.254.169.254/", "ftp://x", ""):
            with pytest.raises(CallbackUrlError):
                await sender.check(url)
