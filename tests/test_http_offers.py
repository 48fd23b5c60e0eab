"""POST /uploads: clients put files into a real S3 themselves, and submit their keys."""

from __future__ import annotations

from typing import Any

import httpx

from dedup2d.files.s3 import S3FileStore
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d_http.routing import PREFIX
from tests.backends import s3_options
from tests.http_support import KEY, KEYS, OTHER_KEY, PNG, Bench, assert_problem, bench

SETTINGS = Settings(
    s3_presigned_uploads=True, file_storage="s3", s3_bucket="b", max_upload_bytes=1000, api_keys=KEYS
)


def s3() -> S3FileStore:
    return S3FileStore(s3_options())


async def put(api: Bench, data: bytes) -> str:
    """Ask for a place, put *data* there as a client does, and return its key."""
    offer = (await api.client.post(f"{PREFIX}/uploads", params={"size": len(data)})).json()
    await put_at(offer, data)
    key: str = offer["file_key"]
    return key


async def put_at(offer: dict[str, Any], data: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as outside:
        answer = await outside.request(offer["method"], offer["url"], headers=offer["headers"], content=data)
    assert answer.status_code == 200, answer.text


async def submit(api: Bench, key: str, **query: str) -> httpx.Response:
    return await api.client.post(f"{PREFIX}/search", params={"file_key": key, **query})


async def test_a_file_that_the_client_put_itself_is_searched_with() -> None:
    """If this fails, presigned uploads are of no use."""
    async with bench(SETTINGS, files=s3(), key=KEY) as api:
        key = await put(api, PNG)
        taken = await submit(api, key, file_name="part.png", mode="fast")
        job = (await api.client.get(taken.json()["poll_url"], headers={"Prefer": "wait=10"})).json()

    assert taken.status_code == 202
    assert (job["status"], job["file_name"], job["file_size"]) == ("completed", "part.png", len(PNG))
    assert api.searched == [("part.png", len(PNG))]


async def test_the_same_key_gives_the_same_job() -> None:
    """If this fails, a client that repeats a request it got no answer to searches twice, or gets an error."""
    async with bench(SETTINGS, files=s3(), key=KEY) as api:
        key = await put(api, PNG)
        first, again = await submit(api, key), await submit(api, key)

    assert first.json()["job_id"] == again.json()["job_id"]


async def test_a_key_that_holds_nothing_or_is_anothers_is_not_found() -> None:
    """If this fails, one tenant can search with another's uploads, or see which there are."""
    async with bench(SETTINGS, files=s3(), key=KEY) as api:
        key = await put(api, PNG)
        theirs = await api.client.post(
            f"{PREFIX}/search", params={"file_key": key}, headers={"X-API-Key": OTHER_KEY}
        )
        for wrong in (f"first/{'0' * 32}", f"other/{key[6:]}", "first/../other/x", "x", f"{key}/x"):
            assert_problem(await submit(api, wrong), 404, "FILE_NOT_FOUND")

    assert_problem(theirs, 404, "FILE_NOT_FOUND")


async def test_the_id_of_anothers_job_is_no_key() -> None:
    """If this fails, who has seen the id of another tenant's job learns its state."""
    async with bench(SETTINGS, files=s3(), key=KEY) as api:
        job_id = (await api.submit()).rpartition("/")[2]
        theirs = await api.client.post(
            f"{PREFIX}/search", params={"file_key": f"other/{job_id}"}, headers={"X-API-Key": OTHER_KEY}
        )

        assert_problem(theirs, 404, "FILE_NOT_FOUND")


async def test_what_was_put_is_looked_at_as_any_upload_is() -> None:
    """If this fails, what the API refuses comes in by the side door."""
    async with bench(SETTINGS, files=s3(), key=KEY) as api:
        text = await put(api, b"no drawing at all, but a text")

        assert_problem(await submit(api, text), 415, "UNSUPPORTED_FORMAT")


async def test_offers_are_for_sizes_that_are_allowed() -> None:
    """If this fails, a client is told only after the upload that its file is too large."""
    async with bench(SETTINGS, files=s3(), key=KEY) as api:
        for query in ({}, {"size": "0"}, {"size": "1001"}, {"size": "many"}):
            answer = await api.client.post(f"{PREFIX}/uploads", params=query)
            assert_problem(answer, 400, "INVALID_PARAMETER", "size")


async def test_a_file_that_was_written_over_after_it_was_submitted_is_not_searched_with() -> None:
    """If this fails, a client can submit one file and search with another."""
    vision = FakeVision()
    async with bench(SETTINGS, files=s3(), key=KEY, vision=vision, concurrency=0) as api:
        offer = (await api.client.post(f"{PREFIX}/uploads", params={"size": len(PNG)})).json()
        await put_at(offer, PNG)
        taken = await submit(api, offer["file_key"])
        await put_at(offer, PNG[:-1] + b"!")
        job_id = taken.json()["job_id"]
        await api.service._runner.wake(job_id)
        job = await api.service.get("first", job_id)

    assert job.error_code == "UNREADABLE_DRAWING"


async def test_a_service_without_the_setting_offers_nothing() -> None:
    """If this fails, clients get URLs that the operator did not mean to give out."""
    async with bench(files=s3()) as api:
        answer = await api.client.post(f"{PREFIX}/uploads", params={"size": "10"})

        assert_problem(answer, 400, "INVALID_PARAMETER", "offers no uploads")
