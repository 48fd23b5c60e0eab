"""The runner where it is interrupted, and what wakes it again: on memory back ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
from attrs import define, field, frozen

from dedup2d.alarms import Alarms
from dedup2d.errors import StoreUnavailableError, VisionCircuitOpenError, VisionUnavailableError
from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.observe import Observer
from dedup2d.precision.overlay import Precision
from dedup2d.protocols import HalfUploads
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import Runner, RunnerOptions
from dedup2d.testing import FakeVision, ManualClock
from dedup2d.types import HalfUpload, Job, JobStatus, Lane, Swept
from dedup2d.upkeep import Upkeep

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Shared(MemoryQueue):
    """A queue of several machines; passing on takes as long as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.passing = anyio.Event()
        self.passed: list[str] = []
        self.error: Exception | None = None
        self.waits = False

    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        self.passing.set()
        if self.waits:
            await anyio.sleep_forever()
        if self.error:
            raise self.error
        self.passed.append(job_id)


@frozen(kw_only=True)
class Bench:
    """A runner and what it works on."""

    clock: ManualClock = field(factory=ManualClock)
    vision: FakeVision = field(factory=FakeVision)
    queue: Shared = field(factory=Shared)
    slept: list[float] = field(factory=list)

    def runner(self, jobs: MemoryJobStore, files: MemoryFileStore | None = None) -> Runner:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            await anyio.sleep_forever()

        files = files or MemoryFileStore(clock=self.clock)
        return Runner(
            jobs=jobs,
            files=files,
            queue=self.queue,
            vision=self.vision,
            options=RunnerOptions(concurrency=1),
            observer=Observer(),
            clock=self.clock,
            new_id=lambda: "token",
            precision=Precision(store=FileGeometryStore(files)),
            sleep=sleep,
            jitter=lambda: 0.5,
        )

    async def job(self, runner: Runner, job_id: str = "j") -> None:
        stored = await runner.files.put(f"acme/{job_id}", once(PNG))
        job = Job(
            job_id=job_id,
            tenant_id="acme",
            file_key=stored.key,
            file_name="a.png",
            file_hash=stored.sha256,
            file_size=stored.size,
            created_at=self.clock(),
        )
        await runner.jobs.admit(job, max_jobs=1000, max_jobs_per_tenant=1000)


async def until(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110 - the parts under test have no event for it
        await anyio.sleep(0.001)


async def test_a_worker_stopped_while_it_wakes_the_next_gives_its_job_back() -> None:
    """If this fails, a job that was claimed just before a stop waits until its lease has run out."""
    bench = Bench()
    runner = bench.runner(MemoryJobStore(clock=bench.clock))
    await bench.job(runner)
    bench.queue.waits = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.wake, "j")
        await bench.queue.passing.wait()
        assert (await runner.jobs.get("j")).status is JobStatus.IN_PROGRESS
        tasks.cancel_scope.cancel()

    left = await runner.jobs.get("j")
    assert (left.status, left.losses, left.last_error) == (JobStatus.PENDING, 0, "the worker was stopped")
    assert await bench.queue.depth() == 1
    assert not bench.vision.calls


