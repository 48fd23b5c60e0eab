"""`dedup2d vision serve`: the engine of this machine for services and workers on others."""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import anyio
from attrs import evolve
from cyclopts import Parameter, validators

from dedup2d.build import build_embedded
from dedup2d.cli.options import DataDir, MetricsHost, MetricsPort, Quiet, load_settings, with_metrics
from dedup2d.cli.terminal import Terminal
from dedup2d.directories import check_writable
from dedup2d.files.local import LocalFileStore
from dedup2d.metrics import VisionServerMetrics
from dedup2d.metrics_server import metrics_served
from dedup2d.metrics_shared import MemberMetrics, SharedMetrics, forget, shared_directory
from dedup2d.settings import Settings
from dedup2d.supervise import supervise
from dedup2d.watch import watch_vision
from dedup2d_http.auth import check_exposure
from dedup2d_http.connections import free_address
from dedup2d_http.logs import configure_logging
from dedup2d_http.server import GRACE_SECONDS, leave, reachable, serve_app, url_of
from dedup2d_http.stopping import Stopping
from dedup2d_http.vision_app import VisionServerOptions, collect_leftovers, create_vision_app

__all__ = ["serve_vision", "vision"]

_HOST, _KEY = "DEDUP2D_VISION_HOST", "DEDUPCAD_VISION_API_KEY"
_START_SECONDS = 30.0
_KILL_AFTER_SECONDS = 6.0
"""How much longer than its requests a process may take to end."""


def vision(
    action: Annotated[Literal["serve"], Parameter(help="What to do: serve.", show_default=False)],
    /,
    *,
    host: Annotated[
        str | None, Parameter(help=f"Address to listen on. [default: ${_HOST}, else 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        Parameter(
            help="Port to listen on; 0 takes a free one. [default: $DEDUP2D_VISION_PORT, else 58001]",
            validator=validators.Number(gte=0, lte=65535),
        ),
    ] = None,
    processes: Annotated[
        int | None,
        Parameter(
            help="Processes that share port and index. [default: $DEDUP2D_VISION_PROCESSES, else 1]",
            validator=validators.Number(gte=1, lte=64),
        ),
    ] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    member: Annotated[int | None, Parameter(show=False)] = None,
    metrics_directory: Annotated[Path | None, Parameter(show=False)] = None,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Start the vision server on the index that `dedup2d index` fills; Ctrl-C or SIGTERM stops it.

    It keeps the contract of dedupcad-vision: point DEDUPCAD_VISION_URL of services and workers to it. With
    DEDUPCAD_VISION_API_KEY it demands that key; without, it serves this machine only.
    """
    assert action == "serve"
    settings = with_metrics(load_settings(data_dir), metrics_port, metrics_host)
    settings = evolve(
        settings,
        vision_host=settings.vision_host if host is None else host,
        vision_port=settings.vision_port if port is None else port,
        vision_processes=settings.vision_processes if processes is None else processes,
    )
    configure_logging(level=settings.log_level, form=settings.log_format)
    check_writable(settings.data_dir, "DEDUP2D_DATA_DIR")
    if member is not None and metrics_directory is not None:
        metrics = MemberMetrics(metrics_directory, member)
        anyio.run(lambda: serve_vision(settings, shared=metrics), backend="asyncio")
        return leave()
    terminal = Terminal(quiet=quiet)

    def ready(url: str) -> None:
        terminal.note(f"dedup2d vision is ready at {url}")

    if settings.vision_processes > 1:
        return _supervised(settings, ready)
    anyio.run(lambda: serve_vision(settings, on_ready=ready), backend="asyncio")
    return leave()


async def serve_vision(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] | None = None,
    shared: MemberMetrics | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """
    Serve searches until SIGTERM or SIGINT, then let those under way end.

    Args:
        settings: address, key, limits, and where the index is.
        on_ready: told the URL once it answers.
        shared: the metrics of a process that shares port, places and engine processes with others.
        grace_seconds: how long searches under way may take.

    Raises:
        ConfigurationError: the address is taken, or open to other machines without a key.
        MissingExtraError: the engine's packages are not installed.
    """
    address, port = _address(settings) if shared is None else (settings.vision_host, settings.vision_port)
    members = 1 if shared is None else settings.vision_processes
    running = math.ceil(settings.engine_processes / members)
    metrics, stopping = shared or VisionServerMetrics(), Stopping()
    options = VisionServerOptions(
        tenant=settings.tenant,
        api_key=settings.vision_api_key,
        allowed_hosts=settings.allowed_hosts,
        running=running,
        waiting=math.ceil(settings.vision_max_waiting / members),
        seconds=settings.job_timeout_seconds,
        max_upload_bytes=settings.max_upload_bytes,
        shows_metrics=settings.metrics_port is None,
    )
    # Those of several processes are served by who started them.
    metrics_port = settings.metrics_port if shared is None else None
    async with (
        LocalFileStore(settings.data_dir / "incoming") as files,
        build_embedded(settings, processes=running, observer=metrics) as engine,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(collect_leftovers, files)
        tasks.start_soon(watch_vision, engine)
        app = create_vision_app(engine, files, options, metrics=metrics, stopping=stopping)
        with metrics_served(metrics.render, host=settings.metrics_host, port=metrics_port):
            await serve_app(app, address, port, stopping, on_ready=on_ready, grace_seconds=grace_seconds)
        tasks.cancel_scope.cancel()


def _address(settings: Settings) -> tuple[str, int]:
    """Return the free address to listen on, which must not be open to others without a key."""
    keyed = settings.vision_api_key is not None
    check_exposure(settings.vision_host, keyed=keyed, host_setting=_HOST, keys_setting=_KEY)
    return free_address(settings.vision_host, settings.vision_port, setting=f"{_HOST}:DEDUP2D_VISION_PORT")


def _supervised(settings: Settings, ready: Callable[[str], None]) -> int:
    """Run so many processes on one port; the system spreads connections over them."""
    address, port = _address(settings)
    command = [sys.executable, "-m", "dedup2d", "vision", "serve"]
    command += ["--host", address, "--port", str(port), "--processes", str(settings.vision_processes)]
    command += ["--data-dir", str(settings.data_dir)]
    if settings.metrics_port is not None:
        command += ["--metrics-port", str(settings.metrics_port)]
    with _reserved(address, port), shared_directory() as directory, _metrics_of_all(settings, directory):
        command += ["--metrics-directory", str(directory)]
        threading.Thread(target=_announce, args=(address, port, ready), daemon=True).start()
        return supervise(
            lambda number: [*command, "--member", str(number)],
            processes=settings.vision_processes,
            grace_seconds=GRACE_SECONDS + _KILL_AFTER_SECONDS,
            ended=partial(forget, directory),
        )


def _metrics_of_all(settings: Settings, directory: Path) -> AbstractContextManager[None]:
    metrics = SharedMetrics(directory)
    return metrics_served(metrics.render, host=settings.metrics_host, port=settings.metrics_port)


@contextmanager
def _reserved(address: str, port: int) -> Iterator[None]:
    """Hold the port, without listening, while processes that listen come and go."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address, port))
        yield


def _announce(address: str, port: int, ready: Callable[[str], None]) -> None:
    """Tell the URL once one of the processes takes connections."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection((reachable(address), port), timeout=1):
            ready(url_of(address, port))
            return
        time.sleep(0.05)
