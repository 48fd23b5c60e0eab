"""API keys: who they belong to, what they may do, and where they are kept."""

from __future__ import annotations

from dedup2d.keys.principal import ALL_SCOPES, Principal, Scope

__all__ = ["ALL_SCOPES", "Principal", "Scope"]
