"""The service object and its runner, on memory back ends, a clock that is moved and an engine that obeys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from attrs import evolve, field, frozen

from dedup2d import Dedup2D, JobStatus, SearchParams, SearchResult, ServiceOptions
from dedup2d.collecting import Collector
from dedup2d.errors import (
    EmptyFileError,
    FileTooLargeError,
    IdempotencyConflictError,
    InvalidParameterError,
    JobNotFoundError,
    JobQueueFullError,
    StoreUnavailableError,
    UnreadableDrawingError,
    UnsupportedFormatError,
    VisionUnavailableError,
)
from dedup2d.files.memory import MemoryFileStore
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.observe import Observer
from dedup2d.precision.overlay import Precision
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import Runner, RunnerOptions, stored_drawing
from dedup2d.testing import FakeVision, ManualClock
from dedup2d.types import EffectiveParameter, Job, JobCounts, Lane, Source, Swept
from dedup2d.uploads import clean_file_name

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
BEAT = 0.01
"""Heartbeats and sweeps so fast that nothing waits for them."""

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@frozen(kw_only=True)
class Bench:
    """A service and the parts it is made of."""

    clock: ManualClock = field(factory=ManualClock)
    vision: FakeVision = field(factory=FakeVision)
    observer: Observer = field(factory=Observer)
    options: RunnerOptions = field(factory=lambda: RunnerOptions(heartbeat_seconds=BEAT, sweep_seconds=BEAT))

    @asynccontextmanager
    async def open(self, *, max_jobs: int = 200, max_upload_bytes: int = 10_000) -> AsyncIterator[Dedup2D]:
        async with Dedup2D(
            jobs=MemoryJobStore(clock=self.clock),
            files=MemoryFileStore(clock=self.clock),
            queue=MemoryQueue(),
            vision=self.vision,
            options=ServiceOptions(max_jobs=max_jobs, max_upload_bytes=max_upload_bytes, run=self.options),
            clock=self.clock,
            observer=self.observer,
        ) as dedup:
            yield dedup


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait for tasks of the service to have done *what*; the test's time limit ends it."""
    while not await what():  # noqa: ASYNC110 - the parts under test have no event for it
        await anyio.sleep(0.001)


async def status_becomes(dedup: Dedup2D, job: Job, status: JobStatus) -> Job:
    async def reached() -> bool:
        return (await dedup.get(job.tenant_id, job.job_id)).status is status

    await until(reached)
    return await dedup.get(job.tenant_id, job.job_id)


async def test_a_job_completes_with_its_result_and_its_file_is_deleted() -> None:
    """If this fails, the main flow is broken."""
    bench = Bench()
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png", params=SearchParams(mode="fast"))
        final = await dedup.wait("acme", job.job_id, timeout=10)
        await until(lambda: no_files(dedup))

    assert (job.status, final.status) == (JobStatus.PENDING, JobStatus.COMPLETED)
    assert final.result is not None
    assert evolve(final.result, effective_parameters={}) == SearchResult(file_hash=job.file_hash)
    assert final.result.effective_parameters["mode"] == EffectiveParameter(
        value="fast", source=Source.REQUEST
    )
    assert bench.vision.calls[0].data == PNG
    assert final.expires_at == bench.clock() + 3600


async def no_files(dedup: Dedup2D) -> bool:
    return not await dedup.files.list()


@pytest.mark.parametrize(
    ("data", "name", "error"),
    [
        (b"", "a.png", EmptyFileError),
        (b"hello world, this is text", "a.png", UnsupportedFormatError),
        (PNG + bytes(10_000), "a.png", FileTooLargeError),
        (Path("/nowhere/at/all.png"), "all.png", UnreadableDrawingError),
    ],
)
async def test_bad_files_are_refused_and_leave_nothing(
    data: bytes | Path, name: str, error: type[Exception]
) -> None:
    """If this fails, a bad upload becomes a job, or stays behind in the file store."""
    async with Bench().open() as dedup:
        with pytest.raises(error):
            await dedup.submit("acme", data, file_name=name)
        with pytest.raises(error):
            await dedup.search("acme", data, file_name=name)

        assert await no_files(dedup)
        assert (await dedup.list_jobs("acme")).total == 0


async def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    """If this fails, a client that goes away in the middle leaves half a file or a job."""

    async def broken() -> AsyncIterator[bytes]:
        yield PNG
        raise ConnectionError

    async with Bench().open() as dedup:
        with pytest.raises(ConnectionError):
            await dedup.submit("acme", broken(), file_name="a.png")

        assert await no_files(dedup)


