"""
Requests to a dedup2d service: bounded, timed, and made again only where that does nothing twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TypeVar
from urllib.parse import urlsplit

from attrs import frozen

from dedup2d.client.options import ClientOptions
from dedup2d.client.problems import error_of
from dedup2d.errors import Dedup2DError, MissingExtraError, ServiceError, ServiceUnreachableError

try:
    import aiohttp

    from dedup2d.server_requests import Attempts, NoAnswerError, Pool, beginning_of, reason_of, whole_of
    from dedup2d.vision.http_upload import MultipartBody
except ImportError:
    raise MissingExtraError("client", "a client of a service (aiohttp, stamina)") from None

__all__ = ["Answer", "Request", "Transport"]

T = TypeVar("T")

PREFIX = "/api/v1/dedup/2d"
_CONNECT_SECONDS = 10.0
_PASSING = frozenset({429, 502, 503, 504})
_FINAL_CODES = frozenset({"JOB_TIMEOUT", "VISION_BAD_RESPONSE", "VISION_REFUSED"})
"""Codes of such a status that would come again."""


@frozen(kw_only=True)
class Request:
    """
    Args:
        method: of HTTP.
        path: below the API's prefix, percent-encoded.
        query: of the URL.
        headers: besides those of every request.
        body: makes the body, anew for each attempt.
        json: is the body instead.
        again: whether it may be made again when nobody knows whether it was carried out.
        seconds: how long the answer may take, None for as long as the options say.
    """

    method: str
    path: str
    query: Mapping[str, str] | list[tuple[str, str]] | None = None
    headers: Mapping[str, str] | None = None
    body: Callable[[], MultipartBody] | None = None
    json: Mapping[str, object] | None = None
    again: bool = True
    seconds: float | None = None


@frozen(kw_only=True)
class Answer:
    """What came: status, headers, and the body as a whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """One pool of connections to one service; enter and leave it before and after use."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._attempts = Attempts(
            most=options.attempts,
            base_seconds=options.base_delay_seconds,
            longest_seconds=options.max_delay_seconds,
        )
        self._pool = Pool(
            options.url.rstrip("/") + PREFIX,
            owner="Dedup2DClient",
            user_agent=f"dedup2d-client/{version('dedup2d')}",
            api_key=options.api_key,
            connect_seconds=_CONNECT_SECONDS,
        )

    async def open(self) -> None:
        """Make the pool; nothing is connected yet."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        await self._pool.close()

    async def ask(self, request: Request) -> Answer:
        """
        Make the request and return its answer.

        Raises:
            ServiceUnreachableError: nothing came back.
            Dedup2DError: the service refused; of the class that its code stands for.
        """

        async def whole() -> Answer:
            async with self.opened(request) as response:
                body = await self._whole(response)
                return Answer(status=response.status, headers=response.headers, body=body)

        return await self.repeatedly(request, whole)

    async def repeatedly(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Make *call*, again where that is safe and may help."""
        async for attempt in self._attempts.made(self.patience(request)):
            with attempt:
                return await call()
        raise AssertionError("a retry ends with a result or an error")

    @asynccontextmanager
    async def opened(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Make the request once, and give the answer with its body still to be read.

        Raises: as `ask`.
        """
        options = self._options
        seconds = request.seconds or (options.upload_seconds if request.body else options.timeout_seconds)
        try:
            async with self._pool.asked(
                request.method,
                request.path,
                query=request.query,
                headers=request.headers,
                body=request.body() if request.body else None,
                json=request.json,
                seconds=seconds,
            ) as response:
                if response.status >= 300 and response.status != 304:
                    raise error_of(response.status, response.headers, await beginning_of(response))
                yield response
        except NoAnswerError as error:
            host = urlsplit(options.url).hostname or ""
            raise ServiceUnreachableError(host, _reason(error.cause, seconds)) from error.cause

    def patience(self, request: Request) -> Callable[[Exception], bool | float]:
        """Return what says after an error whether the request is made again: at once (0.0), later, or not."""

        def patience(error: Exception) -> bool | float:
            if isinstance(error, ServiceUnreachableError):
                return request.again
            if not _passes(error, again=request.again):
                return False
            return self._attempts.asked_to_wait(getattr(error, "asked_to_wait", None))

        return patience

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await whole_of(response, self._options.max_answer_bytes)
        except ValueError as error:
            raise ServiceError(f"the answer of the service cannot be used: {error}") from None


def _passes(error: Exception, *, again: bool) -> bool:
    if not isinstance(error, Dedup2DError):
        return False
    status = getattr(error, "status", 0)
    if status not in _PASSING or (getattr(error, "problem_code", "") or error.code) in _FINAL_CODES:
        return False
    return again or status == 429  # which was said before anything was done


def _reason(error: Exception, seconds: float) -> str:
    """Return why there was no answer, without anything of the URL but its host."""
    if isinstance(error, TimeoutError):
        return f"nothing came within {seconds:g} s"
    return reason_of(error)
