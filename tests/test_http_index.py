"""The index over HTTP: add, list, inspect, picture, remove, rebuild; and whose it is."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from dedup2d_http.routing import PREFIX
from tests.http_support import KEY, OTHER_KEY, PNG, Bench, assert_problem, bench, keyed, png_of


async def add(api: Bench, *parts: tuple[str, Any], **query: str) -> httpx.Response:
    return await api.client.post(f"{PREFIX}/index/add", params=query, files=list(parts))


@pytest.mark.parametrize("metadata_first", [True, False])
async def test_adding_keeps_the_metadata_wherever_it_stands(metadata_first: bool) -> None:
    """If this fails, `curl -F file=@x -F metadata=…` and its reverse do not do the same."""
    parts = [
        ("file", ("part.png", png_of(300_000))),
        ("metadata", (None, json.dumps({"part": "Welle Ø5"}))),
    ]
    async with bench() as api:
        answer = await add(api, *(reversed(parts) if metadata_first else parts), user_name="ann")
        drawing_id = answer.json()["drawing_id"]
        drawing = (await api.client.get(f"{PREFIX}/index/drawings/{drawing_id}")).json()

        assert answer.status_code == 200
        expected = {"success", "drawing_id", "file_hash", "message", "processing_time_ms", "s3_key"}
        assert expected <= answer.json().keys()
        assert drawing["metadata"] == {"part": "Welle Ø5", "user_name": "ann"}
        assert drawing["file_name"] == "part.png"
        assert await api.stored_files() == 0


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "{",
        "[]",
        "null",
        '{"a": 1}',
        '{"a": {"b": "c"}}',
        "[" * 50_000,
        json.dumps({str(n): "" for n in range(51)}),
        json.dumps({"a" * 101: ""}),
        json.dumps({"a": "b" * 2001}),
    ],
)
async def test_wrong_metadata(metadata: str) -> None:
    """If this fails, metadata that cannot be kept is dropped, kept without bound, or ends in a 500."""
    async with bench() as api:
        answer = await add(api, ("file", ("a.png", PNG)), ("metadata", (None, metadata)))

        assert_problem(answer, 400, "INVALID_PARAMETER", "metadata=", "JSON object")
        assert "add" not in api.asked


async def test_metadata_that_is_not_text() -> None:
    """If this fails, bytes that are no UTF-8 end in a 500."""
    async with bench() as api:
        answer = await add(api, ("file", ("a.png", PNG)), ("metadata", (None, b"\xff\xfe")))

        assert_problem(answer, 400, "INVALID_PARAMETER", "metadata", "UTF-8")


async def test_copies_in_s3_are_refused_not_forgotten() -> None:
    """If this fails, a client believes that its drawing lies in S3."""
    async with bench() as api:
        assert (await add(api, ("file", ("a.png", PNG)), upload_to_s3="false")).status_code == 200
        answer = await add(api, ("file", ("a.png", PNG)), upload_to_s3="true")

        assert_problem(answer, 400, "INVALID_PARAMETER", "upload_to_s3=true")


async def test_list_inspect_and_remove() -> None:
    """If this fails, drawings cannot be managed over the API."""
    async with bench() as api:
        for number in range(5):
            await add(api, ("file", (f"{number}.png", PNG)))
        first = (await api.client.get(f"{PREFIX}/index/drawings", params={"limit": 3})).json()
        rest = (
            await api.client.get(f"{PREFIX}/index/drawings", params={"page_token": first["next_page_token"]})
        ).json()
        path = f"{PREFIX}/index/drawings/{first['drawings'][0]['drawing_id']}"
        picture = await api.client.get(f"{path}/image")
        cached = await api.client.get(f"{path}/image", headers={"If-None-Match": picture.headers["etag"]})
        rebuilt = await api.client.post(f"{PREFIX}/index/rebuild")
        removed = await api.client.delete(path)

        names = [drawing["file_name"] for drawing in first["drawings"] + rest["drawings"]]
        assert names == ["4.png", "3.png", "2.png", "1.png", "0.png"]
        assert (first["total"], rest["next_page_token"]) == (5, None)
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(PNG[:8])
        assert (cached.status_code, cached.content) == (304, b"")
        assert rebuilt.json() == {"success": True, "message": "rebuilt", "drawings": 5}
        assert (removed.status_code, removed.json()["success"]) == (200, True)
        for answer in (
            await api.client.get(path),
            await api.client.get(f"{path}/image"),
            await api.client.delete(path),
        ):
            assert_problem(answer, 404, "DRAWING_NOT_FOUND")


async def test_another_tenants_drawings_are_not_there() -> None:
    """If this fails, a tenant sees or removes the drawings of another."""
    async with bench(keyed(), key=KEY) as api:
        drawing_id = (await add(api, ("file", ("a.png", PNG)))).json()["drawing_id"]
        path = f"{PREFIX}/index/drawings/{drawing_id}"
        theirs = {"X-API-Key": OTHER_KEY}
        for answer in (
            await api.client.get(path, headers=theirs),
            await api.client.get(f"{path}/image", headers=theirs),
            await api.client.delete(path, headers=theirs),
        ):
            assert_problem(answer, 404, "DRAWING_NOT_FOUND")
        listed = (await api.client.get(f"{PREFIX}/index/drawings", headers=theirs)).json()
        mine = await api.client.get(path)

    assert listed == {"drawings": [], "total": 0, "next_page_token": None}
    assert mine.status_code == 200