@pytest.mark.parametrize("tenant", ["", "../x", "A", "a/b", "a" * 65, "a\n"])
async def test_tenants_that_could_leave_their_directory_are_refused(tenant: str) -> None:
    """If this fails, a tenant's name can reach another's files."""
    async with Bench().open() as dedup:
        with pytest.raises(InvalidParameterError, match="tenant_id"):
            await dedup.submit(tenant, PNG, file_name="a.png")


async def test_fifty_submits_at_ten_places_admit_exactly_ten() -> None:
    """If this fails, the queue takes more than an operator allowed, or refuses while places are free."""
    bench = Bench()
    bench.vision.hold()
    outcomes: list[str] = []

    async def one(dedup: Dedup2D, number: int) -> None:
        try:
            await dedup.submit("acme", PNG, file_name=f"{number}.png")
            outcomes.append("admitted")
        except JobQueueFullError:
            outcomes.append("full")

    async with bench.open(max_jobs=10) as dedup:
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, dedup, number)
        held = len(await dedup.files.list())
        bench.vision.let_go()

    assert sorted(outcomes) == ["admitted"] * 10 + ["full"] * 40
    assert held == 10


async def test_no_more_jobs_run_at_once_than_allowed() -> None:
    """If this fails, concurrency is not bounded."""
    bench = Bench()
    bench.vision.hold()
    async with bench.open() as dedup:
        jobs = [await dedup.submit("acme", PNG, file_name=f"{n}.png") for n in range(6)]
        await bench.vision.until_running(2)
        bench.vision.let_go()
        for job in jobs:
            await dedup.wait("acme", job.job_id, timeout=10)

    assert bench.vision.most == 2


async def test_canceling_a_waiting_job_is_immediate_and_a_running_one_soon() -> None:
    """If this fails, cancel waits for the search, or the search goes on after it."""
    bench = Bench(options=RunnerOptions(concurrency=1, sweep_seconds=BEAT))  # a heartbeat of 20 s
    bench.vision.hold()
    async with bench.open() as dedup:
        running = await dedup.submit("acme", PNG, file_name="a.png")
        waiting = await dedup.submit("acme", PNG, file_name="b.png")
        await bench.vision.until_running(1)

        canceled = await dedup.cancel("acme", waiting.job_id)
        await dedup.cancel("acme", running.job_id)
        stopped = await status_becomes(dedup, running, JobStatus.CANCELED)
        await until(lambda: no_files(dedup))

    assert canceled.status is JobStatus.CANCELED
    assert stopped.result is None
    assert bench.vision.cancelled == 1


async def test_an_outage_gives_the_job_back_until_it_has_waited_too_long() -> None:
    """If this fails, a vision engine that is down for a minute fails jobs."""
    bench = Bench(options=RunnerOptions(heartbeat_seconds=BEAT, sweep_seconds=BEAT, max_wait_seconds=100))
    bench.vision.fail(VisionUnavailableError("it is down"), times=2)
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        back = await released(dedup, job, attempts=1)
        bench.clock.advance(5)
        await released(dedup, job, attempts=2)
        bench.clock.advance(60)
        final = await dedup.wait("acme", job.job_id, timeout=10)

        bench.vision.fail(VisionUnavailableError("it is down"), times=9)
        other = await dedup.submit("acme", PNG, file_name="b.png")
        await released(dedup, other, attempts=1)
        bench.clock.advance(101)
        failed = await dedup.wait("acme", other.job_id, timeout=10)

    assert back.last_error is not None
    assert "it is down" in back.last_error
    assert back.next_attempt_at is not None
    assert bench.clock() > back.next_attempt_at
    assert final.status is JobStatus.COMPLETED
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "VISION_UNAVAILABLE")


async def released(dedup: Dedup2D, job: Job, *, attempts: int) -> Job:
    async def given_back() -> bool:
        now = await dedup.get(job.tenant_id, job.job_id)
        return now.status is JobStatus.PENDING and now.attempts == attempts

    await until(given_back)
    return await dedup.get(job.tenant_id, job.job_id)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UnreadableDrawingError("a.png", "it ends too early"), "UNREADABLE_DRAWING", "ends too early"),
        (ZeroDivisionError("secret/path"), "INTERNAL", "see the service's log"),
    ],
)
async def test_an_error_that_will_not_pass_fails_the_job_at_once(
    error: Exception, code: str, said: str
) -> None:
    """If this fails, a broken file is tried for an hour, or an internal message reaches a client."""
    bench = Bench()
    bench.vision.fail(error)
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        final = await dedup.wait("acme", job.job_id, timeout=10)

    assert (final.status, final.error_code) == (JobStatus.FAILED, code)
    assert said in (final.error or "")
    assert "secret" not in (final.error or "")


