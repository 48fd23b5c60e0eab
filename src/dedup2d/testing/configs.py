"""The contract of `ConfigStore` as checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from dedup2d.configs import ConfigStore, TenantConfig
from dedup2d.testing.expecting import checking, expect, expect_same, together

__all__ = ["CONFIG_STORE_CHECKS", "ConfigStoreMaker", "check_config_store"]

ConfigStoreMaker = Callable[[], AbstractAsyncContextManager[ConfigStore]]
"""Makes an empty ConfigStore."""


def config(tenant_id: str = "tenant", **values: Any) -> TenantConfig:
    given: dict[str, Any] = {
        "preset": "version",
        "parameters": {
            "duplicate_threshold": 0.1 + 0.2,
            "compute_diff": False,
            "max_results": 7,
            "mode": "precise",
            "ignore": ("frame", "0.1,0.2,0.3,0.4"),
            "invented_later": "Stra\u00dfe",
        },
        "updated_at": 1_700_000_000.1 + 0.2,
        "updated_by": "key0000001",
    }
    return TenantConfig(tenant_id=tenant_id, **(given | values))


async def what_was_put_is_found(store: ConfigStore) -> None:
    plain = TenantConfig(tenant_id="plain", updated_at=0.0)
    await store.put(config())
    await store.put(plain)
    expect_same(await store.get("tenant"), config(), "a configuration is found as it was stored")
    expect_same(await store.get("plain"), plain, "a configuration is found as it was stored")
    for other in ("tenan", "tenant2", "t", "*"):
        expect_same(await store.get(other), None, f"tenant {other!r} has none")


async def the_last_one_counts(store: ConfigStore) -> None:
    later = config(preset=None, parameters={"max_results": 9}, updated_at=5.5)
    await store.put(config())
    await store.put(later)
    expect_same(await store.get("tenant"), later, "the former one is gone, all of it")


async def of_several_at_once_one_stays_whole(store: ConfigStore) -> None:
    all_of_them = [config(parameters={"max_results": n, "diff_top_n": n}) for n in range(1, 9)]
    await together([partial(store.put, each) for each in all_of_them])
    found = await store.get("tenant")
    expect(found in all_of_them, "one of those that were stored at once is there")


async def deleting_leaves_those_of_others(store: ConfigStore) -> None:
    await store.put(config())
    await store.put(config("other"))
    expect(await store.delete("tenant"), "a configuration that was there is deleted")
    expect(not await store.delete("tenant"), "one that was not there is not")
    expect_same(await store.get("tenant"), None, "it is gone")
    expect_same(await store.get("other"), config("other"), "that of another tenant stays")
    await store.put(config())
    expect_same(await store.get("tenant"), config(), "a new one can be stored afterwards")


CONFIG_STORE_CHECKS: tuple[Callable[[ConfigStore], Awaitable[None]], ...] = (
    what_was_put_is_found,
    the_last_one_counts,
    of_several_at_once_one_stays_whole,
    deleting_leaves_those_of_others,
)
"""Every check by itself: called with an empty store."""


async def check_config_store(make: ConfigStoreMaker, *, seconds: float = 30.0) -> None:
    """
    Assert that the stores of *make* keep the contract of `dedup2d.configs.ConfigStore`.

    Args:
        make: gives an async context manager of an empty store.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in CONFIG_STORE_CHECKS:
        with checking(check, seconds):
            async with make() as store:
                await check(store)
