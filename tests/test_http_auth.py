"""Keys, tenants, and the guard of a service without keys."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from dedup2d.errors import ConfigurationError
from dedup2d.keys.environment import EnvironmentKeys
from dedup2d.settings import Settings
from dedup2d_http.auth import check_exposure, host_name, is_loopback
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX
from tests.http_support import KEY, OTHER_KEY, PNG, Bench, assert_problem, bench, keyed

GUARDED = [
    (method, resource.path.format(job_id="x", drawing_id="x", file_hash="x"))
    for resource in RESOURCES
    for method in (*resource.methods, "OPTIONS", "PATCH")
    if resource.path.startswith("/api/")
]
OPEN = ["/", "/health", "/livez", "/readyz", "/metrics"]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_every_route_under_the_prefix_needs_a_key(method: str, path: str) -> None:
    """If this fails, a route was added that anybody can call."""
    async with bench(keyed()) as api:
        answer = await api.client.request(method, path)

    assert_problem(answer, 401, "UNAUTHORIZED", "X-API-Key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="dedup2d"'


@pytest.mark.parametrize("path", OPEN)
async def test_what_operators_probe_needs_none(path: str) -> None:
    """If this fails, a load balancer or Prometheus is locked out."""
    async with bench(keyed()) as api:
        assert (await api.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("X-API-Key", KEY)],
        [("Authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer  {KEY} ")],
        [("X-API-Key", KEY), ("Authorization", f"Bearer {KEY}")],
    ],
)
async def test_ways_to_send_a_key(headers: list[tuple[str, str]]) -> None:
    """If this fails, a client with a valid key is refused."""
    async with bench(keyed()) as api:
        assert (await api.client.get(f"{PREFIX}/jobs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("X-API-Key", "wrong")],
        [("X-API-Key", "")],
        [("X-API-Key", KEY[:-1])],
        [("X-API-Key", KEY.upper())],
        [("X-API-Key", f"{KEY},{OTHER_KEY}")],
        [("X-API-Key", KEY), ("X-API-Key", OTHER_KEY)],
        [("X-API-Key", KEY), ("Authorization", "Bearer wrong")],
        [("Authorization", KEY)],
        [("Authorization", f"Basic {KEY}")],
        [("Authorization", "Bearer")],
    ],
)
async def test_keys_that_are_none(headers: list[tuple[str, str]]) -> None:
    """If this fails, somebody gets in without a valid key, or with two that disagree."""
    async with bench(keyed()) as api:
        answer = await api.client.get(f"{PREFIX}/jobs", headers=headers)

    assert_problem(answer, 401, "UNAUTHORIZED")
    assert KEY not in answer.text


async def test_a_key_of_any_bytes_is_only_wrong() -> None:
    """If this fails, a key with bytes beyond ASCII ends in a 500."""
    async with bench(keyed()) as api:
        answer = await api.client.get(f"{PREFIX}/jobs", headers=[(b"X-API-Key", b"\xff\xfe\x01")])

    assert_problem(answer, 401, "UNAUTHORIZED")


async def test_the_key_is_looked_at_before_the_body() -> None:
    """If this fails, anybody can make the service take in uploads."""
    async with bench(keyed()) as api:
        called: list[str] = []
        answer = await raw(api, called, [(b"host", b"x"), (b"content-length", b"1000000000")])

    assert answer["status"] == 401
    assert called == []
    assert (b"connection", b"close") in answer["headers"]


async def raw(api: Bench, called: list[str], headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """POST to the search as an ASGI server would, noting what is read; return the response's start."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        called.append("receive")
        return {"type": "http.request", "body": b"", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"{PREFIX}/search",
        "raw_path": f"{PREFIX}/search".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers, (b"content-type", b"multipart/form-data; boundary=b")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await api.app(scope, receive, send)
    return sent[0]


async def test_the_key_decides_the_tenant() -> None:
    """If this fails, a key acts for another tenant than its own."""
    async with bench(keyed()) as api:
        for key, tenant in ((KEY, "first"), (OTHER_KEY, "other")):
            api.client.headers["X-API-Key"] = key
            job = (await api.client.get(await api.submit())).json()

            assert job["tenant_id"] == tenant


def test_keys_are_kept_as_hashes() -> None:
    """If this fails, a dump of the process or a log of the object shows the keys."""
    keys = EnvironmentKeys({KEY: "first"})

    assert KEY not in repr(vars(keys))
    assert keys.find(KEY.encode()) is not None
    assert keys.find(b"") is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "[::1]",
        "[::1]:8000",
        "127.9.9.9",
    ],
)
async def test_without_keys_loopback_is_answered(host: str) -> None:
    """If this fails, the service cannot be used on the machine it runs on."""
    async with bench() as api:
        answer = await api.client.get(f"{PREFIX}/jobs", headers={"Host": host})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.0.7",
        "[::1",
        "::1]",
        "[fe80::1]",
        "0.0.0.0",
        "",
        "127.0.0.1@evil.example",
        "127.0.0.1, evil.example",
        "2130706433",
    ],
)
@pytest.mark.parametrize("path", [f"{PREFIX}/jobs", "/", "/metrics"])
async def test_without_keys_other_hosts_are_refused(host: str, path: str) -> None:
    """If this fails, a web page can read a local service through a name rebound to loopback."""
    async with bench() as api:
        answer = await api.client.get(path, headers={"Host": host})

    assert_problem(answer, 421, "HOST_NOT_ALLOWED", "DEDUP2D_ALLOWED_HOSTS")


