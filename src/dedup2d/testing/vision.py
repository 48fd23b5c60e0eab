"""The contract of `VisionClient` as checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio

from dedup2d.errors import (
    Dedup2DError,
    DrawingNotFoundError,
    InvalidParameterError,
    UnreadableDrawingError,
    UnsupportedFormatError,
)
from dedup2d.protocols import VisionClient
from dedup2d.testing.expecting import checking, expect, expect_same, refused, together
from dedup2d.testing.plans import blank_plan, drawing_file, plan
from dedup2d.types import AddResult, Match, Mode, Relation, SearchParams, SearchResult, Verdict

__all__ = ["VISION_CLIENT_CHECKS", "VisionClientMaker", "check_vision_client"]

VisionClientMaker = Callable[[], AbstractAsyncContextManager[VisionClient]]
"""Makes a VisionClient whose indexes are empty."""

_PNG = b"\x89PNG\r\n\x1a\n"
_SOON = 1.0


async def an_empty_index_answers(vision: VisionClient) -> None:
    result = await vision.search("tenant", drawing_file(plan(1)), SearchParams())
    found = (result.success, result.total_matches, result.duplicates, result.similar, result.error)
    expect_same(found, (True, 0, (), (), None), "a search of an empty index succeeds and finds nothing")
    expect_same((await vision.drawings("tenant")).total, 0, "an empty index has no drawings")
    expect_same((await vision.rebuild("tenant")).drawings, 0, "an empty index can be rebuilt")
    expect_same((await vision.health()).status, "healthy", "an empty index is healthy")


async def an_added_drawing_is_found_at_once(vision: VisionClient) -> None:
    added = await _add(vision, 1)
    expect(added.added, "a new file is added")
    expect_same(added.drawing_ids, (added.drawing_id,), "a picture is one drawing")
    await _add(vision, 2)
    result = await vision.search("tenant", drawing_file(plan(1), "other name.png"), SearchParams())
    best = _best(result)
    found = (best.drawing_id, best.similarity, best.relation, best.verdict, best.file_name)
    wanted = (added.drawing_id, 1.0, Relation.EXACT, Verdict.DUPLICATE, "plan-1.png")
    expect_same(found, wanted, "the same bytes are found first, as exact")
    expect_same(result.total_matches, len(result.duplicates) + len(result.similar), "both lists are counted")
    expect_same(result.file_hash, drawing_file(plan(1)).sha256, "the result names the hash of the query")


async def the_same_picture_in_other_bytes_is_found(vision: VisionClient) -> None:
    for seed in range(1, 5):
        await _add(vision, seed)
    result = await vision.search("tenant", drawing_file(plan(3, compression=1)), SearchParams())
    best = _best(result)
    expect_same(best.file_name, "plan-3.png", "the same picture is found first")
    expect(best.relation is not Relation.EXACT, "other bytes are not called exact")
    expect(best.similarity >= 0.95, "the same picture is at least 0.95 similar")


async def what_a_search_is_asked_for_holds(vision: VisionClient) -> None:
    for seed in (1, 2):
        await _add(vision, seed)
    await vision.add("tenant", drawing_file(plan(1), "copy.png"))
    query = drawing_file(plan(1))
    one = await vision.search("tenant", query, SearchParams(max_results=1))
    expect_same(one.total_matches, 1, "no more than max_results are returned")
    others = await vision.search("tenant", query, SearchParams(exclude_self=True))
    hashes = {match.file_hash for match in (*others.duplicates, *others.similar)}
    expect(query.sha256 not in hashes, "exclude_self leaves out the query's bytes")
    plain = await vision.search("tenant", query, SearchParams(compute_diff=False))
    pictures = [match.diff_image_base64 for match in (*plain.duplicates, *plain.similar)]
    expect(not any(pictures), "no difference is computed that was not asked for")
    for mode in Mode:
        result = await vision.search("tenant", query, SearchParams(mode=mode))
        expect_same(len(result.duplicates), 2, f"both copies are found in mode {mode}")


async def the_same_file_is_added_once(vision: VisionClient) -> None:
    first = await _add(vision, 1)
    again = await _add(vision, 1)
    expect_same(
        (again.added, again.drawing_ids), (False, first.drawing_ids), "again is no error and adds nothing"
    )
    outcomes = await together([lambda: _add(vision, 7) for _ in range(4)])
    results = [one for one in outcomes if isinstance(one, AddResult)]
    expect_same(len(results), 4, "the same file added at the same time is no error")
    expect_same(sum(one.added for one in results), 1, "one of them adds it")
    expect_same((await vision.drawings("tenant")).total, 2, "each file is there once")


async def a_source_holds_its_latest_file(vision: VisionClient) -> None:
    old = await vision.add("tenant", drawing_file(plan(1)), source="/plans/a.png")
    await vision.add("tenant", drawing_file(plan(1)), source="/plans/b.png")
    new = await vision.add("tenant", drawing_file(plan(2)), source="/plans/a.png", metadata={"k": "v"})
    drawing = await vision.drawing("tenant", new.drawing_id)
    expect_same((drawing.source, dict(drawing.metadata)), ("/plans/a.png", {"k": "v"}), "both are kept")
    expect_same((await vision.drawings("tenant")).total, 2, "what came from the source before is replaced")
    with refused(DrawingNotFoundError, "the replaced drawing is gone"):
        await vision.drawing("tenant", old.drawing_id)
    again = await vision.add("tenant", drawing_file(plan(1)), source="/plans/b.png")
    expect(not again.added, "the same bytes from another source stay")


async def a_removed_drawing_is_gone(vision: VisionClient) -> None:
    added = await _add(vision, 1)
    await vision.remove("tenant", added.drawing_id)
    result = await vision.search("tenant", drawing_file(plan(1)), SearchParams())
    expect_same(result.total_matches, 0, "a removed drawing is not found")
    for call in (vision.remove, vision.drawing, vision.picture):
        with refused(DrawingNotFoundError, "a removed drawing is not there"):
            await call("tenant", added.drawing_id)
    expect((await _add(vision, 1)).added, "it can be added again")


async def tenants_do_not_see_each_other(vision: VisionClient) -> None:
    added = await _add(vision, 1)
    for call in (vision.remove, vision.drawing, vision.picture):
        with refused(DrawingNotFoundError, "another tenant's drawing is not there"):
            await call("other", added.drawing_id)
    result = await vision.search("other", drawing_file(plan(1)), SearchParams())
    expect_same(result.total_matches, 0, "another tenant's drawing is not found")
    expect_same((await vision.drawings("other")).total, 0, "nor listed")
    expect_same((await vision.drawings("tenant")).total, 1, "and stays")
    for name in ("../tenant", "", "a/b", "x" * 65, "Tenant"):
        with refused(InvalidParameterError, f"{name!r} is no tenant"):
            await vision.drawings(name)


async def drawings_are_listed_in_pages(vision: VisionClient) -> None:
    names = [(await _add(vision, seed)).drawing_id for seed in range(5)]
    first = await vision.drawings("tenant", limit=2)
    await vision.remove("tenant", names[2])
    await _add(vision, 9)
    second = await vision.drawings("tenant", limit=2, page_token=first.next_page_token)
    listed = [one.drawing_id for one in (*first.drawings, *second.drawings)]
    expect_same(listed, [names[4], names[3], names[1], names[0]], "newest first, none twice, none left out")
    expect_same((first.total, second.next_page_token), (5, None), "the total, and the end")
    for token in ("", "nonsense", "AAAA"):
        with refused(InvalidParameterError, "a foreign page token is refused"):
            await vision.drawings("tenant", page_token=token)
    for limit in (0, 501):
        with refused(InvalidParameterError, f"a limit of {limit} is refused"):
            await vision.drawings("tenant", limit=limit)
    one = first.drawings[0]
    found = (one.file_name, one.page, one.format, one.width > 0, one.height > 0)
    expect_same(found, ("plan-4.png", 1, "png", True, True), "what is known of a drawing")
    picture = await vision.picture("tenant", one.drawing_id)
    expect(picture.startswith(_PNG), "the picture is a PNG")


async def rebuilding_changes_no_answer(vision: VisionClient) -> None:
    for seed in range(3):
        await _add(vision, seed)
    query = drawing_file(plan(1, compression=1))
    before = _best(await vision.search("tenant", query, SearchParams()))
    rebuilt = await vision.rebuild("tenant")
    expect_same((rebuilt.success, rebuilt.drawings), (True, 3), "all drawings are rebuilt")
    after = _best(await vision.search("tenant", query, SearchParams()))
    expect_same((after.drawing_id, after.relation), (before.drawing_id, before.relation), "the same is found")


async def bad_files_are_refused_and_leave_nothing(vision: VisionClient) -> None:
    text, torn = drawing_file(b"no drawing at all " * 99), drawing_file(plan(1)[:500])
    for file, error in ((text, UnsupportedFormatError), (torn, UnreadableDrawingError)):
        with refused(error, "a search with it"):
            await vision.search("tenant", file, SearchParams())
        with refused(error, "adding it"):
            await vision.add("tenant", file)
        with refused(error, "comparing it"):
            await vision.compare(drawing_file(plan(1)), file, SearchParams())
    with refused(Dedup2DError, "an empty file"):
        await vision.add("tenant", drawing_file(b""))
    expect_same((await vision.drawings("tenant")).total, 0, "nothing of them is kept")


async def a_blank_sheet_matches_nothing(vision: VisionClient) -> None:
    await _add(vision, 1)
    await vision.add("tenant", drawing_file(blank_plan(), "blank.png"))
    query = await vision.search("tenant", drawing_file(plan(2)), SearchParams())
    names = {match.file_name for match in (*query.duplicates, *query.similar)}
    expect("blank.png" not in names, "a blank sheet is no match")
    blank = await vision.search("tenant", drawing_file(blank_plan() + b" "), SearchParams())
    expect_same(blank.total_matches, 0, "a blank query finds nothing")
    expect(blank.warnings, "and says why")


async def two_files_are_compared(vision: VisionClient) -> None:
    same = await vision.compare(drawing_file(plan(1)), drawing_file(plan(1)), SearchParams())
    expect_same((same.similarity, same.relation), (1.0, Relation.EXACT), "the same bytes")
    expect_same(same.diff_regions, (), "the same bytes do not differ")
    other = await vision.compare(drawing_file(plan(1)), drawing_file(plan(2)), SearchParams())
    expect(other.verdict is not Verdict.DUPLICATE, "two drawings are no duplicates")
    expect(other.similarity < 0.8, "two drawings are not similar")


async def a_cancelled_search_stops_soon(vision: VisionClient) -> None:
    await _add(vision, 1)
    entered = anyio.Event()

    async def search() -> None:
        await vision.search("tenant", drawing_file(plan(2)), SearchParams(), progress=lambda _: entered.set())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(search)
        with anyio.move_on_after(_SOON):
            await entered.wait()
        started = anyio.current_time()
        tasks.cancel_scope.cancel()
    expect(anyio.current_time() - started < _SOON, "a cancelled search ends within a second")
    result = await vision.search("tenant", drawing_file(plan(1)), SearchParams())
    expect_same(len(result.duplicates), 1, "and the next one is answered")


VISION_CLIENT_CHECKS: tuple[Callable[[VisionClient], Awaitable[None]], ...] = (
    an_empty_index_answers,
    an_added_drawing_is_found_at_once,
    the_same_picture_in_other_bytes_is_found,
    what_a_search_is_asked_for_holds,
    the_same_file_is_added_once,
    a_source_holds_its_latest_file,
    a_removed_drawing_is_gone,
    tenants_do_not_see_each_other,
    drawings_are_listed_in_pages,
    rebuilding_changes_no_answer,
    bad_files_are_refused_and_leave_nothing,
    a_blank_sheet_matches_nothing,
    two_files_are_compared,
    a_cancelled_search_stops_soon,
)
"""Every check by itself: called with a client whose indexes are empty."""


async def check_vision_client(make: VisionClientMaker, *, seconds: float = 120.0) -> None:
    """
    Assert that the clients of *make* keep the contract of `VisionClient`.

    Args:
        make: gives an async context manager of a client with empty indexes.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in VISION_CLIENT_CHECKS:
        with checking(check, seconds):
            async with make() as vision:
                await check(vision)


async def _add(vision: VisionClient, seed: int) -> AddResult:
    return await vision.add("tenant", drawing_file(plan(seed), f"plan-{seed}.png"))


def _best(result: SearchResult) -> Match:
    matches = sorted((*result.duplicates, *result.similar), key=lambda match: -match.similarity)
    expect(matches, "the search finds something")
    return matches[0]
