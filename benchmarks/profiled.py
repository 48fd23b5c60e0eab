"""
Runs `dedup2d` under cProfile, for `benchmarks.deployment`: `python -m benchmarks.profiled FILE COMMAND...`.

cProfile makes all Python code slower by about the same factor, so shares say more than seconds.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

from dedup2d.cli import main

__all__ = ["shares"]

_PACKAGE = re.compile(r"site-packages/(\w+)|/src/(dedup2d\w*)/|/python[0-9.]+/(asyncio|logging|json)")
_WAITING = "waiting"


def run(place: Path, command: list[str]) -> None:
    """Run `dedup2d` with *command* in this process and leave the profile at *place*."""
    profiler = cProfile.Profile()

    def leave(code: int) -> NoReturn:
        profiler.dump_stats(place)
        os.kill(os.getpid(), 9)
        raise SystemExit(code)

    os._exit = leave  # a service ends itself at once, and the profile with it
    try:
        profiler.runcall(main, command)
    finally:
        profiler.dump_stats(place)


def shares(place: Path) -> dict[str, float]:
    """Return the percentage of its busy time that each package took itself."""
    spent: Counter[str] = Counter()
    for (file, _, function), (_, _, own, _, _) in pstats.Stats(str(place)).stats.items():  # type: ignore[attr-defined]  # typeshed lacks it
        spent[_owner(file, function)] += own
    spent.pop(_WAITING, None)
    busy = sum(spent.values())
    return {name: round(100 * seconds / busy, 1) for name, seconds in spent.most_common(10)}


def _owner(file: str, function: str) -> str:
    if file == "~":
        if "epoll" in function or "acquire" in function:
            return _WAITING
        if any(word in function for word in ("socket", "granian", "posix")):
            return "system calls (sockets, files)"
        return "built-in functions"
    found = _PACKAGE.search(file)
    return next(filter(None, found.groups())) if found else "rest of Python"


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
