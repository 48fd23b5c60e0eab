"""Polylines to lines and arcs: the same whatever pieces, chords and dashes a program writes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup2d.engine.dashes import DASH_GAP
from dedup2d.engine.entities import compare_entities
from dedup2d.engine.lines import Lines
from dedup2d.engine.primitives import primitives
from dedup2d.engine.shapes import Shapes, shapes_of
from dedup2d.readers import Entity, Sheet

UNMOVED = np.eye(3)


def circle(x: float, y: float, radius: float, chords: int = 48, start: float = 0.0) -> NDArray[np.float32]:
    angle = start + np.linspace(0, 2 * np.pi, chords + 1)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).astype(np.float32)


def line(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32).reshape(-1, 2)


def test_chords_become_arcs_and_pieces_one_line() -> None:
    """The same circle from two programs would be two shapes, and a split line a change."""
    found = primitives(
        [
            circle(100, 100, 40),
            circle(300, 100, 20, chords=12, start=0.3),
            line(10, 10, 60, 10),
            line(60, 10, 90, 10),
            line(95, 10.05, 85, 10),
            line(10, 50, 200, 120, 390, 190),
        ]
    )

    assert found.arcs[np.argsort(found.arcs[:, 0]), :3] == pytest.approx(
        np.array([[100, 100, 40], [300, 100, 20]]), abs=0.1
    )
    assert found.arcs[:, 4] == pytest.approx(2 * np.pi, abs=0.01)
    ends = found.segments[np.argsort(found.segments[:, 1])]
    assert ends == pytest.approx(np.array([[10, 10, 95, 10], [10, 50, 390, 190]]), abs=0.2)


def test_a_rectangle_with_rounded_corners_keeps_sides_and_corners_apart() -> None:
    """Fillets would swallow the sides between them, so that a changed radius went unseen."""
    parts = []
    for turn, (x, y) in enumerate(((300, 100), (300, 300), (100, 300), (100, 100))):
        angle = np.linspace(-np.pi / 2, 0, 9) + turn * np.pi / 2
        parts.append(np.stack([x + 30 * np.cos(angle), y + 30 * np.sin(angle)], axis=1))
    outline = np.concatenate([*parts, parts[0][:1]]).astype(np.float32)
    found = primitives([outline])

    assert len(found.arcs) == 4
    assert found.arcs[:, 2] == pytest.approx(30, abs=0.1)
    assert found.arcs[:, 4] == pytest.approx(np.pi / 2, abs=0.02)
    assert sorted(np.hypot(*(found.segments[:, 2:] - found.segments[:, :2]).T)) == pytest.approx(
        [200] * 4, abs=0.1
    )


def test_areas_in_pieces_are_one_area() -> None:
    """One program fills a square, another two triangles; the seam would be an added line."""
    square = line(100, 100, 200, 100, 200, 200, 100, 200)
    halves = [line(100, 100, 200, 100, 200, 200), line(100, 100, 200, 200, 100, 200, 100, 100)]
    made = [
        shapes_of(
            Sheet(
                page=1,
                name="",
                format="dxf",
                raster=np.full((500, 500), 255, np.uint8),
                entities=tuple(Entity(kind="SOLID", layer="", points=one, filled=True) for one in areas),
            )
        )
        for areas in ([square], halves)
    ]
    found = compare_entities(made[0], made[1], UNMOVED)

    assert len(made[0].segments) == len(made[1].segments) == 4
    assert found is not None
    assert found.changes == ()


@pytest.mark.parametrize(
    "points",
    [(), (5, 5), (5, 5, 5, 5), (5, 5, 5, 5.01), (5, 5, 9, 5), (5, 5, 9, 5, 5, 5), (5, 5, 9, 5, 9, 9)],
)
def test_hardly_anything_is_no_trouble(points: tuple[float, ...]) -> None:
    """One point drawn as a line would end the indexing of a folder."""
    found = primitives([line(*points)])

    assert len(found.arcs) == 0
    assert len(found.segments) <= 2
    assert Lines.of(Shapes(segments=found.segments, arcs=found.arcs, words=())).width >= 1


def test_dashes_are_the_line_that_they_make() -> None:
    """A dashed line that another program wrote as dashes would be another line."""
    dashes = [line(x, 40, x + 12, 40) for x in range(0, 400, 18)]

    assert primitives(dashes).segments == pytest.approx(np.array([[0, 40, 396 + 12, 40]]))
    assert len(primitives([line(0, 40, 150, 40), line(160, 40, 300, 40)]).segments) == 2


def dashed_circle(
    radius: float, pattern: tuple[float, ...], *, start: float = 0.0, chord: float = 0.0
) -> list[NDArray[np.float32]]:
    """Dashes and gaps by turns, in pixels; each dash one line of chords, or as many lines as chords."""
    found, at, number = [], start, 0
    while at < start + 2 * np.pi * radius:
        length = pattern[number % len(pattern)]
        if number % 2 == 0:
            steps = max(1, round(length / chord)) if chord else 8
            angle = (at + np.linspace(0, length, steps + 1)) / radius
            points = (500 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)
            found += [points] if not chord else [points[n : n + 2] for n in range(steps)]
        at, number = at + length, number + 1
    return found


@pytest.mark.parametrize(
    ("radius", "pattern"),
    [
        (20, (9, 5)),
        (60, (30, 6, 5, 6)),
        (60, (50, 13, 12, 13)),
        (134, (9, 5)),
        (134, (50, 13, 12, 13)),
        (800, (70, 12)),
    ],
)
@pytest.mark.parametrize("chord", [0.0, 4.0, 8.0], ids=["lines", "chords", "long chords"])
def test_dashes_are_the_circle_that_they_make(
    radius: float, pattern: tuple[float, ...], chord: float
) -> None:
    """A pitch circle whose dashes another program begins elsewhere would be a revision."""
    found = primitives(dashed_circle(radius, pattern, start=4.0, chord=chord))

    assert found.arcs[:, :3] == pytest.approx(np.array([[500, 500, radius]]), abs=0.5)
    assert found.arcs[:, 4] == pytest.approx(2 * np.pi)
    assert len(found.segments) <= 2  # dots


def test_dashes_with_their_gaps_in_one_line_are_the_circle() -> None:
    """So ezdxf gives them; of uneven chords none was an arc."""
    whole = np.concatenate(dashed_circle(138, (50, 13, 0.04, 13), chord=6.5))
    found = primitives([whole])

    assert found.arcs == pytest.approx(np.array([[500, 500, 138, 0, 2 * np.pi]]), abs=0.2)
    assert not len(found.segments)


@pytest.mark.parametrize("turn", [0.0, 20.0, 45.0, 90.0, 137.0])
def test_dashes_are_the_line_that_they_make_whichever_way_it_runs(turn: float) -> None:
    """Of a turned drawing every centre line would have changed."""
    way = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    along = [(at, at + 12) for at in range(0, 200, 20)] + [(at, at + 3) for at in range(14, 180, 20)]
    dashes = [(300 + np.outer(ends, way)).astype(np.float32) for ends in along]
    found = primitives(dashes).segments

    assert len(found) == 1
    assert np.hypot(*(found[0, 2:] - found[0, :2])) == pytest.approx(192, abs=0.1)


def test_an_opening_is_no_gap_between_dashes() -> None:
    """A ring with a slot would be the ring without it."""
    angle = np.linspace(0.1, 2 * np.pi - 0.1, 60)
    ring = (500 + 60 * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)
    sides = [line(100, 100, 160, 160), line(168, 168, 230, 230)]  # of 85 pixels

    assert DASH_GAP > 0.2 * 60
    assert primitives([ring]).arcs[:, 4] == pytest.approx(2 * np.pi - 0.2, abs=0.01)
    assert len(primitives(sides).segments) == 2


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_short_ends_around_an_opening_stay_apart(scale: float) -> None:
    """Of two sizes of a sheet only the smaller would have a line there, where the opening is a few pixels."""
    ends = [line(50, 100, 50, 105), line(50, 115, 50, 120), line(10, 10, 14, 14), line(22, 22, 26, 26)]

    assert len(primitives([one * np.float32(scale) for one in ends]).segments) == 4


def test_a_slot_of_separate_lines_keeps_its_sides() -> None:
    """Two rounded corners and the side between them would be an arc that bulges out of the part."""
    angle = np.linspace(0, np.pi / 2, 7)
    corner = 6 * np.stack([1 - np.cos(angle), 1 - np.sin(angle)], axis=1)
    outline = np.concatenate([corner[::-1], corner * [1, -1] + [0, 72]]) + 100
    found = primitives([np.array(two, np.float32) for two in pairwise(outline)])

    lengths = np.hypot(*(found.segments[:, 2:] - found.segments[:, :2]).T)
    assert found.segments[lengths.argmax()] == pytest.approx([100, 105, 100, 167], abs=1)
    assert (found.arcs[:, 2] < 7).all()


def test_a_letter_with_cut_corners_is_no_circle() -> None:
    """Of two programs that write it in one line and in several only one would have a circle there."""
    corners = [(3, 0), (11, 0), (15, 4), (15.2, 8), (15, 12), (11, 16), (3, 16), (0, 12), (0, 4), (3, 0)]
    whole, alone = (
        primitives(some)
        for some in ([line(*np.ravel(corners))], [line(*one, *two) for one, two in pairwise(corners)])
    )

    assert not (whole.arcs[:, 4] == 2 * np.pi).any()
    assert not len(alone.arcs)


def test_lines_side_by_side_and_corners_are_no_dashes() -> None:
    """Hatch lines, teeth and letters would be lines that nobody drew."""
    hatch = [line(100 + 6 * n, 100, 112 + 6 * n, 112) for n in range(20)]
    teeth = [line(10 * n, 300 + 12 * (n % 2), 10 * n + 10, 300 + 12 * ((n + 1) % 2)) for n in range(20)]
    corners = [(9 * ((n + 1) // 2), 9 * (n // 2)) for n in range(21)]
    steps = [line(*one, *two) for one, two in pairwise(corners)]

    for lines in (hatch, teeth, steps):
        found = primitives(lines)
        assert len(found.segments) == len(lines)
        assert not len(found.arcs)


def test_many_dashes_take_no_squares_of_time() -> None:
    """A plan of 60,000 chords would hold up the folder; each is looked at a bounded number of times."""
    rng = np.random.default_rng(3)
    starts, ways = rng.uniform(0, 2000, (60_000, 2)), rng.normal(0, 8, (60_000, 2))
    lines = [np.array([start, start + way], np.float32) for start, way in zip(starts, ways, strict=True)]

    assert len(primitives(lines).segments) > 50_000
