"""Answers of a long measurement, kept in a file of JSON lines, so that it goes on where it was ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

__all__ = ["answered", "cut_half_line"]


def answered(
    names: Sequence[str], measured: Callable[[list[str]], Iterable[Any]], file: Path | None
) -> Iterator[tuple[str, Any]]:
    """
    Yield names and answers: those that *file* has, and those of *measured*, which are added there.

    Answers are what JSON can hold; those of the file come with lists for tuples.
    """
    known = dict(_lines(file)) if file and file.exists() else {}
    yield from ((name, known[name]) for name in names if name in known)
    missing = [name for name in names if name not in known]
    with file.open("a") if file else nullcontext() as kept:
        for name, answer in zip(missing, measured(missing), strict=True):
            if kept:
                print(json.dumps([name, answer]), file=kept, flush=True)
            yield name, answer


def cut_half_line(file: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    data = file.read_bytes()
    file.write_bytes(data[: data.rfind(b"\n") + 1])


def _lines(file: Path) -> Iterator[tuple[str, Any]]:
    cut_half_line(file)
    for line in file.read_text().splitlines():
        name, answer = json.loads(line)
        yield name, answer
