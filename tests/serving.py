"""Starts `dedup2d serve` as a process of its own, on a free port of loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from attrs import define

START_SECONDS = 30.0


@define
class Served:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client for it; close it after use."""
        headers = {"X-API-Key": key} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serving(
    data_dir: Path,
    variables: Mapping[str, str] | None = None,
    *,
    command: Sequence[str] = ("serve",),
    port_variable: str = "DEDUP2D_PORT",
) -> Iterator[Served]:
    """Serve *data_dir* until the block ends; the log is in `serve.log` beside it."""
    port, log = free_port(), data_dir.parent / "serve.log"
    env = {
        **os.environ,
        "DEDUP2D_DATA_DIR": str(data_dir),
        # Tests are faster than any client.
        "DEDUP2D_MAX_REQUESTS_PER_SECOND_PER_TENANT": "0",
        port_variable: str(port),
        **(variables or {}),
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dedup2d", *command], env=env, stdout=output, stderr=output
        )
    served = Served(process, port, log)
    try:
        wait_until_live(served)
        yield served
    finally:
        if process.poll() is None:
            try:
                served.stop()
            except subprocess.TimeoutExpired:
                served.kill()


def wait_until_live(served: Served) -> None:
    """Wait until the service answers."""
    end = time.monotonic() + START_SECONDS
    with served.client() as client:
        while time.monotonic() < end:
            if served.process.poll() is not None:
                raise AssertionError(f"the service ended at its start:\n{served.log.read_text()}")
            try:
                if client.get("/livez").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    raise AssertionError(f"the service did not answer:\n{served.log.read_text()}")


@contextmanager
def vision_serving(
    data_dir: Path, variables: Mapping[str, str] | None = None, *, options: Sequence[str] = ()
) -> Iterator[Served]:
    """Run `dedup2d vision serve` on *data_dir* until the block ends."""
    command = ("vision", "serve", *options)
    with serving(data_dir, variables, command=command, port_variable="DEDUP2D_VISION_PORT") as served:
        yield served
