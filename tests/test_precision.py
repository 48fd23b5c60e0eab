"""Geometry with searches, through the API: sent, checked, stored, compared, and gone with its drawing."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve

from dedup2d.errors import DrawingNotFoundError
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d.types import Match, Relation, SearchResult, Verdict
from dedup2d_http.routing import PREFIX
from tests.drawings import small_dxf
from tests.geometry_support import FLANGE, geometry, plate
from tests.http_support import KEY, OTHER_KEY, PNG, Bench, assert_problem, bench, keyed, png_of

NOW = Settings(forced_async_on_precision=False)
FILES = {name: png_of(100 + number) for number, name in enumerate("abcd")}
HASHES = {name: sha256(data).hexdigest() for name, data in FILES.items()}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def match(name: str, similarity: float, relation: Relation = Relation.IDENTICAL) -> Match:
    return Match(
        drawing_id=name,
        file_hash=HASHES[name],
        file_name=f"{name}.png",
        similarity=similarity,
        confidence=0.5,
        match_level=2,
        verdict=Verdict.SIMILAR,
        relation=relation,
    )


FOUND = SearchResult(total_matches=3, similar=(match("a", 0.99), match("b", 0.9), match("c", 0.85)))


@asynccontextmanager
async def indexed(
    settings: Settings = NOW, found: SearchResult = FOUND, *, key: str | None = None, **geometries: bytes
) -> AsyncIterator[Bench]:
    """Open the API on an index that finds *found*, and has these geometries."""
    async with bench(settings, key=key) as api:
        for name, data in FILES.items():
            parts: dict[str, Any] = {"file": (f"{name}.png", data)}
            if name in geometries:
                parts["geom_json"] = geometries[name]
            answer = await api.client.post(f"{PREFIX}/index/add", files=parts)
            assert answer.status_code == 200, answer.text
        api.vision.result = found
        yield api


async def ask(
    api: Bench,
    query: bytes | None,
    *,
    after: bool = False,
    headers: Mapping[str, str] | None = None,
    **more: str,
) -> httpx.Response:
    """Search with geometry that stands before the drawing or *after* it."""
    file = ("file", ("query.png", PNG))
    parts: list[Any] = [file] if query is None else [("geom_json", query), file]
    if after:
        parts.reverse()
    return await api.client.post(f"{PREFIX}/search", params=more, files=parts, headers=dict(headers or {}))


async def result_of(api: Bench, answer: httpx.Response) -> dict[str, Any]:
    """Return the result that was answered, or that of the job."""
    if answer.status_code == 202:
        path = answer.json()["poll_url"]
        job = (await api.client.get(path, headers={"Prefer": "wait=30"})).json()
        assert job["status"] == "completed", job
        return dict(job["result"])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("how", ["now", "after", "job"])
async def test_matches_are_fused_with_their_geometry(how: str) -> None:
    """If this fails, geometry changes nothing, or other things at once than as a job."""
    async with indexed(a=plate(hole=(21.0, 25.0)), b=plate(turned=True)) as api:
        more = {"async": "true"} if how == "job" else {}
        result = await result_of(api, await ask(api, plate(), after=how == "after", **more))
        left = await api.stored_files()

    b, a = (*result["duplicates"], *result["similar"])
    (c,) = result["filtered"]
    assert (b["drawing_id"], a["drawing_id"], c["drawing_id"]) == ("b", "a", "c")
    assert (b["relation"], b["verdict"], a["relation"]) == ("identical", "duplicate", "revision")
    assert b["precision_score"] == pytest.approx(1.0)
    assert b["similarity"] == pytest.approx(0.3 * 0.9 + 0.7 * b["precision_score"])
    assert (b["visual_similarity"], a["visual_similarity"]) == (0.9, 0.99)
    assert a["precision_diff"]["counts"] == {"entities.moved": 1}
    assert a["precision_diff"]["entries"][0]["type"] == "CIRCLE"
    assert 0 < a["precision_diff_similarity"] < 1
    assert b["precision_diff_similarity"] == 1
    assert a["precision_breakdown"]["entities"]["score"] < 1
    assert a["levels"]["l4"]["score"] == a["precision_score"] < 1
    assert c["similarity"] == pytest.approx(0.3 * 0.85)
    assert {"precision_verified:2", "precision_missing_geom_json:1"} <= set(result["warnings"])
    assert result["timing"]["precision_ms"] > 0
    assert result["timing"]["l4_ms"] >= result["timing"]["precision_ms"]
    assert result["timing"]["total_ms"] >= result["timing"]["precision_ms"]
    assert (result["final_level"], result["total_matches"]) == (4, 2)
    assert left == 2, "the geometries of a and b alone: those of queries are gone with their job"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"enable_precision": "false"}, "enable_precision"),
        ({"enable_geometric": "false"}, "enable_geometric"),
    ],
)
async def test_precision_can_be_switched_off(query: dict[str, str], why: str) -> None:
    """If this fails, a client cannot have the answer of the pictures alone, or is not told."""
    async with indexed(Settings(), a=FLANGE) as api:
        answer = await ask(api, plate(), **query)

    assert answer.status_code == 200
    assert [each["drawing_id"] for each in answer.json()["similar"]] == ["a", "b", "c"]
    assert any(why in each for each in answer.json()["warnings"])
    assert not any("precision_verified" in each for each in answer.json()["warnings"])


async def test_without_geometry_nothing_changes() -> None:
    """If this fails, searches by pictures are touched by geometries in the index."""
    async with indexed(a=FLANGE, b=plate()) as api:
        answer = (await ask(api, None)).json()

    assert [each["similarity"] for each in answer["similar"]] == [0.99, 0.9, 0.85]
    assert [each["visual_similarity"] for each in answer["similar"]] == [None] * 3
    assert answer["warnings"] == []
    assert answer["timing"]["precision_ms"] == 0


async def test_precision_acts_by_mode_precise_too() -> None:
    """If this fails, mode=precise leaves geometry out because verification by pictures is off."""
    settings = evolve(NOW, forced_async_on_mode_precise=False)
    async with indexed(settings, a=plate()) as api:
        answer = await ask(api, plate(), mode="precise", enable_geometric="false")

    assert "precision_verified:1" in answer.json()["warnings"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("settings", "query", "reason"),
    [
        (Settings(), {}, "precision"),
        (Settings(), {"enable_precision": "false"}, None),
        (NOW, {}, None),
        (Settings(), {"mode": "precise"}, "mode_precise"),
        (evolve(NOW, forced_async_file_size_bytes=10), {}, "file_size"),
        (Settings(), {"async": "true"}, None),
    ],
)
async def test_what_makes_a_job_is_said(
    settings: Settings, query: dict[str, str], reason: str | None, after: bool
) -> None:
    """If this fails, a search with geometry keeps its client waiting, or nobody knows why it is a job."""
    async with bench(settings) as api:
        answer = await ask(api, plate(), after=after, **query)

    made = reason is not None or "async" in query
    assert answer.status_code == (202 if made else 200)
    assert not made or answer.json()["forced_async_reason"] == reason


async def test_the_version_gate_over_http() -> None:
    """If this fails, a version search finds drawings with other numbers, or says nothing about it."""
    geometries = {"a": plate(number="A-1", radius=5.2), "b": plate(number="B-2")}
    async with indexed(**geometries) as api:
        result = (await ask(api, plate(number="a 1"), preset="version", version_gate="meta")).json()

    assert [each["drawing_id"] for each in result["similar"]] == ["a"]
    b, c = sorted(result["filtered"], key=lambda each: str(each["drawing_id"]))
    assert (b["similarity"], c["similarity"]) == (0, pytest.approx(0.5 * 0.85))
    assert "drawing number B-2 is not a 1" in b["reason"]
    assert "precision_version_gate_filtered:1" in result["warnings"]
    assert result["effective_parameters"]["version_gate"] == {"value": "meta", "source": "request"}
    assert result["effective_parameters"]["precision_profile"] == {"value": "version", "source": "preset"}


MIB = 1024 * 1024
BAD = {
    "not JSON": b"entities",
    "empty": b"",
    "a list": b"[]",
    "cut off": plate()[:-5],
    "nested": b'{"entities":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10 MiB nested": b'{"meta":' + b"[" * (5 * MIB - 10) + b"]" * (5 * MIB - 10) + b"}",
    "larger than 10 MiB": b'{"meta":{"a":"' + b"x" * 10 * MIB + b'"}}',
    "NaN": plate().replace(b"20.0", b"NaN"),
    "infinite": plate().replace(b"20.0", b"Infinity"),
    "too large a number": plate().replace(b"20.0", b"1e999"),
    "text for a number": plate().replace(b"20.0", b'"20"'),
    "entities of numbers": b'{"entities":[1,2]}',
    "entities a text": b'{"entities":"LINE"}',
    "layers a list": b'{"layers":[1]}',
    "a million entities": b'{"entities":[' + b"{}," * 999_999 + b"{}]}",
    "half a character": b'{"entities":[{"type":"TEXT","text":"\xff"}]}',
}


async def test_bad_geometry_is_refused_in_time() -> None:
    """If this fails, geometry of a stranger is a server error, keeps a process busy, or is taken."""
    async with bench(NOW) as api:
        await ask(api, plate())  # the first one starts a process
        searched = len(api.searched)
        for name, data in BAD.items():
            begin = time.perf_counter()
            answer = await ask(api, data)
            seconds = time.perf_counter() - begin
            assert_problem(answer, 400, "INVALID_GEOM_JSON", "geom_json cannot be used")
            assert seconds < 2, name
        assert_problem(await ask(api, BAD["NaN"], **{"async": "true"}), 400, "INVALID_GEOM_JSON", "NaN")
        parts = {"file": ("a.png", PNG), "geom_json": BAD["NaN"]}
        assert_problem(await api.client.post(f"{PREFIX}/index/add", files=parts), 400, "INVALID_GEOM_JSON")

        assert len(api.searched) == searched
        assert "add" not in api.asked
        assert await api.stored_files() == 0


async def test_geometry_that_lacks_sections_is_taken() -> None:
    """If this fails, a plug-in that sends less than all is refused."""
    found = SearchResult(total_matches=1, similar=(match("a", 0.9),))
    async with indexed(NOW, found, a=plate()) as api:
        empty = (await ask(api, b"{}")).json()
        unknown = (
            await ask(api, geometry({"type": "WIPEOUT"}, {"type": "LINE", "start": [0, 0], "end": [1, 1]}))
        ).json()

    assert "precision_missing_geom_json:1" in empty["warnings"]
    assert any("WIPEOUT" in each for each in unknown["warnings"])


async def test_what_is_stored_damaged_is_a_warning() -> None:
    """If this fails, one damaged geometry in the index fails every search that comes upon it."""
    found = SearchResult(total_matches=2, similar=(match("a", 0.9), match("b", 0.85)))
    async with indexed(NOW, found, a=plate(), b=plate()) as api:
        (key,) = [each.key for each in await api.service.files.list() if HASHES["a"] in each.key]

        async def damaged() -> AsyncIterator[bytes]:
            yield b"no gzip"

        await api.service.files.put(key, damaged())
        answer = await ask(api, plate())

    assert answer.status_code == 200
    assert {"precision_failed:1", "precision_verified:1"} <= set(answer.json()["warnings"])


async def test_geometry_is_there_until_its_last_drawing_goes() -> None:
    """If this fails, geometry is lost while drawings need it, or kept after they are gone."""
    async with bench(keyed(), key=KEY) as api:

        async def there(key: str = KEY) -> bool:
            url = f"{PREFIX}/geom/{HASHES['a']}/exists"
            answer = await api.client.get(url, headers={"X-API-Key": key})
            assert answer.json()["file_hash"] == HASHES["a"]
            return bool(answer.json()["exists"])

        assert not await there()
        ids = []
        for name in ("one.png", "two.png"):
            parts = {"file": (name, FILES["a"]), "geom_json": plate()}
            ids.append((await api.client.post(f"{PREFIX}/index/add", files=parts)).json()["drawing_id"])
        assert await there()
        assert not await there(OTHER_KEY)

        for drawing_id, left in zip(ids, (True, False), strict=True):
            removed = await api.client.delete(f"{PREFIX}/index/drawings/{drawing_id}")
            assert removed.status_code == 200
            assert await there() is left


async def test_a_file_hash_that_is_none_is_refused() -> None:
    """If this fails, a name of somebody's choice reaches the file store."""
    async with bench() as api:
        for name in ("x", "0" * 63, "G" * 64, "0" * 65):
            answer = await api.client.get(f"{PREFIX}/geom/{name}/exists")
            assert_problem(answer, 400, "INVALID_PARAMETER", "64 of 0-9 a-f")


