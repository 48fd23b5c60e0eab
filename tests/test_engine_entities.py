"""Sheets as vectors: what is kept of them, and what comparing them finds that ink cannot tell."""

from __future__ import annotations

import io
import math
import random
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from ezdxf.document import Drawing

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.clean import decode_ink
from dedup2d.engine.entities import EntityEvidence, compare_entities
from dedup2d.engine.extract import Overlay, differences, extract, verify_batch
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.judge import judge
from dedup2d.engine.lines import Lines
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.shapes import MAX_BYTES, Shapes, Word, shapes_of
from dedup2d.engine.verify import relaid, verify_prepared
from dedup2d.engine.words import compare_words
from dedup2d.readers import ReadLimits, Sheet, Text, read
from dedup2d.types import Relation, SearchParams

UNMOVED = np.eye(3)


def plate(hole: tuple[float, float] = (210, 150), radius: float = 12, value: str = "120") -> Drawing:
    """An A3 sheet in mm with a plate, holes, a dimension text and notes."""
    document = Drawing.new("R2010")
    space = document.modelspace()
    for x0, y0, x1, y1 in ((0, 0, 420, 297), (10, 10, 410, 287), (120, 80, 300, 220), (250, 10, 410, 50)):
        space.add_lwpolyline([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], close=True)
    for x, y in ((140, 100), (280, 100), (280, 200), (140, 200)):
        space.add_circle((x, y), 6)
    space.add_circle(hole, radius)
    space.add_line((120, 60), (300, 60))
    space.add_text(value, height=3.5).set_placement((205, 62))
    space.add_text("BREAK ALL SHARP EDGES", height=3.5).set_placement((20, 30))
    space.add_text("PLATE 4711", height=5).set_placement((255, 30))
    return document


def sheet_of(document: Drawing, tmp_path: Path) -> Sheet:
    text = io.StringIO()
    document.write(text)
    path = tmp_path / f"{random.getrandbits(64):x}.dxf"
    path.write_text(text.getvalue())
    return read(path, path.name)[0]


def kept(document: Drawing, tmp_path: Path) -> Shapes:
    """The shapes of a drawing as an index gives them back."""
    return Shapes.from_bytes(shapes_of(sheet_of(document, tmp_path)).to_bytes())


def compared(one: Drawing, two: Drawing, tmp_path: Path) -> EntityEvidence:
    found = compare_entities(kept(one, tmp_path), kept(two, tmp_path), UNMOVED)
    assert found is not None
    return found


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    """Drawings of an index would be compared with other lines than they have."""
    fresh = shapes_of(sheet_of(plate(), tmp_path))
    data = fresh.to_bytes()
    back = Shapes.from_bytes(data)

    assert len(data) < 1500
    assert len(back.segments) == len(fresh.segments)
    assert sorted(back.arcs[:, 2]) == pytest.approx(sorted(fresh.arcs[:, 2]), abs=1 / 16)
    assert {word.text for word in back.words} >= {"120", "SHARP", "PLATE", "4711"}
    assert back.least == 0
    assert back.explained == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("cut", [0, 1, 10, 30, 100, -1])
def test_damaged_bytes_are_refused(tmp_path: Path, cut: int) -> None:
    """A damaged index would crash a search instead of doing without the lines."""
    data = shapes_of(sheet_of(plate(), tmp_path)).to_bytes()

    with pytest.raises(ValueError, match="damaged"):
        Shapes.from_bytes(data[:cut])
    with pytest.raises(ValueError, match="damaged"):
        Shapes.from_bytes(data[:40] + bytes(20) + data[60:])


def test_of_too_many_lines_the_longest_are_kept() -> None:
    """A map would fill the index, or be compared by a part that nobody knows."""
    rng = np.random.default_rng(5)
    start = rng.uniform(0, 1900, (30_000, 2))
    shapes = Shapes(
        segments=np.hstack([start, start + rng.uniform(-40, 40, (30_000, 2))]),
        arcs=np.empty((0, 5)),
        words=(),
    )
    data = shapes.to_bytes()
    back = Shapes.from_bytes(data)
    lengths = np.hypot(*(back.segments[:, 2:] - back.segments[:, :2]).T)

    assert MAX_BYTES / 2 < len(data) <= MAX_BYTES
    assert lengths.min() >= back.least - 0.3 > 20
    assert back.explained < 0.5  # it says nothing about the others


