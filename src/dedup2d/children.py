"""
Killable child processes for work that may hang, crash or eat memory.

Files come from strangers and the libraries that read them are written in C, C++ and Rust: only a
process of its own can be stopped for certain when one of them goes wrong. Unlike
`anyio.to_process`, a child does not run the parent's main script, is limited in memory from its first
line, dies with its parent and prints nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
from anyio import BrokenResourceError, CapacityLimiter, EndOfStream, IncompleteRead
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from dedup2d._child import LENGTH
from dedup2d.errors import InternalError, UnreadableDrawingError

__all__ = ["DEFAULT_MEMORY_BYTES", "Children"]

T = TypeVar("T")

DEFAULT_MEMORY_BYTES = 2 * 1024**3
"""Address space of one child; libraries alone map about 0.5 GiB of it without using it."""

_STARTS = 2  # tried: one may have been killed for what it has nothing to do with
_START_SECONDS = 60.0
_DEATH_SECONDS = 2.0
_GONE = (EndOfStream, IncompleteRead, BrokenResourceError, anyio.ClosedResourceError)
_BOOT = (
    "import json, sys; path, parent, memory = json.loads(sys.argv[1]);"
    " sys.path[:] = path; from dedup2d._child import main; main(parent, memory)"
)
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENCV_FOR_THREADS_NUM",
        "RAYON_NUM_THREADS",
    ),
    "1",
)


class Children:
    """
    A pool of child processes, as an async context manager.

    Children start when first needed, serve one call at a time and are kept for the next;
    one that was killed, ran out of memory or has grown large is replaced.

    Args:
        processes: most children at once; further calls wait.
        memory_bytes: address space of each child, None for no limit. Held where the system
            has `RLIMIT_AS` (Linux).
    """

    def __init__(self, *, processes: int = 2, memory_bytes: int | None = DEFAULT_MEMORY_BYTES) -> None:
        self._limiter = CapacityLimiter(processes)
        self._memory_bytes = memory_bytes
        self._all: set[_Child] = set()
        self._idle: list[_Child] = []
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        self._idle.clear()
        for child in tuple(self._all):
            await self._end(child)

    async def call(self, func: Callable[..., T], *args: object, seconds: float, name: str) -> T:
        """
        Run `func(*args)` in a child and return what it returns.

        Arguments and result are pickled. The time counts from when a child is free and has
        started. Cancelling the call kills the child.

        Args:
            func: a function of a module that the child can import.
            args: what to call it with.
            seconds: how long the call may take.
            name: what is worked on, for messages: the name of the file.

        Raises:
            UnreadableDrawingError: it took longer than *seconds*, needed more memory than a
                child may have, or the child died.
            InternalError: the child could not be started, or result or error could not be pickled.
            Exception: whatever *func* raised.
        """
        if not self._open:
            raise InternalError("Children is used outside of its `async with`")
        request = pickle.dumps((_module_of(func), func.__qualname__, args), pickle.HIGHEST_PROTOCOL)
        async with self._limiter:
            child = await self._idle_or_new()
            keep = False
            try:
                kind, value, retire = await self._ask(child, request, seconds, name)
                keep = not retire and self._open
            finally:
                if keep:
                    self._idle.append(child)
                else:
                    await self._end(child)
        return cast("T", self._outcome(kind, value, name))

    @property
    def free(self) -> int:
        """How many more calls would be served at once."""
        return int(self._limiter.available_tokens)

    async def _idle_or_new(self) -> _Child:
        """Return an idle child that is alive, or a new one: somebody may have killed one that had no work."""
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await self._end(child)
        return await self._start()

    async def _ask(self, child: _Child, request: bytes, seconds: float, name: str) -> tuple[str, Any, bool]:
        try:
            with anyio.fail_after(seconds):
                answer = await child.ask(request)
        except TimeoutError:
            raise UnreadableDrawingError(
                name,
                f"it took longer than {seconds:g} s, the limit of seconds:"
                " simplify the drawing or raise DEDUP2D_READ_MAX_SECONDS",
            ) from None
        except _GONE:
            raise UnreadableDrawingError(name, await self._cause_of_death(child)) from None
        try:
            return cast("tuple[str, Any, bool]", pickle.loads(answer))  # noqa: S301 - from our own child
        except Exception as error:
            raise InternalError(f"the answer of a child process cannot be unpickled: {error!r}") from error

    def _outcome(self, kind: str, value: Any, name: str) -> Any:
        if kind == "value":
            return value
        if kind == "error":
            raise value
        if kind == "memory":
            raise UnreadableDrawingError(name, f"it needs more memory than {self._memory}")
        raise InternalError(f"a child process could not send its result:\n{value}")

    async def _cause_of_death(self, child: _Child) -> str:
        how = await child.exited()
        return (
            f"the process that read it died (exit code {how}): the file crashes the reader"
            f" or needs more memory than {self._memory}"
        )

    @property
    def _memory(self) -> str:
        if self._memory_bytes is None:
            return "there is"
        return f"the limit of {self._memory_bytes / 1024**2:,.0f} MiB"

    async def _start(self) -> _Child:
        """Return a new child; one that somebody killed while it started says nothing of the next."""
        died: Exception | None = None
        for _ in range(_STARTS):
            try:
                return await self._started()
            except _GONE as error:
                died = error
            except TimeoutError as error:
                died = error
                break
        raise InternalError("a child process did not start: is the memory limit too low?") from died

    async def _started(self) -> _Child:
        try:
            child = await _Child.start(self._memory_bytes or 0)
        except OSError as error:
            raise InternalError(f"a child process could not be started: {error.strerror}") from error
        self._all.add(child)
        try:
            with anyio.fail_after(_START_SECONDS):
                await child.ask(pickle.dumps(("os", "getpid", ())))
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: _Child) -> None:
        self._all.discard(child)
        with anyio.CancelScope(shield=True):
            await child.kill()


def _module_of(func: Callable[..., object]) -> str:
    """Name the module a child can import *func* from; it does not run its parent's main script."""
    if func.__module__ != "__main__":
        return func.__module__
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        raise InternalError(
            f"{func.__qualname__} is defined in the main script: move it to a module of its own"
        )
    return str(spec.name)


class _Child:
    """One process and its two pipes."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._answers = BufferedByteReceiveStream(process.stdout)

    @classmethod
    async def start(cls, memory_bytes: int) -> _Child:
        boot = json.dumps([sys.path, os.getpid(), memory_bytes])
        return cls(
            await anyio.open_process(
                [sys.executable, "-c", _BOOT, boot],
                env={**os.environ, **_ONE_THREAD},
                stderr=subprocess.DEVNULL,
            )
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs; on Linux the system is asked, as the event loop hears of an end later."""
        if self._process.returncode is not None:
            return False
        if sys.platform == "linux":
            try:
                return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            except ChildProcessError:
                return False
        return True

    async def ask(self, request: bytes) -> bytes:
        await self._requests.send(LENGTH.pack(len(request)) + request)
        (length,) = LENGTH.unpack(await self._answers.receive_exactly(LENGTH.size))
        return await self._answers.receive_exactly(length)

    async def exited(self) -> int | None:
        """Wait a moment for a process that closed its pipe: killing a dead one would hide how it died."""
        with anyio.move_on_after(_DEATH_SECONDS):
            return await self._process.wait()
        return None

    async def kill(self) -> None:
        if self.alive:  # else its end is only to be heard of: signalling it could hide how it ended
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._process.aclose()
