"""Page tokens that clients forge: their sum is no secret, so anything may stand in one."""

from __future__ import annotations

import math
import time
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dedup2d.errors import InvalidParameterError
from dedup2d.paging import make_token, read_numbered_token, read_token
from tests.backends import JOB_STORES, KEY_STORES

KEYS = ["", "\0", "a:b", "(x", "[x", "'; --", "a" * 300, "\U0010ffff"]
TIMES = [-math.inf, -1.0, -0.0, 5e-324, 1e308, math.inf, math.nan]
FORGED = [(created_at, key) for created_at in TIMES for key in KEYS]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_times_that_are_none_are_refused(number: float) -> None:
    """If this fails, a forged token makes Redis fail a command, and the answer a 500."""
    with pytest.raises(InvalidParameterError, match="page_token"):
        read_token("jobs", make_token("jobs", number, "a"))


@given(st.text(max_size=30) | st.integers().map(str))
def test_numbers_that_are_none_are_refused(key: str) -> None:
    """If this fails, a forged token makes SQLite fail a query, and the answer a 500."""
    try:
        number = read_numbered_token("drawings", make_token("drawings", 1.0, key))
    except InvalidParameterError:
        assert not (key.isascii() and key.isdecimal() and len(key) <= 18)
    else:
        assert (number, key.isdecimal()) == (int(key), True)
        assert 0 <= number < 2**63


@pytest.mark.parametrize("name", JOB_STORES)
async def test_forged_tokens_of_jobs(name: str, tmp_path: Path) -> None:
    """If this fails, a forged token brings a 500 from this store, or a job of nobody."""
    async with JOB_STORES[name](time.time, tmp_path) as store:
        for created_at, key in FORGED:
            try:
                page = await store.list("t", page_token=make_token("jobs", created_at, key))
            except InvalidParameterError:
                continue
            assert page.jobs == ()


@pytest.mark.parametrize("name", KEY_STORES)
async def test_forged_tokens_of_keys(name: str, tmp_path: Path) -> None:
    """If this fails, a forged token makes a list of keys fail, or shows keys of nobody."""
    async with KEY_STORES[name](tmp_path) as store:
        for created_at, key in FORGED:
            try:
                page = await store.list(page_token=make_token("keys", created_at, key))
            except InvalidParameterError:
                continue
            assert page.keys == ()


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(created_at=st.floats(), key=st.text(max_size=40))
@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_any_forged_token(name: str, tmp_path: Path, created_at: float, key: str) -> None:
    """If this fails, a forged token that nobody thought of brings a 500."""

    async def run() -> None:
        async with JOB_STORES[name](time.time, tmp_path) as store:
            try:
                page = await store.list("t", page_token=make_token("jobs", created_at, key))
            except InvalidParameterError:
                assert not math.isfinite(created_at)
            else:
                assert page.jobs == ()

    anyio.run(run)
