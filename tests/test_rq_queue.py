"""The queue over RQ: what it adds to the contract of a queue, on a real Redis that may fail."""

from __future__ import annotations

import logging
import pickle
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import anyio
import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Callback, Queue, SimpleWorker
from rq.serializers import JSONSerializer

from dedup2d.errors import ConfigurationError, StoreUnavailableError
from dedup2d.redis_connection import RedisOptions
from dedup2d.types import Lane
from dedup2d_worker.listener import NO_JOB
from dedup2d_worker.queue import RQQueue
from dedup2d_worker.ring import open_queue, push
from dedup2d_worker.slots import Slots
from tests.servers import redis_server, redis_url

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Place:
    """Names of its own on a Redis, and a plain client for looking behind the queue."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"test-{token_hex(8)}"
        self.client = redis.Redis.from_url(url)
        self.main, self.cad = f"{self.prefix}:queue", f"{self.prefix}:cad"

    def queue(self, lanes: set[Lane] | None = None, *, command_seconds: float = 2.0) -> RQQueue:
        options = RedisOptions(
            self.url, key_prefix=self.prefix, connect_seconds=1, command_seconds=command_seconds
        )
        return RQQueue(options, names={Lane.MAIN: self.main, Lane.CAD: self.cad}, lanes=lanes)

    def rq(self, serializer: object = JSONSerializer) -> Queue:
        return Queue(self.main, connection=self.client, serializer=serializer)  # type: ignore[arg-type]  # rq is not typed so

    def flag(self, lane: Lane = Lane.MAIN) -> str:
        return f"{self.prefix}:ring:{lane}"

    def workers(self) -> list[SimpleWorker]:
        return SimpleWorker.all(queue=self.rq())  # type: ignore[return-value]  # rq types its base class


@pytest.fixture
def place() -> Place:
    return Place(redis_url())


class Jobs:
    """Jobs beside the queue, and a handler that runs all that wait, as the service does."""

    def __init__(self, queue: RQQueue | None = None) -> None:
        self.queue = queue
        self.waiting: dict[str, None] = {}
        self.working = 0
        self.calls: list[str] = []
        self.done: list[str] = []
        self.gate = anyio.Event()
        self.gate.set()

    def handler(self, queue: RQQueue) -> Callable[[str], Awaitable[None]]:
        async def handle(job_id: str) -> None:
            self.calls.append(job_id)
            while self.waiting:
                name = job_id if job_id in self.waiting else next(iter(self.waiting))
                del self.waiting[name]
                await queue.pass_on(name)
                self.working += 1
                try:
                    await self.gate.wait()
                finally:
                    self.working -= 1
                self.done.append(name)

        return handle

    async def give(self, queue: RQQueue, *names: str, lane: Lane = Lane.MAIN) -> None:
        for name in names:
            self.waiting[name] = None
            await queue.put(name, lane=lane)


async def until(what: Callable[[], bool], seconds: float = 30) -> float:
    """Wait until *what* holds and return how long that took."""
    begin = time.monotonic()
    with anyio.fail_after(seconds):
        while not what():  # noqa: ASYNC110 - another thread or process does it
            await anyio.sleep(0.005)
    return time.monotonic() - begin


@asynccontextmanager
async def consuming(
    queue: RQQueue, handler: Callable[[str], Awaitable[None]], *, concurrency: int = 1
) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:

        async def consume() -> None:
            await queue.consume(handler, concurrency=concurrency)

        tasks.start_soon(consume)
        yield
        tasks.cancel_scope.cancel()


# Rings


async def test_many_puts_make_one_ring(place: Place) -> None:
    """If this fails, each submit pays for a ring of its own, and idle workers look in vain."""
    async with place.queue() as queue:
        for number in range(100):
            await queue.put(f"job-{number}")

        assert await queue.depth() == 1
    assert 0 < place.client.pttl(place.flag()) <= 3000


async def test_rings_that_nobody_hears_do_not_pile_up(place: Place) -> None:
    """If this fails, a weekend without workers fills Redis with rings."""
    async with place.queue() as queue:
        for _ in range(40):
            await queue.put("job")
            place.client.delete(place.flag())

        assert await queue.depth() == 16


async def test_a_ring_lost_on_its_way_keeps_others_back_for_moments_only(place: Place) -> None:
    """If this fails, a process killed between flag and ring leaves a queue that nobody rings any more."""
    async with place.queue() as queue:
        await queue.put("lost")
        place.client.delete(f"rq:queue:{place.main}")
        await queue.put("kept back")
        assert await queue.depth() == 0

        place.client.pexpire(place.flag(), 1)
        await until(lambda: not place.client.exists(place.flag()))
        await queue.put("heard")
        assert await queue.depth() == 1


async def test_the_flag_is_down_before_anyone_looks(place: Place) -> None:
    """If this fails, a job stored just after a worker's look is found by nobody until the sweep."""
    up: list[int] = []

    async def handler(job_id: str) -> None:
        if job_id == "job":
            up.append(place.client.exists(place.flag()))

    async with place.queue() as queue, consuming(queue, handler):
        await until(lambda: bool(place.workers()))
        await queue.put("job")
        await until(lambda: bool(up))

    assert up == [0]


