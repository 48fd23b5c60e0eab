"""The score of two geometries: what must not matter, what must, and what it says of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup2d.errors import InvalidParameterError
from dedup2d.geometry.model import Geometry
from dedup2d.geometry.result import DiffKind, GeometryScore
from dedup2d.geometry.scoring import score
from tests.geometry_drawings import Data, exploded, plate, read, revised, shuffled, split, turned

ANGLES = st.floats(-180, 180)
SHIFTS = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
SEEDS = st.integers(0, 1000)


def of(one: Data, two: Data, profile: str = "strict") -> GeometryScore:
    return score(read(one), read(two), profile=profile, with_diff=True)


def value(found: GeometryScore) -> float:
    assert found.score is not None
    return found.score


@given(seed=SEEDS, holes=st.integers(0, 12))
@settings(max_examples=6, deadline=None)
def test_a_drawing_is_itself(seed: int, holes: int) -> None:
    """If this fails, a drawing compared with itself, in another order, is not the same, or differs."""
    data = plate(seed=seed, holes=holes)

    for profile in ("strict", "version"):
        found = of(data, shuffled(data, seed), profile)
        assert found.score == 1.0
        assert found.diff is not None
        assert not found.diff.entries


@given(seed=SEEDS, angle=ANGLES, shift=SHIFTS)
@settings(max_examples=8, deadline=None)
def test_turning_and_moving_changes_nothing(seed: int, angle: float, shift: tuple[float, float]) -> None:
    """If this fails, a drawing that was turned or moved is not found to be the same, or its pose is wrong."""
    data = plate(seed=seed)
    found = of(data, turned(data, angle, 1.0, shift))

    assert value(found) >= 0.999
    assert found.transform is not None
    assert abs(math.remainder(found.transform.rotation - angle, 360)) < 0.01
    assert found.transform.scale == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("factor", [25.4, 1 / 25.4, 2.0, 0.1, 37.0])
def test_scale_and_unit_change_nothing(factor: float) -> None:
    """If this fails, a drawing in inches, or at another scale, is not the one in millimetres."""
    data = plate()
    found = of(data, turned(data, 33, factor, (5, -70)))

    assert value(found) >= 0.98
    assert found.transform is not None
    assert found.transform.scale == pytest.approx(factor, rel=1e-4)
    assert found.transform.unit_factor == pytest.approx(factor if factor in {25.4, 1 / 25.4} else 1.0)


NOISE: dict[str, Callable[[Data], Data]] = {
    "rounded": lambda data: turned(data, 17, 1.0, (3, 4), digits=3),
    "split": split,
    "exploded": exploded,
    "all": lambda data: turned(split(exploded(data)), -71, 25.4, (100, 100), digits=3),
}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_how_it_was_exported_changes_little(noise: str, seed: int) -> None:
    """If this fails, an export that splits lines, explodes blocks or writes chords makes another drawing."""
    data = plate(seed=seed, holes=seed * 3)

    assert value(of(data, NOISE[noise](data))) >= 0.98
    assert value(of(NOISE[noise](data), data)) >= 0.98


@given(seed=SEEDS, width=st.floats(150, 400))
@settings(max_examples=5, deadline=None)
def test_both_ways_are_alike(seed: int, width: float) -> None:
    """If this fails, the score depends on which of two drawings was asked for."""
    one, two = read(plate(seed=seed)), read(plate(seed=seed + 1, width=width))

    assert score(one, two).score == pytest.approx(score(two, one).score, abs=0.05)


def test_a_moved_hole_is_named() -> None:
    """If this fails, a hole that moved by a millimetre goes unseen."""
    data = plate()
    x, y = next(e for e in data["entities"] if e["type"] == "CIRCLE")["center"]
    found = of(data, revised(data, "CIRCLE", center=[x + 1, y]))

    assert value(found) < 1.0
    assert found.diff is not None
    [entry] = found.diff.entries
    assert (entry.kind, entry.section, entry.type) == (DiffKind.MOVED, "entities", "CIRCLE")
    assert entry.before is not None
    assert entry.after is not None
    assert entry.before["center"] == pytest.approx((x, y))
    assert entry.after["center"] == pytest.approx((x + 1, y))
    assert entry.path == entry.other_path == f"entities[{_position(data, 'CIRCLE')}]"


def _position(data: Data, kind: str) -> int:
    return next(n for n, e in enumerate(data["entities"]) if e["type"] == kind)


def test_a_changed_diameter_is_named() -> None:
    """If this fails, a diameter that changed by half a millimetre goes unseen."""
    data = plate()
    radius = next(e for e in data["entities"] if e["type"] == "CIRCLE")["radius"]
    found = of(data, revised(data, "CIRCLE", radius=radius + 0.25))

    assert value(found) < 1.0
    assert found.diff is not None
    [entry] = found.diff.entries
    assert (entry.kind, entry.type) == (DiffKind.CHANGED, "CIRCLE")
    assert entry.before is not None
    assert entry.after is not None
    assert entry.after["radius"] - entry.before["radius"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("kind", "changes", "section"),
    [
        ("DIMENSION", {"text": "210 H7"}, "dimensions"),
        ("DIMENSION", {"value": 210.5}, "dimensions"),
        ("TEXT", {"text": "PLATE 4712"}, "texts"),
        ("HATCH", {"pattern": "ANSI32"}, "hatches"),
    ],
)
def test_changed_content_is_named(kind: str, changes: dict[str, object], section: str) -> None:
    """If this fails, a dimension, text or hatch that says something else goes unseen."""
    data = plate()
    found = of(data, turned(revised(data, kind, **changes), 40, 1.0, (7, 7)))

    assert value(found) < 1.0
    assert found.diff is not None
    assert found.diff.counts == {f"{section}.changed": 1}
    assert found.diff.entries[0].type == kind


def test_added_and_removed_are_named_and_capped() -> None:
    """If this fails, what was added or removed is not told, or more of it than was asked for."""
    few, many = read(plate(holes=2)), read(plate(holes=2))
    data = plate(holes=2)
    data["entities"] += [
        {"type": "CIRCLE", "center": [40 + 9 * n, 50], "radius": 2 + n / 10} for n in range(8)
    ]
    many = read(data)
    added = score(few, many, with_diff=True, max_paths=3).diff
    removed = score(many, few, with_diff=True).diff

    assert added is not None
    assert removed is not None
    assert (added.counts, len(added.entries), added.truncated) == ({"entities.added": 8}, 3, True)
    assert (removed.counts, len(removed.entries), removed.truncated) == ({"entities.removed": 8}, 8, False)


def test_lines_that_lie_close_together_are_found_again() -> None:
    """If this fails, a drawing with a dense hatch of lines differs from itself, moved."""
    close = [
        {"type": "LINE", "start": [50 + n % 3, 50 + 0.01 * n], "end": [140 - n % 5, 50 + 0.01 * n]}
        for n in range(60)
    ]
    dense: Data = {"entities": [*plate()["entities"], *close]}
    assert value(of(dense, dense)) == 1
    assert value(of(dense, turned(dense, 0.0, 1.0, (30.0, 20.0)))) > 0.9999


@pytest.mark.parametrize("ways", [2, 4, 6])
def test_a_part_that_nearly_lies_on_itself_is_turned_right(ways: int) -> None:
    """If this fails, a wheel with one mark is not itself when turned: its mark is at another spoke."""
    mark: Data = {"type": "LINE", "start": [100, 0], "end": [30, 0]}
    spokes: list[Data] = []
    for n in range(ways):
        way = complex(math.cos(2 * math.pi * n / ways), math.sin(2 * math.pi * n / ways))
        for m in range(100):
            ends = [way * complex(100 + m, m % 7), way * complex(102 + m, 11 + m % 5)]
            start, end = ([place.real, place.imag] for place in ends)
            spokes.append({"type": "LINE", "start": start, "end": end})
    part: Data = {"entities": [mark, *spokes]}

    assert value(of(part, turned(part, 33.0, 1.0, (40.0, -7.0), digits=6))) > 0.999
    assert value(of(part, turned(part, 170.0, 1.0, (40.0, -7.0), digits=6))) > 0.999


@pytest.mark.parametrize("seed", range(4))
def test_letters_that_are_lines_are_found_again_in_inches(seed: int) -> None:
    """If this fails, a drawing of exploded texts is not itself in inches: dense ends pull its pose off."""
    rng = random.Random(seed)
    steps = [[(rng.gauss(0, 0.3), rng.gauss(0, 0.3)) for _ in range(30)] for _ in range(26)]
    glyphs = [list(accumulate((complex(*step) for step in some[:-1]), initial=0j)) for some in steps]
    entities: list[Data] = []
    for _ in range(10):
        start = complex(rng.uniform(0, 4000), rng.uniform(0, 900))
        for letter in range(1, 31):
            points = [start + 4 * letter + away for away in glyphs[rng.randrange(26)]]
            entities.append(
                {"type": "LWPOLYLINE", "points": [[round(p.real, 3), round(p.imag, 3)] for p in points]}
            )
    text: Data = {"entities": entities}

    assert value(of(text, turned(text, 114.59, 1 / 25.4, (9.0, -4.0), digits=6))) > 0.99


def test_dimensions_that_were_taken_apart_are_still_there() -> None:
    """If this fails, a drawing saved by a program that explodes dimensions is a revision of itself."""
    text: Data = {"type": "TEXT", "insert": [20, 42], "text": "40", "height": 3}
    arrow: Data = {"type": "HATCH", "pattern": "SOLID", "solid": True, "paths": [[[0, 40], [2, 41], [2, 39]]]}
    line: Data = {"type": "LINE", "start": [0, 40], "end": [40, 40]}
    parts = [text, arrow, line]
    dimension = {"type": "DIMENSION", "block": "*D1", "value": 40, "points": [[0, 0], [40, 0]]}
    other = {"type": "DIMENSION", "value": 25, "insert": [-9, 9]}
    fill = {"type": "HATCH", "pattern": "SOLID", "solid": True, "paths": [[[9, 9], [12, 9], [12, 12]]]}
    note = {"type": "TEXT", "insert": [5, -20], "text": "NOTE", "height": 3}
    rest = [*plate()["entities"], other, fill, note]
    whole: Data = {"entities": [*rest, dimension], "blocks": {"*D1": {"entities": parts}}}
    apart: Data = {"entities": [*rest, *parts]}

    assert value(of(whole, apart)) > 0.999
    assert value(of(apart, whole)) > 0.999
    changed: Data = {"entities": [*rest, {**text, "text": "41"}, arrow, line]}
    assert value(of(whole, changed)) < 0.98


def test_versions_are_forgiven_what_strict_is_not() -> None:
    """If this fails, revisions score no better as versions than as the same drawing, or strangers do."""
    one, two = plate(), plate(width=260, holes=7)

    assert value(of(one, two)) < 0.95
    assert value(of(one, two, "version")) > value(of(one, two))


def test_a_mirrored_drawing_is_another_one_and_said_to_be_mirrored() -> None:
    """If this fails, a left-hand part passes for the right-hand one."""
    data = plate()
    mirrored = {
        "entities": [{"type": "INSERT", "name": "ALL", "insert": [0, 0], "scale": [-1, 1]}],
        "blocks": {"ALL": data["entities"], **data["blocks"]},
    }
    found = of(data, mirrored)

    assert found.transform is not None
    assert found.transform.mirrored
    assert value(found) < 0.8
    assert any("mirrored" in warning for warning in found.warnings)


def test_sections_count_only_where_both_have_them() -> None:
    """If this fails, a plug-in that sends no texts makes a drawing another one."""
    data = plate()
    bare = {"entities": [e for e in data["entities"] if e["type"] in {"LWPOLYLINE", "LINE", "CIRCLE", "ARC"}]}
    whole = {
        **data,
        "entities": [e for e in data["entities"] if e["type"] not in {"SPLINE", "ELLIPSE", "INSERT"}],
    }
    found = of(whole, bare)

    assert found.score == 1.0
    assert set(found.breakdown) == {"entities"}
    assert sum(section.weight for section in found.breakdown.values()) == pytest.approx(1)


@pytest.mark.parametrize("other", [{}, {"layers": {"A": {}}}, {"entities": [{"type": "TEXT", "text": "A"}]}])
def test_nothing_to_compare_is_no_score(other: Data) -> None:
    """If this fails, drawings that share no section get a number that means nothing."""
    found = of({"entities": [{"type": "LINE", "start": [0, 0], "end": [1, 1]}], "layers": {"A": {}}}, other)

    assert found.score is None
    assert not found.breakdown


HARD = {
    "one point": {"entities": [{"type": "LINE", "start": [1, 1], "end": [1, 1]}]},
    "one line": {"entities": [{"type": "LINE", "start": [0, 0], "end": [1e-9, 0]}]},
    "no radius": {"entities": [{"type": "CIRCLE", "center": [0, 0], "radius": 0}]},
    "far away": {"entities": [{"type": "LINE", "start": [1e12, 1e12], "end": [-1e12, 1e12]}]},
    "far and small": {"entities": [{"type": "CIRCLE", "center": [1e12, 1e12], "radius": 1e-3}]},
    "all on one place": {"entities": [{"type": "CIRCLE", "center": [3, 3], "radius": 2}] * 50},
    "no scale": {
        "entities": [{"type": "INSERT", "name": "A", "insert": [0, 0], "scale": 0}],
        "blocks": {"A": [{"type": "LINE", "start": [0, 0], "end": [1, 1]}]},
    },
    "itself inside": {
        "entities": [{"type": "INSERT", "name": "A", "insert": [0, 0]}],
        "blocks": {"A": [{"type": "INSERT", "name": "A", "insert": [1, 1]}]},
    },
    "huge array": {
        "entities": [
            {
                "type": "INSERT",
                "name": "A",
                "insert": [0, 0],
                "rows": 30000,
                "columns": 30000,
                "row_spacing": 1,
            }
        ],
        "blocks": {"A": [{"type": "LINE", "start": [0, 0], "end": [1, 1]}] * 40_000},
    },
    "empty curves": {
        "entities": [
            {"type": "SPLINE"},
            {
                "type": "SPLINE",
                "control_points": [[0, 0], [1, 1], [2, 0], [3, 1]],
                "knots": [5, 4, 3, 2, 1, 0, 0, 0],
            },
            {"type": "LWPOLYLINE", "points": []},
            {"type": "ELLIPSE", "center": [0, 0], "major_axis": [0, 0]},
            {"type": "LEADER", "points": [[0, 0]]},
        ]
    },
}


@pytest.mark.parametrize("name", HARD)
def test_odd_drawings_are_scored_or_not_but_never_fail(name: str) -> None:
    """If this fails, an odd drawing makes the scorer fail: a search that meets it would."""
    odd, sound = read(HARD[name]), read(plate())

    assert score(odd, odd, with_diff=True).score in {None, 1.0}
    for one, two in ((odd, sound), (sound, odd)):
        found = score(one, two, with_diff=True)
        assert found.score is None or 0 <= found.score < 0.9


POINTS = st.tuples(st.integers(-50, 50), st.integers(-50, 50)).map(list)
ENTITIES = st.one_of(
    st.builds(lambda a, b: {"type": "LINE", "start": a, "end": b}, POINTS, POINTS),
    st.builds(lambda c, r: {"type": "CIRCLE", "center": c, "radius": r}, POINTS, st.integers(0, 20)),
    st.builds(lambda p: {"type": "LWPOLYLINE", "points": p}, st.lists(POINTS, max_size=8)),
    st.builds(lambda p, t: {"type": "TEXT", "insert": p, "text": t}, POINTS, st.text(max_size=5)),
    st.builds(lambda p, v: {"type": "DIMENSION", "insert": p, "value": v}, POINTS, st.integers(0, 9)),
)
DRAWINGS = st.lists(ENTITIES, max_size=12).map(lambda entities: read({"entities": entities}))


@given(one=DRAWINGS, two=DRAWINGS)
@settings(max_examples=25, deadline=None)
def test_any_drawings_score_between_nothing_and_the_same(one: Geometry, two: Geometry) -> None:
    """If this fails, some drawings make the scorer fail or give a score that is none."""
    assert score(one, one).score in {None, 1.0}
    found = score(one, two, with_diff=True)
    assert found.score is None or 0 <= found.score <= 1


@pytest.mark.parametrize(
    "inside",
    [
        [{"type": "DIMENSION", "block": "*D1"}],
        [{"type": "INSERT", "name": "*D1", "insert": [0, 0]}],
        [{"type": "LINE", "start": [x, 0], "end": [x, 5]} for x in range(5000)],
    ],
    ids=["itself", "inserted in itself", "very often"],
)
def test_blocks_of_dimensions_are_bounded(inside: list[dict[str, object]]) -> None:
    """If this fails, a small file of dimensions takes all the memory, or ends the process."""
    data: Data = {
        "entities": [{"type": "LINE", "start": [0, 0], "end": [9, 4]}]
        + [{"type": "DIMENSION", "block": "*D1"}] * 10_000,
        "blocks": {"*D1": {"entities": inside}},
    }
    assert any("not compared" in one for one in of(data, data).warnings)


def test_wrong_parameters_are_named() -> None:
    """If this fails, a typing error in a profile gives a score of another one."""
    geometry = read(plate())

    with pytest.raises(InvalidParameterError, match="strict or version"):
        score(geometry, geometry, profile="exact")
    with pytest.raises(InvalidParameterError, match="0 or more"):
        score(geometry, geometry, max_paths=-1)
