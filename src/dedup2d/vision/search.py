"""One search over one index: candidates, verification, verdicts, and the differences of the best."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen

from dedup2d.children import Children
from dedup2d.engine.candidates import Candidate
from dedup2d.engine.extract import Overlay, differences, tell_apart, verify_batch
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.judge import judge
from dedup2d.engine.masks import missing_places
from dedup2d.engine.verify import Evidence
from dedup2d.errors import UnreadableDrawingError
from dedup2d.protocols import Progress
from dedup2d.types import Drawing, Match, SearchParams, Verdict
from dedup2d.vision.effort import (
    EFFORTS,
    ONCE_MORE,
    SURE,
    Effort,
    Placement,
    by_turns,
    placements,
    worth_a_look,
)
from dedup2d.vision.hits import Hit, QuerySheet, competing, match_of, rivals_of, settled
from dedup2d.vision.indexes import Index
from dedup2d.vision.learned import NO_MODEL, NO_VERIFICATION, Learned, lacking, most_alike, with_alike

__all__ = ["MAX_PAGES", "Found", "Search", "missing_place"]

T = TypeVar("T")

MAX_PAGES = 50
"""Pages of a query that are searched for; the others are named in a warning."""

_LEAST_BATCH, _MOST_BATCH = 4, 12
"""Candidates that one child looks at; it makes the query ready first, which costs about as much as two."""
_SAME_BYTES = 500


@frozen(kw_only=True)
class Found:
    """What a search found, best first, and what it took."""

    matches: tuple[Match, ...]
    final_level: int
    candidates_ms: float
    verify_ms: float
    learned_ms: float = 0.0
    stats: dict[str, int] = field(factory=dict)
    warnings: tuple[str, ...] = ()


class Search:
    """
    One search.

    Args:
        name: what to call the query in errors.
        file_hash: SHA-256 of the query's bytes.
        seconds: how long one step in a child may take.
        leave_out: key of a drawing that is no answer: the query itself.
        learned: the model that is asked too if `enable_ml` is set, None if there is none.
    """

    def __init__(
        self,
        index: Index,
        children: Children,
        params: SearchParams,
        *,
        name: str,
        file_hash: str,
        seconds: float,
        progress: Progress | None = None,
        leave_out: int | None = None,
        learned: Learned | None = None,
    ) -> None:
        self._index = index
        self._children = children
        self._params = params
        self._name = name
        self._file_hash = file_hash
        self._seconds = seconds
        self._progress = progress or (lambda _: None)
        self._leave_out = leave_out
        self._learned = learned if params.enable_ml else None
        self._hits: dict[int, Hit] = {}
        self._warnings: list[str] = []
        self._named: set[tuple[int, int]] = set()
        self._asked: dict[int, int] = {}
        self._verified = 0
        self._candidates_ms = self._learned_ms = self._verify_ms = 0.0

    async def run(self, sheets: Sequence[QuerySheet]) -> Found:
        """Search for *sheets* and merge: each drawing is found once, for the sheet it fits best."""
        await self._index.catch_up()
        await self._warn_of_left_out()
        self._warn_of_missing_places(sheets)
        self._warn_of_no_learning()
        for number, sheet in enumerate(sheets, 1):
            self._progress(f"searching sheet {number} of {len(sheets)}")
            await self._search_sheet(sheet, len(sheets))
        hits = competing(sorted(self._hits.values(), key=lambda hit: hit.rank)[: self._params.max_results])
        return Found(
            matches=await self._with_differences(hits),
            final_level=4 if self._verified else 2 if self._named else 1,
            candidates_ms=self._candidates_ms,
            verify_ms=self._verify_ms,
            learned_ms=self._learned_ms,
            stats={
                "l1": len(self._index.live) * len(sheets),
                "l2": len(self._named),
                "l4": self._verified,
            }
            | ({"l3": sum(self._asked.values())} if self._params.enable_ml else {}),
            warnings=tuple(dict.fromkeys(self._warnings)),
        )

    async def _warn_of_left_out(self) -> None:
        counts = await anyio.to_thread.run_sync(self._index.catalogue.counts)
        left_out = counts.stale + self._index.live.damaged
        if left_out:
            self._warnings.append(
                f"{left_out} of {counts.drawings} drawings were not searched: their fingerprints are"
                " of another version or damaged; rebuild the index"
            )

    def _warn_of_missing_places(self, sheets: Sequence[QuerySheet]) -> None:
        for sheet in sheets:
            for name in missing_places(self._params.ignore, sheet.fingerprint.layout):
                self._warnings.append(missing_place(name, sheet.page if len(sheets) > 1 else None))

    def _warn_of_no_learning(self) -> None:
        if self._params.enable_ml and self._learned is None:
            self._warnings.append(NO_MODEL)
        elif self._learned and not (self._params.enable_geometric and EFFORTS[self._params.mode].verified):
            self._warnings.append(NO_VERIFICATION)

    async def _search_sheet(self, sheet: QuerySheet, sheets: int) -> None:
        tried: dict[int, bool] = {}
        await self._look(sheet, sheets, EFFORTS[self._params.mode], tried)
        found = max(
            (hit.judgement.similarity for hit in self._hits.values() if hit.sheet is sheet), default=0.0
        )
        if EFFORTS[self._params.mode].verified and self._params.enable_geometric and found < SURE:
            await self._look(sheet, sheets, ONCE_MORE, tried)
        await self._tell_apart(sheet)

    async def _tell_apart(self, sheet: QuerySheet) -> None:
        """Look closely where several drawings agree with the sheet about as well."""
        hits = [hit for hit in self._hits.values() if hit.sheet is sheet]
        rivals = rivals_of(sorted(hits, key=lambda hit: hit.rank))
        if not rivals:
            return
        started = time.perf_counter()
        self._progress(f"telling {len(rivals)} matches apart")
        stored = await anyio.to_thread.run_sync(self._index.catalogue.sheets, [hit.key for hit in rivals])
        by_key = {one.key: one.likeness for one in stored}
        rivals = [hit for hit in rivals if hit.key in by_key]
        others = tuple((by_key[hit.key], hit.evidence.matrix if hit.evidence else None) for hit in rivals)
        try:
            outcome = await self._call(tell_apart, sheet.likeness, others, self._params.ignore)
        except UnreadableDrawingError as error:
            self._warnings.append(f"{len(rivals)} matches could not be told apart: {error.reason}")
        else:
            for hit in settled(rivals, outcome, self._params):
                del self._hits[hit.key]
                self._keep(hit)
        self._verify_ms += _since(started)

    async def _look(self, sheet: QuerySheet, sheets: int, effort: Effort, tried: dict[int, bool]) -> None:
        """Look with *effort*; *tried* says which candidates were verified already, and if by all features."""
        started = time.perf_counter()
        share = effort.share(sheets) if self._params.enable_geometric else 0
        candidates = await self._candidates(sheet, effort)
        self._candidates_ms += _since(started)
        by_l3 = min(effort.by_l3, share)
        if by_l3:
            candidates = with_alike(candidates, await self._alike(sheet, candidates, by_l3))
        started = time.perf_counter()
        drawings = await anyio.to_thread.run_sync(
            self._index.catalogue.drawings, [one.key for one in candidates]
        )
        candidates = [one for one in candidates if self._may_answer(one.key, drawings)]
        exact = {one.key for one in candidates if self._is_exact(drawings[one.key], sheet)}
        self._candidates_ms += _since(started)
        self._named |= {(sheet.page, one.key) for one in candidates}
        doubtful = [one for one in candidates if one.key not in exact]
        worth = worth_a_look(doubtful, effort.surely)
        seen = placements(worth, effort.by_all, effort.many)
        anew = [
            one for one in worth if one.key not in tried or (seen[one.key] is None and not tried[one.key])
        ][:share]
        alike = [one for one in most_alike(doubtful, anew, by_l3) if one.key not in tried]
        seen |= placements(alike, 0, effort.many)
        anew += alike
        evidence = await self._verify(sheet, anew, seen)
        # What common features name is told of where ink bears it out: their scores alone say too little.
        told = set() if effort.thorough else {one.key for one in candidates} - tried.keys()
        told |= {one.key for one in anew}
        tried |= {one.key: seen[one.key] is None for one in anew}
        for one in candidates:
            if one.key not in told:
                continue
            self._keep(
                Hit(
                    key=one.key,
                    drawing=drawings[one.key],
                    sheet=sheet,
                    candidate=one,
                    judgement=judge(one, evidence.get(one.key), self._params, same_bytes=one.key in exact),
                    evidence=evidence.get(one.key),
                    exact=one.key in exact,
                )
            )

    async def _candidates(self, sheet: QuerySheet, effort: Effort) -> list[Candidate]:
        """Return what the levels 1 and 2 name, and what has the query's bytes."""
        same = await anyio.to_thread.run_sync(
            lambda: self._index.catalogue.same_bytes(self._file_hash, limit=_SAME_BYTES)
        )
        # Those are left out later or need no search; room for others must remain.
        limit = max(self._params.max_results, effort.verified) + len(same) + 1
        found = [] if sheet.blank else await self._named_by_features(sheet.fingerprint, limit, effort)
        named = {one.key for one in found}
        return [Candidate(key=key) for key, page in same if page == sheet.page and key not in named] + found

    async def _named_by_features(
        self, fingerprint: Fingerprint, limit: int, effort: Effort
    ) -> list[Candidate]:
        quick = await self._index.candidates(fingerprint, limit)
        if not effort.thorough:
            return quick
        return by_turns(await self._index.candidates(fingerprint, limit, thorough=True), quick)

    async def _alike(self, sheet: QuerySheet, candidates: list[Candidate], most: int) -> dict[int, float]:
        """Return how alike the model finds the candidates and the *most* alike others, by key: level 3."""
        if self._learned is None or sheet.blank:
            return {}
        started = time.perf_counter()
        vector, warnings = await self._learned.vector(sheet.likeness.ink)
        self._warnings += warnings
        found: dict[int, float] = {}
        if vector is not None:
            named = {one.key for one in candidates}
            if self._leave_out is not None:
                named.add(self._leave_out)  # or it would take the place of an answer
            found, asked = await self._index.alike(self._learned.model, vector, named, most)
            self._warnings += lacking(len(self._index.live), asked)
            self._asked[sheet.page] = asked
        self._learned_ms += _since(started)
        return found

    def _may_answer(self, key: int, drawings: dict[int, Drawing]) -> bool:
        if key == self._leave_out or key not in drawings:
            return False
        return not (self._params.exclude_self and drawings[key].file_hash == self._file_hash)

    def _is_exact(self, drawing: Drawing, sheet: QuerySheet) -> bool:
        return drawing.file_hash == self._file_hash and drawing.page == sheet.page

    async def _verify(
        self, sheet: QuerySheet, candidates: list[Candidate], seen: dict[int, Placement]
    ) -> dict[int, Evidence]:
        if not candidates:
            return {}
        started = time.perf_counter()
        self._progress(f"verifying {len(candidates)} candidates")
        size = min(_MOST_BATCH, max(_LEAST_BATCH, -(-len(candidates) // max(1, self._children.free))))
        batches = [candidates[start : start + size] for start in range(0, len(candidates), size)]
        found = await _all_of([partial(self._verify_batch, sheet, batch, seen) for batch in batches])
        self._verify_ms += _since(started)
        return {key: one for part in found for key, one in part.items()}

    async def _verify_batch(
        self, sheet: QuerySheet, candidates: list[Candidate], seen: dict[int, Placement]
    ) -> dict[int, Evidence]:
        keys = [one.key for one in candidates]
        stored = await anyio.to_thread.run_sync(self._index.catalogue.sheets, keys)
        others = tuple(one.likeness for one in stored)
        placements = tuple(seen[one.key] for one in stored)
        try:
            found = await self._call(verify_batch, sheet.likeness, others, self._params.ignore, placements)
        except UnreadableDrawingError as error:
            # One drawing that hangs or crashes the verification must not make all searches fail.
            self._warnings.append(f"{len(candidates)} candidates could not be verified: {error.reason}")
            return {}
        self._verified += len(stored)
        return {one.key: evidence for one, evidence in zip(stored, found, strict=True) if evidence}

    def _keep(self, hit: Hit) -> None:
        if hit.judgement.verdict is Verdict.DIFFERENT:
            return
        known = self._hits.get(hit.key)
        if known is None or hit.rank < known.rank:
            self._hits[hit.key] = hit

    async def _with_differences(self, hits: list[Hit]) -> tuple[Match, ...]:
        if not self._params.compute_diff:
            return tuple(match_of(hit) for hit in hits)
        shown = [hit for hit in hits[: int(self._params.diff_top_n)] if hit.exact or hit.evidence]
        if shown:
            self._progress(f"comparing {len(shown)} matches")
        made = await _all_of([partial(self._with_difference, hit) for hit in shown])
        by_key = dict(zip((hit.key for hit in shown), made, strict=True))
        return tuple(by_key.get(hit.key) or match_of(hit) for hit in hits)

    async def _with_difference(self, hit: Hit) -> Match:
        match = match_of(hit)
        stored = await anyio.to_thread.run_sync(self._index.catalogue.sheets, [hit.key])
        if not stored:
            return match
        side = max(hit.drawing.width, hit.drawing.height)
        overlay = Overlay(stored[0].likeness, hit.evidence, side)
        try:
            (difference,) = await self._call(differences, hit.sheet.likeness, (overlay,), self._params.ignore)
        except UnreadableDrawingError as error:
            self._warnings.append(f"no difference picture of {hit.drawing.drawing_id}: {error.reason}")
            return match
        if difference is None:
            return match
        png, regions = difference
        return evolve(match, diff_image_base64=b64encode(png).decode(), diff_regions=regions)

    async def _call(self, func: Callable[..., T], *args: object) -> T:
        return await self._children.call(func, *args, seconds=self._seconds, name=self._name)


def missing_place(name: str, page: int | None = None) -> str:
    """Return the warning that a sheet has nothing of that *name* to ignore."""
    where = "the query" if page is None else f"page {page}"
    return f"{where} has no {name.replace('_', ' ')} that could be found: nothing was left out for it"


async def _all_of(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Await all at once; the first error ends the others and is raised as it is, not in a group."""
    results: list[T | None] = [None] * len(calls)

    async def run(number: int, call: Callable[[], Awaitable[T]]) -> None:
        results[number] = await call()

    try:
        async with anyio.create_task_group() as tasks:
            for number, call in enumerate(calls):
                tasks.start_soon(run, number, call)
    except BaseExceptionGroup as group:
        raise _first(group) from group
    return results  # type: ignore[return-value]  # all are there when the group has ended


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