async def test_no_job_is_forgotten_whenever_it_comes(place: Place) -> None:
    """If this fails, a race between rings and looks leaves a job waiting for the sweep now and then."""
    jobs = Jobs()
    async with (
        place.queue() as one,
        place.queue() as two,
        consuming(one, jobs.handler(one), concurrency=2),
        consuming(two, jobs.handler(two), concurrency=1),
    ):
        slowest, given = 0.0, 0
        for number in range(150):
            given += 1 + number % 3
            async with anyio.create_task_group() as tasks:
                for part in range(1 + number % 3):
                    tasks.start_soon(jobs.give, one if part else two, f"{number}-{part}")
            slowest = max(slowest, await until(lambda given=given: len(jobs.done) == given))  # type: ignore[misc]  # mypy knows no defaults of lambdas

    assert len(set(jobs.done)) == 300
    assert slowest < 2.5, "a job waited until the flag had run out"


async def test_one_ring_fills_all_slots_of_two_processes(place: Place) -> None:
    """If this fails, a backlog is worked off by one worker while the others sleep."""
    jobs = Jobs()
    jobs.gate = anyio.Event()
    async with (
        place.queue() as one,
        place.queue() as two,
        consuming(one, jobs.handler(one), concurrency=3),
        consuming(two, jobs.handler(two), concurrency=3),
    ):
        await until(lambda: len(place.workers()) == 2)
        jobs.waiting = dict.fromkeys(f"job-{n}" for n in range(8))
        await one.put("job-0")
        await until(lambda: jobs.working == 6)
        jobs.gate.set()
        await until(lambda: len(jobs.done) == 8)


async def test_an_idle_slot_beside_is_woken_without_redis(place: Place) -> None:
    """If this fails, each job costs rings although its process has a slot that could run the next."""
    jobs = Jobs()
    jobs.gate = anyio.Event()
    async with place.queue() as queue, consuming(queue, jobs.handler(queue), concurrency=8):
        await until(lambda: NO_JOB in jobs.calls)  # the look at the start would find them without a ring
        jobs.waiting = dict.fromkeys(["a", "b", "c"])
        await queue.put("a")
        await until(lambda: jobs.working == 3)

        assert await queue.depth() == 0
        assert not place.client.exists(place.flag())
        jobs.gate.set()
        await until(lambda: len(jobs.done) == 3)


async def test_a_busy_process_leaves_rings_to_others(place: Place) -> None:
    """If this fails, a ring lies in a process that has no time for it while another is idle."""
    busy, idle = Jobs(), Jobs()
    busy.gate = anyio.Event()
    async with place.queue() as one, place.queue() as two, consuming(one, busy.handler(one)):
        await busy.give(one, "long")
        await until(lambda: busy.working == 1)
        await until(lambda: [worker.get_state() for worker in place.workers()] == ["busy"])
        await two.put("next")
        await anyio.sleep(1.2)  # longer than RQ's blocking read: a worker that reads would have it
        assert await two.depth() >= 1
        async with consuming(two, idle.handler(two)):
            await until(lambda: any(call != NO_JOB for call in idle.calls))
        busy.gate.set()


async def test_lanes_ring_apart_and_one_worker_may_serve_both(place: Place) -> None:
    """If this fails, CAD files wake workers that may not run them, or nobody."""
    main, cad, both = Jobs(), Jobs(), Jobs()
    async with (
        place.queue({Lane.MAIN}) as one,
        place.queue({Lane.CAD}) as two,
        consuming(one, main.handler(one)),
        consuming(two, cad.handler(two)),
    ):
        await one.put("drawing", lane=Lane.CAD)
        await one.put("scan", lane=Lane.MAIN)
        await until(lambda: "drawing" in cad.calls and "scan" in main.calls)
        assert "drawing" not in main.calls
        assert "scan" not in cad.calls
    async with place.queue() as queue, consuming(queue, both.handler(queue)):
        for lane in Lane:
            await queue.put(lane.value, lane=lane)
        await until(lambda: {*Lane} <= {*both.calls})


