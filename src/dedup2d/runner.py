"""
Runs jobs: claims them, keeps their leases, and makes them final or gives them back.

The order of steps and what a crash may lose are in docs/jobs.md.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
from attrs import define, evolve, field

from dedup2d.alarms import Alarms
from dedup2d.callbacks.delivery import Deliverer
from dedup2d.draining import Draining
from dedup2d.errors import (
    Dedup2DError,
    InternalError,
    JobTimeoutError,
    LeaseLostError,
    StoreUnavailableError,
    UnreadableDrawingError,
    VisionCircuitOpenError,
)
from dedup2d.observe import Observer
from dedup2d.parameters import effective_parameters
from dedup2d.precision.overlay import Precision, QueryGeometry
from dedup2d.protocols import FileStore, JobStore, LocalFiles, Queue, SharedQueue, VisionClient
from dedup2d.runner_options import RunnerOptions
from dedup2d.tracing import working_for
from dedup2d.types import DrawingFile, Job, JobStatus, Lane, SearchResult
from dedup2d.upkeep import Upkeep

__all__ = ["Runner", "RunnerOptions", "in_time", "stored_drawing"]

log = logging.getLogger("dedup2d.runner")

_LONGEST_DELAY_SECONDS = 60.0
_SPREAD_SECONDS = 5.0
"""Jobs that wait for the same moment come back over so long, not all at once."""


def stored_drawing(files: FileStore, key: str, *, name: str, sha256: str, size: int) -> DrawingFile:
    """
    Return the file of *key* as a vision client wants it, with a local path if it has one.

    Reading it raises `UnreadableDrawingError` at its end if it is no longer what was stored.
    """
    path = Path(files.local_path(key)) if isinstance(files, LocalFiles) else None

    async def unchanged() -> AsyncGenerator[bytes, None]:
        digest = hashlib.sha256()
        async for chunk in files.open(key):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != sha256:
            raise UnreadableDrawingError(name, "its bytes are not those that were taken in: submit it again")

    return DrawingFile(name=name, sha256=sha256, size=size, open=unchanged, path=path)


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """
    Stop the block after *seconds*.

    Raises:
        JobTimeoutError: it was stopped.
    """
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        if isinstance(error, Dedup2DError):
            raise
        raise JobTimeoutError(seconds) from None


@define(kw_only=True, eq=False)
class Runner:
    """
    Runs the jobs of a JobStore until cancelled, and then gives back those that run.

    `drain` comes before: those that run may end, and no more are taken.
    """

    jobs: JobStore
    files: FileStore
    queue: Queue
    vision: VisionClient
    options: RunnerOptions
    observer: Observer
    clock: Callable[[], float]
    new_id: Callable[[], str]
    precision: Precision
    deliverer: Deliverer | None = None
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    jitter: Callable[[], float] = random.random
    _beats: dict[str, anyio.Event] = field(factory=dict, init=False)
    _draining: Draining = field(factory=Draining, init=False)
    _alarms: Alarms = field(init=False)
    upkeep: Upkeep = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._alarms = Alarms(ring=self._wake_one, clock=anyio.current_time, sleep=self.sleep)
        self.upkeep = Upkeep(
            jobs=self.jobs,
            files=self.files,
            wake=self._wake_one,
            options=self.options,
            observer=self.observer,
            clock=self.clock,
            sleep=self.sleep,
        )

    async def run(self) -> None:
        """Run jobs, sweep and send callbacks, until cancelled."""
        async with anyio.create_task_group() as tasks:
            if self.deliverer is not None:
                tasks.start_soon(self.deliverer.run)
            tasks.start_soon(self.upkeep.run)
            tasks.start_soon(self._alarms.run)
            if self.options.concurrency:
                await self._draining.take(
                    lambda: self.queue.consume(self.wake, concurrency=self.options.concurrency)
                )

    async def drain(self) -> None:
        """
        Take no more jobs, and return when those that run here, and callbacks on their way, have ended.

        Cancelling it gives them back at once. Not to be undone; leave the service afterwards.
        """
        await self._draining.drain()
        if self.deliverer is not None:
            await self.deliverer.drain()

    def hurry(self, job_id: str) -> None:
        """Make the job's next heartbeat happen now, if it runs here, so that a cancel is seen."""
        if beat := self._beats.get(job_id):
            beat.set()

    def hurry_callbacks(self) -> None:
        """Look now for callbacks that are due, if they are sent here."""
        if self.deliverer is not None:
            self.deliverer.poke()

    async def wake(self, job_id: str) -> None:
        """Run *job_id* if it can be claimed, then every other job that waits."""
        with self._draining.handler():
            await self._run_all(job_id)

    async def _run_all(self, job_id: str) -> None:
        wanted: str | None = job_id
        while not self._draining.begun:
            token = self.new_id()
            job = await self.jobs.claim(
                token, lease_seconds=self.options.lease_seconds, job_id=wanted, lanes=self.options.lanes
            )
            if job is not None:
                with working_for(job.request_id, job.traceparent):
                    await self._run(job, token)
            elif wanted is None:
                return
            wanted = None
        await self._wake_another(job_id, self.options.lanes or Lane)

    async def _pass_on(self, job: Job) -> None:
        """Let one more look for jobs: others may wait behind this one."""
        if isinstance(self.queue, SharedQueue):
            await self._wake_one(job.job_id, job.lane)

    async def _wake_one(self, job_id: str, lane: Lane) -> bool:
        """Wake a worker of the lane, one of this process if one is idle; say whether that worked."""
        wake = self.queue.pass_on if isinstance(self.queue, SharedQueue) else self.queue.put
        return await self._woken(wake, job_id, lane)

    async def _woken(self, wake: Callable[..., Awaitable[None]], job_id: str, lane: Lane) -> bool:
        try:
            await wake(job_id, lane=lane)
        except StoreUnavailableError as error:
            log.warning(
                "nobody was woken for a job: the next sweep will",
                extra={"job_id": job_id, "error": str(error)},
            )
        except Exception:
            log.exception("nobody was woken for a job: the next sweep will", extra={"job_id": job_id})
        else:
            return True
        return False

    async def _wake_another(self, job_id: str, lanes: Iterable[Lane]) -> None:
        """Let another process look for what this one, which is stopping, leaves."""
        for lane in lanes:
            if not await self._woken(self.queue.put, job_id, lane):
                return

    async def _run(self, job: Job, token: str) -> None:
        """Run a claimed job; whatever stops this gives it back."""
        log.info("job started", extra={"job_id": job.job_id, "attempt": job.attempts})
        try:
            await self._pass_on(job)
            await self._search_and_settle(job, token)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._give_back_on_leaving(job, token)
            raise
        except StoreUnavailableError as error:
            log.warning(
                "what became of a job could not be stored: it runs again once its lease has run out",
                extra={"job_id": job.job_id, "error": str(error)},
            )

    async def _search_and_settle(self, job: Job, token: str) -> None:
        try:
            result = await self._search_holding_lease(job, token)
        except LeaseLostError:
            log.warning("lost the lease of a job; its work is dropped", extra={"job_id": job.job_id})
            self.observer.leases_lost(1)
        except Dedup2DError as error:
            await self._settle(job, token, error)
        except Exception:
            log.exception("job failed unexpectedly", extra={"job_id": job.job_id})
            await self._settle(
                job, token, InternalError("the search failed unexpectedly: see the service's log")
            )
        else:
            status = JobStatus.CANCELED if result is None else JobStatus.COMPLETED
            await self._finish(job, token, status, result=result)

    async def _search_holding_lease(self, job: Job, token: str) -> SearchResult | None:
        """Search while heartbeats go on; None when a cancel stopped it."""
        result: SearchResult | None = None
        failure: Exception | None = None
        stages: list[str] = []

        async def search(scope: anyio.CancelScope) -> None:
            nonlocal result, failure
            try:
                result = await self._search(job, stages)
            except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                failure = error
            scope.cancel()

        async def keep_lease(scope: anyio.CancelScope) -> None:
            nonlocal failure
            try:
                await self._beat_until_canceled(job, token, stages)
            except LeaseLostError as error:
                failure = error
            scope.cancel()

        self._beats[job.job_id] = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(search, tasks.cancel_scope)
                tasks.start_soon(keep_lease, tasks.cancel_scope)
        finally:
            del self._beats[job.job_id]
        if failure:
            raise failure
        return result

    async def _search(self, job: Job, stages: list[str]) -> SearchResult:
        drawing = stored_drawing(
            self.files, job.file_key, name=job.file_name, sha256=job.file_hash, size=job.file_size
        )
        with in_time(self.options.job_timeout_seconds):
            geometry = await self._geometry(job)
            with self.observer.timed_vision("search"):
                found = await self.vision.search(job.tenant_id, drawing, job.params, progress=stages.append)
            if geometry is not None:
                stages.append("comparing geometry")
                found = await self.precision.overlay(
                    job.tenant_id, job.file_name, found, job.params, geometry
                )
        return evolve(found, effective_parameters=effective_parameters(job.params, job.parameter_sources))

    async def _geometry(self, job: Job) -> QueryGeometry | None:
        """Read the geometry that came with the job, before a search that would be for nothing without it."""
        if job.geometry_key is None:
            return None
        data = b"".join([chunk async for chunk in self.files.open(job.geometry_key)])
        return await self.precision.read(data)

    async def _beat_until_canceled(self, job: Job, token: str, stages: list[str]) -> None:
        """
        Renew the lease until a cancel is wanted.

        A store that cannot be reached loses nothing: the next beat tries again, and if the lease
        runs out meanwhile, `finish` finds out.
        """
        while True:
            with anyio.move_on_after(self.options.heartbeat_seconds):
                await self._beats[job.job_id].wait()
            self._beats[job.job_id] = anyio.Event()
            try:
                canceled = await self.jobs.heartbeat(
                    job.job_id,
                    token,
                    lease_seconds=self.options.lease_seconds,
                    progress=stages[-1] if stages else None,
                )
            except LeaseLostError:
                raise
            except StoreUnavailableError as error:
                log.warning(
                    "a lease could not be renewed; the next heartbeat tries again",
                    extra={"job_id": job.job_id, "error": str(error)},
                )
                continue
            except Exception:
                log.exception("heartbeat failed; the next one tries again", extra={"job_id": job.job_id})
                continue
            if canceled:
                return

    async def _settle(self, job: Job, token: str, error: Dedup2DError) -> None:
        waited = self.clock() - job.created_at
        if error.transient and waited < self.options.max_wait_seconds:
            delay = self._delay(job, error)
            await self._give_back(job, token, str(error), delay_seconds=delay)
        else:
            await self._finish(job, token, JobStatus.FAILED, error_code=error.code, error=str(error))

    def _delay(self, job: Job, error: Dedup2DError) -> float:
        """Return the seconds until the next try: until the circuit closes, or more with each attempt."""
        if isinstance(error, VisionCircuitOpenError):
            wait = min(_LONGEST_DELAY_SECONDS, max(1.0, error.retry_after))
            return wait + min(wait, _SPREAD_SECONDS) * self.jitter()
        return min(_LONGEST_DELAY_SECONDS, 2.0 ** min(job.attempts, 10)) * (0.5 + self.jitter() / 2)

    async def _give_back(self, job: Job, token: str, reason: str, *, delay_seconds: float) -> None:
        async def release() -> Job:
            return await self.jobs.release(job.job_id, token, delay_seconds=delay_seconds, error=reason)

        try:
            released = await self._insist(release, job)
        except LeaseLostError:
            return
        await self._given_back(released, reason, delay_seconds)
        self._alarms.set(job.job_id, job.lane, seconds=delay_seconds)

    async def _given_back(self, job: Job, reason: str, delay_seconds: float) -> None:
        log.info(
            "job given back",
            extra={"job_id": job.job_id, "reason": reason, "delay": round(delay_seconds, 1)},
        )
        if job.status.final:
            await self.after_final(job)
        else:
            self.observer.job_released()

    async def _give_back_on_leaving(self, job: Job, token: str) -> None:
        """Give the job back, tried once; it may have been settled just before."""
        reason = "the worker was stopped"
        try:
            released = await self.jobs.release(job.job_id, token, error=reason)
        except LeaseLostError:
            return
        except StoreUnavailableError as error:
            log.warning(
                "a job could not be given back: it runs again once its lease has run out",
                extra={"job_id": job.job_id, "error": str(error)},
            )
            return
        await self._given_back(released, reason, 0.0)
        await self._wake_another(job.job_id, [job.lane])

    async def _finish(
        self,
        job: Job,
        token: str,
        status: JobStatus,
        *,
        result: SearchResult | None = None,
        error_code: str | None = None,
        error: str | None = None,
    ) -> None:
        async def finish() -> Job:
            return await self.jobs.finish(
                job.job_id,
                token,
                status=status,
                ttl_seconds=self.options.ttl_seconds,
                result=result,
                error_code=error_code,
                error=error,
            )

        try:
            final = await self._insist(finish, job)
        except LeaseLostError:
            log.warning("lost the lease of a job; its result is dropped", extra={"job_id": job.job_id})
            self.observer.leases_lost(1)
            return
        await self.after_final(final)

    async def _insist(self, step: Callable[[], Awaitable[Job]], job: Job) -> Job:
        """Repeat a step while its store cannot be reached and the lease may last: work was done for it."""
        end, pause, told = self.clock() + self.options.lease_seconds, 0.2, False
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    return await step()
            except StoreUnavailableError as error:
                if self.clock() + pause > end:
                    raise
                if not told:
                    log.warning(
                        "what became of a job cannot be stored yet; it is tried while its lease lasts",
                        extra={"job_id": job.job_id, "error": str(error)},
                    )
                told = True
            await self.sleep(pause)
            pause = min(2.0, pause * 2)

    async def after_final(self, job: Job) -> None:
        """Let the job's callback be sent, tell the observer, and delete its file if that is wanted."""
        if job.callback_status is not None:
            self.hurry_callbacks()
        await self.upkeep.after_final(job)
