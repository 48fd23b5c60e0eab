"""The Redis job store where a server matters: round trips, processes, outages, keys, vanished records."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.asyncio
from attrs import evolve
from redis.exceptions import ConnectionError as RedisConnectionError

from dedup2d.errors import (
    CallbackStateError,
    ConfigurationError,
    InvalidParameterError,
    JobNotFoundError,
    LeaseLostError,
    StoreUnavailableError,
    UnreadableRecordError,
)
from dedup2d.jobs.redis import RedisJobStore
from dedup2d.redis_connection import RedisOptions
from dedup2d.testing import JOB_STORE_CHECKS, ManualClock
from dedup2d.testing.job_making import RESULT, TOKEN, admit, claim, complete, ids, make_job, take_all
from dedup2d.types import CallbackStatus, Job, JobCounts, JobStatus, Lane, SearchResult, Swept
from tests.backends import redis_options
from tests.servers import RedisServer, free_port, redis_server

START = 1_700_000_000.0
URL = "https://receiver.example/"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[RedisJobStore]:
    async with RedisJobStore(redis_options(), clock=clock) as opened:
        yield opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", appendonly=True) as running:
        yield running


def quick(server: RedisServer, key_prefix: str = "dedup2d") -> RedisOptions:
    return RedisOptions(server.url, key_prefix=key_prefix, connect_seconds=2, command_seconds=2)


def raw(store: RedisJobStore) -> redis.asyncio.Redis:
    return store._redis


def key(store: RedisJobStore, name: str) -> str:
    return f"{store._options.key_prefix}:{name}"


async def keys(store: RedisJobStore) -> set[str]:
    """Return the names of all keys of the store, without its prefix."""
    prefix = key(store, "")
    found = [each.decode() async for each in raw(store).scan_iter(match=f"{prefix}*", count=1000)]
    return {each.removeprefix(prefix) for each in found}


async def fields(store: RedisJobStore, job_id: str) -> dict[str, str]:
    found: Any = await raw(store).hgetall(key(store, f"job:{job_id}"))
    return {name.decode(): value.decode() for name, value in found.items()}


async def value(store: RedisJobStore, name: str) -> bytes:
    found = await raw(store).get(key(store, name))
    assert isinstance(found, bytes)
    return found


async def sweep(store: RedisJobStore, **options: Any) -> Swept:
    return await store.sweep(**{"max_losses": 3, "ttl_seconds": 100, **options})


async def commands(store: RedisJobStore, call: Callable[[], Awaitable[object]]) -> dict[str, int]:
    """Return how many commands of each kind the server carried out for *call*, those of scripts included."""

    async def calls() -> dict[str, int]:
        stats = await raw(store).info("commandstats")
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}

    before = await calls()
    await call()
    after = await calls()
    grown = {name: number - before.get(name, 0) for name, number in after.items() if name != "info"}
    return {name: number for name, number in grown.items() if number}


# -- round trips and cost ---------------------------------------------------------------------


async def test_each_call_is_one_round_trip(
    store: RedisJobStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, each submit or poll waits for the network several times."""
    sent: list[Any] = []
    execute = redis.asyncio.Redis.execute_command

    async def counted(self: redis.asyncio.Redis, *words: Any, **options: Any) -> Any:
        sent.append(words[0])
        return await execute(self, *words, **options)  # type: ignore[no-untyped-call]  # its package has no types

    async def life() -> None:
        await admit(store, clock, "job", idempotency_key="key", callback_url=URL)
        await admit(store, clock, "again", idempotency_key="key", callback_url=URL)
        await store.claim(TOKEN, lease_seconds=60)
        await store.heartbeat("job", TOKEN, lease_seconds=60, progress="l1")
        await store.release("job", TOKEN)
        await store.claim(TOKEN, lease_seconds=60, job_id="job")
        await complete(store, "job")
        await store.get("job", "tenant")
        await store.cancel("job", "tenant", ttl_seconds=5)
        await store.list("tenant")
        await store.counts()
        await sweep(store)
        await store.claim_callback(TOKEN, lease_seconds=60)
        await store.retry_callback("job", TOKEN, delay_seconds=0)
        await store.claim_callback(TOKEN, lease_seconds=60)
        await store.finish_callback("job", TOKEN, status=CallbackStatus.SUCCESS, ttl_seconds=1)
        await store.redeliver("job", "tenant")

    await life()
    clock.advance(100_000)
    await sweep(store)
    monkeypatch.setattr(redis.asyncio.Redis, "execute_command", counted)
    await life()
    assert sent == ["EVALSHA"] * 17


