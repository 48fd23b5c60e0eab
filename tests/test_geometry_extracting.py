"""Geometry from DXF and DWG files: what each entity becomes, what is left out, and what is refused."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import ezdwg
import ezdxf
import pytest
from ezdxf.document import Drawing
from ezdxf.layouts import Modelspace

from dedup2d.children import Children
from dedup2d.errors import (
    Dedup2DError,
    EmptyFileError,
    FileTooLargeError,
    NoGeometryError,
    UnreadableDrawingError,
    UnsupportedFormatError,
)
from dedup2d.geometry import extracting
from dedup2d.geometry.canonical import geom_hash
from dedup2d.geometry.extracting import Extracted, extract, extract_geometry
from dedup2d.geometry.reading import GeometryLimits, read_geometry
from dedup2d.geometry.scoring import score
from dedup2d.readers import ReadLimits
from tests import hostile
from tests.drawings import PARTS, small_dxf, small_pdf, small_png, small_svg

Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def extracted(tmp_path: Path, document: Drawing | bytes, name: str = "part.dxf") -> Extracted:
    path = tmp_path / name
    path.write_bytes(document if isinstance(document, bytes) else hostile.dxf_bytes(document))
    return extract(str(path), name)


def geometry(tmp_path: Path, document: Drawing | bytes) -> Json:
    found: Json = json.loads(extracted(tmp_path, document).data)
    return found


def new() -> tuple[Drawing, Modelspace]:
    document = ezdxf.new("R2018", setup=True)
    return document, document.modelspace()


def only(tmp_path: Path, draw: Callable[[Modelspace], object]) -> Json:
    """Return the one entity of a drawing, without type and layer where those say nothing."""
    document, space = new()
    draw(space)
    (entity,) = geometry(tmp_path, document)["entities"]
    assert entity.pop("layer") == "0"
    found: Json = entity
    return found


# -- what each entity becomes -----------------------------------------------------------------

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]


def spline(space: Modelspace) -> None:
    space.add_open_spline([(0, 0), (1, 2), (3, 2), (4, 0)])


def text_in_the_middle(space: Modelspace) -> None:
    text = space.add_text("Ø12 H7", height=3.5, rotation=90)
    text.set_placement((5, 6), align=ezdxf.enums.TextEntityAlignment.MIDDLE_CENTER)


def dimension(space: Modelspace) -> None:
    space.add_linear_dim(base=(0, 10), p1=(0, 0), p2=(50, 0), text="<> H7").render()


def island(space: Modelspace) -> None:
    hatch = space.add_hatch()
    hatch.set_pattern_fill("ANSI31", scale=2, angle=15)
    hatch.paths.add_polyline_path(SQUARE, is_closed=True, flags=1)
    hatch.paths.add_polyline_path([(2, 2), (4, 2), (4, 4), (2, 4)], is_closed=True, flags=16)


def round_fill(space: Modelspace) -> None:
    hatch = space.add_hatch(color=1)
    hatch.paths.add_edge_path().add_arc((0, 0), radius=10, start_angle=0, end_angle=360)


@pytest.mark.parametrize(
    ("draw", "wanted"),
    [
        pytest.param(
            lambda space: space.add_line((0, 1, 7), (2.5, -3)),
            {"type": "LINE", "start": [0, 1], "end": [2.5, -3]},
            id="line",
        ),
        pytest.param(
            lambda space: space.add_circle((1, 2), 3.25),
            {"type": "CIRCLE", "center": [1, 2], "radius": 3.25},
            id="circle",
        ),
        pytest.param(
            lambda space: space.add_arc((1, 2), 3, -90, 45),
            {"type": "ARC", "center": [1, 2], "radius": 3, "start_angle": 270, "end_angle": 45},
            id="arc",
        ),
        pytest.param(
            lambda space: space.add_lwpolyline([(0, 0), (10, 0, 1), (10, 10)], format="xyb", close=True),
            {
                "type": "LWPOLYLINE",
                "points": [[0, 0], [10, 0], [10, 10]],
                "bulges": [0, 1, 0],
                "closed": True,
            },
            id="polyline",
        ),
        pytest.param(
            lambda space: space.add_polyline2d([(0, 0), (10, 0), (10, 5)]),
            {"type": "LWPOLYLINE", "points": [[0, 0], [10, 0], [10, 5]], "closed": False},
            id="old polyline",
        ),
        pytest.param(
            lambda space: space.add_polyline3d([(0, 0, 1), (10, 0, 2)]),
            {"type": "LWPOLYLINE", "points": [[0, 0], [10, 0]], "closed": False},
            id="polyline in space",
        ),
        pytest.param(
            lambda space: space.add_ellipse((1, 2), (10, 0), 0.5, 0, math.pi),
            {
                "type": "ELLIPSE",
                "center": [1, 2],
                "major_axis": [10, 0],
                "ratio": 0.5,
                "start_param": 0,
                "end_param": 3.141593,
            },
            id="ellipse",
        ),
        pytest.param(
            spline,
            {
                "type": "SPLINE",
                "degree": 3,
                "closed": False,
                "control_points": [[0, 0], [1, 2], [3, 2], [4, 0]],
                "knots": [0, 0, 0, 0, 1, 1, 1, 1],
            },
            id="spline",
        ),
        pytest.param(
            text_in_the_middle,
            {"type": "TEXT", "text": "Ø12 H7", "insert": [5, 6], "height": 3.5, "rotation": 90},
            id="text",
        ),
        pytest.param(
            lambda space: space.add_mtext(
                "{\\fArial|b1;First}\\Psecond %%c5",
                {"insert": (3, 4), "char_height": 2.5, "text_direction": (0, 1)},
            ),
            {"type": "MTEXT", "text": "First\nsecond Ø5", "insert": [3, 4], "height": 2.5, "rotation": 90},
            id="text of several lines",
        ),
        pytest.param(
            dimension,
            {
                "type": "DIMENSION",
                "dimension_type": "linear",
                "value": 50,
                "text": "<> H7",
                "points": [[0, 10], [0, 0], [50, 0]],
            },
            id="dimension",
        ),
        pytest.param(
            lambda space: space.add_radius_dim((0, 0), radius=7, angle=0).render(),
            {"type": "DIMENSION", "dimension_type": "radius", "value": 7},
            id="radius",
        ),
        pytest.param(
            lambda space: space.add_angular_dim_cra((0, 0), 5, 0, 60, 8).render(),
            {"type": "DIMENSION", "dimension_type": "angular", "value": 60},
            id="angle",
        ),
        pytest.param(
            lambda space: space.add_ordinate_x_dim((30, 4), (0, 10), origin=(10, 0)).render(),
            {"type": "DIMENSION", "dimension_type": "ordinate", "value": 20},
            id="ordinate",
        ),
        pytest.param(
            island,
            {
                "type": "HATCH",
                "pattern": "ANSI31",
                "solid": False,
                "scale": 2,
                "angle": 15,
                "area": 96,
                "paths": [[[0, 0], [10, 0], [10, 10], [0, 10]], [[2, 2], [4, 2], [4, 4], [2, 4]]],
            },
            id="hatch",
        ),
        pytest.param(
            lambda space: space.add_solid([(0, 0), (4, 0), (0, 3)]),
            {
                "type": "HATCH",
                "pattern": "SOLID",
                "solid": True,
                "area": 6,
                "paths": [[[0, 0], [4, 0], [0, 3]]],
            },
            id="filled triangle",
        ),
        pytest.param(
            lambda space: space.add_3dface([(0, 0), (4, 0), (4, 3), (0, 3)]),
            {"type": "LWPOLYLINE", "points": [[0, 0], [4, 0], [4, 3], [0, 3]], "closed": True},
            id="face",
        ),
        pytest.param(
            lambda space: space.add_leader([(0, 0), (5, 5), (8, 5)]),
            {"type": "LEADER", "points": [[0, 0], [5, 5], [8, 5]]},
            id="leader",
        ),
    ],
)
def test_each_entity_becomes_what_it_is(
    tmp_path: Path, draw: Callable[[Modelspace], object], wanted: Json
) -> None:
    """If this fails, entities of this kind are compared by wrong numbers."""
    found = only(tmp_path, draw)
    assert {name: found.get(name) for name in wanted} == wanted
    assert found.keys() - wanted.keys() <= {"insert", "points", "rotation", "text", "block"}


def test_a_round_hatch_has_the_area_of_its_circle(tmp_path: Path) -> None:
    """If this fails, hatches with curved outlines differ from what they were before each saving."""
    found = only(tmp_path, round_fill)
    assert found["solid"] is True
    assert found["area"] == pytest.approx(math.pi * 100, rel=0.01)
    (outline,) = found["paths"]
    assert all(math.hypot(x, y) == pytest.approx(10, rel=1e-3) for x, y in outline)


def test_a_leader_with_text_gives_each_line(tmp_path: Path) -> None:
    """If this fails, notes that point at two places lose one of them, or their text."""
    document, space = new()
    builder = space.add_multileader_mtext("Standard")
    builder.set_content("weld\\Pall round")
    builder.add_leader_line(ezdxf.render.ConnectionSide.left, [ezdxf.math.Vec2(-20, 15)])
    builder.add_leader_line(ezdxf.render.ConnectionSide.left, [ezdxf.math.Vec2(-20, -15)])
    builder.build(insert=ezdxf.math.Vec2(5, 0))
    found = geometry(tmp_path, document)

    assert [one["type"] for one in found["entities"]] == ["LEADER", "LEADER"]
    assert [one["points"][0] for one in found["entities"]] == [[-20, 15], [-20, -15]]
    assert [one.get("text") for one in found["entities"]] == ["weld\nall round", None]
    assert found["text_content"] == ["weld\nall round"]


@pytest.mark.parametrize(
    ("mirrored", "plain"),
    [
        (
            lambda space, plane: space.add_arc((-1, 2), 3, 0, 90, dxfattribs=plane),
            lambda space: space.add_arc((1, 2), 3, 90, 180),
        ),
        (
            lambda space, plane: space.add_circle((-1, 2), 3, dxfattribs=plane),
            lambda space: space.add_circle((1, 2), 3),
        ),
        (
            lambda space, plane: space.add_lwpolyline(
                [(0, 0, 0.5), (-9, 0, 0)], format="xyb", dxfattribs=plane
            ),
            lambda space: space.add_lwpolyline([(0, 0, -0.5), (9, 0, 0)], format="xyb"),
        ),
        (
            lambda space, plane: space.add_ellipse((1, 2), (4, 0), 0.5, 0, 1, dxfattribs=plane),
            lambda space: space.add_ellipse((1, 2), (4, 0), 0.5, -1, 0),
        ),
        (
            lambda space, plane: space.add_blockref(
                "HOLE", (-5, 1), dxfattribs={**plane, "rotation": 30, "xscale": 2, "yscale": 2}
            ),
            lambda space: space.add_blockref(
                "HOLE", (5, 1), dxfattribs={"rotation": -30, "xscale": -2, "yscale": 2}
            ),
        ),
    ],
    ids=["arc", "circle", "polyline", "ellipse", "insert"],
)
def test_what_was_mirrored_in_cad_is_written_as_it_looks(
    tmp_path: Path,
    mirrored: Callable[[Modelspace, Json], object],
    plain: Callable[[Modelspace], object],
) -> None:
    """If this fails, a part that somebody drew by mirroring differs from the same part drawn anew."""
    found = []
    for flip in (True, False):
        document, space = new()
        document.blocks.new("HOLE").add_circle((0, 0), 1)
        if flip:
            mirrored(space, {"extrusion": (0, 0, -1)})
        else:
            plain(space)
        found.append(geometry(tmp_path, document)["entities"])
    assert found[0] == found[1]


def test_blocks_come_once_with_what_they_refer_to(tmp_path: Path) -> None:
    """If this fails, parts in blocks are not compared, or a library of unused blocks is."""
    document, space = new()
    document.blocks.new("UNUSED").add_circle((0, 0), 99)
    hole = document.blocks.new("Hole", base_point=(1, 1))
    hole.add_circle((0, 0), 4)
    hole.add_attdef("SIZE", (0, 0), "M8")
    plate = document.blocks.new("PLATE")
    plate.add_lwpolyline(SQUARE, close=True)
    plate.add_blockref("HOLE", (5, 5))
    space.add_blockref(
        "plate", (0, 0), dxfattribs={"layer": "PARTS", "rotation": 90, "xscale": 2, "yscale": 3}
    )
    space.add_blockref(
        "HOLE", (50, 0), {"column_count": 3, "column_spacing": 20, "row_count": 2, "row_spacing": 10}
    ).add_attrib("SIZE", "M10", (50, 3))
    found = geometry(tmp_path, document)

    assert found["entities"] == [
        {
            "type": "INSERT",
            "layer": "PARTS",
            "name": "PLATE",
            "insert": [0, 0],
            "rotation": 90,
            "scale": [2, 3],
        },
        {
            "type": "INSERT",
            "layer": "0",
            "name": "Hole",
            "insert": [50, 0],
            "rotation": 0,
            "scale": [1, 1],
            "columns": 3,
            "rows": 2,
            "column_spacing": 20,
            "row_spacing": 10,
            "attributes": [
                {"tag": "SIZE", "text": "M10", "insert": [50, 3], "height": 2.5, "rotation": 0},
            ],
        },
    ]
    assert found["blocks"].keys() == {"PLATE", "Hole"}
    assert found["blocks"]["Hole"]["base_point"] == [1, 1]
    assert [one["type"] for one in found["blocks"]["Hole"]["entities"]] == ["CIRCLE"]
    assert [one["type"] for one in found["blocks"]["PLATE"]["entities"]] == ["LWPOLYLINE", "INSERT"]
    assert found["text_content"] == ["M10"]


def test_layers_are_those_in_use_under_one_name(tmp_path: Path) -> None:
    """If this fails, a colour that changed is not seen, or `holes` and `HOLES` are two layers."""
    document, space = new()
    document.layers.add("HOLES", color=1, linetype="CENTER")
    document.layers.add("TRUE", true_color=0x102030)
    document.layers.add("UNUSED", color=3)
    for layer in ("holes", "HOLES", "true", "undeclared"):
        space.add_circle((0, 0), 1, dxfattribs={"layer": layer})
    found = geometry(tmp_path, document)

    assert found["layers"] == {
        "HOLES": {"color": 1, "linetype": "CENTER"},
        "TRUE": {"color": "#102030", "linetype": "Continuous"},
        "undeclared": {"color": 7, "linetype": "Continuous"},
    }
    assert [one["layer"] for one in found["entities"]] == ["HOLES", "HOLES", "TRUE", "undeclared"]


@pytest.mark.parametrize("escape", ["\\U+039B", "\\U+039b"])
def test_names_are_told_with_the_letters_that_files_escape(tmp_path: Path, escape: str) -> None:
    """If this fails, a file that another program has saved has other layers."""
    document, space = new()
    document.layers.add(f"{escape}1")
    space.add_circle((0, 0), 1, dxfattribs={"layer": f"{escape}1"})
    found = geometry(tmp_path, document)

    assert list(found["layers"]) == ["\N{GREEK CAPITAL LETTER LAMDA}1"]
    assert found["entities"][0]["layer"] == "\N{GREEK CAPITAL LETTER LAMDA}1"


# -- what the drawing says of itself ----------------------------------------------------------


def title_block(document: Drawing, space: Any, **values: str) -> None:
    if "TITLE" not in document.blocks:
        document.blocks.new("TITLE").add_line((0, 0), (180, 0))
    reference = space.add_blockref("TITLE", (0, 0))
    for tag, value in values.items():
        reference.add_attrib(tag.replace("__", " "), value, (1, 1))


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"DRAWING_NO": "4711-02", "REV": "B", "TITLE": "Flange"}, ("4711-02", "B", "Flange")),
        ({"Zeichnungs-Nr.": "A 12", "AENDERUNGSINDEX": "c"}, ("A 12", "c", None)),
        ({"图号": "图-7", "名称": "法兰"}, ("图-7", None, "法兰")),
        ({"dwg__no": "X1", "DRAWING NUMBER": "X2"}, ("X2", None, None)),
        ({"DRAWING_NO": "---", "PART_NO": "9", "NUMBER": "8", "DWG": "7"}, (None, None, None)),
    ],
)
def test_number_revision_and_title_come_from_attributes_of_that_name(
    tmp_path: Path, tags: dict[str, str], wanted: tuple[str | None, ...]
) -> None:
    """If this fails, versions are told apart by a number that is not the drawing's."""
    document, space = new()
    title_block(document, space, **tags)
    meta = geometry(tmp_path, document)["meta"]
    assert tuple(meta.get(name) for name in ("drawing_number", "revision", "title")) == wanted


