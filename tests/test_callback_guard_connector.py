"""The address that is dialled is the one that was checked: names, rebinding, redirects, proxies."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from dedup2d.callbacks.guard import (
    GuardOptions,
    Refusal,
    ThreadsResolver,
    check_resolved,
    check_url,
    connector,
)
from dedup2d.errors import BlockedAddressError, CallbackUrlError
from tests.callback_canary import PUBLIC, Dials, recorded_dials
from tests.dns_server import DnsResolver, DnsServer, dns_server

V4, OTHER_V4, V6 = PUBLIC


def options_for(dials: Dials, **more: Any) -> GuardOptions:
    return GuardOptions(allow_http=True, ports=frozenset({80, 443, dials.canary.port}), **more)


async def send(url: str, made: aiohttp.TCPConnector, **options: Any) -> int:
    async with aiohttp.ClientSession(connector=made) as session, session.post(url, **options) as response:
        return response.status


async def resolving(
    dials: Dials, server: DnsServer, host: str, **more: Any
) -> tuple[str, GuardOptions, aiohttp.TCPConnector]:
    options = options_for(dials, **more)
    url = check_url(f"http://{host}:{dials.canary.port}/hook", options)
    return url, options, connector(options, resolver=DnsResolver(server))


async def test_a_public_host_gets_through_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, no callback is delivered at all, or a name is looked up again between check and dial."""
    async with recorded_dials(monkeypatch) as dials, dns_server({"hooks.example": [[V4]]}) as server:
        url, _, made = await resolving(dials, server, "hooks.example")

        assert await send(url, made) == 200
        assert dials.made == [(V4, dials.canary.port)]
        assert dials.receiver.reached == [f"hooks.example:{dials.canary.port} /hook"]
        assert server.asked == {("hooks.example", "A"): 1, ("hooks.example", "AAAA"): 1}
        assert dials.canary.reached == []


async def test_literal_public_addresses_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, receivers without a name cannot be called, though they are public."""
    async with recorded_dials(monkeypatch) as dials:
        assert await send(f"http://{V4}/a", connector(options_for(dials))) == 200
        assert await send("http://public.example/a", connector(options_for(dials))) == 200

        assert dials.made == [(V4, 80), (V4, 80)]


async def test_a_name_that_turns_to_loopback_after_the_check_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, DNS rebinding works: public when the job is submitted, 127.0.0.1 when it is called."""
    async with (
        recorded_dials(monkeypatch) as dials,
        dns_server({"rebind.example": [[V4], ["127.0.0.1"]]}) as server,
    ):
        url, options, made = await resolving(dials, server, "rebind.example")
        await check_resolved(url, options, DnsResolver(server))

        for _ in range(3):
            made = connector(options, resolver=DnsResolver(server))
            with pytest.raises(BlockedAddressError) as refused:
                await send(url, made)
            assert refused.value.reason == Refusal.LOOPBACK
            assert "127.0.0.1" not in str(refused.value)
        assert dials.made == []
        assert dials.canary.reached == []


async def test_a_name_that_flips_at_every_question_is_dialled_where_it_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, a name server that answers differently each time gets one attempt of many inside."""
    turns = [
        [V4],
        ["127.0.0.1"],
        [V4],
        ["127.0.0.1"],
        [OTHER_V4],
        ["10.0.0.1"],
        ["::ffff:127.0.0.1"],
        [V4],
    ] * 4
    async with recorded_dials(monkeypatch) as dials, dns_server({"flip.example": turns}) as server:
        url, _, made = await resolving(dials, server, "flip.example")
        async with aiohttp.ClientSession(connector=made) as session:
            outcomes = []
            for _ in turns:
                try:
                    async with session.post(url) as response:
                        outcomes.append(response.status)
                except BlockedAddressError as error:
                    outcomes.append(error.reason)

        assert outcomes == [200, "loopback", 200, "loopback", 200, "private", "loopback", 200] * 4
        assert dials.inside == []
        assert dials.canary.reached == []
        assert len(dials.receiver.reached) == 16


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([V4, "127.0.0.1"], "loopback"),
        (["127.0.0.1", V4], "loopback"),
        ([V4, "::1"], "loopback"),
        ([V6, "10.0.0.1"], "private"),
        ([V4, OTHER_V4, V6, "fd00:ec2::254"], "metadata"),
        (["CNAME inner.example."], "link_local"),
        (["0.0.0.0"], "unspecified"),
        (["::"], "unspecified"),
        (["::ffff:169.254.169.254"], "metadata"),
        (["64:ff9b::7f00:1"], "loopback"),
        (["2002:7f00:1::"], "loopback"),
        (["100.64.0.1"], "cgnat"),
    ],
)
async def test_one_bad_address_of_a_host_refuses_the_host(
    answer: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, an inner address hides among public ones and is reached when those do not answer."""
    names = {"mixed.example": [answer], "inner.example": [["169.254.1.1"]]}
    async with recorded_dials(monkeypatch) as dials, dns_server(names) as server:
        url, options, made = await resolving(dials, server, "mixed.example")

        with pytest.raises(BlockedAddressError) as refused:
            await send(url, made)
        with pytest.raises(CallbackUrlError, match=r"mixed\.example has no public address"):
            await check_resolved(url, options, DnsResolver(server))
        assert refused.value.reason == reason
        assert dials.made == []