async def test_a_search_over_its_time_is_stopped_and_failed() -> None:
    """If this fails, a search that hangs holds a place forever, or counts as canceled."""
    bench = Bench(options=RunnerOptions(sweep_seconds=BEAT, job_timeout_seconds=0.05))
    bench.vision.hold()
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        final = await dedup.wait("acme", job.job_id, timeout=10)

    assert (final.status, final.error_code) == (JobStatus.FAILED, "JOB_TIMEOUT")
    assert bench.vision.cancelled == 1


async def test_leaving_gives_running_jobs_back_without_a_loss() -> None:
    """If this fails, a deploy loses or fails the searches that run."""
    bench = Bench()
    bench.vision.hold()
    jobs = MemoryJobStore(clock=bench.clock)
    async with bench.open() as dedup:
        dedup.jobs = dedup._runner.jobs = dedup._intake.jobs = jobs  # the store outlives the service
        job = await dedup.submit("acme", PNG, file_name="a.png")
        await bench.vision.until_running(1)

    left = await jobs.get(job.job_id)
    assert (left.status, left.losses, left.attempts) == (JobStatus.PENDING, 0, 1)


async def test_a_lost_job_runs_again_and_fails_once_it_was_lost_too_often() -> None:
    """If this fails, a killed worker's job is stuck, or a file that kills workers is tried forever."""
    bench = Bench(options=RunnerOptions(concurrency=0, max_losses=2))
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        for _ in range(2):
            assert await dedup.jobs.claim("a dead worker", lease_seconds=60) is not None
            bench.clock.advance(61)
            await dedup._runner.upkeep.sweep()
        final = await dedup.get("acme", job.job_id)

        assert (final.status, final.error_code) == (JobStatus.FAILED, "WORKER_LOST")
        assert await no_files(dedup)


async def test_a_worker_that_lost_its_lease_writes_nothing() -> None:
    """If this fails, a worker that was paused overwrites the result of the one that took over."""
    bench = Bench(options=RunnerOptions(sweep_seconds=BEAT, heartbeat_seconds=BEAT))
    bench.vision.hold()
    async with bench.open() as dedup:
        dedup._runner.new_id = lambda: "token"
        job = await dedup.submit("acme", PNG, file_name="a.png")
        await bench.vision.until_running(1)
        jobs = dedup.jobs
        assert isinstance(jobs, MemoryJobStore)
        await jobs.release(job.job_id, "token", delay_seconds=1000)

        async def dropped() -> bool:
            return bench.vision.cancelled == 1

        await until(dropped)
        left = await jobs.get(job.job_id)

    assert left.status is JobStatus.PENDING
    assert left.result is None


async def no_pause(_: float) -> None: ...


async def test_expired_jobs_and_orphan_files_go_away() -> None:
    """If this fails, disks fill up with what nobody needs."""
    bench = Bench(options=evolve(RunnerOptions(concurrency=0), cleanup_on_finish=False))
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        await dedup.cancel("acme", job.job_id)
        waiting = await dedup.submit("acme", PNG, file_name="b.png")

        async def chunks() -> AsyncIterator[bytes]:
            yield PNG

        await dedup.files.put("acme/" + "0" * 32, chunks())
        bench.clock.advance(3601)
        await dedup._runner.upkeep.sweep()
        with pytest.raises(JobNotFoundError):
            await dedup.get("acme", job.job_id)
        collector = Collector(
            jobs=dedup.jobs,
            files=dedup.files,
            retention_seconds=60,
            clock=bench.clock,
            sleep=no_pause,
        )

        assert (await collector.run()).files == 1
        assert [stored.key for stored in await dedup.files.list()] == [waiting.file_key]


async def test_the_same_idempotency_key_gives_the_same_job() -> None:
    """If this fails, a client that retries pays for two searches, or gets another request's answer."""
    bench = Bench(options=RunnerOptions(concurrency=0))
    async with bench.open(max_jobs=1) as dedup:
        first = await dedup.submit("acme", PNG, file_name="a.png", idempotency_key="k")
        again = await dedup.submit("acme", PNG, file_name="a.png", idempotency_key="k")
        with pytest.raises(IdempotencyConflictError):
            await dedup.submit("acme", PNG + b"x", file_name="a.png", idempotency_key="k")

        assert again.job_id == first.job_id
        assert len(await dedup.files.list()) == 1


