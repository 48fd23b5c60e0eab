"""The events of a job: each change of it as it happens, until it is final."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

import anyio
import msgspec
from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.errors import JobNotFoundError, StoreUnavailableError
from dedup2d.keys import Scope
from dedup2d.types import Job
from dedup2d_http.contract import Answer, Header, operation
from dedup2d_http.headers import etag_of
from dedup2d_http.params import no_query
from dedup2d_http.routing import PREFIX, Api, Resource, tenant_of
from dedup2d_http.streams import EventStream, event
from dedup2d_http.views import job_summary

__all__ = ["RESOURCES", "JobEvents"]

RETRY_MILLISECONDS = 2000
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["progress", "final"]},
        "id": {"type": "string", "description": "names this state of the job, for Last-Event-ID"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobSummary"},
        },
    },
    "required": ["event", "id", "data"],
}


@operation(
    "Tell each change of a job as it happens, until it is final",
    text=(
        "Server-sent events: `progress` for each change, and `final` as the last; `data` is the job without "
        "its result. A line of comment comes every 15 s. A stream ends after 10 minutes at the latest: "
        "connect again with `Last-Event-ID`, as browsers do, and what was told is not told again. "
        "Who was told the end gets 204, on which browsers stop."
    ),
    headers=[Header("Last-Event-ID", "the `id` of the last event that came")],
    answers=[
        Answer(200, _EVENT, "the events, one after the other", media_type="text/event-stream"),
        Answer(204, None, "the job is final, and its last event has come"),
    ],
    problems=["JOB_NOT_FOUND", "TOO_MANY_STREAMS"],
)
async def events(api: Api, request: Request) -> Response:
    no_query(request)
    tenant_id, job_id = tenant_of(request), request.path_params["job_id"]
    told = request.headers.get("last-event-id", "")
    job = await api.service.get(tenant_id, job_id)
    if job.status.final and told == _identifier(job):
        return Response(status_code=204)
    api.streams.check(tenant_id)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    follow = partial(JobEvents(api, tenant_id, job_id).follow, told)
    return EventStream(follow, stopped=api.stopping.wait, streams=api.streams, tenant_id=tenant_id)


@frozen
class JobEvents:
    """
    The events of one job.

    Args:
        api: knows the job.
        tenant_id, job_id: which one.
        look_seconds: how often the job is looked at; up to four times as long while nothing changes.
        silence_seconds: after so long without an event comes a comment, so that proxies keep the connection.
        most_seconds: how long one stream may last: a key that was revoked does not see for ever.
    """

    api: Api
    tenant_id: str
    job_id: str
    look_seconds: float = field(default=0.5, kw_only=True)
    silence_seconds: float = field(default=15.0, kw_only=True)
    most_seconds: float = field(default=600.0, kw_only=True)

    async def follow(self, told: str) -> AsyncGenerator[bytes, None]:
        """Give the bytes of the stream; *told* is the id of an event that came before."""
        yield b"retry: %d\n\n" % RETRY_MILLISECONDS
        heard = anyio.current_time()
        end, pause = heard + self.most_seconds, self.look_seconds
        while (now := anyio.current_time()) < end:
            try:
                job = await self.api.service.get(self.tenant_id, self.job_id)
            except (JobNotFoundError, StoreUnavailableError):
                return  # who connects again is told why
            if (identifier := _identifier(job)) != told:
                name = "final" if job.status.final else "progress"
                yield event(name, msgspec.json.encode(job_summary(job)), identifier=identifier)
                told, heard, pause = identifier, now, self.look_seconds
            elif now - heard >= self.silence_seconds:
                yield b": still here\n\n"
                heard = now
            if job.status.final:
                return
            await anyio.sleep(pause)
            pause = min(4 * self.look_seconds, pause * 1.2)


def _identifier(job: Job) -> str:
    """Return what names this state of the job: any process of the service knows it again."""
    return etag_of(msgspec.json.encode(job_summary(job))).strip('"')


RESOURCES = (Resource(f"{PREFIX}/jobs/{{job_id}}/events", {"GET": events}, Scope.SEARCH),)