def test_two_numbers_are_none(tmp_path: Path) -> None:
    """If this fails, a sheet of several drawings passes for any one of them."""
    document, space = new()
    title_block(document, space, DRAWING_NO="4711")
    title_block(document, document.layout("Layout1"), DRAWING_NO="4712")
    found = extracted(tmp_path, document)
    assert "drawing_number" not in json.loads(found.data)["meta"]
    assert found.warnings == ("the title blocks give 2 drawing numbers (4711, 4712): none is taken",)


def test_units_and_properties_are_told(tmp_path: Path) -> None:
    """If this fails, a drawing in inches is compared with one in millimetres as if both had one unit."""
    document, space = new()
    space.add_line((0, 0), (1, 1))
    document.units = ezdxf.units.IN
    document.header.custom_vars.append("Part Number", "VRN-7")
    document.header.custom_vars.append("Drawing No", "4711")
    found = extracted(tmp_path, document)
    meta = json.loads(found.data)["meta"]

    assert meta == {
        "units": "in",
        "properties": {"Part Number": "VRN-7", "Drawing No": "4711"},
        "drawing_number": "4711",
    }
    assert read_geometry(found.data).unit_mm == 25.4


def test_an_empty_model_space_gives_way_to_a_layout(tmp_path: Path) -> None:
    """If this fails, drawings made on the sheet itself have no geometry."""
    document, _ = new()
    document.layout("Layout1").add_circle((1, 2), 3)
    found = extracted(tmp_path, document)
    assert [one["type"] for one in json.loads(found.data)["entities"]] == ["CIRCLE"]
    assert found.warnings == ("model space is empty: the layout Layout1 is taken",)


