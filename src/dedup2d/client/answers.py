"""Answers of a service as the library's own types."""

from __future__ import annotations

from typing import Any, TypeVar

from dedup2d.client.transport import Request, Transport
from dedup2d.codec import from_data, from_json
from dedup2d.errors import ServiceError, UnreadableRecordError
from dedup2d.types import Health, Job, JobPage

__all__ = ["health_of", "job_of", "job_page_of", "submitted_id", "value_of"]

T = TypeVar("T")


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
    page = value_of(body, dict[str, Any])
    try:
        return JobPage(
            jobs=tuple(_job(each) for each in page["jobs"]),
            total=page["total"],
            next_page_token=page["next_page_token"],
        )
    except (KeyError, TypeError) as error:
        raise ServiceError("the answer of the service is no page of jobs") from error


def submitted_id(body: bytes) -> str:
    """Return the id of the job that a search was taken in as."""
    job_id = value_of(body, dict[str, Any]).get("job_id")
    if not isinstance(job_id, str):
        raise ServiceError("the answer of the service names no job")
    return job_id


async def health_of(transport: Transport) -> Health:
    """Ask for the health, which an unhealthy service tells with status 503."""
    try:
        answer = await transport.ask(Request(method="GET", path="/health", again=False))
    except ServiceError as error:
        if error.status == 503 and not error.problem_code:
            return Health(status="unhealthy")
        raise
    return Health(status=value_of(answer.body, dict[str, Any])["status"])


def _job(data: dict[str, Any]) -> Job:
    try:
        return from_data({"file_key": "", **data}, Job)
    except UnreadableRecordError as error:
        raise ServiceError(f"the answer of the service is no job: {error}") from error
