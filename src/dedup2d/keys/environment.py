"""Keys that the environment gives: `DEDUP2D_API_KEYS`."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from dedup2d.keys.principal import ALL_SCOPES, Principal

__all__ = ["EnvironmentKeys"]


class EnvironmentKeys:
    """
    Keys and who they belong to: a tenant, which may then do everything, or a principal.

    Kept as hashes under a secret of this process: a dump of memory or a log shows no key, and the time
    that a look-up takes says nothing about how much of a key was right. Their ids are `env-1` and so on, in
    their order.
    """

    def __init__(self, keys: Mapping[str, str | Principal]) -> None:
        self._secret = secrets.token_bytes(32)
        self._principals = [
            (self._hash(key.encode()), _principal(owner, f"env-{number}"))
            for number, (key, owner) in enumerate(keys.items(), 1)
        ]

    def __bool__(self) -> bool:
        return bool(self._principals)

    def find(self, key: bytes) -> Principal | None:
        """Return whose *key* is, None if nobody's."""
        digest = self._hash(key)
        found = None
        for known, principal in self._principals:
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def _hash(self, key: bytes) -> bytes:
        return hmac.new(self._secret, key, hashlib.sha256).digest()


def _principal(owner: str | Principal, key_id: str) -> Principal:
    if isinstance(owner, Principal):
        return Principal(owner.tenant_id, owner.scopes, key_id)
    return Principal(owner, ALL_SCOPES, key_id)