def test_sections_and_statistics_count_what_is_there(tmp_path: Path) -> None:
    """If this fails, what the command says of a file is not what is in it."""
    document, space = new()
    island(space)
    dimension(space)
    space.add_text("NOTE")
    space.add_blockref("B", (0, 0))
    document.blocks.new("B").add_line((0, 0), (1, 0))
    found = extracted(tmp_path, document)
    data = json.loads(found.data)

    assert data["dimensions"] == [
        {"layer": "0", "dimension_type": "linear", "value": 50, "text": "<> H7"},
    ]
    assert data["hatches"] == [{"layer": "0", "pattern": "ANSI31", "solid": False, "area": 96}]
    assert data["text_content"] == ["NOTE"]
    drawn = sum(len(block["entities"]) for name, block in data["blocks"].items() if name != "B")
    assert drawn > 4
    assert found.entities == 5 + drawn
    statistics = data["statistics"]
    assert statistics["by_type"].pop("LINE") > 1
    assert statistics["by_type"].items() >= {"DIMENSION": 1, "HATCH": 1, "TEXT": 1}.items()
    del statistics["by_type"]
    assert statistics == {"entities": 4, "entities_of_blocks": 1 + drawn, "blocks": 3, "layers": 1}


def test_what_draws_dimensions_has_names_that_saving_does_not_change(tmp_path: Path) -> None:
    """If this fails, a drawing that was saved again has another hash, or its dimensions no lines."""
    found = []
    for unused in (0, 3):
        document, space = new()
        for _ in range(unused):
            document.blocks.new_anonymous_block("D")
        dimension(space)
        found.append(geometry(tmp_path, document))
    assert found[0] == found[1]
    assert found[0]["entities"][0]["block"] in found[0]["blocks"]