async def test_lanes_may_share_a_queue(place: Place) -> None:
    """If this fails, nobody runs the CAD jobs of a deployment that has no queue for them any more."""
    jobs = Jobs()
    async with (
        RQQueue(RedisOptions(place.url, key_prefix=place.prefix), names={Lane.MAIN: place.main}) as queue,
        consuming(queue, jobs.handler(queue)),
    ):
        await queue.put("drawing", lane=Lane.CAD)
        await until(lambda: "drawing" in jobs.calls)


# What else lies in the queue


async def test_what_is_no_ring_is_failed_and_never_run(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, whoever can write to Redis runs code in every worker."""
    mark = tmp_path / "mark"
    monkeypatch.setenv("DEDUP2D_TEST_MARK", str(mark))
    sys.modules.pop("tests.rq_marks", None)
    strangers = [
        place.rq().enqueue("os.system", f"touch {mark}"),
        place.rq().enqueue("tests.rq_marks.leave"),
        place.rq().enqueue("dedup2d_worker.ring.wake", "job", "more"),
        place.rq().enqueue("dedup2d_worker.ring.wake", job_ids=["job"]),
        place.rq().enqueue(
            "no.such.function",
            on_failure=Callback("tests.rq_marks.leave"),
            on_success=Callback("tests.rq_marks.leave"),
        ),
    ]
    payload = place.rq(serializer=None).enqueue("tests.rq_marks.leave")
    place.client.hset(payload.key, "data", pickle.dumps(_Bomb(str(mark))))
    await _hear_and_look(place)

    assert not mark.exists()
    assert "tests.rq_marks" not in sys.modules
    assert set(place.rq().failed_job_registry.get_job_ids()) == {job.id for job in [*strangers, payload]}
    told = [record for record in caplog.records if "no wake-up" in record.message]
    assert len(told) == 6, "each is logged once"
    assert all(0 < place.client.ttl(job.key) <= 3600 for job in strangers), "and forgotten soon"


class _Bomb:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.mark),)


async def _hear_and_look(place: Place) -> None:
    """Let a worker empty the queue, and see that it still hears rings."""
    jobs = Jobs()
    async with place.queue() as queue, consuming(queue, jobs.handler(queue)):
        await until(lambda: not place.client.llen(f"rq:queue:{place.main}"))
        await jobs.give(queue, "real")
        await until(lambda: "real" in jobs.done)


async def test_garbage_is_passed_over(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """If this fails, one damaged entry stops all wake-ups of its queue."""
    key = f"rq:queue:{place.main}"
    place.client.rpush(key, "not/an id", b"\xff\xfe", "", "text")
    place.client.set("rq:job:text", "not a hash")
    place.client.rpush(key, "odd")
    place.client.hset("rq:job:odd", mapping={"data": b"\x00", "status": "never heard of", "ttl": "soon"})
    await _hear_and_look(place)
    place.client.delete("rq:job:text", "rq:job:odd")

    assert sum("no wake-up" in record.message for record in caplog.records) >= 4


async def test_a_ring_that_has_expired_still_wakes(place: Place) -> None:
    """If this fails, rings that lay for minutes keep new ones away and wake nobody."""
    jobs = Jobs()
    async with place.queue() as queue, consuming(queue, jobs.handler(queue)):
        await until(lambda: bool(place.workers()))
        await until(lambda: not jobs.waiting)
        jobs.waiting["job"] = None
        place.client.rpush(f"rq:queue:{place.main}", "00000000-0000-0000-0000-000000000000")
        await until(lambda: "job" in jobs.done)


async def test_rings_leave_nothing_behind(place: Place) -> None:
    """If this fails, Redis fills up with the records of rings."""
    jobs = Jobs()
    async with place.queue() as queue, consuming(queue, jobs.handler(queue), concurrency=2):
        for number in range(30):
            await jobs.give(queue, f"job-{number}")
            await until(lambda: not jobs.waiting)
        await until(lambda: len(jobs.done) == 30 and not _rings(place))
    names = [key.decode() for key in place.client.scan_iter("rq:*")]

    assert [name for name in names if place.prefix in name] == []


def _rings(place: Place) -> list[str]:
    names = [key.decode() for key in place.client.scan_iter("rq:job:*")]
    return [name for name in names if _is_ring(place, name)]


def _is_ring(place: Place, name: str) -> bool:
    origin = place.client.hget(name, "origin") if place.client.type(name) == b"hash" else None
    return origin == place.main.encode()


async def test_the_same_ring_twice_and_late_does_no_harm(place: Place) -> None:
    """If this fails, what RQ repeats makes a worker stumble."""
    jobs = Jobs()
    rings = open_queue(place.main, place.client)
    push(rings, "job")
    (ring,) = place.client.lrange(rings.key, 0, -1)
    place.client.rpush(rings.key, ring, ring)
    async with place.queue() as queue, consuming(queue, jobs.handler(queue)):
        await until(lambda: not place.client.llen(rings.key))
        push(rings, "gone long ago")
        await until(lambda: "gone long ago" in jobs.calls)
        await jobs.give(queue, "real")
        await until(lambda: "real" in jobs.done)


# Beginning and end


async def test_a_ring_does_not_make_a_worker_that_is_killed_seem_alive_for_longer(place: Place) -> None:
    """If this fails, the doctor counts a worker that was killed after a ring for a minute too long."""
    jobs = Jobs()
    async with place.queue() as queue, consuming(queue, jobs.handler(queue)):
        await until(lambda: bool(place.workers()))
        (worker,) = place.workers()
        kept: list[int] = []
        for number in range(20):
            await jobs.give(queue, f"job-{number}")
            await until(lambda: not jobs.waiting and not _rings(place))
            kept.append(int(place.client.ttl(worker.key)))
    assert max(kept) <= 75, kept


async def test_the_worker_is_listed_while_it_listens(place: Place) -> None:
    """If this fails, `rq info` and the dashboards do not show who serves a queue."""
    jobs = Jobs()
    async with place.queue() as queue:
        async with consuming(queue, jobs.handler(queue)):
            await until(lambda: bool(place.workers()))
            (worker,) = place.workers()
            assert worker.queue_names() == [place.main, place.cad]
            await until(lambda: place.workers()[0].get_state() == "idle")
            assert place.main in {each.name for each in Queue.all(connection=place.client)}
            assert 15 < place.client.ttl(worker.key) <= 75
        assert place.workers() == []


async def test_who_listens_is_counted(place: Place) -> None:
    """If this fails, an operator is not told that nobody hears a queue, or that a killed worker does not."""
    killed = f"rq:worker:{token_hex(8)}"
    place.client.sadd(f"rq:workers:{place.main}", killed)
    place.client.hset(killed, "birth", "2026-01-01T00:00:00Z")
    place.client.expire(killed, 59)  # what is left 16 s after its last beat
    async with place.queue() as queue, place.queue({Lane.MAIN}) as heard:
        before = await queue.listeners()
        async with consuming(heard, Jobs().handler(heard)):
            await until(lambda: len(place.workers()) == 2)
            during = await queue.listeners()

    assert before == {place.main: 0, place.cad: 0}
    assert during == {place.main: 1, place.cad: 0}


async def test_an_idle_worker_stops_within_about_a_second(place: Place) -> None:
    """If this fails, every deploy waits for workers that do nothing."""
    jobs = Jobs()
    async with place.queue() as queue:
        async with consuming(queue, jobs.handler(queue)):
            await until(lambda: bool(place.workers()))
            begin = time.monotonic()
        took = time.monotonic() - begin

    assert took < 2.5


async def test_a_wake_up_that_nobody_looked_at_is_passed_on(place: Place) -> None:
    """If this fails, a worker that stops takes a ring with it, and its job waits for the sweep."""
    slots = Slots(1)
    assert slots.wake("job")
    async with place.queue({Lane.MAIN}) as queue:
        await queue._ring_for_others(slots)

        assert await queue.depth() == 1


@pytest.mark.parametrize("name", ["", "with space", "a,b", "a" * 201, "line\n", "%s"])
async def test_names_that_rq_would_stumble_over_are_refused(name: str) -> None:
    """If this fails, a queue name from the settings breaks RQ's own keys or lists."""
    with pytest.raises(ConfigurationError, match="DEDUP2D_QUEUE_NAME"):
        RQQueue(RedisOptions(redis_url()), names={Lane.MAIN: name})


async def test_a_user_who_may_not_use_rqs_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    """If this fails, a worker starts that never hears anything, and the log does not say why."""
    with redis_server(tmp_path / "redis") as server:
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "app", "on", ">geheim", "~mine:*", "&*", "+@all")
        url = server.url.replace("redis://", "redis://app:geheim@")
        queue = RQQueue(RedisOptions(url, key_prefix="mine"), names={Lane.MAIN: "mine:queue"})
        with pytest.raises(ConfigurationError, match=r"rq:\*") as caught:
            async with queue:
                pass

    assert "geheim" not in str(caught.value)


