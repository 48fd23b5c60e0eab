"""The embedded engine as a vision client, and what it promises beyond the contract."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from PIL import Image

from dedup2d.children import Children
from dedup2d.engine import rows
from dedup2d.engine.candidates import Candidate, Candidates
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.errors import (
    IndexVersionError,
    InternalError,
    InvalidParameterError,
    UnreadableDrawingError,
    VisionUnavailableError,
)
from dedup2d.protocols import VisionClient
from dedup2d.readers import ReadLimits
from dedup2d.testing.plans import blank_plan, drawing_file, plan
from dedup2d.testing.vision import VISION_CLIENT_CHECKS
from dedup2d.types import AddResult, Area, Mode, Relation, SearchParams, SearchResult, Verdict
from dedup2d.vision import answers, effort, embedded, search
from dedup2d.vision.embedded import EmbeddedVision

from .drawings import revised_png, small_png

PARAMS = SearchParams()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
async def vision(directory: Path) -> AsyncIterator[EmbeddedVision]:
    async with EmbeddedVision(directory) as made:
        yield made


async def add(vision: EmbeddedVision, seed: int, tenant: str = "tenant") -> AddResult:
    return await vision.add(tenant, drawing_file(plan(seed), f"plan-{seed}.png"))


async def find(vision: EmbeddedVision, seed: int, tenant: str = "tenant") -> SearchResult:
    return await vision.search(tenant, drawing_file(plan(seed)), PARAMS)


def names(result: SearchResult) -> list[str]:
    return [match.file_name for match in (*result.duplicates, *result.similar)]


def tiff(*pages: bytes) -> bytes:
    images = [Image.open(BytesIO(page)) for page in pages]
    out = BytesIO()
    images[0].save(out, "TIFF", save_all=True, append_images=images[1:])
    return out.getvalue()


def database(directory: Path, tenant: str = "tenant") -> sqlite3.Connection:
    return sqlite3.connect(directory / tenant / "catalogue.sqlite3", isolation_level=None)


def listing(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def hang(*_: object) -> None:
    time.sleep(60)


def die(*_: object) -> None:
    os._exit(9)


@pytest.mark.parametrize("check", VISION_CLIENT_CHECKS, ids=lambda check: check.__name__)
async def test_contract(vision: EmbeddedVision, check: Callable[[VisionClient], Awaitable[None]]) -> None:
    """A part of the contract that callers of every vision client rely on is not kept."""
    await check(vision)


async def test_memory_keeps_the_contract_too() -> None:
    """Tests and the demo without a directory would behave unlike the product."""
    for check in VISION_CLIENT_CHECKS[:2]:
        async with EmbeddedVision(None) as made:
            await check(made)


async def test_every_page_of_the_query_is_searched_for(vision: EmbeddedVision) -> None:
    """A drawing set sent as one PDF or TIFF would be searched for by its first sheet only."""
    added = [await add(vision, seed) for seed in (1, 2, 3)]
    stages: list[str] = []
    query = drawing_file(tiff(plan(2), blank_plan(), plan(3)), "set.tiff")
    result = await vision.search("tenant", query, PARAMS, progress=stages.append)

    found = {match.drawing_id: match.query_page for match in result.duplicates}
    assert found == {added[1].drawing_id: 1, added[2].drawing_id: 3}
    assert result.pages == 3
    assert result.warnings == (f"page 2: {answers.BLANK}",)
    assert stages[:2] == ["reading", "searching sheet 1 of 3"]
    assert result.level_stats["l4"] > 0
    assert result.final_level == 4
    assert result.timing.total_ms >= result.timing.read_ms > 0


async def test_all_sheets_of_a_file_are_drawings(vision: EmbeddedVision) -> None:
    """Only the first page of a PDF would ever be found."""
    added = await vision.add("tenant", drawing_file(tiff(plan(1), plan(2), blank_plan()), "set.tiff"))
    result = await find(vision, 2)

    assert len(added.drawing_ids) == 3
    assert added.warnings == (f"page 3: {answers.BLANK}",)
    (match,) = result.duplicates
    assert (match.drawing_id, match.page, match.relation) == (added.drawing_ids[1], 2, Relation.IDENTICAL)
    same = await vision.search("tenant", drawing_file(tiff(plan(1), plan(2), blank_plan())), PARAMS)
    assert {(one.page, one.query_page) for one in same.duplicates} == {(1, 1), (2, 2), (3, 3)}


async def test_too_many_pages_are_named(vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query of 200 pages would hold a worker for minutes, or pages be left out silently."""
    for module in (embedded, answers):
        monkeypatch.setattr(module, "MAX_PAGES", 1)
    await add(vision, 2)
    result = await vision.search("tenant", drawing_file(tiff(plan(1), plan(2))), PARAMS)

    assert result.total_matches == 0
    assert "pages 2 to 2 were not searched" in result.warnings[0]


