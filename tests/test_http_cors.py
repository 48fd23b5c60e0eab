"""Pages of other origins: off unless set, answered before the key is looked at, never with cookies."""

from __future__ import annotations

import pytest
from attrs import evolve

from dedup2d.errors import ConfigurationError
from dedup2d.settings import Settings
from dedup2d_http.routing import PREFIX
from tests.http_support import KEY, assert_problem, bench, keyed

APP = "https://app.example.com"
PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-api-key, idempotency-key, prefer, traceparent",
}


async def test_it_is_off_unless_it_is_set() -> None:
    """If this fails, pages of any site may read answers of the API."""
    async with bench(keyed()) as api:
        preflight = await api.client.options(f"{PREFIX}/search", headers=PREFLIGHT)
        answer = await api.client.get(f"{PREFIX}/jobs", headers={"Origin": APP, "X-API-Key": KEY})

    assert_problem(preflight, 401, "UNAUTHORIZED")
    assert answer.status_code == 200
    for each in (preflight, answer):
        assert not [name for name in each.headers if name.startswith("access-control")]


async def test_a_preflight_needs_no_key_and_the_request_does() -> None:
    """If this fails, browsers cannot call the API although it is set, or get around the key."""
    async with bench(keyed(cors_origins=(APP,))) as api:
        preflight = await api.client.options(f"{PREFIX}/search", headers=PREFLIGHT)
        answer = await api.client.get(f"{PREFIX}/jobs", headers={"Origin": APP, "X-API-Key": KEY})
        without = await api.client.get(f"{PREFIX}/jobs", headers={"Origin": APP})

    assert (preflight.status_code, preflight.content) == (204, b"")
    allowed = preflight.headers["access-control-allow-headers"].lower()
    for name in ("x-api-key", "authorization", "idempotency-key", "prefer", "traceparent"):
        assert name in allowed
    for each in (preflight, answer, without):
        assert each.headers["access-control-allow-origin"] == APP
        assert "Origin" in each.headers["vary"]
        assert "access-control-allow-credentials" not in each.headers
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert_problem(without, 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "https://app.example.com.evil.example"},
        {"Origin": "http://app.example.com"},
        {"Origin": "https://app.example.com:8443"},
        {"Origin": "null"},
        {"Access-Control-Request-Method": "TRACE"},
        {"Access-Control-Request-Headers": "x-api-key, cookie"},
        {"Access-Control-Request-Private-Network": "true"},
    ],
)
async def test_what_was_not_allowed_is_refused(changed: dict[str, str]) -> None:
    """If this fails, an origin that only looks like one that is set may call, or a method of nobody's."""
    async with bench(keyed(cors_origins=(APP,))) as api:
        preflight = await api.client.options(f"{PREFIX}/search", headers={**PREFLIGHT, **changed})
        answer = await api.client.get(
            "/livez", headers={"Origin": changed.get("Origin", "https://other.example")}
        )

    assert_problem(preflight, 403, "CROSS_ORIGIN", "DEDUP2D_CORS_ORIGINS")
    assert "access-control-allow-origin" not in preflight.headers
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_a_service_without_keys_trusts_named_origins_only() -> None:
    """If this fails, any page that its user visits may search without a key, or no page at all may."""
    for origins, status in (((APP,), 200), (("*",), 403), ((), 403)):
        async with bench(Settings(cors_origins=origins)) as api:
            answer = await api.client.get(
                f"{PREFIX}/jobs", headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"}
            )
        assert answer.status_code == status


async def test_every_origin_where_that_was_asked_for() -> None:
    """If this fails, an API that is open to all pages is not, or gives cookies away."""
    async with bench(evolve(keyed(), cors_origins=("*",))) as api:
        answer = await api.client.get(f"{PREFIX}/jobs", headers={"Origin": APP, "X-API-Key": KEY})

    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "value",
    ["app.example.com", "https://app.example.com/", "https://a b", "ftp://a", "https://u:p@a", "null"],
)
def test_only_origins_are_origins(value: str) -> None:
    """If this fails, a setting that can never fit is taken, and nobody learns why pages are refused."""
    with pytest.raises(ConfigurationError, match="DEDUP2D_CORS_ORIGINS"):
        Settings.from_environment({"DEDUP2D_CORS_ORIGINS": value})
