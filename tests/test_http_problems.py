"""What every answer has: problem responses, methods, safe headers, request ids."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import dedup2d.errors
from dedup2d.errors import Dedup2DError, StoreUnavailableError, StoreVersionError
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d.types import Job, JobCounts
from dedup2d_http.app import create_app, from_environment
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX, Resource
from tests.http_support import KEY, assert_problem, bench, failing, keyed

DOCUMENT = Path(__file__).parent.parent / "docs" / "http-api.md"


def test_every_code_of_the_library_has_a_status() -> None:
    """If this fails, an error of the library ends in a 500 over HTTP."""
    codes = {
        error.code
        for error in vars(dedup2d.errors).values()
        if isinstance(error, type) and issubclass(error, Dedup2DError)
    }

    assert codes <= PROBLEMS.keys()


def test_every_code_and_route_is_documented() -> None:
    """If this fails, the reference does not say what an error means or that a route exists."""
    text = DOCUMENT.read_text()

    for code, problem in PROBLEMS.items():
        assert f"| `{code}` | {problem.status} |" in text, code
    for resource in RESOURCES:
        assert f"`{resource.path.removeprefix(PREFIX)}`" in text, resource.path


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.path)
async def test_methods(resource: Resource) -> None:
    """If this fails, a route answers to a method it does not have, or does not say which it has."""
    path = resource.path.format(job_id="x", drawing_id="x", file_hash="x")
    async with bench() as api:
        options = await api.client.options(path)
        assert (options.status_code, options.content) == (204, b"")
        assert options.headers["allow"] == resource.allow
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - resource.methods.keys():
            answer = await api.client.request(method, path)
            assert_problem(answer, 405, "METHOD_NOT_ALLOWED", resource.allow)
            assert answer.headers["allow"] == resource.allow
        if "GET" in resource.methods and "{" not in path:
            got, head = await api.client.get(path), await api.client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", PREFIX, f"{PREFIX}/", f"{PREFIX}/jobs/", "/livez/", "/%2F"]
)
async def test_unknown_paths(path: str) -> None:
    """If this fails, an unknown path is redirected or answered with a page of the framework."""
    async with bench() as api:
        assert_problem(await api.client.get(path), 404, "NOT_FOUND", "no route")


@pytest.mark.parametrize("path", ["/", f"{PREFIX}/jobs", f"{PREFIX}/jobs/x", "/nothing", "/metrics"])
async def test_safe_headers(path: str) -> None:
    """If this fails, a browser may guess types, frame the service or keep what it should not."""
    async with bench() as api:
        headers = (await api.client.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


async def test_request_ids() -> None:
    """If this fails, a request cannot be found in the log, or a client writes into the log."""
    async with bench() as api:
        kept = await api.client.get("/livez", headers={"X-Request-Id": "Trace-1.a_b"})
        made = [
            (await api.client.get("/livez", headers=[(b"X-Request-Id", given)])).headers["x-request-id"]
            for given in (b"", b"a b", b"a" * 65, b'{"x":1}', b"\xff", b"a\tb")
        ]

    assert kept.headers["x-request-id"] == "Trace-1.a_b"
    assert all(len(request_id) == 32 for request_id in made)
    assert len(set(made)) == len(made)


async def test_what_nobody_expected_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a bug shows its stack to the client, or leaves no trace in the log."""
    async with bench(vision=failing(ZeroDivisionError("at /srv/app"), "rebuild")) as api:
        answer = await api.client.post(f"{PREFIX}/index/rebuild", headers={"X-Request-Id": "find-me"})

    problem = assert_problem(answer, 500, "INTERNAL", "log")
    logged = capsys.readouterr().out
    assert "srv" not in answer.text
    assert problem["request_id"] == "find-me"
    assert "find-me" in logged
    assert "ZeroDivisionError" in logged


async def test_log_lines_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a path puts lines or escape sequences into the log."""
    async with bench() as api:
        await api.client.get("/a%0Aforged=1%1b[2J%e2%80%ae")

    logged = capsys.readouterr().out
    assert "forged=1" in logged
    for raw in ("\nforged", "\x1b", "\u202e"):
        assert raw not in logged


async def test_the_app_opens_its_own_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the app cannot be run by an ASGI server of the operator's choice."""
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path))
    app = from_environment()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        assert (await client.get("/health")).json()["status"] == "healthy"
        assert "dedup2d_build_info" in (await client.get("/metrics")).text