async def test_cost_does_not_grow_with_jobs(server: RedisServer, clock: ManualClock) -> None:
    """If this fails, each submit, claim, list or sweep walks jobs that wait or are done."""

    async def costs(store: RedisJobStore, name: str) -> list[dict[str, int]]:
        return [
            await commands(store, call)
            for call in (
                lambda: admit(store, clock, name, created_at=clock() - 100, callback_url=URL),
                lambda: store.claim(TOKEN, lease_seconds=60),
                lambda: store.heartbeat(name, TOKEN, lease_seconds=60),
                lambda: store.release(name, TOKEN),
                lambda: claim(store, name),
                lambda: complete(store, name),
                lambda: store.claim_callback(TOKEN, lease_seconds=60, passing_over=["many"]),
                lambda: store.retry_callback(name, TOKEN, delay_seconds=0),
                lambda: store.claim_callback(TOKEN, lease_seconds=60, passing_over=["many"]),
                lambda: store.finish_callback(name, TOKEN, status=CallbackStatus.SUCCESS, ttl_seconds=1000),
                lambda: store.list("tenant", status=JobStatus.COMPLETED, limit=1),
                store.counts,
                lambda: sweep(store, limit=1),
            )
        ]

    async with RedisJobStore(quick(server), clock=clock) as store:
        await costs(store, "warm-0")
        few = await costs(store, "warm-1")
        for number in range(300):
            await admit(store, clock, f"done-{number}")
            await claim(store, f"done-{number}")
            await store.finish(f"done-{number}", TOKEN, status=JobStatus.FAILED, ttl_seconds=1000)
            await admit(store, clock, f"waits-{number}")
            # Further ahead than the job that is measured: these are passed over, not walked through.
            await admit(store, clock, f"told-{number}", tenant_id="many", callback_url=URL)
            await store.cancel(f"told-{number}", "many", ttl_seconds=1000)
            await admit(store, clock, f"later-{number}")
            await claim(store, f"later-{number}")
            await store.release(f"later-{number}", TOKEN, delay_seconds=1000)
        assert await costs(store, "more") == few


