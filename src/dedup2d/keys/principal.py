"""Who acts, and what they may do."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

__all__ = ["ALL_SCOPES", "Principal", "Scope"]


class Scope(StrEnum):
    """
    What a key may be used for; no scope contains another.

    `search` reads: searches, jobs, the drawings of the index. `index` changes the index. `admin` changes
    what holds for the whole tenant, as its configuration.
    """

    SEARCH = "search"
    INDEX = "index"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@frozen
class Principal:
    """
    Who a request acts for.

    Args:
        tenant_id: whose jobs, files and index it works on.
        scopes: what it may do.
        key_id: names its key in logs, without giving it away; None where no key was asked for.
    """

    tenant_id: str
    scopes: frozenset[Scope] = ALL_SCOPES
    key_id: str | None = None
