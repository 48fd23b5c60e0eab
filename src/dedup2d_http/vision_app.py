"""The vision server: an engine behind the dedupcad-vision contract."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from datetime import timedelta

import anyio
import structlog
from attrs import frozen
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import Scope

from dedup2d.errors import Dedup2DError, shown
from dedup2d.files.observed import observed
from dedup2d.keys import Principal
from dedup2d.keys.ring import KeyRing
from dedup2d.metrics import VisionServerMetrics
from dedup2d.protocols import FileStore, VisionClient
from dedup2d.tenants import TENANT_RULE, is_tenant_id
from dedup2d_http.auth import Authentication, LoopbackGuard
from dedup2d_http.context import RequestContext
from dedup2d_http.problems import EXCEPTION_HANDLERS, HttpError
from dedup2d_http.routing import route
from dedup2d_http.stopping import Stopping
from dedup2d_http.traffic import counted
from dedup2d_http.uploads import UploadLimits
from dedup2d_http.vision_places import Places
from dedup2d_http.vision_routes import RESOURCES, VisionApi

__all__ = ["VisionServerOptions", "collect_leftovers", "create_vision_app"]

_TENANT_HEADER = "X-Dedup-Tenant-Id"
_LEFT_AFTER = timedelta(hours=1).total_seconds()
_COLLECT_EVERY_SECONDS = 600.0

log = structlog.get_logger("dedup2d.http")


@frozen(kw_only=True)
class VisionServerOptions:
    """
    Args:
        tenant: whose index is meant where a request names no tenant.
        api_key: demanded of every call but health and metrics; None serves this machine only.
        allowed_hosts: Host names answered to without a key, besides loopback's.
        running: how many searches run at once.
        waiting: how many more may wait.
        seconds: how long one search may run.
        max_upload_bytes: largest drawing taken in.
        shows_metrics: whether `/metrics` is here, rather than on a port of its own.
    """

    tenant: str = "default"
    api_key: str | None = None
    allowed_hosts: Collection[str] = ()
    running: int = 2
    waiting: int = 32
    seconds: float = 300.0
    max_upload_bytes: int = 100 * 1024 * 1024
    shows_metrics: bool = True


def create_vision_app(
    vision: VisionClient,
    files: FileStore,
    options: VisionServerOptions,
    *,
    metrics: VisionServerMetrics | None = None,
    stopping: Stopping | None = None,
) -> Starlette:
    """
    Return the ASGI app for *vision*, which like *files* must be open while requests are answered.

    Args:
        vision: answers.
        files: keeps drawings while they are worked on; nothing else may be in it.
        options: key, tenant and limits.
        metrics: hears of all calls.
        stopping: tells when requests are to end, as the server stops.
    """
    stopping, metrics = stopping or Stopping(), metrics or VisionServerMetrics()
    api = VisionApi(
        vision=vision,
        files=observed(files, metrics),
        limits=UploadLimits(max_file_bytes=options.max_upload_bytes),
        places=Places(running=options.running, waiting=options.waiting),
        seconds=options.seconds,
        stopping=stopping,
        metrics=metrics,
        shows_metrics=options.shows_metrics,
    )
    app = Starlette(
        routes=[route(api, resource) for resource in RESOURCES],
        middleware=[
            counted(metrics, RESOURCES),
            *_middleware(options, stopping),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.router.redirect_slashes = False
    return app


async def collect_leftovers(files: FileStore) -> None:
    """Delete, again and again, what processes that died have left of the drawings they worked on."""
    while True:
        try:
            for stored in await files.list(older_than=time.time() - _LEFT_AFTER):
                await files.delete(stored.key)
        except Dedup2DError:
            log.exception("leftover drawings could not be deleted; it is tried again later")
        await anyio.sleep(_COLLECT_EVERY_SECONDS * (0.5 + secrets.randbelow(1000) / 1000))


class TenantAuthentication(Authentication):
    """ASGI middleware: demands the key, if there is one, and takes the tenant from the header."""

    async def _principal(self, scope: Scope, headers: Headers) -> Principal:
        principal = await super()._principal(scope, headers)
        tenants = headers.getlist(_TENANT_HEADER)
        if not tenants:
            return principal
        if len(tenants) > 1 or not is_tenant_id(tenants[0]):
            raise HttpError(
                "INVALID_PARAMETER",
                f"{_TENANT_HEADER}={shown(', '.join(tenants))} is not allowed: give {TENANT_RULE}",
            )
        return Principal(tenants[0])


def _middleware(options: VisionServerOptions, stopping: Stopping) -> list[Middleware]:
    keys = KeyRing({} if options.api_key is None else {options.api_key: options.tenant})
    guard = Middleware(
        LoopbackGuard,
        keys=keys,
        allowed_hosts=options.allowed_hosts,
        keys_setting="DEDUPCAD_VISION_API_KEY",
    )
    return [
        Middleware(RequestContext, stopping=stopping),
        guard,
        Middleware(TenantAuthentication, keys=keys, default_tenant=options.tenant, prefix="/api/"),
    ]
