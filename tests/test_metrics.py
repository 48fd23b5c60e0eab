"""What is exported, and that it tells what happened."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Callable
from pathlib import Path

import anyio
import pytest

from dedup2d.errors import Dedup2DError, FileTooLargeError, StoreUnavailableError
from dedup2d.files.local import LocalFileStore
from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.observed import observed
from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.metrics import PrometheusMetrics, VisionServerMetrics
from dedup2d.protocols import HalfUploads, LocalFiles, PresignedFiles
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import stored_drawing
from dedup2d.testing.fake_vision import FakeVision
from dedup2d.types import CallbackStatus, JobCounts, JobStatus, SearchParams, Timing
from dedup2d.vision.embedded import EmbeddedVision
from dedup2d.vision.http import HTTPVisionClient, VisionOptions
from dedup2d.watch import Watch
from tests.metrics_support import samples, total, value
from tests.prometheus_files import ran

FILES = "dedup2d_file_operations_total"
SHEET = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300">'
    b'<path d="M20 20h360v260h-360zM60 60h120v80h-120zM220 200l90-70" fill="none" stroke="#000"/></svg>'
)


async def chunks(*given: bytes | Exception) -> AsyncIterable[bytes]:
    for one in given:
        if isinstance(one, Exception):
            raise one
        yield one


async def until(what: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not what():  # noqa: ASYNC110 - it looks at what is exported
            await anyio.sleep(0.005)


def everything() -> PrometheusMetrics:
    """Metrics to which everything has been told once."""
    metrics = PrometheusMetrics()
    metrics.job_submitted()
    metrics.job_refused()
    for status in JobStatus:
        metrics.job_finished(status, 1.5, "WORKER_LOST")
    metrics.job_released()
    metrics.leases_lost(2)
    metrics.cancel_requested()
    metrics.jobs_counted(JobCounts(pending=3, in_progress=1, oldest_pending_at=90.0), 100.0)
    metrics.queue_measured(4)
    metrics.slots(5)
    metrics.gc_ran("ok", 0.1)
    metrics.gc_deleted("file", 6)
    metrics.file_store("local", ["put"])
    metrics.file_operation("local", "put", "ok", 0.1, 7)
    metrics.vision_operation("search", "ok", 1.0)
    metrics.engine_searched(Timing(total_ms=20, read_ms=10, l2_ms=1, l3_ms=0, l4_ms=9))
    metrics.index_counted(8, 9)
    metrics.vision_server("search", spared=True)
    metrics.vision_called("search", "VISION_UNAVAILABLE", 0.2)
    metrics.vision_retried("search")
    metrics.vision_circuit("search", "opened")
    metrics.callback_tried("success", 0.1)
    metrics.callback_blocked("private")
    metrics.callback_retried()
    metrics.callback_finished(CallbackStatus.SUCCESS, 1.0)
    metrics.http_routes([("GET", "/health", 200)], ["INTERNAL"])
    metrics.http_begun()
    metrics.http_ended("GET", "/health", 200, 0.01)
    return metrics


@pytest.mark.parametrize("metrics", [PrometheusMetrics(), VisionServerMetrics(), everything()])
def test_promtool_finds_nothing_to_say(metrics: VisionServerMetrics) -> None:
    """If this fails, names, units or texts of metrics are not what Prometheus' conventions ask for."""
    checked = ran("check", "metrics", input=metrics.render().decode())

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_what_is_told_is_exported() -> None:
    """If this fails, a number on the dashboard is not what happened."""
    text = everything().render().decode()

    assert value(text, "dedup2d_job_failures_total", code="WORKER_LOST") == 1
    assert value(text, "dedup2d_jobs_oldest_pending_seconds") == 10
    assert value(text, "dedup2d_job_store_up") == 1
    assert value(text, "dedup2d_queue_depth") == 4
    assert value(text, "dedup2d_worker_slots") == 5
    assert value(text, "dedup2d_file_bytes_total", backend="local", operation="put") == 7
    assert value(text, "dedup2d_engine_stage_duration_seconds_sum", stage="l4") == 0.009
    assert value(text, "dedup2d_engine_stage_duration_seconds_count", stage="l3") == 0
    assert value(text, "dedup2d_engine_index_drawings") == 9
    assert value(text, "dedup2d_engine_indexes") == 8
    assert value(text, "dedup2d_gc_runs_total", outcome="ok") == 1
    assert value(text, "dedup2d_gc_deleted_total", kind="file") == 6
    assert value(text, "dedupcad_vision_circuit_state", endpoint="search") == 2
    assert value(text, "dedupcad_vision_errors_total", endpoint="search", code="VISION_UNAVAILABLE") == 1


