"""Reading geometry JSON: what is taken, what is refused and how fast, and its canonical form."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup2d.errors import InvalidGeometryError
from dedup2d.geometry.canonical import canonical_json, geom_hash, to_data
from dedup2d.geometry.model import Arc, Circle, Dimension, Ellipse, Geometry, Insert, Line, Polyline, Text
from dedup2d.geometry.reading import GeometryLimits, read_geometry
from tests.geometry_drawings import Data, plate, read

LINE = b'{"type":"LINE","start":[1,2],"end":[3,4]}'
SECONDS = 2.0


def entities(*items: Data) -> tuple[object, ...]:
    return read({"entities": list(items)}).entities


def test_sections_may_be_missing_and_unknown_things_are_left_out() -> None:
    """If this fails, a plug-in that sends less, or more, than we know is refused."""
    geometry = read(
        {"version": "2.0", "entities": [{"type": "TORUS"}, {"type": "TORUS"}, {}], "layers": None}
    )

    assert read({}) == Geometry()
    assert geometry == Geometry()
    assert geometry.warnings == (
        "2 entities of type TORUS are not compared",
        "1 entities of type without a type are not compared",
    )


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (
            {"type": "line", "start_point": {"x": 1, "y": 2, "z": 3}, "p2": [3, 4], "layer_name": "A"},
            Line(start=(1.0, 2.0, 3.0), end=(3.0, 4.0), layer="A"),
        ),
        ({"dxftype": "CIRCLE", "centre": [1, 2], "diameter": 5}, Circle(center=(1.0, 2.0), radius=2.5)),
        (
            {"type": "ARC", "center": [0, 0], "r": 2, "start_angle": 0, "end_angle": 90, "thickness": 3},
            Arc(center=(0.0, 0.0), radius=2.0, start_angle=0.0, end_angle=90.0),
        ),
        (
            {"type": "POLYLINE", "vertices": [[0, 0, 9], [1, 1, 9]], "flags": 1},
            Polyline(points=((0.0, 0.0), (1.0, 1.0)), closed=True),
        ),
        (
            {"type": "LWPOLYLINE", "points": [{"x": 0, "y": 0, "bulge": 1}, [1, 1]], "is_closed": False},
            Polyline(points=((0.0, 0.0, 1.0), (1.0, 1.0))),
        ),
        (
            {
                "type": "INSERT",
                "block_name": "A",
                "position": [0, 0],
                "xscale": 2,
                "yscale": -2,
                "layer": None,
            },
            Insert(name="A", insert=(0.0, 0.0), scale=(2.0, -2.0)),
        ),
        (
            {"type": "MTEXT", "content": "A", "location": [0, 0]},
            Text(type="MTEXT", text="A", insert=(0.0, 0.0)),
        ),
        (
            {"type": "DIMENSION", "measurement": 5, "dimtype": 32, "defpoint": [0, 0], "defpoint2": [1, 0]},
            Dimension(value=5.0, dimension_type=32, points=((0.0, 0.0), (1.0, 0.0))),
        ),
        (
            {"type": "ELLIPSE", "center": [0, 0], "major_radius": 4, "minor_radius": 2, "rotation": 0},
            Ellipse(center=(0.0, 0.0), major_axis=(4.0, 0.0), ratio=0.5),
        ),
    ],
)
def test_other_names_and_ways_are_known(sent: Data, known: object) -> None:
    """If this fails, entities as plug-ins write them are refused or lose what they say."""
    assert entities(sent) == (known,)


def test_sections_of_their_own_are_read() -> None:
    """If this fails, dimensions, hatches and texts outside of the entities are lost."""
    geometry = read(
        {
            "dimensions": [{"type": "linear", "value": 5}],
            "hatches": [{"pattern_name": "ANSI31", "area": 3}],
            "text_content": ["A", {"text": "B", "insert": [1, 2]}],
            "blocks": {"A": [{"type": "LINE", "start": [0, 0], "end": [1, 1]}], "B": {}},
            "meta": {"drawing_number": " X-1 ", "units": "Inch", "mine": [1]},
        }
    )

    assert geometry.dimensions[0].dimension_type == "linear"
    assert geometry.hatches[0].pattern == "ANSI31"
    assert [text.text for text in geometry.text_content] == ["A", "B"]
    assert len(geometry.blocks["A"].entities) == 1
    assert (geometry.drawing_number, geometry.unit_mm, geometry.meta["mine"]) == ("X-1", 25.4, [1])


@pytest.mark.parametrize(
    ("data", "path", "said"),
    [
        (b"", "the document", "empty"),
        (b"{", "the document", "not JSON"),
        (b"\xff\xfe", "the document", "not JSON"),
        (b"[]", "the document", "expected `object`"),
        (b'{"entities":{}}', "entities", "expected `array`"),
        (b'{"entities":[[]]}', "entities[0]", "expected `object`"),
        (b'{"entities":[{"type":5}]}', "entities[0].type", "expected `string`"),
        (
            b'{"entities":[%s,{"type":"LINE","start":[1,"2"],"end":[0,0]}]}' % LINE,
            "entities[1].start[1]",
            "float",
        ),
        (b'{"entities":[{"type":"LINE","start":[1],"end":[0,0]}]}', "entities[0].start", "length >= 2"),
        (b'{"entities":[{"type":"LINE","start":[1,2]}]}', "entities[0]", "`end`"),
        (b'{"entities":[{"type":"CIRCLE","center":[1,2],"radius":-1}]}', "entities[0].radius", ">= 0"),
        (b'{"entities":[{"type":"LINE","start":[NaN,2],"end":[0,0]}]}', "byte 37", "no JSON number"),
        (b'{"entities":[{"type":"LINE","start":[-Infinity,2],"end":[0,0]}]}', "byte 37", "no JSON number"),
        (
            b'{"entities":[{"type":"LINE","start":[1e999,2],"end":[0,0]}]}',
            "entities[0][...][0]",
            "out of range",
        ),
        (b'{"entities":[{"type":"LINE","start":[1e13,2],"end":[0,0]}]}', "entities[0].start[0]", "<="),
        (b'{"blocks":{"A":5}}', "blocks.A", "expected `object`"),
        (b'{"blocks":{"A":[{"type":"TEXT","text":5}]}}', "blocks.A.entities[0].text", "str"),
        (b'{"layers":{"A":{"color":1.5}}}', "layers.A.color", "int"),
        (b'{"text_content":[5]}', "text_content[0]", "`string` or `object`"),
        (b'{"meta":{"drawing_number":[]}}', "meta.drawing_number", "expected `string`"),
        (
            b'{"entities":[{"type":"TEXT","text":"%s"}]}' % (b"A" * 40_000),
            "entities[0].text",
            "length <= 32768",
        ),
    ],
)
def test_what_is_wrong_is_named(data: bytes, path: str, said: str) -> None:
    """If this fails, who sent wrong geometry is not told where it is wrong, or it passes."""
    with pytest.raises(InvalidGeometryError) as caught:
        read_geometry(data)

    assert caught.value.code == "INVALID_GEOM_JSON"
    assert caught.value.path == path
    assert said in str(caught.value)


def _many(item: bytes, count: int) -> bytes:
    return b'{"entities":[' + b",".join([item] * count) + b"]}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"entities":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "64 levels"),
        (b'{"entities":' + b"[" * 10_000 + b"]" * 10_000 + b"}" + b" " * 10_400_000, "64 levels"),
        (b"[" * 10_000_000, "64 levels"),
        (b'{"a":"' + b"[" * 500 + b'\\"' + b"[" * 500 + b'","entities":5}', "expected `array`"),
        (_many(b"{}", 1_000_000), "200,000 entities"),
        (b'{"blocks":{"A":' + b"[" + b",".join([b"{}"] * 200_001) + b"]}}", "200,000 entities"),
        (b" " * 10_500_000, "10,485,760 bytes"),
    ],
    ids=["deep", "deep and long", "deepest", "brackets in texts", "million", "in a block", "large"],
)
def test_limits_are_named_and_quickly(data: bytes, said: str) -> None:
    """If this fails, hostile geometry keeps a process busy or ends it, or no one is told the limit."""
    start = time.process_time()
    with pytest.raises(InvalidGeometryError, match=said):
        read_geometry(data)

    assert time.process_time() - start < SECONDS


def test_the_limits_can_be_set() -> None:
    """If this fails, one cannot allow less than the defaults."""
    with pytest.raises(InvalidGeometryError, match="limit of 2 entities"):
        read_geometry(_many(LINE, 3), GeometryLimits(max_entities=2))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_geometry_or_refused(data: bytes) -> None:
    """If this fails, some bytes make reading fail with an error that is not ours."""
    try:
        read_geometry(data)
    except InvalidGeometryError:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["type", "start", "center", "points", "radius", "text", "insert", "name", "value", "scale"]
)
KINDS = st.sampled_from(["LINE", "CIRCLE", "LWPOLYLINE", "INSERT", "DIMENSION", "HATCH", "ELLIPSE", "SPLINE"])


@given(
    kind=KINDS,
    fields=st.dictionaries(NAMES, JSON, max_size=5),
    section=st.sampled_from(["entities", "hatches"]),
)
@settings(max_examples=150, deadline=None)
def test_any_fields_are_geometry_or_refused(kind: str, fields: Data, section: str) -> None:
    """If this fails, an entity with odd fields makes reading fail with an error that is not ours."""
    try:
        read_geometry(json.dumps({section: [{**fields, "type": kind}]}).encode())
    except InvalidGeometryError:
        return


def test_the_canonical_form_is_sorted_rounded_and_without_spaces() -> None:
    """If this fails, equal geometry has different hashes."""
    one = b'{"b": [-0.0, 1.00000001, 0.12345, 1e3], "a": {"d": null, "c": "\xc3\xa9"}}'

    assert canonical_json(one) == '{"a":{"c":"é","d":null},"b":[0,1,0.123,1000]}'.encode()
    assert canonical_json(json.loads(one)) == canonical_json(one)
    assert geom_hash(one) == hashlib.sha256(canonical_json(one)).hexdigest()


def test_a_geometry_is_written_as_it_is_read() -> None:
    """If this fails, geometry that went through the model and back is another one."""
    geometry = read(plate())

    assert read_geometry(canonical_json(geometry)) == read_geometry(canonical_json(canonical_json(geometry)))
    assert geom_hash(geometry) == geom_hash(to_data(geometry))


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000, {"a": float("nan")}])
def test_what_is_not_json_has_no_hash(data: bytes | Data) -> None:
    """If this fails, hashing what is no JSON fails with an error that is not ours."""
    with pytest.raises(InvalidGeometryError):
        geom_hash(data)


def test_the_schema_in_the_docs_is_that_of_the_model() -> None:
    """If this fails, docs/geometry.schema.json is not what `python docs/geometry_schema.py` writes."""
    place = Path(__file__).parents[1] / "docs" / "geometry_schema.py"
    spec = importlib.util.spec_from_file_location("geometry_schema", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.TARGET.read_text(encoding="utf-8") == module.text()
