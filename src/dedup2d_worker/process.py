"""
One worker: a service without an API that runs jobs until a signal stops it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator

import anyio
from attrs import frozen

from dedup2d.build import build_service
from dedup2d.errors import ConfigurationError
from dedup2d.metrics_server import metrics_served
from dedup2d.observe import Observer
from dedup2d.redis_url import safe_redis_url
from dedup2d.service import Dedup2D
from dedup2d.settings import Settings
from dedup2d.types import Lane

try:
    import structlog

    from dedup2d.metrics import PrometheusMetrics
except ImportError as error:
    from dedup2d.errors import MissingExtraError

    raise MissingExtraError("worker", "a worker") from error

__all__ = ["GRACE_SECONDS", "LEAVE_SECONDS", "WorkerOptions", "check_settings", "run", "try_out"]

GRACE_SECONDS = 20.0
"""How long running jobs may take once the worker was asked to stop; orchestrators kill after 30 s."""

LEAVE_SECONDS = 5.0
"""How long giving jobs back and closing everything may take after that."""

_HURRIED_SECONDS = 2.0
_TERMINATED = 128 + signal.SIGTERM

log = structlog.get_logger("dedup2d.worker")


@frozen(kw_only=True)
class WorkerOptions:
    """
    What one worker does.

    Args:
        concurrency: jobs at once, at least 1.
        lanes: the jobs it runs, None for all.
        grace_seconds: how long running jobs may take once it was asked to stop.
        metrics_port: where Prometheus finds its metrics, None for nowhere.
        metrics_host: address that the metrics are served on.
    """

    concurrency: int
    lanes: frozenset[Lane] | None = None
    grace_seconds: float = GRACE_SECONDS
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"


def check_settings(settings: Settings, lanes: frozenset[Lane] | None) -> None:
    """
    Make sure that there can be jobs for a worker.

    Raises:
        ConfigurationError: the service runs its jobs itself, or no job ever waits in *lanes*.
    """
    if settings.async_backend != "redis":
        raise ConfigurationError(
            "DEDUP2D_ASYNC_BACKEND",
            settings.async_backend,
            "redis, here and for `dedup2d serve`, which otherwise runs its jobs itself and needs no workers",
        )
    if lanes == frozenset({Lane.CAD}) and settings.render_queue_name is None:
        raise ConfigurationError(
            "DEDUP2D_RENDER_QUEUE_NAME",
            "",
            "the name of a queue for CAD files, here and for `dedup2d serve`: they wait with all others now",
        )


def run(settings: Settings, options: WorkerOptions) -> None:
    """
    Run jobs until SIGTERM or SIGINT.

    The first signal lets running jobs end within the grace and gives back those that do not; a second
    one gives them back at once.

    Raises:
        ConfigurationError: a setting or a server that it names cannot be used.
        MissingExtraError: a back end's packages are not installed.
    """
    check_settings(settings, options.lanes)
    anyio.run(_run, settings, options, backend="asyncio")


def try_out(settings: Settings, lanes: frozenset[Lane] | None) -> None:
    """
    Use for a moment what processes of a worker will use, so that what is wrong is said once, not by each.

    Raises: as `run`.
    """
    check_settings(settings, lanes)
    anyio.run(_try_out, settings, lanes, backend="asyncio")


async def _try_out(settings: Settings, lanes: frozenset[Lane] | None) -> None:
    async with build_service(settings, Observer(), concurrency=0, lanes=lanes):
        pass


async def _run(settings: Settings, options: WorkerOptions) -> None:
    metrics = PrometheusMetrics()
    service = build_service(settings, metrics, concurrency=options.concurrency, lanes=options.lanes)
    served = metrics_served(
        metrics.render,
        host=options.metrics_host,
        port=options.metrics_port,
        setting="--metrics-host:--metrics-port",
    )
    with served, anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with service, service.watched():
            log.info("worker ready", **_facts(settings, options))
            await anext(signals)
            log.info("stopping", grace_seconds=options.grace_seconds)
            hurried = await _drain(service, signals, options.grace_seconds)
            deadline = _leave_within(_HURRIED_SECONDS if hurried else LEAVE_SECONDS)
        deadline.cancel()
    log.info("stopped")


async def _drain(service: Dedup2D, signals: AsyncIterator[signal.Signals], grace_seconds: float) -> bool:
    """Let running jobs end within the grace; say whether a second signal cut it short."""
    hurried = False
    async with anyio.create_task_group() as tasks:

        async def hurry() -> None:
            nonlocal hurried
            await anext(signals)
            hurried = True
            tasks.cancel_scope.cancel()

        tasks.start_soon(hurry)
        with anyio.move_on_after(grace_seconds):
            await service.drain()
        tasks.cancel_scope.cancel()
    return hurried


def _leave_within(seconds: float) -> threading.Timer:
    """End the process after *seconds* whatever it waits for: its jobs' leases then run out."""

    def end() -> None:
        log.error("leaving took too long; jobs that were not given back run again after their lease")
        os._exit(_TERMINATED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def _facts(settings: Settings, options: WorkerOptions) -> dict[str, object]:
    """Return what an operator wants to know of a worker at its start."""
    lanes = options.lanes or frozenset(Lane)
    names = {Lane.MAIN: settings.main_queue_name, Lane.CAD: settings.render_queue_name}
    return {
        "queues": [name for lane in Lane if lane in lanes and (name := names[lane])],
        "concurrency": options.concurrency,
        "redis": safe_redis_url(settings.redis_url),
        "file_storage": settings.file_storage,
        "vision": settings.vision_url or "embedded",
        "metrics_port": options.metrics_port,
        "process_id": os.getpid(),
    }
