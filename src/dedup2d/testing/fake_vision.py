"""A vision client without an engine, that does what a test tells it to."""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint
from attrs import evolve, field, frozen

from dedup2d.errors import DrawingNotFoundError
from dedup2d.paging import check_limit, make_token, read_token
from dedup2d.protocols import Progress
from dedup2d.testing.clock import ManualClock
from dedup2d.types import (
    AddResult,
    Comparison,
    Drawing,
    DrawingFile,
    DrawingPage,
    Health,
    Match,
    RebuildResult,
    Relation,
    SearchParams,
    SearchResult,
    Verdict,
)

__all__ = ["FakeVision", "VisionCall"]

_PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVQIHWP4DwABAQEANl9ngAAAAABJRU5ErkJggg=="
)
"""A white picture of one pixel."""


@frozen(kw_only=True)
class VisionCall:
    """A call that a FakeVision got: the method's name and what was given to it."""

    method: str
    tenant_id: str = ""
    file_name: str = ""
    params: SearchParams | None = None
    data: bytes = field(default=b"", repr=False)


class FakeVision:
    """
    A `VisionClient` for tests: finds drawings of the same bytes, and obeys.

    Attributes:
        calls: every call it got, in order, with the bytes of its file.
        running: how many calls go on now, and `most` how many did at most.
        cancelled: how many calls were cancelled.
        result: what each search gives, if set, instead of the drawings of the same bytes.
        status: what `health` says.

    Args:
        clock: gives the time of added drawings.
        first_number: of the first drawing that is added; it is part of the drawing's id.
    """

    def __init__(self, *, clock: ManualClock | None = None, first_number: int = 1) -> None:
        self.calls: list[VisionCall] = []
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.result: SearchResult | None = None
        self.status = "healthy"
        self._clock = clock or ManualClock()
        self._gate: anyio.Event | None = None
        self._changed = anyio.Event()
        self._failures: dict[str, deque[Exception]] = {}
        self._drawings: dict[str, dict[str, Drawing]] = {}
        self._added = first_number - 1

    def hold(self) -> None:
        """Let every search, add and compare from now on wait until `let_go` or a cancel."""
        self._gate = anyio.Event()

    def let_go(self) -> None:
        """Let those that wait, and all that come, go on."""
        if self._gate is not None:
            self._gate.set()
        self._gate = None

    def fail(self, error: Exception, *, times: int = 1, method: str = "search") -> None:
        """Let the next *times* calls of *method* raise *error*, after those planned before."""
        self._failures.setdefault(method, deque()).extend([error] * times)

    async def until_running(self, number: int) -> None:
        """Wait until at least *number* calls go on at once."""
        while self.running < number:
            await self._changed.wait()

    async def until_called(self, number: int) -> None:
        """Wait until at least *number* calls have come in all."""
        while len(self.calls) < number:
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def search(
        self,
        tenant_id: str,
        file: DrawingFile,
        params: SearchParams,
        *,
        progress: Progress | None = None,
    ) -> SearchResult:
        if progress is not None:
            progress("searching")
        await self._obey("search", tenant_id, file, params)
        if self.result is not None:
            return self.result
        same = [
            _match(drawing)
            for drawing in self._of(tenant_id).values()
            if drawing.file_hash == file.sha256 and not params.exclude_self
        ]
        found = tuple(same[: params.max_results])
        return SearchResult(total_matches=len(found), duplicates=found, file_hash=file.sha256)

    async def add(
        self,
        tenant_id: str,
        file: DrawingFile,
        *,
        metadata: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> AddResult:
        await self._obey("add", tenant_id, file)
        drawings = self._of(tenant_id)
        for known in drawings.values():
            if (known.file_hash, known.file_name, known.source) == (file.sha256, file.name, source):
                return _added(known, added=False)
        if source is not None:
            self._drawings[tenant_id] = drawings = {
                key: drawing for key, drawing in drawings.items() if drawing.source != source
            }
        drawing = self._new_drawing(file, metadata or {}, source)
        drawings[drawing.drawing_id] = drawing
        return _added(drawing, added=True)

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        await self._obey("remove", tenant_id)
        if self._of(tenant_id).pop(drawing_id, None) is None:
            raise DrawingNotFoundError(drawing_id)

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        await self._obey("rebuild", tenant_id)
        return RebuildResult(message="rebuilt", drawings=len(self._of(tenant_id)))

    async def drawings(
        self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
    ) -> DrawingPage:
        await self._obey("drawings", tenant_id)
        check_limit(limit)
        drawings = sorted(self._of(tenant_id).values(), key=_place, reverse=True)
        before = None if page_token is None else read_token("drawings", page_token)
        rest = [drawing for drawing in drawings if before is None or _place(drawing) < before]
        page = tuple(rest[:limit])
        more = len(rest) > limit
        token = make_token("drawings", *_place(page[-1])) if more else None
        return DrawingPage(drawings=page, total=len(drawings), next_page_token=token)

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        await self._obey("drawing", tenant_id)
        return self._known(tenant_id, drawing_id)

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        await self._obey("picture", tenant_id)
        self._known(tenant_id, drawing_id)
        return _PNG

    async def compare(self, a: DrawingFile, b: DrawingFile, params: SearchParams) -> Comparison:
        await self._obey("compare", "", a, params)
        same = a.sha256 == b.sha256
        return Comparison(
            similarity=1.0 if same else 0.0,
            verdict=Verdict.DUPLICATE if same else Verdict.DIFFERENT,
            relation=Relation.EXACT if same else Relation.SIMILAR,
            diff_png=_PNG if params.compute_diff else None,
        )

    async def health(self) -> Health:
        await checkpoint()
        return Health(status=self.status, details={"calls": len(self.calls)})

    async def _obey(
        self,
        method: str,
        tenant_id: str,
        file: DrawingFile | None = None,
        params: SearchParams | None = None,
    ) -> None:
        call = VisionCall(method=method, tenant_id=tenant_id, params=params)
        if file is not None:
            data = b"".join([chunk async for chunk in file.open()])
            call = evolve(call, file_name=file.name, data=data)
        self._begin(call)
        try:
            await checkpoint()
            if file is not None and self._gate is not None:
                await self._gate.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if self._failures.get(method):
            raise self._failures[method].popleft()

    def _begin(self, call: VisionCall) -> None:
        self.calls.append(call)
        self.running += 1
        self.most = max(self.most, self.running)
        self._changed.set()
        self._changed = anyio.Event()

    def _of(self, tenant_id: str) -> dict[str, Drawing]:
        return self._drawings.setdefault(tenant_id, {})

    def _known(self, tenant_id: str, drawing_id: str) -> Drawing:
        try:
            return self._of(tenant_id)[drawing_id]
        except KeyError:
            raise DrawingNotFoundError(drawing_id) from None

    def _new_drawing(self, file: DrawingFile, metadata: Mapping[str, str], source: str | None) -> Drawing:
        self._added += 1
        fields: dict[str, Any] = {"metadata": dict(metadata), "source": source, "created_at": self._clock()}
        return Drawing(
            drawing_id=f"drawing-{self._added:06d}",
            file_hash=file.sha256,
            file_name=file.name,
            page=1,
            format="png",
            width=1,
            height=1,
            **fields,
        )


def _place(drawing: Drawing) -> tuple[float, str]:
    return drawing.created_at, drawing.drawing_id


def _match(drawing: Drawing) -> Match:
    return Match(
        drawing_id=drawing.drawing_id,
        file_hash=drawing.file_hash,
        file_name=drawing.file_name,
        similarity=1.0,
        confidence=1.0,
        match_level=1,
        verdict=Verdict.DUPLICATE,
        relation=Relation.EXACT,
        source=drawing.source,
    )


def _added(drawing: Drawing, *, added: bool) -> AddResult:
    return AddResult(
        drawing_id=drawing.drawing_id,
        file_hash=drawing.file_hash,
        drawing_ids=(drawing.drawing_id,),
        added=added,
        message="added" if added else "already there",
        processing_time_ms=0.0,
    )
