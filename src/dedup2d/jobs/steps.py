"""
The steps in a job's life as pure functions, for job stores to build on.

A store reads a job, takes a step at its own time *now*, and writes the job back, all in one
atomic step of its own. What each step means is said in `dedup2d.protocols.JobStore`.
"""

from __future__ import annotations

from collections.abc import Collection

from attrs import evolve

from dedup2d.errors import IdempotencyConflictError, InvalidParameterError, LeaseLostError, WorkerLostError
from dedup2d.jobs import callback_steps
from dedup2d.types import Job, JobStatus, Lane, SearchResult

__all__ = [
    "admissible",
    "cancel",
    "claim",
    "claimable",
    "expired",
    "finish",
    "heartbeat",
    "held",
    "lease_ran_out",
    "lose",
    "public",
    "release",
    "repeated",
]


def admissible(job: Job) -> Job:
    """
    Return *job* as it may be stored.

    Raises:
        InvalidParameterError: it is not pending.
    """
    if job.status is not JobStatus.PENDING:
        raise InvalidParameterError("status", job.status, f"a new job, which is {JobStatus.PENDING}")
    return callback_steps.asked_for(evolve(job, lease_token=None, lease_expires_at=None, result=None))


def repeated(known: Job, job: Job) -> Job:
    """
    Return the *known* job which *job* asks for again under the same idempotency key.

    Raises:
        IdempotencyConflictError: it asks for something else.
    """
    if _asked(known) != _asked(job):
        raise IdempotencyConflictError(job.idempotency_key or "")
    return public(known)


def _asked(job: Job) -> tuple[object, ...]:
    return job.file_hash, job.geometry_hash, job.params, job.callback_url


def public(job: Job) -> Job:
    """Return *job* as anybody but the worker that holds it may see it."""
    return evolve(job, lease_token=None, callback_lease_token=None)


def expired(job: Job, now: float) -> bool:
    """Say whether *job* is to be treated as gone."""
    return job.status.final and job.expires_at is not None and now > job.expires_at


def claimable(job: Job, now: float, lanes: Collection[Lane] | None = None) -> bool:
    """Say whether *job* waits, in one of *lanes* if given, and its time has come."""
    due = job.next_attempt_at is None or now >= job.next_attempt_at
    wanted = lanes is None or job.lane in lanes
    return job.status is JobStatus.PENDING and due and wanted


def claim(job: Job, token: str, *, lease_seconds: float, now: float) -> Job:
    """Give *job*, which must be claimable, to the worker that has *token*."""
    return evolve(
        job,
        status=JobStatus.IN_PROGRESS,
        attempts=job.attempts + 1,
        started_at=now if job.started_at is None else job.started_at,
        next_attempt_at=None,
        progress=None,
        lease_token=token,
        lease_expires_at=now + lease_seconds,
    )


def held(job: Job | None, job_id: str, token: str) -> Job:
    """
    Return *job* if the worker that has *token* holds it.

    Raises:
        LeaseLostError: it does not, or there is no such job.
    """
    if job is None or job.status is not JobStatus.IN_PROGRESS or job.lease_token != token:
        raise LeaseLostError(job_id)
    return job


def heartbeat(job: Job, *, lease_seconds: float, progress: str | None, now: float) -> Job:
    """Extend the lease of the held *job*."""
    return evolve(
        job,
        lease_expires_at=now + lease_seconds,
        progress=job.progress if progress is None else progress,
    )


def finish(
    job: Job,
    *,
    status: JobStatus,
    expires_at: float,
    now: float,
    result: SearchResult | None = None,
    error_code: str | None = None,
    error: str | None = None,
) -> Job:
    """
    Make *job* final, which lets its callback be sent.

    Raises:
        InvalidParameterError: *status* is not a final one.
    """
    if not status.final:
        raise InvalidParameterError("status", status, "completed, failed or canceled")
    final = evolve(
        _idle(job),
        status=status,
        finished_at=now,
        expires_at=expires_at,
        last_error=None,
        result=result,
        error_code=error_code,
        error=error,
    )
    return callback_steps.waiting(final, now)


def release(job: Job, *, delay_seconds: float, error: str | None, now: float) -> Job:
    """Give the held *job* back, or cancel it if that was asked for."""
    if job.cancel_requested:
        # `cancel` noted the expiry on the running job for this moment.
        expires_at = now if job.expires_at is None else job.expires_at
        return finish(job, status=JobStatus.CANCELED, expires_at=expires_at, now=now)
    due = now + delay_seconds if delay_seconds > 0 else None
    return evolve(_idle(job), status=JobStatus.PENDING, next_attempt_at=due, last_error=error)


def cancel(job: Job, *, ttl_seconds: float, now: float) -> Job:
    """Cancel *job* if it waits, mark it if it runs, leave it if it is final."""
    if job.status.final:
        return job
    marked = evolve(job, cancel_requested=True, expires_at=now + ttl_seconds)
    if job.status is JobStatus.IN_PROGRESS:
        return marked
    return finish(marked, status=JobStatus.CANCELED, expires_at=now + ttl_seconds, now=now)


def lease_ran_out(job: Job, now: float) -> bool:
    """Say whether *job* runs under a lease whose time is over."""
    running = job.status is JobStatus.IN_PROGRESS
    return running and job.lease_expires_at is not None and now > job.lease_expires_at


def lose(job: Job, *, max_losses: int, ttl_seconds: float, now: float) -> Job:
    """Take *job*, whose lease ran out, away from its worker."""
    lost = evolve(job, losses=job.losses + 1)
    if lost.cancel_requested:
        return finish(lost, status=JobStatus.CANCELED, expires_at=now + ttl_seconds, now=now)
    if lost.losses < max_losses:
        return release(lost, delay_seconds=0, error="the worker that ran it was lost", now=now)
    return finish(
        lost,
        status=JobStatus.FAILED,
        expires_at=now + ttl_seconds,
        now=now,
        error_code=WorkerLostError.code,
        error=str(WorkerLostError(lost.losses)),
    )


def _idle(job: Job) -> Job:
    return evolve(job, lease_token=None, lease_expires_at=None, next_attempt_at=None, progress=None)
