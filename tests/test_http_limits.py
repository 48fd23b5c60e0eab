"""What a key may do, and how much: scopes, requests, wrong keys, uploads, the index, and the audit log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
import structlog
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond

from dedup2d.errors import IndexFullError
from dedup2d.keys import KeySecrets, Principal, Scope
from dedup2d.keys.making import KeyMaker
from dedup2d.keys.memory import MemoryKeyStore
from dedup2d.keys.ring import KeyRing
from dedup2d.keys.text import make_key
from dedup2d.redis_connection import RedisOptions
from dedup2d.settings import Settings
from dedup2d.tenants import TenantLimits
from dedup2d.testing import ManualClock
from dedup2d_http.addresses import client_address, same_client
from dedup2d_http.counters import Counters
from dedup2d_http.logs import configure_logging
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX
from tests.backends import redis_options
from tests.http_support import KEY, OTHER_KEY, PNG, assert_problem, bench, failing, keyed, png_of
from tests.servers import RedisServer, redis_server

ROUTES = [
    (method, resource.path, resource.scope_of(method))
    for resource in RESOURCES
    for method in resource.methods
    if resource.path.startswith("/api/")
]
DOCUMENT = Path(__file__).parent.parent / "docs" / "keys.md"
NEEDED = {
    "POST /search": Scope.SEARCH,
    "POST /uploads": Scope.SEARCH,
    "GET /jobs": Scope.SEARCH,
    "GET /jobs/{job_id}": Scope.SEARCH,
    "GET /jobs/{job_id}/events": Scope.SEARCH,
    "POST /jobs/{job_id}/cancel": Scope.SEARCH,
    "POST /jobs/{job_id}/callback/redeliver": Scope.SEARCH,
    "POST /index/add": Scope.INDEX,
    "GET /index/drawings": Scope.SEARCH,
    "GET /index/drawings/{drawing_id}": Scope.SEARCH,
    "DELETE /index/drawings/{drawing_id}": Scope.INDEX,
    "GET /index/drawings/{drawing_id}/image": Scope.SEARCH,
    "POST /index/rebuild": Scope.INDEX,
    "GET /config": Scope.SEARCH,
    "PUT /config": Scope.ADMIN,
    "DELETE /config": Scope.ADMIN,
    "GET /geom/{file_hash}/exists": Scope.SEARCH,
    "POST /precision/compare": Scope.SEARCH,
    "GET /presets": None,
    "GET /health": None,
}
"""What each route needs: an index key changes the index and sees nothing of it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- scopes


def test_every_route_says_what_it_needs() -> None:
    """If this fails, a route came whose scope nobody thought about: write it here and into docs/keys.md."""
    text = DOCUMENT.read_text()
    for method, path, scope in ROUTES:
        route = f"{method} {path.removeprefix(PREFIX)}"
        assert NEEDED[route] == scope, route
        assert f"| `{route}` | {scope or 'any key'} |" in text, route


@pytest.mark.parametrize("allowed", [frozenset({scope}) for scope in Scope] + [frozenset()])
@pytest.mark.parametrize(("method", "path", "needed"), ROUTES)
async def test_a_key_can_do_what_its_scopes_say_and_nothing_else(
    method: str, path: str, needed: Scope | None, allowed: frozenset[Scope]
) -> None:
    """If this fails, a key that may only search changes the index, or cannot even search."""
    settings = Settings(api_keys={KEY: Principal("first", allowed)})
    async with bench(settings, key=KEY) as api:
        url = path.format(job_id="0" * 32, drawing_id="none", file_hash="0" * 64)
        answer = await api.client.request(method, url)

        if needed is None or needed in allowed:
            assert answer.status_code != 403, answer.text
        else:
            assert_problem(answer, 403, "FORBIDDEN", str(needed), *allowed)
            assert api.asked == []


