"""URLs that the callback guard refuses by their text alone, and that no spelling leads past it."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from dedup2d.callbacks.guard import GuardOptions, Refusal, check_url, connector
from dedup2d.errors import BlockedAddressError, CallbackUrlError, ConfigurationError
from tests.callback_canary import recorded_dials
from tests.callback_spellings import INSIDE_HOSTS, LOOPBACK_HOSTS, REFUSED

PORT = 8055
OPTIONS = GuardOptions(allow_http=True, ports=frozenset({80, 443, PORT}))


def shown_id(url: str) -> str:
    return ascii(url)[1:60]


def test_every_reason_is_documented() -> None:
    """If this fails, an operator sees a reason in the metrics that no page explains."""
    page = (Path(__file__).parent.parent / "docs" / "callbacks.md").read_text()

    for reason in Refusal:
        assert f"`{reason}`" in page, reason


def test_the_table_is_long_and_has_no_doubles() -> None:
    """If this fails, spellings were lost from the table that shows what is refused."""
    assert len(REFUSED) == len(set(REFUSED))
    assert len(LOOPBACK_HOSTS) >= 120
    assert len(REFUSED) >= 270


@pytest.mark.parametrize("url", REFUSED, ids=shown_id)
def test_refused_with_a_reason_and_without_what_may_be_secret(url: str) -> None:
    """If this fails, a URL that leads inside is taken, or its refusal tells a secret or nothing useful."""
    with pytest.raises(CallbackUrlError) as refused:
        check_url(url.replace("{port}", str(PORT)), OPTIONS)

    message = str(refused.value)
    assert refused.value.reason in set(Refusal)
    assert message.startswith("callback_url is not allowed (")
    assert ": give " in message
    assert "s3cret" not in message
    assert len(message) < 400
    assert message.isprintable()


async def attempt(url: str, made: aiohttp.TCPConnector) -> Exception | None:
    async with aiohttp.ClientSession(connector=made) as session:
        try:
            await session.post(url, data=b"{}")
        except (aiohttp.ClientError, BlockedAddressError, ValueError, OSError) as error:
            return error
    return None


async def test_no_spelling_is_dialled_though_no_url_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, what the HTTP client makes of a URL leads past the connector."""
    async with recorded_dials(monkeypatch) as dials:
        options = GuardOptions(allow_http=True, ports=frozenset({80, 443, dials.canary.port}))
        dialled = []
        for url in REFUSED:
            await attempt(url.replace("{port}", str(dials.canary.port)), connector(options))
            dialled += [(url, dial) for dial in dials.inside]
            dials.made.clear()

        assert dialled == []
        assert dials.canary.reached == []


