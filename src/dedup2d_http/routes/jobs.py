"""Jobs: poll, list, cancel, send their callbacks again."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.keys import Scope
from dedup2d.types import JobStatus
from dedup2d_http.contract import ETAG, IF_NONE_MATCH, UNCHANGED, Answer, Header, operation
from dedup2d_http.headers import MAX_WAIT_SECONDS, preferences
from dedup2d_http.params import STATUS_LISTING, no_query, read_query
from dedup2d_http.routing import PREFIX, Api, Resource, job_path, tenant_of
from dedup2d_http.views import (
    CancelView,
    JobPageView,
    JobView,
    RedeliverView,
    job_page_view,
    job_view,
    json_response,
    tagged_response,
)
from dedup2d_http.waiting import client_gone, unless

__all__ = ["RESOURCES"]


@operation(
    "Show a job, with its result once it is completed",
    text="Retry-After is there while the job is not final. Wait for the end instead of polling often.",
    headers=[
        Header(
            "Prefer", f"wait=N answers when the job is final, or after N seconds (at most {MAX_WAIT_SECONDS})"
        ),
        IF_NONE_MATCH,
    ],
    answers=[
        Answer(
            200,
            JobView,
            "the job as it is now",
            headers={
                **ETAG,
                "Retry-After": "seconds until it is worth to ask again, while the job is not final",
                "Preference-Applied": "the wait that was kept to",
            },
        ),
        UNCHANGED,
    ],
    problems=["JOB_NOT_FOUND"],
)
async def show(api: Api, request: Request) -> Response:
    no_query(request)
    tenant, job_id = tenant_of(request), request.path_params["job_id"]
    wait = preferences(request.headers).wait
    job = await api.service.get(tenant, job_id)
    if wait and not job.status.final:
        # Neither a client that left nor a service that stops has a use for the rest of the wait.
        job = await unless(
            partial(api.service.wait, tenant, job_id, timeout=wait),
            partial(client_gone, request.receive),
            api.stopping.wait,
        ) or await api.service.get(tenant, job_id)
    headers = {} if wait is None else {"Preference-Applied": f"wait={wait}"}
    if not job.status.final:
        headers["Retry-After"] = "1"
    return tagged_response(request, msgspec.json.encode(job_view(job)), "application/json", headers)


@operation(
    "List jobs, newest first, without their results",
    query=STATUS_LISTING,
    answers=[Answer(200, JobPageView, "a page of them")],
)
async def list_jobs(api: Api, request: Request) -> Response:
    query = read_query(request, STATUS_LISTING)
    return json_response(job_page_view(await api.service.list_jobs(tenant_of(request), **query)))


@operation(
    "Cancel a job: at once while it waits, within a second while it runs, never once it is final",
    answers=[Answer(200, CancelView, "what becomes of it")],
    problems=["JOB_NOT_FOUND"],
)
async def cancel(api: Api, request: Request) -> Response:
    no_query(request)
    job = await api.service.cancel(tenant_of(request), request.path_params["job_id"])
    canceled = job.status is JobStatus.CANCELED or job.cancel_requested
    return json_response(
        CancelView(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            canceled=canceled and job.status not in (JobStatus.COMPLETED, JobStatus.FAILED),
            status=job.status,
        )
    )


@operation(
    "Send the callback of a final job again, now and under the same message id",
    text=(
        "Attempts begin anew where they have ended. A callback that waits for its next attempt is tried now, "
        "one that is just being sent is left alone. Receivers know a repetition by its `webhook-id`."
    ),
    answers=[
        Answer(202, RedeliverView, "it is on its way", headers={"Location": "where to see how it goes"})
    ],
    problems=["CALLBACK_CONFLICT", "JOB_NOT_FOUND"],
)
async def redeliver(api: Api, request: Request) -> Response:
    no_query(request)
    job = await api.service.redeliver(tenant_of(request), request.path_params["job_id"])
    view = RedeliverView(
        job_id=job.job_id, tenant_id=job.tenant_id, callback_message_id=job.callback_message_id
    )
    return json_response(view, 202, {"Location": job_path(request, job.job_id)})


RESOURCES = (
    Resource(f"{PREFIX}/jobs", {"GET": list_jobs}, Scope.SEARCH),
    Resource(f"{PREFIX}/jobs/{{job_id}}", {"GET": show}, Scope.SEARCH),
    Resource(f"{PREFIX}/jobs/{{job_id}}/cancel", {"POST": cancel}, Scope.SEARCH),
    Resource(f"{PREFIX}/jobs/{{job_id}}/callback/redeliver", {"POST": redeliver}, Scope.SEARCH),
)
