"""
Compares two sheets as vectors: what ink cannot tell, such as a hole moved by 1 mm, or 10 and 12.

The placement that ink found is refined on the lines themselves (point to line, as Chen and Medioni,
1992), then each line is looked for on the other sheet, both ways, within a fine tolerance. It matters
where lines run, not how they are split, ordered or named; words are compared by what they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from attrs import field, frozen, validators

from dedup2d.engine.geometry import Matrix, inverted, scale_of
from dedup2d.engine.layout import Box
from dedup2d.engine.lines import MOST_SOUGHT, Lines, Piece, pieces
from dedup2d.engine.shapes import TEXTS_LOST, Shapes, Word
from dedup2d.engine.words import WordChange, compare_words, moved_words, outline, words_without

__all__ = ["EntityChange", "EntityEvidence", "compare_entities"]

_MOST_CHANGES = 200
_REACH = (
    8.0,
    6.0,
    4.0,
    3.0,
    2.0,
    1.5,
    1.0,
)  # pixels: how far partners may lie apart in each round of refining
_STIFF = (1e-6, 1e-6, 1e-4, 1e-4, 1e-6, 1e-6)  # against stretch and shear where nothing speaks for them
_SETTLED = 0.1  # pixels: when no place moves farther, the lines lie as well as they can
_FIT = 1_500  # samples that the placement is refined on
_ASTRAY = 30.0  # pixels between the placement and a similarity, above which it is none
_TOLERANCE = 1.0  # pixels of the coarser sheet
_LEAST_LINE = 8.0  # pixels without a partner that are a change
_LEAST_EXPLAINED = 0.5
_ALL = 0.97  # of the ink: what is left are rims of letters and lines
_MOST_PIECES = 300  # of each side that are compared with each other
_MOVED = 60.0  # pixels: how far a line may have moved to be known again

Points = npt.NDArray[np.float64]


@frozen(kw_only=True)
class EntityChange:
    """
    One entity, or part of one, that only one sheet has or that both have differently.

    The box is in the match's ink pixels, for what moved or changed around both places. `before` is what
    the match says, `after` the query: a text, or the radius of a circle in the match's pixels.
    """

    what: str = field(validator=validators.in_(("text", "line", "circle", "arc", "area")))
    change: str = field(validator=validators.in_(("added", "removed", "moved", "changed")))
    x: float
    y: float
    width: float
    height: float
    before: str = ""
    after: str = ""


@frozen(kw_only=True)
class EntityEvidence:
    """
    How two sheets agree as vectors.

    `lines_query`, `lines_other`: share 0..1 of the length of lines and arcs that has a partner within
    `tolerance` pixels of the match. `texts_query`, `texts_other`: words that were compared, of which
    `texts_same` are on both; no words are compared where one side has (nearly) none, as where it
    has them as lines. `changes`: at most 200, biggest first. `explained`: least share of a
    sheet's ink that its entities account for; the rest may be pictures, which are not compared. It is less
    where a sheet's shortest lines or its texts were not kept, or could not be compared. `matrix`: the
    placement refined on the lines, 9 numbers, row by row.
    """

    lines_query: float
    lines_other: float
    texts_query: int
    texts_other: int
    texts_same: int
    changes: tuple[EntityChange, ...]
    tolerance: float
    explained: float = 1.0
    matrix: tuple[float, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether all of both sheets was compared as vectors; pictures in them were not."""
        return self.explained >= _ALL

    @property
    def placement(self) -> Matrix:
        return np.array(self.matrix, np.float64).reshape(3, 3)


