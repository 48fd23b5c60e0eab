"""Geometry without a search: whether it is there, and two of them side by side."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.errors import InvalidGeometryError, InvalidParameterError
from dedup2d.files.keys import is_file_hash
from dedup2d.geometry.result import GeometryScore
from dedup2d.keys import Scope
from dedup2d.search_params import SearchParams
from dedup2d_http.arriving import read_json
from dedup2d_http.contract import JSON_PROBLEMS, Answer, Part, operation
from dedup2d_http.params import PRECISION_FIELDS, no_query, read_query
from dedup2d_http.routing import PREFIX, Api, Resource, tenant_of
from dedup2d_http.uploads import geometries
from dedup2d_http.views import GeometryView, json_response

__all__ = ["RESOURCES"]

_QUERY, _OTHER = "query", "other"
_COMPARE = ("precision_profile", "precision_compute_diff", "precision_diff_max_paths")
_PARAMETERS = {name: PRECISION_FIELDS[name] for name in _COMPARE}
_PARTS = [
    Part(
        name,
        f"the {text} geometry: v2 geometry JSON of at most 10 MiB",
        {"type": "object"},
        required=True,
        media_type="application/json",
    )
    for name, text in ((_QUERY, "newer"), (_OTHER, "older"))
]


class _Pair(msgspec.Struct, forbid_unknown_fields=True):
    query: msgspec.Raw
    other: msgspec.Raw


@operation(
    "Say whether the geometry of a file is stored",
    answers=[Answer(200, GeometryView, "whether it is; also of a file that was never indexed")],
)
async def exists(api: Api, request: Request) -> Response:
    no_query(request)
    file_hash = request.path_params["file_hash"]
    if not is_file_hash(file_hash):
        raise InvalidParameterError("file_hash", file_hash, "the sha256 of a file: 64 of 0-9 a-f")
    found = await api.service.has_geometry(tenant_of(request), file_hash)
    return json_response(GeometryView(file_hash=file_hash, exists=found))


@operation(
    "Compare two geometries",
    text="The difference is seen from `other`: what only `query` has was added.",
    query=_PARAMETERS,
    body=_PARTS,
    json={
        "type": "object",
        "properties": {part.name: {**part.schema, "description": part.text} for part in _PARTS},
        "required": [_QUERY, _OTHER],
        "additionalProperties": False,
    },
    answers=[Answer(200, GeometryScore, "the score, by section, and the difference")],
    problems=[*JSON_PROBLEMS, "INVALID_GEOM_JSON", "INVALID_MULTIPART"],
)
async def compare(api: Api, request: Request) -> Response:
    params = SearchParams(**read_query(request, _PARAMETERS))
    if request.headers.get("content-type", "").strip().lower().startswith("application/json"):
        query, other = await _from_json(api, request)
        return json_response(await api.service.compare_geometry(query, other, params=params))
    async with geometries(request, api.limits, _QUERY, _OTHER) as body:
        for name in (_QUERY, _OTHER):
            if not body.has_geometry(name):
                raise InvalidGeometryError(name, "is missing", "send both geometries")
        found = await api.service.compare_geometry(
            lambda: body.geometry(_QUERY), lambda: body.geometry(_OTHER), params=params
        )
    return json_response(found)


async def _from_json(api: Api, request: Request) -> tuple[bytes, bytes]:
    most = 2 * api.limits.max_geometry_bytes + api.limits.max_field_bytes
    body = await read_json(request, most=most, pace=api.limits.pace)
    try:
        pair = msgspec.json.decode(body, type=_Pair)
    except (ValueError, RecursionError) as error:
        raise InvalidGeometryError("the body", f"is not JSON with query and other ({error})") from None
    return bytes(pair.query), bytes(pair.other)


RESOURCES = (
    Resource(f"{PREFIX}/geom/{{file_hash}}/exists", {"GET": exists}, Scope.SEARCH),
    Resource(f"{PREFIX}/precision/compare", {"POST": compare}, Scope.SEARCH),
)