async def test_tenants_do_not_share_geometry() -> None:
    """If this fails, a search compares with what another tenant has sent."""
    async with indexed(keyed(forced_async_on_precision=False), key=KEY, a=plate(), b=FLANGE) as api:
        own = (await ask(api, plate())).json()
        other = (await ask(api, plate(), headers={"X-API-Key": OTHER_KEY})).json()

    assert "precision_verified:2" in own["warnings"]
    assert "precision_verified:0" in other["warnings"]
    assert "precision_missing_geom_json:3" in other["warnings"]


async def test_a_job_keeps_its_geometry_and_takes_it_along() -> None:
    """If this fails, a job loses its geometry, is another when repeated, or leaves files behind."""
    async with bench(concurrency=0) as api:
        headers = {"Idempotency-Key": "one"}
        first = (await ask(api, plate(), headers=headers)).json()
        again = (await ask(api, plate(), headers=headers)).json()
        other = await ask(api, plate(radius=6), headers=headers)
        without = await ask(api, None, headers=headers, **{"async": "true"})
        kept = await api.stored_files()
        job = (await api.client.get(first["poll_url"])).json()
        await api.client.post(f"{first['poll_url']}/cancel")
        left = await api.stored_files()

    assert again["job_id"] == first["job_id"]
    assert_problem(other, 422, "IDEMPOTENCY_CONFLICT")
    assert_problem(without, 422, "IDEMPOTENCY_CONFLICT")
    assert (kept, left) == (2, 0)
    assert job["geometry_hash"] == sha256(plate()).hexdigest()
    assert "geometry_key" not in job


