"""
Measures how finding candidates grows with the index: time, memory, disk and start.

    python -m benchmarks.growth [--index FILE] [--sizes N ...] [--work DIR]

Takes the fingerprints of an index (`catalogue.sqlite3`, such as benchmarks.speed leaves; generated samples if
none is given) and fills up with made-up ones: features of the real ones with some bits turned, in other
places, so that they are as alike and as unlike as those of one company's drawings. Each size is measured in
a process of its own, which asks for real drawings with an eighth of the bits turned. Writes `growth.md`
into the work folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from attrs import evolve

from benchmarks.corpus import generated
from benchmarks.machine import conditions
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.features import Features
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint, fingerprint
from dedup2d.engine.live import LiveCandidates
from dedup2d.engine.records import FileRecord, SheetRecord
from dedup2d.readers import read

BATCH = 500  # drawings added in one transaction
QUERIES = 40
TURNED = 0.125  # share of a query's bits


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    place = options.work / "growing"
    if place.exists():
        raise SystemExit(f"{place} is there already: give another --work")
    place.mkdir()
    real = _fingerprints(options.index) if options.index else _generated(options.work / "samples")
    results = []
    with Growing(place, real) as growing:
        for size in sorted(options.sizes):
            seconds = growing.fill(size)
            queries = [(key, one.to_bytes()) for key, one in _queries(real[:size])]
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:
                results.append({"drawings": size, **pool.apply(measured, (place, queries)), "fill": seconds})
            _note(options.work, results)
    print((options.work / "growth.md").read_text())


class Growing:
    """An index that is filled up, first with the real drawings."""

    def __init__(self, place: Path, real: Sequence[Fingerprint]) -> None:
        self._catalogue = _catalogue(place)
        self._live = LiveCandidates(self._catalogue, place / "segments")
        self._made = made_up(real)
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.close()
        self._catalogue.close()

    def fill(self, size: int) -> float:
        """Add drawings until there are *size*; return the CPU ms per drawing, making them up included."""
        before, started = self._size, time.process_time()
        while self._size < size:
            some = list(islice(self._made, min(BATCH, size - self._size)))
            self._catalogue.add(_file(self._size), [_sheet(page, one) for page, one in enumerate(some, 1)])
            self._size += len(some)
            while self._live.catch_up():
                pass
        self._live.close()
        return 1000 * (time.process_time() - started) / max(size - before, 1)


def made_up(real: Sequence[Fingerprint]) -> Iterator[Fingerprint]:
    """The real ones, then others made of them."""
    yield from real
    rng = np.random.default_rng(5)
    while True:
        one, other = (real[int(number)] for number in rng.integers(0, len(real), 2))
        yield _mixed(one, other, rng)


def _mixed(one: Fingerprint, other: Fingerprint, rng: np.random.Generator) -> Fingerprint:
    """Half the features of each, with 5 to 35 % of the bits turned and in other places."""
    parts = [_some(each.features, rng) for each in (one, other)]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("places", "angles", "sizes", "codes")
    }
    joined["places"] = rng.permutation(joined["places"])
    codes = _turned(joined.pop("codes"), float(rng.uniform(0.05, 0.35)), rng)
    return evolve(
        one,
        hash=rng.bytes(32),
        parts=tuple(rng.bytes(32) for _ in one.parts),
        features=Features(codes=codes, **joined),
    )


def _some(features: Features, rng: np.random.Generator) -> Features:
    which = np.sort(rng.permutation(len(features))[: (len(features) + 1) // 2])
    return Features(
        features.places[which], features.angles[which], features.sizes[which], features.codes[which]
    )


def _turned(codes: npt.NDArray[np.uint8], share: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    # as bits of few random bytes: the eighth part of the time that a random number per bit takes
    level = round(share * 16)
    noise = np.zeros_like(codes)
    for bit in range(4):
        drawn = rng.integers(0, 256, codes.shape, np.uint8)
        noise = noise | drawn if level >> bit & 1 else noise & drawn
    return codes ^ noise


def _queries(real: Sequence[Fingerprint]) -> Iterator[tuple[int, Fingerprint]]:
    rng = np.random.default_rng(9)
    for number in np.linspace(0, len(real) - 1, QUERIES).astype(int).tolist():
        one = real[number]
        codes = _turned(one.features.codes, TURNED, rng)
        # The hash would find it at once: here only its features tell.
        yield (
            number + 1,
            evolve(one, hash=rng.bytes(32), parts=(), features=evolve(one.features, codes=codes)),
        )


def measured(place: Path, queries: Sequence[tuple[int, bytes]]) -> dict[str, float]:
    """What a process pays that opens the index and searches it; queries come with the keys to be found."""
    asked = [(key, Fingerprint.from_bytes(query)) for key, query in queries]
    _warm_up(asked[0][1])
    idle = _anonymous()
    catalogue = _catalogue(place)
    started = time.perf_counter()
    live = LiveCandidates(catalogue, place / "segments")
    while live.catch_up():
        pass
    start = time.perf_counter() - started
    held = _anonymous() - idle
    times, right = [], 0
    for key, query in asked[:1] + asked:
        before = time.process_time()
        found = live.query(query, limit=50)
        times.append(time.process_time() - before)
        right += bool(found) and found[0].key == key
    memory = _anonymous() - idle
    longer = []
    for _, query in asked:
        before = time.process_time()
        live.query(query, limit=50, thorough=True)
        longer.append(time.process_time() - before)
    live.close()
    catalogue.close()
    return {
        "start": start,
        "first": times[0] * 1000,
        "p50": float(np.percentile(times[1:], 50)) * 1000,
        "p95": float(np.percentile(times[1:], 95)) * 1000,
        "thorough p50": float(np.percentile(longer, 50)) * 1000,
        "thorough p95": float(np.percentile(longer, 95)) * 1000,
        "right": right / len(times),
        "held": held / len(live),
        "memory": memory / len(live),
        "disk": sum(path.stat().st_size for path in (place / "segments").iterdir()) / len(live),
        "segments": len(live.segments),
    }


def _warm_up(query: Fingerprint) -> None:
    """Let everything be loaded that costs memory once, whatever the index."""
    catalogue = Catalogue(None, fingerprint_version=FINGERPRINT_VERSION)
    catalogue.add(_file(0), [_sheet(page, query) for page in range(1, 30)])
    live = LiveCandidates(catalogue)
    live.catch_up()
    live.query(query, limit=5)
    live.close()
    catalogue.close()


def _anonymous() -> int:
    """Bytes of this process's own memory, which no file stands behind (Linux)."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    return 0


