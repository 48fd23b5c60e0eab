"""Calls of an S3 server: bounded in time, their errors in the words of dedup2d."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from enum import Enum, auto
from http import HTTPStatus
from ssl import SSLError
from typing import Any

import anyio

from dedup2d.errors import MissingExtraError, StoreUnavailableError, shown
from dedup2d.files.s3_options import S3Options

try:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from aiohttp import ClientError as ConnectionLostError
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError
except ImportError as error:
    raise MissingExtraError("s3", "keeping files in S3") from error

__all__ = ["CallFailedError", "Failure", "S3Client", "mapped"]

_ATTEMPTS = 3
_SLOWEST_BYTES_PER_SECOND = 128 * 1024


class Failure(Enum):
    """What kind of thing went wrong with a call."""

    REFUSED = auto()
    UNREACHABLE = auto()
    SILENT = auto()
    BROKEN = auto()
    NOT_TRUSTED = auto()
    NO_CREDENTIALS = auto()
    STRANGE = auto()


_PASSING = frozenset({Failure.UNREACHABLE, Failure.SILENT, Failure.BROKEN})


class CallFailedError(StoreUnavailableError):
    """A call of the S3 server failed; *status* and *answer* are the number and the word that it gave."""

    def __init__(self, reason: str, failure: Failure, *, status: int = 0, answer: str = "") -> None:
        super().__init__("file store", reason)
        self.reason = reason
        self.failure = failure
        self.status = status
        self.answer = answer

    @property
    def passing(self) -> bool:
        """Whether the same call may soon succeed."""
        return self.failure in _PASSING or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class S3Client:
    """A client for one bucket; made by `S3Client.connected`."""

    def __init__(self, client: Any, options: S3Options) -> None:
        self.raw = client
        self.options = options

    @classmethod
    @asynccontextmanager
    async def connected(cls, options: S3Options) -> AsyncIterator[S3Client]:
        """
        Give a client that holds its connections until the block ends.

        Raises:
            CallFailedError: the options do not make a client.
        """
        creation = get_session().create_client(
            "s3",
            region_name=options.region,
            endpoint_url=options.endpoint,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            config=_config(options),
        )
        with mapped():
            client = await creation.__aenter__()
        try:
            yield cls(client, options)
        finally:
            await creation.__aexit__(None, None, None)

    async def call(
        self, operation: str, *, seconds: float | None = None, body_bytes: int = 0, **parameters: Any
    ) -> Mapping[str, Any]:
        """
        Call the *operation* on the bucket.

        Args:
            operation: its name in botocore.
            seconds: how long it may take with all its attempts; by default one and a half
                times the silence that is allowed.
            body_bytes: size of what is sent, for which 1 s per 128 KiB is added.
            parameters: those of botocore.

        Raises:
            CallFailedError: it failed.
        """
        seconds = self.options.read_seconds * 1.5 if seconds is None else seconds
        with mapped(), anyio.fail_after(seconds + body_bytes / _SLOWEST_BYTES_PER_SECOND):
            answer = await getattr(self.raw, operation)(Bucket=self.options.bucket, **parameters)
        return answer if isinstance(answer, Mapping) else {}


def _config(options: S3Options) -> Any:
    return AioConfig(
        signature_version="s3v4",
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=options.connections,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        s3={"addressing_style": options.addressing_style},
        # Trailing checksums are unknown to many servers; every upload carries a Content-MD5 instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@contextmanager
def mapped() -> Iterator[None]:
    """Turn what a call of the client raises into `CallFailedError`, which names no secret and no URL."""
    try:
        yield
    except StoreUnavailableError:
        raise
    except botocore.ClientError as error:
        raise _refused(error) from error
    except (botocore.BotoCoreError, ResponseParserError, ConnectionLostError, OSError, ValueError) as error:
        raise _failed(error) from error


def _refused(error: Any) -> CallFailedError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    answer = str(error.response.get("Error", {}).get("Code", ""))
    # What has no body says its status alone.
    said = str(status) if answer == str(status) else f"{status} {answer}"
    reason = f"the S3 server answers {shown(said)}"
    return CallFailedError(reason, Failure.REFUSED, status=status, answer=answer)


_NO_CREDENTIALS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.ProfileNotFound,
    botocore.TokenRetrievalError,
    botocore.SSOError,
)
_KINDS: tuple[tuple[tuple[type[BaseException], ...], Failure, str], ...] = (
    ((botocore.SSLError,), Failure.NOT_TRUSTED, "TLS with the S3 server fails"),
    (
        (botocore.ConnectTimeoutError,),
        Failure.UNREACHABLE,
        "the S3 server cannot be reached: it takes no connection in time",
    ),
    (
        (botocore.EndpointConnectionError, botocore.ProxyConnectionError),
        Failure.UNREACHABLE,
        "the S3 server cannot be reached",
    ),
    ((botocore.ReadTimeoutError, TimeoutError), Failure.SILENT, "the S3 server does not answer in time"),
    (
        (
            botocore.ConnectionClosedError,
            botocore.IncompleteReadError,
            botocore.ResponseStreamingError,
            ConnectionLostError,
            OSError,
        ),
        Failure.BROKEN,
        "the connection to the S3 server broke off",
    ),
    (_NO_CREDENTIALS, Failure.NO_CREDENTIALS, "there are no credentials for the S3 server"),
    ((ResponseParserError,), Failure.STRANGE, "what answers is not an S3 server"),
)


def _failed(error: Exception) -> CallFailedError:
    for kinds, failure, reason in _KINDS:
        if isinstance(error, kinds):
            cause = _cause(error)
            return CallFailedError(f"{reason}: {cause}" if cause else reason, failure)
    return CallFailedError(f"the call of the S3 server failed: {type(error).__name__}", Failure.STRANGE)


def _cause(error: Exception) -> str:
    """Return what the system says beneath *error*: that never holds a secret."""
    beneath = getattr(error, "kwargs", {}).get("error")
    beneath = getattr(beneath, "os_error", None) or getattr(beneath, "certificate_error", None) or beneath
    if isinstance(beneath, SSLError):
        return shown(getattr(beneath, "verify_message", "") or beneath.reason or "")
    if isinstance(beneath, OSError):
        # What asyncio says names addresses; only names that are not found have no number of the system.
        number = beneath.errno or 0
        return shown(os.strerror(number) if number in errno.errorcode else beneath.strerror or "")
    return ""