def test_dimensions_are_not_drawn_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a drawing with many dimensions is refused for what is not even looked for."""
    monkeypatch.setattr(extracting, "_MOST", GeometryLimits(max_entities=5))
    document, space = new()
    dimension(space)
    found = extracted(tmp_path, document)
    assert found.entities == 1
    assert json.loads(found.data)["blocks"] == {}


# -- what is left out, and what is refused ----------------------------------------------------


def test_damaged_entities_are_left_out_and_counted(tmp_path: Path) -> None:
    """If this fails, one broken entity costs a drawing its geometry, or goes unsaid."""
    bad = hostile.line(0, 0, 1, 1).replace("\n1\n21", "\n1e99\n21")
    nan = hostile.line(0, 0, 1, 1).replace("\n1\n21", "\nnan\n21")
    circle = "0\nCIRCLE\n8\n0\n10\n0.0\n20\n0.0\n40\n1e300\n"
    found = extracted(tmp_path, hostile.dxf_text(hostile.PART + bad + nan + circle).encode())

    assert found.entities == 23
    (warning,) = found.warnings
    assert warning.startswith("not in the geometry, as they are damaged: ")
    assert "2 LINE" in warning
    assert "1 CIRCLE" in warning


def test_what_has_no_form_is_left_out_and_counted(tmp_path: Path) -> None:
    """If this fails, somebody takes two drawings for the same whose solids were never compared."""
    document, space = new()
    space.add_line((0, 0), (1, 1))
    space.add_point((3, 3))  # a mark that is not drawn: nobody misses it
    for _ in range(3):
        space.add_ray((0, 0), (1, 0))
    space.add_shape("DAMPER", (0, 0))
    space.add_line((0, 0), (5, 5), dxfattribs={"invisible": 1})
    mesh = space.add_polyface()
    mesh.append_face([(0, 0, 0), (1, 0, 0), (1, 1, 0)])
    found = extracted(tmp_path, document)

    assert found.entities == 1
    assert found.warnings == ("not in the geometry, as it has no form for them: 3 RAY, 1 SHAPE, 1 POLYLINE",)


def test_lines_of_several_strokes_are_taken_apart(tmp_path: Path) -> None:
    """If this fails, walls drawn as multilines are not compared."""
    document, space = new()
    space.add_mline([(0, 0), (10, 0)])
    found = geometry(tmp_path, document)["entities"]
    assert found
    assert {one["type"] for one in found} == {"LINE"}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (GeometryLimits(max_entities=10), "limit of 10 entities, those of blocks included"),
        (GeometryLimits(max_bytes=1000), "limit of 1,000 bytes of geometry"),
        (GeometryLimits(max_blocks=1), "limit of 1 blocks"),
        (GeometryLimits(max_layers=1), "limit of 1 layers"),
    ],
)
def test_more_than_the_json_may_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: GeometryLimits, said: str
) -> None:
    """If this fails, geometry is written that nobody can read again, or half of a drawing passes for all."""
    document, space = new()
    for number in range(2):
        block = document.blocks.new(f"B{number}")
        for x in range(6):
            block.add_line((x, 0), (x, 1), dxfattribs={"layer": f"L{number}"})
        space.add_blockref(f"B{number}", (0, 0))
    assert extracted(tmp_path, document).entities == 14
    monkeypatch.setattr(extracting, "_MOST", limits)
    with pytest.raises(UnreadableDrawingError, match=said):
        extracted(tmp_path, document)


def test_sections_that_only_repeat_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a sheet full of texts has no geometry although all its entities would fit."""
    document, space = new()
    for number in range(8):
        space.add_text(f"T{number}")
    limits = GeometryLimits(max_entities=10)
    monkeypatch.setattr(extracting, "_MOST", limits)
    found = extracted(tmp_path, document)
    assert len(read_geometry(found.data, limits).entities) == 8
    assert "text_content" not in json.loads(found.data)


