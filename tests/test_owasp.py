"""
One test or more for each item of the OWASP API Security Top 10 (2023),
https://owasp.org/API-Security/editions/2023/en/0x11-t10/.

They walk the table of routes, so that a route that is added tomorrow is held to the same.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve

from dedup2d.callbacks.attempts import CallbackOptions
from dedup2d.callbacks.sending import CallbackSender
from dedup2d.errors import ConfigurationError
from dedup2d.keys import Principal, Scope
from dedup2d.settings import Settings
from dedup2d.vision.http import HTTPVisionClient, VisionOptions
from dedup2d_http.auth import check_exposure
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX
from tests.geometry_support import plate
from tests.http_support import (
    KEY,
    OTHER_KEY,
    PNG,
    Bench,
    assert_problem,
    bench,
    failing,
    keyed,
    png_of,
)
from tests.vision_stub import vision_stub

ROUTES = [(each, method) for each in RESOURCES for method in each.methods]
KEYED = [(each, method) for each, method in ROUTES if each.path.startswith("/api/")]
OF_OBJECTS = [(each, method) for each, method in KEYED if "{" in each.path]
DOCUMENT = (Path(__file__).parent.parent / "docs" / "http-api.md").read_text()


def named(route: tuple[Any, str]) -> str:
    return f"{route[1]} {route[0].path}"


def filled(
    path: str, *, job_id: str = "0" * 32, drawing_id: str = "0" * 32, file_hash: str = "0" * 64
) -> str:
    named = path.replace("{job_id}", job_id).replace("{drawing_id}", drawing_id)
    return named.replace("{file_hash}", file_hash)


async def add(api: Bench, geometry: bytes | None = None, **query: str) -> httpx.Response:
    parts: dict[str, Any] = {"file": ("a.png", PNG)}
    if geometry is not None:
        parts["geom_json"] = geometry
    return await api.client.post(f"{PREFIX}/index/add", params=query, files=parts)


# API1:2023 Broken Object Level Authorization


@pytest.mark.parametrize("route", OF_OBJECTS, ids=named)
async def test_api1_objects_of_another_tenant_are_not_there(route: tuple[Any, str]) -> None:
    """If this fails, whoever learns an id reads, changes or removes what belongs to another tenant."""
    resource, method = route
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        job_id = (await api.submit()).rpartition("/")[2]
        added = (await add(api, plate() if "{file_hash}" in resource.path else None)).json()
        drawing_id, file_hash = added["drawing_id"], added["file_hash"]
        theirs = {"X-API-Key": OTHER_KEY}
        known = filled(resource.path, job_id=job_id, drawing_id=drawing_id, file_hash=file_hash)
        unknown = filled(resource.path)
        foreign = await api.client.request(method, known, headers=theirs)
        missing = await api.client.request(method, unknown, headers=theirs)
        job = (await api.client.get(f"{PREFIX}/jobs/{job_id}")).json()
        kept = await api.client.get(f"{PREFIX}/index/drawings/{drawing_id}")

    # Whether something exists is answered, and not of another tenant.
    assert foreign.status_code == missing.status_code == (200 if resource.path.endswith("/exists") else 404)
    ids = (job_id, drawing_id, file_hash)
    assert without_ids(foreign, *ids) == without_ids(missing, "0" * 64, "0" * 32)
    assert not job["cancel_requested"]
    assert kept.status_code == 200


def without_ids(answer: httpx.Response, *ids: str) -> dict[str, Any]:
    text = answer.text
    for each in ids:
        text = text.replace(each, "ID")
    problem: dict[str, Any] = httpx.Response(200, text=text).json()
    return {**problem, "request_id": ""}


# API2:2023 Broken Authentication


@pytest.mark.parametrize("route", KEYED, ids=named)
async def test_api2_nothing_without_the_right_key(route: tuple[Any, str]) -> None:
    """If this fails, a route answers to whoever asks."""
    resource, method = route
    path = filled(resource.path)
    tries: list[dict[str, Any]] = [
        {},
        {"headers": {"X-API-Key": ""}},
        {"headers": {"X-API-Key": KEY[:-1]}},
        {"headers": {"X-API-Key": KEY.upper()}},
        {"headers": {"Authorization": f"Basic {KEY}"}},
        {"headers": {"X-API-Key": KEY, "Authorization": f"Bearer {OTHER_KEY}"}},
        {"headers": {"Cookie": f"X-API-Key={KEY}"}},
        {"params": {"api_key": KEY, "X-API-Key": KEY}},
    ]
    async with bench(keyed()) as api:
        answers = [
            await api.client.request(verb, path, **given) for verb in (method, "HEAD") for given in tries
        ]

    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert_problem(answers[0], 401, "UNAUTHORIZED")
    assert not api.asked


async def test_api2_guessing_is_slowed() -> None:
    """If this fails, keys can be tried as fast as the network lets."""
    settings = keyed(max_wrong_keys_per_minute=5)
    async with bench(settings) as api:
        statuses = [
            (await api.client.get(f"{PREFIX}/jobs", headers={"X-API-Key": f"guess-{n}"})).status_code
            for n in range(12)
        ]

    assert statuses[:5] == [401] * 5
    assert set(statuses[6:]) == {429}


# API3:2023 Broken Object Property Level Authorization

_INTERNAL = {"file_key", "lease_token", "lease_expires_at", "callback_lease_token", "callback_url", "losses"}


async def test_api3_what_is_the_servers_is_not_shown() -> None:
    """If this fails, a client sees tokens or places with which it can do what only a worker may."""
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        path = await api.submit()
        job = (await api.client.get(path)).json()
        (listed,) = (await api.client.get(f"{PREFIX}/jobs")).json()["jobs"]
        events = (await api.client.post(f"{path}/cancel")).json()

    for shown in (job, listed, events):
        assert not _INTERNAL & shown.keys()
        assert not [name for name in shown if "secret" in name or "token" in name]


@pytest.mark.parametrize(
    "name", ["tenant_id", "status", "job_id", "file_key", "expires_at", "drawing_id", "source"]
)
async def test_api3_properties_of_the_server_cannot_be_set(name: str) -> None:
    """If this fails, a client chooses the tenant, the state or the id of what it sends."""
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        query = (
            {} if name == "file_key" else {name: "other"}
        )  # that one is looked at, and found to be nobody's
        for path in ("search", "index/add"):
            files = {"file": ("a.png", PNG)}
            by_part = await api.client.post(f"{PREFIX}/{path}", files=files, data={name: "other"})
            assert_problem(by_part, 400, "INVALID_PARAMETER")
            if query:
                by_query = await api.client.post(f"{PREFIX}/{path}", files=files, params=query)
                assert_problem(by_query, 400, "INVALID_PARAMETER")
        total = (await api.client.get(f"{PREFIX}/jobs")).json()["total"]

    assert total == 0


# API4:2023 Unrestricted Resource Consumption


async def test_api4_everything_has_a_limit() -> None:
    """If this fails, one request or one client takes memory, disk or workers without end."""
    settings = keyed(max_upload_bytes=10_000, max_jobs=2, max_requests_per_second_per_tenant=0)
    async with bench(settings, key=KEY, concurrency=0) as api:
        large = await api.search(("a.png", png_of(400_000)), **{"async": "true"})
        page = await api.client.get(f"{PREFIX}/jobs", params={"limit": "501"})
        query = await api.client.get(f"{PREFIX}/jobs?" + "&".join(f"a{n}=1" for n in range(100)))
        results = await api.search(max_results="501")
        statuses = [(await api.search(**{"async": "true"})).status_code for _ in range(3)]
        full = await api.search(**{"async": "true"})

    assert_problem(large, 413, "FILE_TOO_LARGE")
    assert_problem(page, 400, "INVALID_PARAMETER", "1 to 500")
    assert_problem(query, 400, "INVALID_PARAMETER", "at most 64")
    assert_problem(results, 400, "INVALID_PARAMETER", "1 to 500")
    assert statuses == [202, 202, 429]
    assert_problem(full, 429, "JOB_QUEUE_FULL")
    assert int(full.headers["retry-after"]) >= 1


async def test_api4_requests_are_limited() -> None:
    """If this fails, one tenant's loop takes the service from all others."""
    async with bench(keyed(max_requests_per_second_per_tenant=3), key=KEY) as api:
        answers = [await api.client.get(f"{PREFIX}/jobs") for _ in range(12)]
        other = await api.client.get(f"{PREFIX}/jobs", headers={"X-API-Key": OTHER_KEY})

    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert_problem(refused[0], 429, "RATE_LIMITED")
    assert int(refused[0].headers["retry-after"]) >= 1
    assert other.status_code == 200