def unhealthy() -> FakeVision:
    vision = FakeVision()
    vision.status = "unhealthy"
    return vision


async def test_a_health_that_is_bad_is_said_without_details() -> None:
    """If this fails, monitoring sees a dead engine as healthy, or a tenant sees another's index."""
    async with bench(keyed(), vision=unhealthy(), key=KEY) as api:
        vision = await api.client.get(f"{PREFIX}/health")
        whole = await api.client.get("/health")
        ready = await api.client.get("/readyz")

    assert (vision.status_code, vision.json()) == (503, {"status": "unhealthy"})
    assert (whole.json()["status"], whole.json()["vision"]) == ("healthy", "unhealthy")
    assert ready.status_code == 200


class BrokenJobStore(MemoryJobStore):
    async def counts(self) -> JobCounts:
        raise StoreUnavailableError("job store", "its disk is full")

    async def admit(self, job: Job, *, max_jobs: int, max_jobs_per_tenant: int, **more: int) -> Job:
        raise StoreUnavailableError("job store", "its disk is full")


async def test_a_job_store_that_does_not_answer_is_seen() -> None:
    """If this fails, requests are sent to a service that cannot keep jobs."""
    async with bench() as api:
        api.service.jobs = api.service._intake.jobs = api.service._watch.jobs = BrokenJobStore()
        ready, health = await api.client.get("/readyz"), await api.client.get("/health")
        live, metrics = await api.client.get("/livez"), await api.client.get("/metrics")
        submitted = await api.search(**{"async": "true"})

    assert (ready.status_code, health.status_code) == (503, 503)
    assert health.json()["status"] == "unhealthy"
    assert (live.status_code, metrics.status_code) == (200, 200)
    assert_problem(submitted, 503, "STORE_UNAVAILABLE", "disk is full")
    assert int(submitted.headers["retry-after"]) >= 1


async def test_an_internal_error_of_the_library_keeps_its_words_to_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, what only operators may know is told to clients, or to nobody."""
    async with bench(vision=failing(StoreVersionError("index", 9, 1))) as api:
        answer = await api.search()

    assert_problem(answer, 500, "INTERNAL")
    assert "newer version" not in answer.text
    assert "newer version" in capsys.readouterr().out


async def test_a_service_without_metrics_says_so() -> None:
    """If this fails, a service that was built without metrics breaks where it is scraped."""
    async with bench() as api:
        app = create_app(api.service, Settings())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert_problem(await client.get("/metrics"), 404, "NOT_FOUND", "without metrics")


async def test_operations() -> None:
    """If this fails, the runbook's checks of a running service do not work."""
    async with bench() as api:
        await api.submit()
        health = await api.client.get("/health")
        metrics = await api.client.get("/metrics")
        presets = await api.client.get(f"{PREFIX}/presets")
        page = await api.client.get("/")

    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "dedup2d_jobs_submitted_total 1.0" in metrics.text
    names = [line.split()[2] for line in metrics.text.splitlines() if line.startswith("# HELP")]
    assert names
    assert all(name.startswith(("dedup2d_", "dedupcad_vision_", "process_", "python_info")) for name in names)
    assert presets.json()["presets"]["version"] == {
        "name": "version",
        "description": "finds the versions of one drawing",
        "mode": "balanced",
        "duplicate_threshold": 0.95,
        "similar_threshold": 0.7,
        "precision_profile": "version",
        "precision_top_n": 50,
        "precision_visual_weight": 0.5,
        "precision_geom_weight": 0.5,
        "version_gate": "auto",
    }
    assert "text/html" in page.headers["content-type"]
    assert f"{PREFIX}/search" in page.text


async def test_a_tenant_sees_no_more_when_a_search_breaks() -> None:
    """If this fails, an error names a file or a tenant that is not the caller's."""
    vision = failing(RuntimeError("tenant other, /srv/data/other/index.db"))
    async with bench(keyed(), vision=vision, key=KEY) as api:
        answer = await api.search()
        job = await api.client.get(await api.submit(), headers={"Prefer": "wait=10"})

    for text in (answer.text, job.text):
        assert "other" not in text
        assert "/srv" not in text
    assert (job.json()["status"], job.json()["error_code"]) == ("failed", "INTERNAL")
