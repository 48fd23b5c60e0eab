"""What is found below a folder."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from dedup2d.cli.walk import Fate, count_files, looked_into, walk
from tests import hostile
from tests.drawings import small_pdf


def fates(*paths: Path) -> dict[str, tuple[Fate, str]]:
    return {found.path.name: (found.fate, found.reason) for found in walk(paths)}


def test_hidden_files_links_and_pipes_are_skipped(tmp_path: Path) -> None:
    """If this fails, a scan reads the insides of .git, follows links in circles, or hangs on a pipe."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.png").write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "kept.png").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "deep" / "kept.png")
    os.mkfifo(tmp_path / "pipe.png")

    found = fates(tmp_path)

    assert found == {
        ".git": (Fate.SKIPPED, "hidden"),
        "kept.png": (Fate.READ, ""),
        "loop": (Fate.SKIPPED, "a link or not a regular file"),
        "link.png": (Fate.SKIPPED, "a link or not a regular file"),
        "pipe.png": (Fate.SKIPPED, "a link or not a regular file"),
    }


@pytest.mark.parametrize(
    ("maker", "reason"),
    [
        (hostile.link_to_nothing, "no such file or directory"),
        (hostile.link_in_circles, ""),
        (hostile.link_to_device, "it is neither a file nor a folder"),
        (hostile.named_pipe, "it is neither a file nor a folder"),
    ],
)
def test_a_named_path_that_cannot_be_read_fails_with_a_reason(
    maker: hostile.Maker, reason: str, tmp_path: Path
) -> None:
    """If this fails, a mistyped path is passed over in silence, or a pipe hangs the command."""
    (found,) = walk([maker(tmp_path)])

    assert Fate.FAILED is found.fate
    assert found.reason.startswith(reason)
    assert found.reason


def test_a_named_link_is_followed(tmp_path: Path) -> None:
    """If this fails, `dedup2d index current`, a link to today's folder, finds nothing."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.pdf").write_bytes(small_pdf())
    (tmp_path / "current").symlink_to(tmp_path / "real")

    (found,) = walk([tmp_path / "current"])

    assert tmp_path.resolve() / "real" / "a.pdf" == found.path


def test_the_own_data_directory_is_left_out(tmp_path: Path) -> None:
    """If this fails, `dedup2d index .` puts uploads and its own database into the index."""
    own = tmp_path / "data"
    own.mkdir()
    (own / "upload.png").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(b"x")

    assert [found.path.name for found in walk([tmp_path], leave_out=own)] == ["a.png"]


def test_a_folder_that_cannot_be_opened_fails_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, one folder without permission ends the run or is passed over in silence."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    assert fates(tmp_path) == {"locked": (Fate.FAILED, "permission denied"), "a.png": (Fate.READ, "")}


@pytest.mark.parametrize(
    ("name", "data", "fate"),
    [
        ("notes.txt", b"hello", Fate.SKIPPED),
        ("__init__.py", b"", Fate.SKIPPED),
        ("archive.zip", b"PK\x03\x04", Fate.SKIPPED),
        ("text.png", b"hello", Fate.FAILED),
        ("empty.DXF", b"", Fate.FAILED),
        ("drawing.without.ending", small_pdf(), Fate.READ),
    ],
)
def test_content_decides_and_a_false_name_is_told(name: str, data: bytes, fate: Fate, tmp_path: Path) -> None:
    """If this fails, a broken drawing is taken for something else, or every text file is an error."""
    (tmp_path / name).write_bytes(data)

    (found,) = walk([tmp_path])

    assert fate is looked_into(found).fate


def test_a_named_file_that_is_no_drawing_fails(tmp_path: Path) -> None:
    """If this fails, `dedup2d index notes.txt` says that all is well."""
    path = hostile.write(tmp_path, "notes.txt", "hello")

    (found,) = walk([path])

    assert Fate.FAILED is looked_into(found).fate


def test_the_walk_does_not_hold_the_files(tmp_path: Path) -> None:
    """If this fails, memory grows with the number of files."""
    for name in range(3000):
        (tmp_path / f"a rather long name of a drawing that takes memory {name}.png").touch()

    tracemalloc.start()
    try:
        assert count_files([tmp_path]) == 3000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100_000
