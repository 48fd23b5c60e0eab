"""
Metrics on an address of their own, which answers whatever the rest of the process is busy with.

It runs in threads and knows one route. As it may be reached by more than Prometheus, connections are few,
short, and cut when they are slow.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from dedup2d.errors import ConfigurationError

__all__ = ["metrics_served"]

log = logging.getLogger("dedup2d.metrics")

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_MOST_CONNECTIONS = 16
_SECONDS = 10.0
"""How long one connection may last; Prometheus gives up after as long."""
_LOOK_SECONDS = 0.25


@contextmanager
def metrics_served(
    render: Callable[[], bytes],
    *,
    host: str,
    port: int | None,
    setting: str = "DEDUP2D_METRICS_HOST:DEDUP2D_METRICS_PORT",
) -> Iterator[None]:
    """
    Serve what *render* gives at `/metrics`, for as long as the block lasts; without a *port*, nowhere.

    Raises:
        ConfigurationError: the address is taken, or none of this machine; names *setting*.
    """
    if port is None:
        yield
        return
    try:
        server = _Server(render, host, port)
    except OSError as error:
        reason = (error.strerror or "it cannot be used").lower()
        raise ConfigurationError(setting, f"{host}:{port}", f"an address that is free ({reason})") from None
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), name="metrics", daemon=True)
    thread.start()
    log.info("metrics are served", extra={"host": host, "port": port})
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        server.cut(at=None)
        thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(self, render: Callable[[], bytes], host: str, port: int) -> None:
        self.render = render
        self._ends: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]  # an IPv6 address has four parts

    def verify_request(self, request: socket.socket | tuple[bytes, socket.socket], _: object) -> bool:
        """Take the connection if there are not too many."""
        assert isinstance(request, socket.socket)
        with self._lock:
            if len(self._ends) >= _MOST_CONNECTIONS:
                return False
            self._ends[request] = time.monotonic() + _SECONDS
        return True

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        with self._lock:
            self._ends.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut the connections that have lasted too long; called again and again."""
        self.cut(at=time.monotonic())

    def cut(self, *, at: float | None) -> None:
        with self._lock:
            for request, end in self._ends.items():
                if at is None or end <= at:
                    with suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, _: object, client: object) -> None:
        log.debug("a connection to the metrics broke off", extra={"client": str(client)})


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "dedup2d"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"
    timeout = _SECONDS

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "the metrics are at /metrics")
            return
        try:
            text = self.server.render()
        except Exception:
            log.exception("the metrics could not be rendered")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TEXT)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815 - the name that it has there

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        pass
