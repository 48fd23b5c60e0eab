"""The reference: the OpenAPI document, and the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dedup2d_http.contract import ETAG, IF_NONE_MATCH, UNCHANGED, Answer, operation
from dedup2d_http.openapi import document_of
from dedup2d_http.openapi_page import CONTENT_SECURITY_POLICY, page_of_document
from dedup2d_http.params import no_query
from dedup2d_http.routing import Api, Resource
from dedup2d_http.views import tagged_response

__all__ = ["references_of"]


def references_of(resources: Sequence[Resource[Api]]) -> tuple[Resource[Api], ...]:
    """Return the routes that tell of *resources*, and of themselves."""

    @operation(
        "Show this document",
        headers=[IF_NONE_MATCH],
        answers=[Answer(200, {"type": "object"}, "OpenAPI 3.1", headers=ETAG), UNCHANGED],
        problems=["INVALID_PARAMETER"],
    )
    async def document(_: Api, request: Request) -> Response:
        no_query(request)
        return tagged_response(request, as_json, "application/json")

    @operation(
        "Show this document as a page",
        headers=[IF_NONE_MATCH],
        answers=[
            Answer(200, {"type": "string"}, "the page", media_type="text/html", headers=ETAG),
            UNCHANGED,
        ],
        problems=["INVALID_PARAMETER"],
    )
    async def page(_: Api, request: Request) -> Response:
        no_query(request)
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return tagged_response(request, as_page, "text/html", headers)

    ours: tuple[Resource[Api], ...] = (
        Resource("/openapi.json", {"GET": document}, None),
        Resource("/docs", {"GET": page}, None),
    )
    # The same for every request, so it is made once.
    described = document_of([*resources, *ours])
    as_json, as_page = msgspec.json.encode(described), page_of_document(described).encode()
    return ours