async def test_dxf_brings_its_geometry_into_the_index() -> None:
    """If this fails, users without a plug-in have no geometry to compare with."""
    drawing = small_dxf("flange", 1)
    async with bench() as api:
        for _ in range(2):
            added = await api.client.post(f"{PREFIX}/index/add", files={"file": ("a.dxf", drawing)})
        damaged = await api.client.post(f"{PREFIX}/index/add", files={"file": ("b.dxf", drawing[:2000])})
        exists = await api.client.get(f"{PREFIX}/geom/{added.json()['file_hash']}/exists")
        picture = await api.client.post(f"{PREFIX}/index/add", files={"file": ("c.png", PNG)})
        searched = (await api.search(("a.dxf", drawing))).json()

    assert exists.json()["exists"] is True
    assert damaged.status_code == 200
    assert any("geometry was not taken" in each for each in damaged.json()["warnings"])
    assert picture.json()["warnings"] == []
    assert not any("precision" in each for each in searched["warnings"])


async def test_two_geometries_side_by_side() -> None:
    """If this fails, two geometries cannot be compared without a search, as parts or as JSON."""
    async with bench() as api:
        url = f"{PREFIX}/precision/compare"
        parts = {"query": plate(hole=(21.0, 25.0)), "other": plate(turned=True)}
        as_parts = await api.client.post(url, files=parts)
        as_json = await api.client.post(url, json={name: json.loads(data) for name, data in parts.items()})
        same = await api.client.post(url, files={"query": plate(), "other": plate(turned=True)})
        version = await api.client.post(url, params={"precision_profile": "version"}, files=parts)
        plain = await api.client.post(url, params={"precision_compute_diff": "false"}, files=parts)

        assert_problem(
            await api.client.post(url, files={"query": plate()}), 400, "INVALID_GEOM_JSON", "other"
        )
        assert_problem(await api.client.post(url, json={"query": {}}), 400, "INVALID_GEOM_JSON", "other")
        assert_problem(await api.client.post(url, json=[1]), 400, "INVALID_GEOM_JSON")
        for name in ("NaN", "larger than 10 MiB", "nested", "a million entities"):
            bad = await api.client.post(url, files={"query": plate(), "other": BAD[name]})
            assert_problem(bad, 400, "INVALID_GEOM_JSON")
        headers = {"Content-Type": "application/json"}
        nested = b'{"query":' + b"[" * 100_000
        assert_problem(await api.client.post(url, content=nested, headers=headers), 400, "INVALID_GEOM_JSON")
        assert_problem(await api.client.post(url, content=b"{}"), 415, "UNSUPPORTED_MEDIA_TYPE")
        assert_problem(
            await api.client.post(url, files=parts, params={"mode": "fast"}), 400, "INVALID_PARAMETER"
        )

    assert as_parts.json() == as_json.json()
    found = as_parts.json()
    assert 0 < found["score"] < 1
    assert found["diff"]["counts"] == {"entities.moved": 1}
    assert found["breakdown"]["entities"]["score"] < 1
    assert (same.json()["score"], same.json()["diff"]["entries"]) == (pytest.approx(1.0), [])
    assert version.json()["score"] > found["score"]
    assert plain.json()["diff"] is None


