"""
Measures what copies and small changes of real drawings score, strictly; ezdxf makes and writes them.

    python -m benchmarks.geometry_copies --corpus FOLDER [--kinds NAME ...] [--files N] [--seed N]
        [--processes N] [--answers FILE]

Prints per kind how many copies reach 0.98 and names those that do not; for changes, how many score below 1
with an entry in the difference. With a file for answers it goes on where it was ended.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import json
import math
import multiprocessing
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import astuple, frozen
from ezdxf import recover, transform
from ezdxf.layouts.layout import Modelspace
from ezdxf.math import Matrix44

from benchmarks.kept import answered
from dedup2d.errors import Dedup2DError
from dedup2d.geometry.extracting import extract
from dedup2d.geometry.model import Geometry
from dedup2d.geometry.reading import read_geometry
from dedup2d.geometry.result import GeometryScore
from dedup2d.geometry.scoring import score

ENOUGH = 0.98
_CHORDS = 64

File: TypeAlias = tuple[Path, str, list[str]]
"""Path, drawing and kinds of copies."""

Change: TypeAlias = Callable[[Modelspace], bool]
"""Changes a drawing, or says that it has nothing to change."""


@frozen
class Outcome:
    """What one copy scored; `score` is None if nothing could be compared, or nothing was there to change."""

    kind: str
    drawing: str
    score: float | None
    named: bool = False
    detail: str = ""


def _transformed(*matrices: Matrix44) -> Change:
    def change(space: Modelspace) -> bool:
        transform.inplace(space, Matrix44.chain(*matrices))
        return True

    return change


def rewritten(space: Modelspace) -> bool:
    return len(space) > 0


def exploded(space: Modelspace) -> bool:
    return _explode(space, "INSERT")


def dimensions_exploded(space: Modelspace) -> bool:
    return _explode(space, "DIMENSION")


def _explode(space: Modelspace, kind: str) -> bool:
    found = list(space.query(kind))
    for entity in found:
        if entity.dxftype() == "INSERT" and entity.mcount > 1:
            for one in entity.multi_insert():
                one.explode()
        else:
            entity.explode()
    return bool(found)


def lines_split(space: Modelspace) -> bool:
    found, rng = list(space.query("LINE")), random.Random(0)
    for line in found:
        cuts = sorted(rng.uniform(0.1, 0.9) for _ in range(rng.choice([1, 2])))
        start, end, dressed = line.dxf.start, line.dxf.end, line.graphic_properties()
        places = [start.lerp(end, cut) for cut in (0.0, *cuts, 1.0)]
        for a, b in itertools.pairwise(places):
            space.add_line(a, b, dxfattribs=dressed)
        space.delete_entity(line)
    return bool(found)


def arcs_as_polylines(space: Modelspace) -> bool:
    found = list(space.query("ARC CIRCLE"))
    for arc in found:
        points = list(arc.flattening(arc.dxf.radius * (1 - math.cos(math.pi / _CHORDS))))
        space.add_lwpolyline([(point.x, point.y) for point in points], dxfattribs=arc.graphic_properties())
        space.delete_entity(arc)
    return bool(found)


def all_at_once(space: Modelspace) -> bool:
    exploded(space)
    lines_split(space)
    arcs_as_polylines(space)
    return _transformed(Matrix44.scale(1 / 25.4), Matrix44.z_rotate(2.0), Matrix44.translate(9, -4, 0))(space)


def circle_moved(space: Modelspace) -> bool:
    return _changed(space, "CIRCLE", lambda one: one.translate(_millimetre(space), 0, 0))


def diameter_changed(space: Modelspace) -> bool:
    def wider(one: Any) -> None:
        one.dxf.radius += 0.25 * _millimetre(space)

    return _changed(space, "CIRCLE", wider)


def dimension_text_changed(space: Modelspace) -> bool:
    def said(one: Any) -> None:
        one.dxf.text = "4711"

    return _changed(space, "DIMENSION", said)


def _changed(space: Modelspace, kind: str, change: Callable[[Any], object]) -> bool:
    found = list(space.query(kind))
    if found:
        change(random.Random(len(found)).choice(found))
    return bool(found)


def _millimetre(space: Modelspace) -> float:
    return 1 / 25.4 if space.doc.header.get("$INSUNITS", 0) == 1 else 1.0


COPIES: Mapping[str, Change] = {
    "rewritten": rewritten,
    "moved": _transformed(Matrix44.translate(1234.5, -77.7, 0)),
    "turned": _transformed(Matrix44.z_rotate(math.radians(33))),
    "scaled_25.4": _transformed(Matrix44.scale(25.4)),
    "exploded": exploded,
    "dimensions_exploded": dimensions_exploded,
    "lines_split": lines_split,
    "arcs_as_polylines": arcs_as_polylines,
    "all_at_once": all_at_once,
}
CHANGES: Mapping[str, Change] = {
    "circle_moved_1_mm": circle_moved,
    "diameter_plus_0.5_mm": diameter_changed,
    "dimension_text": dimension_text_changed,
}


def measured(path: Path, drawing: str, kinds: Iterable[str]) -> list[Outcome]:
    """Return what the copies of one file score against it; one that ezdxf cannot make is left out."""
    try:
        original = read_geometry(extract(str(path), path.name).data)
    except Dedup2DError as error:
        return [Outcome("not read", drawing, None, detail=str(error))]
    return [found for kind in kinds if (found := _one(path, drawing, kind, original)) is not None]


def _one(path: Path, drawing: str, kind: str, original: Geometry) -> Outcome | None:
    try:
        data = path.read_bytes()
        document, _ = recover.read(io.BytesIO(gzip.decompress(data) if path.suffix == ".gz" else data))
        change = COPIES.get(kind) or CHANGES[kind]
        if not change(document.modelspace()):
            return None
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, "copy.dxf")
            document.saveas(copy)
            other = read_geometry(extract(str(copy), copy.name).data)
    except Exception as error:  # noqa: BLE001 - ezdxf explodes not all that real files hold
        return Outcome("not made", drawing, None, detail=f"{kind}: {error!r:.120}")
    found = score(original, other, with_diff=kind in CHANGES)
    return Outcome(kind, drawing, found.score, bool(found.diff and found.diff.entries), _detail(found))


def _detail(found: GeometryScore) -> str:
    parts = ", ".join(
        f"{name} {part.score:.3f} ({part.matched} of {part.query} and {part.other})"
        for name, part in found.breakdown.items()
        if part.score < ENOUGH
    )
    return "; ".join([parts, *found.warnings])


def main() -> None:
    options = _options()
    manifest = (options.corpus / "manifest.jsonl").read_text().splitlines()
    files = {
        " ".join([row["id"], *options.kinds]): (options.corpus / row["raw"], row["id"], options.kinds)
        for row in map(json.loads, manifest)
        if row["raw"] and row["format"] == "dxf"
    }
    names = list(files)
    random.Random(options.seed).shuffle(names)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = answered(
            names[: options.files],
            lambda some: pool.imap(_measured, [files[name] for name in some]),
            options.answers,
        )
        outcomes = [Outcome(*one) for _, file in found for one in file]
    print("| kind | drawings | 0.98 and more | 1 exactly | lowest | 5 % | named in the difference |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in options.kinds:
        rows = [one for one in outcomes if one.kind == kind and one.score is not None]
        scores = np.array([one.score for one in rows], float)
        if rows:
            low, few = np.quantile(scores, [0.0, 0.05])
            shares = f"{np.mean(scores >= ENOUGH):.1%} | {np.mean(scores == 1):.1%}"
            named = f"{np.mean([one.named for one in rows]):.1%}" if kind in CHANGES else ""
            print(f"| {kind} | {len(rows)} | {shares} | {low:.3f} | {few:.3f} | {named} |")
    for one in outcomes:
        short = (one.score or 0.0) < ENOUGH if one.kind in COPIES else not one.named
        if short:
            print(f"{one.kind}: {one.drawing} {one.score} {one.detail}")


def _measured(file: File) -> list[tuple[Any, ...]]:
    return [astuple(one) for one in measured(*file)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", choices=[*COPIES, *CHANGES], default=[*COPIES, *CHANGES])
    parser.add_argument("--files", type=int, help="how many, drawn at random; all if not given")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--answers", type=Path, help="file that keeps what each file gave")
    return parser.parse_args()


if __name__ == "__main__":
    main()
