"""Keys as they are stored: what they may do, and a keyed hash by which they are known again."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum

from attrs import evolve, field, frozen

from dedup2d.keys.principal import Principal, Scope

__all__ = ["KeyPage", "KeySecrets", "KeyState", "StoredKey"]


class KeyState(StrEnum):
    """Whether a key can be used; the last two are for ever."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@frozen(kw_only=True)
class StoredKey:
    """
    One key, without what it would take to use it.

    `digest` is a keyed hash of the key and of what it may do, made with the secret that `secret_id` names:
    who can only write to the store can neither make a key nor change the tenant, scopes or expiry of one.
    """

    key_id: str
    tenant_id: str
    scopes: frozenset[Scope]
    name: str = ""
    created_at: float
    created_by: str = ""
    expires_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str = ""
    secret_id: str = ""
    digest: str = field(default="", repr=False)

    def state(self, now: float) -> KeyState:
        if self.revoked_at is not None:
            return KeyState.REVOKED
        return KeyState.EXPIRED if self.expires_at is not None and now >= self.expires_at else KeyState.ACTIVE

    @property
    def principal(self) -> Principal:
        return Principal(self.tenant_id, self.scopes, self.key_id)


@frozen(kw_only=True)
class KeyPage:
    """One page of keys, newest first; `total` counts all that were asked for."""

    keys: tuple[StoredKey, ...]
    total: int
    next_page_token: str | None = None


class KeySecrets:
    """
    The secrets that stored keys are hashed with: the first for new keys, the others for those made earlier.

    Args:
        secrets: at least 32 bytes each; none at all knows no key.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = {_named(secret): secret for secret in secrets}

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def __contains__(self, secret_id: object) -> bool:
        return secret_id in self._secrets

    def sealed(self, key: StoredKey, text: str) -> StoredKey:
        """Return *key*, whose text is *text*, with its digest; there must be a secret."""
        secret_id = next(iter(self._secrets))
        return evolve(key, secret_id=secret_id, digest=self._digest(key, text, secret_id))

    def fits(self, key: StoredKey, text: str) -> bool:
        """Whether *text* is *key* and nobody has changed what it may do; takes as long either way."""
        known = key.secret_id in self._secrets
        secret_id = key.secret_id if known else next(iter(self._secrets), "")
        return hmac.compare_digest(self._digest(key, text, secret_id), key.digest) and known

    def _digest(self, key: StoredKey, text: str, secret_id: str) -> str:
        parts = (text, key.key_id, key.tenant_id, " ".join(sorted(key.scopes)), repr(key.expires_at))
        whole = b"".join(b"%d:" % len(part) + part for part in (each.encode() for each in parts))
        return hmac.new(self._secrets.get(secret_id, b""), whole, hashlib.sha256).hexdigest()


def _named(secret: bytes) -> str:
    return hmac.new(secret, b"the name of this secret", hashlib.sha256).hexdigest()[:16]
