"""The client of a vision server against a stub that misbehaves in every way."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field

from dedup2d.errors import (
    Dedup2DError,
    InternalError,
    InvalidParameterError,
    StoreUnavailableError,
    UnreadableDrawingError,
    VisionBadResponseError,
    VisionCircuitOpenError,
    VisionRefusedError,
    VisionUnavailableError,
    VisionUnsupportedError,
)
from dedup2d.metrics import PrometheusMetrics
from dedup2d.testing import ManualClock
from dedup2d.tracing import REQUEST_ID
from dedup2d.types import Area, DrawingFile, LevelScore, Relation, SearchParams, Verdict
from dedup2d.vision.http import HTTPVisionClient, VisionOptions
from tests.serving import free_port
from tests.vision_stub import VisionStub, stub_process, vision_stub

SEARCH = "/api/v2/search"
DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 800
PICTURE = base64.b64encode(DATA[:20]).decode()
SHA256 = hashlib.sha256(DATA).hexdigest()


@define
class Source:
    """Where a drawing comes from: counts how often it was opened and left, and breaks where it is told to."""

    data: bytes = DATA
    breaks_at: int | None = None
    opened: int = 0
    left: int = 0

    async def open(self) -> AsyncIterator[bytes]:
        self.opened += 1
        try:
            for start in range(0, len(self.data), 65536):
                if self.breaks_at is not None and start >= self.breaks_at:
                    raise StoreUnavailableError("file store", "it is out of reach")
                yield self.data[start : start + 65536]
                await anyio.lowlevel.checkpoint()
        finally:
            self.left += 1

    def drawing(self, name: str = "plate.png", size: int | None = None) -> DrawingFile:
        sha256 = hashlib.sha256(self.data).hexdigest()
        return DrawingFile(
            name=name, sha256=sha256, size=len(self.data) if size is None else size, open=self.open
        )


@define
class Bench:
    """A client and its stub."""

    stub: VisionStub
    client: HTTPVisionClient
    metrics: PrometheusMetrics
    clock: ManualClock
    source: Source = field(factory=Source)

    async def search(self, **params: Any) -> Any:
        return await self.client.search("acme", self.source.drawing(), SearchParams(**params))

    async def failing(self, kind: type[Dedup2DError]) -> Dedup2DError:
        """Search, and return the error that comes of it."""
        with pytest.raises(kind) as raised:
            await self.search()
        assert type(raised.value) is kind
        return raised.value

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"dedupcad_vision_{name}", labels) or 0.0


@asynccontextmanager
async def bench(*, url: str | None = None, **options: Any) -> AsyncIterator[Bench]:
    quick = {"retry_base_delay_seconds": 0.01, "retry_max_delay_seconds": 0.05, "timeout_seconds": 10.0}
    metrics, clock = PrometheusMetrics(), ManualClock()
    async with vision_stub() as stub:
        chosen = VisionOptions(url=url or stub.url, **{**quick, **options})
        async with HTTPVisionClient(chosen, observer=metrics, clock=clock) as client:
            yield Bench(stub, client, metrics, clock)


# What is sent


async def test_a_search_is_sent_as_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a server that keeps the contract misunderstands the client, or a proxy comes between."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    token = REQUEST_ID.set("request-7")
    async with bench(api_key="hunter2") as it:
        drawing = it.source.drawing('Größe "2"\r\n.png')
        await it.client.search("acme", drawing, SearchParams(max_results=7, exclude_self=True))
    REQUEST_ID.reset(token)

    sent = it.stub.last
    assert sent
    assert dict(sent.fields) == {
        "mode": "balanced",
        "max_results": "7",
        "compute_diff": "true",
        "enable_ml": "false",
        "enable_geometric": "true",
        "exclude_self": "true",
        "diff_top_n": "5",
        "duplicate_threshold": "0.95",
        "similar_threshold": "0.8",
    }
    assert (sent.size, sent.sha256) == (len(DATA), SHA256)
    assert sent.file_name == "Größe %222%22%0D%0A.png"
    assert sent.headers["X-Dedup-Tenant-Id"] == "acme"
    assert sent.headers["X-API-Key"] == "hunter2"
    assert sent.headers["X-Request-Id"] == "request-7"
    assert int(sent.headers["Content-Length"]) > len(DATA)
    assert "Transfer-Encoding" not in sent.headers


async def test_a_file_is_added_as_the_contract_says() -> None:
    """If this fails, a server that keeps the contract refuses to add, or copies the file to S3."""
    async with bench() as it:
        added = await it.client.add(
            "acme", it.source.drawing(), metadata={"user_name": "kim"}, source="/a.png"
        )
        rebuilt = await it.client.rebuild("acme")

    sent = it.stub.last
    assert sent
    assert dict(sent.query) == {"user_name": "kim", "upload_to_s3": "false"}
    assert dict(sent.fields) == {"metadata": '{"user_name":"kim"}', "source": "/a.png"}
    assert (added.drawing_ids, added.file_hash, added.added) == ((f"stub-{SHA256[:12]}",), SHA256, True)
    assert rebuilt.success


async def test_connections_are_kept() -> None:
    """If this fails, every call pays for a new connection."""
    async with bench() as it:
        for _ in range(5):
            await it.search()
        session = it.client._transport._pool._session
        assert session
        assert session.connector
        pools = session.connector._conns
        assert [len(pool) for pool in pools.values()] == [1]


async def test_a_client_that_was_not_entered_says_so() -> None:
    """If this fails, a wrong use of the client breaks somewhere inside."""
    client = HTTPVisionClient(VisionOptions(url="http://127.0.0.1:1"))
    with pytest.raises(InternalError, match="async with"):
        await client.search("acme", Source().drawing(), SearchParams())


# What is answered


async def test_the_answer_of_another_server_is_read() -> None:
    """If this fails, what a server says that knows only the old contract is lost or refused."""
    async with bench() as it:
        result = await it.search()

    (match,) = result.duplicates
    assert (match.verdict, match.relation, match.similarity) == (Verdict.DUPLICATE, Relation.EXACT, 0.99)
    assert match.levels == {"l1": LevelScore(score=0.97), "l2": LevelScore(score=0.99)}
    assert result.level_stats == {"l1": 100, "l2": 9}
    assert (result.total_matches, result.final_level, result.timing.l2_ms) == (1, 2, 2)
    assert result.file_hash == SHA256


MATCH = {
    "drawing_id": "d-1",
    "file_hash": "00",
    "file_name": "old.png",
    "similarity": 0.9,
    "confidence": 0.8,
    "match_level": 4,
    "verdict": "version",
    "levels": {"mode": "balanced", "l1": 0.9, "l4": {"similarity": 0.8, "inliers": 12, "ok": True}},
}
ANSWER: dict[str, Any] = {
    "success": True,
    "total_matches": 1,
    "duplicates": [],
    "similar": [MATCH],
    "final_level": 4,
    "timing": {"total_ms": 1.5},
    "level_stats": {},
    "warnings": [],
    "error": None,
}


async def test_what_is_to_be_ignored_is_sent_and_its_neglect_is_told() -> None:
    """If this fails, a server that knows no masks decides by what was masked, and nobody hears of it."""
    ignore = (Area(x=0.7, y=0.8, width=0.3, height=0.2), "title_block")
    async with bench() as it:
        it.stub.answer = ANSWER
        neglected = await it.search(ignore=ignore)
        sent = it.stub.last
        it.stub.answer = ANSWER | {"ignored": ["0.7,0.8,0.3,0.2", "title_block"]}
        heeded = await it.search(ignore=ignore)

    assert sent
    assert sent.fields["ignore"] == "0.7,0.8,0.3,0.2;title_block"
    assert any("ignore" in text for text in neglected.warnings)
    assert heeded.warnings == ()


async def test_why_a_match_is_one_is_read() -> None:
    """If this fails, the reasons of our own server are lost on the way."""
    region = {"x": 1, "y": 2, "width": 3, "height": 4, "area": 5, "change": "moved", "place": "notes"}
    match = MATCH | {
        "reason": "one place changed",
        "thresholds": {"same": 0.97, "odd": "x"},
        "changed_area": 0.01,
        "diff_regions": [region | {"shift_x": 2, "x_mm": 0.5}],
    }
    (found,) = (await answered(ANSWER | {"similar": [match]})).similar

    assert (found.reason, found.thresholds, found.changed_area) == ("one place changed", {"same": 0.97}, 0.01)
    (moved,) = found.diff_regions
    assert (moved.change, moved.place, moved.shift_x, moved.x_mm) == ("moved", "notes", 2.0, 0.5)


async def answered(answer: Any) -> Any:
    async with bench() as it:
        it.stub.answer = answer
        return await it.search()


async def test_forms_of_other_servers_are_read() -> None:
    """If this fails, small differences of a foreign server fail every search."""
    match = MATCH | {
        "drawing_id": 17,
        "relation": "cousin",
        "diff_image_base64": f"data:image/png;base64,{PICTURE}",
        "diff_regions": [[1, 2, 3, 4]],
        "new_field": {},
    }
    result = await answered(ANSWER | {"similar": [match], "level_stats": {"l1": 7, "l2": None}, "more": 1})

    (found,) = result.similar
    assert (found.drawing_id, found.relation, found.verdict) == ("17", Relation.SIMILAR, Verdict.SIMILAR)
    assert (found.diff_image_base64, found.diff_regions) == (PICTURE, ())
    assert found.levels == {
        "l1": LevelScore(score=0.9),
        "l4": LevelScore(score=0.8, details={"inliers": 12.0}),
    }
    assert result.level_stats == {"l1": 7, "l2": 0}
    assert "regions" in result.warnings[0]


async def test_names_from_another_server_are_harmless() -> None:
    """If this fails, a name in somebody's index writes on the terminal of whoever reads a result or a log."""
    match = MATCH | {"file_name": "a\x1b[2J\n\x00.png" + "x" * 1000, "source": "dir\n/a.png"}
    (found,) = (await answered(ANSWER | {"similar": [match]})).similar

    assert found.file_name.isprintable()
    assert len(found.file_name) == 500
    assert found.source == "dir\\n/a.png"