class Lying(AbstractResolver):
    """Gives these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=0)
            for one in self.addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "::1"], ["10.0.0.1", "127.0.0.1", "::1"]])
async def test_the_dial_itself_refuses_what_the_resolver_let_through(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the last line of the guard is none: happy eyeballs dial whatever they are given."""
    async with recorded_dials(monkeypatch) as dials:
        made = connector(options_for(dials), resolver=Lying(V4))
        monkeypatch.setattr(made, "_resolver", Lying(*addresses))

        with pytest.raises((BlockedAddressError, aiohttp.ClientConnectorError)):
            await send(f"http://public.example:{dials.canary.port}/", made)
        assert dials.made == []


async def test_the_dial_refuses_by_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a refusal at the dial looks like a receiver that is down, and nobody is told."""
    async with recorded_dials(monkeypatch) as dials:
        made = connector(options_for(dials), resolver=Lying(V4))
        monkeypatch.setattr(made, "_resolver", Lying("169.254.169.254"))

        with pytest.raises(BlockedAddressError) as refused:
            await send("http://public.example/", made)
        assert refused.value.reason == Refusal.METADATA


@pytest.mark.parametrize("addresses", [["127.1"], ["2130706433"], ["localhost"], ["fe80::1%lo"], [""]])
async def test_what_a_resolver_gives_must_be_an_address(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the event loop resolves a second time what the guard took for an address."""
    async with recorded_dials(monkeypatch) as dials:
        with pytest.raises(BlockedAddressError):
            await send("http://public.example/", connector(options_for(dials), resolver=Lying(*addresses)))
        with pytest.raises(aiohttp.ClientConnectorDNSError, match="has no address"):
            await send("http://public.example/", connector(options_for(dials), resolver=Lying()))
        assert dials.made == []


async def test_redirects_lead_nowhere_inside_even_if_they_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, a receiver sends the callback on to an address inside."""
    async with recorded_dials(monkeypatch) as dials:
        for inside in (
            "127.0.0.1",
            "localhost",
            "2130706433",
            "[::ffff:127.0.0.1]",
            "one-is-private.example",
        ):
            dials.receiver.redirect_to = f"http://{inside}:{dials.canary.port}/"

            with pytest.raises((BlockedAddressError, aiohttp.ClientError)):
                await send("http://public.example/", connector(options_for(dials)), allow_redirects=True)
        assert len(dials.receiver.reached) == 5
        assert dials.inside == []


async def test_no_proxy_of_the_environment_or_the_caller_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a proxy resolves and dials instead of the guard, and reaches all that it can reach."""
    async with recorded_dials(monkeypatch) as dials:
        proxy = f"http://127.0.0.1:{dials.canary.port}"
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)

        assert await send("http://public.example/", connector(options_for(dials))) == 200
        for asked in ({"proxy": proxy}, {"proxy": "http://public.example"}):
            with pytest.raises(BlockedAddressError) as refused:
                await send("http://public.example/", connector(options_for(dials)), **asked)
            assert refused.value.reason == Refusal.PROXY
        async with aiohttp.ClientSession(connector=connector(options_for(dials)), trust_env=True) as session:
            with pytest.raises(BlockedAddressError):
                await session.post("http://public.example/")
        assert dials.inside == []


