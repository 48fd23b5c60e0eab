"""Keys in memory: for tests, and where there are none."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from attrs import evolve

from dedup2d.keys.records import KeyPage, StoredKey
from dedup2d.paging import check_limit, make_token, read_token

__all__ = ["MemoryKeyStore"]


class MemoryKeyStore:
    """A `KeyStore` that ends with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, StoredKey] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def add(self, key: StoredKey) -> bool:
        return self._keys.setdefault(key.key_id, key) == key

    async def get(self, key_id: str) -> StoredKey | None:
        return self._keys.get(key_id)

    async def list(
        self, *, tenant_id: str | None = None, limit: int = 50, page_token: str | None = None
    ) -> KeyPage:
        check_limit(limit)
        wanted = [key for key in self._keys.values() if tenant_id in (None, key.tenant_id)]
        found = sorted(wanted, key=_place, reverse=True)
        if page_token is not None:
            before = read_token("keys", page_token)
            found = [key for key in found if _place(key) < before]
        page = tuple(found[:limit])
        more = len(found) > limit
        return KeyPage(
            keys=page,
            total=len(wanted),
            next_page_token=make_token("keys", *_place(page[-1])) if more else None,
        )

    async def revoke(self, key_id: str, *, at: float, by: str) -> StoredKey | None:
        key = self._keys.get(key_id)
        if key is not None and key.revoked_at is None:
            key = self._keys[key_id] = evolve(key, revoked_at=at, revoked_by=by)
        return key

    async def used(self) -> bool:
        return bool(self._keys)


def _place(key: StoredKey) -> tuple[float, str]:
    return key.created_at, key.key_id
