"""What a tenant sets for all its searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dedup2d.configs import TenantConfig
from dedup2d.errors import InvalidParameterError
from dedup2d.keys import Principal, Scope
from dedup2d.parameters import effective_parameters
from dedup2d.presets import PRESETS
from dedup2d_http.arriving import json_object
from dedup2d_http.auditing import NO_KEY, audited
from dedup2d_http.contract import JSON_PROBLEMS, Answer, operation
from dedup2d_http.params import PARAMETERS, no_query
from dedup2d_http.routing import PREFIX, Api, Resource, tenant_of
from dedup2d_http.views import ConfigDeletedView, ConfigView, json_response

__all__ = ["RESOURCES"]

_MOST_BYTES = 64 * 1024
_BODY: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "preset": {
            "anyOf": [{"enum": list(PRESETS)}, {"type": "null"}],
            "description": "sets several parameters; those beside it win",
        },
        **{name: {**reader.schema, "description": reader.text} for name, reader in PARAMETERS.items()},
    },
    "additionalProperties": False,
}


@operation(
    "Show what is configured for the tenant's searches",
    answers=[Answer(200, ConfigView, "what is, which may be nothing")],
)
async def show(api: Api, request: Request) -> Response:
    no_query(request)
    return await _shown(api, request, await api.service.config(tenant_of(request)))


@operation(
    "Configure the tenant's searches",
    text=(
        "It takes the place of all that was configured before. A search is made with what its request gives,"
        " else with what the preset of the request sets, else with this, else with the default."
    ),
    json=_BODY,
    answers=[Answer(200, ConfigView, "it is configured, from the next search on")],
    problems=JSON_PROBLEMS,
)
async def configure(api: Api, request: Request) -> Response:
    no_query(request)
    parameters = await json_object(request, most=_MOST_BYTES, pace=api.limits.pace)
    preset = parameters.pop("preset", None)
    if not isinstance(preset, str | None):
        raise InvalidParameterError("preset", preset, "one of " + ", ".join(PRESETS))
    principal: Principal = request.state.principal
    config = await api.service.set_config(
        tenant_of(request), parameters, preset=preset, by=principal.key_id or NO_KEY
    )
    audited(request, "config.set", preset=preset, parameters=parameters)
    return await _shown(api, request, config)


@operation(
    "Forget what is configured for the tenant's searches",
    answers=[Answer(200, ConfigDeletedView, "the defaults are back")],
)
async def forget(api: Api, request: Request) -> Response:
    no_query(request)
    tenant_id = tenant_of(request)
    deleted = await api.service.delete_config(tenant_id)
    audited(request, "config.delete", deleted=deleted)
    return json_response(ConfigDeletedView(tenant_id=tenant_id, deleted=deleted))


async def _shown(api: Api, request: Request, config: TenantConfig | None) -> Response:
    tenant_id = tenant_of(request)
    chosen = await api.service.effective(tenant_id)
    return json_response(
        ConfigView(
            tenant_id=tenant_id,
            preset=config.preset if config else None,
            parameters=config.parameters if config else {},
            updated_at=config.updated_at if config else None,
            updated_by=config.updated_by if config else None,
            effective_parameters=effective_parameters(chosen.params, chosen.sources),
        )
    )


RESOURCES = (
    Resource(
        f"{PREFIX}/config",
        {"GET": show, "PUT": configure, "DELETE": forget},
        {"GET": Scope.SEARCH, "PUT": Scope.ADMIN, "DELETE": Scope.ADMIN},
    ),
)
