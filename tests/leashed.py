"""Servers of the tests as processes that cannot outlive them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

__all__ = ["Leashed", "ServerNotStartedError", "answers", "popen", "run", "wait_until"]

START_SECONDS = 45.0
# "The parent" whose death ends a process is the thread that started it (prctl(2)), so that one must last.
_LASTING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starts-servers")
_STOP_SECONDS = 5.0

# PR_SET_PDEATHSIG = 1; the parent may be gone before it is set.
_LEASHED = """
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the tests are gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ServerNotStartedError(RuntimeError):
    """The server cannot be started; the message ends with its log."""


def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that lives until this one ends, whichever thread asks for it."""
    return _LASTING.submit(subprocess.Popen, *arguments, **options).result()


@define
class Leashed:
    """A server process in a group of its own, killed when its parent dies; its output goes to *log*."""

    arguments: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = popen(
                [sys.executable, "-ISc", _LEASHED, str(os.getpid()), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """Ask it to end, then make it; return when it is gone."""
        if not self.running():
            return
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        assert self.process is not None
        self.send(signal.SIGKILL)
        self.process.wait()

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"


def run(command: Sequence[str], **options: Any) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    if done.returncode:
        raise ServerNotStartedError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")
    return str(done.stdout)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(ready: Callable[[], bool], server: Leashed) -> None:
    """
    Return when *server* is *ready*.

    Raises:
        ServerNotStartedError: it ended, or is not ready within `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if not server.running() or time.monotonic() > deadline:
            raise ServerNotStartedError(f"{server.arguments[0]} does not answer: {server.end_of_log()}")
        time.sleep(0.05)