def test_a_sheet_agrees_with_itself_however_it_lies(tmp_path: Path) -> None:
    """Placements from ink are a pixel or two off; each would look like a revision."""
    shapes = kept(plate(), tmp_path)
    turn = 0.001
    near = np.array(
        [[math.cos(turn), -math.sin(turn), 3.0], [math.sin(turn), math.cos(turn), -2.0], [0, 0, 1]]
    )
    for placement in (UNMOVED, near):
        found = compare_entities(shapes, shapes, placement)

        assert found is not None
        assert (found.lines_query, found.lines_other) == (1, 1)
        assert found.texts_same == found.texts_query == found.texts_other == 7
        assert found.changes == ()


def test_a_hole_moved_by_one_millimetre_is_found(tmp_path: Path) -> None:
    """The change that costs most when nobody sees it would be called identical."""
    found = compared(plate(hole=(211, 150)), plate(), tmp_path)

    (change,) = found.changes
    assert (change.what, change.change) == ("circle", "moved")
    assert change.width == pytest.approx((24 + 1) * 1960 / 420, abs=2)


def test_a_hole_of_another_size_is_found(tmp_path: Path) -> None:
    """A drill of the wrong size would be called identical."""
    (change,) = compared(plate(radius=12.5), plate(), tmp_path).changes

    assert (change.what, change.change) == ("circle", "changed")
    assert float(change.after) / float(change.before) == pytest.approx(12.5 / 12, rel=0.005)


def test_a_changed_dimension_text_is_found(tmp_path: Path) -> None:
    """10 and 12 look alike as ink; the sheets would be called identical."""
    found = compared(plate(value="128"), plate(), tmp_path)

    (change,) = found.changes
    assert (change.what, change.change, change.before, change.after) == ("text", "changed", "120", "128")
    assert found.texts_same == found.texts_other - 1
    assert (found.lines_query, found.lines_other) == (1, 1)


def test_what_came_and_went_is_told_apart(tmp_path: Path) -> None:
    """The user would look for an added line on the old sheet."""
    more = plate()
    more.modelspace().add_line((130, 90), (170, 120))

    assert [(one.what, one.change) for one in compared(more, plate(), tmp_path).changes] == [
        ("line", "added")
    ]
    assert [(one.what, one.change) for one in compared(plate(), more, tmp_path).changes] == [
        ("line", "removed")
    ]


def test_pieces_order_layers_and_fonts_do_not_matter(tmp_path: Path) -> None:
    """Every program writes the same drawing in its own way; each would be a revision."""
    other = Drawing.new("R2010")
    space = other.modelspace()
    other.styles.add("wide", font="DejaVuSerif.ttf")
    for entity in reversed(list(plate().modelspace())):
        if entity.dxftype() == "LWPOLYLINE":
            corners = [(x, y) for x, y, *_ in entity.get_points()]  # type: ignore[attr-defined]  # a polyline, by its kind
            for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
                middle = ((2 * x0 + x1) / 3, (2 * y0 + y1) / 3)
                space.add_line((x1, y1), middle, dxfattribs={"layer": "other"})
                space.add_line((x0, y0), middle)
        elif entity.dxftype() == "CIRCLE":
            x, y, _ = entity.dxf.center
            r = entity.dxf.radius
            space.add_lwpolyline([(x - r, y, 0, 0, 1), (x + r, y, 0, 0, 1)], format="xyseb", close=True)
        elif entity.dxftype() == "TEXT":
            words = entity.dxf.text.split() if "BREAK" in entity.dxf.text else [entity.dxf.text]
            x, y, _ = entity.dxf.insert
            for word in words:
                space.add_text(word, height=entity.dxf.height, dxfattribs={"style": "wide"}).set_placement(
                    (x, y)
                )
                x += len(word) * entity.dxf.height * 0.85 + 2
        else:
            space.add_line(entity.dxf.start, entity.dxf.end)
    found = compared(other, plate(), tmp_path)

    assert found.changes == ()
    assert min(found.lines_query, found.lines_other) > 0.999


