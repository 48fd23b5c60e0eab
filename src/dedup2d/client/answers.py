"""Answers of a service as the library's own types."""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import frozen

from dedup2d.client.transport import Request, Transport
from dedup2d.codec import from_data, from_json
from dedup2d.configs import TenantConfig
from dedup2d.errors import ServiceError, UnreadableRecordError
from dedup2d.parameters import ParameterValue
from dedup2d.presets import Preset
from dedup2d.types import Health, Job, JobPage

__all__ = [
    "canceled",
    "config_of",
    "deleted",
    "exists",
    "health_of",
    "job_of",
    "job_page_of",
    "presets_of",
    "submitted_id",
    "value_of",
]

T = TypeVar("T")


@frozen
class _Page:
    jobs: list[dict[str, Any]]
    total: int
    next_page_token: str | None


@frozen
class _Submitted:
    job_id: str


@frozen
class _Canceled:
    canceled: bool


@frozen
class _Presets:
    presets: dict[str, Preset]


@frozen
class _Deleted:
    deleted: bool


@frozen
class _Exists:
    exists: bool


@frozen
class _Config:
    tenant_id: str
    preset: str | None
    parameters: dict[str, ParameterValue]
    updated_at: float | None
    updated_by: str | None


@frozen
class _Healthy:
    status: str


def value_of(body: bytes, as_type: type[T]) -> T:
    """
    Return the value that *body* holds; fields that this version does not know are passed over.

    Raises:
        ServiceError: it holds none.
    """
    try:
        return from_json(body, as_type)
    except UnreadableRecordError as error:
        raise ServiceError(f"the answer of the service cannot be used: {error}") from error


def job_of(body: bytes) -> Job:
    """Return the job that *body* holds; where the server keeps its file stays empty."""
    return _job(value_of(body, dict[str, Any]))


def job_page_of(body: bytes) -> JobPage:
    """Return the page of jobs that *body* holds."""
    page = value_of(body, _Page)
    jobs = tuple(_job(each) for each in page.jobs)
    return JobPage(jobs=jobs, total=page.total, next_page_token=page.next_page_token)


def submitted_id(body: bytes) -> str:
    """Return the id of the job that a search was taken in as."""
    return value_of(body, _Submitted).job_id


def canceled(body: bytes) -> bool:
    """Say whether a job is canceled, or will be."""
    return value_of(body, _Canceled).canceled


def presets_of(body: bytes) -> dict[str, Preset]:
    """Return the presets by name."""
    return value_of(body, _Presets).presets


def config_of(body: bytes) -> TenantConfig | None:
    """Return what the tenant has configured, None if that is nothing."""
    found = value_of(body, _Config)
    if found.updated_at is None:
        return None
    return TenantConfig(
        tenant_id=found.tenant_id,
        preset=found.preset,
        parameters=found.parameters,
        updated_at=found.updated_at,
        updated_by=found.updated_by or "",
    )


def deleted(body: bytes) -> bool:
    """Say whether something was deleted."""
    return value_of(body, _Deleted).deleted


def exists(body: bytes) -> bool:
    """Say whether something is there."""
    return value_of(body, _Exists).exists


async def health_of(transport: Transport) -> Health:
    """Ask for the health, which an unhealthy service tells with status 503."""
    try:
        answer = await transport.ask(Request(method="GET", path="/health", again=False))
    except ServiceError as error:
        if error.status == 503 and not error.problem_code:
            return Health(status="unhealthy")
        raise
    return Health(status=value_of(answer.body, _Healthy).status)


def _job(data: dict[str, Any]) -> Job:
    try:
        return from_data({"file_key": "", **data}, Job)
    except UnreadableRecordError as error:
        raise ServiceError(f"the answer of the service is no job: {error}") from error