def compare_entities(
    query: Shapes, other: Shapes, placement: Matrix, *, ignore: Sequence[Box] = ()
) -> EntityEvidence | None:
    """
    Compare as entities; `placement` takes the query's ink pixels to the other's within 8 pixels.

    What lies in one of the boxes `ignore` of the query's ink pixels counts neither for nor against.

    About 25 ms for 1,000 lines a side, some 100 ms for sheets as dense as circuit diagrams. None where
    too little of a sheet is known as entities, or the placement is no similarity.
    """
    explained = min(query.explained, other.explained)
    if explained < _LEAST_EXPLAINED or not (len(query.segments) or len(query.arcs) or query.words):
        return None
    target = Lines.of(other)
    matrix = _refined(query, target, placement)
    if matrix is None:
        return None
    tolerance = _TOLERANCE * max(1.0, scale_of(matrix))
    least = _least(query.least * scale_of(matrix), other.least)
    back = inverted(matrix)
    words = moved_words(query.words, matrix)
    own, its = (
        lines.without(ignore, back)
        for lines in (Lines.of(query, matrix, most=MOST_SOUGHT), Lines.of(other, most=MOST_SOUGHT))
    )
    query_found, query_lone = _sought(own, target, tolerance, least, other.words)
    other_found, other_lone = _sought(its, Lines.of(query, matrix), tolerance, least, words)
    texts = compare_words(
        words_without(words, ignore, back), words_without(other.words, ignore, back), tolerance
    )
    changes = [*_line_changes(query_lone, other_lone, tolerance), *map(_text_change, texts.changes)]
    changes.sort(key=lambda change: -max(change.width, change.height))
    return EntityEvidence(
        lines_query=query_found,
        lines_other=other_found,
        texts_query=texts.query,
        texts_other=texts.other,
        texts_same=texts.same,
        changes=tuple(changes[:_MOST_CHANGES]),
        tolerance=tolerance,
        explained=explained * (1.0 if texts.query or not (query.words or other.words) else TEXTS_LOST),
        matrix=tuple(float(value) for value in matrix.ravel()),
    )


def _least(query: float, other: float) -> float:
    """Length of the shortest lines that both sheets surely kept."""
    longest = max(query, other)
    return 1.1 * longest + _LEAST_LINE if longest else 0.0


def _refined(query: Shapes, other: Lines, placement: Matrix) -> Matrix | None:
    """The similarity, all but a little, near `placement` that lays the query's lines on the other's."""
    fit = Lines.of(query).thinned(_FIT)
    places = np.array([(word.x, word.y) for word in query.words]).reshape(-1, 2)
    matrix = _similarity(placement, np.concatenate([fit.points, places]))
    if matrix is None:
        return None
    for reach in _REACH:
        moved = fit.moved(matrix)
        own, its = moved.nearest(other, reach)
        if len(own) < 8:
            continue
        step = _step(moved.points[own], other.points[its], other.ways[its], other.width, reach)
        if step is None:
            continue
        matrix = step @ matrix
        if np.abs(moved.points @ (step[:2, :2] - np.eye(2)).T + step[:2, 2]).max() < _SETTLED:
            break
    return matrix