async def test_a_job_lives_as_long_as_its_callback_is_tried(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, Redis drops jobs whose receiver is away, or keeps them when it has been told."""

    async def lives(name: str) -> int:
        return int(await raw(store).ttl(key(store, name)))

    kept = ("job:job", "payload:job", "result:job")
    await admit(store, clock, "job", callback_url=URL)
    await claim(store, "job")
    await complete(store, "job", ttl_seconds=100)
    assert [await lives(name) > 86_400 for name in kept] == [True] * 3
    await store.claim_callback(TOKEN, lease_seconds=60)
    await store.retry_callback("job", TOKEN, delay_seconds=500_000)
    assert [await lives(name) > 500_000 for name in kept] == [True] * 3
    clock.advance(500_000)
    await store.claim_callback(TOKEN, lease_seconds=60)
    await store.finish_callback("job", TOKEN, status=CallbackStatus.SUCCESS, ttl_seconds=100)
    assert [3600 < await lives(name) <= 3700 for name in kept] == [True] * 3


async def test_vanished_callbacks_stop_nobody(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a job that Redis dropped keeps all later callbacks from being sent."""
    for number in range(8):
        await admit(store, clock, f"job-{number}", tenant_id=f"t{number % 2}", callback_url=URL)
        await store.cancel(f"job-{number}", f"t{number % 2}", ttl_seconds=10)
        clock.advance(1)
    for number in (0, 1, 2, 3, 5, 7):
        await raw(store).delete(key(store, f"job:job-{number}"))
    found = [await store.claim_callback(TOKEN, lease_seconds=60) for _ in range(3)]
    assert [job and job.job_id for job in found] == ["job-4", "job-6", None]
    assert await raw(store).zrange(key(store, "callbacks"), 0, -1) == [b"t0"]


async def test_scripts_are_sent_again_after_a_restart(server: RedisServer, clock: ManualClock) -> None:
    """If this fails, a restart of Redis leaves every call with NOSCRIPT."""
    async with RedisJobStore(quick(server), clock=clock) as store:
        await admit(store, clock, "job")
        server.restart()
        assert (await store.get("job")).job_id == "job"
        await raw(store).script_flush()
        await claim(store, "job")


# -- keys -------------------------------------------------------------------------------------


async def test_keys_are_those_of_the_documentation(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, operators and their dashboards look at keys that are not there."""
    await admit(store, clock, "waits", file_name="a.dxf", lane=Lane.CAD)
    await admit(store, clock, "done", created_at=START - 1)
    assert {"job:waits", "payload:waits", "tenant:tenant:jobs", "active"} <= await keys(store)
    found = await fields(store, "waits")
    assert found.pop("_call")
    assert found == {
        "status": "pending",
        "tenant_id": "tenant",
        "lane": "cad",
        "created_at": "1700000000.0",
        "attempts": "0",
        "losses": "0",
        "cancel_requested": "0",
        "callback_attempts": "0",
    }
    asked = json.loads(await value(store, "payload:waits"))
    assert (asked["file_name"], asked["params"]["mode"]) == ("a.dxf", "balanced")
    listed = await raw(store).zrange(key(store, "tenant:tenant:jobs"), 0, -1, withscores=True)
    assert listed == [(b"done", START - 1), (b"waits", START)]
    await claim(store, "done")
    assert await raw(store).zcard(key(store, "active")) == 2
    await complete(store, "done")
    assert await raw(store).zcard(key(store, "active")) == 1
    result = json.loads(await value(store, "result:done"))
    assert result["file_hash"] == RESULT.file_hash
    assert (await fields(store, "done"))["status"] == "completed"


async def test_final_jobs_have_a_time_to_live_and_others_have_none(
    store: RedisJobStore, clock: ManualClock
) -> None:
    """If this fails, jobs that nobody sweeps fill the memory, or a job that waits disappears."""

    async def lives(name: str) -> int:
        return int(await raw(store).ttl(key(store, name)))

    await admit(store, clock, "job", idempotency_key="key")
    kept = {name for name in await keys(store) if ":key:" in name} | {"job:job", "payload:job"}
    assert len(kept) == 3
    await claim(store, "job")
    no_end, again, of_key = sorted([await lives(name) for name in kept])
    assert (no_end, again) == (-1, -1)
    assert of_key > 20 * 86400
    await complete(store, "job", ttl_seconds=100)
    for name in kept | {"result:job"}:
        assert 3600 < await lives(name) <= 3700
    await admit(store, clock, "other")
    await store.cancel("other", "tenant", ttl_seconds=10.0**12)
    assert await lives("job:other") > 300 * 86400


async def test_nothing_is_left_when_all_jobs_have_expired(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, the memory of Redis grows for as long as the service lives."""
    for number in range(12):
        name = f"job-{number}"
        await admit(
            store,
            clock,
            name,
            tenant_id=f"t{number % 3}",
            idempotency_key=f"key \n{number}",
            lane=list(Lane)[number % 2],
        )
        if number % 4 == 0:
            await store.cancel(name, f"t{number % 3}", ttl_seconds=50)
            continue
        await claim(store, name, lease_seconds=5)
        if number % 4 == 1:
            await complete(store, name, ttl_seconds=50)
        elif number % 4 == 2:
            await store.release(name, TOKEN, delay_seconds=5)
            clock.advance(5)
            await claim(store, name)
            await store.finish(name, TOKEN, status=JobStatus.FAILED, ttl_seconds=50, error="why")
    clock.advance(10)
    assert (await sweep(store, max_losses=1)).lost == 3
    clock.advance(1000)
    if (await store.list("t0")).total:
        raise AssertionError("expired jobs are listed")
    assert len((await sweep(store)).expired) == 12
    assert await keys(store) == set()


async def test_ids_of_any_text_share_no_key(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a tenant or job with an odd name reaches the records of another."""
    tenants = ("a", "a:jobs", "a b", "a%20b", "a*", "ü", "a\n", "a:key", "")
    for number, tenant in enumerate(tenants):
        await admit(store, clock, f"job {number}:x", tenant_id=tenant, idempotency_key="same")
    for number, tenant in enumerate(tenants):
        assert ids((await store.list(tenant)).jobs) == [f"job {number}:x"]
        assert (await store.list(tenant, status=JobStatus.PENDING)).total == 1
    claimed = [await store.claim(TOKEN, lease_seconds=5) for _ in tenants]
    assert sorted(job.job_id for job in claimed if job) == sorted(f"job {n}:x" for n in range(len(tenants)))
    clock.advance(6)
    assert (await sweep(store)).lost == len(tenants)
    with pytest.raises(JobNotFoundError):
        await store.get("\ud800")
    with pytest.raises(UnreadableRecordError):
        await admit(store, clock, "half", file_name="\ud800")
    with pytest.raises(UnreadableRecordError):
        await admit(store, clock, "when", created_at=float("nan"))


# -- several processes ------------------------------------------------------------------------

ADMITTING = """
import sys, time, anyio
from dedup2d.errors import JobQueueFullError
from dedup2d.jobs.redis import RedisJobStore
from dedup2d.redis_connection import RedisOptions
from dedup2d.types import Job

async def main():
    async with RedisJobStore(RedisOptions(sys.argv[1], key_prefix=sys.argv[2])) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        outcomes = []

        async def ask(number):
            name = f"{sys.argv[3]}-{number}"
            job = Job(job_id=name, tenant_id="t", file_key=name, file_name="a.png", file_hash="h",
                      file_size=1, created_at=time.time())
            try:
                await store.admit(job, max_jobs=100, max_jobs_per_tenant=100)
            except JobQueueFullError:
                outcomes.append("full")
            else:
                outcomes.append("admitted")

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(ask, number)
        print(*outcomes, flush=True)

anyio.run(main)
"""


async def test_processes_share_the_places(store: RedisJobStore) -> None:
    """If this fails, several APIs together admit more jobs than there are places."""
    options = store._options
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADMITTING, options.url, options.key_prefix, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    assert [each.stdout.readline() for each in processes if each.stdout] == ["ready\n"] * 2
    for each in processes:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    outcomes = [word for each in processes for word in each.communicate(timeout=30)[0].split()]
    assert (outcomes.count("admitted"), outcomes.count("full")) == (100, 100)
    assert (await store.counts()).pending == 100
    assert (await store.list("t", limit=500)).total == 100


async def test_the_time_is_that_of_the_server(clock: ManualClock) -> None:
    """If this fails, a machine whose clock is wrong takes the leases of others."""
    async with RedisJobStore(redis_options()) as store:
        await admit(store, clock, "job")
        claimed = await claim(store, "job", lease_seconds=1000)
        seconds, micros = await raw(store).time()
        assert claimed.started_at is not None
        assert 0 <= seconds + micros / 1e6 - claimed.started_at < 5
        assert claimed.lease_expires_at == claimed.started_at + 1000
        assert claimed.started_at % 1 != 0


# -- answers that are lost --------------------------------------------------------------------


@asynccontextmanager
async def losing_an_answer(store: RedisJobStore) -> AsyncIterator[None]:
    """Lose the next answer after the command was carried out, as a connection that breaks does."""
    client = raw(store)
    parse = client.parse_response
    lost: list[Any] = []

    async def losing(connection: Any, *words: Any, **options: Any) -> Any:
        answer = await parse(connection, *words, **options)
        if not lost:
            lost.append(answer)
            raise RedisConnectionError("Connection closed by server.")
        return answer

    client.parse_response = losing  # type: ignore[method-assign]  # the failure to be forced
    yield
    del client.parse_response
    assert lost


async def test_lost_answers_do_no_harm(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a broken connection makes a job that was admitted or finished look as if it were not."""
    async with losing_an_answer(store):
        job = await admit(store, clock, "job")
    with pytest.raises(InvalidParameterError):
        await store.admit(job, max_jobs=10, max_jobs_per_tenant=10)
    async with losing_an_answer(store):
        same = await store.admit(
            make_job(clock, "key", idempotency_key="k"), max_jobs=2, max_jobs_per_tenant=2
        )
    assert same.job_id == "key"
    await claim(store, "job")
    async with losing_an_answer(store):
        assert await store.heartbeat("job", TOKEN, lease_seconds=60) is False
    async with losing_an_answer(store):
        done = await complete(store, "job")
    assert done == await store.get("job")
    assert (await store.list("tenant")).total == 2


async def test_a_finish_may_be_repeated_by_its_worker_only(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a worker that lost an answer drops its result, or another one overwrites a final job."""
    await take_all(store, clock, 1)
    await claim(store, "job-0")
    done = await complete(store, "job-0", ttl_seconds=100)
    clock.advance(5)
    assert await complete(store, "job-0", ttl_seconds=100) == done
    for token, status, result in (
        ("other", JobStatus.COMPLETED, RESULT),
        (TOKEN, JobStatus.COMPLETED, None),
        (TOKEN, JobStatus.FAILED, RESULT),
        (TOKEN, JobStatus.COMPLETED, SearchResult()),
    ):
        with pytest.raises(LeaseLostError):
            await store.finish("job-0", token, status=status, ttl_seconds=100, result=result)
    clock.advance(100)
    with pytest.raises(LeaseLostError):
        await complete(store, "job-0")


async def test_who_is_cancelled_while_claiming_gets_the_job(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a job that a stopping worker was just given waits until its lease runs out."""
    await admit(store, clock, "job")
    claimed: list[Job | None] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        claimed.append(await store.claim(TOKEN, lease_seconds=60))
    assert ids(filter(None, claimed)) == ["job"]


# -- outages ----------------------------------------------------------------------------------


async def test_a_restart_with_append_only_file_loses_nothing(server: RedisServer, clock: ManualClock) -> None:
    """If this fails, a Redis that keeps all on disk loses jobs when it is killed."""
    async with RedisJobStore(quick(server), clock=clock) as store:
        await take_all(store, clock, 30)
        for number in range(20):
            await claim(store, f"job-{number}")
            if number % 2:
                await complete(store, f"job-{number}")
        before = await store.list("tenant", limit=500), await store.counts(), await keys(store)
        server.restart()
        assert (await store.list("tenant", limit=500), await store.counts(), await keys(store)) == before
        assert (await store.get("job-1")).result == RESULT
        await complete(store, "job-0")
        assert ids(filter(None, [await store.claim(TOKEN, lease_seconds=5)])) == ["job-20"]


async def test_a_restart_that_loses_all_is_survived(tmp_path: Path, clock: ManualClock) -> None:
    """If this fails, a Redis without a disk takes API and workers down with it."""
    with redis_server(tmp_path / "redis") as server:
        async with RedisJobStore(quick(server), clock=clock) as store:
            await admit(store, clock, "job")
            await claim(store, "job")
            server.restart()
            with pytest.raises(JobNotFoundError):
                await store.get("job")
            with pytest.raises(LeaseLostError):
                await store.heartbeat("job", TOKEN, lease_seconds=5)
            with pytest.raises(LeaseLostError):
                await complete(store, "job")
            assert await sweep(store) == Swept()
            await admit(store, clock, "job")


async def test_a_paused_server_is_an_error_in_time(server: RedisServer, clock: ManualClock) -> None:
    """If this fails, requests and workers hang while Redis does, or stay broken after it."""
    async with RedisJobStore(quick(server), clock=clock) as store:
        await admit(store, clock, "job")
        server.pause()
        started = time.monotonic()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: admit(store, clock, "other"),
            lambda: store.get("job"),
            lambda: store.claim("lost", lease_seconds=0.5, job_id="job"),
            lambda: sweep(store),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match="in time"):
                await call()
        assert time.monotonic() - started < 15
        server.resume()
        assert (await store.get("job")).job_id == "job"
        # The claim was carried out when the server went on; nobody knows, so its lease runs out.
        clock.advance(2)
        await sweep(store)
        assert (await claim(store, "job")).losses <= 1
        server.kill()
        with pytest.raises(StoreUnavailableError, match="refused"):
            await store.get("job")


async def test_a_sweep_that_breaks_off_gives_what_it_did(
    store: RedisJobStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, jobs that were deleted before an outage leave their files behind."""
    for number in range(150):
        await admit(store, clock, f"job-{number}")
        await store.cancel(f"job-{number}", "tenant", ttl_seconds=1)
    clock.advance(10)
    run = store._run
    done: list[Any] = []

    async def breaking(*words: Any) -> Any:
        done.append(words)
        if len(done) == 2:
            raise StoreUnavailableError("Redis", "gone")
        return await run(*words)

    monkeypatch.setattr(store, "_run", breaking)
    assert len((await sweep(store)).expired) == 100
    monkeypatch.undo()
    assert len((await sweep(store)).expired) == 50
    monkeypatch.setattr(store, "_run", breaking)
    done[:] = [()]
    with pytest.raises(StoreUnavailableError):
        await sweep(store)


async def test_an_unusable_redis_stops_the_start(server: RedisServer) -> None:
    """If this fails, a service starts without a job store."""
    with pytest.raises(ConfigurationError, match="redis://"):
        await RedisJobStore(RedisOptions("localhost:6379")).__aenter__()
    options = RedisOptions(f"redis://:secret@127.0.0.1:{free_port()}", connect_seconds=0.5)
    with pytest.raises(ConfigurationError, match=r"DEDUP2D_REDIS_URL=.*refused") as caught:
        await RedisJobStore(options).__aenter__()
    assert "secret" not in str(caught.value)


# -- the sweep's lock -------------------------------------------------------------------------


async def test_one_worker_sweeps_at_a_time(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, all workers do the same work at once, or none does after one died in a sweep."""
    await take_all(store, clock, 4)
    for number in range(3):
        await claim(store, f"job-{number}", lease_seconds=1)
    clock.advance(10)
    async with RedisJobStore(store._options, clock=clock) as other:
        assert (await sweep(store, limit=2)).lost == 2  # it was not all, so the lock is kept
        swept = await sweep(other)
        assert (swept.lost, swept.ready) == (0, ("job-0", "job-1", "job-3"))
        assert 0 < await raw(store).pttl(key(store, "sweeping")) <= 10_000
        assert (await sweep(store)).lost == 1
        await claim(store, "job-0", lease_seconds=1)
        clock.advance(10)
        assert (await sweep(other)).lost == 1


async def test_a_large_sweep_is_done_in_small_steps(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a sweep of thousands of jobs holds all other users of Redis up, or leaves some."""
    for number in range(250):
        await admit(store, clock, f"job-{number}")
        await store.cancel(f"job-{number}", "tenant", ttl_seconds=1)
    clock.advance(10)
    before = await raw(store).info("commandstats")
    assert len((await sweep(store)).expired) == 250
    after = await raw(store).info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] <= 3
    assert await keys(store) == set()


# -- records that vanished or are of another version ------------------------------------------


@pytest.mark.parametrize("part", ["job", "payload", "both"])
async def test_vanished_jobs_give_their_places_back(
    store: RedisJobStore, clock: ManualClock, part: str
) -> None:
    """If this fails, a record that Redis dropped holds a place for ever, or keeps others from running."""
    await take_all(store, clock, 5)
    await claim(store, "job-1", lease_seconds=10)
    await claim(store, "job-2")
    await store.release("job-2", TOKEN, delay_seconds=5)
    await claim(store, "job-3")
    await complete(store, "job-3", ttl_seconds=5)
    for number in range(4):
        for name in ("job", "payload") if part == "both" else (part,):
            await raw(store).delete(key(store, f"{name}:job-{number}"))
        with pytest.raises(JobNotFoundError):
            await store.get(f"job-{number}")
        with pytest.raises(JobNotFoundError):
            await store.cancel(f"job-{number}", "tenant", ttl_seconds=5)
        with pytest.raises(LeaseLostError):
            await complete(store, f"job-{number}")
    assert ids((await store.list("tenant")).jobs) == ["job-4"]
    clock.advance(20)
    assert ids(filter(None, [await store.claim(TOKEN, lease_seconds=100)])) == ["job-4"]
    swept = await sweep(store)
    assert (swept.lost, swept.failed, swept.ready) == (0, (), ())
    assert await store.counts() == JobCounts(in_progress=1)
    await complete(store, "job-4", ttl_seconds=5)
    clock.advance(20)
    await sweep(store)
    assert await keys(store) == set()


async def test_a_job_without_its_result_is_gone(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a client sees `completed` and no result."""
    await admit(store, clock, "job", idempotency_key="key")
    await claim(store, "job")
    await complete(store, "job")
    await raw(store).delete(key(store, "result:job"))
    with pytest.raises(JobNotFoundError):
        await store.get("job")
    again = await admit(store, clock, "again", idempotency_key="key")
    assert again.job_id == "again"


async def test_vanished_indexes_stop_nobody(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a Redis that dropped an index makes every call fail."""
    await take_all(store, clock, 3)
    await claim(store, "job-0")
    for name in await keys(store):
        if not name.startswith(("job:", "payload:")):
            await raw(store).delete(key(store, name))
    await store.heartbeat("job-0", TOKEN, lease_seconds=5)
    clock.advance(6)
    assert (await sweep(store)).ready == ("job-0",)
    await claim(store, "job-1")
    assert (await complete(store, "job-1")).status is JobStatus.COMPLETED


async def test_records_of_other_versions_are_read(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, jobs are lost by an upgrade, or by going back to the version before."""
    job = await admit(store, clock, "job")
    await raw(store).hset(key(store, "job:job"), mapping={"new_field": "x", "_new": "y"})
    gone = ("attempts", "losses", "lane", "cancel_requested", "_call", "callback_attempts")
    await raw(store).hdel(key(store, "job:job"), *gone)
    asked = json.loads(await value(store, "payload:job"))
    del asked["params"]["diff_top_n"]
    asked["new"], asked["params"]["new"] = {"a": 1}, 2
    await raw(store).set(key(store, "payload:job"), json.dumps(asked))
    assert await store.get("job") == job
    claimed = await claim(store, "job")
    assert claimed.attempts == 1
    assert (await fields(store, "job"))["new_field"] == "x"
    await complete(store, "job")
    result = json.loads(await value(store, "result:job"))
    del result["warnings"]
    await raw(store).set(key(store, "result:job"), json.dumps({**result, "new": [1]}))
    assert (await store.get("job")).result == evolve(RESULT, warnings=())
    assert await store.claim_callback(TOKEN, lease_seconds=60) is None
    with pytest.raises(CallbackStateError):
        await store.redeliver("job", "tenant")


async def test_an_unreadable_record_keeps_no_callback_back(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, one damaged record keeps all later callbacks from being sent."""
    for name in ("bad", "good"):
        await admit(store, clock, name, callback_url=URL)
        await store.cancel(name, "tenant", ttl_seconds=5)
        clock.advance(1)
    await raw(store).hset(key(store, "job:bad"), "started_at", "soon")
    claimed = await store.claim_callback(TOKEN, lease_seconds=60)
    assert claimed is not None
    assert claimed.job_id == "good"
    await raw(store).hdel(key(store, "job:bad"), "started_at")
    clock.advance(60)
    repaired = await store.claim_callback("next", lease_seconds=60)
    assert repaired is not None
    assert (repaired.job_id, repaired.callback_attempts) == ("bad", 1)


@pytest.mark.parametrize(
    ("part", "field", "text"),
    [
        ("payload", "", b"{"),
        ("payload", "", b'{"params": {"mode": "unheard-of"}}'),
        ("payload", "", b"\xff"),
        ("job", "started_at", b"soon"),
        ("job", "error", b"\xff"),
        ("job", "losses", b"1.5"),
    ],
)
async def test_unreadable_records_keep_nobody(
    store: RedisJobStore, clock: ManualClock, part: str, field: str, text: bytes
) -> None:
    """If this fails, one damaged record, or one of a later version, stops all jobs behind it."""
    await take_all(store, clock, 2)
    name = key(store, f"{part}:job-0")
    if field:
        await raw(store).hset(name, field, text)
    else:
        await raw(store).set(name, text)
    with pytest.raises(UnreadableRecordError):
        await store.get("job-0")
    assert ids((await store.list("tenant")).jobs) == ["job-1"]
    assert ids(filter(None, [await store.claim(TOKEN, lease_seconds=10)])) == ["job-1"]
    assert await store.claim(TOKEN, lease_seconds=10) is None
    clock.advance(11)
    assert (await sweep(store)).lost == 1
    assert ids(filter(None, [await store.claim(TOKEN, lease_seconds=10)])) == ["job-1"]
    with pytest.raises(UnreadableRecordError):
        await store.cancel("job-0", "tenant", ttl_seconds=5)
    await complete(store, "job-1", ttl_seconds=5)
    clock.advance(10)
    assert ids((await sweep(store)).expired) == ["job-1"]
    assert await keys(store) == set()


async def test_a_repaired_record_is_run_within_a_minute(store: RedisJobStore, clock: ManualClock) -> None:
    """If this fails, a job that only newer workers can read is never run when an older one saw it first."""
    job = await admit(store, clock, "job")
    asked = await value(store, "payload:job")
    await raw(store).set(key(store, "payload:job"), b"{}")
    assert await store.claim(TOKEN, lease_seconds=10, job_id="job") is None
    await raw(store).set(key(store, "payload:job"), asked)
    clock.advance(60)
    again = await store.claim(TOKEN, lease_seconds=10)
    assert again
    assert (again.params, again.losses) == (job.params, 0)


# -- cluster ----------------------------------------------------------------------------------


@pytest.mark.parametrize("check", JOB_STORE_CHECKS, ids=lambda check: check.__name__)
async def test_keys_with_a_hash_tag_lie_in_one_slot(
    check: Callable[[RedisJobStore, ManualClock], Awaitable[None]], clustered: RedisServer, clock: ManualClock
) -> None:
    """If this fails, the prefix that is documented for servers in cluster mode does not work there."""
    options = RedisOptions(clustered.url, key_prefix="{dedup2d}")
    async with RedisJobStore(options, clock=clock) as store:
        await raw(store).flushall()
        await check(store, clock)


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    arguments = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with redis_server(tmp_path_factory.mktemp("cluster"), arguments=arguments) as running:
        client = redis.Redis.from_url(running.url)
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))  # type: ignore[no-untyped-call]  # its package has no types
        while client.cluster("info")["cluster_state"] != "ok":
            time.sleep(0.05)
        client.close()
        yield running


async def test_a_full_memory_refuses_new_jobs_and_lets_the_others_end(
    clock: ManualClock, server: RedisServer
) -> None:
    """If this fails, a full Redis takes more jobs in, and takes the leases of those that run."""
    async with RedisJobStore(quick(server), clock=clock) as store:
        for number in range(4):
            await admit(store, clock, f"job-{number}")
            clock.advance(1)
        await raw(store).config_set("maxmemory", "1")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="memory is full"):
                await admit(store, clock, "new")

        claimed = [await store.claim(TOKEN, lease_seconds=60) for _ in range(2)]
        by_id = await store.claim(TOKEN, lease_seconds=60, job_id="job-2")
        assert by_id is not None
        assert [job.job_id for job in claimed if job] == ["job-0", "job-1"]
        assert not await store.heartbeat("job-0", TOKEN, lease_seconds=60, progress="searching")
        await store.finish("job-0", TOKEN, status=JobStatus.COMPLETED, ttl_seconds=60, result=RESULT)
        await store.release("job-1", TOKEN, delay_seconds=0)
        await store.cancel("job-3", "tenant", ttl_seconds=60)
        await store.sweep(max_losses=3, ttl_seconds=60)
        states = [(await store.get(f"job-{number}")).status for number in range(4)]

        assert states == [JobStatus.COMPLETED, JobStatus.PENDING, JobStatus.IN_PROGRESS, JobStatus.CANCELED]
        assert await store.counts() == JobCounts(
            pending=1, in_progress=1, oldest_pending_at=(await store.get("job-1")).created_at
        )
        assert not [name for name in await keys(store) if "new" in name]
        await raw(store).config_set("maxmemory", "0")
        await admit(store, clock, "new")