@pytest.mark.parametrize(
    ("data", "name", "error", "said"),
    [
        (small_pdf(), "a.pdf", NoGeometryError, "a.pdf cannot be read: a PDF has no geometry: give DXF"),
        (small_png(), "a.png", NoGeometryError, "a PNG has no geometry"),
        (small_svg(), "a.svg", NoGeometryError, "an? SVG has no geometry"),
        (b"", "a.dxf", EmptyFileError, "0 bytes"),
        (b"what", "a.dxf", UnsupportedFormatError, "plain text"),
        (hostile.dxf_text("").encode(), "a.dxf", UnreadableDrawingError, "no entity with geometry"),
        (gzip.compress(small_dxf())[:-30], "a.dxf", UnreadableDrawingError, "gzip is damaged"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, data: bytes, name: str, error: type[Dedup2DError], said: str
) -> None:
    """If this fails, who gives a picture learns nothing of use."""
    with pytest.raises(error, match=said):
        extracted(tmp_path, data, name)


def test_the_limits_of_reading_hold(tmp_path: Path) -> None:
    """If this fails, a file too large for a search is read all the same."""
    path = tmp_path / "part.dxf"
    path.write_bytes(small_dxf())
    with pytest.raises(FileTooLargeError):
        extract(str(path), "part.dxf", ReadLimits(max_bytes=100))
    with pytest.raises(UnreadableDrawingError, match="limit of 10 entities"):
        extract(str(path), "part.dxf", ReadLimits(max_entities=10))


# -- whole files ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_samples_come_whole_and_are_themselves(tmp_path: Path, part: str) -> None:
    """If this fails, drawings lose entities on the way, or a file is not even like itself."""
    data = small_dxf(part)
    plain, zipped = extracted(tmp_path, data), extracted(tmp_path, gzip.compress(data), "part.dxf.gz")
    assert plain.warnings == ()
    assert plain.data == zipped.data
    found = read_geometry(plain.data)
    document = ezdxf.read(StringIO(data.decode()))
    assert len(found.entities) == len(document.modelspace())
    assert found.warnings == ()
    assert score(found, found).score == 1.0


def test_saving_again_changes_nothing(tmp_path: Path) -> None:
    """If this fails, the same drawing has another hash whenever somebody saves it."""
    first = extracted(tmp_path, small_dxf())
    document = ezdxf.readfile(tmp_path / "part.dxf")
    document.header["$LASTSAVEDBY"] = "somebody else"
    second = extracted(tmp_path, document)
    document.saveas(tmp_path / "binary.dxf", fmt="bin")
    third = extract(str(tmp_path / "binary.dxf"), "binary.dxf")
    assert geom_hash(first.data) == geom_hash(second.data) == geom_hash(third.data)


def test_dwg_gives_what_its_dxf_gives(tmp_path: Path) -> None:
    """If this fails, a part saved as DWG differs from its DXF."""
    drawn, (document, _) = ezdwg.new(), new()
    for space in (drawn.modelspace(), document.modelspace()):
        space.add_line((0, 0), (200, 0))
        space.add_line((200, 0), (200, 120))
        space.add_circle((100, 60), 30)
    drawn.save(str(tmp_path / "part.dwg"))
    dwg = json.loads(extract(str(tmp_path / "part.dwg"), "part.dwg").data)
    dxf = geometry(tmp_path, document)
    assert sorted(map(str, dwg["entities"])) == sorted(map(str, dxf["entities"]))


async def outcome(children: Children, path: Path) -> Extracted | Dedup2DError:
    try:
        return await extract_geometry(children, path, path.name, ReadLimits(max_seconds=20))
    except Dedup2DError as error:
        return error


@pytest.mark.anyio
async def test_hostile_files_end_soon_in_an_error_or_in_geometry(tmp_path: Path) -> None:
    """If this fails, one bad file can stop the service, or ends in a traceback."""
    cases = [case for case in hostile.CASES if case.name.startswith(("dxf", "truncated_d", "gzip"))]
    async with Children(processes=1) as children:
        for case in cases:
            directory = tmp_path / case.name
            directory.mkdir()
            path, begin = case.make(directory), time.monotonic()
            found = await outcome(children, path)
            if isinstance(found, Extracted):
                read_geometry(found.data)
            else:
                assert path.name in str(found), case.name
                assert str(tmp_path) not in str(found), case.name
            assert time.monotonic() - begin < 20, case.name


@pytest.mark.anyio
async def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """If this fails, a request with such a file never ends."""
    path = tmp_path / "part.dxf"
    path.write_bytes(hostile.dxf_text(hostile.line(0, 0, 1, 1) * 100_000).encode())
    async with Children(processes=1) as children:
        with pytest.raises(UnreadableDrawingError, match=r"longer than 0\.2 s"):
            await extract_geometry(children, path, "part.dxf", ReadLimits(max_seconds=0.2))
        path.write_bytes(small_dxf())
        assert (await extract_geometry(children, path, "part.dxf")).entities > 10
