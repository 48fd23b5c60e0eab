"""Checks of a JobStore: taking jobs in, finding and listing them."""

from __future__ import annotations

from attrs import evolve

from dedup2d.errors import (
    IdempotencyConflictError,
    InvalidParameterError,
    JobNotFoundError,
    JobQueueFullError,
)
from dedup2d.protocols import JobStore
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import ContractError, expect, expect_same, refused, together
from dedup2d.testing.job_making import admit, claim, complete, ids, make_job, take_all
from dedup2d.types import (
    Area,
    Job,
    JobStatus,
    Mode,
    PrecisionProfile,
    SearchParams,
    Source,
    VersionGate,
)

__all__ = ["CHECKS"]


async def keeps_an_admitted_job_as_it_is(store: JobStore, clock: ManualClock) -> None:
    job = make_job(
        clock,
        file_name="Zeichnung \u00fc \N{SNOWMAN} 'x\" \n\x00\U0001f600.dxf",
        file_size=2**40,
        params=SearchParams(
            mode=Mode.PRECISE,
            duplicate_threshold=0.1 + 0.2,
            similar_threshold=0.1,
            ignore=(Area(x=0.7, y=0.8, width=0.3, height=0.1 + 0.2), "frame"),
            precision_profile=PrecisionProfile.VERSION,
            precision_visual_weight=0.1 + 0.2,
            version_gate=VersionGate.FILE_NAME,
        ),
        parameter_sources={"mode": Source.REQUEST, "version_gate": Source.TENANT},
        geometry_key="tenant/geometry",
        geometry_hash="9" * 64,
        idempotency_key="key one",
        request_id="order-17",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    returned = await store.admit(job, max_jobs=10, max_jobs_per_tenant=10)
    expect_same(returned, job, "admit returns the job")
    expect_same(await store.get(job.job_id), job, "get returns the job as it was admitted")
    expect_same(await store.get(job.job_id, job.tenant_id), job, "get with the tenant does so too")


async def hides_jobs_of_other_tenants(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "mine", tenant_id="one")
    with refused(JobNotFoundError, "another tenant does not get the job"):
        await store.get("mine", "two")
    with refused(JobNotFoundError, "another tenant cannot cancel the job"):
        await store.cancel("mine", "two", ttl_seconds=10)
    page = await store.list("two")
    expect_same((page.jobs, page.total), ((), 0), "another tenant does not see the job in its list")
    expect_same((await store.get("mine")).cancel_requested, False, "the job is as it was")


async def knows_no_unknown_ids(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "there")
    for job_id in ("", "THERE", "there ", "*", "%", "th_re", "there\x00", "../there", "'; --", "x" * 5000):
        with refused(JobNotFoundError, f"{job_id[:20]!r} is not found"):
            await store.get(job_id)
        with refused(JobNotFoundError, f"{job_id[:20]!r} cannot be canceled"):
            await store.cancel(job_id, "tenant", ttl_seconds=10)
        found = await store.claim("token", lease_seconds=10, job_id=job_id)
        expect_same(found, None, f"{job_id[:20]!r} cannot be claimed")


async def admits_new_pending_jobs_only(store: JobStore, clock: ManualClock) -> None:
    job = await admit(store, clock, "first")
    for status in JobStatus:
        if status is not JobStatus.PENDING:
            with refused(InvalidParameterError, f"a job that is {status} is not admitted"):
                await store.admit(make_job(clock, "other", status=status), max_jobs=9, max_jobs_per_tenant=9)
    with refused(InvalidParameterError, "an id that is taken is not admitted again"):
        await store.admit(evolve(job, tenant_id="thief"), max_jobs=9, max_jobs_per_tenant=9)
    expect_same(await store.get("first"), job, "the job that has the id stays")


async def counts_places_until_jobs_are_final(store: JobStore, clock: ManualClock) -> None:
    async def full(contract: str) -> None:
        with refused(JobQueueFullError, contract):
            await store.admit(make_job(clock, "more"), max_jobs=2, max_jobs_per_tenant=9)
        with refused(JobNotFoundError, "a job that found no place is not stored"):
            await store.get("more")

    await admit(store, clock, "a", tenant_id="one")
    await admit(store, clock, "b", tenant_id="two")
    await full("pending jobs of all tenants take places")
    await claim(store, "a")
    await full("a job in progress takes a place")
    await store.cancel("a", "one", ttl_seconds=10)
    await full("a running job that is to be canceled takes a place")
    await complete(store, "a")
    job = make_job(clock, "more")
    await store.admit(job, max_jobs=2, max_jobs_per_tenant=9)
    await store.cancel("more", job.tenant_id, ttl_seconds=10)
    await store.admit(make_job(clock, "last"), max_jobs=2, max_jobs_per_tenant=9)


async def counts_places_of_each_tenant(store: JobStore, clock: ManualClock) -> None:
    for name in ("a", "b"):
        await store.admit(make_job(clock, name, tenant_id="one"), max_jobs=9, max_jobs_per_tenant=2)
    await claim(store, "a")
    with refused(JobQueueFullError, "a tenant has no more places than it may"):
        await store.admit(make_job(clock, "c", tenant_id="one"), max_jobs=9, max_jobs_per_tenant=2)
    await store.admit(make_job(clock, "d", tenant_id="two"), max_jobs=9, max_jobs_per_tenant=2)
    await complete(store, "a")
    await store.admit(make_job(clock, "c", tenant_id="one"), max_jobs=9, max_jobs_per_tenant=2)


async def gives_each_place_once_when_many_ask(store: JobStore, clock: ManualClock) -> None:
    async def ask(number: int) -> Job:
        job = make_job(clock, f"job-{number}", tenant_id=f"tenant-{number % 5}")
        return await store.admit(job, max_jobs=10, max_jobs_per_tenant=10)

    outcomes = await together([lambda n=n: ask(n) for n in range(50)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    admitted = [each for each in outcomes if isinstance(each, Job)]
    full = [each for each in outcomes if isinstance(each, JobQueueFullError)]
    expect_same((len(admitted), len(full)), (10, 40), "50 that ask for 10 places at once: admitted, refused")
    expect_same((await store.counts()).pending, 10, "as many are stored as were admitted")


async def returns_the_job_of_an_idempotency_key(store: JobStore, clock: ManualClock) -> None:
    first = await admit(store, clock, "first", idempotency_key="key")
    again = make_job(clock, "again", idempotency_key="key", file_name="renamed.dxf", file_key="elsewhere")
    expect_same(
        await store.admit(again, max_jobs=1, max_jobs_per_tenant=1),
        first,
        "the same key gives the same job, though all places are taken",
    )
    with refused(JobNotFoundError, "nothing is stored for it"):
        await store.get("again")
    for other in (
        make_job(clock, "x", idempotency_key="key", file_hash="other"),
        make_job(clock, "x", idempotency_key="key", params=SearchParams(max_results=3)),
        make_job(clock, "x", idempotency_key="key", geometry_hash="9" * 64),
    ):
        with refused(IdempotencyConflictError, "the same key with another request is a conflict"):
            await store.admit(other, max_jobs=9, max_jobs_per_tenant=9)
    stranger = make_job(clock, "stranger", tenant_id="other", idempotency_key="key")
    expect_same(
        await store.admit(stranger, max_jobs=9, max_jobs_per_tenant=9),
        stranger,
        "each tenant has its own keys",
    )


async def keeps_an_idempotency_key_until_expiry(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "first", idempotency_key="key")
    running = await claim(store, "first")
    again = make_job(clock, "again", idempotency_key="key")
    repeated = await store.admit(again, max_jobs=9, max_jobs_per_tenant=9)
    expect_same(repeated, evolve(running, lease_token=None), "the job comes back without its lease token")
    done = await complete(store, "first", ttl_seconds=100)
    clock.advance(100)
    repeated = await store.admit(again, max_jobs=9, max_jobs_per_tenant=9)
    expect_same(repeated, done, "at its expiry the job still has the key")
    clock.advance(0.5)
    expect_same(
        await store.admit(again, max_jobs=9, max_jobs_per_tenant=9),
        again,
        "past it the key is free, unswept too",
    )
    await store.sweep(max_losses=3, ttl_seconds=10)
    repeated = await store.admit(
        make_job(clock, "third", idempotency_key="key"), max_jobs=9, max_jobs_per_tenant=9
    )
    expect_same(repeated.job_id, "again", "sweeping the expired job leaves the key to its new owner")


async def stores_one_job_for_racing_keys(store: JobStore, clock: ManualClock) -> None:
    async def ask(number: int) -> str:
        job = make_job(clock, f"job-{number}", idempotency_key="key")
        return (await store.admit(job, max_jobs=99, max_jobs_per_tenant=99)).job_id

    outcomes = await together([lambda n=n: ask(n) for n in range(20)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect_same(len(set(outcomes)), 1, "20 requests with one key at once get one job")
    expect_same((await store.list("tenant")).total, 1, "one job is stored")


async def lists_newest_first(store: JobStore, clock: ManualClock) -> None:
    start = clock()
    for name, age in (("b", 5), ("a", 5), ("old", 9), ("new", 0), ("c", 5)):
        await admit(store, clock, name, created_at=start - age)
    await admit(store, clock, "foreign", tenant_id="other")
    page = await store.list("tenant")
    expect_same(ids(page.jobs), ["new", "c", "b", "a", "old"], "newest first, then by id downwards")
    expect_same((page.total, page.next_page_token), (5, None), "the total, and no token for no next page")
    expect_same((await store.list("tenant", limit=5)).next_page_token, None, "nor where a page just fits")


async def lists_jobs_by_status_without_results(store: JobStore, clock: ManualClock) -> None:
    for name in ("done", "runs", "waits", "stopped"):
        await admit(store, clock, name)
        clock.advance(1)
    await claim(store, "done")
    await complete(store, "done")
    await claim(store, "runs")
    await store.cancel("stopped", "tenant", ttl_seconds=100)
    for status, name in (
        (JobStatus.COMPLETED, "done"),
        (JobStatus.IN_PROGRESS, "runs"),
        (JobStatus.PENDING, "waits"),
        (JobStatus.CANCELED, "stopped"),
    ):
        page = await store.list("tenant", status=status)
        expect_same((ids(page.jobs), page.total), ([name], 1), f"the jobs that are {status}")
    expect_same((await store.list("tenant", status=JobStatus.FAILED)).total, 0, "none has failed")
    listed = (await store.list("tenant")).jobs
    for job in listed:
        whole = evolve(await store.get(job.job_id), result=None)
        expect_same(job, whole, "a listed job is what get gives, without result and lease token")


async def pages_hold_still_while_jobs_come_and_go(store: JobStore, clock: ManualClock) -> None:
    for number in range(9):
        await admit(store, clock, f"job-{number}", created_at=clock() + number // 3)
    expired = await claim(store, "job-8")
    await complete(store, expired.job_id, ttl_seconds=1)
    first = await store.list("tenant", limit=4)
    expect_same(ids(first.jobs), ["job-8", "job-7", "job-6", "job-5"], "the first page")
    clock.advance(2)
    await admit(store, clock, "newer", created_at=clock() + 100)
    # The very job at which the page ended, and one before it, go away.
    await claim(store, "job-5")
    await complete(store, "job-5", ttl_seconds=-1)
    await store.sweep(max_losses=3, ttl_seconds=1)
    second = await store.list("tenant", limit=4, page_token=first.next_page_token)
    expect_same(ids(second.jobs), ["job-4", "job-3", "job-2", "job-1"], "the second goes on where it ended")
    third = await store.list("tenant", limit=4, page_token=second.next_page_token)
    expect_same((ids(third.jobs), third.next_page_token), (["job-0"], None), "the last page")
    again = await store.list("tenant", limit=4, page_token=first.next_page_token)
    expect_same(ids(again.jobs), ids(second.jobs), "a token can be used again")


async def pages_fit_the_status(store: JobStore, clock: ManualClock) -> None:
    for number in range(8):
        await admit(store, clock, f"job-{number}", created_at=clock() + number)
        if number % 2:
            await store.cancel(f"job-{number}", "tenant", ttl_seconds=100)
    found, token = [], None
    for _ in range(4):
        page = await store.list("tenant", status=JobStatus.CANCELED, limit=2, page_token=token)
        found += ids(page.jobs)
        expect_same(page.total, 4, "the total counts the jobs of the status")
        token = page.next_page_token
        if token is None:
            break
    expect_same(found, ["job-7", "job-5", "job-3", "job-1"], "the pages together are all jobs of the status")


async def refuses_wrong_pages(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 3)
    token = (await store.list("tenant", limit=1)).next_page_token
    if token is None:
        raise ContractError("a token is given while there are more jobs")
    for foreign in ("", "x", "0", token + "x", token[:-1], token + "\n", "ä", "a" * 5000, "AAAA", "job-1"):
        with refused(InvalidParameterError, f"the page token {foreign[:20]!r} was never given"):
            await store.list("tenant", page_token=foreign)
    for limit in (0, -1, 501):
        with refused(InvalidParameterError, f"a page cannot have {limit} jobs"):
            await store.list("tenant", limit=limit)
    expect((await store.list("tenant", limit=500)).total, "a page can have 500 jobs")


CHECKS = (
    keeps_an_admitted_job_as_it_is,
    hides_jobs_of_other_tenants,
    knows_no_unknown_ids,
    admits_new_pending_jobs_only,
    counts_places_until_jobs_are_final,
    counts_places_of_each_tenant,
    gives_each_place_once_when_many_ask,
    returns_the_job_of_an_idempotency_key,
    keeps_an_idempotency_key_until_expiry,
    stores_one_job_for_racing_keys,
    lists_newest_first,
    lists_jobs_by_status_without_results,
    pages_hold_still_while_jobs_come_and_go,
    pages_fit_the_status,
    refuses_wrong_pages,
)
