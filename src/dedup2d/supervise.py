"""
Several processes of one command, kept running until a signal stops them all.

One event loop uses one core. A supervisor starts as many copies of a command as there are cores to use,
starts again those that die, and ends when all have ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
from anyio.abc import Process
from attrs import define, field, frozen

from dedup2d import _child
from dedup2d.errors import InternalError, InvalidParameterError

__all__ = ["Command", "Restarts", "send_signal", "supervise"]

Command = Sequence[str] | Callable[[int], Sequence[str]]
"""A program and its arguments, or what gives them for the copy of a number (from 0)."""

log = logging.getLogger("dedup2d.supervise")

_LAST_SECONDS = 3.0
_HOPELESS = frozenset({2, 126, 127})  # wrong usage or setting; cannot be executed; not found


@frozen(kw_only=True)
class Restarts:
    """
    When a copy that died is started again; all times in seconds.

    Args:
        first_seconds: pause before the first start again; it doubles each time.
        longest_seconds: longest pause.
        well_seconds: a copy that has run for so long has started well: the pause is short again.
        tries: so many copies that end with a code of wrong usage or a wrong setting (2, 126, 127), before
            one has started well, end all.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    well_seconds: float = 10.0
    tries: int = 3

    def pause(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row (at least 1)."""
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30))


def supervise(
    arguments: Command,
    *,
    processes: int,
    grace_seconds: float,
    restarts: Restarts | None = None,
    ended: Callable[[int], None] = lambda _: None,
) -> int:
    """
    Run copies of a command until SIGTERM or SIGINT, and return the exit code.

    Copies that end by themselves are started again, after a pause that grows. The first signal is passed
    on to all; who has not ended *grace_seconds* later is killed. A second signal is passed on too, and
    leaves them 3 seconds; a third leaves none. If the supervisor itself is killed, so are its copies
    (Linux). Call it from the main thread: signals come there.

    Args:
        arguments: the command; a function is asked for each copy by its number.
        processes: how many copies, at least 1.
        grace_seconds: how long copies may take to end.
        restarts: when copies are started again.
        ended: told the number of each copy that has ended, before one takes its place.

    Returns:
        0 if all ended after a signal with 0 (or by that signal, having no handler for it); else the first
        other exit code, as a shell says it (128 and the number of the signal that killed). If no copy
        can start for wrong usage or a wrong setting: the code by which they say so.

    Raises:
        InvalidParameterError: *processes* is less than 1.
        InternalError: the system lets no process be started.
    """
    if processes < 1:
        raise InvalidParameterError("processes", processes, "a whole number of at least 1")
    command = arguments if callable(arguments) else lambda _: arguments
    copies = _Copies(command=command, restarts=restarts or Restarts(), ended=ended)
    return anyio.run(copies.run, processes, grace_seconds, backend="asyncio")


@define(kw_only=True, eq=False)
class _Copies:
    command: Callable[[int], Sequence[str]]
    restarts: Restarts
    ended: Callable[[int], None]
    _running: dict[int, Process] = field(factory=dict, init=False)
    _signal: signal.Signals | None = field(default=None, init=False)
    _stopping: anyio.Event = field(factory=anyio.Event, init=False)
    _codes: list[int] = field(factory=list, init=False)
    _hopeless: int = field(default=0, init=False)
    _started_well: bool = field(default=False, init=False)

    async def run(self, processes: int, grace_seconds: float) -> int:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, grace_seconds)
                async with anyio.create_task_group() as copies:
                    for number in range(processes):
                        copies.start_soon(self._keep, number)
                tasks.cancel_scope.cancel()
        return next(filter(None, self._codes), 0)

    async def _keep(self, number: int) -> None:
        """Run one copy again and again until all are to stop."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once(number)
            self.ended(number)
            well = time.monotonic() - began >= self.restarts.well_seconds
            self._started_well |= well
            failures = 1 if well else failures + 1
            if self._stopping.is_set() or self._is_hopeless(code):
                self._codes.append(self._meaning(code))
                return
            pause = self.restarts.pause(failures)
            log.warning(
                "a process ended and is started again",
                extra={"copy": number, "exit_code": code, "pause_seconds": pause},
            )
            with anyio.move_on_after(pause):
                await self._stopping.wait()

    async def _run_once(self, number: int) -> int:
        process = await _start(self.command(number))
        self._running[number] = process
        try:
            if self._signal:  # it came while the process was being started
                send_signal(process, self._signal)
            return await process.wait()
        finally:
            del self._running[number]
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()

    def _is_hopeless(self, code: int) -> bool:
        """Whether it makes no sense to start again: what is wrong is what all copies were given."""
        if code not in _HOPELESS or self._started_well:
            return False
        self._hopeless += 1
        if self._hopeless < self.restarts.tries:
            return False
        log.error("no process can start: all are stopped", extra={"exit_code": code})
        self._pass_on(signal.SIGTERM)
        return True

    async def _obey(self, signals: AsyncIterator[signal.Signals], grace_seconds: float) -> None:
        self._pass_on(await anext(signals))
        log.info("stopping", extra={"grace_seconds": grace_seconds, "processes": len(self._running)})
        with anyio.move_on_after(grace_seconds):
            self._pass_on(await anext(signals))
            with anyio.move_on_after(_LAST_SECONDS):
                await anext(signals)
        log.warning("processes did not end in time and are killed", extra={"processes": len(self._running)})
        self._send_to_all(signal.SIGKILL)

    def _pass_on(self, number: signal.Signals) -> None:
        self._signal = number
        self._stopping.set()
        self._send_to_all(number)

    def _send_to_all(self, number: signal.Signals) -> None:
        for process in self._running.values():
            send_signal(process, number)

    def _meaning(self, code: int) -> int:
        """Return *code* as a shell says it; 0 for a copy that ended by the signal it was sent."""
        if self._signal and code in (-self._signal, 128 + self._signal):
            return 0
        return 128 - code if code < 0 else code


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process that may be ending."""
    # Not `process.send_signal`: up to Python 3.12 it reaps a process that has just ended, and asyncio, which
    # no longer finds it, reports 255 as its exit code (https://github.com/python/cpython/issues/87744).
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def _start(command: Sequence[str]) -> Process:
    # A session of its own: a terminal's Ctrl-C would reach the copies as well as the supervisor, which
    # passes it on, and they would take the two for a wish to end at once.
    boot = [sys.executable, "-I", "-S", str(Path(_child.__file__)), str(os.getpid())]
    try:
        return await anyio.open_process(
            [*boot, *command], stdin=subprocess.DEVNULL, stdout=None, stderr=None, start_new_session=True
        )
    except OSError as error:
        raise InternalError(f"a process could not be started: {error.strerror}") from error