async def test_direct_searches_are_bounded_and_leave_no_file() -> None:
    """If this fails, synchronous searches pile up without limit, or their uploads stay."""
    bench = Bench()
    bench.vision.hold()
    async with bench.open(max_jobs=1) as dedup:
        async with anyio.create_task_group() as tasks:

            async def search() -> None:
                await dedup.search("acme", PNG, file_name="a.png")

            tasks.start_soon(search)
            await bench.vision.until_running(1)
            with pytest.raises(JobQueueFullError):
                await dedup.search("acme", PNG, file_name="b.png")
            bench.vision.let_go()

        assert await no_files(dedup)


async def test_a_file_on_disk_is_searched_in_place(tmp_path: Path) -> None:
    """If this fails, the command copies every drawing before it looks at it."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    bench = Bench()
    async with bench.open() as dedup:
        await dedup.add("acme", path, file_name=path.name, source=str(path))
        result = await dedup.search("acme", path, file_name=path.name)

        assert await no_files(dedup)
    assert [match.similarity for match in result.duplicates] == [1.0]


async def test_errors_of_the_caller_pass_through_as_they_are() -> None:
    """If this fails, `except MyError` around the service does not catch MyError."""
    with pytest.raises(ZeroDivisionError):
        async with Bench().open():
            raise ZeroDivisionError


async def test_the_observer_hears_what_happened() -> None:
    """If this fails, metrics are wrong."""
    heard: list[str] = []

    class Hearing(Observer):
        def job_submitted(self) -> None:
            heard.append("submitted")

        def job_finished(self, status: JobStatus, seconds: float, code: str | None = None) -> None:
            heard.append(f"finished {status} after {seconds:g}: {code}")

        def file_operation(
            self, backend: str, operation: str, outcome: str, seconds: float, size: int
        ) -> None:
            if operation == "put":
                heard.append(f"{backend} {operation} {outcome}: {size == len(PNG)}")

        def vision_operation(self, operation: str, outcome: str, seconds: float) -> None:
            heard.append(f"vision {operation} {outcome}")

        def jobs_counted(self, counts: JobCounts, now: float) -> None:
            pass

    bench = Bench(observer=Hearing())
    bench.vision.fail(UnreadableDrawingError("a.png", "torn"))
    async with bench.open() as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        await dedup.wait("acme", job.job_id, timeout=10)
        await until(lambda: no_files(dedup))

    assert heard[:4] == [
        "memory put ok: True",
        "submitted",
        "vision search UNREADABLE_DRAWING",
        "finished failed after 0: UNREADABLE_DRAWING",
    ]


async def test_a_store_that_fails_for_a_while_does_not_end_the_runner() -> None:
    """If this fails, one error of the disk stops all jobs until a restart."""
    bench = Bench()

    class Failing(MemoryJobStore):
        broken = True

        async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
            if self.broken:
                raise OSError("disk full")
            return await super().sweep(max_losses=max_losses, ttl_seconds=ttl_seconds, limit=limit)

    jobs, queue = Failing(clock=bench.clock), MemoryQueue()
    files = MemoryFileStore(clock=bench.clock)
    runner = Runner(
        jobs=jobs,
        files=files,
        queue=queue,
        vision=bench.vision,
        options=bench.options,
        observer=Observer(),
        clock=bench.clock,
        new_id=lambda: "token",
        precision=Precision(store=FileGeometryStore(files)),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        await anyio.sleep(3 * BEAT)
        jobs.broken = False
        await jobs.admit(
            Job(
                job_id="j",
                tenant_id="acme",
                file_key="acme/j",
                file_name="a",
                file_hash="",
                file_size=0,
                created_at=0,
            ),
            max_jobs=1,
            max_jobs_per_tenant=1,
        )

        async def failed() -> bool:
            return (await jobs.get("j")).error_code == "FILE_NOT_FOUND"

        await until(failed)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("C:\\plans\\a.dxf", "a.dxf"),
        ("../../etc/passwd", "passwd"),
        ("a\nb\x00c\x1b[31m.png", "a_b_c_[31m.png"),
        ("..", "drawing"),
        ("", "drawing"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
    ],
)
def test_file_names_of_clients_become_harmless(given: str, kept: str) -> None:
    """If this fails, a file name can break a log, a terminal or a path."""
    assert clean_file_name(given) == kept


async def test_a_file_that_was_changed_after_it_was_taken_in_is_not_searched_with() -> None:
    """If this fails, a damaged upload, or one a client wrote over, answers under another file's hash."""
    async with MemoryFileStore() as files:
        stored = await files.put("acme/1", _once(b"drawing"))
        drawing = stored_drawing(files, "acme/1", name="a.png", sha256=stored.sha256, size=stored.size)

        assert b"".join([chunk async for chunk in drawing.open()]) == b"drawing"
        await files.put("acme/1", _once(b"another"))
        with pytest.raises(UnreadableDrawingError, match="submit it again"):
            assert [chunk async for chunk in drawing.open()]


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


