"""POST /search: at once, as a job, forced to be a job; parameters; capacity."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from dedup2d.errors import UnreadableDrawingError, VisionUnavailableError
from dedup2d.settings import Settings
from dedup2d.types import Area, Mode, SearchParams
from dedup2d_http.routing import PREFIX
from tests.http_support import PNG, assert_problem, bench, failing, holding, png_of

SMALL = Settings(forced_async_file_size_bytes=100_000, max_upload_bytes=1_000_000)


async def test_a_search_is_answered_at_once() -> None:
    """If this fails, the simplest call of the API does not give the result."""
    async with bench() as api:
        answer = await api.search(("part.png", PNG))

        assert answer.status_code == 200
        assert answer.json()["success"] is True
        assert api.searched == [("part.png", len(PNG))]
        assert await api.stored_files() == 0


async def test_parameters_reach_the_engine() -> None:
    """If this fails, a parameter is silently dropped on the way."""
    query = {
        "mode": "fast",
        "max_results": "7",
        "compute_diff": "false",
        "diff_top_n": "3",
        "enable_ml": "1",
        "enable_geometric": "0",
        "exclude_self": "true",
        "duplicate_threshold": "0.9",
        "similar_threshold": ".5",
    }
    async with bench() as api:
        assert (await api.search(**query)).status_code == 200

    assert api.vision.calls[0].params == SearchParams(
        mode=Mode.FAST,
        max_results=7,
        compute_diff=False,
        diff_top_n=3,
        enable_ml=True,
        enable_geometric=False,
        exclude_self=True,
        duplicate_threshold=0.9,
        similar_threshold=0.5,
    )


async def test_areas_to_ignore_reach_the_engine() -> None:
    """If this fails, a masked stamp decides the verdict, or only the last of several masks counts."""
    path = f"{PREFIX}/search?ignore=0.7,0.8,0.3,0.2&ignore=title_block&ignore=frame"
    async with bench() as api:
        assert (await api.client.post(path, files={"file": ("a.png", PNG)})).status_code == 200

    assert api.vision.calls[0].params == SearchParams(
        ignore=(Area(x=0.7, y=0.8, width=0.3, height=0.2), "title_block", "frame")
    )


@pytest.mark.parametrize("text", ["", "notes", "0,0,1", "0,0,0,1", "0,0,2,1", "nan,0,1,1", "1,0,1,1"])
async def test_areas_that_are_none_are_refused(text: str) -> None:
    """If this fails, a misspelt mask masks nothing without a word."""
    async with bench() as api:
        answer = await api.search(ignore=text)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "INVALID_PARAMETER"
    assert "ignore" in answer.json()["detail"]


async def test_a_request_wins_over_its_preset() -> None:
    """If this fails, a preset overrides what the caller said, or is ignored."""
    async with bench() as api:
        await api.search(preset="loose")
        await api.search(preset="loose", similar_threshold="0.6", mode="fast")

    loose, own = (call.params for call in api.vision.calls)
    assert loose
    assert own
    assert (loose.mode, loose.duplicate_threshold, loose.similar_threshold) == (Mode.BALANCED, 0.9, 0.5)
    assert (own.mode, own.duplicate_threshold, own.similar_threshold) == (Mode.FAST, 0.9, 0.6)


@pytest.mark.parametrize("how", ["query", "prefer"])
async def test_a_search_as_a_job(how: str) -> None:
    """If this fails, the asynchronous flow of the runbook is broken: submit, poll, result."""
    async with bench() as api:
        answer = await api.client.post(
            f"{PREFIX}/search",
            params={"async": "true"} if how == "query" else {},
            headers={"Prefer": "respond-async"} if how == "prefer" else {},
            files={"file": ("a.png", PNG)},
        )

        assert answer.status_code == 202
        job = answer.json()
        assert job == {
            "job_id": job["job_id"],
            "status": "pending",
            "poll_url": f"{PREFIX}/jobs/{job['job_id']}",
            "forced_async_reason": None,
        }
        assert answer.headers["location"] == job["poll_url"]
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers.get("preference-applied") == ("respond-async" if how == "prefer" else None)
        done = (await api.client.get(job["poll_url"], headers={"Prefer": "wait=30"})).json()
        assert (done["status"], done["result"]["success"], done["error"]) == ("completed", True, None)


async def test_a_precise_search_is_forced_to_be_a_job() -> None:
    """If this fails, slow searches hold connections until a proxy cuts them."""
    async with bench() as api:
        answer = await api.search(mode="precise")
    async with bench(Settings(forced_async_on_mode_precise=False)) as api:
        at_once = await api.search(mode="precise")

    assert (answer.status_code, answer.json()["forced_async_reason"]) == (202, "mode_precise")
    assert at_once.status_code == 200


@pytest.mark.parametrize(("size", "status"), [(100_000, 200), (100_001, 202), (700_000, 202)])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_file_is_forced_to_be_a_job(size: int, status: int, announced: bool) -> None:
    """If this fails, the size limit of synchronous searches depends on how the client sends the file."""
    request = httpx.Request("POST", "http://x", files={"file": ("a.png", png_of(size))})
    body = request.read()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    async with bench(SMALL) as api:
        answer = await api.client.post(
            f"{PREFIX}/search",
            content=body if announced else pieces(),
            headers={"Content-Type": request.headers["content-type"]},
        )
        assert answer.status_code == status, answer.text
        if status == 200:
            assert api.searched == [("a.png", size)]
        else:
            assert answer.json()["forced_async_reason"] == "file_size"
            job = await api.client.get(answer.json()["poll_url"], headers={"Prefer": "wait=30"})
            assert job.json()["status"] == "completed"
            assert api.searched == [("a.png", size)]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_results", "0", ("max_results=0", "1 to 500")),
        ("max_results", "abc", ("max_results=abc", "1 to 500")),
        ("max_results", "501", ("501",)),
        ("max_results", "9" * 5000, ("1 to 500",)),
        ("max_results", "", ("1 to 500",)),
        ("max_results", "\u0661\u0660", ("1 to 500",)),
        ("max_results", "1e2", ("1 to 500",)),
        ("mode", "quick", ("mode=quick", "fast, balanced, precise")),
        ("mode", "", ("fast, balanced, precise",)),
        ("async", "maybe", ("async=maybe", "true or false")),
        ("duplicate_threshold", "nan", ("0 to 1",)),
        ("duplicate_threshold", "inf", ("0 to 1",)),
        ("duplicate_threshold", "1.01", ("0 to 1",)),
        ("similar_threshold", "0.99", ("similar_threshold=0.99", "duplicate_threshold")),
        ("preset", "lax", ("strict, version, loose",)),
        ("version_gate", "name", ("version_gate=name", "off, auto, file_name, meta")),
        ("precision_top_n", "0", ("precision_top_n=0", "1 to 500")),
        ("precision_profile", "fuzzy", ("strict, version",)),
        ("max_result", "5", ("max_result=5", "max_results")),
        ("tenant_id", "other", ("tenant_id=other",)),
    ],
)
async def test_wrong_parameters_are_named(name: str, value: str, words: tuple[str, ...]) -> None:
    """If this fails, a wrong parameter is ignored, or its error does not say what would be right."""
    async with bench() as api:
        answer = await api.search(**{name: value})

    assert_problem(answer, 400, "INVALID_PARAMETER", *words)
    assert not api.asked


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("mode=fast&mode=fast", "only once"),
        ("mode=%ff", "UTF-8"),
        ("mode=\xff", "mode"),
        ("&".join(f"a{i}=1" for i in range(100)), "at most 64"),
        ("%00=1", "\\x00"),
        ("mode=fast%00", "\\x00"),
        ("mode", "mode="),
    ],
)
async def test_odd_queries_are_refused(query: str, words: str) -> None:
    """If this fails, a query that is no query is guessed at, or ends in a 500."""
    async with bench() as api:
        answer = await api.client.post(f"{PREFIX}/search?{query}", files={"file": ("a.png", PNG)})

    assert_problem(answer, 400, "INVALID_PARAMETER", words)


async def test_a_callback_is_refused_not_forgotten() -> None:
    """If this fails, a client waits for a callback that never comes."""
    async with bench() as api:
        answer = await api.search(**{"async": "true", "callback_url": "https://example.com/hook"})

    assert_problem(answer, 400, "CALLBACK_URL_INVALID", "no callbacks", "poll")


async def test_fifty_submits_at_once_against_ten_places() -> None:
    """If this fails, a burst gets past the capacity, or fewer jobs are taken in than there is room for."""
    vision = holding()
    answers: list[httpx.Response] = []
    async with bench(Settings(max_jobs=10), vision=vision) as api:

        async def submit() -> None:
            answers.append(await api.search(**{"async": "true"}))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(submit)
        refused = [answer for answer in answers if answer.status_code == 429]

        assert (len(answers), len(refused)) == (50, 40)
        assert sum(answer.status_code == 202 for answer in answers) == 10
        for answer in refused:
            assert_problem(answer, 429, "JOB_QUEUE_FULL", "10")
            assert int(answer.headers["retry-after"]) >= 1
        assert await api.stored_files() == 10
        metrics = (await api.client.get("/metrics")).text
        assert "dedup2d_jobs_queue_full_total 40.0" in metrics


async def test_idempotency() -> None:
    """If this fails, a client that repeats a submit after a broken connection starts a second search."""
    async with bench(vision=holding()) as api:

        async def submit(data: bytes, key: str, **query: str) -> httpx.Response:
            return await api.client.post(
                f"{PREFIX}/search",
                params={"async": "true", **query},
                headers={"Idempotency-Key": key},
                files={"file": ("a.png", data)},
            )

        first, again = await submit(PNG, "k1"), await submit(PNG, "k1")
        other_body = await submit(PNG + b"x", "k1")
        other_query = await submit(PNG, "k1", mode="fast")
        other_key = await submit(PNG, "k2")

        assert first.json()["job_id"] == again.json()["job_id"]
        assert again.status_code == 202
        assert_problem(other_body, 422, "IDEMPOTENCY_CONFLICT", "k1")
        assert_problem(other_query, 422, "IDEMPOTENCY_CONFLICT", "k1")
        assert other_key.json()["job_id"] != first.json()["job_id"]


@pytest.mark.parametrize("keys", [[b""], [b"x" * 256], [b"a", b"b"], [b"\xff"], [b"a\tb"]])
async def test_wrong_idempotency_keys(keys: list[bytes]) -> None:
    """If this fails, a key that cannot be told apart from another is taken for one."""
    headers = [(b"Idempotency-Key", key) for key in keys]
    async with bench() as api:
        answer = await api.client.post(
            f"{PREFIX}/search", params={"async": "true"}, headers=headers, files={"file": ("a.png", PNG)}
        )

    assert_problem(answer, 400, "INVALID_PARAMETER", "Idempotency-Key")


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (UnreadableDrawingError("a.png", "it is truncated"), 422, "UNREADABLE_DRAWING"),
        (VisionUnavailableError("it restarts", 7.2), 503, "VISION_UNAVAILABLE"),
        (RuntimeError("/srv/secret/path"), 500, "INTERNAL"),
    ],
)
async def test_failures_of_the_engine(failure: Exception, status: int, code: str) -> None:
    """If this fails, an engine's failure has the wrong status, or shows what belongs in the log."""
    async with bench(vision=failing(failure)) as api:
        answer = await api.search()

        problem = assert_problem(answer, status, code)
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert answer.headers.get("retry-after") == ("8" if code == "VISION_UNAVAILABLE" else None)
        assert problem["instance"] == f"{PREFIX}/search"
        assert await api.stored_files() == 0
