"""`dedup2d geometry`, and `dedup2d compare --geometry`."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import ezdxf
import pytest
from ezdxf.document import Drawing

from dedup2d.geometry.reading import read_geometry
from tests import hostile
from tests.cli_support import run, run_process
from tests.drawings import small_dxf, small_pdf

pytestmark = pytest.mark.timeout(120)

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("DEDUP2D_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def part(here: Path) -> Path:
    path = here / "part.dxf"
    path.write_bytes(small_dxf())
    return path


def changed(here: Path, name: str, change: Callable[[Drawing], object]) -> Path:
    document = ezdxf.readfile(here / "part.dxf")
    change(document)
    document.saveas(here / name)
    return here / name


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- geometry ---------------------------------------------------------------------------------


def test_json_goes_to_stdout_and_nothing_else(part: Path, capsys: Capture) -> None:
    """If this fails, the output cannot be piped into another program."""
    done = run(capsys, "geometry", part)
    assert (done.code, done.err) == (0, "")
    assert len(read_geometry(done.out.encode()).entities) == done.json["statistics"]["entities"] > 20


def test_json_goes_into_a_file(part: Path, here: Path, capsys: Capture) -> None:
    """If this fails, the file is not what would be printed, or the summary gets into stdout."""
    printed = run(capsys, "geometry", part)
    written = run(capsys, "geometry", part, "--output", "out.json")
    assert (written.code, written.out) == (0, "")
    assert "geometry written to out.json" in written.err
    assert "units: mm" in written.err
    assert (here / "out.json").read_text() == printed.out
    assert entries(here) == ["out.json", "part.dxf"]

    (here / "out.json").write_text("old")
    quiet = run(capsys, "geometry", part, "-o", "out.json", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert (here / "out.json").read_text() == printed.out


def test_a_device_is_written_to_and_not_replaced(part: Path, capsys: Capture) -> None:
    """If this fails, `--output /dev/null` replaces the device, or asks for rights to do so."""
    assert run(capsys, "geometry", part, "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_the_summary_says_what_is_in_it(here: Path, capsys: Capture) -> None:
    """If this fails, an engineer must read JSON to learn what was found."""
    document = hostile.dxf_document()
    document.units = ezdxf.units.MM
    document.layers.add("HOLES")
    document.blocks.new("FRAME").add_line((0, 0), (1, 0))
    space = document.modelspace()
    space.add_circle((0, 0), 3, dxfattribs={"layer": "HOLES"})
    space.add_blockref("FRAME", (0, 0)).add_attrib("DRAWING_NO", "47\x1b[31m11", (0, 0))
    space.add_ray((0, 0), (1, 0))
    (here / "a.dxf").write_bytes(hostile.dxf_bytes(document))
    done = run(capsys, "geometry", "a.dxf", "--summary")

    assert done.out.splitlines()[0] == "6 entities: 2 CIRCLE, 1 INSERT, 1 LINE, 1 LWPOLYLINE, 1 TEXT"
    assert done.out.splitlines()[1].startswith("2 layers, 1 block, ")
    assert done.out.splitlines()[2:] == ["drawing number: 47\\x1b[31m11", "units: mm"]
    assert "warning: not in the geometry, as it has no form for them: 1 RAY" in done.err
    assert run(capsys, "geometry", "a.dxf", "--summary", "-o", "a.json").out == done.out
    assert json.loads((here / "a.json").read_text())["meta"]["units"] == "mm"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.dxf"], "missing.dxf cannot be read: No such file or directory"),
        (["."], "it is a folder"),
        (["part.pdf"], "part.pdf cannot be read: a PDF has no geometry: give DXF (also gzipped), DWG or"),
        (["empty.dxf"], "empty.dxf is empty (0 bytes)"),
        (["note.txt"], "note.txt is not a drawing that can be read"),
        (["part.dxf", "-o", "part.dxf"], "--output=part.dxf is not allowed: give a file that is no drawing"),
        (["part.dxf", "-o", "part.pdf"], "this one would be lost"),
        (["part.dxf", "-o", "no/where.json"], "give a file in a folder that exists"),
        (["part.dxf", "-o", "."], "this is a folder"),
        ([], "see dedup2d geometry --help"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], said: str, part: Path, here: Path, capsys: Capture
) -> None:
    """If this fails, a mistake ends in a traceback, in a lost drawing, or in nothing of use."""
    (here / "part.pdf").write_bytes(small_pdf())
    (here / "empty.dxf").touch()
    (here / "note.txt").write_text("note")
    before = entries(here)
    done = run(capsys, "geometry", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("dedup2d: error: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert entries(here) == before
    assert part.read_bytes() == small_dxf()


def test_a_slow_file_is_given_up(part: Path, here: Path) -> None:
    """If this fails, one bad file holds the command for ever."""
    part.write_text(hostile.dxf_text(hostile.line(0, 0, 1, 1) * 150_000))
    done = run_process(["geometry", part], here / "data", DEDUP2D_READ_MAX_SECONDS="1")
    assert done.code == 2
    assert "it took longer than 1 s" in done.err


# -- compare --geometry -----------------------------------------------------------------------


def test_a_file_is_itself_however_it_is_given(part: Path, here: Path, capsys: Capture) -> None:
    """If this fails, a drawing differs from its own geometry as a plug-in sends it."""
    run(capsys, "geometry", part, "-o", "part.json")
    (here / "part.dxf.gz").write_bytes(gzip.compress(part.read_bytes()))
    for old, new in (("part.dxf", "part.json"), ("part.json", "part.dxf.gz")):
        done = run(capsys, "compare", old, new, "--geometry")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("similarity 1.000 by geometry (profile strict), verdict duplicate\n")
        assert done.out.endswith("nothing differs\n")


def circles(document: Drawing) -> list[ezdxf.entities.Circle]:
    return list(document.modelspace().query("CIRCLE"))


def wider(document: Drawing) -> None:
    circles(document)[0].dxf.radius += 0.25


def with_note(document: Drawing) -> None:
    document.modelspace().add_text("DEBURR ALL EDGES", height=3).set_placement((12, 34))


def test_what_changed_is_named(part: Path, here: Path, capsys: Capture) -> None:
    """If this fails, an engineer does not see what differs between two revisions."""
    radius = circles(ezdxf.readfile(part))[0].dxf.radius
    new = changed(here, "new.dxf", lambda document: (wider(document), with_note(document)))
    done = run(capsys, "compare", part, new, "--geometry")

    assert done.code == 0
    lines = done.out.splitlines()
    assert float(lines[0].split()[1]) < 1
    assert lines[1] == "section\tscore\tweight\told\tnew\tmatched"
    assert any(line.startswith("entities\t0.") for line in lines)
    assert f"radius {radius:.6g} → {radius + 0.25:.6g}" in done.out
    (note,) = (line for line in lines if "DEBURR" in line)
    assert note.split("\t")[:4] == ["added", "TEXT (texts)", "12", "34"]

    document = run(capsys, "compare", part, new, "--geometry", "--json").json
    assert (document["old"], document["profile"]) == (str(part), "strict")
    assert document["similarity"] == pytest.approx(float(lines[0].split()[1]), abs=0.001)
    assert document["breakdown"]["texts"]["other"] == document["breakdown"]["texts"]["query"] + 1
    kinds = {(one["kind"], one["type"]) for one in document["diff"]["entries"]}
    assert {("added", "TEXT"), ("changed", "CIRCLE")} <= kinds


def test_the_list_of_differences_is_bounded(part: Path, here: Path, capsys: Capture) -> None:
    """If this fails, two drawings of thousands of differences fill the screen."""

    def many(document: Drawing) -> None:
        for number in range(60):
            document.modelspace().add_text(f"N{number}", height=2).set_placement((number, 500))

    done = run(capsys, "compare", part, changed(here, "new.dxf", many), "--geometry")
    assert sum(line.startswith("added\t") for line in done.out.splitlines()) == 20
    assert "60 differences" in done.out
    assert "the first 20 of them here" in done.out


def test_what_has_nothing_in_common_ends_with_1(part: Path, here: Path, capsys: Capture) -> None:
    """If this fails, a script takes strangers for revisions."""
    (here / "other.json").write_text(
        json.dumps(
            {"entities": [{"type": "CIRCLE", "center": [7 * n * n, n], "radius": n} for n in range(1, 9)]}
        )
    )
    done = run(capsys, "compare", part, "other.json", "--geometry", "--json")
    assert (done.code, done.json["verdict"]) == (1, "different")
    (here / "empty.json").write_text("{}")
    empty = run(capsys, "compare", "empty.json", "empty.json", "--geometry")
    assert (empty.code, empty.out) == (1, "the two have nothing that can be compared by geometry\n")


def test_profile_and_thresholds_decide_the_verdict(part: Path, here: Path, capsys: Capture) -> None:
    """If this fails, options are taken and not applied."""
    new = changed(here, "new.dxf", wider)
    similarity = {
        profile: run(capsys, "compare", part, new, "--geometry", "--profile", profile, "--json").json
        for profile in ("strict", "version")
    }
    assert similarity["version"]["profile"] == "version"
    assert similarity["strict"]["similarity"] < 1
    strict = ["compare", str(part), str(new), "--geometry", "--json", "--duplicate-threshold", "1"]
    assert run(capsys, *strict).json["verdict"] == "similar"
    different = run(capsys, *strict, "--similar-threshold", "1")
    assert (different.code, different.json["verdict"]) == (1, "different")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["part.dxf", "part.pdf"], "part.pdf cannot be read: a PDF has no geometry"),
        (["cut.json", "part.dxf"], "cut.json cannot be used as geometry: the document is not JSON"),
        (
            ["part.dxf", "wrong.json"],
            "wrong.json cannot be used as geometry: entities[0].radius has a wrong value",
        ),
        (["part.dxf", "nan.json"], "nan.json cannot be used as geometry: byte"),
        (["part.dxf", "deep.json"], "deep.json cannot be used as geometry: the document is nested deeper"),
        (
            ["part.dxf", "big.json"],
            "big.json cannot be read: it is larger than the limit of 10,485,760 bytes",
        ),
        (["part.dxf", "missing.json"], "missing.json cannot be read: No such file or directory"),
        (["part.dxf", "part.dxf", "--diff", "d.png"], "--diff=d.png is not allowed: give no picture"),
        (["part.dxf", "part.dxf", "--ignore", "frame"], "--ignore=frame is not allowed: give no area"),
        (["part.dxf", "part.dxf", "--similar-threshold", "2"], "similar_threshold=2.0 is not allowed"),
    ],
)
def test_wrong_geometry_is_one_line(
    arguments: list[str], said: str, part: Path, here: Path, capsys: Capture
) -> None:
    """If this fails, bad geometry ends in a traceback, or nobody learns which of the files it is."""
    (here / "part.pdf").write_bytes(small_pdf())
    (here / "cut.json").write_text('{"entities":[')
    (here / "wrong.json").write_text('{"entities":[{"type":"CIRCLE","center":[0,0],"radius":"wide"}]}')
    (here / "nan.json").write_text('{"entities":[{"type":"CIRCLE","center":[0,NaN],"radius":1}]}')
    (here / "deep.json").write_text('{"meta":' + "[" * 10_000 + "]" * 10_000 + "}")
    (here / "big.json").write_text('{"meta":{"a":"' + "x" * 10_485_760 + '"}}')
    done = run(capsys, "compare", *arguments, "--geometry")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("dedup2d: error: ")
    assert done.err.count("\n") == 1
    assert said in done.err


def test_a_profile_needs_geometry(part: Path, capsys: Capture) -> None:
    """If this fails, somebody believes that pictures were compared by that profile."""
    done = run(capsys, "compare", part, part, "--profile", "version")
    assert done.code == 2
    assert "--profile=version is not allowed: give it together with --geometry" in done.err
