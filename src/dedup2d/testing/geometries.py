"""The contract of `GeometryStore` as checks."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from dedup2d.errors import InvalidParameterError
from dedup2d.protocols import MAX_GEOMETRY_BYTES, GeometryStore
from dedup2d.testing.expecting import checking, expect, expect_same, refused, together

__all__ = ["GEOMETRY_STORE_CHECKS", "GeometryStoreMaker", "check_geometry_store"]

GeometryStoreMaker = Callable[[], AbstractAsyncContextManager[GeometryStore]]
"""Makes an empty GeometryStore."""

_HASH, _OTHER = "0123456789abcdef" * 4, "f" * 64
_DATA = b'{"entities":[{"type":"LINE","start":[0,0],"end":[1,0]}],"meta":{"title":"\xc3\x84"}}'

_NO_TENANTS = ("", "A", "a/b", "..", "_geometry", "a\n", "a" * 65)
_NO_HASHES = (
    "",
    "0" * 63,
    "0" * 65,
    "A" * 64,
    "../" + "0" * 61,
    "0" * 64 + "\n",
    "*",
    "0" * 32 + "/" + "0" * 31,
)


async def gives_back_what_was_put(store: GeometryStore) -> None:
    for data in (_DATA, b"{}", b"0", b'{"a":"' + b" " * 500_000 + b'"}'):
        await store.put("tenant", _HASH, data)
        expect_same(await store.get("tenant", _HASH), data, "a geometry comes back byte for byte")
        expect_same(await store.exists("tenant", _HASH), True, "and exists")


async def keeps_the_largest_and_no_larger(store: GeometryStore) -> None:
    largest = os.urandom(MAX_GEOMETRY_BYTES)  # what cannot be compressed
    await store.put("tenant", _HASH, largest)
    expect(await store.get("tenant", _HASH) == largest, "the largest geometry is kept, also if it is dense")
    for data in (b"", largest + b"x", b" " * (MAX_GEOMETRY_BYTES + 1)):
        with refused(InvalidParameterError, f"put of {len(data)} bytes"):
            await store.put("tenant", _OTHER, data)
    expect_same(await store.exists("tenant", _OTHER), False, "nothing of what was refused is stored")


async def knows_what_is_not_stored(store: GeometryStore) -> None:
    await store.put("tenant", _HASH, _DATA)
    expect_same(await store.get("tenant", _OTHER), None, "the geometry of another file")
    expect_same(await store.exists("tenant", _OTHER), False, "does not exist")
    expect_same(await store.delete("tenant", _OTHER), False, "and was not there to delete")
    expect_same(await store.delete("tenant", _HASH), True, "what is there is deleted")
    expect_same(await store.delete("tenant", _HASH), False, "once")
    expect_same(await store.get("tenant", _HASH), None, "then it is gone")
    expect_same(await store.exists("tenant", _HASH), False, "and does not exist")
    await store.put("tenant", _HASH, b"{}")
    expect_same(await store.get("tenant", _HASH), b"{}", "it can be stored again")


async def replaces_what_was_there(store: GeometryStore) -> None:
    for data in (_DATA * 1000, _DATA, _DATA, b"{}"):
        await store.put("tenant", _HASH, data)
        expect_same(await store.get("tenant", _HASH), data, "the last put counts")


async def tenants_do_not_reach_each_other(store: GeometryStore) -> None:
    tenants = ("a", "b", "a-b", "a_", "ab", "0")
    for tenant in tenants:
        await store.put(tenant, _HASH, f'{{"of":"{tenant}"}}'.encode())
    for tenant in tenants:
        found = await store.get(tenant, _HASH)
        expect_same(found, f'{{"of":"{tenant}"}}'.encode(), "each tenant has its own")
    expect_same(await store.delete("a", _HASH), True, "one deletes its own")
    left = [await store.exists(tenant, _HASH) for tenant in tenants]
    expect_same(left, [False, True, True, True, True, True], "and nobody else's")
    expect_same(await store.exists("c", _HASH), False, "whoever stored nothing has nothing")


async def refuses_what_is_no_name(store: GeometryStore) -> None:
    await store.put("tenant", _HASH, _DATA)
    names = [(tenant, _HASH) for tenant in _NO_TENANTS] + [("tenant", file_hash) for file_hash in _NO_HASHES]
    for tenant, file_hash in names:
        for call, what in (
            (lambda t=tenant, h=file_hash: store.put(t, h, _DATA), "put"),
            (lambda t=tenant, h=file_hash: store.get(t, h), "get"),
            (lambda t=tenant, h=file_hash: store.exists(t, h), "exists"),
            (lambda t=tenant, h=file_hash: store.delete(t, h), "delete"),
        ):
            with refused(InvalidParameterError, f"{what} of {tenant[:20]!r}, {file_hash[:20]!r}"):
                await call()
    expect_same(await store.get("tenant", _HASH), _DATA, "what is there stays")


async def racing_puts_leave_one_whole_geometry(store: GeometryStore) -> None:
    bodies = [b"[" + b"%d," % number * 50_000 + b"0]" for number in range(10)]
    await together([lambda b=b: store.put("tenant", _HASH, b) for b in bodies])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect(await store.get("tenant", _HASH) in bodies, "of 10 puts at once one stays, whole")


async def keeps_many_at_once(store: GeometryStore) -> None:
    hashes = [f"{number:064x}" for number in range(50)]
    await together([lambda h=h: store.put("tenant", h, h.encode()) for h in hashes])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    found = await together([lambda h=h: store.get("tenant", h) for h in hashes])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect_same(found, [file_hash.encode() for file_hash in hashes], "50 puts and gets at once")


GEOMETRY_STORE_CHECKS: tuple[Callable[[GeometryStore], Awaitable[None]], ...] = (
    gives_back_what_was_put,
    keeps_the_largest_and_no_larger,
    knows_what_is_not_stored,
    replaces_what_was_there,
    tenants_do_not_reach_each_other,
    refuses_what_is_no_name,
    racing_puts_leave_one_whole_geometry,
    keeps_many_at_once,
)
"""Every check by itself: called with an empty store."""


async def check_geometry_store(make: GeometryStoreMaker, *, seconds: float = 60.0) -> None:
    """
    Assert that the stores of *make* keep the contract of `GeometryStore`.

    Args:
        make: gives an async context manager of an empty store.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in GEOMETRY_STORE_CHECKS:
        with checking(check, seconds):
            async with make() as store:
                await check(store)
