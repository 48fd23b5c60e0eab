"""Keys: their text, their records, and the contract on every store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from dedup2d.keys import KeyStore
from dedup2d.testing.keys import KEY_STORE_CHECKS
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
