"""Keys: their text, their records, and the contract on every store."""

from __future__ import annotations

import re
import stat
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from dedup2d.codec import to_json
from dedup2d.errors import ConfigurationError, InvalidParameterError
from dedup2d.keys import KeyPage, KeySecrets, KeyStore, Scope, StoredKey
from dedup2d.keys.build import build_key_ring, build_key_store, secrets_for_new_keys
from dedup2d.keys.making import KeyMaker
from dedup2d.keys.memory import MemoryKeyStore
from dedup2d.keys.secret_file import make_secret, read_secret
from dedup2d.keys.text import KEY_PATTERN, id_of, make_key, read_key
from dedup2d.settings import Settings
from dedup2d.testing import ContractError
from dedup2d.testing.keys import KEY_STORE_CHECKS, check_key_store
from tests.backends import KEY_STORES


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("check", KEY_STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", KEY_STORES)
async def test_contract(name: str, check: Callable[[KeyStore], Awaitable[None]], tmp_path: Path) -> None:
    """If this fails, keys of this store can be lost, revived, or belong to another tenant."""
    with anyio.fail_after(30):
        async with KEY_STORES[name](tmp_path) as store:
            await check(store)


async def test_the_contract_refuses_broken_stores() -> None:
    """If this fails, the checks pass on stores that revive revoked keys, open again, or mix tenants."""

    class Revives(MemoryKeyStore):
        async def get(self, key_id: str) -> StoredKey | None:
            key = await super().get(key_id)
            return None if key is None else evolve(key, revoked_at=None, revoked_by="")

    class Forgets(MemoryKeyStore):
        async def used(self) -> bool:
            return any(key.revoked_at is None for key in (await self.list()).keys)

    class Overwrites(MemoryKeyStore):
        async def add(self, key: StoredKey) -> bool:
            self._keys[key.key_id] = key
            return True

    class MixesTenants(MemoryKeyStore):
        async def list(self, *, tenant_id: str | None = None, **page: Any) -> KeyPage:
            return await super().list(**page)

    for broken in (Revives, Forgets, Overwrites, MixesTenants):
        with pytest.raises(ContractError):
            await check_key_store(broken)
    await check_key_store(MemoryKeyStore)


# -- the text of a key


@given(st.randoms(use_true_random=False))
def test_a_key_is_read_back(random: Random) -> None:
    """If this fails, a key that was just made is refused as mistyped, or scanners do not know it."""
    new = make_key(random.choice)

    assert read_key(new.text) == new.key_id
    assert re.fullmatch(KEY_PATTERN, new.text)
    assert id_of(new.text) == id_of(f" {new.key_id}\n") == id_of(f"d2d_{new.key_id}") == new.key_id
    assert new.text not in repr(new)


@given(st.integers(0, 53), st.characters(codec="utf-8"), st.randoms(use_true_random=False))
def test_a_mistyped_key_is_refused_without_a_look_up(place: int, typed: str, random: Random) -> None:
    """If this fails, a checksum does not find a wrong character, and strangers reach the store."""
    text = make_key(random.choice).text
    mistyped = text[:place] + typed + text[place + 1 :]
    assume(mistyped != text)

    assert read_key(mistyped) is None


@pytest.mark.parametrize(
    "text", ["", "d2d_", "d2d___", "d2d_0123456789", "x" * 100_000, "d2d_\u0661" + "0" * 9, "\ud800", "a\nb"]
)
def test_what_is_no_key_is_none(text: str) -> None:
    """If this fails, a strange header value is an error of the service."""
    assert read_key(text) is None


def test_keys_are_random() -> None:
    """If this fails, keys can be guessed."""
    made = [make_key() for _ in range(1000)]

    assert len({key.key_id for key in made}) == 1000
    assert len({key.text.split("_")[2] for key in made}) == 1000


# -- what is stored of it


SECRETS = KeySecrets([b"1" * 32])
TEXT = make_key().text
RECORD = StoredKey(
    key_id=TEXT.split("_")[1], tenant_id="acme", scopes=frozenset({Scope.SEARCH}), created_at=1.0
)


def test_neither_key_nor_secret_can_be_read_from_a_record() -> None:
    """If this fails, a copy of the database lets its reader in."""
    record = SECRETS.sealed(RECORD, TEXT)
    stored = to_json(record).decode()

    assert TEXT not in stored
    assert TEXT.split("_")[2] not in stored
    assert "1" * 32 not in stored
    assert record.digest not in repr(record)
    assert sha256(TEXT.encode()).hexdigest() not in stored


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": "umbra"},
        {"scopes": frozenset(Scope)},
        {"scopes": frozenset()},
        {"expires_at": 5e9},
        {"key_id": "0123456789"},
        {"digest": "0" * 64},
        {"digest": ""},
        {"secret_id": "other"},
    ],
)
def test_who_writes_to_the_store_cannot_change_what_a_key_may_do(change: dict[str, Any]) -> None:
    """If this fails, write access to Redis is access to every tenant."""
    record = SECRETS.sealed(RECORD, TEXT)

    assert SECRETS.fits(record, TEXT)
    assert not SECRETS.fits(evolve(record, **change), TEXT)


