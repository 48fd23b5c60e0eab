"""`search`, `compare`, `drawings`, `remove` and `scan` on a small index."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from dedup2d.cli import main
from tests import hostile
from tests.cli_support import Done, run
from tests.drawings import revised_png, small_dxf, small_pdf, small_png

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.timeout(180)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `drawings`, indexed in `data`; not to be changed."""
    top = tmp_path_factory.mktemp("indexed")
    folder = top / "drawings"
    folder.mkdir()
    (folder / "flange.png").write_bytes(small_png(long_side=1000))
    (folder / "flange copy.png").write_bytes(small_png(long_side=1000))
    (folder / "flange.pdf").write_bytes(small_pdf())
    (folder / "flange rev B.png").write_bytes(revised_png(long_side=1000))
    (folder / "shaft\n\x1b[31m.pdf").write_bytes(small_pdf("shaft"))
    (folder / "plate.dxf").write_bytes(small_dxf("plate"))
    assert main(["index", str(folder), "--data-dir", str(top / "data"), "--jobs", "2", "--quiet"]) == 0
    return top


@pytest.fixture
def here(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(indexed / "data"))
    monkeypatch.chdir(indexed)
    return indexed / "drawings"


def test_search_finds_the_drawing_itself_and_its_kin_first(here: Path, capsys: Capture) -> None:
    """If this fails, the command does not answer its one question."""
    done = run(capsys, "search", here / "flange.pdf", "--json")

    assert done.code == 0
    names = [match["file_name"] for match in done.json["duplicates"]]
    assert set(names) >= {"flange.pdf", "flange.png", "flange copy.png"}
    assert not {"plate.dxf", "shaft__[31m.pdf"} & set(names)
    assert done.json["file"] == str(here / "flange.pdf")
    assert all("diff_image_base64" not in match for match in done.json["duplicates"])


def test_search_prints_a_table_that_cut_and_awk_can_read(here: Path, capsys: Capture) -> None:
    """If this fails, piped output has colours, boxes, or broken rows."""
    done = run(capsys, "search", here / "flange.png")

    header, *rows = [line.split("\t") for line in done.out.splitlines()]
    assert header == ["similarity", "relation", "verdict", "drawing", "page", "id", "why"]
    assert all(len(row) == 7 for row in rows)
    assert done.out.replace("\n", "").replace("\t", "").isprintable()
    assert ["1.000", "exact", "duplicate", "drawings/flange.png", "1"] in [row[:5] for row in rows]


def test_several_files_are_told_apart(here: Path, capsys: Capture) -> None:
    """If this fails, nobody knows which match answers which file."""
    done = run(capsys, "search", here / "flange.png", here / "plate.dxf", "--max-results", "1")

    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["query", "flange.png", "query", "plate.dxf"]


def test_exclude_self_leaves_out_the_same_bytes(here: Path, capsys: Capture) -> None:
    """If this fails, a search by an indexed file always finds that file first."""
    done = run(capsys, "search", here / "flange.png", "--exclude-self", "--json")

    found = {match["file_name"] for match in (*done.json["duplicates"], *done.json["similar"])}
    assert "flange.pdf" in found
    assert not {"flange.png", "flange copy.png"} & found


def test_nothing_found_is_exit_code_1(here: Path, capsys: Capture, tmp_path: Path) -> None:
    """If this fails, `dedup2d search ... || echo new` calls everything known."""
    stranger = hostile.write(tmp_path, "stranger.png", hostile.encoded("PNG"))

    done = run(capsys, "search", stranger, "--similar-threshold", "0.95")

    assert done.code == 1
    assert done.out == ""
    assert "nothing like it among 6 drawings" in done.err


def test_differences_are_written_under_safe_names(here: Path, capsys: Capture, tmp_path: Path) -> None:
    """If this fails, a file name decides where pictures are written."""
    query = tmp_path / "..  -rf \n$(x).png"
    query.write_bytes(revised_png(long_side=1000))

    done = run(capsys, "search", query, "--diff", tmp_path / "out" / "diffs", "--json")

    written = sorted((tmp_path / "out" / "diffs").iterdir())
    assert written
    assert all(path.read_bytes().startswith(PNG) for path in written)
    assert all(set(path.name) <= set("abcdefghijklmnopqrstuvwxyzBR0123456789-_.") for path in written)
    told = {match["diff_file"] for match in (*done.json["duplicates"], *done.json["similar"])} - {None}
    assert told == {str(path) for path in written}


