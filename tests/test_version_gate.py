"""The version gate: which names and numbers may be versions of one drawing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup2d.precision.version_gate import Named, refusal, same_number, stem_of
from dedup2d.search_params import SearchParams

STEMS = [
    ("bracket.dxf", "bracket"),
    ("bracket_v2.dxf", "bracket"),
    ("bracket-v2.dxf", "bracket"),
    ("bracket v2.dxf", "bracket"),
    ("bracket.v2.dxf", "bracket"),
    ("Bracket_V12.DXF", "bracket"),
    ("bracket_v1.2.pdf", "bracket"),
    ("bracket_v2b.png", "bracket"),
    ("bracket-rev B.dwg", "bracket"),
    ("bracket_revB.dwg", "bracket"),
    ("bracket_rev.B.dwg", "bracket"),
    ("bracket rev-03.dwg", "bracket"),
    ("bracket (rev 3).dwg", "bracket"),
    ("bracket_Revision_3.dwg", "bracket"),
    ("bracket version 4.dwg", "bracket"),
    ("bracket_R02.dxf", "bracket"),
    ("bracket-r2.dxf", "bracket"),
    ("bracket (3).pdf", "bracket"),
    ("bracket(3).pdf", "bracket"),
    ("bracket_2024-01-31.pdf", "bracket"),
    ("bracket_20240131.pdf", "bracket"),
    ("bracket_31.01.2024.pdf", "bracket"),
    ("bracket_2024-01-31_1530.pdf", "bracket"),
    ("bracket_20240131T153000.pdf", "bracket"),
    ("bracket_v2_2024-01-31.pdf", "bracket"),
    ("bracket_2024-01-31_rev C (2).pdf", "bracket"),
    ("bracket_final.pdf", "bracket"),
    ("bracket_final_v2.pdf", "bracket"),
    ("bracket - copy.pdf", "bracket"),
    ("bracket - Copy (2).pdf", "bracket"),
    ("bracket.dxf.gz", "bracket"),
    ("plans/2024/bracket_v2.dxf", "bracket"),
    ("C:\\plans\\bracket_v2.dxf", "bracket"),
    ("Wall  Bracket_01.dxf", "wall-bracket-01"),
    ("wall.bracket.dxf", "wall-bracket"),
    ("Stra\u00dfe_v2.dxf", "strasse"),
    # what only looks like a version
    ("bracket_2.dxf", "bracket-2"),
    ("bracket-100.dxf", "bracket-100"),
    ("M8x30.dxf", "m8x30"),
    ("bracket_B.dxf", "bracket-b"),
    ("valve2.dxf", "valve2"),
    ("cover.dxf", "cover"),
    ("rover9.dxf", "rover9"),
    ("DN50_PN16.dxf", "dn50-pn16"),
    ("12345678.dxf", "12345678"),
    ("bracket_20241399.dxf", "bracket-20241399"),
    ("curve.dxf", "curve"),
    # nothing would be left
    ("v2.dxf", "v2"),
    ("2024-01-31.pdf", "2024-01-31"),
    ("rev B", "rev-b"),
    (".dxf", "dxf"),
    ("(3)", "(3)"),
    ("", ""),
]


@pytest.mark.parametrize(("name", "stem"), STEMS)
def test_stems(name: str, stem: str) -> None:
    """If this fails, two versions of a file are taken for two drawings, or two drawings for versions."""
    assert stem_of(name) == stem


NUMBERS = [
    ("A-100", "A-100", True),
    ("A-100", "a 100", True),
    ("A_100/2", "A.100-2", True),
    (" A-100 ", "A-100", True),
    ("A-100", "A-101", False),
    ("A-100", "A100", False),
    ("12-34", "123-4", False),
    ("A-100 Rev B", "A-100 Rev C", False),
]


@pytest.mark.parametrize(("a", "b", "same"), NUMBERS)
def test_numbers(a: str, b: str, same: bool) -> None:
    """If this fails, one drawing number in two spellings is two, or two numbers are one."""
    assert same_number(a, b) is same
    assert same_number(b, a) is same


V1, V2 = "bracket_v1.dxf", "bracket_v2.dxf"
OTHER = "flange_v1.dxf"
GATES = [
    # gate, query, other, word of the reason (None: it passes)
    ("off", (V1, "A-1"), (OTHER, "B-2"), None),
    ("meta", (V1, "A-1"), (OTHER, "A-1"), None),
    ("meta", (V1, "A-1"), (V2, "B-2"), "drawing number B-2 is not A-1"),
    ("meta", (V1, None), (OTHER, "B-2"), None),
    ("meta", (V1, "A-1"), (OTHER, None), None),
    ("meta", (V1, None), (OTHER, None), None),
    ("file_name", (V1, "A-1"), (V2, "B-2"), None),
    ("file_name", (V1, "A-1"), (OTHER, "A-1"), "file name flange is not bracket"),
    ("file_name", ("", None), (OTHER, None), None),
    ("auto", (V1, "A-1"), (OTHER, "a 1"), None),
    ("auto", (V1, "A-1"), (V2, "B-2"), "drawing number"),
    ("auto", (V1, None), (V2, "B-2"), None),
    ("auto", (V1, None), (OTHER, "B-2"), "file name"),
    ("auto", (V1, "A-1"), (OTHER, None), "file name"),
    ("auto", (V1, None), (V2, None), None),
]


@pytest.mark.parametrize(("gate", "query", "other", "word"), GATES)
def test_gates(
    gate: str, query: tuple[str, str | None], other: tuple[str, str | None], word: str | None
) -> None:
    """If this fails, a gate lets other drawings through, or takes versions out, or does not say why."""
    params = SearchParams(precision_profile="version", version_gate=gate)
    found = refusal(params, Named(*query), Named(*other))

    assert (found is None) is (word is None)
    assert word is None or word in str(found)


def test_there_is_no_gate_in_the_strict_profile() -> None:
    """If this fails, a search for duplicates leaves out those under another name."""
    params = SearchParams(precision_profile="strict", version_gate="meta")

    assert refusal(params, Named(V1, "A-1"), Named(OTHER, "B-2")) is None


@given(st.text(max_size=300))
def test_every_name_has_a_stem_that_is_its_own_stem(name: str) -> None:
    """If this fails, a strange name stops a search, or a version of a version is another drawing."""
    stem = stem_of(name)

    assert stem == stem.strip("-")
    assert bool(stem) or not any(c.isalnum() for c in name.rpartition("/")[2].rpartition("\\")[2])


@pytest.mark.parametrize("piece", ["v2_", "(3)", "2024-01-31_", " rev B", "_", "1", "final "])
def test_long_names_take_no_time(piece: str) -> None:
    """If this fails, a name made for it keeps a worker busy for minutes."""
    begin = time.perf_counter()
    stem_of(piece * 1000)

    assert time.perf_counter() - begin < 2
