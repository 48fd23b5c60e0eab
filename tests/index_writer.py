"""
A process that changes an index until it is killed; run by test_index_crash.

It prints a line for each change once that is reported done.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import anyio

from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.records import FileRecord, SheetRecord
from dedup2d.testing.plans import drawing_file, plan
from dedup2d.vision.embedded import EmbeddedVision

VERSION = 1
SHEETS = 3


def say(*words: object) -> None:
    line = " ".join(str(word) for word in words) + "\n"
    os.write(1, line.encode())  # in one piece, or a kill would leave half a line


def record(number: int, source: str | None = None) -> FileRecord:
    return FileRecord(file_hash=f"{number:064x}", file_name=f"{number}.tiff", size=number, source=source)


def sheets() -> list[SheetRecord]:
    return [
        SheetRecord(
            page=page,
            sheet="",
            format="tiff",
            width=10,
            height=10,
            fingerprint_version=VERSION,
            fingerprint=random.randbytes(9_000),
            ink=random.randbytes(30_000),
        )
        for page in range(1, SHEETS + 1)
    ]


def change(path: Path, start: int) -> None:
    """Add files, now and then replace one or remove a whole one, as fast as the disk can."""
    catalogue = Catalogue(path, fingerprint_version=VERSION)
    say("ready")
    for number in range(start, start + 100_000):
        ids, _ = catalogue.add(record(number), sheets())
        say("added", number, *ids)
        if number % 3 == 0:
            source = f"/plans/{start}/{number % 5}"
            ids, _ = catalogue.add(record(number + 500_000, source), sheets())
            say("added", source, *ids)
        if number % 4 == 0:
            for one in ids:
                say("removing", one)
                catalogue.remove(one)


async def add_plans(directory: Path, count: int) -> None:
    """Add real drawings through the embedded engine."""
    async with EmbeddedVision(directory, processes=1) as vision:
        say("ready")
        for seed in range(count):
            added = await vision.add("tenant", drawing_file(plan(seed), f"plan-{seed}.png"))
            say("added", seed, *added.drawing_ids)


if __name__ == "__main__":
    what, where, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if what == "change":
        change(where, number)
    else:
        anyio.run(add_plans, where, number)