def test_one_bad_file_among_several_does_not_hide_the_others(here: Path, capsys: Capture) -> None:
    """If this fails, a search for a hundred files stops at the third."""
    done = run(capsys, "search", "missing.png", here / "flange.png", "--max-results", "1", "--json")

    assert done.code == 3
    assert done.json["duplicates"]
    assert done.err.count("dedup2d: error: missing.png: ") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-results", "0"], "max_results=0 is not allowed"),
        (["--mode", "deep"], 'Invalid value "deep" for --mode'),
        (["--similar-threshold", "0.99"], "similar_threshold=0.99"),
        (["--similar-threshold", "nan"], "similar_threshold=nan"),
        (["--nonsense"], "--nonsense"),
        (["--data-dir", ""], "--data-dir"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, here: Path, capsys: Capture
) -> None:
    """If this fails, a mistyped option is ignored or answered by a traceback."""
    done = run(capsys, "search", here / "flange.png", *arguments)

    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("dedup2d: error: ")
    assert done.err.count("\n") == 1
    assert said in done.err


def test_bad_input_is_one_line_and_exit_code_2(here: Path, capsys: Capture, tmp_path: Path) -> None:
    """If this fails, one of the files that people do send ends in a traceback or without a reason."""
    made = (
        *(hostile.empty, hostile.text_named_png, hostile.truncated_png, hostile.png_of_900_megapixels),
        *(hostile.locked_pdf, hostile.named_pipe, hostile.folder, hostile.link_in_circles),
    )
    for maker in made:
        path = maker(tmp_path)
        done = run(capsys, "search", path)
        assert done.code == 2, path
        assert done.err.startswith(f"dedup2d: error: {path}: "), done.err
        assert done.err.count("\n") == 1, done.err


def test_an_empty_index_is_an_error_that_says_what_to_do(here: Path, capsys: Capture, tmp_path: Path) -> None:
    """If this fails, a search in the wrong data directory looks like a new drawing."""
    done = run(capsys, "search", here / "flange.png", "--data-dir", tmp_path / "new")

    assert done.code == 2
    assert "run dedup2d index FOLDER first" in done.err


def test_compare_shows_what_changed(here: Path, capsys: Capture, tmp_path: Path) -> None:
    """If this fails, nobody sees what a revision changed."""
    old, new, picture = here / "flange.png", here / "flange rev B.png", tmp_path / "diff.png"

    done = run(capsys, "compare", old, new, "--diff", picture, "--json")

    assert done.code == 0
    assert done.json["diff_regions"]
    assert done.json["diff_file"] == str(picture)
    assert picture.read_bytes().startswith(PNG)
    table = run(capsys, "compare", old, new)
    assert "change\tx\ty\twidth\theight\tarea\tplace" in table.out
    assert done.json["reason"] in table.out


def test_what_is_ignored_is_no_change(here: Path, capsys: Capture) -> None:
    """If this fails, a mask changes nothing, or a misspelt one silently masks nothing."""
    old, new = here / "flange.png", here / "flange rev B.png"

    done = run(capsys, "compare", old, new, "--ignore", "0,0,1,1", "--json")
    wrong = run(capsys, "search", new, "--ignore", "titleblock")

    assert done.json["diff_regions"] == []
    assert wrong.code == 2
    assert "titleblock" in wrong.err
    assert "X,Y,WIDTH,HEIGHT" in wrong.err


def test_a_model_is_asked_where_one_is_set(here: Path, capsys: Capture) -> None:
    """If this fails, `--enable-ml` has no effect, and nobody is told."""
    done = run(capsys, "search", here / "flange.png", "--enable-ml", "--json")
    plain = run(capsys, "search", here / "flange.png", "--json")

    assert any("DEDUP2D_ML_MODEL" in text for text in done.json["warnings"])
    assert not any("DEDUP2D_ML_MODEL" in text for text in plain.json["warnings"])


def test_compare_of_strangers_is_exit_code_1(here: Path, capsys: Capture) -> None:
    """If this fails, a script takes two different drawings for related."""
    done = run(capsys, "compare", here / "flange.png", here / "plate.dxf")

    assert done.code == 1
    assert done.out.startswith("no relation")


def test_compare_with_itself_is_exact(here: Path, capsys: Capture) -> None:
    """If this fails, a drawing is not even found to be itself."""
    done = run(capsys, "compare", here / "flange.png", here / "flange copy.png", "--json")

    assert (done.code, done.json["relation"], done.json["similarity"]) == (0, "exact", 1.0)


def test_drawings_are_listed_page_by_page(here: Path, capsys: Capture) -> None:
    """If this fails, a list ends after its first page or repeats drawings."""
    assert here
    seen: list[str] = []
    token: list[str] = []
    for _ in range(10):
        page = run(capsys, "drawings", "--limit", "4", "--json", *token).json
        seen += [one["drawing_id"] for one in page["drawings"]]
        if page["next_page_token"] is None:
            break
        token = ["--page-token", page["next_page_token"]]

    assert len(seen) == len(set(seen)) == 6
    table = run(capsys, "drawings", "--limit", "4")
    assert len(table.rows) == 4
    assert "more with --all or --page-token" in table.err
    assert len(run(capsys, "drawings", "--all").rows) == 6
    assert r"drawings/shaft\n\x1b[31m.pdf" in run(capsys, "drawings").out


