"""Checks of a JobStore: the callbacks of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import evolve

from dedup2d.errors import (
    CallbackQueueFullError,
    CallbackStateError,
    IdempotencyConflictError,
    InvalidParameterError,
    JobNotFoundError,
    LeaseLostError,
)
from dedup2d.protocols import JobStore
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import ContractError, expect, expect_same, refused, together
from dedup2d.testing.job_making import RESULT, TOKEN, admit, claim, complete, make_job
from dedup2d.types import CallbackStatus, Job, JobStatus, Swept

__all__ = ["CHECKS"]

URL = "https://receiver.example/done?of=\u00fc"
DAY = 86_400.0
SENDER = "sender"


async def admit_with_callback(store: JobStore, clock: ManualClock, job_id: str = "job", **fields: Any) -> Job:
    return await admit(store, clock, job_id, **{"callback_url": URL, **fields})


async def completed(store: JobStore, clock: ManualClock, job_id: str = "job", **fields: Any) -> Job:
    await admit_with_callback(store, clock, job_id, **fields)
    await claim(store, job_id)
    return await complete(store, job_id)


async def taken(store: JobStore, token: str = SENDER, *, lease_seconds: float = 60.0) -> Job:
    job = await store.claim_callback(token, lease_seconds=lease_seconds)
    if job is None:
        raise ContractError("the callback of a final job can be claimed")
    return job


async def notes_what_a_callback_is_asked_for(store: JobStore, clock: ManualClock) -> None:
    job = await admit_with_callback(store, clock)
    expect_same(
        (job.callback_status, job.callback_url, job.callback_attempts, job.callback_next_attempt_at),
        (CallbackStatus.PENDING, URL, 0, None),
        "a job with a callback waits for its end",
    )
    expect(job.callback_message_id, "its callback has a message id")
    expect_same(await store.get("job"), job, "it is stored so")
    given = await admit_with_callback(store, clock, "given", callback_message_id="msg_1")
    expect_same(given.callback_message_id, "msg_1", "a message id that is given is kept")
    without = await admit(store, clock, "without", callback_status=CallbackStatus.SUCCESS)
    found = (without.callback_status, without.callback_message_id)
    expect_same(found, (None, None), "a job without callback has no status of one")
    expect_same(await store.claim_callback(SENDER, lease_seconds=9), None, "nothing is sent before the end")
    again = make_job(clock, "again", idempotency_key="key", callback_url=URL)
    await store.admit(again, max_jobs=99, max_jobs_per_tenant=99)
    with refused(IdempotencyConflictError, "the same key with another callback is a conflict"):
        other = evolve(again, job_id="other", callback_url=URL + "x")
        await store.admit(other, max_jobs=99, max_jobs_per_tenant=99)


async def callbacks_wait_from_the_final_state_on(store: JobStore, clock: ManualClock) -> None:
    async def finish() -> None:
        await complete(store, "job")

    async def fail() -> None:
        await store.finish("job", TOKEN, status=JobStatus.FAILED, ttl_seconds=10, error_code="INTERNAL")

    async def release() -> None:
        await store.cancel("job", "tenant", ttl_seconds=10)
        await store.release("job", TOKEN)

    async def lose() -> None:
        clock.advance(61)
        await store.sweep(max_losses=1, ttl_seconds=10)

    async def lose_the_canceled() -> None:
        await store.cancel("job", "tenant", ttl_seconds=10)
        await lose()

    ends: tuple[tuple[Callable[[], Coroutine[Any, Any, None]], JobStatus], ...] = (
        (finish, JobStatus.COMPLETED),
        (fail, JobStatus.FAILED),
        (release, JobStatus.CANCELED),
        (lose, JobStatus.FAILED),
        (lose_the_canceled, JobStatus.CANCELED),
    )
    for end, status in ends:
        await admit_with_callback(store, clock)
        await claim(store, "job")
        await end()
        await expect_sent(store, clock, status)
    await admit_with_callback(store, clock)
    await store.cancel("job", "tenant", ttl_seconds=10)
    await expect_sent(store, clock, JobStatus.CANCELED)


async def expect_sent(store: JobStore, clock: ManualClock, status: JobStatus) -> None:
    """Expect that the callback of `job` waits since now, send it, and let the job go."""
    job = await store.get("job")
    found = (job.status, job.callback_status, job.callback_next_attempt_at)
    expect_same(found, (status, CallbackStatus.PENDING, clock()), f"the callback of a job that is {status}")
    expect((job.expires_at or 0) >= clock() + DAY, "the job is kept for a day, that its callback can be sent")
    claimed = await taken(store)
    expect_same((claimed.job_id, claimed.status), ("job", status), f"a job that is {status} can be told of")
    await store.finish_callback("job", SENDER, status=CallbackStatus.SUCCESS, ttl_seconds=1)
    clock.advance(2)
    await store.sweep(max_losses=1, ttl_seconds=1)


async def claims_the_callback_due_longest(store: JobStore, clock: ManualClock) -> None:
    for name in ("second", "first", "third"):
        await admit_with_callback(store, clock, name, tenant_id=f"tenant-of-{name}")
    await admit(store, clock, "silent")
    for name in ("first", "second", "third", "silent"):
        await claim(store, name)
        await complete(store, name)
        clock.advance(1)
    claimed = await taken(store)
    wanted = evolve(
        await store.get("first"), callback_lease_token=SENDER, callback_lease_expires_at=clock() + 60
    )
    expect_same(claimed, wanted, "the claimed job, with its result")
    expect_same(
        (claimed.result, claimed.callback_attempts, claimed.callback_next_attempt_at),
        (RESULT, 1, None),
        "result, attempts and next attempt of a claimed callback",
    )
    expect_same((await store.get("first")).callback_lease_token, None, "its token is kept secret")
    listed = (await store.list("tenant-of-first")).jobs[0]
    expect_same(listed.callback_lease_token, None, "also in lists")
    passed = await store.claim_callback(SENDER, lease_seconds=60, passing_over=["tenant-of-second"])
    expect_same(passed and passed.job_id, "third", "tenants that are passed over are left to others")
    rest = [await store.claim_callback(SENDER, lease_seconds=60) for _ in range(2)]
    expect_same(
        [job and job.job_id for job in rest],
        ["second", None],
        "then what is left; nothing of jobs without one",
    )


async def passes_over_tenants_with_many_callbacks(store: JobStore, clock: ManualClock) -> None:
    for number in range(30):
        await completed(store, clock, f"loud-{number}", tenant_id=f"loud-{number % 3}")
    await completed(store, clock, "quiet", tenant_id="quiet")
    loud = [f"loud-{number}" for number in range(3)]
    found = await store.claim_callback(SENDER, lease_seconds=60, passing_over=loud)
    expect_same(found and found.job_id, "quiet", "the callback of a tenant behind many others")
    found = await store.claim_callback(SENDER, lease_seconds=60, passing_over=[*loud, "quiet"])
    expect_same(found, None, "nothing, where all tenants are passed over")


async def bounds_the_callbacks_of_each_tenant(store: JobStore, clock: ManualClock) -> None:
    async def ask(name: str, **fields: Any) -> Job:
        job = make_job(clock, name, **{"callback_url": URL, **fields})
        return await store.admit(job, max_jobs=99, max_jobs_per_tenant=99, max_callbacks_per_tenant=2)

    for name in ("first", "second"):
        await ask(name)
        await store.cancel(name, "tenant", ttl_seconds=100)
    with refused(CallbackQueueFullError, "a tenant has no more callbacks that wait than it may"):
        await ask("third")
    with refused(JobNotFoundError, "a job that was refused is not stored"):
        await store.get("third")
    await ask("silent", callback_url=None)
    await ask("foreign", tenant_id="other")
    claimed = await taken(store)
    with refused(CallbackQueueFullError, "one that is being sent still waits"):
        await ask("third")
    await store.finish_callback(claimed.job_id, SENDER, status=CallbackStatus.FAILED, ttl_seconds=100)
    await ask("third")
    clock.advance(2 * DAY)
    await store.sweep(max_losses=1, ttl_seconds=1)
    await ask("fourth")
    await ask("fifth")


async def gives_each_callback_to_one_of_many_senders(store: JobStore, clock: ManualClock) -> None:
    for number in range(10):
        await completed(store, clock, f"job-{number}")
    outcomes = await together([lambda n=n: store.claim_callback(str(n), lease_seconds=60) for n in range(25)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    claimed = sorted(job.job_id for job in outcomes if isinstance(job, Job))
    expect_same(claimed, [f"job-{n}" for n in range(10)], "25 senders share no callback of 10")


async def a_sender_that_dies_is_replaced(store: JobStore, clock: ManualClock) -> None:
    await completed(store, clock)
    await taken(store, "dead", lease_seconds=60)
    clock.advance(59.999)
    expect_same(
        await store.claim_callback(SENDER, lease_seconds=60), None, "before its end a lease is respected"
    )
    clock.advance(0.001)
    again = await taken(store)
    found = (again.callback_attempts, again.callback_message_id, again.callback_lease_expires_at)
    first = await store.get("job")
    expect_same(
        found, (2, first.callback_message_id, clock() + 60), "at its end another tries, with the same id"
    )
    for token in ("dead", ""):
        with refused(LeaseLostError, "who lost the lease cannot retry"):
            await store.retry_callback("job", token, delay_seconds=1)
        with refused(LeaseLostError, "who lost the lease cannot end the callback"):
            await store.finish_callback("job", token, status=CallbackStatus.FAILED, ttl_seconds=1)
    with refused(LeaseLostError, "nobody holds a job that is not there"):
        await store.retry_callback("gone", SENDER, delay_seconds=1)
    expect_same(await store.get("job"), first, "nothing is changed by those")
    clock.advance(3 * 60)
    late = await store.finish_callback("job", SENDER, status=CallbackStatus.SUCCESS, ttl_seconds=1)
    expect_same(late.callback_status, CallbackStatus.SUCCESS, "a late end counts while nobody else has it")


async def tries_again_after_a_delay(store: JobStore, clock: ManualClock) -> None:
    await completed(store, clock)
    claimed = await taken(store)
    delay = 10 * DAY
    back = await store.retry_callback(
        "job", SENDER, delay_seconds=delay, http_status=503, error="it answered 503"
    )
    wanted = evolve(
        claimed,
        result=None,
        callback_lease_token=None,
        callback_lease_expires_at=None,
        callback_next_attempt_at=clock() + delay,
        callback_http_status=503,
        callback_last_error="it answered 503",
        expires_at=clock() + delay + DAY,
    )
    expect_same(back, wanted, "a callback that is to be tried again, and its job kept beyond that")
    expect_same(await store.get("job"), evolve(wanted, result=RESULT), "it is stored so")
    with refused(LeaseLostError, "the lease is over"):
        await store.retry_callback("job", SENDER, delay_seconds=1)
    clock.advance(delay - 0.001)
    expect_same(await store.claim_callback(SENDER, lease_seconds=9), None, "it is not tried before its time")
    await store.sweep(max_losses=1, ttl_seconds=1)
    clock.set(back.callback_next_attempt_at or 0)
    again = await taken(store)
    expect_same((again.callback_attempts, again.result), (2, RESULT), "at its time it is, the second time")
    unmade = await store.retry_callback("job", SENDER, delay_seconds=0, attempted=False)
    found = (unmade.callback_attempts, unmade.callback_http_status, unmade.callback_last_error)
    expect_same(
        found, (1, 503, "it answered 503"), "an attempt that was not made leaves what is known of the last"
    )
    expect_same((await taken(store)).callback_attempts, 2, "nor does it count")
    unknown = await store.retry_callback("job", SENDER, delay_seconds=0, error="no answer")
    expect_same(
        (unknown.callback_http_status, unknown.callback_last_error),
        (None, "no answer"),
        "of the last attempt",
    )


async def ends_a_callback_once(store: JobStore, clock: ManualClock) -> None:
    final = await completed(store, clock)
    await taken(store)
    with refused(InvalidParameterError, "pending is no end"):
        await store.finish_callback("job", SENDER, status=CallbackStatus.PENDING, ttl_seconds=1)
    clock.advance(5)
    done = await store.finish_callback(
        "job", SENDER, status=CallbackStatus.FAILED, ttl_seconds=100, http_status=410, error="it answered 410"
    )
    wanted = evolve(
        final,
        result=None,
        callback_status=CallbackStatus.FAILED,
        callback_attempts=1,
        callback_next_attempt_at=None,
        callback_http_status=410,
        callback_last_error="it answered 410",
        callback_finished_at=clock(),
        expires_at=clock() + 100,
    )
    expect_same(done, wanted, "a callback that has ended")
    expect_same(await store.get("job"), evolve(wanted, result=RESULT), "its job is otherwise as it was")
    with refused(LeaseLostError, "it ends once"):
        await store.finish_callback("job", SENDER, status=CallbackStatus.SUCCESS, ttl_seconds=1)
    expect_same(await store.claim_callback(SENDER, lease_seconds=9), None, "it is not sent any more")
    clock.advance(100)
    expect_same(await store.sweep(max_losses=1, ttl_seconds=1), Swept(), "the job stays as said")
    clock.advance(0.001)
    with refused(JobNotFoundError, "and then expires"):
        await store.get("job")
    swept = await store.sweep(max_losses=1, ttl_seconds=1)
    expect_same([job.job_id for job in swept.expired], ["job"], "it is swept")
    expect_same((await admit(store, clock, "job")).callback_status, None, "nothing of it is left")


async def a_callback_that_nobody_sends_expires(store: JobStore, clock: ManualClock) -> None:
    done = await completed(store, clock)
    clock.set(done.expires_at or 0)
    expect_same((await store.get("job")).callback_status, CallbackStatus.PENDING, "it waits for a day")
    clock.advance(0.001)
    expect_same(await store.claim_callback(SENDER, lease_seconds=9), None, "past it nobody is told any more")
    swept = await store.sweep(max_losses=1, ttl_seconds=1)
    expect_same([job.job_id for job in swept.expired], ["job"], "the job is deleted")


async def sends_again_when_asked(store: JobStore, clock: ManualClock) -> None:
    with refused(JobNotFoundError, "of no job"):
        await store.redeliver("job", "tenant")
    await admit(store, clock, "silent")
    await store.cancel("silent", "tenant", ttl_seconds=10)
    with refused(CallbackStateError, "of a job without callback"):
        await store.redeliver("silent", "tenant")
    await admit_with_callback(store, clock)
    with refused(CallbackStateError, "of a job that is not final"):
        await store.redeliver("job", "tenant")
    await claim(store, "job")
    final = await complete(store, "job")
    with refused(JobNotFoundError, "of another tenant's job"):
        await store.redeliver("job", "stranger")
    sent = await taken(store)
    busy = await store.redeliver("job", "tenant")
    expect_same(
        busy,
        evolve(sent, result=None, callback_lease_token=None),
        "a callback that is just being sent is left as it is",
    )
    await store.retry_callback("job", SENDER, delay_seconds=500, error="why")
    clock.advance(1)
    soon = await store.redeliver("job", "tenant")
    found = (soon.callback_attempts, soon.callback_next_attempt_at, soon.callback_last_error)
    expect_same(found, (1, clock(), "why"), "a callback that waits is tried now")
    await taken(store)
    await store.finish_callback("job", SENDER, status=CallbackStatus.SUCCESS, ttl_seconds=5, http_status=204)
    clock.advance(5)
    again = await store.redeliver("job", "tenant")
    wanted = evolve(
        final,
        result=None,
        callback_next_attempt_at=clock(),
        callback_http_status=204,
        expires_at=clock() + DAY,
    )
    expect_same(again, wanted, "a callback that has ended begins anew, under the same id")
    expect_same((await taken(store)).result, RESULT, "and is sent, with the result")


CHECKS = (
    notes_what_a_callback_is_asked_for,
    callbacks_wait_from_the_final_state_on,
    claims_the_callback_due_longest,
    passes_over_tenants_with_many_callbacks,
    bounds_the_callbacks_of_each_tenant,
    gives_each_callback_to_one_of_many_senders,
    a_sender_that_dies_is_replaced,
    tries_again_after_a_delay,
    ends_a_callback_once,
    a_callback_that_nobody_sends_expires,
    sends_again_when_asked,
)
