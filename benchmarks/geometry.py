"""
Measures the geometry score: how time and memory grow, and what pairs of a corpus score.

    python -m benchmarks.geometry growth [--sizes N ...]
    python -m benchmarks.geometry pairs --corpus FOLDER [--strangers N] [--processes N] [--answers FILE]

`growth` scores made-up drawings of each size against a revision and against a stranger, each size in a
process of its own. `pairs` extracts the corpus's DXF files and prints how natural pairs, siblings of a
family, lookalikes and strangers score in both profiles. With a file for answers it goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import random
import resource
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept import answered
from dedup2d.errors import Dedup2DError
from dedup2d.geometry.comparing import compared
from dedup2d.geometry.extracting import extract
from dedup2d.geometry.model import Geometry
from dedup2d.geometry.reading import read_geometry
from dedup2d.geometry.result import Profile
from dedup2d.geometry.scoring import Prepared, rated, score

MIB = 1024**2
SHOWN = (0.0, 0.05, 0.5, 0.95, 1.0)

Pair = tuple[str, str]
Scores = tuple[float | None, float | None]
"""In both profiles; None if nothing can be compared."""

_DRAWINGS: dict[str, Prepared] = {}


def main() -> None:
    options = _options()
    if options.what == "growth":
        growth(options.sizes)
    else:
        pairs(options.corpus, options.strangers, options.processes, options.answers)


def growth(sizes: Iterable[int]) -> None:
    """Print a table of CPU seconds and memory, and the exponent between the first and the last size."""
    print("| entities | read s | revision s | stranger s | revision | stranger | MB added |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    taken = []
    for size in sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measured, (size,))
        taken.append((size, row["revision"]))
        print(
            f"| {size:,} | {row['read']:.2f} | {row['revision']:.2f} | {row['stranger']:.2f} |"
            f" {row['revised_score']:.3f} | {row['stranger_score']:.3f} | {row['memory']:.0f} |",
            flush=True,
        )
    if len(taken) > 1:
        (small, first), *_, (large, last) = taken
        power = math.log(last / first) / math.log(large / small)
        print(f"\ntime grows with entities to the power of {power:.2f}")


def measured(size: int) -> Mapping[str, float]:
    """Score drawings of *size* entities; CPU seconds, of one process."""
    one, two = drawing(size, seed=1), drawing(size, seed=1)
    for entity in two[: max(1, size // 50)]:
        for name in ("start", "center", "insert"):
            if name in entity:
                entity[name] = [entity[name][0] + 7, entity[name][1]]
    random.Random(3).shuffle(two)
    start = time.process_time()
    query, revised, stranger = (read(entities) for entities in (one, two, drawing(size, seed=2)))
    found: dict[str, float] = {"read": (time.process_time() - start) / 3}
    before = _peak()
    for name, other in (("revision", revised), ("stranger", stranger)):
        start = time.process_time()
        result = score(query, other, with_diff=True)
        found[name] = time.process_time() - start
        found["revised_score" if name == "revision" else "stranger_score"] = result.score or 0.0
    return {**found, "memory": (_peak() - before) / MIB}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read(entities: list[dict[str, Any]]) -> Geometry:
    return read_geometry(json.dumps({"entities": entities}, separators=(",", ":")).encode())


def drawing(size: int, seed: int) -> list[dict[str, Any]]:
    """Return entities as dense as in a drawing, however many."""
    rng = np.random.default_rng(seed)
    side = 10 * math.sqrt(size)
    places = np.round(rng.uniform(0, side, (size, 2)), 3).tolist()
    lengths = np.round(rng.lognormal(1.5, 1, size), 3).tolist()
    angles = rng.choice([0.0, 0.5, 1.0, rng.uniform(0, 2)], size) * math.pi
    made: list[dict[str, Any]] = []
    for number, ((x, y), length, angle) in enumerate(zip(places, lengths, angles, strict=True)):
        kind = number % 10
        if kind < 6:
            end = [round(x + length * math.cos(angle), 3), round(y + length * math.sin(angle), 3)]
            made.append({"type": "LINE", "start": [x, y], "end": end})
        elif kind < 8:
            made.append({"type": "CIRCLE", "center": [x, y], "radius": length / 3})
        elif kind < 9:
            made.append(
                {"type": "ARC", "center": [x, y], "radius": length, "start_angle": 10, "end_angle": 100}
            )
        else:
            made.append({"type": "TEXT", "insert": [x, y], "text": f"T{number % 977}", "height": 3})
    return made


def pairs(corpus: Path, strangers: int, processes: int, answers: Path | None) -> None:
    """Print how the pairs of *corpus* score, by kind, and those that are not as they should be."""
    rows = {row["id"]: row for row in _lines(corpus / "manifest.jsonl")}
    _DRAWINGS.update({key: Prepared(geometry) for key, geometry in _extracted(corpus, rows)})
    groups = _related(corpus, rows, list(_DRAWINGS))
    known = {frozenset(pair) for members in groups.values() for pair in members}
    groups["self"] = [(key, key) for key in _DRAWINGS]
    unrelated = _strangers(list(_DRAWINGS), rows, known)
    real = {key for key in _DRAWINGS if rows[key]["quality"] == "real"}
    groups["stranger"] = [pair for pair in unrelated if real.issuperset(pair)][:strangers]
    groups["stranger, tests and templates too"] = [pair for pair in unrelated if not real.issuperset(pair)][
        :strangers
    ]
    odd = []
    print("| pairs | number | strict: lowest, 5 %, median, 95 %, highest | version: the same |")
    print("| --- | ---: | --- | --- |")
    with multiprocessing.get_context("fork").Pool(processes) as pool:  # which has the drawings already
        for kind, members in groups.items():
            names = [" ".join(pair) for pair in members]
            found = [
                (name, (strict, version))
                for name, (strict, version) in answered(
                    names, lambda some: pool.imap(_scored, some, 4), answers
                )
                if strict is not None and version is not None
            ]
            if found:
                all_strict, all_version = np.array([scores for _, scores in found]).T
                shown = [
                    ", ".join(f"{q:.3f}" for q in np.quantile(each, SHOWN))
                    for each in (all_strict, all_version)
                ]
                print(f"| {kind} | {len(found)} | {shown[0]} | {shown[1]} |", flush=True)
                odd += [(kind, *one) for one in found if _is_odd(kind, *one[1])]
    for kind, name, (strict_score, version_score) in odd:
        print(f"{kind}: {name} strict {strict_score:.3f} version {version_score:.3f}")


def _related(
    corpus: Path, rows: Mapping[str, Mapping[str, Any]], keys: Sequence[str]
) -> dict[str, list[Pair]]:
    """Return the pairs that the corpus relates, by what it calls them."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    known: set[frozenset[str]] = set()
    for name, label in (("natural_pairs", "type"), ("lookalikes", "label")):
        for pair in _lines(corpus / f"{name}.jsonl"):
            known.add(frozenset((pair["a"], pair["b"])))
            if pair["a"] in keys and pair["b"] in keys:
                groups[pair[label]].append((pair["a"], pair["b"]))
    families: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if rows[key]["family"]:
            families[rows[key]["family"]].append(key)
    for members in families.values():
        groups["family"] += [p for p in itertools.combinations(members, 2) if frozenset(p) not in known]
    return groups


