"""`dedup2d index`: what goes in, what is left alone, what is told."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests import hostile
from tests.cli_support import Done, run
from tests.drawings import revised_png, small_dxf, small_pdf, small_png

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "drawings"
    (made / "sub").mkdir(parents=True)
    (made / "a.png").write_bytes(small_png(long_side=600))
    (made / "sub" / "b.pdf").write_bytes(small_pdf("shaft"))
    (made / "notes.txt").write_text("no drawing")
    return made


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DEDUP2D_ENGINE_PROCESSES", "1")
    return tmp_path / "data"


def index(capsys: Capture, *arguments: str | Path) -> Done:
    return run(capsys, "index", *arguments)


def listed(capsys: Capture) -> list[str]:
    done = run(capsys, "drawings", "--json", "--all")
    return sorted(one["file_name"] for one in done.json["drawings"])


@pytest.mark.usefixtures("data")
def test_new_changed_unchanged_and_gone(folder: Path, capsys: Capture) -> None:
    """If this fails, a nightly index reads everything again, keeps old sheets, or loses new ones."""
    first = index(capsys, folder, "--json")
    assert first.code == 0
    assert (first.json["added"], first.json["skipped"], first.json["drawings"]) == (2, 1, 2)

    (folder / "a.png").write_bytes(revised_png(long_side=600))
    (folder / "sub" / "b.pdf").unlink()
    (folder / "c.dxf").write_bytes(small_dxf("plate"))
    second = index(capsys, folder, "--json")
    assert second.code == 0
    assert (second.json["added"], second.json["replaced"], second.json["unchanged"]) == (1, 1, 0)
    assert second.json["gone_sources"] == [str(folder.resolve() / "sub" / "b.pdf")]
    assert listed(capsys) == ["a.png", "b.pdf", "c.dxf"]

    third = index(capsys, folder, "--prune", "--json")
    assert (third.json["unchanged"], third.json["pruned"], third.json["gone"]) == (2, 1, 0)
    assert listed(capsys) == ["a.png", "c.dxf"]


@pytest.mark.usefixtures("data")
def test_a_touched_file_is_not_read_again(folder: Path, capsys: Capture) -> None:
    """If this fails, restoring a backup makes everything be indexed anew."""
    index(capsys, folder)
    os.utime(folder / "a.png", (1, 1))

    done = index(capsys, folder, "--json")

    assert (done.json["unchanged"], done.json["replaced"]) == (2, 0)


@pytest.mark.usefixtures("data")
def test_prune_leaves_a_folder_alone_that_is_gone_itself(folder: Path, capsys: Capture) -> None:
    """If this fails, a disk that is not mounted empties the index."""
    index(capsys, folder)
    folder.rename(folder.with_name("unmounted"))

    done = index(capsys, folder, "--prune")

    assert done.code == 2
    assert "no such file or directory" in done.err
    assert listed(capsys) == ["a.png", "b.pdf"]


def bad_files(folder: Path) -> dict[str, str]:
    """Make bad files; return a part of the reason by name."""
    made = {
        hostile.empty(folder): "empty",
        hostile.text_named_png(folder): "plain text",
        hostile.truncated_png(folder): "damaged",
        hostile.truncated_pdf(folder): "PDF",
        hostile.truncated_dxf_early(folder): "",
        hostile.png_of_900_megapixels(folder): "limit of 120,000,000 pixels",
        hostile.pdf_of_5000_pages(folder): "limit of 200 pages",
        hostile.locked_pdf(folder): "password",
        hostile.svg_billion_laughs(folder): "XML entities",
        hostile.gzip_bomb(folder): "expanded bytes",
        hostile.write(folder, "a\nb\x1b[31m.png", "x"): "plain text",
    }
    return {path.name: reason for path, reason in made.items()}


@pytest.mark.usefixtures("data")
def test_each_bad_file_has_one_line_with_its_reason_and_stops_nothing(folder: Path, capsys: Capture) -> None:
    """If this fails, one bad file ends the run, hides others, or writes escapes to the terminal."""
    expected = bad_files(folder)

    done = index(capsys, folder)

    assert done.code == 3
    lines = [line for line in done.err.splitlines() if ": " in line]
    assert len(lines) == len(expected)
    assert all(line.isprintable() and line.startswith("dedup2d: ") for line in lines)
    for name, reason in expected.items():
        shown = name.replace("\n", r"\n").replace("\x1b", r"\x1b")
        (line,) = [line for line in lines if f"/{shown}: " in line]
        assert reason in line.partition(f"/{shown}: ")[2], line
    assert listed(capsys) == ["a.png", "b.pdf"]


@pytest.mark.usefixtures("data")
def test_what_a_reader_may_have_lost_is_told(tmp_path: Path, capsys: Capture) -> None:
    """If this fails, a drawing without its block looks as if it had been read whole."""
    path = hostile.dxf_block_in_itself(tmp_path)

    done = index(capsys, path, "--json")

    assert done.json["warnings"]
    assert "contains itself" in done.json["warnings"][0]["warning"]


@pytest.mark.usefixtures("data")
def test_only_bad_input_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    """If this fails, a script goes on as if a mistyped folder had been indexed."""
    done = index(capsys, tmp_path / "nothing")

    assert done.code == 2
    assert done.err.count("\n") == 1


def test_the_data_directory_may_lie_in_the_folder(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, `dedup2d index .` finds its own database again and again."""
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(folder / "data"))
    index(capsys, folder)

    done = index(capsys, folder, "--json")

    assert done.json["files"] == 3


def test_an_index_of_a_newer_version_stops_the_run_with_one_line(
    folder: Path, data: Path, capsys: Capture
) -> None:
    """If this fails, a thousand files fail for one reason, or an old version damages the index."""
    index(capsys, folder)
    (file,) = data.glob("index/*/catalogue.sqlite3")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()

    done = index(capsys, folder)

    assert done.code == 2
    assert "format 1000" in done.err
    assert done.err.count("dedup2d: error:") == 1
