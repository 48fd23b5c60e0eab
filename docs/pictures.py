"""Makes the pictures of how-it-finds.md from generated drawings: `python -m docs.pictures [FOLDER]`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.transforms import apply_transform
from dedup2d.engine.clean import clean, decode_ink
from dedup2d.engine.extract import Overlay, differences
from dedup2d.engine.fingerprint import fingerprint
from dedup2d.engine.geometry import apply
from dedup2d.engine.layout import find_layout
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.records import Likeness
from dedup2d.engine.verify import verify_prepared
from dedup2d.readers import read
from dedup2d.samples import generate

_WIDTH = 1100
_BLUE, _ORANGE, _GREEN, _PURPLE = (178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204)  # as B, G, R


def main() -> None:
    """Write the pictures into the folder that is given, or into images/ beside this file."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        old, new = _pair(Path(place))
    scan = apply_transform("scanned", new, 5)
    ink = clean(scan)
    layout = find_layout(ink)
    print_, png = fingerprint(scan)
    other, other_png = fingerprint(old)
    evidence = verify_prepared(Prepared(print_, ink), Prepared(other, decode_ink(other_png)))
    assert evidence is not None
    overlay = Overlay(Likeness(other.to_bytes(), other_png), evidence, max(old.shape))
    (difference,) = differences(Likeness(print_.to_bytes(), png), (overlay,))
    assert difference is not None

    _write(folder / "step-1-scan.png", cv2.cvtColor(scan, cv2.COLOR_GRAY2BGR))
    paper = cv2.cvtColor(np.asarray(255 - ink, np.uint8), cv2.COLOR_GRAY2BGR)
    _write(folder / "step-2-ink.png", paper)
    boxes = paper.copy()
    tables = [box for box in (layout.title_block, layout.revision_table, *layout.notes) if box]
    for color, parts in ((_BLUE, [layout.frame]), (_ORANGE, tables), (_GREEN, layout.views)):
        for box in parts:
            if box:
                cv2.rectangle(boxes, box, color, 6)
    _write(folder / "step-3-parts.png", boxes)
    marked = _faded(paper)
    features = print_.features
    for (x, y), size in zip(features.places, features.sizes, strict=True):
        cv2.circle(marked, (round(float(x)), round(float(y))), max(4, round(float(size))), _PURPLE, 2)
    _write(folder / "step-4-features.png", marked)
    laid = np.full((*decode_ink(other_png).shape, 3), 255, np.uint8)
    laid[decode_ink(other_png) > 0] = _ORANGE
    rows, columns = np.nonzero(ink)
    moved = (
        apply(evidence.placement, np.stack([columns, rows], axis=1).astype(np.float32)).round().astype(int)
    )
    on = (moved >= 0).all(axis=1) & (moved[:, 0] < laid.shape[1]) & (moved[:, 1] < laid.shape[0])
    laid[moved[on, 1], moved[on, 0]] = (
        laid[moved[on, 1], moved[on, 0]] * 0.3 + np.array(_BLUE) * 0.7
    ).astype(int)
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.float32) * ink.shape[::-1]
    page = apply(evidence.placement, corners).round().astype(np.int32)
    cv2.polylines(laid, [page], isClosed=True, color=_BLUE, thickness=4)
    _write(folder / "step-5-laid.png", laid)
    picture = cv2.imdecode(np.frombuffer(difference[0], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    _write(folder / "step-6-difference.png", picture)


def _pair(place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a generated drawing and its revision, as grey pictures."""
    generate(place, seed=2, parts=1)
    rows = [json.loads(line) for line in (place / "natural_pairs.jsonl").read_text().splitlines()]
    pair = next(row for row in rows if row["type"] == "revision")
    files = {
        row["id"]: row["raw"] for row in map(json.loads, (place / "manifest.jsonl").read_text().splitlines())
    }
    old, new = (read(place / files[pair[side]], files[pair[side]])[0].raster for side in ("a", "b"))
    return old, new


def _faded(picture: np.ndarray) -> np.ndarray:
    return np.asarray(255 - (255 - picture) // 3, np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    """Write it small and with few colours, so that the page loads fast."""
    size = (_WIDTH, round(picture.shape[0] * _WIDTH / picture.shape[1]))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small & 0xF0 | 0x0F, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
