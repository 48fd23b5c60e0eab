"""What the API shows of the library's values, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

import attrs
import msgspec
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.parameters import EffectiveParameter, ParameterValue
from dedup2d.presets import Preset
from dedup2d.types import CallbackStatus, Job, JobPage, JobStatus
from dedup2d_http.headers import etag_of, matches_etag

__all__ = [
    "CancelView",
    "ConfigDeletedView",
    "ConfigView",
    "GeometryView",
    "HealthView",
    "JobPageView",
    "JobSummary",
    "JobView",
    "OfferView",
    "PresetsView",
    "RedeliverView",
    "RemovedView",
    "StatusView",
    "SubmittedView",
    "job_page_view",
    "job_summary",
    "job_view",
    "json_response",
    "tagged_response",
]

_JOB_FIELDS = (
    "job_id",
    "tenant_id",
    "status",
    "file_name",
    "file_hash",
    "file_size",
    "geometry_hash",
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
    "request_id",
    "callback_status",
    "callback_attempts",
    "callback_http_status",
    "callback_next_attempt_at",
    "callback_finished_at",
    "callback_last_error",
    "callback_message_id",
)
"""All but the lease, the place of the file, and the callback URL, which may hold a secret of the receiver."""


def _part_of(whole: type, name: str, fields: tuple[str, ...], text: str) -> type:
    """Return a class of some fields of *whole*, for the reference: what `json_response` is given has them."""
    hints = get_type_hints(whole)
    part = attrs.make_class(
        name, {each: attrs.field(type=hints[each], kw_only=True) for each in fields}, frozen=True
    )
    part.__doc__ = text
    return part


JobSummary = _part_of(Job, "JobSummary", _JOB_FIELDS, "A job without its result.")
JobView = _part_of(Job, "JobView", (*_JOB_FIELDS, "result"), "A job, with its result once it is completed.")


@frozen(kw_only=True)
class JobPageView:
    """One page of a tenant's jobs, newest first, without their results."""

    jobs: tuple[JobSummary, ...]  # type: ignore[valid-type]  # made at run time
    total: int
    next_page_token: str | None


@frozen(kw_only=True)
class SubmittedView:
    """A search that was taken in as a job; `forced_async_reason` says why, where nobody asked for one."""

    job_id: str
    status: JobStatus
    poll_url: str
    forced_async_reason: str | None


@frozen(kw_only=True)
class CancelView:
    """What became of a cancel; `canceled` is true if the job is canceled or will be within a second."""

    job_id: str
    tenant_id: str
    canceled: bool
    status: JobStatus


@frozen(kw_only=True)
class RedeliverView:
    """A callback that is sent again."""

    job_id: str
    tenant_id: str
    callback_message_id: str | None
    callback_status: CallbackStatus = CallbackStatus.PENDING


@frozen(kw_only=True)
class OfferView:
    """Where a drawing may be put, until `expires_at`, and the key to search by it afterwards."""

    file_key: str
    url: str
    method: str
    headers: Mapping[str, str]
    expires_at: float


@frozen(kw_only=True)
class RemovedView:
    """A drawing that is no longer in the index."""

    drawing_id: str
    success: bool = True
    message: str = "removed from the index"


@frozen(kw_only=True)
class StatusView:
    """How a part is doing, in a word or two."""

    status: str


@frozen(kw_only=True)
class HealthView:
    """How the service is doing: `healthy` or `unhealthy`, and the same of its engine."""

    status: str
    service: str
    version: str
    vision: str


@frozen(kw_only=True)
class ConfigView:
    """
    What a tenant has configured: a preset and what differs from it; `null` and empty where that is nothing.

    `effective_parameters` is what a search is made with that gives no parameter itself.
    """

    tenant_id: str
    preset: str | None
    parameters: Mapping[str, ParameterValue]
    updated_at: float | None
    updated_by: str | None
    effective_parameters: Mapping[str, EffectiveParameter]


@frozen(kw_only=True)
class ConfigDeletedView:
    """Whether there was a configuration that is now gone."""

    tenant_id: str
    deleted: bool


@frozen(kw_only=True)
class GeometryView:
    """Whether the geometry of a file is stored for the tenant's searches."""

    file_hash: str
    exists: bool


@frozen(kw_only=True)
class PresetsView:
    """The presets by name."""

    presets: Mapping[str, Preset]


def job_view(job: Job) -> dict[str, Any]:
    """Return what is shown of a job, with its result."""
    return {**job_summary(job), "result": job.result}


def job_page_view(page: JobPage) -> dict[str, Any]:
    """Return what is shown of a page of jobs: none has its result."""
    return {
        "jobs": [job_summary(job) for job in page.jobs],
        "total": page.total,
        "next_page_token": page.next_page_token,
    }


def job_summary(job: Job) -> dict[str, Any]:
    """Return what is shown of a job, without its result."""
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
