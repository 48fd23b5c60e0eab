"""One attempt to deliver a callback: an HTTP POST with a bound on everything that a receiver can do to it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import Self

import anyio
from attrs import define, field

from dedup2d.callbacks.attempts import Attempt, CallbackOptions, Outcome
from dedup2d.callbacks.body import callback_body
from dedup2d.callbacks.guard import ThreadsResolver, check_resolved, check_url, connector
from dedup2d.callbacks.schedule import LONGEST_DELAY_SECONDS
from dedup2d.errors import BlockedAddressError, CallbackUrlError, MissingExtraError
from dedup2d.retry_after import seconds_to_wait
from dedup2d.types import Job

try:
    import aiohttp
    from aiohttp.abc import AbstractResolver
    from yarl import URL
except ImportError:
    raise MissingExtraError("http", "sending callbacks (aiohttp)") from None

__all__ = ["CallbackSender"]

_REPLY_BYTES = 65_536
"""So much of a reply is read, for the sake of servers that expect it; what it says does not count."""
_REPLY_SECONDS = 1.0
_HEADER_BYTES = 8_192
_SUBMISSION_THREADS = 4
_PASSING_STATUSES = frozenset({408, 425, 429})


@define(kw_only=True, eq=False)
class CallbackSender:
    """
    Checks callback URLs and sends callbacks, one attempt at a time; an async context manager.

    Redirects are not followed, no proxy, cookie or credential of the environment is used, and replies
    are neither unpacked nor kept.

    Args:
        options: how.
        clock: gives the Unix time.
        resolver: who resolves names (it stays the caller's to close); None asks the system.
    """

    options: CallbackOptions = field(factory=CallbackOptions)
    clock: Callable[[], float] = time.time
    resolver: AbstractResolver | None = None
    _session: aiohttp.ClientSession = field(init=False)
    _names: AbstractResolver = field(init=False)
    _names_at_submission: AbstractResolver = field(init=False)

    async def __aenter__(self) -> Self:
        self._names = self.resolver or ThreadsResolver()
        # Whoever submits jobs with hosts of a slow name server holds up submissions only, not deliveries.
        self._names_at_submission = self.resolver or ThreadsResolver(threads=_SUBMISSION_THREADS)
        self._session = aiohttp.ClientSession(
            connector=connector(self.options.guard, resolver=self._names),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.options.timeout_seconds),
            trust_env=False,
            auto_decompress=False,
            raise_for_status=False,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._session.close()
            if self.resolver is None:
                await self._names.close()
                await self._names_at_submission.close()

    async def check(self, url: str) -> str:
        """
        Return *url* as it will be called.

        Raises:
            CallbackUrlError: it may not be called.
        """
        checked = check_url(url, self.options.guard)
        await check_resolved(checked, self.options.guard, self._names_at_submission)
        return checked

    async def send(self, job: Job) -> Attempt:
        """Make one attempt to deliver the callback of the final *job*; does not raise."""
        try:
            url = check_url(job.callback_url or "", self.options.guard)
        except CallbackUrlError as error:
            return Attempt(outcome=Outcome.NOT_ALLOWED, error=str(error), refusal=str(error.reason))
        body = callback_body(job, max_bytes=self.options.max_body_bytes)
        headers = self._headers(job, body)
        try:
            return await self._post(url, body, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failed(error)

    def _headers(self, job: Job, body: bytes) -> dict[str, str]:
        signed = self.options.signer_of(job.tenant_id).headers(
            job_id=job.job_id,
            message_id=job.callback_message_id or f"msg_{job.job_id}",
            body=body,
            timestamp=int(self.clock()),
        )
        return {
            **signed,
            "Content-Type": "application/json",
            "User-Agent": f"dedup2d/{version('dedup2d')}",
            "Accept-Encoding": "identity",
            "X-Dedup-Job-Id": job.job_id,
            "X-Dedup-Tenant-Id": job.tenant_id,
        }

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        with anyio.fail_after(self.options.timeout_seconds):
            response = await self._session.post(
                # Encoded again, it would not be what was checked.
                URL(url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=self.options.tls or True,
            )
        try:
            await _read_some(response)
        finally:
            response.close()
        return self._answered(response.status, response.headers.get("Retry-After"))

    def _answered(self, status: int, retry_after: str | None) -> Attempt:
        if 200 <= status < 300:
            return Attempt(outcome=Outcome.SUCCESS, http_status=status)
        if status >= 500 or status in _PASSING_STATUSES:
            return Attempt(
                outcome=Outcome.PASSING_STATUS,
                http_status=status,
                error=f"the receiver answered {status}",
                retry_after=seconds_to_wait(retry_after, now=self.clock(), longest=LONGEST_DELAY_SECONDS),
            )
        if 300 <= status < 400:
            return Attempt(
                outcome=Outcome.REDIRECT,
                http_status=status,
                error=f"the receiver answered {status}, and redirects are not followed: give the final URL",
            )
        return Attempt(
            outcome=Outcome.FINAL_STATUS, http_status=status, error=f"the receiver answered {status}"
        )

    def _failed(self, error: Exception) -> Attempt:
        """Say what was wrong in words of ours: a client's own may show the URL or an address."""
        if isinstance(error, BlockedAddressError):
            return Attempt(outcome=Outcome.BLOCKED, error=str(error), refusal=str(error.reason))
        if isinstance(error, TimeoutError):
            seconds = f"{self.options.timeout_seconds:g}"
            return Attempt(outcome=Outcome.TIMEOUT, error=f"the receiver took longer than {seconds} s")
        for kind, outcome, words in _FAILURES:
            if isinstance(error, kind):
                return Attempt(outcome=outcome, error=words)
        return Attempt(outcome=Outcome.PROTOCOL, error="the receiver did not answer as HTTP has it")


_FAILURES: tuple[tuple[tuple[type[Exception], ...], Outcome, str], ...] = (
    (
        (aiohttp.ClientSSLError, ssl.SSLError),
        Outcome.TLS,
        "the receiver's TLS certificate or protocol cannot be trusted",
    ),
    ((aiohttp.ClientConnectorDNSError,), Outcome.DNS, "the receiver's host name could not be resolved"),
    (
        (aiohttp.ServerConnectionError, aiohttp.ClientOSError, OSError),
        Outcome.CONNECTION,
        "the receiver could not be reached, or closed the connection",
    ),
)


async def _read_some(response: aiohttp.ClientResponse) -> None:
    """Read the start of the reply. What is wrong with it changes nothing: the status has come."""
    left = _REPLY_BYTES
    with suppress(aiohttp.ClientError, OSError, ValueError), anyio.move_on_after(_REPLY_SECONDS):
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
