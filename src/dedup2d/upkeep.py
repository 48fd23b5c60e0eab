"""Sweeps up what crashes and time leave behind: lost leases, expired jobs, files that nobody needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
from attrs import define

from dedup2d.collecting import Collected, Collector
from dedup2d.errors import StoreUnavailableError
from dedup2d.observe import CANCELED, Observer, outcome_of
from dedup2d.protocols import FileStore, JobStore
from dedup2d.repeated import repeat
from dedup2d.runner_options import RunnerOptions
from dedup2d.types import Job, Lane

__all__ = ["Upkeep"]

log = logging.getLogger("dedup2d.runner")

_COLLECT_EVERY_SECONDS = 600.0


@define(kw_only=True, eq=False)
class Upkeep:
    """
    What a process that runs jobs does beside them; every such process does it.

    Args:
        wake: wakes a worker of the lane for the job, an idle one of this process first; says if it could.
    """

    jobs: JobStore
    files: FileStore
    wake: Callable[[str, Lane], Awaitable[bool]]
    options: RunnerOptions
    observer: Observer
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

    async def run(self) -> None:
        """Sweep and collect, until cancelled; neither waits for the other, nor a job for them."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: repeat(self.sweep, "the sweep", seconds=self.options.sweep_seconds, sleep=self.sleep)
            )
            tasks.start_soon(
                lambda: repeat(
                    self.collect, "collecting files", seconds=_COLLECT_EVERY_SECONDS, sleep=self.sleep
                )
            )

    async def sweep(self) -> None:
        """Put right once what crashes and time have done."""
        try:
            await self.swept()
        except Exception:
            self.observer.jobs_uncountable()
            raise

    async def swept(self) -> int:
        """Do what `sweep` does, and say how many expired jobs were deleted."""
        swept = await self.jobs.sweep(
            max_losses=self.options.max_losses, ttl_seconds=self.options.ttl_seconds
        )
        if swept.lost:
            log.warning(
                "leases ran out: workers were killed or cut off, and their jobs run again",
                extra={"count": swept.lost},
            )
            self.observer.leases_lost(swept.lost)
        for job in swept.failed:
            await self.after_final(job)
        self.observer.gc_deleted("job", len(swept.expired))
        for job in swept.expired:
            await self._delete_file(job)
        await self._wake_for(swept.ready[: max(1, self.options.concurrency)])
        self.observer.jobs_counted(await self.jobs.counts(), self.clock())
        return len(swept.expired)

    async def _wake_for(self, ready: Sequence[str]) -> None:
        for job_id in ready:
            for lane in self.options.lanes or Lane:
                if not await self.wake(job_id, lane):
                    return

    async def collect(self) -> None:
        """Delete the files, and what is left of uploads, that nobody needs."""
        begin, outcome = time.perf_counter(), CANCELED
        try:
            await self._collect()
            outcome = "ok"
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            self.observer.gc_ran(outcome, time.perf_counter() - begin)

    async def _collect(self) -> None:
        collector = Collector(
            jobs=self.jobs,
            files=self.files,
            retention_seconds=self.options.file_retention_seconds,
            clock=self.clock,
            sleep=self.sleep,
        )
        try:
            done = await collector.run()
        finally:
            self._tell(collector.collected)
        if done.error is not None:
            raise done.error

    def _tell(self, done: Collected) -> None:
        self.observer.gc_deleted("file", done.files)
        self.observer.gc_deleted("half_upload", done.half_uploads)
        if done.files or done.half_uploads or done.failed:
            log.info(
                "what nobody needs was collected",
                extra={"files": done.files, "half_uploads": done.half_uploads, "failed": done.failed},
            )

    async def after_final(self, job: Job) -> None:
        """Tell the observer that the job is final, and delete its file if that is wanted."""
        seconds = max(0.0, (job.finished_at or self.clock()) - job.created_at)
        log.info(
            "job is final",
            extra={
                "job_id": job.job_id,
                "status": str(job.status),
                "seconds": round(seconds, 3),
                "error_code": job.error_code,
                "error": job.error,
            },
        )
        self.observer.job_finished(job.status, seconds, job.error_code)
        if self.options.cleanup_on_finish:
            await self._delete_file(job)

    async def _delete_file(self, job: Job) -> None:
        """Delete the job's file, and the geometry beside it; what fails here is collected later."""
        try:
            await self.files.delete(job.file_key)
            if job.geometry_key is not None:
                await self.files.delete(job.geometry_key)
        except StoreUnavailableError as error:
            log.warning(
                "a job's file could not be deleted: it is collected later",
                extra={"job_id": job.job_id, "error": str(error)},
            )
        except Exception:
            log.exception("could not delete a job's file", extra={"job_id": job.job_id})
