"""
Compares the words of two sheets that lie on each other, whatever font or pieces they are in.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup2d.engine.geometry import Matrix, is_mirrored, scale_of
from dedup2d.engine.layout import Box
from dedup2d.engine.lines import in_boxes
from dedup2d.engine.shapes import Word

__all__ = [
    "WordChange",
    "WordEvidence",
    "boxes_of",
    "compare_words",
    "moved_words",
    "outline",
    "words_without",
]

_SYMBOLS = re.compile(r"[^\w.,+/:-]|Ø")
_FEW = 0.2  # of the other side's words: so few cannot be compared; nor can texts that agree so little
_ROOM = 0.4  # of a word's height, for letters that reach below the baseline or stand wider
_MOST_ROWS = 400  # of each side that are compared with each other


class WordChange(NamedTuple):
    """What the match and the query say at one place; one of them may be nothing. `moved`: both the same."""

    before: Word | None
    after: Word | None
    moved: bool = False


class WordEvidence(NamedTuple):
    """How many words were compared on each side, how many are on both, and what differs."""

    query: int
    other: int
    same: int
    changes: tuple[WordChange, ...]


def moved_words(words: Sequence[Word], matrix: Matrix) -> list[Word]:
    """`words` where `matrix` (a similarity) takes them."""
    scale = scale_of(matrix)
    turn = -math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    mirror = -1 if is_mirrored(matrix) else 1
    return [
        Word(
            word.text,
            float(matrix[0, 0] * word.x + matrix[0, 1] * word.y + matrix[0, 2]),
            float(matrix[1, 0] * word.x + matrix[1, 1] * word.y + matrix[1, 2]),
            word.width * scale,
            word.height * scale,
            (mirror * word.rotation + turn + 180) % 360 - 180,
        )
        for word in words
    ]


def words_without(words: Sequence[Word], boxes: Sequence[Box], back: Matrix) -> list[Word]:
    """The words whose start `back` takes to none of `boxes`."""
    places = np.array([(word.x, word.y) for word in words]).reshape(-1, 2)
    ignored = in_boxes(places @ back[:2, :2].T + back[:2, 2], boxes)
    return [word for word, leave_out in zip(words, ignored, strict=True) if not leave_out]


def outline(word: Word) -> npt.NDArray[np.float64]:
    """Corners (4, 2) of a word, from the left end of its baseline around it."""
    turn = math.radians(word.rotation)
    along = np.array([math.cos(turn), -math.sin(turn)]) * word.width
    up = np.array([-math.sin(turn), -math.cos(turn)]) * word.height
    corner = np.array([word.x, word.y])
    return np.array([corner, corner + along, corner + along + up, corner + up])


def boxes_of(words: Sequence[Word], matrix: Matrix) -> list[Box]:
    """Boxes around `words` where `matrix` takes them, with room for the letters of any font."""
    found = []
    for word in words:
        corners = outline(word) @ matrix[:2, :2].T + matrix[:2, 2]
        room = _ROOM * word.height * scale_of(matrix)
        left, top = np.floor(corners.min(axis=0) - room).astype(int).tolist()
        right, bottom = np.ceil(corners.max(axis=0) + room).astype(int).tolist()
        found.append((left, top, right - left, bottom - top))
    return found


def compare_words(query: Sequence[Word], other: Sequence[Word], tolerance: float) -> WordEvidence:
    """
    Compare words that lie in one picture; places may differ as much as fonts make them.

    Nothing is compared where one side has no more than a fifth of the other's words, or nearly none agree:
    then one has its texts as lines, or in letters without meaning.
    """
    none = WordEvidence(0, 0, 0, ())
    if min(len(query), len(other)) <= _FEW * max(len(query), len(other)):
        return none
    same, query_left, other_left = _same(query, other, tolerance)
    query_rows, other_rows = _rows(query_left), _rows(other_left)
    joined, query_rows, other_rows = _same_rows(query_rows, other_rows, tolerance)
    same += joined
    query_rows, other_rows = ([row for row in rows if _core(row.word)] for rows in (query_rows, other_rows))
    if same <= _FEW * min(len(query), len(other)) and min(len(query), len(other)) > 3:
        return none
    return WordEvidence(
        len(query), len(other), same, tuple(_changes([*query_rows], [*other_rows], tolerance))
    )


class _Row(NamedTuple):
    """Words that follow each other on one baseline, as one, and how many they are."""

    word: Word
    words: int
    members: tuple[int, ...] = ()


def _same(
    query: Sequence[Word], other: Sequence[Word], tolerance: float
) -> tuple[int, list[Word], list[Word]]:
    """Count words that are on both sides near each other; give the others."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, word in enumerate(other):
        places[word.text].append(index)
    free = np.ones(len(other), bool)
    x, y = np.array([(word.x, word.y) for word in other]).T
    left = []
    prose = _in_prose(query)
    for index, word in enumerate(query):
        known = np.array(places.get(word.text, ()), np.int64)
        known = known[free[known]]
        if not len(known):
            left.append(word)
            continue
        away = np.hypot(x[known] - word.x, y[known] - word.y)
        nearest = int(away.argmin())
        twin = other[known[nearest]]
        if away[nearest] <= _reach(word, twin, tolerance) or (index in prose and _is_reflow(word, twin)):
            free[known[nearest]] = False
        else:
            left.append(word)
    return len(query) - len(left), left, [word for word, lone in zip(other, free, strict=True) if lone]


