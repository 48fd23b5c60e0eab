"""
`dedup2d worker`: the command that this package adds to the library's (entry point `dedup2d.commands`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from dedup2d.cli.options import DataDir, MetricsHost, load_settings, with_metrics
from dedup2d.errors import ConfigurationError, MissingExtraError
from dedup2d.supervise import supervise
from dedup2d.types import Lane
from dedup2d_worker.process import GRACE_SECONDS, LEAVE_SECONDS, WorkerOptions, check_settings, run, try_out

try:
    from dedup2d.logs import configure_logging
except ImportError as error:
    raise MissingExtraError("worker", "a worker") from error

__all__ = ["worker"]

_LANES: dict[str, frozenset[Lane] | None] = {
    "main": frozenset({Lane.MAIN}),
    "cad": frozenset({Lane.CAD}),
    "all": None,
}


def worker(
    *,
    concurrency: Annotated[
        int | None,
        Parameter(
            help="Jobs that one process runs at once. [default: $DEDUP2D_ASYNC_MAX_CONCURRENCY, else 2]",
            validator=validators.Number(gte=1, lte=256),
        ),
    ] = None,
    processes: Annotated[
        int,
        Parameter(
            help="Processes, each with its own jobs; one that dies is started again.",
            validator=validators.Number(gte=1, lte=256),
        ),
    ] = 1,
    queue: Annotated[
        Literal["main", "cad", "all"],
        Parameter(help="Which jobs: cad are DXF and DWG, if $DEDUP2D_RENDER_QUEUE_NAME sets them apart."),
    ] = "all",
    metrics_port: Annotated[
        int | None,
        Parameter(
            help="Serve Prometheus metrics here; further processes take the ports after it."
            " [default: $DEDUP2D_METRICS_PORT, else nowhere]",
            validator=validators.Number(gte=1, lte=65535),
        ),
    ] = None,
    metrics_host: MetricsHost = None,
    grace: Annotated[
        float,
        Parameter(
            help="Seconds that running jobs may take to end once the worker was asked to stop.",
            validator=validators.Number(gte=0, lte=86_400),
        ),
    ] = GRACE_SECONDS,
    data_dir: DataDir = None,
) -> int:
    """
    Run jobs that a service on this or another machine has taken in; Ctrl-C or SIGTERM stops it.

    Stopping lets running jobs end; those that take longer than the grace, and all at a second signal, are
    given back, and another worker runs them. Needs DEDUP2D_ASYNC_BACKEND=redis. Everything else is set by
    the environment, as for `dedup2d serve`: see the settings in the documentation.
    """
    settings = with_metrics(load_settings(data_dir), metrics_port, metrics_host)
    lanes = _LANES[queue]
    check_settings(settings, lanes)
    concurrency = settings.max_concurrency if concurrency is None else concurrency
    if concurrency < 1:
        raise ConfigurationError("DEDUP2D_ASYNC_MAX_CONCURRENCY", concurrency, "at least 1 for a worker")
    configure_logging(level=settings.log_level, form=settings.log_format)
    if processes > 1:
        try_out(settings, lanes)
        given = ["--concurrency", str(concurrency), "--queue", queue, "--grace", str(grace)]
        given += ["--metrics-host", settings.metrics_host, "--data-dir", str(settings.data_dir)]
        return _supervise(given, processes, settings.metrics_port, grace)
    options = WorkerOptions(
        concurrency=concurrency,
        lanes=lanes,
        grace_seconds=grace,
        metrics_port=settings.metrics_port,
        metrics_host=settings.metrics_host,
    )
    run(settings, options)
    return 0


def _supervise(given: Sequence[str], processes: int, metrics_port: int | None, grace: float) -> int:
    def command(number: int) -> list[str]:
        port = [] if metrics_port is None else ["--metrics-port", str(metrics_port + number)]
        return [sys.executable, "-m", "dedup2d", "worker", *given, *port]

    return supervise(command, processes=processes, grace_seconds=grace + LEAVE_SECONDS + 1)
