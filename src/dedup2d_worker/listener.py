"""
RQ's worker as a listener: it hears rings and hands them to the slots of its process.

It runs in a thread, because RQ is not made for an event loop. It only takes a ring while a slot is
idle, so that rings go to processes that have time.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import cast

from anyio import from_thread

from dedup2d.errors import MissingExtraError, shown
from dedup2d.redis_connection import unavailable
from dedup2d_worker.ring import NoDeathPenalty, Ring, log_foreign, open_queue
from dedup2d_worker.slots import Slots

try:
    from redis import Redis
    from redis import exceptions as redis_errors
    from redis.exceptions import RedisError
    from rq import Queue, SimpleWorker
    from rq.exceptions import DequeueTimeout, NoSuchJobError
    from rq.job import Job
    from rq.serializers import JSONSerializer
    from rq.utils import now
    from rq.worker import WorkerStatus
except ImportError as error:
    raise MissingExtraError("worker", "the queue for Redis") from error

__all__ = ["DEQUEUE_SECONDS", "NO_JOB", "Listener"]

log = logging.getLogger("dedup2d.queue")

DEQUEUE_SECONDS = 1
NO_JOB = "none"
"""What a slot is woken with that is to look for any job."""

_BEAT_SECONDS = 3.0
_WORKER_TTL_SECONDS = 15  # RQ adds 60
FRESH_WORKER_TTL_SECONDS = 60
"""What RQ keeps for less has not been beaten for more than 15 s."""
_MAINTENANCE_SECONDS = 60
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

_silent = logging.getLogger("dedup2d.queue.rq")
_silent.setLevel(logging.CRITICAL + 1)


class _Worker(SimpleWorker):
    """
    RQ's worker without its loop, its signal handlers, its commands and its log.

    Signals are for the main thread, which this is not; what its loop does with a lost connection is not
    what we want; and its log would tell of each ring.
    """

    death_penalty_class = NoDeathPenalty

    @property
    def connection_timeout(self) -> int:
        return 0  # the connection has its own, which RQ would lengthen

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's
        """A ring takes no time: who is killed after one must not seem alive for as long as one may take."""
        return self.worker_ttl + 60

    def procline(self, message: str) -> None:
        pass

    def appear(self) -> None:
        """Be listed by `rq info` and the dashboards, the queues too; after a loss of data as well."""
        self.connection.sadd(Queue.redis_queues_keys, *self.queue_keys())
        self.connection.delete(self.key)
        self.register_birth()  # type: ignore[no-untyped-call]  # its package has no types
        self.set_state(WorkerStatus.IDLE)

    def is_known(self) -> bool:
        return bool(self.connection.hexists(self.key, "birth"))

    def beat(self) -> None:
        """Stay listed; appear again if the server has lost its data meanwhile."""
        if self.is_known():
            with self.connection.pipeline() as pipeline:
                self.heartbeat(pipeline=pipeline)
                pipeline.execute()
        else:
            self.appear()
        if self.should_run_maintenance_tasks:
            self._tidy()

    def _tidy(self) -> None:
        """Let RQ forget the rings of workers that were killed."""
        try:
            self.clean_registries()  # type: ignore[no-untyped-call]  # its package has no types
        except (redis_errors.ConnectionError, redis_errors.TimeoutError):
            raise
        except Exception:
            self.last_cleaned_at = now()  # type: ignore[assignment]  # rq declares it None
            log.warning("RQ could not tidy its records up; it is tried again later", exc_info=True)


class Listener:
    """
    Hears the rings of some queues, until it is told to stop.

    `run` belongs into a thread that anyio started; it returns after `stop`, within about a second.

    Args:
        connection: a Redis client that nobody else uses; its time-out must exceed DEQUEUE_SECONDS.
        flags: the key that says that a ring is on its way, by name of the queue.
        slots: who is woken.
    """

    def __init__(self, connection: Redis, *, flags: Mapping[str, str], slots: Slots) -> None:
        self._connection = connection
        self._flags = flags
        self._slots = slots
        self._stopped = threading.Event()
        self._name = _worker_name()
        self._worker: _Worker | None = None
        self._failing = False
        self._beaten = 0.0
        self._busy = False

    def stop(self) -> None:
        """Let `run` return; may be called by any thread."""
        self._stopped.set()
        self._slots.idle.set()

    def interrupt(self) -> None:
        """Break the connection on which `run` waits for a server that does not answer."""
        self._connection.connection_pool.disconnect()

    def run(self) -> None:
        """Listen until stopped; outages are waited out, with one line in the log at each end."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            try:
                self._listen(self._appear())
            except Exception as error:  # noqa: BLE001 - whatever it is, rings must be heard again
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2) if self._failing else _FIRST_PAUSE_SECONDS
                self._note_failure(error)
                self._stopped.wait(pause)
        self._leave()

    def _note_failure(self, error: Exception) -> None:
        if self._failing or self._stopped.is_set():
            return
        self._failing = True
        reason = unavailable(error) if isinstance(error, RedisError) else None
        log.warning(
            "wake-ups cannot be heard; trying until they can",
            extra={"reason": reason or shown(repr(error), 200)},
            exc_info=None if reason else error,
        )

    def _note_success(self) -> None:
        if self._failing:
            self._failing = False
            log.info("wake-ups are heard again")

    def _appear(self) -> _Worker:
        worker = self._worker = self._make_worker()
        worker.appear()
        self._beaten, self._busy = time.monotonic(), False
        # Rings may have been lost while nobody listened.
        from_thread.run_sync(self._slots.wake, NO_JOB)
        return worker

    def _make_worker(self) -> _Worker:
        worker = _Worker(
            [open_queue(name, self._connection) for name in self._flags],
            name=self._name,
            connection=self._connection,
            job_class=Ring,
            serializer=JSONSerializer,
            worker_ttl=_WORKER_TTL_SECONDS,
            maintenance_interval=_MAINTENANCE_SECONDS,
        )
        worker.log = _silent
        return worker

    def _leave(self) -> None:
        try:
            if self._worker is not None:
                self._worker.register_death()  # type: ignore[no-untyped-call]  # its package has no types
        except Exception:
            # It is forgotten anyway, a little later.
            log.debug("the worker could not take its leave", exc_info=True)
        self._connection.close()

    def _listen(self, worker: _Worker) -> None:
        while not self._stopped.is_set():
            if time.monotonic() - self._beaten >= _BEAT_SECONDS:
                worker.beat()
                self._beaten = time.monotonic()
            if not self._wait_for_idle(worker):
                continue
            ring = self._take(worker)
            self._note_success()
            if ring is not None:
                self._answer(worker, *ring)

    def _wait_for_idle(self, worker: _Worker) -> bool:
        """Wait a moment for an idle slot; other processes get the rings meanwhile."""
        idle = self._slots.idle.is_set()
        if idle == self._busy:
            self._busy = not idle
            worker.set_state(WorkerStatus.IDLE if idle else WorkerStatus.BUSY)
        return self._slots.idle.wait(_BEAT_SECONDS) and not self._stopped.is_set()

    def _take(self, worker: _Worker) -> tuple[Queue, str] | None:
        """Take a ring from the queues and a slot for it; give it back if none is idle any more."""
        try:
            key, found = Queue.lpop(worker.queue_keys(), DEQUEUE_SECONDS, connection=self._connection)
        except DequeueTimeout:
            return None
        queue = next(each for each in worker.queues if each.key == _text(key))
        if self._stopped.is_set() or not from_thread.run_sync(self._slots.reserve):
            queue.push_job_id(_text(found), at_front=True)
            return None
        return queue, _text(found)

    def _answer(self, worker: _Worker, queue: Queue, rq_job_id: str) -> None:
        """Let the reserved slot look for jobs, and RQ note that this was done."""
        job_id: str | None = None
        try:
            ring = self._fetch(queue, rq_job_id)
            job_id = None if ring is None else ring.wanted
            # The flag goes before the slot looks. Whose job is stored after that look finds no flag, and
            # rings; whose job was stored before it is seen. The other way round, a job stored between
            # the look and the removal would find the flag, not ring, and be seen by nobody.
            self._connection.delete(self._flags[queue.name])
        finally:
            # What is no ring, or too old to be one, may have kept others from ringing: look anyway.
            from_thread.run_sync(self._slots.give, job_id or NO_JOB)
        if ring is not None:
            worker.execute_job(ring, queue)

    def _fetch(self, queue: Queue, rq_job_id: str) -> Ring | None:
        """Return the ring of this id; None if it has expired or is no job of RQ's at all."""
        try:
            ring = cast("Ring", Ring.fetch(rq_job_id, connection=self._connection, serializer=JSONSerializer))
        except NoSuchJobError:
            return None
        except Exception as error:
            if isinstance(error, RedisError) and unavailable(error):
                raise
            log_foreign(queue.name, rq_job_id, repr(error))
            return None
        if ring.wanted is None:
            log_foreign(queue.name, rq_job_id, _function_of(ring))
        return ring


def _worker_name() -> str:
    """Return a name that tells an operator which process it is, and is like no other."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:100]
    return f"dedup2d-{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _function_of(ring: Ring) -> str:
    try:
        return str(ring.func_name)
    except Exception:  # noqa: BLE001 - whatever RQ says of data that is not what it wants
        return "data that is not JSON"


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