def _in_prose(words: Sequence[Word]) -> set[int]:
    """Which words are of a sentence, or are one; numbers alone belong where they are."""
    return {
        index
        for row in _rows(words)
        if sum(letter.isalpha() for letter in row.word.text) >= max(2, len(row.word.text) / 2)
        for index in row.members
    }


def _is_reflow(one: Word, two: Word) -> bool:
    """Whether a word of a sentence may just stand farther on, or in another line."""
    if abs(one.rotation - two.rotation) > 3:
        return False
    turn = math.radians(one.rotation)
    right, down = two.x - one.x, two.y - one.y
    along = right * math.cos(turn) - down * math.sin(turn)
    up = -right * math.sin(turn) - down * math.cos(turn)
    return abs(up) <= 4 * one.height and abs(along) <= 100 * one.height


def _reach(one: Word, two: Word, tolerance: float) -> float:
    """How far apart two words may start: other fonts are wider, and texts may be centred."""
    return 2 * tolerance + max(one.height, two.height) + 0.35 * max(one.width, two.width)


def _rows(words: Sequence[Word]) -> list[_Row]:
    """Join words that follow each other."""
    if not words:
        return []
    axes = [(math.cos(math.radians(w.rotation)), -math.sin(math.radians(w.rotation))) for w in words]
    keyed = sorted(
        (round(w.rotation), -w.x * way[1] + w.y * way[0], w.x * way[0] + w.y * way[1], w, index)
        for index, (w, way) in enumerate(zip(words, axes, strict=True))
    )
    baseline = np.cumsum(
        [0] + [b[0] != a[0] or b[1] - a[1] > 0.3 * min(a[3].height, b[3].height) for a, b in pairwise(keyed)]
    )
    # baselines of one line differ by a descender: what comes first on it is said by the way along it
    keyed = [key for _, _, key in sorted(zip(baseline.tolist(), (k[2] for k in keyed), keyed, strict=True))]
    rows: list[_Row] = []
    ends: list[tuple[int, float, float]] = []
    for turn, line, along, word, index in keyed:
        for known in range(len(rows) - 1, max(-1, len(rows) - 12), -1):
            other_turn, other_line, end = ends[known]
            near = abs(line - other_line) < 0.5 * word.height and -word.height < along - end
            if turn == other_turn and near and along - end < 1.2 * word.height:
                head, count, members = rows[known]
                width = along + word.width - (end - head.width)
                longer = head._replace(text=head.text + word.text, width=width)
                rows[known] = _Row(longer, count + 1, (*members, index))
                ends[known] = (turn, line, along + word.width)
                break
        else:
            rows.append(_Row(word, 1, (index,)))
            ends.append((turn, line, along + word.width))
    return rows


def _same_rows(
    query: Sequence[_Row], other: Sequence[_Row], tolerance: float
) -> tuple[int, list[_Row], list[_Row]]:
    """Count the query's words in rows that say the same without their spaces; give the other rows."""
    same = 0
    left, free = [], list(other)
    for row in query:
        for index, known in enumerate(free):
            if _core(known.word) == _core(row.word) and _near(row.word, known.word, tolerance):
                same += row.words
                del free[index]
                break
        else:
            left.append(row)
    return same, left, free


def _core(word: Word) -> str:
    """What is said, without symbols, which may come from fonts whose letters mean other things."""
    return _SYMBOLS.sub("", word.text)


def _near(one: Word, two: Word, tolerance: float) -> bool:
    return math.hypot(one.x - two.x, one.y - two.y) <= _reach(one, two, tolerance)


def _changes(query: list[_Row], other: list[_Row], tolerance: float) -> list[WordChange]:
    """Pair rows at one place, then rows that say the same elsewhere; the others came or went."""
    free = other[:_MOST_ROWS]
    found: list[WordChange] = []
    lone: list[_Row] = []
    for row in query[:_MOST_ROWS]:
        near = [known for known in free if _near(row.word, known.word, tolerance)]
        if not near:
            lone.append(row)
            continue
        best = min(near, key=lambda known: math.hypot(row.word.x - known.word.x, row.word.y - known.word.y))
        free.remove(best)
        found.append(WordChange(best.word, row.word))
    for row in lone:
        twins = [known for known in free if known.word.text == row.word.text]
        if len(twins) == 1:
            free.remove(twins[0])
            if any(letter.isalnum() for letter in row.word.text):  # a dash goes where its text breaks
                found.append(WordChange(twins[0].word, row.word, moved=True))
        else:
            found.append(WordChange(None, row.word))
    return found + [WordChange(row.word, None) for row in free]
