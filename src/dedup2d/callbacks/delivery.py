"""
Delivers the callbacks that wait in a job store: claims them, tries, and notes what became of them.

Every process that runs jobs does it. What a process had in hand when it died, another takes up once the
lease has run out, under the same message id: a receiver gets each callback once at least.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from dedup2d.callbacks.attempts import Attempt, CallbackOptions, Outcome, Sender
from dedup2d.callbacks.schedule import delay_after
from dedup2d.errors import Dedup2DError, LeaseLostError, StoreUnavailableError
from dedup2d.observe import Observer
from dedup2d.protocols import JobStore
from dedup2d.tracing import working_for
from dedup2d.types import CallbackStatus, Job

__all__ = ["Deliverer"]

log = logging.getLogger("dedup2d.callbacks")

_LEASE_BEYOND_TIMEOUT_SECONDS = 10.0
_LOST = "the process that sent it was lost at the last attempt"


@define(kw_only=True, eq=False)
class Deliverer:
    """
    Sends what is due until cancelled, and then gives back what it has in hand.

    Args:
        jobs: the store.
        sender: makes the attempts; its options say how many, and how many at once.
        ttl_seconds: how long a job is kept once its callback has ended.
        clock: gives the Unix time.
        new_id: gives lease tokens.
        sleep: waits for so many seconds.
        jitter: gives a number from 0 to 1.
    """

    jobs: JobStore
    sender: Sender
    ttl_seconds: float
    observer: Observer = field(factory=Observer)
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str]
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    jitter: Callable[[], float] = random.random
    _in_hand: Counter[str] = field(factory=Counter, init=False)
    """How many callbacks of which tenant."""
    _news: anyio.Event = field(factory=anyio.Event, init=False)
    _settled: anyio.Event = field(factory=anyio.Event, init=False)
    _draining: bool = field(default=False, init=False)
    _failing: bool = field(default=False, init=False)

    def poke(self) -> None:
        """Look at once whether a callback is due."""
        self._news.set()

    async def run(self) -> None:
        """Deliver, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._take(tasks)
                with anyio.move_on_after(self.options.poll_seconds):
                    await self._news.wait()
                self._news = anyio.Event()

    async def deliver_due(self) -> None:
        """Deliver all that is due now, one attempt each, and return."""
        while True:
            async with anyio.create_task_group() as tasks:
                if not await self._take(tasks):
                    break

    async def drain(self) -> None:
        """Claim no more callbacks, and return when those in hand have been tried."""
        self._draining = True
        while self._in_hand.total():
            await self._settled.wait()

    async def _take(self, tasks: TaskGroup) -> int:
        """Begin to send what is due, as much as there is room for; count it."""
        taken = 0
        while not self._draining and self._in_hand.total() < self.options.concurrency:
            token = self.new_id()
            job = await self._claimed(token)
            if job is None:
                break
            taken += 1
            self._in_hand[job.tenant_id] += 1
            tasks.start_soon(self._deliver_in_trace, job, token)
        return taken

    async def _claimed(self, token: str) -> Job | None:
        # Receivers that hang would else keep the callbacks of all other tenants waiting.
        most = max(1, self.options.concurrency // 4)
        busy = [tenant for tenant, number in self._in_hand.items() if number >= most]
        try:
            job = await self.jobs.claim_callback(token, lease_seconds=self._lease_seconds, passing_over=busy)
        except Dedup2DError as error:
            if not self._failing:
                log.warning("callbacks cannot be looked for; it is tried again", extra={"error": str(error)})
            self._failing = True
            return None
        except Exception:
            log.exception("looking for callbacks failed; it is tried again")
            return None
        self._failing = False
        return job

    @property
    def options(self) -> CallbackOptions:
        """How callbacks are sent."""
        return self.sender.options

    @property
    def _lease_seconds(self) -> float:
        return self.options.timeout_seconds + _LEASE_BEYOND_TIMEOUT_SECONDS

    async def _deliver_in_trace(self, job: Job, token: str) -> None:
        with working_for(job.request_id, job.traceparent):
            await self._deliver(job, token)

    async def _deliver(self, job: Job, token: str) -> None:
        """Make one attempt and note how it went; whatever stops this gives the callback back."""
        end = self.clock() + self._lease_seconds
        try:
            if job.callback_attempts > self.options.max_attempts:
                await self._settle(job, token, Attempt(outcome=Outcome.INTERNAL, error=_LOST), end)
            else:
                await self._settle(job, token, await self._attempt(job), end)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._give_back(job, token)
            raise
        finally:
            self._in_hand[job.tenant_id] -= 1
            self._in_hand += Counter()  # tenants without any go
            self._settled.set()
            self._settled = anyio.Event()
            self.poke()

    async def _attempt(self, job: Job) -> Attempt:
        begin = time.perf_counter()
        try:
            attempt = await self.sender.send(job)
        except Exception:
            log.exception("a callback could not be sent", extra={"job_id": job.job_id})
            attempt = Attempt(outcome=Outcome.INTERNAL, error="it could not be sent: see the service's log")
        self.observer.callback_tried(attempt.outcome, time.perf_counter() - begin)
        if attempt.refusal is not None:
            self.observer.callback_blocked(attempt.refusal)
        return attempt

    async def _settle(self, job: Job, token: str, attempt: Attempt, end: float) -> None:
        """Note how it went, again and again while the store is away and the lease may last, until *end*."""
        pause = 0.2
        while True:
            try:
                await self._note(job, token, attempt)
            except LeaseLostError:
                log.warning("lost the lease of a callback: another sends it", extra={"job_id": job.job_id})
            except StoreUnavailableError as error:
                if self.clock() + pause < end:
                    await self.sleep(pause)
                    pause = min(2.0, pause * 2)
                    continue
                log.warning(
                    "how a callback went could not be stored: it is sent again",
                    extra={"job_id": job.job_id, "error": str(error)},
                )
            except Exception:
                log.exception("how a callback went could not be stored", extra={"job_id": job.job_id})
            return

    async def _note(self, job: Job, token: str, attempt: Attempt) -> None:
        status = attempt.ends_as
        if status is None and job.callback_attempts >= self.options.max_attempts:
            status = CallbackStatus.FAILED
        if status is None:
            await self._note_retry(job, token, attempt)
        else:
            await self._note_end(job, token, attempt, status)

    async def _note_retry(self, job: Job, token: str, attempt: Attempt) -> None:
        delay = delay_after(job.callback_attempts, jitter=self.jitter(), retry_after=attempt.retry_after)
        await self.jobs.retry_callback(
            job.job_id,
            token,
            delay_seconds=delay,
            http_status=attempt.http_status,
            error=attempt.error,
        )
        self.observer.callback_retried()
        log.info("callback is tried again", extra={**_told(job, attempt), "delay": round(delay, 1)})

    async def _note_end(self, job: Job, token: str, attempt: Attempt, status: CallbackStatus) -> None:
        await self.jobs.finish_callback(
            job.job_id,
            token,
            status=status,
            ttl_seconds=self.ttl_seconds,
            http_status=attempt.http_status,
            error=attempt.error,
        )
        self.observer.callback_finished(status, max(0.0, self.clock() - (job.finished_at or self.clock())))
        log.info("callback has ended", extra={**_told(job, attempt), "status": str(status)})

    async def _give_back(self, job: Job, token: str) -> None:
        """Let another process send it at once; it may have been noted just before."""
        try:
            await self.jobs.retry_callback(job.job_id, token, delay_seconds=0.0, attempted=False)
        except LeaseLostError:
            return
        except Dedup2DError as error:
            log.warning(
                "a callback could not be given back: it is sent once its lease has run out",
                extra={"job_id": job.job_id, "error": str(error)},
            )


def _told(job: Job, attempt: Attempt) -> dict[str, object]:
    return {
        "job_id": job.job_id,
        "attempt": job.callback_attempts,
        "outcome": str(attempt.outcome),
        "http_status": attempt.http_status,
        "error": attempt.error,
    }
