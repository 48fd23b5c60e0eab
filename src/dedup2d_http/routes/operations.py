"""What operators look at: health, readiness, metrics, presets."""

from __future__ import annotations

from importlib.metadata import version

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.metrics import CONTENT_TYPE
from dedup2d.presets import PRESETS
from dedup2d_http.contract import Answer, operation
from dedup2d_http.params import no_query
from dedup2d_http.problems import METRICS_ELSEWHERE, HttpError
from dedup2d_http.routing import PREFIX, Api, Resource
from dedup2d_http.views import HealthView, PresetsView, StatusView, json_response

__all__ = ["RESOURCES"]

_COUNT_SECONDS = 2.0

log = structlog.get_logger("dedup2d.http")


@operation("List the presets and their values", answers=[Answer(200, PresetsView, "all of them")])
async def presets(_: Api, request: Request) -> Response:
    no_query(request)
    return json_response(PresetsView(presets=PRESETS))


@operation(
    "Say whether searches can be answered",
    answers=[
        Answer(200, StatusView, "healthy or degraded"),
        Answer(503, StatusView, "unhealthy: jobs are taken in and wait"),
    ],
)
async def vision_health(api: Api, request: Request) -> Response:
    """Say whether searches can be answered. Only the status: details may tell of other tenants."""
    no_query(request)
    health = await api.service.health()
    return json_response(StatusView(status=health.status), 503 if health.status == "unhealthy" else 200)


@operation(
    "Say how the service is doing",
    answers=[Answer(200, HealthView, "healthy"), Answer(503, HealthView, "jobs cannot be kept")],
)
async def health(api: Api, _: Request) -> Response:
    healthy = await _store_answers(api)
    return json_response(
        HealthView(
            status="healthy" if healthy else "unhealthy",
            service="dedup2d",
            version=version("dedup2d"),
            vision=(await api.service.health()).status,
        ),
        200 if healthy else 503,
    )


@operation("Say that the process lives", answers=[Answer(200, StatusView, "it does")])
async def live(_: Api, __: Request) -> Response:
    return json_response(StatusView(status="live"))


@operation(
    "Say whether requests should be sent here",
    answers=[
        Answer(200, StatusView, "they should"),
        Answer(503, StatusView, "they should not: it stops, or cannot keep jobs"),
    ],
)
async def ready(api: Api, _: Request) -> Response:
    """
    Say whether requests should be sent here.

    An engine that cannot answer does not count: jobs are taken in and wait for it.
    """
    if api.stopping.begun:
        return json_response(StatusView(status="stopping"), 503)
    if not await _store_answers(api):
        return json_response(StatusView(status="the job store does not answer"), 503)
    return json_response(StatusView(status="ready"))


@operation(
    "Show the metrics for Prometheus",
    answers=[Answer(200, {"type": "string"}, "all of them", media_type="text/plain")],
    problems=["NOT_FOUND"],
)
async def metrics(api: Api, _: Request) -> Response:
    if api.metrics is None:
        raise HttpError("NOT_FOUND", "this service was started without metrics")
    if api.settings.metrics_port is not None:
        raise HttpError("NOT_FOUND", METRICS_ELSEWHERE)
    # A store that hangs must not keep Prometheus waiting: what it tells then is what matters.
    with anyio.move_on_after(_COUNT_SECONDS):
        await _store_answers(api)
    return Response(api.metrics.render(), media_type=CONTENT_TYPE)


async def _store_answers(api: Api) -> bool:
    """Count the jobs, which also refreshes their gauges."""
    try:
        await api.service.counts()
    except Exception:
        log.exception("the job store does not answer")
        return False
    return True


RESOURCES = (
    Resource(f"{PREFIX}/presets", {"GET": presets}, None),
    Resource(f"{PREFIX}/health", {"GET": vision_health}, None),
    Resource("/health", {"GET": health}, None),
    Resource("/livez", {"GET": live}, None),
    Resource("/readyz", {"GET": ready}, None),
    Resource("/metrics", {"GET": metrics}, None),
)
