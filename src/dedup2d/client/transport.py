"""
Requests to a dedup2d service: bounded, timed, and made again only where that does nothing twice.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TypeVar

from attrs import frozen

from dedup2d.client.options import ClientOptions
from dedup2d.client.problems import error_of
from dedup2d.errors import (
    Dedup2DError,
    InternalError,
    MissingExtraError,
    ServiceError,
    ServiceUnreachableError,
)
from dedup2d.tracing import TRACE, current_request_id

try:
    import aiohttp
    import stamina
    from yarl import URL

    from dedup2d.vision.http_upload import MultipartBody
except ImportError:
    raise MissingExtraError("client", "a client of a service (aiohttp, stamina)") from None

__all__ = ["Answer", "Request", "Transport"]

T = TypeVar("T")

PREFIX = "/api/v1/dedup/2d"
_CONNECT_SECONDS = 10.0
_PROBLEM_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024
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
        again: whether it may be made again when nobody knows whether it was carried out.
        seconds: how long the answer may take, None for as long as the options say.
    """

    method: str
    path: str
    query: Mapping[str, str] | list[tuple[str, str]] | None = None
    headers: Mapping[str, str] | None = None
    body: Callable[[], MultipartBody] | None = None
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
        self._url = options.url.rstrip("/") + PREFIX
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; nothing is connected yet."""
        headers = {"User-Agent": f"dedup2d-client/{version('dedup2d')}", "Accept-Encoding": "identity"}
        if self._options.api_key is not None:
            headers["X-API-Key"] = self._options.api_key
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            trust_env=False,
            auto_decompress=False,
        )
        # It would send GET and DELETE once more by itself, though the first may have been carried out.
        self._session._retry_connection = False  # noqa: SLF001 - there is no other switch

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

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
        if self._options.attempts <= 1:
            return await call()
        async for attempt in stamina.retry_context(
            on=_Patience(request.again, self._options.max_delay_seconds),
            attempts=self._options.attempts,
            timeout=None,
            wait_initial=self._options.base_delay_seconds,
            wait_jitter=self._options.base_delay_seconds,
            wait_max=self._options.max_delay_seconds,
        ):
            with attempt:
                return await call()
        raise AssertionError("a retry ends with a result or an error")

    @asynccontextmanager
    async def opened(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Make the request once, and give the answer with its body still to be read.

        Raises: as `ask`.
        """
        body = request.body() if request.body else None
        seconds = request.seconds or (self._options.upload_seconds if body else self._options.timeout_seconds)
        try:
            async with self._sent(request, body, seconds) as response:
                if response.status >= 300 and response.status != 304:
                    raise error_of(response.status, response.headers, await _beginning(response))
                yield response
        except Dedup2DError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if body is not None and isinstance(body.failure, Dedup2DError):
                raise body.failure from None
            raise ServiceUnreachableError(self._host, _reason(error, seconds)) from error
        finally:
            if body is not None:
                body.give_up()

    @property
    def _host(self) -> str:
        return URL(self._options.url).host or ""

    @asynccontextmanager
    async def _sent(
        self, request: Request, body: MultipartBody | None, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise InternalError("Dedup2DClient is used outside of its `async with`")
        url = URL(self._url + request.path, encoded=True)
        async with self._session.request(
            request.method,
            url.with_query(request.query) if request.query else url,
            data=body,
            headers={**_origin(), **(request.headers or {})},
            allow_redirects=False,  # the key would go along
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
        ) as response:
            yield response

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            data += chunk
            if len(data) > self._options.max_answer_bytes:
                raise ServiceError(f"the answer is larger than {self._options.max_answer_bytes:,} bytes")
        return bytes(data)


class _Patience:
    """Says after an error whether the request is made again: at once (a float of 0), later, or not at all."""

    def __init__(self, again: bool, longest_wait: float) -> None:
        self._again = again
        self._longest_wait = longest_wait

    def __call__(self, error: Exception) -> bool | float:
        if isinstance(error, ServiceUnreachableError):
            return self._again
        if not isinstance(error, Dedup2DError) or not self._passes(error):
            return False
        wait: float | None = error.__dict__.get("asked_to_wait")
        if wait is None:
            return True
        return wait if wait <= self._longest_wait else False

    def _passes(self, error: Dedup2DError) -> bool:
        status = error.__dict__.get("status", 0)
        code = error.__dict__.get("problem_code") or error.code
        if status not in _PASSING or code in _FINAL_CODES:
            return False
        return self._again or status == 429  # which was said before anything was done


def _origin() -> dict[str, str]:
    """Return the headers that tell the service whom this is for."""
    headers: dict[str, str] = {}
    if request_id := current_request_id():
        headers["X-Request-Id"] = request_id
    if trace := TRACE.get():
        headers["traceparent"] = trace.child().traceparent
    return headers


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.read(_PROBLEM_BYTES)
    except aiohttp.ClientError:
        return b""


def _reason(error: Exception, seconds: float) -> str:
    """Return why there was no answer, without anything of the URL but its host."""
    if isinstance(error, TimeoutError):
        return f"nothing came within {seconds:g} s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    inner: Exception = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, OSError) and inner.errno is not None and inner.errno > 0:
        return os.strerror(inner.errno).lower()
    return "the connection broke"
