"""What an operator does about jobs that ended badly: finds them, and submits them anew."""

from __future__ import annotations

from collections.abc import AsyncIterator

from attrs import frozen

from dedup2d.errors import Dedup2DError, FileNotStoredError
from dedup2d.protocols import JobStore
from dedup2d.service import Dedup2D
from dedup2d.types import CallbackStatus, Job, JobStatus

__all__ = ["Dead", "JobStateError", "dead_of", "retry"]

_PAGE = 200
_ENDED_BADLY = frozenset({CallbackStatus.FAILED, CallbackStatus.SKIPPED})
_MAY_BE_RETRIED = frozenset({JobStatus.FAILED, JobStatus.CANCELED})


class JobStateError(Dedup2DError, RuntimeError):
    """A job is not, or no more, such that this can be done with it; says why and what to do."""


@frozen
class Dead:
    """What ended badly of a job: itself, its callback, or both; and why."""

    job: Job

    @property
    def failed(self) -> bool:
        return self.job.status is JobStatus.FAILED

    @property
    def callback_failed(self) -> bool:
        return self.job.callback_status in _ENDED_BADLY

    @property
    def reason(self) -> str:
        """Why, in one line."""
        job, reasons = self.job, []
        if self.failed:
            reasons.append(f"{job.error_code}: {job.error}")
        if self.callback_failed:
            status = "" if job.callback_http_status is None else f" with {job.callback_http_status}"
            tried = _attempts(job.callback_attempts)
            reasons.append(f"callback {job.callback_status} after {tried}{status}: {job.callback_last_error}")
        return "; ".join(reasons)


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


async def dead_of(jobs: JobStore, tenant_id: str) -> AsyncIterator[Dead]:
    """Give the tenant's jobs that failed, and those whose callback ended without success, newest first."""
    token: str | None = None
    while True:
        page = await jobs.list(tenant_id, limit=_PAGE, page_token=token)
        for job in page.jobs:
            dead = Dead(job)
            if dead.failed or dead.callback_failed:
                yield dead
        if (token := page.next_page_token) is None:
            return


async def retry(service: Dedup2D, job_id: str, tenant_id: str) -> Job:
    """
    Submit what a failed or canceled job was asked to do as a new job, and return that.

    The new job has a copy of the drawing, the same parameters and callback URL, and no idempotency key.

    Raises:
        JobNotFoundError: the tenant has no such job (any more).
        JobStateError: it did not fail, or its drawing is gone.
        Dedup2DError: as `Dedup2D.submit`.
    """
    job = await service.jobs.get(job_id, tenant_id)
    if job.status not in _MAY_BE_RETRIED:
        raise JobStateError(f"job {job_id} is {job.status}: only failed and canceled jobs are retried")
    try:
        return await service.submit(
            tenant_id,
            service.files.open(job.file_key),
            file_name=job.file_name,
            params=job.params,
            callback_url=job.callback_url,
        )
    except FileNotStoredError:
        raise JobStateError(
            f"job {job_id} cannot be retried, as its drawing was deleted when it ended: submit it again from"
            " where it came, or set DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH=0 for the next ones"
        ) from None
