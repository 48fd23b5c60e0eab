"""A job store in a Redis: for any number of machines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Self
from uuid import uuid4

from anyio import CancelScope
from attrs import evolve

from dedup2d.codec import to_json
from dedup2d.errors import (
    CallbackQueueFullError,
    CallbackStateError,
    InvalidParameterError,
    JobNotFoundError,
    JobQueueFullError,
    LeaseLostError,
    StoreUnavailableError,
    UnreadableRecordError,
    WorkerLostError,
)
from dedup2d.jobs import redis_records as records
from dedup2d.jobs import steps
from dedup2d.paging import check_limit, make_token, read_token
from dedup2d.protocols import MAX_CALLBACKS
from dedup2d.redis_connection import OnRedis, RedisOptions, Script
from dedup2d.types import CallbackStatus, Job, JobCounts, JobPage, JobStatus, Lane, SearchResult, Swept

__all__ = ["RedisJobStore"]

_log = logging.getLogger("dedup2d.jobs")

_BATCH = 100
"""Jobs that one step of a sweep takes, so that others wait for milliseconds only."""
_LOCK_SECONDS = 10
_UNREADABLE_SECONDS = 60.0
_LANES = tuple(lane.value for lane in Lane)


@cache
def _script(name: str) -> Script:
    source = files("dedup2d.jobs") / "redis_scripts"
    return Script((source / "common.lua").read_text() + (source / f"{name}.lua").read_text())


class RedisJobStore(OnRedis):
    """
    A `JobStore` in one Redis, which any number of processes on any machines may use at once.

    Each method is one script, hence one round trip and one atomic step, at the time of the Redis; a
    sweep is several when it has much to do. What a step costs does not grow with the number of jobs.

    An answer may be lost with its connection, when the step has been taken already. The driver then
    repeats the call once on a new connection: `admit` and `finish` know their repetition, `heartbeat`
    and `cancel` do no harm twice, a `release` is answered with LeaseLostError. `finish` may also
    be repeated by the caller. A `claim` whose answer is lost leaves a lease that runs out.

    What survives a restart is what the Redis keeps on disk. Nothing is lost in a Redis with `appendonly yes`
    and `maxmemory-policy noeviction`; without, jobs may be gone, which no method minds.

    While the memory of the Redis is full, `admit` is refused (StoreUnavailableError) and all else goes on.

    A job that this version cannot read is left out of lists and sweeps, and tried by `claim` every minute.

    Args:
        redis_options: where the Redis is.
        clock: gives the Unix time; None takes the time of the Redis, which all machines share.

    Raises (when entered):
        ConfigurationError: the Redis cannot be used.
    """

    def __init__(self, redis_options: RedisOptions, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__(redis_options)
        self._clock = clock
        self._root = f"{redis_options.key_prefix}:".encode()
        self._sweeper = uuid4().hex

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for warning in self._facts.warnings:
            _log.warning("about the Redis of the jobs: %s", warning)
        return self

    async def admit(
        self,
        job: Job,
        *,
        max_jobs: int,
        max_jobs_per_tenant: int,
        max_callbacks_per_tenant: int = MAX_CALLBACKS,
    ) -> Job:
        new = steps.admissible(job)
        key = "" if new.idempotency_key is None else records.digest(new.idempotency_key)
        reply = await self._run(
            "admit",
            records.encoded(new.job_id),
            records.encoded(new.tenant_id),
            uuid4().hex,
            key,
            records.payload(new),
            max_jobs,
            max_jobs_per_tenant,
            -1 if new.callback_url is None else max_callbacks_per_tenant,
            *records.hash_fields(new),
        )
        match reply[0]:
            case b"known":
                return steps.repeated(records.read_job(reply[1]), new)
            case b"taken":
                raise InvalidParameterError("job_id", new.job_id, "an id that no job has")
            case b"full":
                raise JobQueueFullError(max_jobs)
            case b"tenant full":
                raise JobQueueFullError(max_jobs_per_tenant, per_tenant=True)
            case b"callbacks full":
                raise CallbackQueueFullError(max_callbacks_per_tenant)
        return new

    async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
        reply = await self._run("get", *_ids(job_id), *([] if tenant_id is None else _ids(tenant_id)))
        if reply is None:
            raise JobNotFoundError(job_id)
        return steps.public(records.read_job(reply))

    async def list(
        self,
        tenant_id: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        page_token: str | None = None,
    ) -> JobPage:
        check_limit(limit)
        place: tuple[str | bytes, ...] = ()
        if page_token is not None:
            created_at, last_id = read_token("jobs", page_token)
            place = (repr(created_at), *_ids(last_id))
        listed = "jobs" if status is None else status.value
        total, entries = await self._run("list", *_ids(tenant_id), listed, limit + 1, *place)
        page, more = entries[:limit], len(entries) > limit
        return JobPage(
            jobs=tuple(steps.public(job) for job in _readable(reply for _, reply in page)),
            total=total,
            next_page_token=make_token("jobs", float(page[-1][0]), page[-1][1][0].decode()) if more else None,
        )

    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        wanted = _LANES if lanes is None else tuple(lane.value for lane in lanes)
        one = b"" if job_id is None else _ids(job_id)[0]
        if job_id == "" or not wanted:
            return None
        while True:
            # Who is cancelled here gets the job first, and so can give it back.
            with CancelScope(shield=True):
                reply = await self._run("claim", token, repr(lease_seconds), one, *wanted)
            if reply is None:
                return None
            try:
                return records.read_job(reply)
            except UnreadableRecordError:
                await self._set_aside(reply[0].decode(errors="replace"), token)
            if one:
                return None

    async def heartbeat(
        self, job_id: str, token: str, *, lease_seconds: float, progress: str | None = None
    ) -> bool:
        noted = () if progress is None else (records.encoded(progress),)
        wanted = await self._run("heartbeat", *_ids(job_id, token), repr(lease_seconds), *noted)
        if wanted is None:
            raise LeaseLostError(job_id)
        return bool(wanted == b"1")

    async def finish(
        self,
        job_id: str,
        token: str,
        *,
        status: JobStatus,
        ttl_seconds: float,
        result: SearchResult | None = None,
        error_code: str | None = None,
        error: str | None = None,
    ) -> Job:
        if not status.final:
            raise InvalidParameterError("status", status, "completed, failed or canceled")
        answer = b"" if result is None else to_json(result)
        told = {"error_code": error_code, "error": error}
        words = [
            word
            for name, value in told.items()
            if value is not None
            for word in (name.encode(), records.encoded(value))
        ]
        outcome = records.digest(token, status, answer, *words)
        reply = await self._run(
            "finish", *_ids(job_id, token), status.value, repr(ttl_seconds), outcome, answer, *words
        )
        return evolve(self._changed(reply, job_id), result=result)

    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        why = () if error is None else (records.encoded(error),)
        reply = await self._run("release", *_ids(job_id, token), repr(delay_seconds), *why)
        return self._changed(reply, job_id)

    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        reply = await self._run("cancel", *_ids(job_id, tenant_id), repr(ttl_seconds))
        if reply is None:
            raise JobNotFoundError(job_id)
        return steps.public(records.read_job(reply))

    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        """
        Put right what crashes and time have done, as the protocol says, in steps of 100 jobs.

        While another worker sweeps, only `ready` is given. What was done is also given when the
        Redis fails in the middle.
        """
        swept, more = Swept(), True
        lost_seen = expired_seen = 0
        while more:
            lost_limit, expired_limit = min(_BATCH, limit - lost_seen), min(_BATCH, limit - expired_seen)
            try:
                found = await self._run(
                    "sweep",
                    self._sweeper,
                    _LOCK_SECONDS * 1000,
                    *(lost_limit, expired_limit, limit, max_losses, repr(ttl_seconds)),
                    *("the worker that ran it was lost", str(WorkerLostError(max_losses)), *_LANES),
                )
            except StoreUnavailableError:
                if not lost_seen and not expired_seen:
                    raise
                return swept
            swept = _add(swept, found, limit)
            lost_seen, expired_seen = lost_seen + found[0], expired_seen + found[1]
            full = 0 < lost_limit == found[0] or 0 < expired_limit == found[1]
            more = full and (lost_seen < limit or expired_seen < limit)
        return swept

    async def count_expired(self) -> int:
        return int(await self._run("expired"))

    async def claim_callback(
        self, token: str, *, lease_seconds: float, passing_over: Collection[str] = ()
    ) -> Job | None:
        while True:
            # Who is cancelled here gets the callback first, and so can give it back.
            with CancelScope(shield=True):
                reply = await self._run("claim_callback", token, repr(lease_seconds), *_ids(*passing_over))
            if reply is None:
                return None
            try:
                return records.read_job(reply)
            except UnreadableRecordError:
                job_id = reply[0].decode(errors="replace")
                _log.exception("a job's callback cannot be read; it is tried later", extra={"job_id": job_id})
                await self._run("retry_callback", *_ids(job_id, token), repr(_UNREADABLE_SECONDS), 0)

    async def retry_callback(
        self,
        job_id: str,
        token: str,
        *,
        delay_seconds: float,
        attempted: bool = True,
        http_status: int | None = None,
        error: str | None = None,
    ) -> Job:
        outcome = _outcome(http_status, error)
        reply = await self._run(
            "retry_callback", *_ids(job_id, token), repr(delay_seconds), int(attempted), *outcome
        )
        return self._changed(reply, job_id)

    async def finish_callback(
        self,
        job_id: str,
        token: str,
        *,
        status: CallbackStatus,
        ttl_seconds: float,
        http_status: int | None = None,
        error: str | None = None,
    ) -> Job:
        if status is CallbackStatus.PENDING:
            raise InvalidParameterError("status", status, "success, failed or skipped")
        outcome = _outcome(http_status, error)
        reply = await self._run(
            "finish_callback", *_ids(job_id, token), status.value, repr(ttl_seconds), *outcome
        )
        return self._changed(reply, job_id)

    async def redeliver(self, job_id: str, tenant_id: str) -> Job:
        reply = await self._run("redeliver", *_ids(job_id, tenant_id))
        match reply[0]:
            case b"gone":
                raise JobNotFoundError(job_id)
            case b"none" | b"not final":
                raise CallbackStateError(job_id, asked_for=reply[0] == b"not final")
        return steps.public(records.read_job(reply[1]))

    async def counts(self) -> JobCounts:
        pending, running, oldest = await self._run("counts")
        return JobCounts(
            pending=pending, in_progress=running, oldest_pending_at=float(oldest[1]) if oldest else None
        )

    async def _set_aside(self, job_id: str, token: str) -> None:
        """Let others have a try at a job that this version cannot read."""
        _log.error("a job's record cannot be read; it is tried again later", extra={"job_id": job_id})
        await self._run(
            "release", *_ids(job_id, token), repr(_UNREADABLE_SECONDS), "its record could not be read"
        )

    def _changed(self, reply: Any, job_id: str) -> Job:
        if reply is None:
            raise LeaseLostError(job_id)
        return records.read_job(reply)

    async def _run(self, name: str, *arguments: str | bytes | float) -> Any:
        now = "" if self._clock is None else repr(self._clock())
        return await _script(name).run(self._redis, self._root, now, *arguments)


def _ids(*values: str) -> tuple[bytes, ...]:
    # What is not text that can be stored is nobody's id, and is not found.
    return tuple(value.encode(errors="surrogatepass") for value in values)


def _outcome(http_status: int | None, error: str | None) -> tuple[bytes, bytes]:
    """Return how an attempt went, as the arguments of a script."""
    return b"" if http_status is None else b"%d" % http_status, records.encoded(error or "")


def _readable(replies: Iterable[records.Reply]) -> Iterator[Job]:
    """Give the jobs, without those that another version or a damage made unreadable."""
    for reply in replies:
        try:
            yield records.read_job(reply)
        except UnreadableRecordError:
            # One such job must not keep all others from being listed and swept.
            _log.exception("a job's record was left out")


def _add(swept: Swept, found: Any, limit: int) -> Swept:
    _, _, lost, failed, expired, ready = found
    waiting = sorted(
        (float(score), member.rpartition(b" ")[0].decode(errors="replace"))
        for lane in ready
        for member, score in zip(lane[::2], lane[1::2], strict=True)
    )
    return Swept(
        ready=tuple(job_id for _, job_id in waiting[:limit]),
        lost=swept.lost + lost,
        failed=(*swept.failed, *_readable(failed)),
        expired=(*swept.expired, *_readable(expired)),
    )