async def test_a_missing_drawing_is_not_removed() -> None:
    """If this fails, removing looks for geometry first and says something else than that it is not there."""
    async with bench() as api:
        with pytest.raises(DrawingNotFoundError):
            await api.service.remove("default", "none")


async def test_a_search_that_is_canceled_stops_comparing() -> None:
    """If this fails, a job that nobody wants keeps a process busy."""
    many = geometry(*({"type": "CIRCLE", "center": [n, n % 97], "radius": 1 + n % 7} for n in range(20_000)))
    async with indexed(Settings(), a=many, b=many, c=many) as api:
        answer = await ask(api, many)
        await anyio.sleep(0.2)
        path = answer.json()["poll_url"]
        begin = time.perf_counter()
        await api.client.post(f"{path}/cancel")
        job = (await api.client.get(path, headers={"Prefer": "wait=10"})).json()

    assert job["status"] == "canceled"
    assert time.perf_counter() - begin < 5


async def test_a_library_user_gives_geometry() -> None:
    """If this fails, geometry is for HTTP alone."""
    vision = FakeVision()
    async with bench(vision=vision) as api:
        service = api.service
        added = await service.add("acme", FILES["a"], file_name="a.png", geometry=plate())
        vision.result = SearchResult(total_matches=1, similar=(match("a", 0.9),))
        now = await service.search("acme", PNG, file_name="q.png", geometry=plate())
        job = await service.submit("acme", PNG, file_name="q.png", geometry=plate())
        final = await service.wait("acme", job.job_id, timeout=30)
        there = await service.has_geometry("acme", added.file_hash)
        score = await service.compare_geometry(plate(), FLANGE)

    assert there
    assert final.result is not None
    for result in (now, final.result):
        assert result.duplicates[0].precision_score == pytest.approx(1.0)
    assert score.score is not None
    assert score.score < 0.8
