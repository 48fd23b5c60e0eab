"""Contact sheets of the worst misses: what was asked, what came first, what was right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy.queries import EXPECTED, Query, grey_of
from benchmarks.accuracy.rows import Answer, Hit
from benchmarks.accuracy.scores import REPORTED, missed_by
from benchmarks.corpus import Corpus
from benchmarks.transforms import Grey
from dedup2d.errors import UnreadableDrawingError

__all__ = ["contact_sheets"]

_ROWS = 8
_CELL = (520, 380)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheets(
    corpus: Corpus, queries: Iterable[Query], answers: Iterable[Answer], folder: Path, *, seed: int
) -> list[Path]:
    """
    Write one picture per transform that has misses, the worst eight of each, into *folder*.

    A row shows the query, the first match and the drawing that was asked for.
    """
    known = {query.key: query for query in queries}
    missed: dict[str, list[tuple[float, Answer]]] = defaultdict(list)
    for answer in answers:
        badness = missed_by(corpus, answer)
        if badness and answer.key in known:
            missed[answer.transform].append((badness, answer))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for transform, some in sorted(missed.items()):
        worst = sorted(some, key=lambda one: (-one[0], one[1].key))[:_ROWS]
        rows = [_row(corpus, known[answer.key], answer, seed) for _, answer in worst]
        path = folder / f"{transform.replace(' ', '_')}.png"
        cv2.imwrite(str(path), np.concatenate(rows), [cv2.IMWRITE_PNG_BILEVEL, 0])
        written.append(path)
    return written


def _row(corpus: Corpus, query: Query, answer: Answer, seed: int) -> Grey:
    first = answer.hits[0] if answer.hits else None
    about = next((hit for hit in answer.hits if hit.id == answer.about), None)
    wanted = "/".join(sorted(EXPECTED.get(answer.transform, ())))
    cells: Sequence[tuple[Grey | None, str]] = (
        (_readable(lambda: query.grey(seed)), f"asked: {query.entry.id} {answer.transform}"),
        (
            _readable(lambda: grey_of(corpus.entries[first.id].path)) if first else None,
            f"first: {first.id} {first.relation} {first.score:.3f}" if first else answer.error or "nothing",
        ),
        (
            _readable(lambda: grey_of(corpus.entries[answer.about].path)),
            f"right: {answer.about} {_said(about)}, wanted {wanted}",
        ),
    )
    return np.concatenate([_cell(grey, text) for grey, text in cells], axis=1)


def _readable(read: Callable[[], Grey]) -> Grey | None:
    """Return the picture, None of a file that cannot be read here."""
    try:
        return read()
    except UnreadableDrawingError:
        return None


def _said(hit: Hit | None) -> str:
    if hit is None:
        return "not found"
    return hit.relation if hit.score >= REPORTED else f"{hit.relation} (not reported)"


def _cell(grey: Grey | None, text: str) -> Grey:
    width, height = _CELL
    cell = np.full((height, width), 255, np.uint8)
    if grey is not None:
        factor = min((width - 10) / grey.shape[1], (height - 30) / grey.shape[0])
        size = (max(1, int(grey.shape[1] * factor)), max(1, int(grey.shape[0] * factor)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        cell[25 : 25 + small.shape[0], 5 : 5 + small.shape[1]] = small
    cv2.rectangle(cell, (0, 0), (width - 1, height - 1), 180, 1)
    cv2.putText(cell, text[:75], (6, 17), _FONT, 0.42, 0, 1, cv2.LINE_AA)
    return cell