def test_what_is_ignored_changes_nothing(tmp_path: Path) -> None:
    """A user who leaves out the title block would still be told that its date has changed."""
    scale = 1960 / 420
    changed = plate(hole=(211, 150), value="128")
    changed.modelspace().add_line((130, 90), (170, 120))
    x, y, width, height = (round(scale * part) for part in (115, 297 - 225, 195, 170))
    shapes = kept(changed, tmp_path), kept(plate(), tmp_path)
    everything = compare_entities(*shapes, UNMOVED)
    found = compare_entities(*shapes, UNMOVED, ignore=[(x + 20, y + 20, width, height)])

    assert everything is not None
    assert found is not None
    assert len(everything.changes) == 3
    assert found.changes == ()
    assert found.texts_query == everything.texts_query - 1


def test_evidence_of_files_has_what_their_lines_say(tmp_path: Path) -> None:
    """Searches would go by ink alone, to which 120 and 128 are nearly the same."""
    likenesses = []
    for number, document in enumerate((plate(value="128"), plate())):
        path = tmp_path / f"{number}.dxf"
        document.saveas(path)
        (record,) = extract(str(path), path.name, ReadLimits())
        likenesses.append(record.likeness)
    query, other = likenesses
    (found, without, damaged) = verify_batch(
        query, (other, evolve(other, shapes=b""), evolve(other, shapes=other.shapes[:-5]))
    )

    assert found is not None
    assert found.entities is not None
    assert [(one.before, one.after) for one in found.entities.changes] == [("120", "128")]
    assert without is not None
    assert without.entities is None
    assert damaged is not None
    assert damaged.entities is None


def test_a_narrower_font_does_not_bend_the_sheet(tmp_path: Path) -> None:
    """Ink is laid as bent paper lies, and letters would pull the lines of the part along."""
    likenesses = []
    for number, width in enumerate((1.0, 0.7)):
        document = plate()
        document.styles.add("notes", font="DejaVuSans.ttf")
        for row, note in enumerate(
            ("GEAR FOR WIRE EDM FABRICATION", "DRAWING SCALE 10:1 ON SHEET A3", "ISO 2768")
        ):
            look = {"style": "notes", "width": width}
            text = document.modelspace().add_text(note, height=9, dxfattribs=look)
            text.set_placement((20, 270 - 14 * row))
        path = tmp_path / f"{number}.dxf"
        document.saveas(path)
        (record,) = extract(str(path), path.name, ReadLimits())
        likenesses.append(record.likeness)
    (found,) = verify_batch(likenesses[1], (likenesses[0],))
    (difference,) = differences(likenesses[1], (Overlay(likenesses[0], found, side=2000),))

    assert found is not None
    assert found.entities is not None
    assert found.entities.changes == ()
    assert found.placement == pytest.approx(UNMOVED, abs=1e-3)
    assert difference is not None
    assert difference[1] == ()
    judged = judge(Candidate(key=0), found, SearchParams(), same_bytes=False)
    assert (judged.relation, judged.changed_area) == (Relation.IDENTICAL, 0.0)
    assert judged.reason.endswith("; as vectors they are the same, whatever their fonts and dashes.")


def test_lines_have_no_say_where_ink_lies_better(tmp_path: Path) -> None:
    """A placement that puts the sheet elsewhere would hide what was found."""
    path = tmp_path / "plate.dxf"
    plate().saveas(path)
    (record,) = extract(str(path), path.name, ReadLimits())
    sheet = Prepared(Fingerprint.from_bytes(record.likeness.fingerprint), decode_ink(record.likeness.ink))
    found = verify_prepared(sheet, sheet)
    elsewhere = np.array([[1.0, 0, 40], [0, 1, 0], [0, 0, 1]])

    assert found is not None
    assert relaid(found, sheet, sheet, elsewhere) == found


def test_texts_drawn_as_lines_are_neither_changes_nor_lines(tmp_path: Path) -> None:
    """A PDF with letters as curves would differ from its DXF in every text."""
    plain = kept(plate(), tmp_path)
    strokes = [
        (word.x + part * word.height, word.y, word.x + part * word.height, word.y - word.height)
        for word in plain.words
        for part in (0.1, 0.6)
    ]
    drawn = evolve(plain, words=(), segments=np.concatenate([plain.segments, np.array(strokes)]))
    found = compare_entities(drawn, plain, UNMOVED)

    assert found is not None
    assert (found.texts_query, found.texts_other, found.changes) == (0, 0, ())
    assert (found.lines_query, found.lines_other) == (1, 1)


