"""Random values of what attackers write most into: callback URLs, page tokens, keys, metadata, geometry."""

from __future__ import annotations

import socket
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import quote_from_bytes, urlsplit

import anyio
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from dedup2d.callbacks.sending import CallbackSender
from dedup2d.keys import KeySecrets, Scope
from dedup2d.keys.making import KeyMaker
from dedup2d.keys.memory import MemoryKeyStore
from dedup2d.keys.ring import KeyRing
from dedup2d.paging import make_token
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routing import PREFIX
from tests.http_support import PNG, Bench, bench, keyed

FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

SCHEMES = ["https", "http", "HTTPS", "https:", "ftp", "file", "javascript", ""]
HOSTS = [
    "example.com",
    "EXAMPLE.com.",
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "169.254.169.254",
    "localhost",
    "bücher.example",
    "\uff11\uff12\uff17.0.0.1",
    "a" * 64 + ".com",
    "%31%32%37.0.0.1",
]
USERS = ["", "", "user@", "user:password@", "example.com@", "@", "example.com\\@"]
PORTS = ["", ":443", ":80", ":22", ":0443", ":", ":99999", ":443@127.0.0.1"]
RESTS = ["", "/", "/hook?job=1", "/../%2e", "#part", "\\127.0.0.1", "?next=http://127.0.0.1/", "/\n", "/ "]
NOISE = ["", "", "\t", "\0", "\r\n", " ", "@", "\\", "#", "%", "\u200b", "\u3002", "\ud800"]

built = st.tuples(
    *(st.sampled_from(each) for each in (SCHEMES, NOISE, USERS, HOSTS, NOISE, PORTS, RESTS, NOISE))
).map(lambda p: f"{p[1]}{p[0]}://{p[2]}{p[3]}{p[4]}{p[5]}{p[6]}{p[7]}")
callback_urls = st.one_of(built, built, st.text(max_size=60), st.text(max_size=30).map("https://".__add__))