class _SlowToRelease(MemoryJobStore):
    """A store that is asked to take a job back when the worker is stopped."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.releasing = anyio.Event()
        self.slow = True

    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        self.releasing.set()
        await anyio.sleep(0.05 if self.slow else 0)
        return await super().release(job_id, token, delay_seconds=delay_seconds, error=error)


async def test_a_worker_stopped_while_it_gives_a_job_back_does_so() -> None:
    """If this fails, a stop during an outage of vision leaves jobs leased to nobody."""
    bench = Bench()
    jobs = _SlowToRelease(bench.clock)
    runner = bench.runner(jobs)
    await bench.job(runner)
    bench.vision.fail(VisionUnavailableError("it is away"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.wake, "j")
        await jobs.releasing.wait()
        tasks.cancel_scope.cancel()

    left = await jobs.get("j")
    assert (left.status, left.lease_expires_at) == (JobStatus.PENDING, None)
    assert left.next_attempt_at == bench.clock() + 1.5


@pytest.mark.parametrize("error", [StoreUnavailableError("Redis", "it is away"), RuntimeError("a bug")])
async def test_a_queue_that_fails_does_not_fail_the_job(error: Exception) -> None:
    """If this fails, an outage of the wake-ups loses searches that could be made."""
    bench = Bench()
    runner = bench.runner(MemoryJobStore(clock=bench.clock))
    await bench.job(runner)
    bench.queue.error = error
    await runner.wake("j")

    assert (await runner.jobs.get("j")).status is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (VisionUnavailableError("it is away"), 1.5),
        (VisionCircuitOpenError("search", 30.0), 32.5),
        (VisionCircuitOpenError("search", 0.2), 1.5),
        (VisionCircuitOpenError("search", 3600.0), 62.5),
    ],
)
async def test_a_job_that_vision_cannot_answer_comes_back_when_it_may(
    error: Exception, seconds: float
) -> None:
    """If this fails, jobs are tried in vain while the circuit is open, or long after it has closed."""
    bench = Bench()
    runner = bench.runner(MemoryJobStore(clock=bench.clock))
    await bench.job(runner)
    bench.vision.fail(error)
    await runner.wake("j")

    assert (await runner.jobs.get("j")).next_attempt_at == bench.clock() + seconds


async def test_a_worker_is_woken_when_a_job_that_was_given_back_is_due() -> None:
    """If this fails, the backlog of an outage waits for the next sweep, each job anew."""
    bench = Bench()
    runner = bench.runner(MemoryJobStore(clock=bench.clock))
    due = anyio.Event()

    async def sleep(seconds: float) -> None:
        bench.slept.append(seconds)
        await (due.wait() if 1 < seconds < 3 else anyio.sleep_forever())

    runner.sleep = runner._alarms.sleep = sleep
    await bench.job(runner)
    bench.vision.fail(VisionUnavailableError("it is away"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner._alarms.run)
        await anyio.lowlevel.checkpoint()
        await runner.wake("j")
        passed = len(bench.queue.passed)
        await until(lambda: bool(bench.slept))
        bench.clock.advance(2)
        due.set()
        await until(lambda: len(bench.queue.passed) > passed)
        tasks.cancel_scope.cancel()

    assert bench.queue.passed[passed:] == ["j"]
    assert 1.5 <= bench.slept[0] <= 1.76


async def test_many_jobs_that_are_due_together_need_one_alarm() -> None:
    """If this fails, an outage with many jobs waiting fills the memory with timers and Redis with rings."""
    rung: list[tuple[str, Lane]] = []
    gate, now = anyio.Event(), [100.0]

    async def ring(job_id: str, lane: Lane) -> None:
        rung.append((job_id, lane))

    async def sleep(_: float) -> None:
        await gate.wait()

    alarms = Alarms(ring=ring, clock=lambda: now[0], sleep=sleep)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarms.run)
        await anyio.lowlevel.checkpoint()
        for number in range(10_000):
            alarms.set(f"{number}", Lane.MAIN if number % 2 else Lane.CAD, seconds=60 * number / 10_000)
        gate.set()
        await until(lambda: len(rung) >= 480)
        tasks.cancel_scope.cancel()

    assert 480 <= len(rung) <= 484
    assert {lane for _, lane in rung} == {Lane.MAIN, Lane.CAD}


class _Flaky(MemoryJobStore):
    """A store whose sweeps fail while it is away."""

    away = True

    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        if self.away:
            raise StoreUnavailableError("Redis", "it is away")
        return await super().sweep(max_losses=max_losses, ttl_seconds=ttl_seconds, limit=limit)


@define
class Upkept:
    """What looks after the stores, taken step by step."""

    files: MemoryFileStore
    jobs: MemoryJobStore
    clock: ManualClock
    sleep: Callable[[float], Awaitable[None]]
    woken: list[tuple[str, Lane]] = field(factory=list)
    deaf: bool = False

    async def wake(self, job_id: str, lane: Lane) -> bool:
        self.woken.append((job_id, lane))
        return not self.deaf

    def upkeep(self) -> Upkeep:
        return Upkeep(
            jobs=self.jobs,
            files=self.files,
            wake=self.wake,
            options=RunnerOptions(),
            observer=Observer(),
            clock=self.clock,
            sleep=self.sleep,
        )


async def test_an_outage_of_the_store_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """If this fails, an outage fills the log of every worker, with stacks that tell an operator nothing."""
    clock, ticks = ManualClock(), 0
    jobs = _Flaky(clock=clock)
    enough = anyio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal ticks
        if seconds > 100:
            await anyio.sleep_forever()
        ticks += 1
        jobs.away = ticks < 5
        if ticks > 7:
            enough.set()
        await anyio.lowlevel.checkpoint()

    with caplog.at_level(logging.INFO):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Upkept(MemoryFileStore(clock=clock), jobs, clock, sleep).upkeep().run)
            await enough.wait()
            tasks.cancel_scope.cancel()

    told = [record for record in caplog.records if record.name == "dedup2d.runner"]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert not any(record.exc_info for record in told)
    assert "again" in told[1].getMessage()


class _Halves(MemoryFileStore):
    """A store that keeps what was sent of uploads that were cut off."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.asked: list[float] = []
        self.left: list[str] = []

    @property
    def longest_upload_seconds(self) -> float:
        return 86_400.0

    async def half_uploads(self, *, older_than: float) -> AsyncIterator[HalfUpload]:
        self.asked.append(older_than)
        yield HalfUpload(name="1-2", key="", size=3, begun_at=older_than - 1)

    async def abandon(self, upload: HalfUpload) -> bool:
        self.left.append(upload.name)
        return True


async def test_what_is_left_of_uploads_is_collected_too() -> None:
    """If this fails, each service that is killed in an upload leaves parts in the bucket that nobody sees."""
    clock = ManualClock()
    files = _Halves(clock)
    await Upkept(files, MemoryJobStore(clock=clock), clock, anyio.sleep).upkeep().collect()

    assert files.asked == [clock() - 86_400]
    assert files.left == ["1-2"]
    assert isinstance(S3FileStore(S3Options(bucket="uploads")), HalfUploads)


@pytest.mark.parametrize(("deaf", "woken"), [(False, 4), (True, 1)])
async def test_a_sweep_wakes_for_what_waits_until_nobody_can_be_woken(deaf: bool, woken: int) -> None:
    """If this fails, jobs whose wake-up was lost wait for ever, or an outage fills the log."""
    bench, clock = Bench(), ManualClock()
    jobs = MemoryJobStore(clock=clock)
    runner = bench.runner(jobs)
    for number in range(5):
        await bench.job(runner, f"j{number}")
    kept = Upkept(runner.files, jobs, clock, anyio.sleep, deaf=deaf)  # type: ignore[arg-type] # it is that
    await kept.upkeep().sweep()

    assert kept.woken == [("j0", Lane.MAIN), ("j0", Lane.CAD), ("j1", Lane.MAIN), ("j1", Lane.CAD)][:woken]
