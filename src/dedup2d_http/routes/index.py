"""The index: add, list, inspect, remove, rebuild."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.errors import InvalidParameterError
from dedup2d.keys import Scope
from dedup2d.types import AddResult, Drawing, DrawingPage, RebuildResult
from dedup2d_http.auditing import audited
from dedup2d_http.contract import (
    DRAWING,
    DRAWING_PROBLEMS,
    ETAG,
    GEOM_JSON,
    IF_NONE_MATCH,
    UNCHANGED,
    UPLOAD_PROBLEMS,
    VISION_PROBLEMS,
    Answer,
    Part,
    operation,
)
from dedup2d_http.params import LISTING, no_query, only, read_query, text_of
from dedup2d_http.routing import PREFIX, Api, Resource, tenant_of
from dedup2d_http.uploads import Spool, upload
from dedup2d_http.views import RemovedView, json_response, tagged_response

__all__ = ["RESOURCES", "metadata_of"]

_NO_COPY = "this version keeps no copies in S3"
_AUDITED_IDS = 20
_ADD_QUERY = {
    "user_name": text_of(200).saying("put into the metadata"),
    "upload_to_s3": only("false", _NO_COPY).saying(f"false: {_NO_COPY}"),
}
_METADATA_RULE = (
    "a JSON object of at most 50 names and texts, names up to 100 and texts up to 2,000 characters"
)


@operation(
    "Add a drawing to the index, each of its sheets",
    text=(
        "The same bytes under the same name are added once: again is no error, and `added` is false. Geometry"
        " that comes with it, or that a DXF or DWG has, is stored for searches that bring theirs."
    ),
    query=_ADD_QUERY,
    body=[
        DRAWING,
        Part(
            "metadata",
            _METADATA_RULE,
            {
                "type": "object",
                "maxProperties": 50,
                "propertyNames": {"maxLength": 100},
                "additionalProperties": {"type": "string", "maxLength": 2000},
            },
            media_type="application/json",
        ),
        GEOM_JSON,
    ],
    answers=[Answer(200, AddResult, "what was added")],
    problems=[
        *UPLOAD_PROBLEMS,
        *DRAWING_PROBLEMS,
        *VISION_PROBLEMS,
        "INDEX_FULL",
        "INVALID_GEOM_JSON",
        "JOB_QUEUE_FULL",
    ],
)
async def add(api: Api, request: Request) -> Response:
    query = read_query(request, _ADD_QUERY)
    limits = api.limits_of(request)
    body = await upload(request, limits, fields=("metadata",), geometry=[GEOM_JSON.name])
    # The metadata may stand behind the drawing, and both are needed at once.
    with body:
        async with Spool.of(body) as spool:
            await spool.holds_all()
            metadata = metadata_of(body.fields.get("metadata", "{}"))
            if "user_name" in query:
                metadata["user_name"] = query["user_name"]
            added = await api.service.add(
                tenant_of(request),
                spool,
                file_name=body.file_name,
                metadata=metadata,
                geometry=lambda: body.geometry(GEOM_JSON.name),
            )
    audited(
        request,
        "index.add",
        drawing_ids=list(added.drawing_ids[:_AUDITED_IDS]),
        drawings=len(added.drawing_ids),
        file_hash=added.file_hash,
        added=added.added,
    )
    return json_response(added)


def metadata_of(text: str) -> dict[str, str]:
    """
    Read the JSON of metadata.

    Raises:
        InvalidParameterError: it is not what may be kept of a drawing.
    """
    try:
        metadata = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidParameterError("metadata", text, _METADATA_RULE) from None
    fits = all(len(name) <= 100 and len(value) <= 2000 for name, value in metadata.items())
    if len(metadata) > 50 or not fits:
        raise InvalidParameterError("metadata", text, _METADATA_RULE)
    return metadata


@operation(
    "List the drawings of the index, newest first",
    query=LISTING,
    answers=[Answer(200, DrawingPage, "a page of them")],
    problems=VISION_PROBLEMS,
)
async def list_drawings(api: Api, request: Request) -> Response:
    return json_response(await api.service.drawings(tenant_of(request), **read_query(request, LISTING)))


@operation(
    "Show a drawing of the index",
    answers=[Answer(200, Drawing, "what is known of it")],
    problems=["DRAWING_NOT_FOUND", *VISION_PROBLEMS],
)
async def show(api: Api, request: Request) -> Response:
    no_query(request)
    return json_response(await api.service.drawing(tenant_of(request), request.path_params["drawing_id"]))


@operation(
    "Show a drawing of the index as a picture",
    headers=[IF_NONE_MATCH],
    answers=[
        Answer(
            200,
            {"type": "string", "format": "binary"},
            "the picture",
            media_type="image/png",
            headers=ETAG,
        ),
        UNCHANGED,
    ],
    problems=["DRAWING_NOT_FOUND", *VISION_PROBLEMS],
)
async def picture(api: Api, request: Request) -> Response:
    no_query(request)
    png = await api.service.picture(tenant_of(request), request.path_params["drawing_id"])
    return tagged_response(request, png, "image/png")


@operation(
    "Remove a drawing from the index",
    answers=[Answer(200, RemovedView, "it is removed")],
    problems=["DRAWING_NOT_FOUND", *VISION_PROBLEMS],
)
async def remove(api: Api, request: Request) -> Response:
    no_query(request)
    drawing_id = request.path_params["drawing_id"]
    await api.service.remove(tenant_of(request), drawing_id)
    audited(request, "index.remove", drawing_id=drawing_id)
    return json_response(RemovedView(drawing_id=drawing_id))


@operation(
    "Make all fingerprints of the index anew",
    answers=[Answer(200, RebuildResult, "it is done")],
    problems=VISION_PROBLEMS,
)
async def rebuild(api: Api, request: Request) -> Response:
    no_query(request)
    rebuilt = await api.service.rebuild(tenant_of(request))
    audited(request, "index.rebuild", drawings=rebuilt.drawings)
    return json_response(rebuilt)


RESOURCES = (
    Resource(f"{PREFIX}/index/add", {"POST": add}, Scope.INDEX),
    Resource(f"{PREFIX}/index/drawings", {"GET": list_drawings}, Scope.SEARCH),
    Resource(
        f"{PREFIX}/index/drawings/{{drawing_id}}",
        {"GET": show, "DELETE": remove},
        {"GET": Scope.SEARCH, "DELETE": Scope.INDEX},
    ),
    Resource(f"{PREFIX}/index/drawings/{{drawing_id}}/image", {"GET": picture}, Scope.SEARCH),
    Resource(f"{PREFIX}/index/rebuild", {"POST": rebuild}, Scope.INDEX),
)
