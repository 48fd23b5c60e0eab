"""
Measures what indexing and searching cost: seconds, bytes on disk, memory.

    python -m benchmarks.speed [--corpus DIR] [--queries N] [--work DIR] [--one-core]

Indexes a corpus (generated samples if none is given) into an empty index, then asks one query after the
other in each mode. Writes `speed.md` and `speed.json` into the work folder. The index that
it leaves there can be used by `benchmarks.accuracy` with the same `--work`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import anyio.to_thread

from benchmarks.accuracy.queries import Query
from benchmarks.corpus import Entry, balanced, generated, load
from benchmarks.engine import TENANT, index, of_bytes
from benchmarks.machine import MemoryMeter, conditions
from dedup2d.types import Mode, SearchParams
from dedup2d.vision.embedded import EmbeddedVision

TRANSFORMS = ("reencoded", "scanned", "cropped_70")
"""An easy, a usual and a hard query."""


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.one_core:
        # children inherit it: a search then costs the sum of what its processes do
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    samples = options.work / "samples"
    if options.corpus:
        corpus = load(options.corpus, sources=options.sources)
    else:
        corpus = generated(samples, parts=options.parts, seed=0)
    stated = {
        "corpus": corpus.name,
        "files": "sources where there are, else pictures" if options.sources else "pictures",
        "cores used": "1" if options.one_core else "all",
        **conditions(),
    }
    entries = list(corpus.entries.values())
    place = options.work / "index"
    if place.exists() and not options.searches_only:
        raise SystemExit(f"{place} is there already: give another --work, or --searches-only to keep it")
    results = [] if options.searches_only else [_indexing(place, entries, options.processes)]
    _note(options.work, stated, results)
    rng = random.Random(1)
    sheets = balanced([entry for entry in entries if entry.quality == "real"], options.queries, rng)
    results += _searching(place, sheets, options.processes)
    _note(options.work, stated, results)
    print((options.work / "speed.md").read_text())


def _indexing(place: Path, entries: Sequence[Entry], processes: int) -> dict[str, Any]:
    failed: dict[str, str] = {}
    spent: dict[str, float] = {}

    async def run() -> None:
        async with EmbeddedVision(place, processes=processes) as vision:
            failed.update(await index(vision, entries, workers=processes, seconds=spent))

    cpu, started = _cpu_seconds(), time.perf_counter()
    with MemoryMeter() as memory:
        anyio.run(run)
    seconds, burnt = time.perf_counter() - started, _cpu_seconds() - cpu
    count = len(entries) - len(failed)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return {
        "step": f"index {count} drawings, {processes} processes",
        "not indexed": len(failed),
        "seconds per drawing": seconds / count,
        **_by_format(entries, spent),
        "CPU seconds per drawing (= per core)": burnt / count,
        "bytes on disk per drawing": size / count,
        **_memory(memory),
    }


def _by_format(entries: Sequence[Entry], seconds: dict[str, float]) -> dict[str, float]:
    """Return the median seconds of one file by its suffix."""
    groups: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if entry.id in seconds:
            name = entry.path.name.removesuffix(".gz")
            groups[Path(name).suffix].append(seconds[entry.id])
    return {f"p50 s, {name}, {len(some)} files": median(some) for name, some in sorted(groups.items())}


def _cpu_seconds() -> float:
    """Return user and system time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _searching(place: Path, sheets: Sequence[Entry], processes: int) -> list[dict[str, Any]]:
    queries = [
        Query(transform=transform, entry=entry, about=entry.id)
        for entry in sheets
        for transform in TRANSFORMS
    ]
    results = []
    for mode in Mode:
        cpu = _cpu_seconds()
        with MemoryMeter() as memory:
            first, times, read = anyio.run(_ask, place, queries, mode, processes)
        burnt = _cpu_seconds() - cpu
        results.append(
            {
                "step": f"search, {mode}, {len(times)} queries one by one",
                "first search after opening, s": first,
                "p50 s": times[len(times) // 2],
                "p95 s": times[int(len(times) * 0.95)],
                "of it reading the query, p50 s": read[len(read) // 2],
                "CPU seconds per search, making the query and starting included": burnt / len(queries),
                **_memory(memory),
            }
        )
    return results


async def _ask(
    place: Path, queries: Sequence[Query], mode: Mode, processes: int
) -> tuple[float, list[float], list[float]]:
    times, reading = [], []
    async with EmbeddedVision(place, processes=processes) as vision:
        for query in queries:
            data, suffix = await anyio.to_thread.run_sync(query.data, 0)
            started = time.perf_counter()
            result = await vision.search(
                TENANT, of_bytes(data, f"query{suffix}"), SearchParams(mode=mode, compute_diff=False)
            )
            times.append(time.perf_counter() - started)
            reading.append(result.timing.read_ms / 1000)
    return times[0], sorted(times[1:]), sorted(reading[1:])


def _memory(memory: MemoryMeter) -> dict[str, float]:
    return {
        "peak MiB, parent": memory.peak_parent,
        "peak MiB, largest child": memory.peak_child,
        "peak MiB, all together": memory.peak_total,
    }


def _note(work: Path, stated: dict[str, str], results: list[dict[str, Any]]) -> None:
    (work / "speed.json").write_text(json.dumps({"conditions": stated, "results": results}, indent=1))
    lines = [f"- {name}: {value}" for name, value in stated.items()]
    for result in results:
        lines += ["", f"**{result['step']}**", "", "| measure | value |", "| --- | --- |"]
        lines += [f"| {name} | {_shown(value)} |" for name, value in result.items() if name != "step"]
    (work / "speed.md").write_text("\n".join(lines) + "\n")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def _options() -> argparse.Namespace:
    description = (__doc__ or "").split("\n")[1]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=description)
    parser.add_argument("--corpus", type=Path, help="folder with manifest.jsonl; default: generated samples")
    parser.add_argument("--work", type=Path, default=Path("build/speed"), help="index and reports")
    parser.add_argument("--queries", type=int, default=20, help=f"sheets, each asked {len(TRANSFORMS)} times")
    parser.add_argument("--parts", type=int, default=20, help="parts generated where no corpus is given")
    parser.add_argument("--searches-only", action="store_true", help="search the index that is there")
    parser.add_argument(
        "--sources", action="store_true", help="take DXF, PDF, ... files instead of their pictures"
    )
    parser.add_argument("--one-core", action="store_true", help="leave all processes one core together")
    parser.add_argument("--processes", type=int, default=2, help="child processes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
