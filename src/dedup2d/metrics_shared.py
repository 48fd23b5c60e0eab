"""
Metrics of several processes of one service, added up.

Each process keeps its values in files of one directory (the multiprocess mode of prometheus_client), under
its number rather than its process id: one that takes the place of another goes on with its totals, and there
are never more files. Whoever is asked adds up all of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dedup2d.errors import ConfigurationError, MissingExtraError
from dedup2d.metrics import VisionServerMetrics, rendered

try:
    from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, values
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError("http", "exporting metrics") from error

__all__ = ["MemberMetrics", "SharedMetrics", "forget", "shared_directory"]

_PREFIX = "dedup2d-metrics-"
_LOCK = "lock"
_KIB = 1024
_FILES = {
    "counter": 256 * _KIB,
    "histogram": 512 * _KIB,
    "gauge_livesum": 64 * _KIB,
    "gauge_max": 64 * _KIB,
    "gauge_mostrecent": 64 * _KIB,
}
"""
The files of one process and what they may take, which is many times what they do.

They are given their place on the disk at once: a process that writes into mapped memory for which a full
disk has no place is killed.
"""


@contextmanager
def shared_directory() -> Iterator[Path]:
    """
    Give a new directory for the metrics of processes, and delete it at the end.

    Those of supervisors that were killed are deleted too.

    Raises:
        ConfigurationError: there is no place for it.
    """
    try:
        _delete_abandoned()
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _locked(directory)
    except OSError as error:
        raise ConfigurationError(
            "TMPDIR", tempfile.gettempdir(), f"a directory that can be written ({error.strerror})"
        ) from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.close()


def _locked(directory: Path) -> BinaryIO:
    """Return the lock by which others see that the directory is in use: they see it once it is held."""
    unseen = directory / f".{_LOCK}"
    lock = unseen.open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unseen.rename(directory / _LOCK)
    return lock


def _delete_abandoned() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another's, or deleted in the meantime, or still in use: then it is not ours to delete.
        with suppress(OSError):
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            with (directory / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)


class MemberMetrics(VisionServerMetrics):
    """
    The metrics of one process, which shows those of all.

    Args:
        directory: where all keep theirs.
        number: of this process, from 0; no other that runs has it.

    Raises:
        ConfigurationError: there is no place for its files.
    """

    def __init__(self, directory: Path, number: int) -> None:
        try:
            for name, size in _FILES.items():
                _give_place(directory / f"{name}_{number}.db", size)
            _replace(directory / f"{number}.pid", str(os.getpid()).encode("ascii"))
        except OSError as error:
            raise ConfigurationError(
                "TMPDIR", str(directory.parent), f"a directory with more room ({error.strerror})"
            ) from None
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # its package has no types
        super().__init__(process=False)
        self._shared = SharedMetrics(directory)

    def render(self) -> bytes:
        return self._shared.render()


class SharedMetrics:
    """The metrics of all processes that keep theirs in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, path=str(directory))  # type: ignore[no-untyped-call]  # its package has no types
        PlatformCollector(registry=self._registry)
        self._registry.register(_Processes(directory))

    def render(self) -> bytes:
        """Return them added up, in Prometheus' text format."""
        return rendered(self._registry)


def forget(directory: Path, number: int) -> None:
    """Drop what was true of a process only while it ran."""
    with suppress(FileNotFoundError):
        (directory / f"{number}.pid").unlink()
    mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]  # its package has no types


def _give_place(path: Path, size: int) -> None:
    """Make a file of zeros; one that is there goes on with what it holds."""
    if not path.exists():
        _replace(path, bytes(size))


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that whoever is asked for the metrics meanwhile finds it whole or not at all."""
    unseen = path.with_name(f"{path.name}.new")
    unseen.write_bytes(content)
    unseen.rename(path)


def _process(process_id: str) -> Iterable[Metric]:
    return ProcessCollector(pid=lambda: process_id, registry=None).collect()


class _Processes(Collector):
    """What each process tells of itself, with its number as the label `process`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for file in sorted(self._directory.glob("*.pid")):
            with suppress(FileNotFoundError):
                for metric in _process(file.read_text(encoding="ascii")):
                    family = families.setdefault(
                        metric.name, Metric(metric.name, metric.documentation, metric.type)
                    )
                    for one in metric.samples:
                        family.add_sample(one.name, {**one.labels, "process": file.stem}, one.value)
        return families.values()
