"""
Runs the app until a signal stops it.

Granian runs inside this process and event loop, with one worker: the jobs run in the same process, and a
second worker would open their database and index a second time. HTTP/1.1 only; a proxy in front speaks the
rest. (uvicorn would do too, at half the rate, but it ends with status 143 after a SIGTERM.)
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NoReturn

import anyio
import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp

from dedup2d.errors import InternalError
from dedup2d.keys.build import build_key_ring
from dedup2d.metrics import PrometheusMetrics
from dedup2d.metrics_server import metrics_served
from dedup2d.service import Dedup2D
from dedup2d.settings import Settings
from dedup2d_http.app import create_app
from dedup2d_http.auditing import audit_start
from dedup2d_http.auth import check_exposure
from dedup2d_http.connections import BACKLOG, connection_limit, free_address, listen
from dedup2d_http.counters import build_counters
from dedup2d_http.lingering import Lingering
from dedup2d_http.sending import Sending
from dedup2d_http.stopping import Stopping

__all__ = ["GRACE_SECONDS", "reachable", "run", "serve", "serve_app", "url_of"]

GRACE_SECONDS = 20.0
"""How long requests under way may take once the service was asked to stop; orchestrators kill after 30 s."""

_START_SECONDS = 30.0
_CUT_SECONDS = 3.0
_HEADER_MILLISECONDS = 15_000
_BUFFER_BYTES = 128 * 1024  # the least that hyper takes is 8 KiB; it bounds a request's headers too

# Granian would set up handlers of its own; this lets its errors pass to ours.
_GRANIAN_LOGS = {
    "formatters": {},
    "handlers": {},
    "loggers": {
        "_granian": {"handlers": [], "propagate": True},
        "granian.access": {"handlers": [], "propagate": False},
    },
}

log = structlog.get_logger("dedup2d.http")


def run(settings: Settings, *, on_ready: Callable[[str], None] | None = None) -> None:
    """
    Serve until SIGTERM or SIGINT; *on_ready* is told the service's URL once it answers.

    Raises: as `serve`.
    """
    anyio.run(lambda: serve(settings, on_ready=on_ready), backend="asyncio")


def leave() -> NoReturn:
    """
    End the process with status 0, at once: to be called after `run`, with nothing left to do.

    Threads of Granian may still run. They abort the process if they meet an interpreter that is going away.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """
    Serve until SIGTERM or SIGINT, then let requests under way end and give running jobs back.

    Raises:
        ConfigurationError: the address is taken, or open to other machines without keys.
        MissingExtraError: a back end's packages are not installed.
    """
    metrics, stopping = PrometheusMetrics(), Stopping()
    unopened = Dedup2D.from_settings(settings, observer=metrics)
    async with AsyncExitStack() as stack:
        stack.enter_context(
            metrics_served(metrics.render, host=settings.metrics_host, port=settings.metrics_port)
        )
        keys = await stack.enter_async_context(build_key_ring(settings))
        counters = await stack.enter_async_context(build_counters(settings))
        check_exposure(settings.host, keyed=await keys.needed())
        address, port = free_address(settings.host, settings.port)
        async with unopened as service, service.watched():
            audit_start(settings)
            app = create_app(
                service, settings, keys=keys, counters=counters, metrics=metrics, stopping=stopping
            )
            await serve_app(app, address, port, stopping, on_ready=on_ready, grace_seconds=grace_seconds)


async def serve_app(
    app: ASGIApp,
    address: str,
    port: int,
    stopping: Stopping,
    *,
    on_ready: Callable[[str], None] | None,
    grace_seconds: float,
) -> None:
    """Serve *app*; a first signal stops it within *grace_seconds*, a second one at once."""
    server, ended = _server(Lingering(Sending(app)), address, port), anyio.Event()
    # A task of its own: cancelled from outside, Granian would leave its threads with a closed loop.
    serving = asyncio.ensure_future(server.serve())
    serving.add_done_callback(lambda _: ended.set())
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await anext(signals)
                log.info("stopping", grace_seconds=grace_seconds)
                stopping.begin()
                server.stop()
                with anyio.move_on_after(grace_seconds):
                    await anext(signals)
                stopping.cut()
                await anyio.sleep(_CUT_SECONDS)
                log.warning("connections did not close in time")
                ended.set()

            tasks.start_soon(stop)
            tasks.start_soon(_announce, address, port, on_ready)
            await ended.wait()
            tasks.cancel_scope.cancel()
    if serving.done():
        serving.result()
    if not stopping.begun:
        raise InternalError("the HTTP server ended by itself: see the log")


class _Server(Server):
    """Granian on a socket of ours: its own lets a connection that nobody reads from stay for ever."""

    def _init_shared_socket(self) -> None:
        listener = listen(self.bind_addr, self.bind_port)
        self._ssp = None
        self._shd: Any = SocketHolder(listener.detach(), False, BACKLOG)  # type: ignore[call-arg]  # granian is not typed so


def _server(app: ASGIApp, address: str, port: int) -> Any:
    return _Server(
        app,
        address,
        port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_MILLISECONDS, max_buffer_size=_BUFFER_BYTES),
        websockets=False,
        backlog=BACKLOG,
        backpressure=connection_limit(),
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOGS,
    )


async def _announce(address: str, port: int, on_ready: Callable[[str], None] | None) -> None:
    """Tell the URL once connections are taken: Granian itself does not say when."""
    with anyio.fail_after(_START_SECONDS):
        while True:
            try:
                stream = await anyio.connect_tcp(reachable(address), port)
            except OSError:
                await anyio.sleep(0.01)
            else:
                await stream.aclose()
                break
    url = url_of(address, port)
    log.info("listening", url=url)
    if on_ready:
        on_ready(url)


def url_of(address: str, port: int) -> str:
    """Return the URL of a server that listens there."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def reachable(address: str) -> str:
    """Return where a socket that listens on *address* can be reached: all addresses means any."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared, not bound
