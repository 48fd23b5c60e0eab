"""One collection of all that nobody needs, on the stores that the settings name."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio.to_thread
from attrs import define, field

from dedup2d.build import build_files, build_jobs, build_vision, service_options, uploads_directory
from dedup2d.collecting import Collected, Collector, Waste, leftover_seconds
from dedup2d.collecting_geometries import GeometryCollector
from dedup2d.errors import ConfigurationError, Dedup2DError, MissingExtraError
from dedup2d.files.keys import GEOMETRY_PREFIX
from dedup2d.files.local import LocalFileStore
from dedup2d.observe import CANCELED, Observer, outcome_of
from dedup2d.protocols import ExpiringJobs, FileStore, JobStore
from dedup2d.settings import Settings
from dedup2d.types import Lane
from dedup2d.upkeep import Upkeep

__all__ = ["Garbage"]


@define(kw_only=True, eq=False)
class Garbage:
    """
    Deletes expired jobs, files without a live job, half uploads, geometries without a drawing, and what
    vision servers left here.

    It may run beside services, workers and others of its kind. What was done is in its numbers, also if
    `run` raises.

    Args:
        dry_run: delete nothing; `told` hears of what would go.
        told: hears of each file.
        failed: hears of each that could not be deleted.
        noted: hears why something was not looked at.
    """

    settings: Settings
    observer: Observer
    dry_run: bool
    told: Callable[[Waste], None]
    failed: Callable[[Waste, Dedup2DError], None]
    noted: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.time
    jobs: int = field(default=0, init=False)
    files: int = field(default=0, init=False)
    bytes: int = field(default=0, init=False)
    half_uploads: int = field(default=0, init=False)
    geometries: int = field(default=0, init=False)
    leftovers: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    _error: Dedup2DError | None = field(default=None, init=False)

    async def run(self) -> None:
        """
        Collect once.

        Raises:
            ConfigurationError: a directory that a service would have made is not there.
            StoreUnavailableError: a store does not work.
        """
        begin, outcome = time.perf_counter(), CANCELED
        try:
            await self._run()
            outcome = "ok" if self._error is None else outcome_of(self._error)
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            if not self.dry_run:
                self.observer.gc_ran(outcome, time.perf_counter() - begin)

    async def _run(self) -> None:
        await anyio.to_thread.run_sync(_check_places, self.settings)
        async with AsyncExitStack() as stack:
            jobs = await stack.enter_async_context(build_jobs(self.settings))
            files = await stack.enter_async_context(build_files(self.settings, clear_away=False))
            await self._expire(jobs, files)
            await self._collect(jobs, files)
            await self._collect_geometries(files)
        await self._collect_leftovers()

    async def _expire(self, jobs: JobStore, files: FileStore) -> None:
        if self.dry_run:
            self.jobs = await jobs.count_expired() if isinstance(jobs, ExpiringJobs) else 0
            return
        upkeep = Upkeep(
            jobs=jobs,
            files=files,
            wake=_wake_nobody,
            options=service_options(self.settings, concurrency=0).run,
            observer=self.observer,
            clock=self.clock,
            sleep=anyio.sleep,
        )
        while expired := await upkeep.swept():
            self.jobs += expired

    async def _collect(self, jobs: JobStore | None, files: FileStore, seconds: float | None = None) -> None:
        collector = Collector(
            jobs=jobs,
            files=files,
            retention_seconds=self.settings.file_retention_seconds if seconds is None else seconds,
            clock=self.clock,
            dry_run=self.dry_run,
            told=self.told,
            failed=self.failed,
        )
        try:
            await collector.run()
        finally:
            self._add(collector, leftovers=jobs is None)

    def _add(self, collector: Collector, *, leftovers: bool) -> None:
        done = collector.collected
        self.files += 0 if leftovers else done.files
        self.leftovers += done.files if leftovers else 0
        self.half_uploads += done.half_uploads
        self._add_common(done)
        if not self.dry_run:
            self.observer.gc_deleted("file", done.files)
            self.observer.gc_deleted("half_upload", done.half_uploads)

    def _add_common(self, done: Collected) -> None:
        self.bytes += done.bytes
        self.failures += done.failed
        self._error = done.error or self._error

    async def _collect_geometries(self, files: FileStore) -> None:
        """Ask the vision engine which drawings there are, if there is any geometry."""
        if not await files.list(prefix=GEOMETRY_PREFIX, limit=1):
            return
        try:
            vision = build_vision(self.settings, Observer())
        except MissingExtraError as error:
            self.noted(f"geometries are kept: {error}")
            return
        async with vision:
            collector = GeometryCollector(
                files=files,
                vision=vision,
                retention_seconds=self.settings.file_retention_seconds,
                clock=self.clock,
                dry_run=self.dry_run,
                told=self.told,
                failed=self.failed,
            )
            try:
                await collector.run()
            finally:
                self.geometries += collector.collected.files
                self._add_common(collector.collected)
                if not self.dry_run:
                    self.observer.gc_deleted("geometry", collector.collected.files)
        if collector.kept_unknown:
            self.noted("geometries are kept: the vision server cannot say which drawings it has")

    async def _collect_leftovers(self) -> None:
        """Delete what vision servers that were killed left in their work directory, if that is here."""
        directory = self.settings.data_dir / "incoming"
        if await anyio.Path(directory).is_dir():
            async with LocalFileStore(directory, clear_away=False) as files:
                await self._collect(None, files, leftover_seconds(self.settings.job_timeout_seconds))


async def _wake_nobody(_job_id: str, _lane: Lane) -> bool:
    """Leave jobs that are ready to the next sweep of a worker."""
    return False


def _check_places(settings: Settings) -> None:
    """Refuse places without the jobs: every file would look as if nobody needed it."""
    if settings.async_backend == "inprocess" and not _is_there(settings.data_dir / "jobs.db"):
        raise ConfigurationError(
            "DEDUP2D_DATA_DIR",
            str(settings.data_dir),
            "the data directory of the service: this has no jobs.db",
        )
    if settings.file_storage == "local" and not _is_there(uploads_directory(settings)):
        name = "DEDUP2D_DATA_DIR" if settings.file_storage_dir is None else "DEDUP2D_FILE_STORAGE_DIR"
        directory = uploads_directory(settings)
        raise ConfigurationError(name, str(directory), "the directory of uploads: this is not there")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError("DEDUP2D_DATA_DIR", str(path), f"one that can be read ({reason})") from None
