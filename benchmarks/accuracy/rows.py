"""Answers as rows on disk, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from benchmarks.kept import cut_half_line

__all__ = ["Answer", "Hit", "Rows", "same_setup"]


@frozen(kw_only=True)
class Hit:
    """One drawing of an answer. `score` is similarity, or minus the distance in bits of a peer."""

    id: str
    score: float
    relation: str = ""
    verdict: str = ""
    confidence: float = 0.0


@frozen(kw_only=True)
class Answer:
    """What `engine` answered to the query `key`; `hits` best first."""

    engine: str
    key: str
    transform: str
    query: str
    about: str
    group: str
    seconds: float
    hits: tuple[Hit, ...] = ()
    error: str = ""
    levels: dict[str, int] = field(factory=dict)


class Rows:
    """A JSONL file of answers; a line that a crash cut off is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Answer]:
        if not self._path.is_file():
            return
        with self._path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n") and line.strip():
                    row: dict[str, Any] = json.loads(line)
                    yield Answer(**{**row, "hits": tuple(Hit(**hit) for hit in row["hits"])})

    def keys(self, engine: str) -> set[str]:
        """Return the queries that *engine* has answered."""
        return {answer.key for answer in self if answer.engine == engine}

    def add(self, answer: Answer) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(answer)) + "\n")

    def mend(self) -> None:
        """Cut off a half-written last line."""
        if self._path.is_file():
            cut_half_line(self._path)


def same_setup(work: Path, setup: dict[str, Any]) -> None:
    """
    Hold that the rows in *work* were made with the same *setup*; note it if there are none.

    Raises:
        SystemExit: they were made with another.
    """
    note = work / "setup.json"
    if note.is_file() and (kept := json.loads(note.read_text())) != setup:
        other = {name: kept.get(name) for name in setup if kept.get(name) != setup[name]}
        raise SystemExit(
            f"{work} holds results of another set-up ({other}): give another --work, or empty it"
        )
    note.write_text(json.dumps(setup, indent=1))
