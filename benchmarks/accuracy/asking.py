"""Asks the product and its peers the same questions."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from benchmarks.accuracy.peers import Peer, hash_all, ranked
from benchmarks.accuracy.queries import Query, grey_of
from benchmarks.accuracy.rows import Answer, Hit, Rows
from benchmarks.corpus import Entry
from benchmarks.engine import TENANT, each, of_bytes
from dedup2d.types import Match, SearchParams
from dedup2d.vision.embedded import EmbeddedVision

__all__ = ["LIMIT", "ask_engine", "ask_peers", "engine_name"]

LIMIT = 20


def engine_name(mode: str) -> str:
    return f"dedup2d {mode}"


async def ask_engine(
    vision: EmbeddedVision, queries: Sequence[Query], mode: str, rows: Rows, *, seed: int, workers: int
) -> None:
    """Ask what has not been asked in *mode* yet. A query that fails gives a row with its error."""
    name = engine_name(mode)
    done = rows.keys(name)
    waiting = [query for query in queries if query.key not in done]
    progress = _Progress(name, len(waiting))

    async def ask(query: Query) -> None:
        rows.add(await _ask_one(vision, query, mode, seed))
        progress.step()

    await each(ask, waiting, workers=workers)


async def _ask_one(vision: EmbeddedVision, query: Query, mode: str, seed: int) -> Answer:
    data, suffix = await anyio.to_thread.run_sync(query.data, seed)
    params = SearchParams(
        mode=mode,
        max_results=LIMIT + 1,
        compute_diff=False,
        similar_threshold=0.0,  # ranks are wanted too; what is reported by default is counted from the scores
    )
    started = time.perf_counter()
    try:
        result = await vision.search(TENANT, of_bytes(data, f"query{suffix}"), params)
    except Exception as error:  # noqa: BLE001 - a failed query is a result
        return _answer(engine_name(mode), query, time.perf_counter() - started, error=str(error))
    own = query.entry.id if query.paired else None
    found = map(_hit, sorted((*result.duplicates, *result.similar), key=_order))
    hits = [hit for hit in found if hit.id != own][:LIMIT]
    seconds = result.timing.total_ms / 1000
    levels = {name: int(count) for name, count in result.level_stats.items()}
    return _answer(engine_name(mode), query, seconds, hits=hits, levels=levels)


def _order(match: Match) -> float:
    return -match.similarity


def _hit(match: Match) -> Hit:
    return Hit(
        id=Path(match.file_name).stem,
        score=round(match.similarity, 4),
        relation=str(match.relation),
        verdict=str(match.verdict),
        confidence=round(match.confidence, 4),
    )


def _answer(
    engine: str,
    query: Query,
    seconds: float,
    *,
    hits: Sequence[Hit] = (),
    error: str = "",
    levels: dict[str, int] | None = None,
) -> Answer:
    return Answer(
        engine=engine,
        key=query.key,
        transform=query.transform,
        query=query.entry.id,
        about=query.about,
        group=query.entry.group,
        seconds=round(seconds, 3),
        hits=tuple(hits),
        error=error,
        levels=levels or {},
    )


def ask_peers(
    peers: Sequence[Peer],
    indexed: Sequence[Entry],
    queries: Sequence[Query],
    rows: Rows,
    cache: Path,
    *,
    seed: int,
) -> None:
    """Rank the indexed drawings for each query by each peer's distance."""
    done = {peer.name: rows.keys(peer.name) for peer in peers}
    waiting = [query for query in queries if any(query.key not in keys for keys in done.values())]
    if not waiting:
        return
    ids, hashes = hash_all(peers, ((entry.id, grey_of(entry.path)) for entry in indexed), cache)
    progress = _Progress("peers", len(waiting))
    for query in waiting:
        grey = query.grey(seed)
        for peer in peers:
            if query.key in done[peer.name]:
                continue
            started = time.perf_counter()
            best = ranked(peer, grey, ids, hashes[peer.name], LIMIT + 1)
            own = query.entry.id if query.paired else None
            hits = [
                Hit(id=name, score=-far, verdict="duplicate" if far <= peer.threshold else "")
                for name, far in best
                if name != own
            ]
            rows.add(_answer(peer.name, query, time.perf_counter() - started, hits=hits[:LIMIT]))
        progress.step()


class _Progress:
    """A line on standard error every 50 queries."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._started = time.monotonic()

    def step(self) -> None:
        self._done += 1
        if self._done % 50 == 0 or self._done == self._total:
            spent = time.monotonic() - self._started
            print(
                f"{self._name}: {self._done} of {self._total} in {spent:.0f} s", file=sys.stderr, flush=True
            )
