"""The contract of `KeyStore` as checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from attrs import evolve

from dedup2d.errors import InvalidParameterError
from dedup2d.keys import KeyStore, Scope, StoredKey
from dedup2d.testing.expecting import checking, expect, expect_same, refused, together

__all__ = ["KEY_STORE_CHECKS", "KeyStoreMaker", "check_key_store"]

KeyStoreMaker = Callable[[], AbstractAsyncContextManager[KeyStore]]
"""Makes an empty KeyStore."""


def stored(key_id: str = "key0000001", **fields: Any) -> StoredKey:
    given: dict[str, Any] = {
        "tenant_id": "tenant",
        "scopes": frozenset({Scope.SEARCH, Scope.INDEX}),
        "name": "Stra\u00dfe, \u201cline 3\u201d",
        "created_at": 1_700_000_000.1 + 0.2,
        "created_by": "somebody",
        "expires_at": 1_800_000_000.3,
        "secret_id": "5" * 16,
        "digest": "d" * 64,
    }
    return StoredKey(key_id=key_id, **(given | fields))


async def what_was_added_is_found(store: KeyStore) -> None:
    key, plain = stored(), stored("key0000002", expires_at=None, name="", scopes=frozenset())
    expect(await store.add(key), "a new key is stored")
    expect(await store.add(plain), "a new key is stored")
    expect_same(await store.get(key.key_id), key, "a key is found as it was stored")
    expect_same(await store.get(plain.key_id), plain, "a key is found as it was stored")
    for other in ("", "key0000003", "key000000", "KEY0000001", "%", "*"):
        expect_same(await store.get(other), None, f"there is no key {other!r}")


async def an_id_is_given_once(store: KeyStore) -> None:
    key = stored()
    await store.add(key)
    expect(not await store.add(stored(tenant_id="other")), "the id of another key is refused")
    expect_same(await store.get(key.key_id), key, "a refused key changes nothing")


async def of_two_with_one_id_at_once_one_is_stored(store: KeyStore) -> None:
    keys = [stored(digest=f"{number:064}") for number in range(8)]
    outcomes = await together([partial(store.add, key) for key in keys])
    expect_same(sorted(map(repr, outcomes)), ["False"] * 7 + ["True"], "one of them is stored")
    expect_same(await store.get("key0000001"), keys[outcomes.index(True)], "the one that was told so")


async def revoking_is_for_ever(store: KeyStore) -> None:
    key = stored()
    await store.add(key)
    revoked = evolve(key, revoked_at=5.5, revoked_by="first")
    expect_same(await store.revoke(key.key_id, at=5.5, by="first"), revoked, "a key is revoked")
    expect_same(await store.revoke(key.key_id, at=9.0, by="second"), revoked, "the first time counts")
    expect_same(await store.get(key.key_id), revoked, "it stays revoked")
    expect(not await store.add(key), "a revoked key cannot be stored again")
    expect_same((await store.list()).keys, (revoked,), "the list says that it is revoked")
    expect_same(await store.revoke("key0000009", at=1.0, by="x"), None, "there is no such key")
    expect_same(await store.get("key0000009"), None, "revoking makes no key")


async def lists_are_newest_first_and_by_tenant(store: KeyStore) -> None:
    # Some of one time, of which the greater id comes first.
    keys = [
        stored(f"key{number:07}", tenant_id="ab"[number % 2], created_at=1e9 + number // 3 / 7)
        for number in range(14)
    ]
    for key in keys:
        await store.add(key)
    newest_first = sorted(keys, key=lambda key: (key.created_at, key.key_id), reverse=True)
    for tenant in (None, "a", "b"):
        wanted = [key.key_id for key in newest_first if tenant in (None, key.tenant_id)]
        for limit in (1, 2, 4, 7, 14, 500):
            found, token = list[str](), None
            while True:
                page = await store.list(tenant_id=tenant, limit=limit, page_token=token)
                expect_same(page.total, len(wanted), "a page counts all")
                found += [key.key_id for key in page.keys]
                token = page.next_page_token
                if token is None:
                    break
                expect_same(len(page.keys), limit, "only the last page is shorter")
            expect_same(found, wanted, f"pages of {limit} give each once, newest first")
    expect_same((await store.list(tenant_id="c")).keys, (), "another tenant has none")


async def pages_do_not_move_when_keys_come(store: KeyStore) -> None:
    for number in range(4):
        await store.add(stored(f"key{number:07}", created_at=float(number)))
    first = await store.list(limit=2)
    await store.add(stored("key0000009", created_at=9.0))
    rest = await store.list(limit=2, page_token=first.next_page_token)
    expect_same([key.key_id for key in rest.keys], ["key0000001", "key0000000"], "the page goes on")


async def wrong_pages_are_refused(store: KeyStore) -> None:
    await store.add(stored())
    for limit in (0, 501, True):
        with refused(InvalidParameterError, f"limit {limit} is refused"):
            await store.list(limit=limit)
    for token in ("", "x", "am9icw"):
        with refused(InvalidParameterError, "a foreign token is refused"):
            await store.list(page_token=token)


async def a_store_knows_that_it_was_used(store: KeyStore) -> None:
    expect(not await store.used(), "an empty store was not used")
    await store.add(stored())
    expect(await store.used(), "a store with a key is used")
    await store.revoke("key0000001", at=1.0, by="x")
    expect(await store.used(), "a store whose only key was revoked is used: it must not be open again")


KEY_STORE_CHECKS: tuple[Callable[[KeyStore], Awaitable[None]], ...] = (
    what_was_added_is_found,
    an_id_is_given_once,
    of_two_with_one_id_at_once_one_is_stored,
    revoking_is_for_ever,
    lists_are_newest_first_and_by_tenant,
    pages_do_not_move_when_keys_come,
    wrong_pages_are_refused,
    a_store_knows_that_it_was_used,
)
"""Every check by itself: called with an empty store."""


async def check_key_store(make: KeyStoreMaker, *, seconds: float = 30.0) -> None:
    """
    Assert that the stores of *make* keep the contract of `dedup2d.keys.KeyStore`.

    Args:
        make: gives an async context manager of an empty store.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in KEY_STORE_CHECKS:
        with checking(check, seconds):
            async with make() as store:
                await check(store)