async def test_without_the_guard_the_same_table_reaches_the_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the test above would pass without any guard: nothing that it tries goes anywhere."""
    async with recorded_dials(monkeypatch) as dials:
        for url in REFUSED:
            await attempt(url.replace("{port}", str(dials.canary.port)), aiohttp.TCPConnector())

        assert len(dials.canary.reached) > 20
        assert len(dials.inside) > 80
        hosts = {host for host, _ in dials.inside}
        assert {"127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "fd00:ec2::254"} <= hosts
        assert hosts & {"::ffff:7f00:1", "::ffff:127.0.0.1"}  # Python 3.13 writes it so


ALLOWED = {
    "https://hooks.example.com": "https://hooks.example.com/",
    "HTTPS://Hooks.Example.COM/Path?Q=1": "https://hooks.example.com/Path?Q=1",
    "https://hooks.example.com.": "https://hooks.example.com/",
    "https://hooks.example.com:443/a": "https://hooks.example.com/a",
    "http://hooks.example.com:443/a": "http://hooks.example.com:443/a",
    "http://hooks.example.com:80?x=http://127.0.0.1/": "http://hooks.example.com/?x=http://127.0.0.1/",
    "https://hooks.example.com/a/../b/%2e%2e/?c=%0D%0A@x:y": "https://hooks.example.com/a/../b/%2e%2e/?c=%0D%0A@x:y",
    "https://xn--bcher-kva.example/": "https://xn--bcher-kva.example/",
    "https://under_score.example/": "https://under_score.example/",
    "https://1.example/": "https://1.example/",
    "https://127.0.0.1.example.com/": "https://127.0.0.1.example.com/",
    "https://localhost.example.com/": "https://localhost.example.com/",
    "https://93.184.216.34/": "https://93.184.216.34/",
    "https://[2606:2800:0220:1:248:1893:25C8:1946]/": "https://[2606:2800:220:1:248:1893:25c8:1946]/",
}


@pytest.mark.parametrize(("url", "called"), ALLOWED.items())
def test_public_hosts_are_allowed_in_one_spelling(url: str, called: str) -> None:
    """If this fails, honest receivers are refused, or one receiver is called under several names."""
    assert check_url(url, OPTIONS) == called
    assert check_url(called, OPTIONS) == called


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://name:secret@public.example/", Refusal.USER_INFO),
        ("http://[2606:2800::1%25eth0]/", Refusal.ZONE),
        ("http://[::ffff:169.254.169.254]/", Refusal.METADATA),
        ("http://metadata.google.internal/", Refusal.METADATA),
        ("http://db.internal/", Refusal.INTERNAL_NAME),
        ("http://2130706433/", Refusal.HOST),
        ("http://public.example/#x", Refusal.SYNTAX),
    ],
)
def test_the_reason_names_what_is_wrong(url: str, reason: Refusal) -> None:
    """If this fails, metrics count an attack as a typing error, or the client is told something wrong."""
    with pytest.raises(CallbackUrlError) as refused:
        check_url(url, OPTIONS)

    assert refused.value.reason == reason
    assert "secret" not in str(refused.value)


def test_http_is_refused_unless_allowed_and_ports_are_a_list() -> None:
    """If this fails, results travel unencrypted, or callbacks knock at any port of the world."""
    options = GuardOptions(ports=frozenset({443, 8443}))

    assert check_url("https://a.example:8443/", options) == "https://a.example:8443/"
    with pytest.raises(CallbackUrlError, match=r"scheme is http\): give https://") as scheme:
        check_url("http://a.example/", options)
    with pytest.raises(CallbackUrlError, match=r"port is '80'\): give one of the ports 443, 8443") as port:
        check_url("https://a.example:80/", options)
    with pytest.raises(CallbackUrlError, match="port is '443'"):
        check_url("https://a.example/", GuardOptions(ports=frozenset({8443})))
    assert (scheme.value.reason, port.value.reason) == (Refusal.SCHEME, Refusal.PORT)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("hooks.example.com", True),
        ("HOOKS.example.com.", True),
        ("a.partner.example", True),
        ("a.b.partner.example", True),
        ("partner.example", False),
        ("evilpartner.example", False),
        ("hooks.example.com.evil.example", False),
        ("xhooks.example.com", False),
        ("93.184.216.34", True),
        ("1.1.1.1", False),
        ("[2606:2800:220:1:248:1893:25c8:1946]", True),
        ("10.0.0.5", False),
        ("db.internal", False),
    ],
)
def test_the_allowlist_names_hosts_or_suffixes_and_only_narrows(host: str, allowed: bool) -> None:
    """If this fails, a look-alike of a listed host is called, or listing an inner address opens it."""
    listed = ("Hooks.Example.com", "*.partner.example.", "93.184.216.34", "10.0.0.5", "db.internal")
    options = GuardOptions(allowlist=(*listed, "[2606:2800:220:1:248:1893:25C8:1946]"))

    if allowed:
        assert check_url(f"https://{host}/", options)
    else:
        with pytest.raises(CallbackUrlError):
            check_url(f"https://{host}/", options)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "*.*.com",
        "a*.example",
        "https://a.example",
        "a.example:443",
        "a b",
        "127.1",
        "caf\u00e9",
    ],
)
def test_a_wrong_allowlist_stops_the_start(entry: str) -> None:
    """If this fails, a typing error in the allowlist allows everything, or silently nothing."""
    with pytest.raises(ConfigurationError, match="DEDUP2D_CALLBACK_ALLOWLIST"):
        GuardOptions(allowlist=(entry,))


def test_wrong_ports_and_networks_stop_the_start() -> None:
    """If this fails, a typing error in these settings shows only when a callback fails."""
    for ports in (frozenset(), frozenset({0}), frozenset({65536})):
        with pytest.raises(ConfigurationError, match="DEDUP2D_CALLBACK_PORTS"):
            GuardOptions(ports=ports)
    with pytest.raises(ConfigurationError, match="DEDUP2D_CALLBACK_BLOCKED_NETWORKS"):
        GuardOptions(blocked_networks=("10.0.0.1/8",))


def test_development_opens_loopback_and_private_networks_only() -> None:
    """If this fails, nobody can try callbacks at home, or doing so opens the metadata of the cloud."""
    options = GuardOptions(block_private_networks=False, allow_http=True)

    for host in ("localhost", "127.0.0.1", "[::1]", "10.1.2.3", "[fd12::1]", "receiver", "receiver.internal"):
        assert check_url(f"http://{host}/", options) == f"http://{host}/"
    closed = [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "metadata.google.internal",
    ]
    closed += [
        "0.0.0.0",
        "100.64.0.1",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "127.1",
        "2130706433",
    ]
    for host in closed:
        with pytest.raises(CallbackUrlError):
            check_url(f"http://{host}/", options)


def test_networks_of_the_operator_are_refused_too() -> None:
    """If this fails, a company whose inner machines have public addresses cannot protect them."""
    options = GuardOptions(blocked_networks=("93.184.216.0/24", "2606:2800::/32"))

    assert check_url("https://1.1.1.1/", options)
    for host in ("93.184.216.34", "[2606:2800:220:1:248:1893:25c8:1946]"):
        with pytest.raises(CallbackUrlError) as refused:
            check_url(f"https://{host}/", options)
        assert refused.value.reason == Refusal.BLOCKED


PIECES = st.sampled_from(
    [
        *LOOPBACK_HOSTS,
        *INSIDE_HOSTS,
        *"@:/?#[]\\.%",
        "http:",
        "https://",
        "a.example",
        "\u3002",
        " ",
        "\t",
        "%2e",
        ":80",
    ]
)
URLS = st.one_of(
    st.text(max_size=40),
    st.lists(PIECES, max_size=8).map("".join),
    st.lists(PIECES, max_size=6).map(lambda parts: "https://" + "".join(parts)),
    st.builds(
        "https://{}/{}".format, st.from_regex(r"[a-z0-9.%\[\]:-]{1,20}", fullmatch=True), st.text(max_size=5)
    ),
)


@settings(max_examples=1500, deadline=None)
@given(URLS)
def test_what_is_allowed_is_read_alike_by_every_parser(url: str) -> None:
    """If this fails, the host that was checked is not the host that the HTTP client dials."""
    try:
        called = check_url(url, OPTIONS)
    except CallbackUrlError:
        return

    for text in (url, called):
        dialled, read = URL(text), urlsplit(text)
        host = (dialled.raw_host or "").removesuffix(".")
        assert host == (read.hostname or "").removesuffix(".") or ":" in host
        assert called.startswith(f"{dialled.scheme}://{f'[{host}]' if ':' in host else host}")
        assert dialled.port == (read.port or {"http": 80, "https": 443}[read.scheme])
        assert dialled.raw_user is None is read.username
        assert check_url(str(dialled.origin()), OPTIONS) == str(URL(called).origin()) + "/"
    assert _is_canonical(URL(called).raw_host or "")


def _is_canonical(host: str) -> bool:
    """Whether the C library takes *host* for no number, or for the very address that it spells."""
    try:
        found = socket.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST)
    except OSError:
        return True
    return {address[0] for *_, address in found} == {host}