def test_the_process_tells_of_itself() -> None:
    """If this fails, a worker that grows or runs out of files is not seen coming."""
    names = {name for name, _ in samples(PrometheusMetrics().render().decode())}

    assert "python_info" in names
    if sys.platform == "linux":
        assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= names
    assert not any(name.endswith("_created") for name in names)


def test_codes_from_elsewhere_make_no_labels() -> None:
    """If this fails, records of a stranger in Redis, or of another version, make any number of labels."""
    metrics = everything()
    before = len(samples(metrics.render().decode()))
    for number in range(100):
        metrics.job_finished(JobStatus.FAILED, 1.0, f"ODD_{number}")
        metrics.vision_called("search", f"ODD_{number}", 1.0)
        metrics.vision_operation("search", f"ODD_{number}", 1.0)
        metrics.file_operation("local", "put", f"ODD_{number}", 1.0, 1)
        metrics.gc_ran(f"ODD_{number}", 1.0)
    text = metrics.render().decode()

    assert value(text, "dedup2d_job_failures_total", code="OTHER") == 100
    assert len(samples(text)) - before < 10


class TestFiles:
    """The file store, with every call counted."""

    async def test_bytes_and_outcomes(self, tmp_path: Path) -> None:
        """If this fails, a store that fails, or what goes through it, is seen nowhere."""
        metrics = PrometheusMetrics()
        store = LocalFileStore(tmp_path)
        files = observed(store, metrics)
        async with store:
            await files.put("a", chunks(b"12345", b"678"))
            assert b"".join([chunk async for chunk in files.open("a")]) == b"12345678"
            with pytest.raises(FileTooLargeError):
                await files.put("b", chunks(b"1", FileTooLargeError("b", 1)))
            with pytest.raises(ZeroDivisionError):
                await files.put("b", chunks(b"1", ZeroDivisionError()))
            with pytest.raises(LookupError):
                async for _ in files.open("none"):
                    pass
            assert await files.delete("a")
            assert await files.list() == []
        text = metrics.render().decode()

        assert value(text, "dedup2d_file_bytes_total", backend="local", operation="put") == 8
        assert value(text, "dedup2d_file_bytes_total", backend="local", operation="open") == 8
        for operation, outcome, count in (
            ("put", "ok", 1),
            ("put", "FILE_TOO_LARGE", 1),
            ("put", "CANCELED", 1),
            ("put", "STORE_UNAVAILABLE", 0),
            ("open", "ok", 1),
            ("open", "FILE_NOT_FOUND", 1),
            ("delete", "ok", 1),
            ("list", "ok", 1),
        ):
            found = value(text, FILES, backend="local", operation=operation, outcome=outcome)
            assert (operation, outcome, found) == (operation, outcome, count)
        assert total(text, "dedup2d_file_operation_duration_seconds_count", operation="put") == 3

    async def test_a_failing_store(self) -> None:
        """If this fails, nobody is warned when the disk is full."""
        metrics = PrometheusMetrics()
        files = observed(MemoryFileStore(max_bytes=4), metrics)
        with pytest.raises(StoreUnavailableError):
            await files.put("a", chunks(b"12345"))
        text = metrics.render().decode()

        assert value(text, FILES, backend="memory", operation="put", outcome="STORE_UNAVAILABLE") == 1
        assert value(text, "dedup2d_file_bytes_total", backend="memory", operation="put") == 0

    async def test_a_slow_client_is_not_a_slow_store(self) -> None:
        """If this fails, one client on a bad line looks like a broken disk."""
        metrics = PrometheusMetrics()
        files = observed(MemoryFileStore(), metrics)

        async def slow() -> AsyncIterable[bytes]:
            yield b"1"
            await anyio.sleep(0.5)
            yield b"2"

        await files.put("a", slow())
        async for _ in files.open("a"):
            await anyio.sleep(0.5)
        text = metrics.render().decode()

        assert total(text, "dedup2d_file_operation_duration_seconds_sum") < 0.25

    async def test_a_reader_that_stops(self, tmp_path: Path) -> None:
        """If this fails, a reader that stops half-way leaves the file open, or is counted as a success."""
        metrics = PrometheusMetrics()
        store = LocalFileStore(tmp_path)
        files = observed(store, metrics)
        async with store:
            await files.put("a", chunks(*[b"x" * 1024 * 1024] * 3))
            reading = files.open("a")
            await anext(reading)
            await reading.aclose()  # type: ignore[attr-defined]  # generators have aclose
        text = metrics.render().decode()

        assert value(text, FILES, backend="local", operation="open", outcome="CANCELED") == 1

    def test_it_offers_what_the_store_offers(self, tmp_path: Path) -> None:
        """If this fails, files are copied that could be read in place, or uploads offered that cannot be."""
        stores = MemoryFileStore(), LocalFileStore(tmp_path), S3FileStore(S3Options(bucket="uploads"))

        def offers(files: object) -> list[bool]:
            return [isinstance(files, offer) for offer in (LocalFiles, PresignedFiles, HalfUploads)]

        assert [offers(observed(store, PrometheusMetrics())) for store in stores] == [
            offers(store) for store in stores
        ]
        local = observed(stores[1], PrometheusMetrics())
        assert isinstance(local, LocalFiles)
        assert isinstance(observed(stores[2], PrometheusMetrics()), PresignedFiles)


