"""The protocol of what keeps configurations; `dedup2d.testing.check_config_store` asserts what it says."""

from __future__ import annotations

from typing import Protocol

from dedup2d.configs.records import TenantConfig
from dedup2d.protocols import Resource

__all__ = ["ConfigStore"]


class ConfigStore(Resource, Protocol):
    """
    Configurations, at most one for each tenant.

    Each method is one atomic step, which survives a crash once it returned, and is seen by every process.
    """

    async def get(self, tenant_id: str) -> TenantConfig | None:
        """
        Return the tenant's configuration, None if there is none.

        Raises:
            UnreadableRecordError: a newer version wrote it, or it is damaged.
        """

    async def put(self, config: TenantConfig) -> None:
        """Store *config* in place of the tenant's former one: the last one counts."""

    async def delete(self, tenant_id: str) -> bool:
        """Delete the tenant's configuration; say whether there was one."""
