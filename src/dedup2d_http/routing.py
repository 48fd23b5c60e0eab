"""The table of routes: each path with its methods, answered the same way everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import evolve, field, frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from dedup2d.keys import Principal, Scope
from dedup2d.tenants import TenantLimits
from dedup2d_http.problems import HttpError
from dedup2d_http.stopping import Stopping
from dedup2d_http.streams import Streams
from dedup2d_http.uploads import UploadLimits

if TYPE_CHECKING:
    from dedup2d.metrics import PrometheusMetrics
    from dedup2d.service import Dedup2D
    from dedup2d.settings import Settings

__all__ = ["PREFIX", "Api", "Handler", "Resource", "job_path", "require", "route", "tenant_of"]

PREFIX = "/api/v1/dedup/2d"

A = TypeVar("A")


@frozen(kw_only=True)
class Api:
    """What the handlers work with."""

    service: Dedup2D
    settings: Settings
    limits: UploadLimits
    stopping: Stopping
    metrics: PrometheusMetrics | None
    streams: Streams = field(factory=Streams)

    def limits_of(self, request: Request) -> UploadLimits:
        """Return what an upload of the tenant of *request* may cost."""
        own = self.settings.tenant_limits.get(tenant_of(request), TenantLimits()).max_upload_bytes
        return self.limits if own is None else evolve(self.limits, max_file_bytes=own)


Handler = Callable[[A, Request], Awaitable[Response]]
"""Answers a request with what the handlers of an app work with."""


@frozen
class Resource(Generic[A]):
    """
    A path and what its methods do; HEAD and OPTIONS come by themselves.

    Args:
        path: as Starlette has it.
        methods: what answers each.
        scope: what a key must be allowed for them, for each if they differ; None for any key. Under
            `/api/` only, as nothing else asks for a key. A method that was forgotten asks for the most.
    """

    path: str
    methods: Mapping[str, Handler[A]]
    scope: Scope | Mapping[str, Scope] | None = Scope.ADMIN

    @property
    def allow(self) -> str:
        extra = {"HEAD"} if "GET" in self.methods else set()
        return ", ".join(sorted({*self.methods, *extra, "OPTIONS"}))

    def scope_of(self, method: str) -> Scope | None:
        """Return what a key must be allowed for *method*, one of `methods`; None if any key will do."""
        if isinstance(self.scope, Mapping):
            return self.scope.get(method, Scope.ADMIN)
        return self.scope


def route(api: A, resource: Resource[A]) -> Route:
    """Return the Starlette route of *resource*."""
    return Route(resource.path, _Endpoint(api, resource))


def tenant_of(request: Request) -> str:
    """Return the tenant whose key came with *request*."""
    principal: Principal = request.state.principal
    return principal.tenant_id


def job_path(request: Request, job_id: str) -> str:
    """Return where the job is shown, as the client of *request* sees it."""
    return f"{request.scope.get('root_path', '')}{PREFIX}/jobs/{job_id}"


def require(request: Request, scope: Scope | None) -> None:
    """
    Make sure that the key of *request* may do what needs *scope*; routes that ask for no key need none.

    Raises:
        HttpError: it may not.
    """
    principal: Principal | None = getattr(request.state, "principal", None)
    if scope is None or principal is None or scope in principal.scopes:
        return
    allowed = ", ".join(sorted(principal.scopes)) or "nothing"
    raise HttpError(
        "FORBIDDEN", f"this needs a key with the scope {scope}, and this key has {allowed}: use another key"
    )


@frozen
class _Endpoint(Generic[A]):
    api: A
    resource: Resource[A]

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        allow = {"Allow": self.resource.allow}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        method = "GET" if request.method == "HEAD" else request.method
        handler = self.resource.methods.get(method)
        if handler is None:
            raise HttpError("METHOD_NOT_ALLOWED", f"this route has the methods {self.resource.allow}", allow)
        # Before a byte of the body is read.
        require(request, self.resource.scope_of(method))
        return await handler(self.api, request)
