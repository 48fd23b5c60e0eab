"""
Requests to a vision server: bounded, timed, tried again where that is safe, spared where it is not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TypeVar

from attrs import frozen

from dedup2d.errors import (
    Dedup2DError,
    MissingExtraError,
    VisionBadResponseError,
    VisionUnavailableError,
)
from dedup2d.observe import Observer
from dedup2d.server_requests import Attempts, NoAnswerError, Pool, beginning_of, reason_of, whole_of
from dedup2d.vision.http_circuit import Circuit, FailureError
from dedup2d.vision.http_options import VisionOptions
from dedup2d.vision.http_refusals import Refusal, refusal
from dedup2d.vision.http_upload import MultipartBody

try:
    import aiohttp
except ImportError:
    raise MissingExtraError("http", "calling a vision server (aiohttp)") from None

__all__ = ["Endpoint", "Request", "Transport"]

T = TypeVar("T")

_CONNECT_SECONDS = 5.0

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
        self._attempts = Attempts(
            most=options.retry_attempts,
            base_seconds=options.retry_base_delay_seconds,
            longest_seconds=options.retry_max_delay_seconds,
        )
        self._pool = Pool(
            options.url,
            owner="HTTPVisionClient",
            user_agent=f"dedup2d/{version('dedup2d')}",
            api_key=options.api_key,
            connect_seconds=_CONNECT_SECONDS,
        )

    async def open(self) -> None:
        """Make the pool; nothing is connected yet."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        await self._pool.close()

    async def ask(self, endpoint: Endpoint, request: Request, read: Callable[[bytes], T]) -> T:
        """
        Send *request*, and return what *read* makes of the answer.

        Raises:
            VisionUnavailableError, VisionCircuitOpenError: may pass; try again later.
            VisionBadResponseError: the answer cannot be used.
            Dedup2DError: the server refused, or the drawing cannot be read from where it is stored.
        """
        try:
            if not endpoint.again:
                return await self._once(endpoint, request, read)
            return await self._repeatedly(endpoint, request, read)
        except FailureError as failure:
            raise failure.error from failure.__cause__

    async def _repeatedly(self, endpoint: Endpoint, request: Request, read: Callable[[bytes], T]) -> T:
        async for attempt in self._attempts.made(_Patience(self._attempts)):
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
        seconds = endpoint.seconds or self._options.timeout_seconds
        tenant = {} if request.tenant_id is None else {"X-Dedup-Tenant-Id": request.tenant_id}
        try:
            async with self._pool.asked(
                endpoint.method,
                request.path,
                query=request.query,
                headers=tenant,
                body=request.body() if request.body else None,
                seconds=seconds,
            ) as response:
                if response.status >= 300:
                    raise refusal(
                        Refusal(
                            status=response.status,
                            headers=response.headers,
                            data=await beginning_of(response),
                            what=endpoint.what,
                        )
                    )
                try:
                    return await whole_of(response, endpoint.most_bytes)
                except ValueError as error:
                    raise _unusable(str(error)) from None
        except NoAnswerError as error:
            raise _broken(error.cause, seconds) from error.cause


class _Patience:
    """
    Says for one call whether it is tried again after an error: at once (a float of 0), later or not at all.

    An answer that cannot be used is asked for once more only: it will be the same again.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._bad_answers = 0

    def __call__(self, error: Exception) -> bool | float:
        if not isinstance(error, FailureError) or not error.again:
            return False
        if isinstance(error.error, VisionBadResponseError):
            self._bad_answers += 1
            return self._bad_answers == 1
        return self._attempts.asked_to_wait(error.wait)


def _read(data: bytes, read: Callable[[bytes], T]) -> T:
    try:
        return read(data)
    except VisionBadResponseError as error:
        raise FailureError(error, server_failed=True, again=True) from None
    except Dedup2DError as error:
        raise FailureError(error) from None


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
    return _unreachable(f"it cannot be reached: {reason_of(error)}")


def _unreachable(reason: str) -> FailureError:
    return FailureError(VisionUnavailableError(reason), server_failed=True, again=True)


def _unusable(reason: str) -> FailureError:
    return FailureError(VisionBadResponseError(reason), server_failed=True, again=True)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, Dedup2DError) else "INTERNAL"
