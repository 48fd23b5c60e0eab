"""The parts of the vision server that need no process: its places, and its answers on the wire."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from dedup2d.testing import ManualClock
from dedup2d.types import SearchParams, SearchResult, Timing
from dedup2d_http.problems import HttpError
from dedup2d_http.vision_places import Places
from dedup2d_http.vision_views import search_params, search_view


def full(places: Places) -> HttpError:
    """Return how a full server refuses."""
    with pytest.raises(HttpError) as refused, places.taken():
        raise AssertionError("there was a place")
    return refused.value


def test_places_are_given_back() -> None:
    """If this fails, a server is full for ever after some searches failed."""
    places = Places(running=1, waiting=1)
    for _ in range(5):
        with suppress(ZeroDivisionError), places.taken(), places.taken():
            refused = full(places)
            raise ZeroDivisionError

    assert refused.code == "VISION_UNAVAILABLE"
    assert "DEDUP2D_VISION_MAX_WAITING" in refused.detail


async def test_the_wait_that_is_asked_for_follows_the_searches() -> None:
    """If this fails, clients come back at once to a slow server, or wait long for a fast one."""
    clock = ManualClock()
    places = Places(running=1, waiting=0, clock=clock)
    waits = []
    for seconds in (0.1, 8.0, 500.0):
        for _ in range(30):
            async with places.running():
                clock.advance(seconds)
        with places.taken():
            headers = full(places).headers
        assert headers
        waits.append(int(headers["Retry-After"]))

    assert waits == [1, 8, 30]


async def test_as_many_run_as_may() -> None:
    """If this fails, all searches run at once, and all are slow, or a cancelled one keeps its place."""
    places, running, most = Places(running=2, waiting=9), 0, 0

    async def run() -> None:
        nonlocal running, most
        async with places.running():
            running += 1
            most = max(most, running)
            await anyio.sleep(0.001)
            running -= 1

    with anyio.CancelScope() as scope:
        async with places.running():
            scope.cancel()
            await anyio.sleep(1)
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(run)

    assert most == 2


def test_level_stats_are_those_of_the_contract() -> None:
    """If this fails, an old client cannot read what the levels did, or ours counts other drawings."""
    result = SearchResult(
        total_matches=3, level_stats={"l1": 900, "l2": 40, "l4": 7}, timing=Timing(l2_ms=5, l4_ms=9)
    )

    assert search_view(result, SearchParams())["level_stats"] == {
        "l1": {"passed": 40, "filtered": 860, "time_ms": 0.0},
        "l2": {"passed": 7, "filtered": 33, "time_ms": 5},
        "l4": {"passed": 3, "filtered": 4, "time_ms": 9},
    }


def test_level_stats_of_a_fast_search() -> None:
    """If this fails, a level that did not look at anything makes another one count less than it saw."""
    stats = search_view(
        SearchResult(total_matches=50, level_stats={"l1": 900, "l2": 40, "l4": 0}), SearchParams()
    )["level_stats"]

    assert [one["passed"] + one["filtered"] for one in stats.values()] == [900, 40, 0]
    assert stats["l2"]["passed"] == 40


def test_a_search_leaves_its_own_file_out_unless_told() -> None:
    """If this fails, the default of the contract does not hold."""
    assert search_params({}).exclude_self
    assert not search_params({"exclude_self": "false"}).exclude_self
