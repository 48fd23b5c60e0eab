"""The configuration of one tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, fields_dict, frozen

from dedup2d.parameters import ParameterValue, effective, preset_values, read_parameters
from dedup2d.presets import PRESETS
from dedup2d.search_params import SearchParams
from dedup2d.tenants import check_tenant_id

__all__ = ["TenantConfig", "make_config"]


@frozen(kw_only=True)
class TenantConfig:
    """
    What a tenant's searches are made with where neither the request nor its preset says otherwise.

    `parameters` are as JSON has them, and win over those of `preset`. `updated_at` is a Unix time, and
    `updated_by` the id of the key, or the user of the machine, that has set it.
    """

    tenant_id: str
    preset: str | None = None
    parameters: Mapping[str, ParameterValue] = field(factory=dict)
    updated_at: float
    updated_by: str = ""

    def search_params(self) -> dict[str, Any]:
        """Return what it sets, as `dedup2d.parameters.effective` takes it, unknown names left out."""
        preset = preset_values(self.preset) if self.preset in PRESETS else {}
        known = {name: value for name, value in self.parameters.items() if name in fields_dict(SearchParams)}
        return {**preset, **read_parameters(known)}


def make_config(
    tenant_id: str,
    parameters: Mapping[str, Any],
    *,
    preset: str | None = None,
    updated_at: float,
    updated_by: str = "",
) -> TenantConfig:
    """
    Return the configuration that has *parameters*, as JSON gives them.

    Raises:
        InvalidParameterError: a name is not known, a value not allowed, or two do not go together.
    """
    effective(request={**preset_values(preset), **read_parameters(parameters)})
    return TenantConfig(
        tenant_id=check_tenant_id(tenant_id),
        preset=preset,
        parameters={
            name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()
        },
        updated_at=updated_at,
        updated_by=updated_by,
    )
