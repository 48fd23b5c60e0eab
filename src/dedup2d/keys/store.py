"""The protocol of what keeps keys; `dedup2d.testing.check_key_store` asserts what is said here."""

from __future__ import annotations

from typing import Protocol

from dedup2d.keys.records import KeyPage, StoredKey
from dedup2d.protocols import Resource

__all__ = ["KeyStore"]


class KeyStore(Resource, Protocol):
    """
    Stored keys. None is ever deleted, so that lists tell who could do what, and when.

    Each method is one atomic step, which survives a crash once it returned.
    """

    async def add(self, key: StoredKey) -> bool:
        """Store *key*; False, and nothing is changed, if another one has its `key_id`."""

    async def get(self, key_id: str) -> StoredKey | None:
        """
        Return the key, None if there is none.

        Raises:
            UnreadableRecordError: a newer version wrote it, or it is damaged.
        """

    async def list(
        self, *, tenant_id: str | None = None, limit: int = 50, page_token: str | None = None
    ) -> KeyPage:
        """
        List the keys, of one tenant if *tenant_id* is given, newest first (by `created_at`, then `key_id`).

        Keys that come meanwhile make no other appear twice or be left out. What cannot be read is left out.

        Raises:
            InvalidParameterError: *page_token* was not given by this method, or *limit* is not 1 to 500.
        """

    async def revoke(self, key_id: str, *, at: float, by: str) -> StoredKey | None:
        """Note that the key was revoked, the first time only, and return it; None if there is none."""

    async def used(self) -> bool:
        """Whether a key was ever stored here: who asked for keys once must not stop doing so."""
