"""Configurations in memory: for tests, and where there is nothing to keep."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dedup2d.configs.records import TenantConfig

__all__ = ["MemoryConfigStore"]


class MemoryConfigStore:
    """A `ConfigStore` that ends with the process."""

    def __init__(self) -> None:
        self._configs: dict[str, TenantConfig] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def get(self, tenant_id: str) -> TenantConfig | None:
        return self._configs.get(tenant_id)

    async def put(self, config: TenantConfig) -> None:
        self._configs[config.tenant_id] = config

    async def delete(self, tenant_id: str) -> bool:
        return self._configs.pop(tenant_id, None) is not None
