"""Requests to another server, as all clients here make them: one pool, bounded, timed, each sent once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from attrs import frozen

from dedup2d.errors import Dedup2DError, InternalError, MissingExtraError
from dedup2d.tracing import outgoing_headers

try:
    import aiohttp
    import stamina
    from yarl import URL

    from dedup2d.vision.http_upload import MultipartBody
except ImportError:
    raise MissingExtraError("http", "calling a server (aiohttp, stamina)") from None

__all__ = ["Attempts", "NoAnswerError", "Pool", "beginning_of", "reason_of", "whole_of"]

_KEPT_SECONDS = 4.0
"""How long an idle connection is kept: less than servers do, or a request meets one that is closing."""
_BEGINNING_BYTES = 64 * 1024


class NoAnswerError(Exception):
    """No answer came, or not all of it: *cause* is what the HTTP library or the system says."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


@frozen(kw_only=True)
class Attempts:
    """
    How often a request is made, and with what pauses.

    Args:
        most: attempts in all.
        base_seconds: least pause before the second; it doubles with each one more.
        longest_seconds: longest pause.
    """

    most: int
    base_seconds: float
    longest_seconds: float

    def made(self, patience: Callable[[Exception], bool | float]) -> AsyncIterable[stamina.Attempt]:
        """Give attempts as long as *patience* says after an error: at once (0.0), so late, later, or not."""
        return stamina.retry_context(
            on=patience,
            attempts=self.most,
            timeout=None,
            wait_initial=self.base_seconds,
            wait_jitter=self.base_seconds,
            wait_max=self.longest_seconds,
        )

    def asked_to_wait(self, seconds: float | None) -> bool | float:
        """Return what a patience says where the server asks for a pause of *seconds*, or for none."""
        if seconds is None:
            return True
        return seconds if seconds <= self.longest_seconds else False


class Pool:
    """
    The connections to one server; `open` before and `close` after use.

    Args:
        url: of the server, without a slash at its end.
        owner: what it is used by, for the error of who did not open it.
        user_agent: named in each request.
        api_key: sent as `X-API-Key`; None sends none.
        connect_seconds: how long connecting may take.
    """

    def __init__(
        self, url: str, *, owner: str, user_agent: str, api_key: str | None, connect_seconds: float
    ) -> None:
        self._url = url
        self._owner = owner
        self._connect_seconds = connect_seconds
        self._headers = {
            "User-Agent": user_agent,
            "Accept-Encoding": "identity",  # what is small here must not grow large there
            **({} if api_key is None else {"X-API-Key": api_key}),
        }
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; nothing is connected yet."""
        self._session = aiohttp.ClientSession(
            # Callers bound how many calls are made at once: waiting here would look like a slow server.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
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

    @asynccontextmanager
    async def asked(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        body: MultipartBody | None = None,
        json: Mapping[str, object] | None = None,
        seconds: float,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Make the request once, and give the answer, whatever its status, with its body still to be read.

        Raises:
            NoAnswerError: no answer came, or not all of it, also while the block reads it.
            Exception: the drawing that is sent cannot be read; as its stream raised it.
        """
        if self._session is None:
            raise InternalError(f"{self._owner} is used outside of its `async with`")
        url = URL(self._url + path, encoded=True)
        try:
            async with self._session.request(
                method,
                url.with_query(query) if query else url,
                data=body,
                json=json,
                headers={**outgoing_headers(), **(headers or {})},
                allow_redirects=False,  # the key would go along
                timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=min(seconds, self._connect_seconds)
                ),
            ) as response:
                yield response
        except Dedup2DError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if body is not None and body.failure is not None:
                raise body.failure from None
            raise NoAnswerError(error) from error
        finally:
            if body is not None:
                body.give_up()


async def whole_of(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """
    Return the body of an answer.

    Raises:
        ValueError: it cannot be used; says why.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise ValueError("it is compressed, which was not asked for")
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > most_bytes:
            response.close()
            raise ValueError(f"it is larger than {most_bytes:,} bytes")
    return bytes(data)


async def beginning_of(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of a refusal's body, or what came of it."""
    data = bytearray()
    try:
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > _BEGINNING_BYTES:
                response.close()
                break
    except aiohttp.ClientError:
        pass
    return bytes(data[:_BEGINNING_BYTES])


def reason_of(error: Exception) -> str:
    """Return why no answer came, without the address, which is not for those who search."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    inner: Exception = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, OSError) and inner.errno is not None and inner.errno > 0:
        return os.strerror(inner.errno).lower()  # its own words name the address
    return "the connection broke"
