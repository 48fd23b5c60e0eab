"""
What lies in RQ's queues: rings, each a job of RQ that carries nothing but the id of a job of ours.

RQ runs whatever function a queue names. Here only `wake` is taken for a ring: whoever can write
to Redis can wake workers, and that is all.
"""

from __future__ import annotations

import logging
from typing import Any

from dedup2d.errors import MissingExtraError, shown

try:
    from redis import Redis
    from rq import Queue
    from rq.job import Job
    from rq.serializers import JSONSerializer
    from rq.timeouts import BaseDeathPenalty
except ImportError as error:
    raise MissingExtraError("worker", "the queue for Redis") from error

__all__ = ["NoDeathPenalty", "Ring", "log_foreign", "open_queue", "push", "wake"]

log = logging.getLogger("dedup2d.queue")

_TTL_SECONDS = 300
"""A ring that nobody has heard for so long is forgotten: the sweep has found its job."""
_FAILURE_TTL_SECONDS = 3600
_RING_SECONDS = 60
"""How long RQ lets handing over a ring take before other workers count it as lost."""


def wake(job_id: str) -> None:
    """Stand for a ring in RQ's records; `dedup2d worker` hears it without calling this."""
    raise RuntimeError(f"job {job_id} is run by `dedup2d worker`, not by `rq worker`: stop the latter")


_FUNCTION = f"{wake.__module__}.{wake.__qualname__}"


class NoDeathPenalty(BaseDeathPenalty):
    """Limits nothing: handing over takes no time, and RQ's own limit needs the main thread."""

    def setup_death_penalty(self) -> None:
        pass

    def cancel_death_penalty(self) -> None:
        pass


class ForeignError(Exception):
    """What lies in the queue is no ring."""


class Ring(Job):
    """
    A job of RQ that can do nothing but ring.

    Neither its function nor its callbacks are imported, no webhook is called, nothing is repeated.
    """

    @property
    def wanted(self) -> str | None:
        """The id of our job; None if this is no ring."""
        try:
            function, arguments, keywords = self.func_name, self.args, self.kwargs
        except Exception:  # noqa: BLE001 - whatever RQ says of data that is not what it wants
            return None
        if function != _FUNCTION or self.instance is not None or keywords or not isinstance(arguments, list):
            return None
        match arguments:
            case [str(job_id)] if job_id.isprintable() and 0 < len(job_id) <= 200:
                return job_id
        return None

    def perform(self) -> None:
        if self.wanted is None:
            raise ForeignError("this is no wake-up of dedup2d: it was not run")

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        self.result_ttl, self.failure_ttl = 0, _FAILURE_TTL_SECONDS
        self.webhooks = []
        self.retries_left = self.repeats_left = self.rate_limit_key = None

    @property
    def func(self) -> Any:
        raise ForeignError("functions named in a queue are not imported")

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None


def open_queue(name: str, connection: Redis) -> Queue:
    """Return RQ's queue of this name, for rings in JSON."""
    return Queue(
        name,
        connection=connection,
        job_class=Ring,
        serializer=JSONSerializer,
        death_penalty_class=NoDeathPenalty,
    )


def push(queue: Queue, job_id: str) -> None:
    """Put a ring into *queue*, in one round trip."""
    with queue.connection.pipeline() as pipeline:
        queue.enqueue_call(
            _FUNCTION,
            args=[job_id],
            timeout=_RING_SECONDS,
            ttl=_TTL_SECONDS,
            result_ttl=0,
            failure_ttl=_FAILURE_TTL_SECONDS,
            description=f"wake a worker for {job_id}",
            pipeline=pipeline,
        )
        pipeline.execute()


def log_foreign(queue: str, rq_job_id: str, what: str) -> None:
    """Say that something was in the queue that is no ring."""
    log.error(
        "something that is no wake-up was in a queue; it was not run",
        extra={"queue": queue, "rq_job_id": shown(rq_job_id), "what": shown(what)},
    )
