"""What a tenant has set for all its searches, and where that is kept."""

from __future__ import annotations

from dedup2d.configs.records import TenantConfig, make_config
from dedup2d.configs.store import ConfigStore

__all__ = ["ConfigStore", "TenantConfig", "make_config"]