async def test_development_reaches_loopback_but_not_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, callbacks cannot be tried at home, or trying them opens the metadata of the cloud."""
    async with recorded_dials(monkeypatch) as dials:
        options = options_for(dials, block_private_networks=False)

        assert await send(f"http://127.0.0.1:{dials.canary.port}/a", connector(options)) == 200
        assert await send(f"http://localhost:{dials.canary.port}/b", connector(options)) == 200
        for host in ("169.254.169.254", "metadata.google.internal", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"):
            with pytest.raises(BlockedAddressError):
                await send(f"http://{host}:{dials.canary.port}/", connector(options))
        assert len(dials.canary.reached) == len(dials.made) == 2


async def test_every_attempt_resolves_and_dials_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a connection is used again that was opened to another address."""
    async with (
        recorded_dials(monkeypatch) as dials,
        dns_server({"hooks.example": [[V4], [OTHER_V4]]}) as server,
    ):
        url, _, made = await resolving(dials, server, "hooks.example")
        async with aiohttp.ClientSession(connector=made) as session:
            for _ in range(2):
                async with session.post(url) as response:
                    await response.read()

        assert [host for host, _ in dials.made] == [V4, OTHER_V4]


async def test_nobody_learns_at_submission_which_inner_names_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, whoever may submit jobs can explore the names and addresses of the network."""
    names = {"intern.example": [["10.1.2.3"]]}
    async with recorded_dials(monkeypatch) as dials, dns_server(names) as server:
        said = []
        for host in ("intern.example", "absent.example"):
            url, options, _ = await resolving(dials, server, host)
            with pytest.raises(CallbackUrlError) as refused:
                await check_resolved(url, options, DnsResolver(server))
            said.append(str(refused.value).replace(host, "HOST"))

        assert said[0] == said[1]
        assert "10.1.2.3" not in said[0]


async def test_a_name_server_that_fails_refuses_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, jobs are refused because some name server has a bad minute, or a request hangs on it."""
    monkeypatch.setattr("dedup2d.callbacks.guard_connector._RESOLVE_SECONDS", 0.2)
    names = {"failing.example": [["SERVFAIL"]], "silent.example": [["SILENCE"]]}
    async with recorded_dials(monkeypatch) as dials, dns_server(names) as server:
        for host in names:
            url, options, made = await resolving(dials, server, host)
            await check_resolved(url, options, DnsResolver(server))
            with pytest.raises((aiohttp.ClientError, TimeoutError)):
                await send(url, made, timeout=aiohttp.ClientTimeout(total=0.3))
        assert dials.made == []


async def test_resolving_at_submission_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a service without name resolution at its front cannot take callback URLs."""
    async with recorded_dials(monkeypatch) as dials, dns_server({}) as server:
        url, options, _ = await resolving(dials, server, "absent.example", resolve_dns=False)
        await check_resolved(url, options, DnsResolver(server))

        assert server.asked == {}


async def test_the_system_resolver_is_guarded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the guard works in tests with a resolver of their own, and not in production."""
    async with recorded_dials(monkeypatch) as dials:
        options = options_for(dials)
        resolver = ThreadsResolver()

        assert [one["host"] for one in await resolver.resolve("public.example", 80)] == [V4]
        await check_resolved("http://public.example/", options, resolver)
        await check_resolved(f"http://{V4}/", options, resolver)
        for host in ("one-is-private.example", "absent.example"):
            with pytest.raises(CallbackUrlError, match="has no public address"):
                await check_resolved(f"http://{host}/", options, resolver)
        await resolver.close()


async def test_hanging_look_ups_hold_up_nothing_else_and_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, callback URLs under a slow name server take the threads that resolve Redis or S3."""
    release = threading.Event()
    hanging = []

    def hang(host: str, *_: Any, **__: Any) -> Any:
        hanging.append(host)
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr("dedup2d.callbacks.guard_connector._RESOLVE_SECONDS", 0.1)
    resolver = ThreadsResolver(threads=2)
    started = time.monotonic()
    try:
        checks = [check_resolved(f"https://h{n}.example/", GuardOptions(), resolver) for n in range(40)]
        await asyncio.gather(*checks)

        assert await asyncio.to_thread(lambda: "free") == "free"
        assert time.monotonic() - started < 5
        assert len(hanging) == 2
    finally:
        release.set()
        await resolver.close()