class Public(AbstractResolver):
    """Knows every name, by an address that nobody dials here: jobs never run, so nothing is called."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host="93.184.215.14", port=port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None: ...


def encoded(text: str) -> str:
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["code"] in PROBLEMS


@FUZZ
@given(st.lists(callback_urls, min_size=1, max_size=8))
def test_any_callback_url(urls: list[str]) -> None:
    """If this fails, a callback URL brings a 500, or is taken although parsers read it in two ways."""

    async def run() -> None:
        async with bench(concurrency=0, callbacks=CallbackSender(resolver=Public())) as api:
            for url in urls:
                answer = await api.client.post(
                    f"{PREFIX}/search?callback_url={encoded(url)}", files={"file": ("a.png", PNG)}
                )
                check(answer)
                if answer.status_code == 202:
                    assert_plain(url)
                else:
                    assert answer.json()["code"] in {"CALLBACK_URL_INVALID", "INVALID_PARAMETER"}
                    assert await api.stored_files() == await jobs_of(api)

    anyio.run(run)


async def jobs_of(api: Bench) -> int:
    total: int = (await api.client.get(f"{PREFIX}/jobs")).json()["total"]
    return total


def assert_plain(url: str) -> None:
    """Make sure that *url* names one public host to every parser."""
    one, other = urlsplit(url), URL(url)
    assert one.scheme == other.scheme == "https"
    assert (one.hostname or "").rstrip(".") == (other.host or "").rstrip(".")
    assert one.username is one.password is other.user is None
    assert (one.port or 443) == other.port
    assert other.port in {80, 443}
    try:
        address = ip_address(one.hostname or "")
    except ValueError:
        assert "." in (one.hostname or "")
    else:
        assert address.is_global


def bent(text: str, places: list[tuple[int, str]]) -> str:
    """Return *text* with other characters at some places."""
    for place, other in places:
        at = place % (len(text) + 1)
        text = text[:at] + other + text[at + 1 :]
    return text


changes = st.lists(
    st.tuples(st.integers(0, 300), st.text(max_size=2) | st.sampled_from(["", "A", "_", "=", "=="])),
    max_size=3,
)
parts = st.binary(max_size=40) | st.text(max_size=20).map(str.encode)
resealed = st.tuples(st.sampled_from(["jobs", "drawings", ""]), st.floats(), st.text(max_size=20)).map(
    lambda place: lambda _: make_token(*place)
)
bends = st.one_of(
    changes.map(lambda each: lambda token: bent(token, each)),
    parts.map(lambda raw: lambda _: urlsafe_b64encode(raw).decode()),
    parts.map(lambda raw: lambda token: urlsafe_b64encode(urlsafe_b64decode(token + "==") + raw).decode()),
    resealed,
)


@FUZZ
@given(st.lists(bends, min_size=1, max_size=10))
def test_any_page_token(bend: list[Callable[[str], str]]) -> None:
    """If this fails, a page token brings a 500, or one that was changed is taken for a good one."""

    async def run() -> None:
        async with bench(concurrency=0) as api:
            for name in ("a.png", "b.png"):
                await api.submit((name, PNG))
                await api.client.post(f"{PREFIX}/index/add", files={"file": (name, PNG + name.encode())})
            for kind in ("jobs", "index/drawings"):
                first = (await api.client.get(f"{PREFIX}/{kind}?limit=1")).json()
                for each in bend:
                    token = each(first["next_page_token"])
                    answer = await api.client.get(f"{PREFIX}/{kind}?limit=1&page_token={encoded(token)}")
                    check(answer)
                    if answer.status_code != 200:
                        assert answer.json()["code"] == "INVALID_PARAMETER"

    anyio.run(run)


@FUZZ
@given(st.lists(st.tuples(changes, st.sampled_from(["X-API-Key", "Authorization"])), max_size=8))
def test_any_key_but_the_right_one(given_keys: list[tuple[list[tuple[int, str]], str]]) -> None:
    """If this fails, a key that is almost right opens the API, or brings a 500."""

    async def run() -> None:
        store, secrets = MemoryKeyStore(), KeySecrets([b"s" * 32])
        async with KeyRing({}, store=store, secrets=lambda: secrets) as ring:
            made = await KeyMaker(store, secrets).create("first", list(Scope))
            async with bench(keyed(max_wrong_keys_per_minute=0), keys=ring) as api:
                for places, header in given_keys:
                    key = bent(made.text, places)
                    if "\r" in key or "\n" in key or "\0" in key:
                        continue
                    value = key if header == "X-API-Key" else f"Bearer {key}"
                    raw = value.encode("utf-8", "surrogatepass")
                    answer = await api.client.get(f"{PREFIX}/jobs", headers=[(header.encode(), raw)])
                    check(answer)
                    assert answer.status_code == (200 if key.strip() == made.text else 401)

    anyio.run(run)


@FUZZ
@given(
    st.sampled_from(["metadata", "geom_json"]),
    st.one_of(
        st.text(max_size=60), st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=9).map(str)
    ),
    st.integers(65, 20_000),
)
def test_any_field(name: str, value: str, depth: int) -> None:
    """If this fails, JSON that is deep, broken or not JSON at all brings a 500."""
    value = f"x{value}"  # what is empty or an object would be taken

    async def run() -> None:
        async with bench(concurrency=0) as api:
            for text in (value, "[" * depth + value, '{"a":' * depth + "1" + "}" * depth):
                for path in ("index/add", "search"):
                    raw = text.encode("utf-8", "surrogatepass")
                    answer = await api.client.post(
                        f"{PREFIX}/{path}", files={"file": ("a.png", PNG)}, data={name: raw}
                    )
                    check(answer)
                    if name == "geom_json":
                        assert "geom_json" in answer.json()["detail"]

    anyio.run(run)