async def test_two_hosts_are_refused() -> None:
    """If this fails, a proxy and the service can take different Host headers for the right one."""
    async with bench() as api:
        headers = httpx.Headers([("Host", "127.0.0.1"), ("Host", "evil.example")])
        answer = await api.client.get("/", headers=headers)

    assert_problem(answer, 421, "HOST_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("caller", "status"), [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("192.168.0.7", 401)]
)
async def test_without_keys_callers_from_other_machines_are_refused(caller: str, status: int) -> None:
    """If this fails, a service without keys is open to the network under a server that was set up wrongly."""
    async with bench() as api, calling_from(api, caller) as client:
        assert (await client.get("/livez")).status_code == status
    async with bench(keyed()) as api, calling_from(api, caller) as client:
        assert (await client.get("/livez")).status_code == 200


def calling_from(api: Bench, address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(api.app, client=(address, 1)), base_url="http://localhost"
    )


async def test_allowed_hosts_and_keys_open_the_guard() -> None:
    """If this fails, a service behind a proxy cannot be reached under its name."""
    named = {"Host": "drawings.internal:8443"}
    async with bench(Settings(allowed_hosts=("drawings.internal",))) as api:
        assert (await api.client.get(f"{PREFIX}/jobs", headers=named)).status_code == 200
    async with bench(keyed(), key=KEY) as api:
        assert (await api.client.get(f"{PREFIX}/jobs", headers=named)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_without_keys_pages_of_other_origins_are_refused(headers: dict[str, str]) -> None:
    """If this fails, any web page can add drawings to a local index, or rebuild it."""
    async with bench() as api:
        answer = await api.client.post(f"{PREFIX}/index/add", headers=headers, files={"file": ("a.png", PNG)})

        assert_problem(answer, 403, "CROSS_ORIGIN")
        assert "add" not in api.asked


async def test_a_page_of_the_same_origin_is_answered() -> None:
    """If this fails, the service's own page cannot call it."""
    async with bench() as api:
        headers = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
        answer = await api.client.post(f"{PREFIX}/index/rebuild", headers=headers)

    assert answer.status_code == 200


def test_without_keys_other_machines_are_kept_out() -> None:
    """If this fails, a service without keys is open to the network."""
    for host in ("127.0.0.1", "::1", "localhost"):
        check_exposure(host, keyed=False)
    check_exposure("0.0.0.0", keyed=True)
    for host in ("0.0.0.0", "::", "192.168.0.7", "drawings.internal", ""):
        with pytest.raises(ConfigurationError, match="DEDUP2D_API_KEYS"):
            check_exposure(host, keyed=False)


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("::1", ""), ("a:b", ""), ("", ""), (":80", ""), ("a@b", "")],
)
def test_host_names(host: str, name: str) -> None:
    """If this fails, a Host header is read as another host than the one that it names."""
    assert host_name(host) == name
    assert not is_loopback("")
