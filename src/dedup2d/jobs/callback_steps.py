"""
The steps in the life of a job's callback as pure functions, as `dedup2d.jobs.steps` are those of the job.

A callback waits from the moment that its job is final. `due_at` is the one time by which a store finds
it: when it is to be tried next or, while somebody tries, when the lease of that one ends.
"""

from __future__ import annotations

from attrs import evolve

from dedup2d.errors import CallbackStateError, InvalidParameterError, LeaseLostError
from dedup2d.types import CallbackStatus, Job

__all__ = [
    "KEEP_SECONDS",
    "asked_for",
    "claim",
    "claimable",
    "due_at",
    "finish",
    "held",
    "redeliver",
    "retry",
    "waiting",
]

KEEP_SECONDS = 86_400.0
"""A job is kept so long after its callback should have been tried: workers may be away for a while."""


def asked_for(job: Job) -> Job:
    """Return the new *job* with the callback it asks for, of which nothing has happened yet."""
    wanted = job.callback_url is not None
    return evolve(
        job,
        callback_status=CallbackStatus.PENDING if wanted else None,
        callback_message_id=(job.callback_message_id or f"msg_{job.job_id}") if wanted else None,
        callback_attempts=0,
        callback_http_status=None,
        callback_next_attempt_at=None,
        callback_finished_at=None,
        callback_last_error=None,
        callback_lease_token=None,
        callback_lease_expires_at=None,
    )


def waiting(job: Job, now: float) -> Job:
    """Let the callback of *job*, which has just become final, be sent; without one leave it as it is."""
    if job.callback_status is not CallbackStatus.PENDING:
        return job
    return _kept(evolve(job, callback_next_attempt_at=now), now)


def due_at(job: Job) -> float | None:
    """Return from when on the callback of *job* can be claimed; None if it does not wait."""
    if not job.status.final or job.callback_status is not CallbackStatus.PENDING:
        return None
    leased = job.callback_lease_token is not None
    return job.callback_lease_expires_at if leased else job.callback_next_attempt_at


def claimable(job: Job, now: float) -> bool:
    """Say whether the callback of *job* is to be tried now."""
    due = due_at(job)
    gone = job.expires_at is not None and now > job.expires_at
    return due is not None and now >= due and not gone


def claim(job: Job, token: str, *, lease_seconds: float, now: float) -> Job:
    """Give the callback of *job*, which must be claimable, to the one that has *token*."""
    tried = evolve(
        job,
        callback_attempts=job.callback_attempts + 1,
        callback_next_attempt_at=None,
        callback_lease_token=token,
        callback_lease_expires_at=now + lease_seconds,
    )
    return _kept(tried, now + lease_seconds)


def held(job: Job | None, job_id: str, token: str) -> Job:
    """
    Return *job* if its callback is held by the one that has *token*.

    Raises:
        LeaseLostError: it is not, or there is no such job.
    """
    if job is None or not token or job.callback_lease_token != token:
        raise LeaseLostError(job_id)
    return job


def finish(
    job: Job,
    *,
    status: CallbackStatus,
    ttl_seconds: float,
    now: float,
    http_status: int | None = None,
    error: str | None = None,
) -> Job:
    """
    End the attempts of the held callback of *job*.

    Raises:
        InvalidParameterError: *status* is `pending`.
    """
    if status is CallbackStatus.PENDING:
        raise InvalidParameterError("status", status, "success, failed or skipped")
    return evolve(
        _unleased(job),
        callback_status=status,
        callback_http_status=http_status,
        callback_last_error=error,
        callback_finished_at=now,
        expires_at=now + ttl_seconds,
    )


def retry(
    job: Job,
    *,
    delay_seconds: float,
    now: float,
    attempted: bool = True,
    http_status: int | None = None,
    error: str | None = None,
) -> Job:
    """Let the held callback of *job* be tried again; an attempt that was not made does not count."""
    due = now + max(0.0, delay_seconds)
    back = evolve(_unleased(job), callback_next_attempt_at=due)
    if attempted:
        back = evolve(back, callback_http_status=http_status, callback_last_error=error)
    else:
        back = evolve(back, callback_attempts=job.callback_attempts - 1)
    return _kept(back, due)


def redeliver(job: Job, now: float) -> Job:
    """
    Let the callback of *job* be tried now; one that has ended begins anew, with the same message id.

    Raises:
        CallbackStateError: it has none, or is not final yet.
    """
    if job.callback_status is None or not job.status.final:
        raise CallbackStateError(job.job_id, asked_for=job.callback_status is not None)
    if job.callback_lease_token is not None:
        return job
    if job.callback_status is CallbackStatus.PENDING:
        return _kept(evolve(job, callback_next_attempt_at=now), now)
    anew = evolve(
        job,
        callback_status=CallbackStatus.PENDING,
        callback_attempts=0,
        callback_next_attempt_at=now,
        callback_finished_at=None,
    )
    return _kept(anew, now)


def _kept(job: Job, due: float) -> Job:
    """Keep *job* beyond the time *due*. Who never tries it does not make it stay for ever."""
    return evolve(job, expires_at=max(job.expires_at or due, due + KEEP_SECONDS))


def _unleased(job: Job) -> Job:
    return evolve(
        job, callback_lease_token=None, callback_lease_expires_at=None, callback_next_attempt_at=None
    )
