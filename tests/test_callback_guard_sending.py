"""The guard as callbacks meet it: from the URL that a client gives to the attempts that are made."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from dedup2d.callbacks.attempts import CallbackOptions, Outcome
from dedup2d.callbacks.guard import GuardOptions
from dedup2d.callbacks.sending import CallbackSender
from dedup2d.errors import CallbackUrlError
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.testing import ManualClock
from dedup2d.testing.job_making import admit, claim, complete
from dedup2d.types import Job
from tests.callback_canary import PUBLIC, Dials, recorded_dials
from tests.callback_spellings import REFUSED
from tests.dns_server import DnsResolver, DnsServer, dns_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def finished(callback_url: str) -> Job:
    clock = ManualClock()
    jobs = MemoryJobStore(clock=clock)
    await admit(jobs, clock, "job", callback_url="https://hooks.example/")
    await claim(jobs, "job")
    return evolve(await complete(jobs, "job"), callback_url=callback_url)


def sender_for(dials: Dials, server: DnsServer, **guard: Any) -> CallbackSender:
    ports = frozenset({80, 443, dials.canary.port})
    options = CallbackOptions(guard=GuardOptions(allow_http=True, ports=ports, **guard), timeout_seconds=5.0)
    return CallbackSender(options=options, resolver=DnsResolver(server))


async def test_a_rebinding_name_is_taken_and_never_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, a callback reaches loopback by a name that was public at submission."""
    names = {"rebind.example": [[PUBLIC[0]], ["127.0.0.1"]]}
    async with recorded_dials(monkeypatch) as dials, dns_server(names) as server:
        async with sender_for(dials, server) as sender:
            url = await sender.check(f"http://rebind.example:{dials.canary.port}/?k=s3cret")
            job = await finished(url)
            attempts = [await sender.send(job) for _ in range(3)]

        assert {(one.outcome, one.refusal) for one in attempts} == {(Outcome.BLOCKED, "loopback")}
        assert not any("127.0.0.1" in str(one.error) or "s3cret" in str(one.error) for one in attempts)
        assert dials.made == []
        assert dials.canary.reached == []


async def test_a_public_name_is_called_at_the_address_of_that_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, honest receivers are not called, or at addresses that they have left."""
    names = {"hooks.example": [[PUBLIC[0]], [PUBLIC[0]], [PUBLIC[1]]]}
    path = "/a/%2e%2e/b?x=%0d%0aY:1&u=http://127.0.0.1/"
    async with recorded_dials(monkeypatch) as dials, dns_server(names) as server:
        async with sender_for(dials, server) as sender:
            job = await finished(
                await sender.check("http://hooks.example/a/%2e%2e/b?x=%0d%0aY:1&u=http://127.0.0.1/")
            )
            attempts = [await sender.send(job) for _ in range(2)]

        assert [one.outcome for one in attempts] == [Outcome.SUCCESS] * 2
        assert dials.made == [(PUBLIC[0], 80), (PUBLIC[1], 80)]
        assert set(dials.receiver.reached) == {f"hooks.example {path}"}


async def test_jobs_that_were_stored_with_a_bad_url_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a URL that came into a store some other way is called without any check."""
    async with recorded_dials(monkeypatch) as dials, dns_server({}) as server:
        async with sender_for(dials, server) as sender:
            job = await finished("")
            for text in REFUSED:
                url = text.replace("{port}", str(dials.canary.port))
                with pytest.raises(CallbackUrlError):
                    await sender.check(url)
                attempt = await sender.send(evolve(job, callback_url=url))
                assert attempt.outcome is Outcome.NOT_ALLOWED, text
                assert "s3cret" not in str(attempt.error)

        assert dials.made == []
        assert dials.canary.reached == []


async def test_a_redirect_inside_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a public receiver has the service call its own loopback."""
    async with recorded_dials(monkeypatch) as dials, dns_server({"hooks.example": [[PUBLIC[0]]]}) as server:
        dials.receiver.redirect_to = f"http://127.0.0.1:{dials.canary.port}/"
        async with sender_for(dials, server) as sender:
            attempt = await sender.send(await finished("http://hooks.example/"))

        assert attempt.outcome is Outcome.REDIRECT
        assert dials.made == [(PUBLIC[0], 80)]
        assert dials.canary.reached == []