def test_pictures_are_not_compared_as_vectors(tmp_path: Path) -> None:
    """A scan in a PDF with a vector frame would be identical to every other in that frame."""
    sheet = sheet_of(plate(), tmp_path)
    picture = sheet.raster.copy()
    picture[400:900, 500:1500] = np.where(np.random.default_rng(3).random((500, 1000)) < 0.3, 0, 255)
    shapes = shapes_of(evolve(sheet, raster=picture))

    assert shapes.explained < 0.5
    assert compare_entities(shapes, shapes, UNMOVED) is None


def test_words_in_pieces_say_the_same() -> None:
    """Spaces and breaks differ by program; each text would be a change."""
    whole = [
        Word("M8x20", 100, 100, 50, 10, 0),
        Word("STEEL", 100, 300, 60, 10, 0),
        Word("A-A", 600, 20, 30, 10, 0),
    ]
    parts = [
        Word("M8", 100, 100, 20, 10, 0),
        Word("x20", 124, 100, 30, 10, 0),
        Word("STEEL", 160, 316, 60, 10, 0),  # wrapped to the next line
        Word("A-A", 604, 22, 30, 10, 0),
    ]

    assert compare_words(parts, whole, 1.0).changes == ()
    assert compare_words(whole, parts, 1.0).changes == ()


def test_a_number_in_a_sentence_moves_with_its_font() -> None:
    """A note in a narrower font would be a change for the numbers in it."""
    wide = [
        Word("Drawing", 100, 101, 90, 10, 0),
        Word("scale", 200, 100, 60, 10, 0),
        Word("10:1", 270, 100, 45, 10, 0),
    ]
    narrow = [
        Word("Drawing", 100, 101, 50, 10, 0),
        Word("scale", 155, 100, 35, 10, 0),
        Word("10:1", 195, 100, 25, 10, 0),
    ]

    assert compare_words(narrow, wide, 1.0) == (3, 3, 3, ())


def test_a_dash_goes_where_its_text_breaks() -> None:
    """A dash between two words of a title block would be a revision in another font."""
    words = [Word(text, x, 100, 50, 10, 0) for text, x in (("PULLEY", 100), ("STEEL", 400), ("7", 900))]
    here, there = (Word("-", x, 100, 6, 10, 0) for x in (600, 700))

    assert compare_words([*words, here], [*words, there], 1.0).changes == ()


def test_a_number_elsewhere_has_moved() -> None:
    """Two dimensions that swapped places would look the same."""
    before = [Word(text, x, 100, 20, 10, 0) for text, x in (("10", 100), ("25", 300), ("A", 20), ("B", 60))]
    after = [Word(text, x, 100, 20, 10, 0) for text, x in (("25", 100), ("10", 300), ("A", 20), ("B", 60))]
    found = compare_words(after, before, 1.0)

    assert [(one.before and one.before.text, one.after and one.after.text) for one in found.changes] == [
        ("10", "25"),
        ("25", "10"),
    ]


def test_crowds_of_lines_stay_affordable() -> None:
    """One dense hatch would take all of a search's time and memory."""
    rows = np.arange(1000) * 1.0
    shapes = Shapes(
        segments=np.stack([np.zeros(1000), rows, np.full(1000, 900.0), rows], axis=1),
        arcs=np.empty((0, 5)),
        words=(),
    )
    lines = Lines.of(shapes)
    own, its = lines.nearest(lines, 1.0)

    assert len(lines.points) <= 40_000 + 1000
    assert (own == its).all()
    assert len(own) == len(lines.points)


def test_the_sheet_of_a_text_is_read_with_its_turn() -> None:
    """Words of an upright text would be looked for beside it."""
    sheet = Sheet(
        page=1,
        name="",
        format="dxf",
        raster=np.full((500, 500), 255, np.uint8),
        texts=(Text(text="AB  CD", x=100, y=400, height=10, rotation=90, width=60),),
    )
    first, second = shapes_of(sheet).words

    assert (first.text, second.text) == ("AB", "CD")
    assert [second.x, second.y] == pytest.approx([100, 360])


def test_texts_without_a_place_are_left_out() -> None:
    """A damaged text in one file would end the indexing of a folder."""
    nowhere = [Text(text="A", x=math.nan, y=1, height=2), Text(text="B", x=1, y=math.inf, height=2)]
    sheet = Sheet(
        page=1, name="", format="dxf", raster=np.full((50, 50), 255, np.uint8), texts=tuple(nowhere)
    )

    assert shapes_of(sheet).to_bytes() == b""