# API5:2023 Broken Function Level Authorization


@pytest.mark.parametrize("scope", list(Scope))
async def test_api5_a_key_does_what_its_scope_says_and_nothing_else(scope: Scope) -> None:
    """If this fails, a key that was given out for searching changes the index, or the configuration."""
    principal = Principal(tenant_id="first", scopes=frozenset({scope}), key_id="k")
    settings = evolve(keyed(), api_keys={KEY: principal})
    async with bench(settings, key=KEY) as api:
        for resource, method in KEYED:
            needed = resource.scope_of(method)
            answer = await api.client.request(method, filled(resource.path))
            forbidden = needed is not None and needed is not scope
            assert (answer.status_code == 403) == forbidden, (method, resource.path, answer.text)
            if forbidden:
                assert_problem(answer, 403, "FORBIDDEN", needed.value)


def test_api5_what_changes_an_index_needs_more_than_search() -> None:
    """If this fails, a route was added that changes an index with any key."""
    for resource, method in KEYED:
        if "/index" in resource.path and method != "GET":
            assert resource.scope_of(method) in (Scope.INDEX, Scope.ADMIN)


# API6:2023 Unrestricted Access to Sensitive Business Flows


async def test_api6_one_tenant_cannot_take_all_places() -> None:
    """If this fails, a tenant that submits without end keeps all others from searching."""
    async with bench(keyed(max_jobs=10, max_jobs_per_tenant=3), key=KEY, concurrency=0) as api:
        mine = [(await api.search(**{"async": "true"})).status_code for _ in range(6)]
        api.client.headers["X-API-Key"] = OTHER_KEY
        theirs = [(await api.search(**{"async": "true"})).status_code for _ in range(3)]

    assert mine == [202] * 3 + [429] * 3
    assert theirs == [202] * 3


