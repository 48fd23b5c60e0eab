"""The sockets under the server: what the kernel limits for us, and what we cut ourselves."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

from dedup2d.errors import ConfigurationError

__all__ = ["BACKLOG", "connection_limit", "cut_connection", "free_address", "listen"]

BACKLOG = 1024
"""Connections that may wait to be accepted."""

_MAX_CONNECTIONS = 4096
_UNTAKEN_MILLISECONDS = 30_000
_UNSENT_BYTES = 128 * 1024


def connection_limit() -> int:
    """
    Return how many connections may be open at once; more wait to be accepted.

    Granian's own limit is 128, which as many silent clients would use up. Half of the files that the
    process may open are left to uploads, the index and child processes.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, max(64, soft // 2))


def listen(address: str, port: int) -> socket.socket:
    """
    Return a bound socket whose connections the kernel closes when a client takes nothing for 30 s.

    Connections inherit the options. The time-out (RFC 5482) is the only end of a connection whose last
    answer nobody reads: the server has no hand in it once the answer is made. What is unsent stays
    small too: else the kernel would hold megabytes for each of them.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # vision servers share theirs
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in (
            ("TCP_USER_TIMEOUT", _UNTAKEN_MILLISECONDS),
            ("TCP_NOTSENT_LOWAT", _UNSENT_BYTES),
        ):
            if (number := getattr(socket, option, None)) is not None:
                listener.setsockopt(socket.IPPROTO_TCP, number, value)
        listener.setblocking(False)
        listener.bind((address, port))
    except BaseException:
        listener.close()
        raise
    return listener


def cut_connection(client: tuple[str, int] | None) -> None:
    """
    Close this process's connection with *client*, whatever is still to be sent.

    ASGI has no word for it, and a server waits for ever until its own buffer is taken. The socket is
    looked up among the files of the process: rare enough.
    """
    if client is None:
        return
    for file in Path("/dev/fd").iterdir():
        # No socket, not connected, or closed in the meantime: then it is not the one.
        with suppress(OSError), _copy_of(int(file.name)) as copy:
            if copy.getpeername()[:2] == tuple(client)[:2]:
                copy.shutdown(socket.SHUT_RDWR)


def _copy_of(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def free_address(host: str, port: int, *, setting: str = "DEDUP2D_HOST:DEDUP2D_PORT") -> tuple[str, int]:
    """
    Return the address and port to listen on; port 0 becomes a free one.

    A taken port can be shared with its owner, which must not happen unseen, so this looks first.

    Raises:
        ConfigurationError: *host* is no address of this machine, or something listens there.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
            address, found = probe.getsockname()[:2]
            return address, found
    except OSError as error:
        reason = error.strerror or "it cannot be used"
        raise ConfigurationError(
            setting, f"{host}:{port}", f"an address that is free ({reason.lower()})"
        ) from None
