"""Random requests: whatever comes, the answer is one that the reference has, never a 5xx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote_from_bytes

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dedup2d_http.params import SEARCH_QUERY, STATUS_LISTING
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX
from tests.http_support import KEY, PNG, Bench, bench, keyed

FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
NAMES = sorted({*SEARCH_QUERY, *STATUS_LISTING, "user_name", "upload_to_s3", "nothing"})
WORDS = [
    "true",
    "0",
    "1",
    "-1",
    "500",
    "501",
    "0.5",
    "1e309",
    "nan",
    "fast",
    "precise",
    "strict",
    "off",
    "pending",
]
PATHS = [resource.path for resource in RESOURCES]
OK = {200, 202, 204, 304}

some_text = st.one_of(
    st.sampled_from(WORDS), st.text(max_size=12), st.integers().map(str), st.floats().map(str)
)
some_bytes = st.one_of(
    some_text.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=12)
)
parameter = st.tuples(st.sampled_from(NAMES), some_bytes)
queries = st.lists(parameter, max_size=5).map(
    lambda pairs: "&".join(f"{name}={quote_from_bytes(value)}" for name, value in pairs)
)
segments = st.one_of(st.sampled_from(["d0", "..", ".", "%00", "%2e%2e%2f"]), some_bytes.map(quote_from_bytes))
header_names = st.sampled_from(
    [b"Prefer", b"If-None-Match", b"Idempotency-Key", b"X-Request-Id", b"X-API-Key", b"Content-Type"]
)
header_bytes = st.binary(max_size=20).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"").strip())
headers = st.lists(st.tuples(header_names, header_bytes), max_size=3)
parts = st.sampled_from(
    [
        b"--B\r\n",
        b"\r\n--B\r\n",
        b"\r\n--B--\r\n",
        b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n',
        b'Content-Disposition: form-data; name="metadata"\r\n',
        b'Content-Disposition: form-data; name="geom_json"; filename="g.json"\r\n',
        b'Content-Disposition: form-data; name="geom_json"\r\n',
        b'{"entities": [' + b"[" * 2000,
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%00",
        b"Content-Type: image/png\r\n",
        b"\r\n",
        b"\r",
        b"{}",
        b'{"a": "b"}',
        PNG,
    ]
)
bodies = st.lists(st.one_of(parts, st.binary(max_size=8)), max_size=12).map(b"".join)


def cut(body: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({place % (len(body) + 1) for place in at})
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


async def stream(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def check(api: Bench, method: str, url: str, **more: object) -> None:
    answer = await api.client.request(method, url, **more)  # type: ignore[arg-type]  # what httpx takes
    assert answer.status_code < 500, answer.text
    if answer.status_code not in OK and method != "HEAD":
        assert answer.json()["code"] in PROBLEMS, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(PATHS), segments, queries, headers), max_size=10))
def test_any_query_and_header(calls: list[tuple[str, str, str, list[tuple[bytes, bytes]]]]) -> None:
    """If this fails, a query, an id or a header that nobody thought of brings a 500."""

    async def run() -> None:
        async with bench(concurrency=0) as api:
            for path, segment, query, given_headers in calls:
                url = f"{path.format(job_id=segment, drawing_id=segment, file_hash=segment)}?{query}"
                for method in ("GET", "HEAD", "POST", "DELETE"):
                    await check(api, method, url, headers=given_headers)

    anyio.run(run)


@FUZZ
@given(st.lists(st.tuples(queries, headers), max_size=8))
def test_any_search(calls: list[tuple[str, list[tuple[bytes, bytes]]]]) -> None:
    """If this fails, a search with parameters that nobody thought of brings a 500."""

    async def run() -> None:
        async with bench(concurrency=0) as api:
            for query, given_headers in calls:
                own = [(name, value) for name, value in given_headers if name != b"Content-Type"]
                await check(
                    api, "POST", f"{PREFIX}/search?{query}", headers=own, files={"file": ("a.png", PNG)}
                )

    anyio.run(run)


@FUZZ
@given(st.lists(st.tuples(bodies, st.lists(st.integers(0, 500), max_size=5)), max_size=8))
def test_any_body(calls: list[tuple[bytes, list[int]]]) -> None:
    """If this fails, a body that nobody thought of brings a 500, or leaves a file behind."""

    async def run() -> None:
        async with bench(concurrency=0) as api:
            for body, places in calls:
                for path in ("search", "search?async=true", "index/add"):
                    await check(
                        api,
                        "POST",
                        f"{PREFIX}/{path}",
                        content=stream(cut(body, places)),
                        headers={"Content-Type": "multipart/form-data; boundary=B"},
                    )
            jobs = (await api.client.get(f"{PREFIX}/jobs")).json()["total"]
            assert await api.stored_files() == jobs

    anyio.run(run)


@FUZZ
@given(st.sampled_from(PATHS), st.binary(max_size=60), st.sampled_from([b"X-API-Key", b"Authorization"]))
def test_any_key(path: str, key: bytes, header: bytes) -> None:
    """If this fails, some key opens the API, or brings a 500."""

    async def run() -> None:
        async with bench(keyed()) as api:
            value = key.replace(b"\r", b"").replace(b"\n", b"")
            url = path.format(job_id="x", drawing_id="x", file_hash="x")
            for given in (value, b"Bearer " + value):
                answer = await api.client.get(url, headers=[(header, given)])
                if url.startswith("/api/") and given.strip() != KEY.encode():
                    assert answer.status_code == 401

    anyio.run(run)
