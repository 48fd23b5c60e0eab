"""What the API shows of the library's values, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.types import Job, JobPage
from dedup2d_http.headers import etag_of, matches_etag

__all__ = ["job_page_view", "job_view", "json_response", "tagged_response"]

_JOB_FIELDS = (
    "job_id",
    "tenant_id",
    "status",
    "file_name",
    "file_hash",
    "file_size",
    "params",
    "created_at",
    "started_at",
    "finished_at",
    "next_attempt_at",
    "expires_at",
    "attempts",
    "cancel_requested",
    "progress",
    "last_error",
    "error_code",
    "error",
)
"""All but what only the worker may know (the lease) and where the server keeps the file."""


def job_view(job: Job) -> dict[str, Any]:
    """Return what is shown of a job, with its result."""
    return {**_summary(job), "result": job.result}


def job_page_view(page: JobPage) -> dict[str, Any]:
    """Return what is shown of a page of jobs: none has its result."""
    return {
        "jobs": [_summary(job) for job in page.jobs],
        "total": page.total,
        "next_page_token": page.next_page_token,
    }


def _summary(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _JOB_FIELDS}


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with *value* as JSON; attrs objects become objects of their fields."""
    return Response(
        msgspec.json.encode(value), status, headers=dict(headers or {}), media_type="application/json"
    )


def tagged_response(
    request: Request, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with *body* under an entity tag; 304 if the client has it already."""
    tag = etag_of(body)
    tagged = {**(headers or {}), "ETag": tag, "Cache-Control": "private, no-cache"}
    if matches_etag(request.headers, tag):
        return Response(status_code=304, headers=tagged)
    return Response(body, headers=tagged, media_type=media_type)
