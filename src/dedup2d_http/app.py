"""The Starlette app: the service's methods as HTTP routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Lifespan

from dedup2d.keys.build import build_key_ring
from dedup2d.keys.ring import KeyRing
from dedup2d.metrics import PrometheusMetrics
from dedup2d.metrics_server import metrics_served
from dedup2d.service import Dedup2D
from dedup2d.settings import Settings
from dedup2d_http.auditing import audit_start
from dedup2d_http.auth import Authentication, LoopbackGuard
from dedup2d_http.context import RequestContext
from dedup2d_http.cors import CrossOrigin
from dedup2d_http.counters import Counters, build_counters
from dedup2d_http.limiting import RequestLimit, WrongKeys
from dedup2d_http.problems import EXCEPTION_HANDLERS
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import Api, route
from dedup2d_http.stopping import Stopping
from dedup2d_http.traffic import counted
from dedup2d_http.upload_places import UploadPlaces
from dedup2d_http.uploads import UploadLimits

__all__ = ["create_app", "from_environment"]


def create_app(
    service: Dedup2D,
    settings: Settings,
    *,
    keys: KeyRing | None = None,
    counters: Counters | None = None,
    metrics: PrometheusMetrics | None = None,
    limits: UploadLimits | None = None,
    stopping: Stopping | None = None,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """
    Return the ASGI app for *service*, which must be open while requests are answered.

    Args:
        service: does the work.
        settings: allowed hosts, limits, and when a search is forced to be a job.
        keys: knows whose they are, open like *service*; those of *settings* if not given.
        counters: count requests, open like *service*; in this process if not given.
        metrics: the service's observer, shown at `/metrics` unless they have a port of their own.
        limits: what an upload may cost; as large as `settings.max_upload_bytes` if not given.
        stopping: tells when requests are to end, as the server stops.
        lifespan: what the server runs around the app.
    """
    stopping = stopping or Stopping()
    api = Api(
        service=service,
        settings=settings,
        limits=limits or UploadLimits(max_file_bytes=settings.max_upload_bytes),
        stopping=stopping,
        metrics=metrics,
    )
    app = Starlette(
        routes=[route(api, resource) for resource in RESOURCES],
        middleware=[
            *([counted(metrics, RESOURCES)] if metrics else []),
            *_middleware(settings, keys or KeyRing(settings.api_keys), counters or Counters(), stopping),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    # A redirect would be made from the client's Host header.
    app.router.redirect_slashes = False
    return app


def _middleware(
    settings: Settings, keys: KeyRing, counters: Counters, stopping: Stopping
) -> list[Middleware]:
    wrong_keys = WrongKeys(
        counters, per_minute=settings.max_wrong_keys_per_minute, trusted=settings.trusted_proxies
    )
    return [
        Middleware(RequestContext, stopping=stopping),
        *([Middleware(CrossOrigin, origins=settings.cors_origins)] if settings.cors_origins else []),
        Middleware(
            LoopbackGuard,
            keys=keys,
            allowed_hosts=settings.allowed_hosts,
            allowed_origins=settings.cors_origins,
        ),
        Middleware(
            Authentication, keys=keys, default_tenant=settings.tenant, prefix="/api/", wrong_keys=wrong_keys
        ),
        Middleware(RequestLimit, counters=counters, per_second=settings.requests_per_second),
        Middleware(UploadPlaces),
    ]


def from_environment() -> Starlette:
    """
    Return the app with a service of its own, for any ASGI server that runs lifespans.

    The server must listen on loopback unless there are keys; `dedup2d serve` sees to it.

    Raises:
        ConfigurationError: a setting is not allowed.
        MissingExtraError: a package is not installed.
    """
    settings = Settings.from_environment()
    metrics = PrometheusMetrics()
    service = Dedup2D.from_settings(settings, observer=metrics)
    keys, counters = build_key_ring(settings), build_counters(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with metrics_served(metrics.render, host=settings.metrics_host, port=settings.metrics_port):
            async with keys, counters, service, service.watched():
                audit_start(settings)
                yield

    return create_app(service, settings, keys=keys, counters=counters, metrics=metrics, lifespan=lifespan)
