"""The machine and the library versions that a measurement was made with, and what it cost in memory."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import threading
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["MemoryMeter", "conditions"]

_PACKAGES = (
    "dedup2d",
    "numpy",
    "opencv-python-headless",
    "ezdxf",
    "pypdfium2",
    "resvg-py",
    "ImageHash",
    "pdqhash",
)
_PROC = Path("/proc")


def conditions() -> dict[str, str]:
    """Return what a reader must know to repeat or to compare."""
    memory = _field(_PROC / "meminfo", "MemTotal")
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "commit": _commit(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 1024**2:.0f} GiB",
        "load at start": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return answer.stdout.strip() or "unknown"


def _field(path: Path, name: str) -> int:
    """Return a field of a /proc file in KiB."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


class MemoryMeter:
    """
    Watches the memory of this process and of its descendants while it is entered.

    Proportional set sizes are summed, so that pages which processes share count once (Linux).
    """

    def __init__(self, interval: float = 0.25) -> None:
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_parent = 0.0
        self.peak_child = 0.0
        self.peak_total = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            own = _pss(os.getpid())
            children = [_pss(pid) for pid in _descendants(os.getpid())]
            self.peak_parent = max(self.peak_parent, own)
            self.peak_child = max([self.peak_child, *children])
            self.peak_total = max(self.peak_total, own + sum(children))


def _pss(pid: int) -> float:
    """Return the proportional set size in MiB; 0 of a process that is gone."""
    try:
        return _field(_PROC / str(pid) / "smaps_rollup", "Pss") / 1024
    except OSError:
        return 0.0


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    except OSError:
        pass
    return found