def _similarity(placement: Matrix, points: Points) -> Matrix | None:
    """The similarity that takes `points` closest to where `placement` does; None where that is far off."""
    weight = points @ placement[2, :2] + placement[2, 2]
    if not np.isfinite(placement).all() or len(points) < 2 or weight.min() < 1e-3:
        return None
    targets = (points @ placement[:2, :2].T + placement[:2, 2]) / weight[:, None]
    mirrored = np.linalg.det(placement[:2, :2]) < 0
    flip = np.array([1.0, -1.0 if mirrored else 1.0])
    one, two = points * flip, targets
    one_middle, two_middle = one.mean(axis=0), two.mean(axis=0)
    one, two = one - one_middle, two - two_middle
    size = float((one * one).sum())
    if size <= 0:
        return None
    c = float((one * two).sum()) / size
    s = float((one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]).sum()) / size
    turn = np.array([[c, -s], [s, c]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn * flip
    matrix[:2, 2] = two_middle - turn @ one_middle
    off = np.abs(two - one @ turn.T).max()
    return matrix if c * c + s * s > 1e-6 and off <= _ASTRAY else None


def _step(points: Points, targets: Points, ways: Points, size: float, reach: float) -> Matrix | None:
    """
    The small move that brings `points` closest to lines through `targets` along `ways`.

    A similarity, and the little stretch and shear that a printer driver's page size may add.
    """
    normal = np.stack([-ways[:, 1], ways[:, 0]], axis=1)
    middle = points.mean(axis=0)
    x, y = ((points - middle) / size).T
    across, down = normal.T
    rows = np.stack(
        [
            across * x + down * y,
            down * x - across * y,
            across * x - down * y,
            across * y + down * x,
            across,
            down,
        ],
        axis=1,
    )
    apart = ((targets - points) * normal).sum(axis=1)
    weight = 1 / (1 + (2 * apart / reach) ** 2)
    square = rows.T @ (rows * weight[:, None]) + np.diag(_STIFF) * len(rows)
    grow, turn, stretch, shear, right, below = np.linalg.solve(square, rows.T @ (apart * weight))
    step = np.eye(3)
    step[:2, :2] += np.array([[grow + stretch, shear - turn], [shear + turn, grow - stretch]]) / size
    step[:2, 2] = middle + np.array([right, below]) - step[:2, :2] @ middle
    return step if np.isfinite(step).all() else None


def _sought(
    own: Lines, target: Lines, tolerance: float, least: float, words: Sequence[Word]
) -> tuple[float, list[Piece]]:
    """Share of the length of `own` that has a partner, and the pieces that have none."""
    matched = np.zeros(len(own.points), bool)
    matched[own.nearest(target, tolerance)[0]] = True
    counts = own.lengths[own.line] >= least
    counts &= matched | ~own.within(words)
    total = float(own.weights[counts].sum())
    if not total:
        return 1.0, []
    lone = pieces(own, counts & ~matched, _LEAST_LINE * max(1.0, tolerance))
    return float(own.weights[counts & matched].sum()) / total, lone


def _line_changes(added: list[Piece], removed: list[Piece], tolerance: float) -> Iterator[EntityChange]:
    """What became of lines without a partner: moved, changed, added or removed."""
    free = removed[:_MOST_PIECES]
    for piece in added[:_MOST_PIECES]:
        twin = min(
            (known for known in free if _is_twin(piece, known, tolerance)), key=piece.distance, default=None
        )
        if twin is None:
            yield _change(piece, "added")
            continue
        free.remove(twin)
        yield _pair(piece, twin, tolerance)
    for piece in free:
        yield _change(piece, "removed")


def _is_twin(one: Piece, two: Piece, tolerance: float) -> bool:
    """Whether a line may have become another one: moved, or a circle of another size."""
    if one.what != two.what or not (one.whole and two.whole) or one.distance(two) > _MOVED:
        return False
    if one.what == "circle" and one.distance(two) <= 2 * tolerance:
        return True
    return abs(one.length - two.length) <= 2 * tolerance and one.parallel(two)


def _pair(after: Piece, before: Piece, tolerance: float) -> EntityChange:
    same_size = abs(after.length - before.length) <= 2 * tolerance
    left, top = np.minimum(after.low, before.low).tolist()
    right, bottom = np.maximum(after.high, before.high).tolist()
    return EntityChange(
        what=after.what,
        change="moved" if same_size else "changed",
        x=left,
        y=top,
        width=right - left,
        height=bottom - top,
        before="" if same_size else f"{before.radius:.1f}",
        after="" if same_size else f"{after.radius:.1f}",
    )


def _change(piece: Piece, change: str) -> EntityChange:
    (left, top), (right, bottom) = piece.low.tolist(), piece.high.tolist()
    return EntityChange(
        what=piece.what, change=change, x=left, y=top, width=right - left, height=bottom - top
    )


def _text_change(change: WordChange) -> EntityChange:
    words = [word for word in (change.before, change.after) if word is not None]
    outlines = np.concatenate([outline(word) for word in words])
    left, top = outlines.min(axis=0).tolist()
    right, bottom = outlines.max(axis=0).tolist()
    kinds = {(False, True): "added", (True, False): "removed", (True, True): "changed"}
    kind = kinds[change.before is not None, change.after is not None]
    return EntityChange(
        what="text",
        change="moved" if change.moved else kind,
        x=left,
        y=top,
        width=right - left,
        height=bottom - top,
        before=change.before.text if change.before else "",
        after=change.after.text if change.after else "",
    )
