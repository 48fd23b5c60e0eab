"""Uploads that clients make themselves, straight into the file store."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dedup2d.errors import InvalidParameterError
from dedup2d_http.params import read_query, whole
from dedup2d_http.routing import PREFIX, Api, Resource, tenant_of
from dedup2d_http.views import json_response

__all__ = ["RESOURCES"]


async def offer(api: Api, request: Request) -> Response:
    query = read_query(request, {"size": whole(1, api.settings.max_upload_bytes)})
    if "size" not in query:
        raise InvalidParameterError("size", "", "the number of bytes that will be put")
    offered = await api.service.offer_upload(tenant_of(request), size=query["size"])
    upload = offered.upload
    return json_response(
        {
            "file_key": offered.file_key,
            "url": upload.url,
            "method": upload.method,
            "headers": upload.headers,
            "expires_at": upload.expires_at,
        },
        201,
        {"Cache-Control": "no-store"},
    )


RESOURCES = (Resource(f"{PREFIX}/uploads", {"POST": offer}),)
