"""The table of routes: each path with its methods, answered the same way everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dedup2d_http.auth import Principal
from dedup2d_http.problems import HttpError
from dedup2d_http.stopping import Stopping
from dedup2d_http.uploads import UploadLimits

if TYPE_CHECKING:
    from dedup2d.metrics import PrometheusMetrics
    from dedup2d.service import Dedup2D
    from dedup2d.settings import Settings

__all__ = ["PREFIX", "Api", "Handler", "Resource", "route", "tenant_of"]

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


Handler = Callable[[A, Request], Awaitable[Response]]
"""Answers a request with what the handlers of an app work with."""


@frozen
class Resource(Generic[A]):
    """A path and what its methods do; HEAD and OPTIONS come by themselves."""

    path: str
    methods: Mapping[str, Handler[A]]

    @property
    def allow(self) -> str:
        extra = {"HEAD"} if "GET" in self.methods else set()
        return ", ".join(sorted({*self.methods, *extra, "OPTIONS"}))


def route(api: A, resource: Resource[A]) -> Route:
    """Return the Starlette route of *resource*."""
    return Route(resource.path, _Endpoint(api, resource))


def tenant_of(request: Request) -> str:
    """Return the tenant whose key came with *request*."""
    principal: Principal = request.state.principal
    return principal.tenant_id


@frozen
class _Endpoint(Generic[A]):
    api: A
    resource: Resource[A]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        allow = {"Allow": self.resource.allow}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        handler = self.resource.methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise HttpError("METHOD_NOT_ALLOWED", f"this route has the methods {self.resource.allow}", allow)
        return await handler(self.api, request)
