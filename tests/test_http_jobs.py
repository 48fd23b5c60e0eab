"""Jobs over HTTP: poll, long poll, list, cancel; and whose they are."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve

from dedup2d.errors import UnreadableDrawingError
from dedup2d_http.routing import PREFIX
from tests.http_support import (
    KEY,
    OTHER_KEY,
    PNG,
    Bench,
    assert_problem,
    bench,
    failing,
    holding,
    keyed,
)


async def wait(api: Bench, path: str, seconds: int = 30) -> dict[str, Any]:
    answer = await api.client.get(path, headers={"Prefer": f"wait={seconds}"})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def test_a_job_shows_its_life_and_hides_what_is_the_servers() -> None:
    """If this fails, a client cannot follow its job, or sees the worker's token or the server's keys."""
    vision = holding()
    async with bench(vision=vision) as api:
        path = await api.submit(("part.png", PNG), mode="fast")
        early = (await api.client.get(path)).json()
        vision.let_go()
        done = await wait(api, path)

    assert early["status"] in ("pending", "in_progress")
    assert (early["result"], early["error"], early["params"]["mode"]) == (None, None, "fast")
    assert (done["status"], done["file_name"], done["tenant_id"]) == ("completed", "part.png", "default")
    assert done["result"]["success"] is True
    assert done["created_at"] <= done["started_at"] <= done["finished_at"] < done["expires_at"]
    assert not {"lease_token", "file_key", "lease_expires_at", "idempotency_key"} & done.keys()


async def test_a_failed_job_says_why() -> None:
    """If this fails, whoever submitted a broken file does not learn what is wrong with it."""
    vision = failing(UnreadableDrawingError("a.png", "it is truncated"))
    async with bench(vision=vision) as api:
        job = await wait(api, await api.submit())

    assert (job["status"], job["error_code"]) == ("failed", "UNREADABLE_DRAWING")
    assert "truncated" in job["error"]
    assert job["result"] is None


async def test_polling_with_an_etag_costs_nothing_while_nothing_changes() -> None:
    """If this fails, every poll transfers the whole result again, or a change is missed."""
    vision = holding()
    async with bench(vision=vision) as api:
        path = await api.submit()
        with anyio.fail_after(10):
            await vision.until_running(1)
        first = await api.client.get(path)
        tag = first.headers["etag"]
        for given in (tag, f'"x", W/{tag}', "*"):
            same = await api.client.get(path, headers={"If-None-Match": given})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        vision.let_go()
        await wait(api, path)
        changed = await api.client.get(path, headers={"If-None-Match": tag})

    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert "retry-after" not in changed.headers


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=0", "wait=0"),
        ("respond-async, wait=1", "wait=1"),
        ('wait="1"; foo=bar', "wait=1"),
        ("wait=soon", None),
        ("wait=-1", None),
        ("handling=lenient", None),
    ],
)
async def test_preferences(prefer: str, applied: str | None) -> None:
    """If this fails, a `Prefer` header as RFC 7240 has it is misread, or a bad one is an error."""
    async with bench() as api:
        path = await api.submit()
        await wait(api, path)
        answer = await api.client.get(path, headers={"Prefer": prefer})

    assert answer.status_code == 200
    assert answer.headers.get("preference-applied") == applied


async def test_a_wait_is_cut_to_a_minute() -> None:
    """If this fails, clients hold connections for as long as they like."""
    async with bench() as api:
        path = await api.submit()
        await wait(api, path)
        for asked in ("61", "99999999999999999999"):
            answer = await api.client.get(path, headers={"Prefer": f"wait={asked}"})

            assert answer.headers["preference-applied"] == "wait=60"


async def test_a_long_poll_ends_when_the_service_stops() -> None:
    """If this fails, a deploy waits a minute for every client that polls."""
    vision = holding()
    async with bench(vision=vision) as api:
        path = await api.submit()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, api, path, 60)
                await vision.until_running(1)
                api.stopping.begin()
        ready = await api.client.get("/readyz")

    assert (ready.status_code, ready.json()["status"]) == (503, "stopping")


async def test_listing_pages_through_all_jobs() -> None:
    """If this fails, a list of more jobs than fit on a page loses or repeats some."""
    async with bench(concurrency=0) as api:
        paths = [await api.submit() for _ in range(7)]
        ids, token = [], None
        while True:
            query = {"limit": "3", "status": "pending", **({"page_token": token} if token else {})}
            page = (await api.client.get(f"{PREFIX}/jobs", params=query)).json()
            ids += [job["job_id"] for job in page["jobs"]]
            assert page["total"] == 7
            assert all("result" not in job for job in page["jobs"])
            token = page["next_page_token"]
            if not token:
                break
        none = (await api.client.get(f"{PREFIX}/jobs", params={"status": "failed"})).json()

    assert sorted(ids) == sorted(path.rpartition("/")[2] for path in paths)
    assert none == {"jobs": [], "total": 0, "next_page_token": None}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"limit": "0"}, "1 to 500"),
        ({"limit": "501"}, "1 to 500"),
        ({"status": "done"}, "pending, in_progress, completed, failed, canceled"),
        ({"page_token": "../../etc"}, "page_token"),
        ({"page_token": "a" * 2000}, "1 to 1024"),
        ({"page_token": "\x00"}, "page_token"),
        ({"page_token": ""}, "page_token"),
        ({"page_token": "é"}, "page_token"),
        ({"offset": "1"}, "offset=1"),
    ],
)
async def test_wrong_listing_parameters(query: dict[str, str], word: str) -> None:
    """If this fails, a wrong listing parameter gives some page instead of an error."""
    async with bench() as api:
        answer = await api.client.get(f"{PREFIX}/jobs", params=query)

    assert_problem(answer, 400, "INVALID_PARAMETER", word)


async def test_cancel_waiting_running_and_final_jobs() -> None:
    """If this fails, a cancel is lost, or says that it canceled what was finished."""
    vision = holding()
    async with bench(vision=vision, concurrency=1) as api:
        running, waiting = await api.submit(), await api.submit()
        with anyio.fail_after(10):
            await vision.until_running(1)
        first = await api.client.post(f"{waiting}/cancel")
        second = await api.client.post(f"{running}/cancel")
        stopped = await wait(api, running)
        third = await api.client.post(f"{running}/cancel")
        vision.let_go()
        done = await api.submit()
        await wait(api, done)
        late = await api.client.post(f"{done}/cancel")

    job_id = waiting.rpartition("/")[2]
    assert first.json() == {
        "job_id": job_id,
        "tenant_id": "default",
        "canceled": True,
        "status": "canceled",
    }
    assert second.json()["canceled"] is True
    assert (stopped["status"], vision.cancelled) == ("canceled", 1)
    assert third.json()["canceled"] is True
    assert (late.status_code, late.json()["canceled"], late.json()["status"]) == (200, False, "completed")


@pytest.mark.parametrize(
    "job_id", ["0" * 32, "nothing", "%00", "a%0Ab", "%F0%9F%98%80", "a" * 5000, "..%5C..%5Cetc", "%ff"]
)
async def test_unknown_jobs(job_id: str) -> None:
    """If this fails, an id that was never given ends in something else than a clear 404."""
    async with bench() as api:
        for answer in (
            await api.client.get(f"{PREFIX}/jobs/{job_id}"),
            await api.client.post(f"{PREFIX}/jobs/{job_id}/cancel"),
        ):
            assert_problem(answer, 404, "JOB_NOT_FOUND", "does not exist or has expired")


async def test_paths_that_climb_are_no_routes() -> None:
    """If this fails, an id can reach another route or a file."""
    async with bench() as api:
        for path in ("jobs/..%2F..%2Fetc%2Fpasswd", "jobs/a%2Fb", "jobs/", "jobs//cancel"):
            assert_problem(await api.client.get(f"{PREFIX}/{path}"), 404, "NOT_FOUND", "no route")


async def test_another_tenants_job_is_not_there() -> None:
    """If this fails, a tenant sees, counts or cancels the jobs of another."""
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        path = await api.submit()
        theirs = {"X-API-Key": OTHER_KEY}
        missing = f"{PREFIX}/jobs/{'0' * 32}"
        for answer, unknown in (
            (await api.client.get(path, headers=theirs), await api.client.get(missing, headers=theirs)),
            (
                await api.client.post(f"{path}/cancel", headers=theirs),
                await api.client.post(f"{missing}/cancel", headers=theirs),
            ),
        ):
            assert_problem(answer, 404, "JOB_NOT_FOUND")
            assert without_ids(answer, path) == without_ids(unknown, missing)
        listed = (await api.client.get(f"{PREFIX}/jobs", headers=theirs)).json()
        mine = (await api.client.get(path)).json()

    assert listed == {"jobs": [], "total": 0, "next_page_token": None}
    assert mine["status"] == "pending"


def without_ids(answer: httpx.Response, path: str) -> dict[str, Any]:
    text = answer.text.replace(path.rpartition("/")[2], "ID")
    problem: dict[str, Any] = httpx.Response(200, text=text).json()
    return {**problem, "request_id": ""}


async def test_tenants_share_no_idempotency_keys() -> None:
    """If this fails, one tenant's key gives another tenant's job."""
    settings = evolve(keyed(), max_jobs=5)
    async with bench(settings, concurrency=0) as api:
        ids = set()
        for key in (KEY, OTHER_KEY):
            answer = await api.client.post(
                f"{PREFIX}/search",
                params={"async": "true"},
                headers={"X-API-Key": key, "Idempotency-Key": "same"},
                files={"file": ("a.png", PNG)},
            )
            ids.add(answer.json()["job_id"])

    assert len(ids) == 2