async def test_the_scope_is_looked_at_before_the_body() -> None:
    """If this fails, a key that may not add makes the service take in uploads."""

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    settings = Settings(api_keys={KEY: Principal("first", frozenset({Scope.SEARCH}))})
    async with bench(settings, key=KEY) as api:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await api.client.post(f"{PREFIX}/index/add", content=body(), headers=headers)

    assert_problem(answer, 403, "FORBIDDEN")


async def test_head_needs_what_get_needs() -> None:
    """If this fails, HEAD tells what GET may not."""
    settings = Settings(api_keys={KEY: Principal("first", frozenset({Scope.INDEX}))})
    async with bench(settings, key=KEY) as api:
        assert (await api.client.head(f"{PREFIX}/jobs")).status_code == 403


# -- stored keys over HTTP


async def test_the_first_stored_key_closes_a_running_service() -> None:
    """If this fails, a service goes on without keys although there are some, until it is restarted."""
    store, clock, secrets = MemoryKeyStore(), ManualClock(), KeySecrets([b"s" * 32])
    maker = KeyMaker(store, secrets, clock=clock)
    ring = KeyRing({}, store=store, secrets=lambda: secrets, clock=clock, monotonic=clock)
    async with ring, bench(keys=ring) as api:
        jobs = f"{PREFIX}/jobs"
        assert (await api.client.get(jobs)).status_code == 200
        assert_problem(await api.client.get("/", headers={"Host": "named.example"}), 421, "HOST_NOT_ALLOWED")

        made = await maker.create("acme", [Scope.SEARCH])
        clock.advance(2)
        assert_problem(await api.client.get(jobs), 401, "UNAUTHORIZED")
        headers = {"X-API-Key": made.text, "Host": "named.example"}
        job = await api.client.post(
            f"{PREFIX}/search", params={"async": "true"}, files={"file": ("a.png", PNG)}, headers=headers
        )
        assert (await api.client.get(job.json()["poll_url"], headers=headers)).json()["tenant_id"] == "acme"

        await maker.revoke(made.record.key_id)
        clock.advance(2)
        assert_problem(await api.client.get(jobs, headers=headers), 401, "UNAUTHORIZED")