async def test_modes_verify_more_and_more(vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fast` would not be fast, or `precise` not look closer."""
    monkeypatch.setitem(effort.EFFORTS, Mode.BALANCED, evolve(effort.EFFORTS[Mode.BALANCED], verified=1))
    for seed in range(3):
        await add(vision, seed)
        await vision.add("tenant", drawing_file(plan(seed, compression=2), "again.png"))
    query = drawing_file(plan(1, compression=1))
    verified = [
        (await vision.search("tenant", query, SearchParams(mode=mode))).level_stats["l4"]
        for mode in ("fast", "balanced", "precise")
    ]
    plain = await vision.search("tenant", query, SearchParams(enable_geometric=False))

    assert verified[:2] == [0, 1]
    assert verified[2] >= 2
    assert plain.level_stats["l4"] == 0


@pytest.mark.parametrize("mode", [Mode.BALANCED, Mode.PRECISE])
async def test_a_no_is_said_after_a_longer_look_only(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """A part would be drawn again because the candidate that was right came after the first few."""
    monkeypatch.setitem(effort.EFFORTS, mode, evolve(effort.EFFORTS[mode], verified=1))
    for seed in range(4):
        await add(vision, seed)

    known, unknown = [
        await vision.search("tenant", drawing_file(plan(seed, compression=1)), SearchParams(mode=mode))
        for seed in (1, 9)
    ]
    assert (names(known), known.level_stats["l4"]) == (["plan-1.png"], 1)
    assert names(unknown) == []
    assert unknown.level_stats["l4"] > 1
    assert unknown.level_stats["l4"] <= unknown.level_stats["l2"] + 1  # the first again, with all features
    assert unknown.level_stats["l2"] <= 4


async def test_what_only_common_features_name_is_no_match(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers that nobody verified would be listed as similar, for the corners that all plates have."""
    monkeypatch.setattr(search, "ONCE_MORE", evolve(effort.ONCE_MORE, verified=1))
    for seed in range(4):
        await add(vision, seed)
    query = Candidates.query

    def sure(
        self: Candidates, fingerprint: Fingerprint, *, limit: int, thorough: bool = False
    ) -> list[Candidate]:
        found = query(self, fingerprint, limit=limit, thorough=thorough)
        return [evolve(one, l2=1.0) for one in found] if thorough else []

    monkeypatch.setattr(Candidates, "query", sure)
    assert names(await find(vision, 9)) == []


def test_a_longer_look_asks_by_turns() -> None:
    """What common features name would crowd out what the others did."""
    thorough, quick = ([Candidate(key=key) for key in keys] for keys in ((1, 2, 3, 4), (3, 5, 6)))

    assert [one.key for one in effort.by_turns(thorough, quick)] == [1, 2, 3, 4, 5, 6]


async def test_the_difference_to_a_revision_is_shown(vision: EmbeddedVision) -> None:
    """An engineer would be told that something changed, but not what."""
    await vision.add("tenant", drawing_file(small_png(), "old.png"))
    result = await vision.search("tenant", drawing_file(revised_png(), "new.png"), PARAMS)

    (match,) = (*result.duplicates, *result.similar)
    assert match.match_level == 4
    assert match.diff_regions
    picture = Image.open(BytesIO(b64decode(match.diff_image_base64 or ""))).convert("RGB")
    assert all(one.x + one.width <= picture.width for one in match.diff_regions)
    assert {mode for _, mode in picture.getcolors(1 << 16) or ()} > {(255, 255, 255)}


async def test_a_match_says_why(vision: EmbeddedVision) -> None:
    """Nobody could tell why a drawing is called a revision, nor how much of it changed."""
    await vision.add("tenant", drawing_file(small_png(), "old.png"))
    result = await vision.search("tenant", drawing_file(revised_png(), "new.png"), PARAMS)

    (match,) = (*result.duplicates, *result.similar)
    compared = await vision.compare(drawing_file(revised_png()), drawing_file(small_png()), PARAMS)
    for one in (match, compared):
        assert one.reason
        assert one.thresholds["duplicate"] == PARAMS.duplicate_threshold
        assert 0 < (one.changed_area or 0) < 0.5


async def test_ignored_areas_count_neither_in_the_verdict_nor_in_the_difference(
    vision: EmbeddedVision,
) -> None:
    """Whoever masks a stamp would still be told that the drawing was revised there."""
    await vision.add("tenant", drawing_file(small_png(), "old.png"))
    query = drawing_file(revised_png(), "new.png")
    (changed,) = (await vision.search("tenant", query, PARAMS)).similar
    with Image.open(BytesIO(b64decode(changed.diff_image_base64 or ""))) as picture:
        width, height = picture.size
    masks = [
        Area(
            x=max(0.0, one.x / width - 0.02),
            y=max(0.0, one.y / height - 0.02),
            width=min(1.0, one.width / width + 0.04),
            height=min(1.0, one.height / height + 0.04),
        )
        for one in changed.diff_regions
    ]
    masked = SearchParams(ignore=tuple(masks))
    (match,) = (await vision.search("tenant", query, masked)).duplicates
    compared = await vision.compare(query, drawing_file(small_png()), masked)

    assert changed.relation is Relation.REVISION
    for one in (match, compared):
        assert one.relation is Relation.IDENTICAL
        assert one.diff_regions == ()


async def test_a_part_to_ignore_that_is_not_there_is_named(vision: EmbeddedVision) -> None:
    """Whoever ignores the title block would trust a verdict that looked at it, as none was found."""
    await vision.add("tenant", drawing_file(plan(1)))
    params = SearchParams(ignore=("title_block",))
    whole = await vision.search("tenant", drawing_file(plan(1, compression=1)), params)
    with Image.open(BytesIO(plan(1))) as picture:
        views = BytesIO()
        picture.crop((40, 30, 980, 590)).save(views, "PNG")
    part = drawing_file(views.getvalue())
    found = await vision.search("tenant", part, params)
    compared = await vision.compare(part, drawing_file(plan(2)), params)

    assert not any("title block" in text for text in whole.warnings)
    for result in (found, compared):
        assert any("no title block" in text for text in result.warnings)


async def test_differences_only_for_the_best(vision: EmbeddedVision) -> None:
    """A search with 500 matches would answer with hundreds of megabytes of pictures."""
    for name in ("a.png", "b.png", "c.png"):
        await vision.add("tenant", drawing_file(plan(1), name))
    result = await vision.search("tenant", drawing_file(plan(1)), SearchParams(diff_top_n=2))

    assert [bool(match.diff_image_base64) for match in result.duplicates] == [True, True, False]


async def test_neighbours_of_a_stored_drawing(vision: EmbeddedVision) -> None:
    """A scan of a folder would name each drawing its own duplicate, or miss the others."""
    first = await add(vision, 1)
    other = await vision.add("tenant", drawing_file(plan(1), "copy.png"))
    again = await vision.add("tenant", drawing_file(plan(1, compression=1), "again.png"))
    await add(vision, 2)
    result = await vision.neighbours("tenant", first.drawing_id, PARAMS)

    found = {match.drawing_id: match.relation for match in result.duplicates}
    assert found == {other.drawing_id: Relation.EXACT, again.drawing_id: Relation.IDENTICAL}
    assert result.file_hash == first.file_hash


async def test_unchanged_files_are_known(vision: EmbeddedVision) -> None:
    """`dedup2d index` would read every file of a folder again at every run."""
    assert await vision.known("tenant", "/p/a.png") is None
    file = drawing_file(plan(1), "a.png")
    await vision.add("tenant", file, source="/p/a.png", mtime_ns=7)

    assert await vision.known("tenant", "/p/a.png") == (file.size, 7, file.sha256)
    assert len(await vision.of_source("tenant", "/p/a.png")) == 1
    assert await vision.known("other", "/p/a.png") is None
    assert await vision.of_source("other", "/p/a.png") == ()


async def test_two_clients_see_what_the_other_did(vision: EmbeddedVision, directory: Path) -> None:
    """A service would not find what the command has just indexed, or still find what it removed."""
    async with EmbeddedVision(directory) as other:
        assert names(await find(other, 1)) == []
        added = await add(vision, 1)
        assert names(await find(other, 1)) == ["plan-1.png"]
        await add(other, 2)
        assert names(await find(vision, 2)) == ["plan-2.png"]
        await vision.remove("tenant", added.drawing_id)
        gone = await find(other, 1)
        assert (names(gone), gone.level_stats["l1"]) == ([], 1)  # not only hidden, but forgotten
        await other.rebuild("tenant")
        assert names(await find(vision, 2)) == ["plan-2.png"]


async def test_old_fingerprints_open_and_are_rebuilt(vision: EmbeddedVision, directory: Path) -> None:
    """After an upgrade the index would crash, or silently find nothing."""
    added = await add(vision, 1)
    with database(directory) as plain:
        plain.execute("UPDATE drawings SET fingerprint_version = 0")
        plain.execute("UPDATE fingerprints SET data = x'00'")
    plain.close()

    async with EmbeddedVision(directory) as upgraded:
        health = await upgraded.health()
        assert (health.status, health.details["drawings_to_rebuild"]) == ("degraded", 1)
        query = drawing_file(plan(1, compression=1))
        result = await upgraded.search("tenant", query, PARAMS)
        assert names(result) == []
        assert "1 of 1 drawings were not searched" in result.warnings[0]
        assert names(await find(upgraded, 1)) == ["plan-1.png"]
        assert (await upgraded.neighbours("tenant", added.drawing_id, PARAMS)).success
        rebuilt = await upgraded.rebuild("tenant")
        assert (rebuilt.drawings, rebuilt.message) == (1, "fingerprints of 1 drawing made anew")
        assert names(await upgraded.search("tenant", query, PARAMS)) == ["plan-1.png"]
        assert (await upgraded.health()).status == "healthy"


async def test_damaged_rows_do_not_spoil_the_others(vision: EmbeddedVision, directory: Path) -> None:
    """One torn fingerprint or picture would make every search or rebuild of a tenant fail."""
    bad, good = await add(vision, 1), await add(vision, 2)
    with database(directory) as plain:
        key = plain.execute("SELECT key FROM drawings WHERE drawing_id = ?", (bad.drawing_id,)).fetchone()
        plain.execute("UPDATE fingerprints SET data = x'6432' WHERE key = ?", key)
        plain.execute("UPDATE pictures SET data = x'89' WHERE key = ?", key)
    plain.close()

    async with EmbeddedVision(directory) as fresh:
        result = await fresh.search("tenant", drawing_file(plan(2, compression=1)), PARAMS)
        assert [match.drawing_id for match in result.duplicates] == [good.drawing_id]
        assert "1 of 2 drawings" in result.warnings[0]
        same = await find(fresh, 1)
        assert (same.duplicates[0].drawing_id, same.duplicates[0].diff_image_base64) == (bad.drawing_id, None)
        rebuilt = await fresh.rebuild("tenant")
        assert (rebuilt.success, rebuilt.drawings) == (False, 1)
        with pytest.raises(UnreadableDrawingError, match="damaged"):
            await fresh.neighbours("tenant", bad.drawing_id, PARAMS)


async def test_a_newer_index_is_refused_and_told(vision: EmbeddedVision, directory: Path) -> None:
    """An old service on a new index would damage it, or report that all is well."""
    await add(vision, 1)
    with database(directory) as plain:
        plain.execute(f"PRAGMA user_version = {rows.SCHEMA_VERSION + 1}")
    plain.close()

    async with EmbeddedVision(directory) as old:
        with pytest.raises(IndexVersionError, match="upgrade"):
            await find(old, 1)
        health = await old.health()
        assert (health.status, health.details["indexes_failed"]) == ("degraded", 1)


async def test_few_indexes_stay_open(directory: Path) -> None:
    """The memory and the open files of a service would grow with every tenant that ever searched."""
    async with EmbeddedVision(directory, open_indexes=1) as made:
        for tenant in ("a", "b", "c"):
            await add(made, 1, tenant)
        for tenant in ("a", "b", "c", "a"):
            assert names(await find(made, 1, tenant)) == ["plan-1.png"]
            assert len(made._indexes._open) == 1
        async with made._indexes.use("a") as held:
            assert held is not None
            assert names(await find(made, 1, "b")) == ["plan-1.png"]
            assert held.catalogue.counts().drawings == 1
        health = await made.health()
        assert (health.details["indexes"], health.details["drawings"]) == (3, 3)


async def test_large_indexes_do_not_add_up(directory: Path) -> None:
    """The memory of a service would hold the candidates of all its large tenants."""
    async with EmbeddedVision(directory, held_drawings=2) as made:
        for tenant, count in (("a", 1), ("b", 1), ("c", 2), ("d", 3)):
            for seed in range(count):
                await add(made, seed, tenant)
        open_after = []
        for tenant in ("a", "b", "c", "d", "d"):
            await find(made, 0, tenant)
            open_after.append(list(made._indexes._open))
    assert open_after[1:] == [["c", "d", "a", "b"], ["c"], ["d"], ["d"]]


async def test_a_deleted_index_is_noticed(vision: EmbeddedVision, directory: Path) -> None:
    """Who deletes an index to start anew would have a service that adds to a file nobody can see."""
    await add(vision, 1)
    shutil.rmtree(directory / "tenant")

    assert names(await find(vision, 1)) == []
    assert (await add(vision, 2)).added
    assert names(await find(vision, 2)) == ["plan-2.png"]
    assert listing(directory) == ["tenant"]


async def test_an_unusable_directory_is_a_passing_error(directory: Path) -> None:
    """A disk that is not mounted yet would fail jobs for good, or look like an empty index."""
    directory.write_text("not a directory")
    async with EmbeddedVision(directory) as made:
        with pytest.raises(VisionUnavailableError):
            await add(made, 1)
        with pytest.raises(VisionUnavailableError):
            await find(made, 1)
        assert (await made.health()).status == "unhealthy"


async def test_nothing_leaves_the_directory(vision: EmbeddedVision, directory: Path) -> None:
    """A tenant id or a file name could write outside of the index directory."""
    for tenant in ("..", "../x", "/tmp/x", "a\x00b", "CON.", "a/../../b"):
        with pytest.raises(InvalidParameterError, match="tenant_id"):
            await add(vision, 1, tenant)
    added = await vision.add("tenant", drawing_file(plan(1), "../../evil\n\x00.png"))

    assert (await vision.drawing("tenant", added.drawing_id)).file_name == "../../evil\n\x00.png"
    assert listing(directory.parent) == ["index"]
    assert listing(directory) == ["tenant"]


async def test_streamed_files_leave_no_copy(
    vision: EmbeddedVision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk would fill with copies of what was searched for."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = listing(tmp_path)
    await find(vision, 1)
    with pytest.raises(UnreadableDrawingError):
        await vision.search("tenant", drawing_file(plan(1)[:900]), PARAMS)

    assert listing(tmp_path) == before


async def test_cancelling_kills_the_child(vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled job would keep a core busy until its time-out."""
    await find(vision, 1)
    monkeypatch.setattr(embedded, "extract", hang)
    (child,) = vision._children._all
    with anyio.move_on_after(0.3) as scope:
        await find(vision, 1)

    assert scope.cancelled_caught
    assert not vision._children._all
    with pytest.raises(ProcessLookupError):
        os.kill(child._process.pid, 0)


async def test_cancelling_does_not_wait_for_a_large_index(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling would take as long as looking through a large index."""
    await add(vision, 1)
    entered, go_on = threading.Event(), threading.Event()
    query = Candidates.query

    def slow(
        self: Candidates, fingerprint: Fingerprint, *, limit: int, thorough: bool = False
    ) -> list[Candidate]:
        entered.set()
        go_on.wait(20)
        return query(self, fingerprint, limit=limit, thorough=thorough)

    monkeypatch.setattr(Candidates, "query", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(find, vision, 2)
        await anyio.to_thread.run_sync(entered.wait)
        started = anyio.current_time()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - started < 1
    go_on.set()
    assert names(await find(vision, 1)) == ["plan-1.png"]


async def test_a_verification_that_dies_is_a_warning(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One drawing that crashes the verification would make every search near it fail."""
    await add(vision, 1)
    monkeypatch.setattr(search, "verify_batch", die)
    monkeypatch.setattr(search, "differences", die)
    result = await vision.search("tenant", drawing_file(plan(1, compression=1)), PARAMS)
    exact = await find(vision, 1)

    assert "1 candidates could not be verified" in result.warnings[0]
    assert result.level_stats["l4"] == 0
    assert names(exact) == ["plan-1.png"]
    assert "no difference picture" in exact.warnings[0]


@pytest.mark.parametrize(("processes", "shares"), [(1, [6]), (3, [4, 2])])
async def test_children_with_nothing_to_do_share_the_candidates(
    monkeypatch: pytest.MonkeyPatch, processes: int, shares: list[int]
) -> None:
    """A search would take as long on many cores as on one."""
    asked: list[int] = []
    call = Children.call

    async def noted(self: Children, func: Callable[..., object], *args: Any, **more: Any) -> object:
        if func is search.verify_batch:
            asked.append(len(args[1]))
        return await call(self, func, *args, **more)

    monkeypatch.setattr(Children, "call", noted)
    async with EmbeddedVision(None, processes=processes) as made:
        for seed in range(11):
            await add(made, seed)
        await made.search("tenant", drawing_file(plan(3, compression=1)), evolve(PARAMS, mode=Mode.PRECISE))

    assert sorted(asked, reverse=True) == shares


async def test_a_rebuild_survives_a_picture_that_kills(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture that crashes the child would stop a rebuild for ever."""
    await add(vision, 1)
    monkeypatch.setattr("dedup2d.vision.rebuilding.refingerprint", die)
    rebuilt = await vision.rebuild("tenant")

    assert (rebuilt.success, rebuilt.drawings) == (False, 0)
    assert "1 are damaged" in rebuilt.message


async def test_an_upgrade_under_a_running_process_is_told(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade without a restart, new children would fill the index with what is never found."""
    monkeypatch.setattr(embedded, "FINGERPRINT_VERSION", -1)
    with pytest.raises(InternalError, match="restart"):
        await add(vision, 1)
    with pytest.raises(InternalError, match="restart"):
        await find(vision, 1)
    assert (await vision.drawings("tenant")).total == 0


async def test_a_slow_file_is_given_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that hangs its reader would hang the search."""
    monkeypatch.setattr(embedded, "extract", hang)
    async with EmbeddedVision(directory, limits=ReadLimits(max_seconds=0.2)) as made:
        with pytest.raises(UnreadableDrawingError, match="longer than 0"):
            await add(made, 1)
        assert (await made.drawings("tenant")).total == 0


async def test_searches_go_on_while_adding(vision: EmbeddedVision) -> None:
    """A long indexing run would block every search of the same tenant."""
    await add(vision, 0)
    seen: list[int] = []

    async def search_often() -> None:
        while len(names(await find(vision, 3))) == 0:
            seen.append(len(names(await find(vision, 0))))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(search_often)
        for seed in (1, 2, 3):
            await add(vision, seed)

    assert set(seen) <= {1}


async def test_comparing_tells_what_changed(vision: EmbeddedVision) -> None:
    """`dedup2d compare` would show no difference, or from the wrong side."""
    old, new = drawing_file(small_png(), "old.png"), drawing_file(revised_png(), "new.png")
    result = await vision.compare(new, old, PARAMS)
    blank = await vision.compare(
        new, drawing_file(blank_plan(), "blank.png"), SearchParams(compute_diff=False)
    )

    assert result.verdict is not Verdict.DIFFERENT
    assert result.diff_regions
    assert (result.diff_png or b"").startswith(b"\x89PNG")
    assert (blank.verdict, blank.diff_png) == (Verdict.DIFFERENT, None)
    assert blank.warnings == (f"blank.png: {answers.BLANK}",)


async def test_a_closed_client_refuses(directory: Path) -> None:
    """Work after shutdown would leave children behind."""
    async with EmbeddedVision(directory) as made:
        await add(made, 1)
    with pytest.raises(InternalError):
        await find(made, 1)


def test_warnings_are_bounded() -> None:
    """A PDF of 200 pages could answer with thousands of warnings."""
    many = answers.bounded([f"w{n}" for n in range(60)])

    assert len(many) == 51
    assert many[-1] == "and 10 more warnings"
