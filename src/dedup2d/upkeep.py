"""Sweeps up what crashes and time leave behind: lost leases, expired jobs, files that nobody needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
from attrs import define

from dedup2d.errors import StoreUnavailableError
from dedup2d.observe import CANCELED, Observer, outcome_of
from dedup2d.protocols import FileStore, HalfUploads, JobStore
from dedup2d.repeated import repeat
from dedup2d.runner_options import RunnerOptions
from dedup2d.types import Job, Lane

__all__ = ["Upkeep", "collect_files"]

log = logging.getLogger("dedup2d.runner")

_COLLECT_EVERY_SECONDS = 600.0
_LONGEST_UPLOAD_SECONDS = 86_400.0
"""An upload that began longer ago is not going on any more."""


async def collect_files(jobs: JobStore, files: FileStore, *, older_than: float) -> int:
    """
    Delete the files stored before *older_than* (Unix seconds) that no live job needs; count them.

    A file's key ends with the id of its job (or of a direct search, which has none). Goes page by page, one
    file after the other: a store that holds many is not kept busy.
    """
    deleted, after = 0, ""
    while page := await files.list(older_than=older_than, after=after):
        for stored in page:
            if not await _needed(jobs, stored.key.rpartition("/")[2]):
                deleted += await files.delete(stored.key)
        after = page[-1].key
    return deleted


async def _needed(jobs: JobStore, job_id: str) -> bool:
    try:
        return not (await jobs.get(job_id)).status.final
    except LookupError:
        return False


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
            await self._sweep()
        except Exception:
            self.observer.jobs_uncountable()
            raise

    async def _sweep(self) -> None:
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
        now = self.clock()
        before = now - self.options.file_retention_seconds
        self.observer.gc_deleted("file", await collect_files(self.jobs, self.files, older_than=before))
        if isinstance(self.files, HalfUploads):
            begun = now - max(_LONGEST_UPLOAD_SECONDS, self.options.file_retention_seconds)
            abandoned = await self.files.abandon_uploads(older_than=begun)
            self.observer.gc_deleted("half_upload", abandoned)
            if abandoned:
                log.info("half uploads were removed", extra={"count": abandoned})

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
        """Delete the job's file; what fails here is collected later."""
        try:
            await self.files.delete(job.file_key)
        except StoreUnavailableError as error:
            log.warning(
                "a job's file could not be deleted: it is collected later",
                extra={"job_id": job.job_id, "error": str(error)},
            )
        except Exception:
            log.exception("could not delete a job's file", extra={"job_id": job.job_id})