def test_a_foreign_page_token_is_one_line(here: Path, capsys: Capture) -> None:
    """If this fails, a mistyped token ends in a traceback."""
    assert here
    done = run(capsys, "drawings", "--page-token", "\x1b[31mnonsense")

    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.strip().isprintable()


def test_removed_drawings_are_gone_and_others_are_named(
    indexed: Path, capsys: Capture, tmp_path: Path
) -> None:
    """If this fails, a drawing that had to go is still found, or a mistyped id passes in silence."""
    data = tmp_path / "data"
    shutil.copytree(indexed / "data", data)
    first = run(capsys, "drawings", "--json", "--data-dir", data).json["drawings"][0]["drawing_id"]

    done = run(capsys, "remove", first, "nonsense", "--data-dir", data, "--json")

    assert done.code == 3
    assert done.json == {"removed": [first], "not_found": ["nonsense"]}
    assert "'nonsense'" in done.err or "nonsense is not in the index" in done.err
    assert run(capsys, "drawings", "--json", "--data-dir", data).json["total"] == 5
    assert run(capsys, "remove", first, "--data-dir", data).code == 2


def make_stale(data: Path) -> None:
    """Make an index look as if another version of the engine had filled it."""
    (file,) = data.rglob("catalogue.sqlite3")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE drawings SET fingerprint_version = fingerprint_version + 1")
    connection.close()


def test_an_index_of_another_engine_is_told_and_can_be_rebuilt(
    indexed: Path, here: Path, capsys: Capture, tmp_path: Path
) -> None:
    """If this fails, an upgrade makes searches find nothing, and nobody knows why."""
    data = tmp_path / "data"
    shutil.copytree(indexed / "data", data)
    make_stale(data)

    told = run(capsys, "index", here, "--data-dir", data)
    assert "6 drawings have fingerprints of another version" in told.err
    assert "dedup2d rebuild" in told.err
    done = run(capsys, "rebuild", "--data-dir", data)
    assert done.code == 0
    assert "6 drawings" in done.out
    found = run(capsys, "search", here / "flange.pdf", "--data-dir", data, "--json").json
    assert {match["file_name"] for match in found["duplicates"]} >= {"flange.pdf", "flange.png"}


def scan(capsys: Capture, *arguments: str | Path) -> Done:
    return run(capsys, "scan", *arguments)


def test_scan_groups_what_belongs_together(here: Path, capsys: Capture, tmp_path: Path) -> None:
    """If this fails, `scan` misses plain duplicates or throws strangers together."""
    files = {kind: tmp_path / f"report.{kind}" for kind in ("csv", "html")}
    data = tmp_path / "data"

    done = scan(*(capsys, here, "--json", "--csv", files["csv"], "--html", files["html"], "--data-dir", data))

    assert done.code == 0
    groups = [
        {group["reference"]["file"], *(member["file"] for member in group["members"])}
        for group in done.json["groups"]
    ]
    (flanges,) = [group for group in groups if "flange.png" in group]
    assert flanges >= {"flange.png", "flange copy.png", "flange.pdf"}
    assert not [group for group in groups if group & {"plate.dxf"}]
    assert files["csv"].read_text("utf-8-sig").startswith("group,kind,file,")
    assert "flange copy.png" in files["html"].read_text()
    make_stale(data)
    again = scan(capsys, here, "--data-dir", data, "--check")
    assert again.code == 1
    assert "making fingerprints of another version anew" in again.err
    assert len(again.rows) >= 3
    assert "6 unchanged" in again.err
    assert run(capsys, "search", here / "flange.png", "--data-dir", data).code == 2


def test_scan_without_a_folder_is_one_line(here: Path, capsys: Capture) -> None:
    """If this fails, a mistyped folder is reported as free of duplicates."""
    for path in ("missing", here / "flange.png"):
        done = scan(capsys, path)
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert "FOLDER" in done.err


def test_scan_tells_what_it_could_not_read(capsys: Capture, tmp_path: Path) -> None:
    """If this fails, a report looks complete although files are missing from it."""
    hostile.truncated_png(tmp_path)

    done = scan(capsys, tmp_path, "--data-dir", tmp_path / "data", "--json")

    assert done.code == 3
    assert done.json["failures"][0]["code"] == "UNREADABLE_DRAWING"


def test_nothing_that_is_a_drawing_is_written_over(capsys: Capture, here: Path) -> None:
    """If this fails, `--html drawing.png` by mistake destroys a drawing, after minutes of work."""
    before = (here / "flange.png").read_bytes()

    for arguments in (
        ("scan", here, "--html", here / "flange.png"),
        ("scan", here, "--csv", here / "flange.png"),
        ("scan", here, "--html", here / "missing" / "report.html"),
        ("scan", here, "--html", here),
        ("compare", here / "flange.pdf", here / "flange.png", "--diff", here / "flange.png"),
    ):
        done = run(capsys, *arguments)
        assert done.code == 2
        assert done.err.count("\n") == 1

    assert (here / "flange.png").read_bytes() == before
