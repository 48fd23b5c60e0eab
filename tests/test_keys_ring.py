"""The keys of a service while it runs: created, revoked, expired, tampered with."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, evolve, field

from dedup2d.errors import ConfigurationError, StoreUnavailableError, UnreadableRecordError
from dedup2d.keys import KeySecrets, KeyStore, Principal, Scope, StoredKey
from dedup2d.keys.making import KeyMaker
from dedup2d.keys.memory import MemoryKeyStore
from dedup2d.keys.ring import KeyRing, KeyRingOptions
from dedup2d.keys.text import make_key
from dedup2d.testing import ManualClock
from tests.backends import KEY_STORES

SECRET = b"s" * 32
FRESH = KeyRingOptions().fresh_seconds


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Counting(MemoryKeyStore):
    """Counts look-ups, and fails when told to."""

    looked_up: int = field(default=0, init=False)
    asked: int = field(default=0, init=False)
    error: Exception | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        super().__init__()

    async def get(self, key_id: str) -> StoredKey | None:
        self.looked_up += 1
        if self.error:
            raise self.error
        return await super().get(key_id)

    async def used(self) -> bool:
        self.asked += 1
        if self.error:
            raise self.error
        return await super().used()


@define
class Bunch:
    """A ring and its store, the maker of its keys, and the clock that all of them read."""

    ring: KeyRing
    store: Any
    maker: KeyMaker
    clock: ManualClock


@asynccontextmanager
async def bunch(store: KeyStore | None = None, **options: Any) -> AsyncIterator[Bunch]:
    clock, secrets = ManualClock(), KeySecrets([SECRET])
    store = store or Counting()
    ring = KeyRing(
        options.pop("given", {}),
        store=store,
        secrets=lambda: secrets,
        options=KeyRingOptions(**options),
        clock=clock,
        monotonic=clock,
    )
    async with ring:
        yield Bunch(ring, store, KeyMaker(store, secrets, clock=clock), clock)


@pytest.mark.parametrize("name", KEY_STORES)
async def test_keys_come_and_go_while_the_service_runs(name: str, tmp_path: Path) -> None:
    """If this fails, a new key does not work at once, or a revoked one goes on working."""
    with anyio.fail_after(30):
        async with KEY_STORES[name](tmp_path) as kept:

            class Open(MemoryKeyStore):
                add, get, used, list, revoke = kept.add, kept.get, kept.used, kept.list, kept.revoke

            async with bunch(Open()) as keys:
                assert not await keys.ring.needed()
                made = await keys.maker.create("acme", [Scope.INDEX])
                found = await keys.ring.find(made.text)
                assert found == Principal("acme", frozenset({Scope.INDEX}), made.record.key_id)

                keys.clock.advance(FRESH)
                assert await keys.ring.needed()
                assert await keys.ring.find(made.text) == found
                await keys.maker.revoke(made.record.key_id)
                keys.clock.advance(FRESH)
                assert await keys.ring.find(made.text) is None
                assert await keys.ring.needed()


async def test_a_right_key_is_looked_up_now_and_then() -> None:
    """If this fails, each request costs a look-up, or a revoked key is believed for longer than said."""
    async with bunch() as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH])
        for _ in range(100):
            await keys.ring.find(made.text)
        assert keys.store.looked_up == 1

        await keys.maker.revoke(made.record.key_id)
        keys.clock.advance(FRESH - 0.001)
        assert await keys.ring.find(made.text) is not None
        keys.clock.advance(0.001)
        assert await keys.ring.find(made.text) is None
        assert keys.store.looked_up == 2


async def test_a_key_ends_on_time_although_it_is_remembered() -> None:
    """If this fails, keys live on after their expiry."""
    async with bunch() as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH], seconds=1.5)
        assert await keys.ring.find(made.text) is not None
        keys.clock.advance(1.4)
        assert await keys.ring.find(made.text) is not None
        keys.clock.advance(0.1)
        assert await keys.ring.find(made.text) is None


async def test_what_is_no_key_does_not_reach_the_store() -> None:
    """If this fails, anybody can keep the store busy with nonsense."""
    async with bunch(given={"key-of-the-environment": "acme"}) as keys:
        for text in ("", "nonsense", "d2d_" + "0" * 50, make_key().text[:-1], "x" * 100_000, "\u00fc"):
            assert await keys.ring.find(text) is None
        assert keys.store.looked_up == 0
        assert await keys.ring.find(make_key().text) is None
        assert keys.store.looked_up == 1


async def test_keys_of_the_environment_stand_beside_stored_ones() -> None:
    """If this fails, DEDUP2D_API_KEYS does not work any more, or its scopes are lost."""
    given = {"k" * 16: "acme", "l" * 16: Principal("umbra", frozenset({Scope.SEARCH}))}
    async with bunch(given=given) as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH])

        assert await keys.ring.needed()
        assert await keys.ring.find("k" * 16) == Principal("acme", frozenset(Scope), "env-1")
        assert await keys.ring.find("l" * 16) == Principal("umbra", frozenset({Scope.SEARCH}), "env-2")
        assert await keys.ring.find(made.text) is not None


async def test_a_record_that_was_changed_is_no_key() -> None:
    """If this fails, who can write to the store can take over a tenant."""
    for change in ({"tenant_id": "umbra"}, {"scopes": frozenset(Scope)}, {"expires_at": 9e9}):
        async with bunch() as keys:
            made = await keys.maker.create("acme", [Scope.SEARCH])
            keys.store._keys[made.record.key_id] = evolve(made.record, **change)
            assert await keys.ring.find(made.text) is None


async def test_a_service_that_had_keys_never_opens_again() -> None:
    """If this fails, revoking the last key opens the service to everybody who reaches it."""
    async with bunch() as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH])
        await keys.maker.revoke(made.record.key_id)
        async with bunch(keys.store) as again:
            assert await again.ring.needed()
            asked = keys.store.asked
            keys.store._keys.clear()
            again.clock.advance(100)
            assert await again.ring.needed()
            assert keys.store.asked == asked


async def test_a_store_that_fails_lets_nobody_in() -> None:
    """If this fails, an outage of Redis makes strangers tenants, or revives a revoked key."""
    async with bunch() as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH])
        assert await keys.ring.find(made.text) is not None
        keys.store.error = StoreUnavailableError("Redis", "test")
        assert await keys.ring.find(made.text) is not None
        keys.clock.advance(FRESH)
        with pytest.raises(StoreUnavailableError):
            await keys.ring.find(made.text)
    async with bunch() as keys:
        keys.store.error = StoreUnavailableError("Redis", "test")
        with pytest.raises(StoreUnavailableError):
            await keys.ring.needed()


async def test_a_record_of_a_newer_version_is_refused_alone() -> None:
    """If this fails, one key that cannot be read is an error of the service, or a way in."""
    async with bunch() as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH])
        keys.store.error = UnreadableRecordError("StoredKey", "test")
        assert await keys.ring.find(made.text) is None
        keys.store.error = None
        assert await keys.ring.find(made.text) is not None


async def test_memory_is_bounded() -> None:
    """If this fails, many keys fill the memory of a service."""
    async with bunch(most=10) as keys:
        for _ in range(50):
            made = await keys.maker.create("acme", [Scope.SEARCH])
            assert await keys.ring.find(made.text) is not None
            assert await keys.ring.find(make_key().text) is None
        assert len(keys.ring._known) == len(keys.ring._met) == 10
        assert made.text not in repr(vars(keys.ring))


async def test_keys_are_met_for_a_while() -> None:
    """If this fails, strangers count as clients, or clients become strangers while they work."""
    async with bunch(met_seconds=60) as keys:
        made = await keys.maker.create("acme", [Scope.SEARCH])
        assert not keys.ring.met(made.text)
        await keys.ring.find(made.text)
        stranger = make_key().text
        await keys.ring.find(stranger)
        keys.clock.advance(59)
        assert keys.ring.met(made.text)
        assert not keys.ring.met(stranger)
        keys.clock.advance(1)
        assert not keys.ring.met(made.text)

        await keys.ring.find(made.text)
        await keys.maker.revoke(made.record.key_id)
        keys.clock.advance(FRESH)
        assert await keys.ring.find(made.text) is None
        assert not keys.ring.met(made.text), "a revoked key is as wrong as any"


async def test_another_secret_stops_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """If this fails, a machine with a wrong DEDUP2D_KEYS_SECRET answers 401 to everybody."""
    store = MemoryKeyStore()
    old = await KeyMaker(store, KeySecrets([b"o" * 32])).create("acme", [Scope.SEARCH])
    ring = KeyRing({}, store=store, secrets=lambda: KeySecrets([SECRET]))
    with pytest.raises(ConfigurationError, match="DEDUP2D_KEYS_SECRET"):
        await ring.__aenter__()

    made = await KeyMaker(store, KeySecrets([SECRET])).create("acme", [Scope.SEARCH])
    with caplog.at_level(logging.WARNING):
        async with ring:
            assert await ring.find(made.text) is not None
            assert await ring.find(old.text) is None
    assert old.record.key_id in str(vars(caplog.records[0]))
    assert old.text not in caplog.text


async def test_a_secret_that_cannot_be_read_refuses_its_keys_alone() -> None:
    """If this fails, a key that root made for the service is an error 500, or stops all other keys."""
    store, secrets = MemoryKeyStore(), KeySecrets([SECRET])
    mine = await KeyMaker(store, secrets).create("acme", [Scope.SEARCH])
    fails = False

    def load() -> KeySecrets:
        if fails:
            raise ConfigurationError("keys.secret", "***", "a file that can be read")
        return secrets

    async with KeyRing({}, store=store, secrets=load) as ring:
        fails = True
        made = await KeyMaker(store, KeySecrets([b"n" * 32])).create("acme", [Scope.SEARCH])
        assert await ring.find(made.text) is None
        assert await ring.find(mine.text) is not None


async def test_a_secret_that_comes_later_is_found() -> None:
    """If this fails, the first `dedup2d keys create` needs a restart of the service."""
    store, secrets = MemoryKeyStore(), KeySecrets([])
    async with KeyRing({}, store=store, secrets=lambda: secrets) as ring:
        secrets = KeySecrets([SECRET])
        made = await KeyMaker(store, secrets).create("acme", [Scope.SEARCH])
        assert await ring.find(made.text) is not None
