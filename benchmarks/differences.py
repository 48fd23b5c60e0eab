"""
Measures what differences mark: ink where nothing changed, and the places where something did.

    python -m benchmarks.differences [--corpus DIR] [--sheets N] [--seed N] [--work DIR]

Each sheet is compared with a copy of itself through the public interface. Copies that only went through a
scanner, lost or gained line width or were turned have no change: all ink that is marked is marked falsely.
In copies that were revised, what was drawn or erased is known: each place should be in a region. Writes
`differences.md` into the work folder.
"""

from __future__ import annotations

import argparse
import random
import statistics
from io import BytesIO
from pathlib import Path

import anyio
import cv2
import numpy as np
from attrs import frozen
from PIL import Image

from benchmarks.accuracy.queries import Query, grey_of
from benchmarks.corpus import Corpus, Entry, balanced, generated, load
from benchmarks.engine import each, of_bytes, of_file
from benchmarks.machine import conditions
from benchmarks.transforms import Grey
from dedup2d.engine.overlay import UNCHANGED
from dedup2d.types import Comparison, SearchParams
from dedup2d.vision.embedded import EmbeddedVision

UNCHANGED_BY = (
    "same",
    "reencoded",
    "posed",
    "thicker",
    "thinner",
    "faxed",
    "inverted",
    "blueprint",
    "turned",
    "scanned",
)
_LEAST_CHANGE = 40  # pixels of a place that was really changed, on a sheet of 2,000


@frozen(kw_only=True)
class Marked:
    """
    What one comparison marked.

    `marked` and `unchanged` count pixels of the picture; `found` of the `changed` places lie in a region.
    """

    transform: str
    entry: str
    group: str
    marked: int
    unchanged: int
    changed: int = 0
    found: int = 0

    @property
    def share(self) -> float:
        return self.marked / max(1, self.marked + self.unchanged)


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = (
        load(options.corpus)
        if options.corpus
        else generated(options.work / "samples", parts=options.sheets, seed=options.seed)
    )
    rows, failed = anyio.run(_measured, corpus, options)
    report = _report(rows, failed, options.sheets, options.seed)
    (options.work / "differences.md").write_text(report)
    print(report)


async def _measured(corpus: Corpus, options: argparse.Namespace) -> tuple[list[Marked], list[str]]:
    rows: list[Marked] = []
    failed: list[str] = []
    real = [entry for entry in corpus.entries.values() if entry.quality == "real"]
    chosen = balanced(real, options.sheets, random.Random(options.seed))
    work = [(name, entry) for entry in chosen for name in (*UNCHANGED_BY, "revised")]
    async with EmbeddedVision(options.work / "index", processes=options.processes) as vision:

        async def one(item: tuple[str, Entry]) -> None:
            name, entry = item
            query = Query(transform=name, entry=entry, about=entry.id)
            data, suffix = query.data(options.seed)
            try:
                found = await vision.compare(
                    of_bytes(data, f"query{suffix}"), of_file(entry.path, entry.path.name), SearchParams()
                )
            except Exception as error:  # noqa: BLE001 - a benchmark reports what fails and goes on
                failed.append(f"{name}/{entry.id}: {error}")
                return
            rows.append(_counted(name, entry, found, query, options.seed))

        await each(one, work, workers=options.processes)
    return rows, failed


def _counted(name: str, entry: Entry, found: Comparison, query: Query, seed: int) -> Marked:
    if found.diff_png is None:
        return Marked(transform=name, entry=entry.id, group=entry.group, marked=0, unchanged=0)
    picture = np.asarray(Image.open(BytesIO(found.diff_png)).convert("RGB"))
    unchanged = int((picture == UNCHANGED).all(axis=2).sum())
    marked = sum(region.area for region in found.diff_regions)
    places = _places(grey_of(entry.path), query.grey(seed)) if name == "revised" else []
    covered = sum(_covered(place, found) for place in places)
    return Marked(
        transform=name,
        entry=entry.id,
        group=entry.group,
        marked=marked,
        unchanged=unchanged,
        changed=len(places),
        found=covered,
    )


def _places(before: Grey, after: Grey) -> list[tuple[float, float]]:
    """Return a pixel of each place whose ink really changed, in shares of the sheet."""
    differs = np.asarray((before < 128) != (after < 128), np.uint8)
    joined = cv2.dilate(differs, np.ones((9, 9), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    scale = 2000 / max(before.shape)
    found = []
    for number in range(1, count):
        ys, xs = np.nonzero((labels == number) & (differs > 0))
        if len(ys) * scale >= _LEAST_CHANGE:
            pick = len(ys) // 2  # the middle of its box may be empty, as in a circle
            found.append((xs[pick] / before.shape[1], ys[pick] / before.shape[0]))
    return found


def _covered(place: tuple[float, float], found: Comparison) -> bool:
    picture = Image.open(BytesIO(found.diff_png or b""))
    x, y = place[0] * picture.width, place[1] * picture.height
    rim = 0.01 * max(picture.size)
    return any(
        one.x - rim <= x <= one.x + one.width + rim and one.y - rim <= y <= one.y + one.height + rim
        for one in found.diff_regions
    )


def _report(rows: list[Marked], failed: list[str], sheets: int, seed: int) -> str:
    setup = {"sheets": sheets, "seed": seed, "failed": "; ".join(failed) or "none", **conditions()}
    parts = [
        "".join(f"- {name}: {value}\n" for name, value in setup.items()),
        "Nothing changed: share of the ink that is marked, in %, and of sheets without any mark.\n",
        "| copy | mean | by source group | p95 | worst | without a mark |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    plain = [row for row in rows if row.transform != "revised"]
    for name in (*UNCHANGED_BY, "all"):
        some = [row for row in plain if name in (row.transform, "all")]
        if some:
            parts.append(_row(name, some))
    revised = [row for row in rows if row.transform == "revised"]
    changed, found = sum(row.changed for row in revised), sum(row.found for row in revised)
    if changed:
        parts.append(
            f"\nRevised: {found} of {changed} places that were drawn or erased lie in a region:"
            f" {100 * found / changed:.1f} %."
        )
    return "\n".join(parts) + "\n"


def _row(name: str, rows: list[Marked]) -> str:
    shares = sorted(row.share for row in rows)
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row.share)
    by_group = statistics.mean(statistics.mean(some) for some in groups.values())
    worst = max(rows, key=lambda row: row.share)
    late = shares[min(len(shares) - 1, int(0.95 * len(shares)))]
    clean = sum(not row.marked for row in rows) / len(rows)
    cells = [
        name,
        *(f"{100 * value:.2f}" for value in (statistics.mean(shares), by_group, late)),
        f"{100 * worst.share:.1f} ({worst.entry})",
        f"{100 * clean:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.differences", description="Measures what differences mark."
    )
    parser.add_argument("--corpus", type=Path, help="folder with manifest.jsonl; default: generated samples")
    parser.add_argument("--work", type=Path, default=Path("build/differences"), help="samples and the report")
    parser.add_argument("--sheets", type=int, default=20, help="sheets compared with each copy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="child processes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