# -- requests in a second


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Give the clock that the counters in memory read."""
    clock = ManualClock()
    for module in ("limits.aio.storage.memory", "limits.aio.strategies", "dedup2d_http.counters"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=clock))
    return clock


def standing(answer: httpx.Response) -> tuple[int, int, int, int]:
    """Return limit, window, left and reset of the headers."""
    policy = re.fullmatch(r'"requests";q=(\d+);w=(\d+)', answer.headers["ratelimit-policy"])
    state = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert policy
    assert state
    return int(policy[1]), int(policy[2]), int(state[1]), int(state[2])


async def test_a_tenant_has_so_many_requests_in_a_second(clock: ManualClock) -> None:
    """If this fails, one careless client takes the service from all others, or is not told when to go on."""
    settings = keyed(
        max_requests_per_second_per_tenant=5, tenant_limits={"other": TenantLimits(requests_per_second=7)}
    )
    async with bench(settings, key=KEY) as api:
        for left in (4, 3, 2, 1, 0):
            answer = await api.client.get(f"{PREFIX}/presets")
            assert (answer.status_code, standing(answer)) == (200, (5, 1, left, 1))
        for _ in range(20):
            refused = await api.client.get(f"{PREFIX}/presets")
            assert_problem(refused, 429, "RATE_LIMITED", "5 requests", "1 s")
            assert standing(refused) == (5, 1, 0, 1)
            assert refused.headers["retry-after"] == "1"
        other = await api.client.get(f"{PREFIX}/presets", headers={"X-API-Key": OTHER_KEY})
        assert (other.status_code, standing(other)) == (200, (7, 1, 6, 1))

        clock.advance(2)
        assert (await api.client.get(f"{PREFIX}/presets")).status_code == 200


async def test_what_is_refused_for_its_rate_is_not_read(clock: ManualClock) -> None:
    """If this fails, a client over its limit makes the service take in uploads all the same."""

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with bench(keyed(max_requests_per_second_per_tenant=1), key=KEY) as api:
        await api.client.get(f"{PREFIX}/presets")
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await api.client.post(f"{PREFIX}/search", content=body(), headers=headers)

        assert_problem(answer, 429, "RATE_LIMITED")
        assert (await api.client.get("/livez")).status_code == 200


async def test_without_a_limit_there_are_no_headers() -> None:
    """If this fails, clients are told of a limit that there is not."""
    async with bench(keyed(max_requests_per_second_per_tenant=0), key=KEY) as api:
        for _ in range(150):
            answer = await api.client.get(f"{PREFIX}/presets")
            assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


async def test_services_on_one_redis_count_together() -> None:
    """If this fails, a tenant has as many times its limit as there are services."""
    options, item = redis_options(), RateLimitItemPerMinute(10)
    async with Counters(options) as one, Counters(options) as two, Counters(redis_options()) as foreign:
        for number in range(10):
            allowance = await (one, two)[number % 2].take(item, "tenant/acme")
            assert (allowance.granted, allowance.left) == (True, 9 - number)
        for counters in (one, two):
            refused = await counters.take(item, "tenant/acme")
            assert (refused.granted, refused.left) == (False, 0)
            assert 1 <= refused.reset_seconds <= 60
            assert (await counters.take(item, "tenant/umbra")).granted
        assert (await foreign.take(item, "tenant/acme")).granted


async def test_at_once_no_more_are_granted_than_there_are() -> None:
    """If this fails, requests that come at the same moment pass the limit together."""
    for options in (None, redis_options()):
        async with Counters(options) as counters:
            granted: list[bool] = []

            async def one(counters: Counters = counters, granted: list[bool] = granted) -> None:
                granted.append((await counters.take(RateLimitItemPerMinute(10), "x")).granted)

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(one)
            assert sum(granted) == 10


async def test_keys_of_counters_lie_under_the_prefix_and_end() -> None:
    """If this fails, counters fill the Redis, or another program's keys are counted."""
    import redis.asyncio  # noqa: PLC0415 - only this test needs it

    options = redis_options()
    async with Counters(options) as counters, redis.asyncio.Redis.from_url(options.url) as client:
        await counters.take(RateLimitItemPerSecond(10), "tenant/acme")
        found = [key async for key in client.scan_iter("*acme*")]
        mine = [key for key in found if key.startswith(options.key_prefix.encode())]

        assert mine
        for key in mine:
            assert 0 < await client.pttl(key) <= 3000


async def test_without_its_redis_a_service_counts_alone(tmp_path: Any) -> None:
    """If this fails, an outage of Redis opens all limits, or stops a service that could answer."""
    with redis_server(tmp_path) as server:
        options = RedisOptions(server.url, key_prefix="x", connect_seconds=0.2, command_seconds=0.2)
        now = ManualClock()
        async with Counters(options, monotonic=now) as counters:
            item = RateLimitItemPerMinute(2)
            assert (await counters.take(item, "a")).left == 1
            for stop, start in (
                (RedisServer.kill, RedisServer.start),
                (RedisServer.pause, RedisServer.resume),
            ):
                stop(server)
                with anyio.fail_after(10):
                    await counters.take(item, "b")
                    await counters.take(item, "b")
                    assert not (await counters.take(item, "b")).granted
                start(server)
                now.advance(5)
                assert (await counters.take(item, f"c-{stop.__name__}")).left == 1


# -- wrong keys


async def test_an_address_that_guesses_is_slowed(clock: ManualClock) -> None:
    """If this fails, keys can be guessed at full speed."""
    async with bench(keyed(max_wrong_keys_per_minute=5)) as api:

        async def ask(key: str | None) -> httpx.Response:
            return await api.client.get(f"{PREFIX}/presets", headers={"X-API-Key": key} if key else {})

        assert (await ask(KEY)).status_code == 200
        for number in range(5):
            assert_problem(await ask(f"wrong-key-{number}"), 401, "UNAUTHORIZED")
        refused = await ask("wrong-key-6")
        assert_problem(refused, 429, "RATE_LIMITED", "5 wrong API keys")
        assert 1 <= int(refused.headers["retry-after"]) <= 60

        assert_problem(await ask(OTHER_KEY), 429, "RATE_LIMITED")
        assert (await ask(KEY)).status_code == 200, "who was there before is not shut out by a neighbour"
        assert_problem(await ask(None), 401, "UNAUTHORIZED")
        clock.advance(121)
        assert (await ask(OTHER_KEY)).status_code == 200