async def test_api6_a_repeated_submit_takes_one_place() -> None:
    """If this fails, a client that repeats itself (or is made to) fills the queue with one search."""
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        api.client.headers["Idempotency-Key"] = "order-17"
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(api.submit)
        total = (await api.client.get(f"{PREFIX}/jobs")).json()["total"]

    assert total == 1


# API7:2023 Server Side Request Forgery


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "https://127.0.0.1:8000/",
        "https://localhost/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "https://user:hunter2@93.184.216.34/",
        "https://93.184.216.34:22/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "//93.184.216.34/",
        "https://",
        "https://93.184.216.34/\r\nX-Injected: 1",
    ],
)
async def test_api7_no_callback_goes_inside(url: str) -> None:
    """If this fails, a client makes the service call what only the service can reach."""
    sender = CallbackSender(options=CallbackOptions())
    async with bench(keyed(), key=KEY, concurrency=0, callbacks=sender) as api:
        answer = await api.search(callback_url=url)
        total = (await api.client.get(f"{PREFIX}/jobs")).json()["total"]
        stored = await api.stored_files()

    problem = assert_problem(answer, 400, "CALLBACK_URL_INVALID")
    assert "hunter2" not in problem["detail"]
    assert (total, stored) == (0, 0)


# API8:2023 Security Misconfiguration


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_api8_every_answer_has_safe_headers(route: tuple[Any, str]) -> None:
    """If this fails, a browser can be made to run, frame, guess or keep what the API answers."""
    resource, method = route
    async with bench(keyed()) as api:
        for key in ("", KEY):
            answer = await api.client.request(method, filled(resource.path), headers={"X-API-Key": key})
            headers = answer.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] in ("no-store", "private, no-cache")
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers


