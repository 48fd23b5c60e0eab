"""Names and messages of strangers on a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup2d.cli.text import counted, shown_path, source_of, visible


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_what_is_shown_is_printable_and_encodes(text: str) -> None:
    """If this fails, a file name can move the cursor, reorder text or crash the output."""
    shown = visible(text)

    assert shown.isprintable()
    shown.encode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("Flansch Größe 3.dxf", "Flansch Größe 3.dxf"),
        ("図面.pdf", "図面.pdf"),
    ],
)
def test_only_what_is_dangerous_is_escaped(name: str, shown: str) -> None:
    """If this fails, people whose files have umlauts cannot read their own names, or escapes pass."""
    assert shown == visible(name)


def test_a_name_that_is_not_utf8_has_a_source_that_can_be_stored() -> None:
    """If this fails, one file from an old disk stops the index with an encoding error."""
    assert rf"{os.sep}old{os.sep}fl\xfcgel.dxf" == source_of(Path(os.fsdecode(b"/old/fl\xfcgel.dxf")))


def test_paths_below_the_working_directory_are_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, tables are full of long paths, or name a wrong file."""
    monkeypatch.chdir(tmp_path)

    assert shown_path(f"{tmp_path}/a/b.dxf") == "a/b.dxf"
    assert f"{tmp_path}-other/b.dxf" == shown_path(f"{tmp_path}-other/b.dxf")


def test_counts_read_like_english() -> None:
    """If this fails, summaries say "1 files"."""
    assert [
        counted(0, "file"),
        counted(1, "file"),
        counted(1234, "match", "matches"),
    ] == ["0 files", "1 file", "1,234 matches"]