def _is_odd(kind: str, strict: float, version: float) -> bool:
    if kind == "self":
        return strict < 1
    if kind.startswith("stranger"):
        return strict >= 0.8
    return strict >= 0.95 if kind == "family" else version < 0.8


def _scored(pair: str) -> Scores:
    comparison = compared(*(_DRAWINGS[key] for key in pair.split()))
    strict, version = (rated(comparison, profile)[0] for profile in (Profile.STRICT, Profile.VERSION))
    return strict, version


def _strangers(
    keys: list[str], rows: Mapping[str, Mapping[str, Any]], known: set[frozenset[str]]
) -> list[Pair]:
    """Return all pairs that nothing relates, in a random order."""

    def related(a: str, b: str) -> bool:
        return frozenset((a, b)) in known or any(
            rows[a][name] and rows[a][name] == rows[b][name] for name in ("raw", "family", "doc_group")
        )

    found = [pair for pair in itertools.combinations(keys, 2) if not related(*pair)]
    random.Random(5).shuffle(found)
    return found


def _extracted(corpus: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, Geometry]]:
    for key, row in rows.items():
        if row["raw"] and row["format"] in {"dxf", "dwg"}:
            try:
                yield key, read_geometry(extract(str(corpus / row["raw"]), key).data)
            except Dedup2DError as error:
                print(f"{key} is left out: {error}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["growth", "pairs"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--strangers", type=int, default=500)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--answers", type=Path, help="file that keeps the scores of pairs")
    options = parser.parse_args()
    if options.what == "pairs" and options.corpus is None:
        parser.error("pairs need --corpus")
    return options


if __name__ == "__main__":
    main()
