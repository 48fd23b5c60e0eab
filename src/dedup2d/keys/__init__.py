"""API keys: who they belong to, what they may do, and where they are kept."""

from __future__ import annotations

from dedup2d.keys.principal import ALL_SCOPES, Principal, Scope
from dedup2d.keys.records import KeyPage, KeySecrets, KeyState, StoredKey
from dedup2d.keys.store import KeyStore

__all__ = [
    "ALL_SCOPES",
    "KeyPage",
    "KeySecrets",
    "KeyState",
    "KeyStore",
    "Principal",
    "Scope",
    "StoredKey",
]