async def test_no_key_is_no_guess(clock: ManualClock) -> None:
    """If this fails, a probe without a key shuts out its neighbours."""
    async with bench(keyed(max_wrong_keys_per_minute=2)) as api:
        for _ in range(5):
            assert_problem(await api.client.get(f"{PREFIX}/presets"), 401, "UNAUTHORIZED")
        answer = await api.client.get(f"{PREFIX}/presets", headers={"X-API-Key": KEY})
        assert answer.status_code == 200


async def test_addresses_are_counted_by_themselves(clock: ManualClock) -> None:
    """If this fails, one guesser shuts out everybody, or gets a new count with each header or address."""
    settings = keyed(
        max_wrong_keys_per_minute=1,
        trusted_proxies=Settings.from_environment(
            {"DEDUP2D_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}
        ).trusted_proxies,
    )
    async with bench(settings) as api:

        async def ask(peer: str, forwarded: str = "") -> int:
            transport = httpx.ASGITransport(api.app, client=(peer, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                headers = {"X-API-Key": make_key().text, "X-Forwarded-For": forwarded}
                return (await client.get(f"{PREFIX}/presets", headers=headers)).status_code

        assert [await ask("192.0.2.1"), await ask("192.0.2.1"), await ask("192.0.2.2")] == [401, 429, 401]
        assert [await ask("192.0.2.3", "198.51.100.1"), await ask("192.0.2.3", "198.51.100.2")] == [401, 429]
        assert [await ask("127.0.0.1", "198.51.100.1"), await ask("127.0.0.1", "198.51.100.2")] == [401, 401]
        assert await ask("127.0.0.1", "1.1.1.1, 198.51.100.1, 10.2.3.4") == 429
        assert [await ask("2001:db8::1"), await ask("2001:db8::2:1"), await ask("2001:db8:0:1::1")] == [
            401,
            429,
            401,
        ]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, 127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1, 127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
    ],
)
def test_the_address_of_a_client(peer: str, forwarded: str, address: str) -> None:
    """If this fails, a client chooses the address that its wrong keys are counted for."""
    trusted = Settings.from_environment({"DEDUP2D_TRUSTED_PROXIES": "127.0.0.1"}).trusted_proxies
    scope = {"type": "http", "client": (peer, 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}

    assert client_address(scope, trusted) == address
    assert client_address({**scope, "client": None}, ()) == ""
    assert same_client("::ffff:192.0.2.1") == same_client("192.0.2.1")


# -- uploads, jobs and the index


async def test_uploads_of_a_tenant_can_be_smaller() -> None:
    """If this fails, a tenant's own limit of uploads is not kept, or holds for others."""
    settings = keyed(tenant_limits={"first": TenantLimits(max_upload_bytes=1000)})
    async with bench(settings, key=KEY) as api:
        for query in ({}, {"async": "true"}):
            assert (await api.search(("a.png", png_of(1000)), **query)).status_code in (200, 202)
            refused = await api.search(("a.png", png_of(1001)), **query)
            assert_problem(refused, 413, "FILE_TOO_LARGE", "1,000 bytes")
        large = {"file": ("a.png", png_of(300_000))}
        assert_problem(await api.client.post(f"{PREFIX}/index/add", files=large), 413, "FILE_TOO_LARGE")
        api.client.headers["X-API-Key"] = OTHER_KEY
        assert (await api.client.post(f"{PREFIX}/index/add", files=large)).status_code == 200


async def test_an_index_can_be_full() -> None:
    """If this fails, one tenant fills the disk of all."""
    settings = keyed(max_drawings_per_tenant=2, tenant_limits={"other": TenantLimits(max_drawings=3)})
    async with bench(settings, key=KEY) as api:

        async def add(number: int, key: str) -> httpx.Response:
            files = {"file": (f"{number}.png", png_of(100 + number))}
            return await api.client.post(f"{PREFIX}/index/add", files=files, headers={"X-API-Key": key})

        for key, most in ((KEY, 2), (OTHER_KEY, 3)):
            answers = [await add(number, key) for number in range(most + 1)]
            assert [answer.status_code for answer in answers] == [200] * most + [507]
            assert_problem(
                answers[-1], 507, "INDEX_FULL", f"{most} drawings", "DEDUP2D_MAX_DRAWINGS_PER_TENANT"
            )


# -- the audit log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Give a stream, and put the logging of the process back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_changes_of_the_index_are_written_down(stream: io.StringIO) -> None:
    """If this fails, nobody can say who removed a drawing."""
    configure_logging(level="error", form="json", stream=stream)
    async with bench(keyed(), key=KEY) as api:
        added = await api.client.post(f"{PREFIX}/index/add", files={"file": ("secret-name.png", PNG)})
        drawing_id = added.json()["drawing_id"]
        removed = await api.client.delete(f"{PREFIX}/index/drawings/{drawing_id}")
        missing = await api.client.delete(f"{PREFIX}/index/drawings/{drawing_id}")
        rebuilt = await api.client.post(f"{PREFIX}/index/rebuild")
        await api.client.get(f"{PREFIX}/index/drawings")

    assert missing.status_code == 404
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["index.add", "index.remove", "index.rebuild"]
    for line, answer in zip(lines, (added, removed, rebuilt), strict=True):
        assert (line["logger"], line["who"], line["tenant"]) == ("dedup2d.audit", "env-1", "first")
        assert line["request_id"] == answer.headers["x-request-id"]
    assert lines[0]["drawing_ids"] == [drawing_id]
    assert lines[1]["drawing_id"] == drawing_id
    assert KEY not in stream.getvalue()
    assert "secret-name" not in stream.getvalue()


async def test_changes_of_the_configuration_are_written_down(stream: io.StringIO) -> None:
    """If this fails, nobody can say who changed how a tenant searches."""
    configure_logging(level="error", form="json", stream=stream)
    async with bench(keyed(), key=KEY) as api:
        done = await api.client.put(f"{PREFIX}/config", json={"preset": "loose", "max_results": 7})
        await api.client.get(f"{PREFIX}/config")
        refused = await api.client.put(f"{PREFIX}/config", json={"max_results": 0})
        gone = await api.client.delete(f"{PREFIX}/config")

    assert refused.status_code == 400
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["config.set", "config.delete"]
    for line, answer in zip(lines, (done, gone), strict=True):
        assert (line["logger"], line["who"], line["tenant"]) == ("dedup2d.audit", "env-1", "first")
        assert line["request_id"] == answer.headers["x-request-id"]
    assert (lines[0]["preset"], lines[0]["parameters"]) == ("loose", {"max_results": 7})


async def test_changes_that_failed_are_not_written_down(stream: io.StringIO) -> None:
    """If this fails, the audit log tells of what never happened."""
    configure_logging(level="critical", form="json", stream=stream)
    async with bench(keyed(), vision=failing(IndexFullError(1), "add"), key=KEY) as api:
        answer = await api.client.post(f"{PREFIX}/index/add", files={"file": ("a.png", PNG)})

    assert_problem(answer, 507, "INDEX_FULL")
    assert "index.add" not in stream.getvalue()


async def test_without_keys_the_audit_log_says_so(stream: io.StringIO) -> None:
    """If this fails, changes of a service without keys are not written down."""
    configure_logging(level="error", form="json", stream=stream)
    async with bench() as api:
        await api.client.post(f"{PREFIX}/index/rebuild")

    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["who"], line["tenant"]) == ("no key", "default")
