"""Plain requests: for what no client of the API would do, and for what lies outside of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import frozen

from dedup2d.errors import MissingExtraError, ServiceError, ServiceUnreachableError, shown
from dedup2d.types import DrawingFile

try:
    from dedup2d.problems import problem_of
    from dedup2d.server_requests import NoAnswerError, Pool, reason_of, whole_of
    from dedup2d.vision.http_upload import MultipartBody
except ImportError:
    raise MissingExtraError("client", "smoke tests of a service (aiohttp, msgspec)") from None

__all__ = ["Plain", "Reply", "file_of"]

_CONNECT_SECONDS = 10.0
_MOST_BYTES = 64 * 1024 * 1024


@frozen
class Reply:
    """What came: status, headers, and the body as a whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object of the body; empty if it is none."""
        return problem_of(self.body)

    @property
    def code(self) -> str:
        """The code of the problem, empty if it is none."""
        return str(self.fields.get("code", ""))

    @property
    def said(self) -> str:
        """Status, code and detail in one line."""
        detail = shown(str(self.fields.get("detail", "")), 300)
        return " ".join(filter(None, (str(self.status), self.code, detail and f"({detail})")))


class Plain:
    """Connections to one URL; enter and leave it before and after use."""

    def __init__(self, url: str, *, seconds: float) -> None:
        self._host = urlsplit(url).netloc
        self._seconds = seconds
        self._stack = AsyncExitStack()
        self._pool = Pool(
            url.rstrip("/"),
            owner="Plain",
            user_agent="dedup2d-smoke",
            api_key=None,
            connect_seconds=_CONNECT_SECONDS,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        self._stack.push_async_callback(self._pool.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        query: Mapping[str, str] | None = None,
        file: DrawingFile | None = None,
    ) -> Reply:
        """
        Make the request once, with *file* as its multipart body, and return whatever is answered.

        Raises:
            ServiceUnreachableError: nothing came back.
            ServiceError: the answer cannot be read.
        """
        try:
            async with self._pool.asked(
                method,
                path,
                query=query,
                headers={} if key is None else {"X-API-Key": key},
                body=None if file is None else MultipartBody({}, {"file": file}),
                seconds=self._seconds,
            ) as response:
                return Reply(response.status, response.headers, await whole_of(response, _MOST_BYTES))
        except NoAnswerError as error:
            timed_out = isinstance(error.cause, TimeoutError)
            reason = f"nothing came within {self._seconds:g} s" if timed_out else reason_of(error.cause)
            raise ServiceUnreachableError(self._host, reason) from error.cause
        except ValueError as error:
            raise ServiceError(f"the answer of the service cannot be used: {error}") from None


def file_of(name: str, data: bytes) -> DrawingFile:
    """Return *data* as a file to be sent, whether it is a drawing or not."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return DrawingFile(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data), open=chunks)
