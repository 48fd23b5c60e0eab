"""Uploads that clients make themselves, straight into the file store."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dedup2d.errors import InvalidParameterError
from dedup2d.keys import Scope
from dedup2d_http.contract import Answer, operation
from dedup2d_http.params import read_query, whole
from dedup2d_http.routing import PREFIX, Api, Resource, tenant_of
from dedup2d_http.views import OfferView, json_response

__all__ = ["RESOURCES"]

# How many there may really be is the service's to say, which knows the tenant's limit.
_QUERY = {"size": whole(1, 4096 * 1024 * 1024).saying("bytes of the drawing, at most those of an upload")}


@operation(
    "Offer a place in the bucket, for a drawing that is to be searched for by its file_key",
    text="Only where the service is set up so: else `INVALID_PARAMETER`. The URL is a secret for 15 minutes.",
    query=_QUERY,
    required=["size"],
    answers=[Answer(201, OfferView, "where to put it")],
    problems=["JOB_QUEUE_FULL"],
)
async def offer(api: Api, request: Request) -> Response:
    query = read_query(request, _QUERY)
    if "size" not in query:
        raise InvalidParameterError("size", "", "the number of bytes that will be put")
    offered = await api.service.offer_upload(tenant_of(request), size=query["size"])
    upload = offered.upload
    return json_response(
        OfferView(
            file_key=offered.file_key,
            url=upload.url,
            method=upload.method,
            headers=upload.headers,
            expires_at=upload.expires_at,
        ),
        201,
        {"Cache-Control": "no-store"},
    )


RESOURCES = (Resource(f"{PREFIX}/uploads", {"POST": offer}, Scope.SEARCH),)