async def test_the_watch_sees_an_outage_and_its_end() -> None:
    """If this fails, a job store that is down looks like one without jobs."""
    metrics = PrometheusMetrics()

    class Store(MemoryJobStore):
        broken = True
        hanging = False

        async def counts(self) -> JobCounts:
            if self.broken:
                raise StoreUnavailableError("job store", "out of reach")
            if self.hanging:
                await anyio.sleep(60)
            return JobCounts(pending=7, in_progress=1, oldest_pending_at=1.0)

    async def short(_: float) -> None:
        await anyio.sleep(0.001)

    def up() -> float | None:
        return value(metrics.render().decode(), "dedup2d_job_store_up")

    store, queue = Store(), MemoryQueue()
    watch = Watch(
        jobs=store,
        queue=queue,
        vision=FakeVision(),
        observer=metrics,
        clock=lambda: 5.0,
        sleep=short,
        patience_seconds=0.05,
    )
    async with store, queue, anyio.create_task_group() as tasks:
        await queue.put("j1")
        tasks.start_soon(watch.run)
        await anyio.sleep(0.05)
        assert up() == 0
        store.broken = False
        await until(lambda: up() == 1)
        store.hanging = True
        await until(lambda: up() == 0)
        store.hanging = False
        await until(lambda: up() == 1)
        tasks.cancel_scope.cancel()
    text = metrics.render().decode()

    assert value(text, "dedup2d_jobs_pending") == 7  # the last that was known
    assert value(text, "dedup2d_jobs_oldest_pending_seconds") == 4
    assert value(text, "dedup2d_queue_depth") == 1


async def test_the_engine_tells_of_its_stages_and_size() -> None:
    """If this fails, nobody sees which stage of a search is slow, or how large the index is."""
    metrics = PrometheusMetrics()
    async with MemoryFileStore() as files, EmbeddedVision(None, observer=metrics) as engine:
        stored = await files.put("a", chunks(SHEET))
        drawing = stored_drawing(files, "a", name="a.png", sha256=stored.sha256, size=stored.size)
        await engine.add("acme", drawing)
        await engine.search("acme", drawing, SearchParams())
        await engine.measure()
    text = metrics.render().decode()

    stage = "dedup2d_engine_stage_duration_seconds"
    assert value(text, f"{stage}_count", stage="read") == 1
    assert value(text, f"{stage}_count", stage="total") == 1
    whole = value(text, f"{stage}_sum", stage="total")
    parts = total(text, f"{stage}_sum") - (whole or 0)
    assert whole
    assert 0 < parts <= whole
    assert value(text, "dedup2d_engine_index_drawings") == 1
    assert value(text, "dedup2d_engine_indexes") == 1


def test_endpoints_have_samples_before_the_first_call() -> None:
    """If this fails, alerts on vision have nothing to go by until something has gone wrong twice."""
    metrics = PrometheusMetrics()
    HTTPVisionClient(VisionOptions(url="http://127.0.0.1:1"), observer=metrics)
    text = metrics.render().decode()

    assert value(text, "dedupcad_vision_circuit_state", endpoint="search") == 0
    assert value(text, "dedupcad_vision_circuit_state", endpoint="health") is None
    assert value(text, "dedupcad_vision_errors_total", endpoint="search", code="VISION_UNAVAILABLE") == 0
    assert value(text, "dedupcad_vision_retries_total", endpoint="search") == 0


async def test_errors_of_calls_are_told_by_their_codes() -> None:
    """If this fails, a failing engine is counted as an answer."""
    metrics = PrometheusMetrics()
    for error in (StoreUnavailableError("x", "y"), ZeroDivisionError(), Dedup2DError()):
        with pytest.raises(type(error)), metrics.timed_vision("search"):
            raise error
    with anyio.move_on_after(0.01), metrics.timed_vision("search"):
        await anyio.sleep(5)
    text = metrics.render().decode()

    calls = "dedup2d_vision_operations_total"
    assert value(text, calls, operation="search", outcome="STORE_UNAVAILABLE") == 1
    assert value(text, calls, operation="search", outcome="INTERNAL") == 2
    assert value(text, calls, operation="search", outcome="CANCELED") == 1
