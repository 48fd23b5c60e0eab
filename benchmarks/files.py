"""
Measures the file stores of the table in `tests/backends.py`, and prints a Markdown table.

Run from the root of the repository:

    python -m benchmarks.files [--files 300] [--size 200000] [--tasks 1 16] [--directory DIR]

For each store: `--files` files of `--size` bytes are put, read and deleted, by one task and by many at
once; then they are listed. The S3 server is that of the tests, on this machine; it shares the cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import anyio

from benchmarks.stores import Call, share, timed
from dedup2d.protocols import FileStore
from tests.backends import FILE_STORES

_CHUNK = 64 * 1024


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Give the bytes as an HTTP server does."""
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def calls(store: FileStore, data: bytes, number: int) -> dict[str, Call]:
    """Return the calls in the life of *number* files, in their order."""

    async def get(each: int) -> None:
        size = sum([len(chunk) async for chunk in store.open(f"tenant/{each:06}")])
        assert size == len(data)

    return {
        "put": lambda each: store.put(f"tenant/{each:06}", chunks(data)),
        "get": get,
        "list all": lambda _: store.list(limit=number),
        "delete": lambda each: store.delete(f"tenant/{each:06}"),
    }


async def measure(name: str, store: FileStore, options: argparse.Namespace) -> None:
    data = Random(1).randbytes(options.size)
    for tasks in options.tasks:
        for step, call in calls(store, data, options.files).items():
            number = min(options.files, 20) if step == "list all" else options.files
            seconds, waits = await timed(call, number, tasks=tasks)
            figures = f"{number / seconds:,.0f} | {share(waits, 0.5):.2f} | {share(waits, 0.95):.2f}"
            print(f"| {name} | {tasks} | {step} | {figures} |", flush=True)


async def run(options: argparse.Namespace) -> None:
    print("| store | tasks | call | per second | p50 ms | p95 ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, make in FILE_STORES.items():
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            async with make(time.time, Path(directory)) as store:
                await measure(name, store, options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--size", type=int, default=200_000)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--directory", type=Path, help="where files are made; the disk that is measured")
    anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
