"""Searches by every drawing of an index for the others, many at once, in bounded memory."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, evolve, field

from dedup2d.cli.groups import Link, Member
from dedup2d.cli.report.pictures import shrunk, shrunk_difference
from dedup2d.cli.session import Session
from dedup2d.cli.terminal import Progress
from dedup2d.errors import DrawingNotFoundError
from dedup2d.types import Drawing, Match, Relation, SearchParams, SearchResult

__all__ = ["EnginePictures", "Scanner"]

_PAGE = 500
_PICTURE_SIDE = 700
_DIFFERENCE_SIDE = 1100
_MOST_DIFFERENCES = 50


@define(kw_only=True)
class Scanner:
    """
    Finds how the drawings of one index are related.

    Args:
        session: the index.
        params: how to search.
        relations: what counts as related.
        workers: searches at once.
    """

    session: Session
    params: SearchParams
    relations: frozenset[Relation]
    workers: int
    drawings: dict[str, Drawing] = field(factory=dict)
    links: list[Link] = field(factory=list)

    async def run(self, progress: Progress) -> None:
        """Fill `drawings` and `links`."""
        progress.total((await self.session.vision.drawings(self.session.tenant_id, limit=1)).total)
        send, receive = anyio.create_memory_object_stream[Drawing](0)
        async with anyio.create_task_group() as tasks:
            for _ in range(self.workers):
                tasks.start_soon(self._work, receive.clone(), progress)
            receive.close()
            async with send:
                # Without a worker left its error, not ours, says what happened.
                with suppress(anyio.BrokenResourceError):
                    await self._send(send, progress)

    async def _send(self, send: MemoryObjectSendStream[Drawing], progress: Progress) -> None:
        seen: set[tuple[str, int, str]] = set()
        async for drawing in self._all():
            self.drawings[drawing.drawing_id] = drawing
            # Copies of one file have the same neighbours.
            copy_of = (drawing.file_hash, drawing.page, drawing.sheet)
            if copy_of in seen:
                progress.advance()
            else:
                seen.add(copy_of)
                await send.send(drawing)

    async def _all(self) -> AsyncIterator[Drawing]:
        token: str | None = None
        while True:
            page = await self.session.vision.drawings(self.session.tenant_id, limit=_PAGE, page_token=token)
            for drawing in page.drawings:
                yield drawing
            token = page.next_page_token
            if token is None:
                return

    async def _work(self, drawings: MemoryObjectReceiveStream[Drawing], progress: Progress) -> None:
        async with drawings:
            async for drawing in drawings:
                result = await _neighbours(self.session, drawing, self.params)
                self.links.extend(self._accepted(drawing, _matches(result)))
                progress.advance(drawing.file_name)

    def _accepted(self, drawing: Drawing, matches: Iterable[Match]) -> Iterable[Link]:
        for match in matches:
            # Model space and layout of one DXF, say, are alike; that is no news.
            if match.relation in self.relations and match.file_hash != drawing.file_hash:
                yield Link(
                    a=drawing.drawing_id,
                    b=match.drawing_id,
                    relation=match.relation,
                    similarity=match.similarity,
                )


@define
class EnginePictures:
    """Pictures for a report, made by the engine when they are asked for."""

    session: Session
    params: SearchParams

    async def drawings(self, drawings: Sequence[Drawing]) -> dict[str, bytes]:
        """Return the drawings' pictures by `drawing_id`."""
        found = {}
        for drawing in drawings:
            png = await self.session.vision.picture(self.session.tenant_id, drawing.drawing_id)
            found[drawing.drawing_id] = await anyio.to_thread.run_sync(_thumbnail, png)
        return found

    async def differences(self, reference: Drawing, members: Sequence[Member]) -> dict[str, bytes]:
        """Return what differs from *reference*, if anything does, by `drawing_id`."""
        wanted = {one.drawing.drawing_id for one in members if one.relation is not Relation.EXACT}
        if not wanted:
            return {}
        params = evolve(self.params, compute_diff=True, diff_top_n=_MOST_DIFFERENCES)
        result = await _neighbours(self.session, reference, params)
        return {
            match.drawing_id: await anyio.to_thread.run_sync(_difference, match)
            for match in _matches(result)
            if match.drawing_id in wanted and match.diff_image_base64 and match.diff_regions
        }


def _thumbnail(png: bytes) -> bytes:
    return shrunk(png, side=_PICTURE_SIDE, colours=8)


def _difference(match: Match) -> bytes:
    png = base64.b64decode(match.diff_image_base64 or "")
    return shrunk_difference(png, match.diff_regions, side=_DIFFERENCE_SIDE, colours=24)


async def _neighbours(session: Session, drawing: Drawing, params: SearchParams) -> SearchResult:
    try:
        return await session.vision.neighbours(session.tenant_id, drawing.drawing_id, params)
    except DrawingNotFoundError:  # someone removed it meanwhile
        return SearchResult()


def _matches(result: SearchResult) -> tuple[Match, ...]:
    return (*result.duplicates, *result.similar)
