"""The one table of back ends: a new one added here is checked, tested and measured with the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import mkdtemp

from dedup2d.files.local import LocalFileStore
from dedup2d.files.memory import MemoryFileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.protocols import FileStore, JobStore, Queue
from dedup2d.queues.memory import MemoryQueue

Clock = Callable[[], float]

JOB_STORES: dict[str, Callable[[Clock, Path], AbstractAsyncContextManager[JobStore]]] = {
    "memory": lambda clock, directory: MemoryJobStore(clock=clock),
    "sqlite": lambda clock, directory: SQLiteJobStore(fresh(directory) / "jobs.db", clock=clock),
}

FILE_STORES: dict[str, Callable[[Clock, Path], AbstractAsyncContextManager[FileStore]]] = {
    "memory": lambda clock, directory: MemoryFileStore(clock=clock),
    "local": lambda clock, directory: LocalFileStore(fresh(directory) / "files", clock=clock),
}

QUEUES: dict[str, Callable[[], AbstractAsyncContextManager[Queue]]] = {
    "memory": MemoryQueue,
}


def fresh(directory: Path) -> Path:
    """Return a new directory inside *directory*: every store of the table starts empty."""
    return Path(mkdtemp(dir=directory))