async def test_api8_a_bug_shows_nothing_of_the_inside() -> None:
    """If this fails, an attacker reads paths, versions or secrets out of an error."""
    vision = failing(ZeroDivisionError("the password is hunter2 in /srv/secret"))
    async with bench(keyed(), key=KEY, vision=vision) as api:
        answer = await api.search()

    assert_problem(answer, 500, "INTERNAL")
    for word in ("hunter2", "/srv", "Traceback", "ZeroDivision", ".py", "starlette"):
        assert word not in answer.text + str(answer.headers)


async def test_api8_methods_that_nobody_needs_are_refused() -> None:
    """If this fails, a request is reflected, or a proxy's method does something."""
    async with bench(keyed(), key=KEY) as api:
        for method in ("TRACE", "CONNECT", "PATCH", "PROPFIND", "QUERY"):
            answer = await api.client.request(method, f"{PREFIX}/jobs")
            assert answer.status_code == 405
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_api8_a_service_without_keys_is_nobody_elses() -> None:
    """If this fails, a service is started without keys where other machines reach it."""
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.com"):
        with pytest.raises(ConfigurationError, match="DEDUP2D_API_KEYS"):
            check_exposure(host, keyed=False)


# API9:2023 Improper Inventory Management


def test_api9_every_route_is_in_the_documents() -> None:
    """If this fails, there is a route that nobody knows of, and so nobody looks after."""
    table = set(re.findall(r"^\| `(/[^`]*)` \| ([A-Z, ]+) \|", DOCUMENT, re.MULTILINE))
    documented = {(path, method.strip()) for path, methods in table for method in methods.split(",")}

    assert {(each.path.removeprefix(PREFIX), method) for each, method in ROUTES} == documented
    codes = set(re.findall(r"^\| `([A-Z_]+)` \| [0-9]{3} \|", DOCUMENT, re.MULTILINE))
    assert codes == set(PROBLEMS)


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/debug",
        "/.env",
        "/.git/config",
        "/api",
        "/api/v2/search",
        "/redoc",
        "/swagger",
        "/docs/..%2fetc",
        f"{PREFIX}/config/debug",
        "/livez/",
        "/static/../etc/passwd",
    ],
)
async def test_api9_there_is_nothing_else(path: str) -> None:
    """If this fails, an old or hidden route answers."""
    async with bench(keyed(), key=KEY) as api:
        answer = await api.client.get(path)

    assert_problem(answer, 404, "NOT_FOUND", "no route")


# API10:2023 Unsafe Consumption of APIs


@pytest.mark.parametrize("mode", ["redirect", "not-json", "incomplete", "gzip", "cut", "500"])
async def test_api10_a_vision_server_is_not_trusted(mode: str) -> None:
    """If this fails, a vision server that was taken over leads the service elsewhere, or speaks for it."""
    key = "the-key-of-the-vision-server"
    async with vision_stub() as stub:
        stub.mode = mode
        options = VisionOptions(
            url=stub.url, api_key=key, retry_base_delay_seconds=0.01, retry_max_delay_seconds=0.02
        )
        async with HTTPVisionClient(options) as vision, bench(Settings()) as api:
            api.service.vision = vision
            answer = await api.search()
        called = dict(stub.calls)

    problem = answer.json()
    assert answer.status_code in (502, 503), answer.text
    assert problem["code"] in ("VISION_BAD_RESPONSE", "VISION_REFUSED", "VISION_UNAVAILABLE")
    for word in (key, stub.url, "It works", "Location"):
        assert word not in answer.text
    assert set(called) == {"/api/v2/search"}