DXF = b"  0\r\nSECTION\r\n  2\r\nHEADER\r\n  0\r\nENDSEC\r\n  0\r\nEOF\r\n"


@pytest.mark.parametrize(
    ("data", "cad_lane", "lane"),
    [(DXF, True, Lane.CAD), (PNG, True, Lane.MAIN), (DXF, False, Lane.MAIN)],
)
async def test_cad_files_wait_in_a_lane_of_their_own_where_there_is_one(
    data: bytes, cad_lane: bool, lane: Lane
) -> None:
    """If this fails, one large DXF keeps pictures waiting, or waits for workers that are not there."""
    async with Dedup2D(
        jobs=MemoryJobStore(),
        files=MemoryFileStore(),
        queue=MemoryQueue(),
        vision=FakeVision(),
        options=ServiceOptions(cad_lane=cad_lane, run=RunnerOptions(concurrency=0)),
    ) as dedup:
        job = await dedup.submit("acme", data, file_name="a")

        assert (job.lane, (await dedup.get("acme", job.job_id)).lane) == (lane, lane)


class _Unreachable(MemoryQueue):
    """A queue whose server is away; a real one raises the same."""

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        raise StoreUnavailableError("Redis", "it is away")


async def test_a_job_that_was_admitted_is_answered_although_nobody_was_woken() -> None:
    """If this fails, a client that is told 503 submits again, and both jobs run."""
    bench = Bench()
    async with Dedup2D(
        jobs=MemoryJobStore(),
        files=MemoryFileStore(),
        queue=_Unreachable(),
        vision=bench.vision,
        options=ServiceOptions(run=RunnerOptions(concurrency=0)),
    ) as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")

        assert (await dedup.get("acme", job.job_id)).status is JobStatus.PENDING


class _AwayAtTheEnd(MemoryJobStore):
    """A store that cannot be reached the first times that a job is to be finished."""

    failures = 3

    async def finish(self, *args: object, **given: object) -> Job:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("Redis", "it is away")
        return await super().finish(*args, **given)  # type: ignore[arg-type]  # any of its keywords


async def test_a_result_is_kept_until_its_store_can_be_reached_again() -> None:
    """If this fails, a restart of the store throws away every search that ends meanwhile."""
    bench = Bench()
    jobs, pauses = _AwayAtTheEnd(clock=bench.clock), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await anyio.sleep(BEAT if seconds == BEAT else 0)

    runner = _runner(bench, jobs, sleep=pause)
    await _run_one(runner, jobs)

    assert (await jobs.get("j")).status is JobStatus.COMPLETED
    assert (await jobs.get("j")).attempts == 1
    assert [seconds for seconds in pauses if seconds != BEAT][-3:] == [0.2, 0.4, 0.8]


async def test_a_result_is_given_up_when_its_lease_must_have_run_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If this fails, a worker without a store keeps its slots busy for ever, or fills the log meanwhile."""
    bench = Bench()
    jobs = _AwayAtTheEnd(clock=bench.clock)
    jobs.failures = 1000

    async def pause(seconds: float) -> None:
        bench.clock.advance(seconds)
        await anyio.lowlevel.checkpoint()

    runner = _runner(bench, jobs, sleep=pause)
    await _run_one(runner, jobs)

    assert 900 < jobs.failures < 1000
    assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["WARNING"] * 2
    assert "lease has run out" in caplog.text


def _runner(bench: Bench, jobs: MemoryJobStore, sleep: Callable[[float], Awaitable[None]]) -> Runner:
    files = MemoryFileStore(clock=bench.clock)
    return Runner(
        jobs=jobs,
        files=files,
        queue=MemoryQueue(),
        vision=bench.vision,
        options=bench.options,
        observer=Observer(),
        clock=bench.clock,
        new_id=lambda: "token",
        precision=Precision(store=FileGeometryStore(files)),
        sleep=sleep,
    )


async def _run_one(runner: Runner, jobs: MemoryJobStore) -> None:
    stored = await runner.files.put("acme/j", _once(PNG))
    await jobs.admit(
        Job(
            job_id="j",
            tenant_id="acme",
            file_key="acme/j",
            file_name="a.png",
            file_hash=stored.sha256,
            file_size=stored.size,
            created_at=jobs._clock(),
        ),
        max_jobs=1,
        max_jobs_per_tenant=1,
    )
    await runner.wake("j")