def without(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != name}


BAD_ANSWERS: dict[str, Any] = {
    "a list": [],
    "null": None,
    **{f"no {name}": without(ANSWER, name) for name in ANSWER if name != "error"},
    **{f"no {name} of a match": ANSWER | {"similar": [without(MATCH, name)]} for name in MATCH},
    "lists as text": ANSWER | {"similar": "none"},
    "counts as text": ANSWER | {"total_matches": "1"},
    "similarity over 1": ANSWER | {"similar": [MATCH | {"similarity": 93.0}]},
    "similarity of null": ANSWER | {"similar": [MATCH | {"similarity": None}]},
    "negative confidence": ANSWER | {"similar": [MATCH | {"confidence": -0.5}]},
    "a picture that is none": ANSWER | {"similar": [MATCH | {"diff_image_base64": "%%%"}]},
    "a page for a picture": ANSWER | {"similar": [MATCH | {"diff_image_base64": "PHNjcmlwdD4="}]},
    "an id of no characters": ANSWER | {"similar": [MATCH | {"drawing_id": ""}]},
    "an id of two lines": ANSWER | {"similar": [MATCH | {"drawing_id": "a\nb"}]},
    "an endless id": ANSWER | {"similar": [MATCH | {"drawing_id": "x" * 501}]},
    "another file": ANSWER | {"file_hash": "0" * 64},
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_half_an_answer_is_none(name: str) -> None:
    """If this fails, half a result is taken for a whole one, or is asked for again and again."""
    async with bench() as it:
        it.stub.answer = BAD_ANSWERS[name] if BAD_ANSWERS[name] is not None else "null"
        error = await it.failing(VisionBadResponseError)

    assert not error.transient
    assert it.stub.calls[SEARCH] == 2


async def test_a_search_that_did_not_succeed_is_no_result() -> None:
    """If this fails, an empty result stands for a search that failed."""
    async with bench() as it:
        it.stub.answer = ANSWER | {"success": False, "error": "no such plugin"}
        error = await it.failing(VisionRefusedError)

    assert "no such plugin" in str(error)
    assert it.stub.calls[SEARCH] == 1


# What goes wrong


@define
class Wrong:
    """How the stub misbehaves and what callers see of it."""

    kind: type[Dedup2DError]
    calls: int
    words: str
    stub: dict[str, Any] = field(factory=dict)
    options: dict[str, Any] = field(factory=dict)


WRONGS: dict[str, Wrong] = {
    "500": Wrong(VisionUnavailableError, 2, "500 Internal Server Error"),
    "503": Wrong(VisionUnavailableError, 2, "503 Service Unavailable", {"retry_after": None}),
    "503 soon": Wrong(VisionUnavailableError, 2, "503", {"mode": "503", "retry_after": 0.02}),
    "503 later": Wrong(VisionUnavailableError, 1, "try again in 90 s", {"mode": "503", "retry_after": 90}),
    "429": Wrong(VisionUnavailableError, 2, "429 Too Many Requests", {"retry_after": 0}),
    "422": Wrong(VisionRefusedError, 1, "422"),
    "422 known": Wrong(
        UnreadableDrawingError, 1, "stub says no", {"mode": "422", "problem_code": "UNREADABLE_DRAWING"}
    ),
    "hang": Wrong(VisionUnavailableError, 2, r"no answer within 0\.3 s", {}, {"timeout_seconds": 0.3}),
    "drop": Wrong(VisionUnavailableError, 2, "closed the connection"),
    "cut": Wrong(VisionUnavailableError, 2, "in the middle of its answer"),
    "endless": Wrong(VisionBadResponseError, 2, "larger than 67,108,864 bytes"),
    "not-json": Wrong(VisionBadResponseError, 2, "malformed"),
    "incomplete": Wrong(VisionBadResponseError, 2, "total_matches"),
    "gzip": Wrong(VisionBadResponseError, 2, "compressed"),
    "redirect": Wrong(VisionRefusedError, 1, "307 Temporary Redirect.*DEDUPCAD_VISION_URL"),
}


@pytest.mark.parametrize("name", WRONGS)
async def test_what_a_search_makes_of_a_server_that_misbehaves(name: str) -> None:
    """If this fails, an outage fails jobs for good, a broken answer is waited for, or retries go on."""
    wrong = WRONGS[name]
    async with bench(**wrong.options) as it:
        it.stub.control({"mode": name, **wrong.stub})
        with pytest.raises(wrong.kind, match=wrong.words) as raised:
            await it.search()

    assert type(raised.value) is wrong.kind
    assert it.stub.calls == {SEARCH: wrong.calls}
    assert (it.source.opened, it.source.left) == (wrong.calls, wrong.calls)
    assert it.metric("retries_total", endpoint="search") == wrong.calls - 1
    assert it.metric("errors_total", endpoint="search", code=wrong.kind.code) == wrong.calls
    assert it.metric("request_duration_seconds_count", endpoint="search") == wrong.calls


@pytest.mark.parametrize("name", [name for name in WRONGS if WRONGS[name].calls == 2])
async def test_one_misbehaviour_is_survived(name: str) -> None:
    """If this fails, a single bad moment of the server fails a search."""
    wrong = WRONGS[name]
    async with bench(**wrong.options) as it:
        it.stub.control({"mode": name, **wrong.stub, "times": 1})
        result = await it.search()

    assert result.total_matches == 1
    assert it.stub.calls == {SEARCH: 2}
    assert it.metric("requests_total", endpoint="search", outcome="ok") == 1


async def test_an_answer_that_cannot_be_used_is_asked_for_once_more_only() -> None:
    """If this fails, a server with a bug is asked as often as one with an outage."""
    async with bench(retry_attempts=5) as it:
        it.stub.mode = "not-json"
        await it.failing(VisionBadResponseError)

    assert it.stub.calls == {SEARCH: 2}


@pytest.mark.parametrize("mode", ["500", "cut", "not-json", "drop"])
async def test_changes_are_not_tried_again(mode: str) -> None:
    """If this fails, a drawing is added twice, or an index rebuilt twice."""
    async with bench() as it:
        it.stub.mode = mode
        for call in (it.client.add("acme", it.source.drawing()), it.client.rebuild("acme")):
            with pytest.raises((VisionUnavailableError, VisionBadResponseError)):
                await call

    assert set(it.stub.calls.values()) == {1}


async def test_a_server_that_is_not_there() -> None:
    """If this fails, a refused connection is an error of aiohttp, or names the host to those who search."""
    port = free_port()
    async with bench(url=f"http://127.0.0.1:{port}") as it:
        error = await it.failing(VisionUnavailableError)
        health = await it.client.health()

    assert "connection refused" in str(error)
    assert str(port) not in str(error)
    assert (health.status, health.details["code"]) == ("unhealthy", "VISION_UNAVAILABLE")


async def test_a_server_that_comes_back_is_used_again() -> None:
    """If this fails, a client must be restarted after the server was."""
    with stub_process() as process:
        async with bench(url=process.url) as it:
            await it.search()
            process.kill()
            await it.failing(VisionUnavailableError)
            process.restart()
            result = await it.search()

    assert result.total_matches == 1


async def test_what_only_our_server_can() -> None:
    """If this fails, a foreign server's 404 reads as if a drawing were missing."""
    async with bench() as it:
        client, drawing = it.client, it.source.drawing()
        for call in (
            client.drawings("acme"),
            client.drawing("acme", "d"),
            client.picture("acme", "d"),
            client.remove("acme", "d"),
            client.compare(drawing, drawing, SearchParams()),
        ):
            with pytest.raises(VisionUnsupportedError, match="DEDUPCAD_VISION_URL"):
                await call


async def test_a_tenant_that_is_none_goes_nowhere() -> None:
    """If this fails, a tenant's id ends in a header unchecked."""
    async with bench() as it:
        with pytest.raises(InvalidParameterError):
            await it.client.search("a\r\nX-Evil: 1", it.source.drawing(), SearchParams())

    assert not it.stub.calls


# The circuit


async def test_a_dead_server_is_spared_and_then_tried() -> None:
    """If this fails, every search waits for a dead server, or a server that is back is not used."""
    async with bench(retry_attempts=1) as it:
        it.stub.mode = "500"
        for _ in range(5):
            await it.failing(VisionUnavailableError)
        it.clock.advance(10)
        refused = await it.failing(VisionCircuitOpenError)
        assert it.stub.calls == {SEARCH: 5}
        assert it.metric("circuit_state", endpoint="search") == 2
        it.stub.mode = "ok"
        it.clock.advance(20)
        await it.search()
        assert it.metric("circuit_state", endpoint="search") == 1
        await it.search()

    assert isinstance(refused, VisionCircuitOpenError)
    assert (refused.code, refused.transient, refused.retry_after) == ("VISION_CIRCUIT_OPEN", True, 20)
    assert it.metric("circuit_state", endpoint="search") == 0
    assert it.stub.calls[SEARCH] == 7


async def test_each_endpoint_has_a_circuit_of_its_own() -> None:
    """If this fails, searches stop because a rebuild fails."""
    async with bench(retry_attempts=1) as it:
        it.stub.control({"mode": "500", "only": "/api/v2/index/rebuild"})
        for _ in range(6):
            with pytest.raises(VisionUnavailableError):
                await it.client.rebuild("acme")
        await it.search()

    assert it.stub.calls == {"/api/v2/index/rebuild": 5, SEARCH: 1}


@pytest.mark.parametrize("name", ["422", "422 known", "429", "503 soon", "redirect"])
async def test_a_server_that_refuses_in_good_order_is_not_cut_off(name: str) -> None:
    """If this fails, one tenant's bad file, or a full server, stops the searches of all."""
    async with bench(retry_attempts=1) as it:
        it.stub.control({"mode": name.partition(" ")[0], **WRONGS[name].stub})
        for _ in range(12):
            with pytest.raises(WRONGS[name].kind):
                await it.search()
        it.stub.mode = "ok"
        assert (await it.search()).success


async def test_health_is_asked_whatever_happened() -> None:
    """If this fails, the server is reported dead for as long as a circuit is open."""
    async with bench(retry_attempts=1) as it:
        it.stub.mode = "500"
        for _ in range(7):
            assert (await it.client.health()).status == "unhealthy"
        it.stub.mode = "incomplete"
        assert (await it.client.health()).details["code"] == "VISION_BAD_RESPONSE"
        it.stub.mode = "ok"

        assert (await it.client.health()).status == "healthy"


# Drawings that break while they are sent


async def test_a_store_that_fails_is_not_the_servers_fault() -> None:
    """If this fails, an outage of the file store cuts vision off, or half a file is searched for."""
    async with bench() as it:
        it.source.breaks_at = 65536
        for _ in range(6):
            await it.failing(StoreUnavailableError)
        it.source.breaks_at = None
        result = await it.search()

    assert result.total_matches == 1
    assert it.stub.searches == {SHA256: 1}
    assert it.source.opened == it.source.left == 7


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
async def test_a_stored_file_of_another_size_is_not_searched_for(size: int) -> None:
    """If this fails, a damaged file is searched for, or the server waits for bytes that do not come."""
    async with bench() as it:
        with pytest.raises(UnreadableDrawingError, match=rf"does not have the {size:,} bytes"):
            await it.client.search("acme", it.source.drawing(size=size), SearchParams())

    assert not it.stub.searches


async def until(reached: Callable[[], object]) -> None:
    with anyio.fail_after(1):
        while not reached():  # noqa: ASYNC110 - the stub has no event for it
            await anyio.sleep(0.005)


async def test_a_cancelled_search_leaves_the_server_at_once() -> None:
    """If this fails, a cancelled job keeps the server busy, or the file store open."""
    async with bench() as it:
        it.stub.mode = "hang"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.search)
            await until(lambda: it.stub.searches)
            tasks.cancel_scope.cancel()
        await until(lambda: it.stub.gone)

    assert it.source.opened == it.source.left == 1
    assert it.metric("requests_total", endpoint="search", outcome="CANCELED") == 1
    assert it.metric("errors_total", endpoint="search", code="CANCELED") == 0


_MEASURE = """
import hashlib, sys
import anyio
from dedup2d.types import DrawingFile, SearchParams
from dedup2d.vision.http import HTTPVisionClient, VisionOptions

SIZE, CHUNK = 100 * 1024 * 1024, bytes(range(256)) * 4096

async def chunks(size):
    for _ in range(size // len(CHUNK)):
        yield CHUNK

def drawing(size):
    return DrawingFile(name="a.png", sha256="0" * 64, size=size, open=lambda: chunks(size))

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

async def main():
    async with HTTPVisionClient(VisionOptions(url=sys.argv[1])) as client:
        await client.search("acme", drawing(len(CHUNK)), SearchParams())
        before = peak()
        await client.search("acme", drawing(SIZE), SearchParams())
        print(peak() - before)

anyio.run(main)
"""


def test_a_large_file_is_not_held_in_memory() -> None:
    """If this fails, a worker's memory grows with the size and number of its files."""
    with stub_process() as stub:
        found = subprocess.run(
            [sys.executable, "-c", _MEASURE, stub.url],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        )
        sizes = list(stub.state()["searches"].values())

    assert sizes == [1, 1]
    assert int(found.stdout) < 16 * 1024 * 1024
