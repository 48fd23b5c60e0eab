"""What comes in and goes out, counted and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dedup2d.metrics import VisionServerMetrics
from dedup2d_http.contract import operation_of
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routing import Resource

__all__ = ["Traffic", "counted"]


def counted(metrics: VisionServerMetrics, resources: Sequence[Resource[Any]]) -> Middleware:
    """Return what counts the requests of an app with these routes, whose samples are there from now on."""
    metrics.http_routes(_expected(resources), PROBLEMS)
    return Middleware(Traffic, metrics=metrics, resources=resources)


class Traffic:
    """
    ASGI middleware around all others of an app.

    Args:
        app: the app.
        metrics: told of each request.
        resources: the routes of the app: a request is counted under the template of one, never its path.
        clock: gives seconds that only grow.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: VisionServerMetrics,
        resources: Sequence[Resource[Any]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock
        self._templates = [(compile_path(one.path)[0], one.path) for one in resources]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begin = self._clock()
        self._metrics.http_begun()
        try:
            await self._app(scope, receive, noting)
        finally:
            state = scope.get("state", {})
            self._metrics.http_ended(
                scope["method"],
                self._template(scope["path"]),
                None if state.get("client_gone") else status,
                self._clock() - begin,
                state.get("problem"),
            )

    def _template(self, path: str) -> str | None:
        # Looked up again: what is refused before it is routed should count for its route too.
        return next((template for pattern, template in self._templates if pattern.match(path)), None)


def _expected(resources: Iterable[Resource[Any]]) -> Iterator[tuple[str, str, int]]:
    """Give each method and route with the statuses that are promised, and that of a failure."""
    for resource in resources:
        for method, handler in resource.methods.items():
            promised = operation_of(handler)
            statuses = [answer.status for answer in promised.answers] if promised else [200]
            for status in {*statuses, 500}:
                yield method, resource.path, status
