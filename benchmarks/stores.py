"""
Measures the job stores of the table in `tests/backends.py`, and prints a Markdown table.

Run from the root of the repository:

    python -m benchmarks.stores [--jobs 500] [--finished 20000] [--tasks 8] [--directory DIR]

For each store: `--jobs` jobs are admitted, claimed, kept alive by a heartbeat and finished with
a small result, first one call after the other, then by `--tasks` tasks at once; again when the store
holds `--finished` finished jobs besides. Times are per call, as the caller waits for it.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from dedup2d.protocols import JobStore
from dedup2d.types import Job, JobStatus, SearchResult
from tests.backends import JOB_STORES

Call = Callable[[int], Awaitable[Any]]

PLACES = 10**9
WHOLE = ("list 50", "counts", "sweep")
"""Calls that look at the store as a whole, of which fewer are made."""


def make_job(name: str, number: int) -> Job:
    return Job(
        job_id=f"{name}-{number:08}",
        tenant_id="tenant",
        file_key=f"tenant/{name}-{number}",
        file_name="drawing.dxf",
        file_hash="0" * 64,
        file_size=100_000,
        created_at=time.time(),
        idempotency_key=f"{name}-{number}",
    )


def calls(store: JobStore, name: str) -> dict[str, Call]:
    """Return the calls in the life of jobs that are called *name*, in their order."""

    def job_id(number: int) -> str:
        return f"{name}-{number:08}"

    def finish(number: int) -> Awaitable[Job]:
        outcome = SearchResult(file_hash="0" * 64)
        return store.finish(
            job_id(number), "token", status=JobStatus.COMPLETED, ttl_seconds=3600, result=outcome
        )

    return {
        "admit": lambda number: store.admit(
            make_job(name, number), max_jobs=PLACES, max_jobs_per_tenant=PLACES
        ),
        "claim": lambda number: store.claim("token", lease_seconds=60, job_id=job_id(number)),
        "heartbeat": lambda number: store.heartbeat(job_id(number), "token", lease_seconds=60),
        "finish": finish,
        "get": lambda number: store.get(job_id(number), "tenant"),
        "list 50": lambda _: store.list("tenant", limit=50),
        "counts": lambda _: store.counts(),
        "sweep": lambda _: store.sweep(max_losses=3, ttl_seconds=3600),
    }


async def timed(call: Call, number: int, *, tasks: int) -> tuple[float, list[float]]:
    """Make the *call* for 0 to *number* by so many *tasks*; return all seconds, and those of each."""
    waits: list[float] = []
    numbers = iter(range(number))

    async def work() -> None:
        for each in numbers:
            start = time.perf_counter()
            await call(each)
            waits.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(work)
    return time.perf_counter() - start, waits


def share(waits: list[float], part: float) -> float:
    """Return the milliseconds within which the *part* of all *waits* ended."""
    return sorted(waits)[max(0, math.ceil(part * len(waits)) - 1)] * 1000


async def measure(name: str, store: JobStore, options: argparse.Namespace, *, finished: int) -> None:
    for tasks in (1, options.tasks):
        for step, call in calls(store, f"{finished}-{tasks}").items():
            number = min(options.jobs, 100) if step in WHOLE else options.jobs
            seconds, waits = await timed(call, number, tasks=tasks)
            rate, p50, p95 = number / seconds, share(waits, 0.5), share(waits, 0.95)
            figures = f"{rate:,.0f} | {p50:.2f} | {p95:.2f}"
            print(f"| {name} | {finished} | {tasks} | {step} | {figures} |", flush=True)


async def run(options: argparse.Namespace) -> None:
    print("| store | finished jobs | tasks | call | per second | p50 ms | p95 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, make in JOB_STORES.items():
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            async with make(time.time, Path(directory)) as store:
                await measure(name, store, options, finished=0)
                await fill(store, options.finished)
                await measure(name, store, options, finished=options.finished)


async def fill(store: JobStore, number: int) -> None:
    steps = calls(store, "filled")
    for each in range(number):
        for step in ("admit", "claim", "finish"):
            await steps[step](each)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--finished", type=int, default=20_000)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--directory", type=Path, help="where files are made; the disk that is measured")
    anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
