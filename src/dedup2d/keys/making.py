"""Making and revoking keys, as an operator does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from attrs import field, frozen

from dedup2d.errors import InvalidParameterError
from dedup2d.keys.principal import Scope
from dedup2d.keys.records import KeySecrets, StoredKey
from dedup2d.keys.store import KeyStore
from dedup2d.keys.text import NewKey, id_of, make_key
from dedup2d.tenants import check_tenant_id

__all__ = ["LONGEST_NAME", "KeyMaker", "MadeKey"]

LONGEST_NAME = 100
_SHOWN_ID = 14  # as long as d2d_ and an id: what is longer may be a key, and is not repeated


@frozen
class MadeKey:
    """A key that was just made: its text, which nobody can ask for again, and its record."""

    text: str = field(repr=False)
    record: StoredKey


class KeyMaker:
    """
    Makes and revokes keys in *store*.

    Args:
        store: keeps them.
        secrets: what they are hashed with; at least one.
        clock: gives Unix seconds.
        new_key: makes their text.
    """

    def __init__(
        self,
        store: KeyStore,
        secrets: KeySecrets,
        *,
        clock: Callable[[], float] = time.time,
        new_key: Callable[[], NewKey] = make_key,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._new_key = new_key

    async def create(
        self,
        tenant_id: str,
        scopes: Iterable[Scope],
        *,
        name: str = "",
        by: str = "",
        seconds: float | None = None,
    ) -> MadeKey:
        """
        Make a key.

        Args:
            tenant_id: whose it is.
            scopes: what it may do, at least one thing.
            name: what it is for, as lists show it.
            by: who makes it.
            seconds: how long it can be used; None for ever.

        Raises:
            InvalidParameterError: one of them is not allowed.
        """
        check_tenant_id(tenant_id)
        allowed, now = frozenset(scopes), self._clock()
        if not allowed:
            raise InvalidParameterError("scopes", "", "at least one of " + ", ".join(Scope))
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidParameterError("name", name, f"at most {LONGEST_NAME} printable characters")
        if seconds is not None and not 1 <= seconds <= 1e10:
            raise InvalidParameterError("seconds", seconds, "1 or more, or none for a key that stays")
        while True:
            new = self._new_key()
            record = StoredKey(
                key_id=new.key_id,
                tenant_id=tenant_id,
                scopes=allowed,
                name=name,
                created_at=now,
                created_by=by,
                expires_at=None if seconds is None else now + seconds,
            )
            record = self._secrets.sealed(record, new.text)
            if await self._store.add(record):
                return MadeKey(new.text, record)

    async def revoke(self, key: str, *, by: str = "") -> StoredKey:
        """
        Revoke *key*, given by its id; again changes nothing.

        Raises:
            InvalidParameterError: there is no such key.
        """
        key_id = id_of(key)
        found = None if key_id is None else await self._store.revoke(key_id, at=self._clock(), by=by)
        if found is None:
            shown = key if len(key) <= _SHOWN_ID else "***"
            raise InvalidParameterError("key", shown, "the id of a key, as dedup2d keys list shows it")
        return found