# Outages


async def test_putting_without_a_redis_is_an_error_that_may_pass(tmp_path: Path) -> None:
    """If this fails, an outage looks like a bug, or a request hangs."""
    with redis_server(tmp_path / "redis") as server:
        place = Place(server.url)
        async with place.queue() as queue:
            server.kill()
            with anyio.fail_after(10):
                for _ in range(3):
                    with pytest.raises(StoreUnavailableError, match="Redis"):
                        await queue.put("job")
                with pytest.raises(StoreUnavailableError):
                    await queue.depth()
            server.restart()
            await queue.put("job")
            assert await queue.depth() == 1


async def test_a_redis_that_comes_back_empty_is_served_within_seconds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If this fails, a restart of Redis leaves workers that hear nothing, unseen, or a log full of tries."""
    caplog.set_level(logging.INFO)
    jobs = Jobs()
    with redis_server(tmp_path / "redis") as server:
        place = Place(server.url)
        async with place.queue() as queue, consuming(queue, jobs.handler(queue), concurrency=2):
            await until(lambda: bool(place.workers()))
            await jobs.give(queue, "before")
            await until(lambda: "before" in jobs.done)
            server.kill()
            await until(lambda: any("cannot be heard" in record.message for record in caplog.records))
            await anyio.sleep(2.5)
            server.restart()
            seen = await until(lambda: _sees_one_worker(place))
            await jobs.give(queue, "after")
            await until(lambda: "after" in jobs.done, 5)
            assert place.main in {each.name for each in Queue.all(connection=place.client)}
            await until(lambda: any("heard again" in record.message for record in caplog.records))

    assert seen < 5
    assert sum("cannot be heard" in record.message for record in caplog.records) == 1
    assert sum("heard again" in record.message for record in caplog.records) == 1


def _sees_one_worker(place: Place) -> bool:
    try:
        return len(place.workers()) == 1
    except RedisConnectionError:
        return False


async def test_a_redis_that_lost_its_data_unnoticed_sees_the_worker_again(place: Place) -> None:
    """If this fails, a failover to an empty Redis leaves workers that no tool shows."""
    jobs = Jobs()
    async with place.queue() as queue, consuming(queue, jobs.handler(queue)):
        await until(lambda: bool(place.workers()))
        (worker,) = place.workers()
        place.client.srem("rq:queues", f"rq:queue:{place.main}")
        place.client.delete(worker.key, f"rq:workers:{place.main}")
        await until(lambda: bool(place.workers()), 20)
        assert place.client.sismember("rq:queues", f"rq:queue:{place.main}")


async def test_a_redis_that_stands_still_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """If this fails, a worker cannot be stopped while Redis hangs."""
    jobs = Jobs()
    with redis_server(tmp_path / "redis") as server:
        place = Place(server.url)
        async with place.queue(command_seconds=60) as queue:
            async with consuming(queue, jobs.handler(queue)):
                await until(lambda: bool(place.workers()))
                server.pause()
                await anyio.sleep(0.1)
                begin = time.monotonic()
            took = time.monotonic() - begin
            server.resume()

    assert took < 5


async def test_a_redis_that_stood_still_is_heard_again(tmp_path: Path) -> None:
    """If this fails, a pause of Redis ends a worker's hearing for good."""
    jobs = Jobs()
    with redis_server(tmp_path / "redis") as server:
        place = Place(server.url)
        async with place.queue(command_seconds=1) as queue, consuming(queue, jobs.handler(queue)):
            await until(lambda: bool(place.workers()))
            server.pause()
            await anyio.sleep(5)
            server.resume()
            await jobs.give(queue, "after")
            await until(lambda: "after" in jobs.done, 5)