def _catalogue(place: Path) -> Catalogue:
    return Catalogue(place / "catalogue.sqlite3", fingerprint_version=FINGERPRINT_VERSION)


def _file(number: int) -> FileRecord:
    return FileRecord(file_hash=f"{number:064x}", file_name=f"{number}.pdf", size=1)


def _sheet(page: int, made: Fingerprint) -> SheetRecord:
    return SheetRecord(
        page=page,
        sheet="",
        format="pdf",
        width=made.width,
        height=made.height,
        fingerprint_version=FINGERPRINT_VERSION,
        fingerprint=made.to_bytes(),
        ink=b"",
    )


def _fingerprints(index: Path) -> list[Fingerprint]:
    catalogue = Catalogue(index, fingerprint_version=FINGERPRINT_VERSION)
    rows = catalogue.fingerprints_since(0, limit=1_000_000)
    catalogue.close()
    found = [Fingerprint.from_bytes(row.data) for row in rows if row.version == FINGERPRINT_VERSION]
    if not found:
        raise SystemExit(f"{index} has no fingerprints of this version")
    return found


def _generated(folder: Path) -> list[Fingerprint]:
    entries = generated(folder, parts=10, seed=0).entries.values()
    return [fingerprint(read(entry.path, entry.path.name)[0].raster)[0] for entry in entries]


COLUMNS = {
    "drawings": "drawings",
    "p50": "a query, p50 CPU ms",
    "p95": "p95",
    "thorough p50": "with common features, p50 ms",
    "thorough p95": "with common features, p95 ms",
    "first": "the first one",
    "right": "right drawing first",
    "held": "anonymous memory after the start, bytes a drawing",
    "memory": "and after the searches",
    "disk": "segments on disk, bytes a drawing",
    "segments": "segments",
    "start": "start of a process, s",
    "fill": "adding one, CPU ms",
}


def _note(work: Path, results: Sequence[dict[str, Any]]) -> None:
    stated = conditions()
    (work / "growth.json").write_text(json.dumps({"conditions": stated, "results": results}, indent=1))
    lines = [f"- {name}: {value}" for name, value in stated.items()]
    lines += ["", f"| {' | '.join(COLUMNS.values())} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_shown(result[name]) for name in COLUMNS)} |" for result in results]
    (work / "growth.md").write_text("\n".join(lines) + "\n")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def _options() -> argparse.Namespace:
    description = (__doc__ or "").split("\n")[1]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=description)
    parser.add_argument("--index", type=Path, help="an index with real drawings; default: generated ones")
    parser.add_argument("--work", type=Path, default=Path("build/growth"), help="index and report")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="drawings")
    return parser.parse_args()


if __name__ == "__main__":
    main()
