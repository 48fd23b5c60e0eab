"""
Requests to a vision server: bounded, timed, tried again where that is safe, spared where it is not.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TypeVar

from attrs import frozen

from dedup2d.errors import (
    Dedup2DError,
    InternalError,
    MissingExtraError,
    VisionBadResponseError,
    VisionUnavailableError,
)
from dedup2d.observe import Observer
from dedup2d.tracing import TRACE, current_request_id
from dedup2d.vision.http_circuit import Circuit, FailureError
from dedup2d.vision.http_options import VisionOptions
from dedup2d.vision.http_refusals import Refusal, refusal
from dedup2d.vision.http_upload import MultipartBody

try:
    import aiohttp
    import stamina
    from yarl import URL
except ImportError:
    raise MissingExtraError("http", "calling a vision server (aiohttp, stamina)") from None

__all__ = ["Endpoint", "Request", "Transport"]

T = TypeVar("T")

_CONNECT_SECONDS = 5.0
_KEPT_SECONDS = 4.0
"""How long an idle connection is kept: less than servers do, or a request meets one that is closing."""
_REFUSAL_BYTES = 64 * 1024

log = logging.getLogger("dedup2d.vision")


@frozen(kw_only=True)
class Endpoint:
    """
    Args:
        name: names circuit and metrics.
        method: of the request.
        most_bytes: largest answer taken in.
        again: whether it may be tried again: it changes nothing.
        spared: whether it has a circuit.
        what: what it does, as it goes on after "the vision server cannot"; empty if every server can.
        seconds: how long it may take, None for as long as the options say.
    """

    name: str
    method: str = "POST"
    most_bytes: int = 1024 * 1024
    again: bool = False
    spared: bool = True
    what: str = ""
    seconds: float | None = None


@frozen(kw_only=True)
class Request:
    """
    Args:
        path: below the server's URL, percent-encoded.
        tenant_id: whose index is meant, None for nobody's.
        query: of the URL.
        body: makes the body, anew for each try.
    """

    path: str
    tenant_id: str | None = None
    query: Mapping[str, str] | None = None
    body: Callable[[], MultipartBody] | None = None


class Transport:
    """One pool of connections to one server; enter and leave it before and after use."""

    def __init__(self, options: VisionOptions, *, observer: Observer, clock: Callable[[], float]) -> None:
        self._options = options
        self._observer = observer
        self._clock = clock
        self._circuits: dict[str, Circuit] = {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; nothing is connected yet."""
        headers = {
            "User-Agent": f"dedup2d/{version('dedup2d')}",
            "Accept-Encoding": "identity",  # what is small here must not grow large there
        }
        if self._options.api_key is not None:
            headers["X-API-Key"] = self._options.api_key
        self._session = aiohttp.ClientSession(
            # Callers bound how many calls are made at once: waiting here would look like a slow server.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            trust_env=False,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, endpoint: Endpoint, request: Request, read: Callable[[bytes], T]) -> T:
        """
        Send *request*, and return what *read* makes of the answer.

        Raises:
            VisionUnavailableError, VisionCircuitOpenError: may pass; try again later.
            VisionBadResponseError: the answer cannot be used.
            Dedup2DError: the server refused, or the drawing cannot be read from where it is stored.
        """
        try:
            if not endpoint.again or self._options.retry_attempts == 1:
                return await self._once(endpoint, request, read)
            return await self._repeatedly(endpoint, request, read)
        except FailureError as failure:
            raise failure.error from failure.__cause__

    async def _repeatedly(self, endpoint: Endpoint, request: Request, read: Callable[[bytes], T]) -> T:
        options = self._options
        async for attempt in stamina.retry_context(
            on=_Patience(options.retry_max_delay_seconds),
            attempts=options.retry_attempts,
            timeout=None,
            wait_initial=options.retry_base_delay_seconds,
            wait_jitter=options.retry_base_delay_seconds,
            wait_max=options.retry_max_delay_seconds,
        ):
            with attempt:
                if attempt.num > 1:
                    self._observer.vision_retried(endpoint.name)
                return await self._once(endpoint, request, read)
        raise AssertionError("a retry ends with a result or an error")

    async def _once(self, endpoint: Endpoint, request: Request, read: Callable[[bytes], T]) -> T:
        """Make one request, and tell the observer how it went."""
        begin, outcome = time.perf_counter(), "CANCELED"
        try:
            found = await self._guarded(endpoint, request, read)
            outcome = "ok"
        except FailureError as failure:
            outcome = _code(failure.error)
            if failure.again:
                log.warning(
                    "a call of the vision server failed",
                    extra={"endpoint": endpoint.name, "url": self._options.url, "error": str(failure.error)},
                )
            raise
        except Exception as error:
            outcome = _code(error)
            raise
        finally:
            self._observer.vision_called(endpoint.name, outcome, time.perf_counter() - begin)
        return found

    async def _guarded(self, endpoint: Endpoint, request: Request, read: Callable[[bytes], T]) -> T:
        if not endpoint.spared:
            return _read(await self._exchange(endpoint, request), read)
        with self._circuit(endpoint).call():
            return _read(await self._exchange(endpoint, request), read)

    def _circuit(self, endpoint: Endpoint) -> Circuit:
        if endpoint.name not in self._circuits:
            self._circuits[endpoint.name] = Circuit(
                endpoint.name, self._options, clock=self._clock, changed=self._observer.vision_circuit
            )
        return self._circuits[endpoint.name]

    async def _exchange(self, endpoint: Endpoint, request: Request) -> bytes:
        """Send the request and return the answer's body."""
        body = request.body() if request.body else None
        seconds = endpoint.seconds or self._options.timeout_seconds
        try:
            return await self._send(endpoint, request, body, seconds)
        except FailureError:
            raise
        except Exception as error:
            if body is not None and body.failure is not None:
                raise body.failure from None
            if not isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
                raise
            raise _broken(error, seconds) from error
        finally:
            if body is not None:
                body.give_up()

    async def _send(
        self, endpoint: Endpoint, request: Request, body: MultipartBody | None, seconds: float
    ) -> bytes:
        if self._session is None:
            raise InternalError("HTTPVisionClient is used outside of its `async with`")
        url = URL(self._options.url + request.path, encoded=True)
        async with self._session.request(
            endpoint.method,
            url.with_query(request.query) if request.query else url,
            data=body,
            headers=_headers(request.tenant_id),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
        ) as response:
            if response.status >= 300:
                data = await _beginning(response)
                raise refusal(
                    Refusal(status=response.status, headers=response.headers, data=data, what=endpoint.what)
                )
            return await _whole(response, endpoint.most_bytes)


class _Patience:
    """
    Says for one call whether it is tried again after an error: at once (a float of 0), later or not at all.

    An answer that cannot be used is asked for once more only: it will be the same again.
    """

    def __init__(self, longest_wait: float) -> None:
        self._longest_wait = longest_wait
        self._bad_answers = 0

    def __call__(self, error: Exception) -> bool | float:
        if not isinstance(error, FailureError) or not error.again:
            return False
        if isinstance(error.error, VisionBadResponseError):
            self._bad_answers += 1
            return self._bad_answers == 1
        if error.wait is None:
            return True
        return error.wait if error.wait <= self._longest_wait else False


def _headers(tenant_id: str | None) -> dict[str, str]:
    headers = {} if tenant_id is None else {"X-Dedup-Tenant-Id": tenant_id}
    if request_id := current_request_id():
        headers["X-Request-Id"] = request_id
    if trace := TRACE.get():
        headers["traceparent"] = trace.child().traceparent
    return headers


def _read(data: bytes, read: Callable[[bytes], T]) -> T:
    try:
        return read(data)
    except VisionBadResponseError as error:
        raise FailureError(error, server_failed=True, again=True) from None
    except Dedup2DError as error:
        raise FailureError(error) from None


async def _whole(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise _unusable("it is compressed, which was not asked for")
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > most_bytes:
            response.close()
            raise _unusable(f"it is larger than {most_bytes:,} bytes")
    return bytes(data)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of a refusal's body, or what came of it."""
    data = bytearray()
    try:
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > _REFUSAL_BYTES:
                response.close()
                break
    except aiohttp.ClientError:
        pass
    return bytes(data[:_REFUSAL_BYTES])


def _broken(error: Exception, seconds: float) -> FailureError:
    """Return the failure of an exchange that broke off."""
    if isinstance(error, TimeoutError):
        return _unreachable(f"no answer within {seconds:g} s")
    if isinstance(error, aiohttp.ClientPayloadError):
        # Also what a server looks like that is killed, or a network that fails: it may pass.
        return _unreachable("the connection broke in the middle of its answer")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return _unusable("it is not HTTP")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return _unreachable("it closed the connection without an answer")
    return _unreachable(f"it cannot be reached: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the reason without the address, which is not for those who search."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    inner: Exception = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, OSError) and inner.errno is not None and inner.errno > 0:
        return os.strerror(inner.errno).lower()  # its own words name the address
    return "the connection broke"


def _unreachable(reason: str) -> FailureError:
    return FailureError(VisionUnavailableError(reason), server_failed=True, again=True)


def _unusable(reason: str) -> FailureError:
    return FailureError(VisionBadResponseError(reason), server_failed=True, again=True)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, Dedup2DError) else "INTERNAL"
