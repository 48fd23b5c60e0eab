"""Requests as they are counted: by the template of their route, never by what a client chooses."""

from __future__ import annotations

import random
import string

import anyio
import httpx
import pytest
from starlette.types import Message

from dedup2d.files.memory import MemoryFileStore
from dedup2d.metrics import VisionServerMetrics
from dedup2d.testing import FakeVision
from dedup2d.types import JobCounts
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routes import RESOURCES, operations
from dedup2d_http.vision_app import VisionServerOptions, create_vision_app
from tests.http_support import PNG, PREFIX, bench
from tests.metrics_support import samples, total, value

ROUTES = {resource.path for resource in RESOURCES} | {"none"}
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "other"}


async def test_a_request_is_counted_under_its_route() -> None:
    """If this fails, traffic, latency and failures on the dashboard are not those of the routes."""
    async with bench() as api:
        path = await api.submit()
        await api.client.get(path)
        await api.client.get(f"{PREFIX}/jobs/{'0' * 32}")
        await api.client.get("/nothing/here")
        await api.client.get("/nothing/there")
        text = (await api.client.get("/metrics")).text

    requests = "dedup2d_http_requests_total"
    job = f"{PREFIX}/jobs/{{job_id}}"
    assert value(text, requests, method="POST", route=f"{PREFIX}/search", status="202") == 1
    assert value(text, requests, method="GET", route=job, status="200") == 1
    assert value(text, requests, method="GET", route=job, status="404") == 1
    assert value(text, requests, method="GET", route="none", status="404") == 2
    assert value(text, "dedup2d_http_problems_total", code="JOB_NOT_FOUND") == 1
    assert value(text, "dedup2d_http_problems_total", code="NOT_FOUND") == 2
    assert value(text, "dedup2d_http_request_duration_seconds_count", method="GET", route=job) == 2
    # The scrape itself is under way.
    assert value(text, "dedup2d_http_requests_in_progress") == 1


async def test_what_is_refused_before_its_route_is_counted_under_it() -> None:
    """If this fails, a wave of wrong keys is seen nowhere, or under no route."""
    async with bench(key="wrong-" + "x" * 20, host="service.example") as api:
        answer = await api.client.get(f"{PREFIX}/presets")
        text = api.metrics.render().decode()

    assert answer.status_code in (401, 421)
    assert (
        value(
            text,
            "dedup2d_http_requests_total",
            method="GET",
            route=f"{PREFIX}/presets",
            status=str(answer.status_code),
        )
        == 1
    )
    assert value(text, "dedup2d_http_problems_total", code=answer.json()["code"]) == 1


async def test_rates_have_samples_before_the_first_request() -> None:
    """If this fails, the first failure after a start is not seen: a rate needs a sample before it."""
    async with bench() as api:
        text = api.metrics.render().decode()

    assert (
        value(text, "dedup2d_http_requests_total", method="POST", route=f"{PREFIX}/search", status="500") == 0
    )
    assert value(text, "dedup2d_http_problems_total", code="INTERNAL") == 0
    assert value(text, "dedup2d_job_failures_total", code="WORKER_LOST") == 0
    assert value(text, "dedup2d_jobs_finished_total", status="failed") == 0


async def test_no_client_can_make_labels() -> None:
    """If this fails, anybody can fill the memory of service and Prometheus with labels."""
    chance = random.Random(6)

    def word() -> str:
        return "".join(chance.choices(string.ascii_letters + string.digits + '%/.é"\\', k=12))

    async with bench() as api:
        for method in METHODS - {"other"}:  # what each route can be asked, before anything is attacked
            for route in ROUTES:
                api.metrics.http_begun()
                api.metrics.http_ended(method, route, 200, 0.0)
        for _ in range(300):
            method = chance.choice(["GET", "PUT", "DELETE", "PATCH", word().translate(PLAIN) or "X"])
            path = chance.choice(["/", f"{PREFIX}/jobs/", f"{PREFIX}/index/drawings/", f"{PREFIX}/"]) + word()
            name = word() + ".png"
            await api.client.request(
                method.upper(),
                path,
                params={word(): word()},
                headers={"X-Request-Id": word().encode("utf-8").hex(), "X-Api-Key": word().encode().hex()},
            )
            await api.client.post(f"{PREFIX}/search", params={"preset": word()}, files={"file": (name, PNG)})
        text = api.metrics.render().decode()

    labels: dict[str, set[str]] = {}
    for name, given in samples(text):
        if name.startswith("dedup2d_http"):
            for label, found in given:
                labels.setdefault(label, set()).add(found)
    assert labels["route"] <= ROUTES
    assert labels["method"] <= METHODS
    assert all(status.isdigit() and len(status) == 3 for status in labels["status"])
    assert labels["code"] <= PROBLEMS.keys()
    assert total(text, "dedup2d_http_requests_total") >= 600
    assert len(samples(text)) < 6000


PLAIN = {ord(char): None for char in string.punctuation + string.digits + "é"}


async def test_no_client_can_make_labels_of_a_vision_server() -> None:
    """If this fails, whoever reaches a vision server makes labels out of tenants, drawings and paths."""
    chance, metrics = random.Random(7), VisionServerMetrics()
    async with MemoryFileStore() as files, FakeVision() as vision:
        app = create_vision_app(vision, files, VisionServerOptions(), metrics=metrics)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            before = len(samples(metrics.render().decode()))
            for _ in range(200):
                name = "".join(chance.choices(string.ascii_lowercase, k=9))
                tenant = {"X-Dedup-Tenant-Id": name}
                await client.get(f"/api/v2/index/drawings/{name}", headers=tenant)
                await client.request(name.upper(), f"/{name}", headers=tenant)
                await client.post("/api/v2/search", files={"file": (name, PNG)}, headers=tenant)
        text = metrics.render().decode()

    assert value(text, "dedup2d_http_requests_total", method="other", route="none", status="404") == 200
    assert value(text, "dedup2d_vision_operations_total", operation="search", outcome="ok") == 200
    assert (
        value(text, "dedup2d_file_operations_total", backend="memory", operation="put", outcome="ok") == 200
    )
    assert len(samples(text)) - before < 60


async def test_a_store_that_hangs_does_not_keep_prometheus_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an outage of Redis makes the services' metrics go away just when they are needed."""
    monkeypatch.setattr(operations, "_COUNT_SECONDS", 0.05)
    async with bench() as api:

        async def hanging() -> JobCounts:
            await anyio.sleep(60)
            raise AssertionError

        monkeypatch.setattr(api.service.jobs, "counts", hanging)
        with anyio.fail_after(5):
            answer = await api.client.get("/metrics")

    assert answer.status_code == 200
    assert "dedup2d_jobs_pending" in answer.text


async def test_a_client_that_left_is_no_success() -> None:
    """If this fails, clients that hang up count as answers or bad requests, or not at all."""
    messages = iter([{"type": "http.request", "body": b"--x\r\n", "more_body": True}])
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"{PREFIX}/search",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": [*headers, (b"transfer-encoding", b"chunked")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    async def send(_: Message) -> None:
        pass

    async with bench() as api:
        await api.app(scope, receive, send)
        text = api.metrics.render().decode()

    gone = {"method": "POST", "route": f"{PREFIX}/search", "status": "499"}
    assert value(text, "dedup2d_http_requests_total", **gone) == 1
    assert total(text, "dedup2d_http_requests_total") == 1
    assert value(text, "dedup2d_http_problems_total", code="INVALID_MULTIPART") == 0
    assert value(text, "dedup2d_http_requests_in_progress") == 0
