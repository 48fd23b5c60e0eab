"""JSON of the domain types: what was written is read again, also by another version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from dedup2d.codec import from_json, to_json
from dedup2d.errors import InvalidParameterError, UnreadableRecordError
from dedup2d.paging import make_token, read_token
from dedup2d.testing import ManualClock
from dedup2d.testing.job_making import RESULT, make_job
from dedup2d.types import Area, Comparison, Job, Relation, SearchParams, SearchResult, Verdict

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@given(name=TEXT, created_at=NUMBER, size=st.integers(0, 2**53), threshold=st.floats(0.8, 1.0))
def test_jobs_come_back_equal(name: str, created_at: float, size: int, threshold: float) -> None:
    """If this fails, a job changes by being stored."""
    params = SearchParams(mode="precise", duplicate_threshold=threshold, similar_threshold=threshold)
    job = make_job(ManualClock(created_at), file_name=name, file_size=size, params=params, result=RESULT)

    assert from_json(to_json(job), Job) == job


def test_pictures_come_back_equal() -> None:
    """If this fails, the picture of a difference is damaged on its way."""
    comparison = Comparison(
        similarity=0.5, verdict=Verdict.SIMILAR, relation=Relation.REVISION, diff_png=bytes(range(256))
    )

    assert from_json(to_json(comparison), Comparison) == comparison


def test_records_of_other_versions_are_read() -> None:
    """If this fails, a version cannot read what the one before or after it has written."""
    record = json.loads(to_json(make_job(ManualClock())))
    for field in ("losses", "params", "last_error"):
        del record[field]
    record["invented_later"] = {"deep": [1, 2]}

    assert from_json(json.dumps(record), Job) == make_job(ManualClock())


def test_results_from_before_matches_said_why_are_read() -> None:
    """If this fails, the results of finished jobs are lost with an upgrade."""
    record = json.loads(to_json(RESULT))
    for match in record["duplicates"] + record["similar"]:
        for name in ("reason", "thresholds", "changed_area"):
            del match[name]
        for region in match["diff_regions"]:
            for name in ("place", "shift_x", "shift_y", "x_mm", "y_mm", "width_mm", "height_mm"):
                del region[name]
    found = from_json(json.dumps(record), SearchResult)

    (match, *_) = found.duplicates + found.similar
    assert (match.reason, match.thresholds, match.changed_area) == ("", {}, None)
    assert match.diff_regions[0].place == "sheet"
    assert match.diff_regions[0].x_mm is None


def test_areas_to_ignore_come_back_equal() -> None:
    """If this fails, a job searches without the masks that it was given."""
    params = SearchParams(ignore=(Area(x=0.7, y=0.8, width=0.3, height=0.2), "title_block"))

    assert from_json(to_json(params), SearchParams) == params
    assert from_json(b"{}", SearchParams).ignore == ()


@pytest.mark.parametrize(
    "ignore", [["notes"], [{"x": 0, "y": 0, "width": 0, "height": 1}], [7], ["frame"] * 21]
)
def test_areas_that_are_none_are_refused(ignore: list[object]) -> None:
    """If this fails, a damaged record masks something else than was asked for."""
    with pytest.raises(UnreadableRecordError):
        from_json(json.dumps({"ignore": ignore}), SearchParams)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"total_matches":"1"}',
        b'{"similar":[{}]}',
        b'{"total_matches":1}{"total_matches":2}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_result_is_refused(data: bytes) -> None:
    """If this fails, a damaged record becomes half a result, or an error that nobody expects."""
    wanted = SearchResult if data != b"{}" else Job
    with pytest.raises(UnreadableRecordError, match=f"this is not a {wanted.__name__}"):
        from_json(data, wanted)


def test_values_out_of_range_are_refused() -> None:
    """If this fails, a search runs with parameters that no door lets in."""
    with pytest.raises(UnreadableRecordError, match="max_results=0 is not allowed"):
        from_json(b'{"max_results":0}', SearchParams)


@pytest.mark.parametrize(
    "value",
    [
        evolve(RESULT, timing=evolve(RESULT.timing, total_ms=float("nan"))),
        evolve(RESULT, timing=evolve(RESULT.timing, total_ms=float("inf"))),
        evolve(RESULT, file_hash="\udc80"),
        evolve(RESULT, level_stats={"l1": object()}),  # type: ignore[dict-item]  # wrong on purpose
    ],
)
def test_what_could_not_be_read_again_is_not_written(value: Any) -> None:
    """If this fails, a result is stored that every later look at the job breaks on."""
    with pytest.raises(UnreadableRecordError):
        to_json(value)


@given(created_at=NUMBER, key=TEXT)
def test_page_tokens_come_back_equal(created_at: float, key: str) -> None:
    """If this fails, a next page begins at another place than the last one ended."""
    token = make_token("jobs", created_at, key)

    assert read_token("jobs", token) == (created_at, key)
    assert token.isascii()
    assert not set(token) & set("+/=&?# ")
    assert token[0].isalpha(), "a command line takes it for an option"


@given(st.text() | st.binary().map(lambda data: data.hex()))
def test_foreign_page_tokens_are_refused(token: str) -> None:
    """If this fails, a made-up page token shows a wrong page, or breaks the server."""
    with pytest.raises(InvalidParameterError, match="page_token"):
        read_token("jobs", token)


def test_page_tokens_of_other_lists_are_refused() -> None:
    """If this fails, a token of one list silently skips entries of another."""
    with pytest.raises(InvalidParameterError):
        read_token("drawings", make_token("jobs", 1.0, "a"))