def test_secrets_can_be_rotated() -> None:
    """If this fails, a new secret shuts out everybody, or an old one can never be dropped."""
    old, new = b"o" * 32, b"n" * 32
    record = KeySecrets([old]).sealed(RECORD, TEXT)

    assert KeySecrets([new, old]).fits(record, TEXT)
    assert not KeySecrets([new]).fits(record, TEXT)
    assert not KeySecrets([]).fits(record, TEXT)
    assert KeySecrets([new, old]).sealed(RECORD, TEXT) == KeySecrets([new]).sealed(RECORD, TEXT)
    assert not KeySecrets([new, old]).fits(record, make_key().text)


# -- making and revoking


async def test_an_id_that_is_taken_is_not_used_again() -> None:
    """If this fails, a new key replaces that of another tenant, once in a long while."""
    same, other = make_key(), make_key()
    texts = iter([same, same, other])
    maker = KeyMaker(MemoryKeyStore(), SECRETS, new_key=lambda: next(texts))

    first = await maker.create("acme", [Scope.SEARCH])
    second = await maker.create("umbra", [Scope.SEARCH])

    assert (first.text, second.text) == (same.text, other.text)


@pytest.mark.parametrize(
    ("tenant", "scopes", "more", "named"),
    [
        ("ACME", [Scope.SEARCH], {}, "tenant_id"),
        ("acme", [], {}, "scopes"),
        ("acme", [Scope.SEARCH], {"name": "x" * 101}, "name"),
        ("acme", [Scope.SEARCH], {"name": "a\x1b[2Jb"}, "name"),
        ("acme", [Scope.SEARCH], {"seconds": 0.5}, "seconds"),
        ("acme", [Scope.SEARCH], {"seconds": float("nan")}, "seconds"),
        ("acme", [Scope.SEARCH], {"seconds": float("inf")}, "seconds"),
    ],
)
async def test_wrong_keys_are_not_made(
    tenant: str, scopes: list[Scope], more: dict[str, Any], named: str
) -> None:
    """If this fails, a key is stored that cannot be read back, shown, or used."""
    store = MemoryKeyStore()
    with pytest.raises(InvalidParameterError) as caught:
        await KeyMaker(store, SECRETS).create(tenant, scopes, **more)

    assert caught.value.name == named
    assert not await store.used()


async def test_an_error_about_a_key_does_not_repeat_it() -> None:
    """If this fails, a key that was pasted by mistake lands in a log."""
    text = make_key().text
    for pasted in (text, text[:-1], text[4:], text.upper()):
        with pytest.raises(InvalidParameterError) as caught:
            await KeyMaker(MemoryKeyStore(), SECRETS).revoke(pasted)
        assert text.split("_")[2].lower() not in str(caught.value).lower()


# -- the file of the secret


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """If this fails, others on the machine can forge keys, or processes disagree about them."""
    directory = tmp_path / "data"
    assert read_secret(directory) is None
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: make_secret(directory), range(32)))

    assert made == {read_secret(directory)}
    assert [path.name for path in directory.iterdir()] == ["keys.secret"]
    assert stat.S_IMODE((directory / "keys.secret").stat().st_mode) == 0o600
    assert len(made.pop() or b"") >= 32


@pytest.mark.parametrize(("mode", "text"), [(0o644, "s" * 64), (0o600, "short"), (0o600, "")])
def test_a_secret_that_is_none_stops_the_start(tmp_path: Path, mode: int, text: str) -> None:
    """If this fails, keys are hashed with what everybody knows."""
    path = tmp_path / "keys.secret"
    path.write_text(text)
    path.chmod(mode)

    with pytest.raises(ConfigurationError) as caught:
        read_secret(tmp_path)

    assert "keys.secret" in str(caught.value)
    assert not text or text not in str(caught.value)


async def test_a_lost_secret_is_not_replaced_silently(tmp_path: Path) -> None:
    """If this fails, a restore without keys.secret shuts out all clients and says nothing."""
    settings = Settings(data_dir=tmp_path)
    async with build_key_store(settings) as store:
        await KeyMaker(store, await secrets_for_new_keys(settings, store)).create("acme", [Scope.SEARCH])
        (tmp_path / "keys.secret").unlink()
        with pytest.raises(ConfigurationError, match=r"keys\.secret"):
            await secrets_for_new_keys(settings, store)
        assert await secrets_for_new_keys(evolve(settings, keys_secret=("x" * 32,)), store)
    with pytest.raises(ConfigurationError, match="DEDUP2D_KEYS_SECRET"):
        async with build_key_ring(settings):
            pass


async def test_machines_that_share_a_redis_must_share_a_secret(tmp_path: Path) -> None:
    """If this fails, a key that was made on one machine is unknown to the others."""
    settings = Settings(data_dir=tmp_path, async_backend="redis")
    with pytest.raises(ConfigurationError, match="on all machines"):
        await secrets_for_new_keys(settings, MemoryKeyStore())

    assert not list(tmp_path.iterdir())
