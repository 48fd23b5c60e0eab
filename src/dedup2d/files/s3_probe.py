"""Whether a bucket can be used as a file store, and what to change if not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from secrets import token_hex
from typing import Any

from attrs import evolve, frozen

from dedup2d.errors import ConfigurationError, Dedup2DError
from dedup2d.files.s3_client import CallFailedError, Failure, S3Client, mapped
from dedup2d.files.s3_names import Names
from dedup2d.files.s3_options import S3Options
from dedup2d.files.s3_upload import Budget, Upload

__all__ = ["S3Facts", "probe"]

_READ_SECONDS = 5.0
"""How long the server may be silent: a start should fail while somebody looks."""
_CONTENT = b"dedup2d"


@frozen(kw_only=True)
class S3Facts:
    """What was found; *warnings* are for an operator to read."""

    endpoint: str
    bucket: str
    server: str
    warnings: tuple[str, ...] = ()


async def probe(client: S3Client) -> S3Facts:
    """
    Use the bucket as the store does: list, put, get and delete a tiny object under the prefix.

    Raises:
        ConfigurationError: it cannot be used; the error names the setting, the reason and what to do.
        StoreUnavailableError: the server answers, but cannot work now.
    """
    options = client.options
    client = S3Client(client.raw, evolve(options, read_seconds=min(options.read_seconds, _READ_SECONDS)))
    base = Names(options.prefix).base
    # A name of its own: others may probe at the same time.
    key = f"{base}.dedup2d-probe-{token_hex(8)}"
    answer = await _list(client, base)
    await _put(client, key)
    try:
        await _get(client, key)
    finally:
        await _delete(client, key)
    return S3Facts(
        endpoint=str(client.raw.meta.endpoint_url),
        bucket=client.options.bucket,
        server=str(answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")),
        warnings=await _warnings(client, base),
    )


@contextmanager
def _doing(client: S3Client, action: str) -> Iterator[None]:
    try:
        yield
    except CallFailedError as error:
        raise _explained(client.options, action, error) from error


async def _list(client: S3Client, base: str) -> Mapping[str, Any]:
    with _doing(client, "s3:ListBucket"):
        return await client.call("list_objects_v2", Prefix=base, MaxKeys=1)


async def _put(client: S3Client, key: str) -> None:
    with _doing(client, "s3:PutObject"):
        async with Upload(client, key, Budget(len(_CONTENT))) as upload:
            await upload.take(_CONTENT)
            await upload.finish()


async def _get(client: S3Client, key: str) -> None:
    with _doing(client, "s3:GetObject"), mapped():
        answer = await client.call("get_object", Key=key)
        content = await answer["Body"].read(len(_CONTENT) + 1)
        answer["Body"].close()
    if content != _CONTENT:
        raise _not_s3(client.options, "what answers does not keep what is put")


async def _delete(client: S3Client, key: str) -> None:
    with _doing(client, "s3:DeleteObject"):
        await client.call("delete_object", Key=key)


async def _warnings(client: S3Client, base: str) -> tuple[str, ...]:
    try:
        await client.call("list_multipart_uploads", Prefix=base, MaxUploads=1)
    except CallFailedError as error:
        warning = (
            f"half uploads of processes that died cannot be found ({error.reason}):"
            " allow s3:ListBucketMultipartUploads, or let the bucket abort them by a lifecycle rule"
        )
        return (warning,)
    return ()


def _explained(options: S3Options, action: str, error: CallFailedError) -> Dedup2DError:
    if error.failure is Failure.NO_CREDENTIALS or error.answer in _KEYS:
        return _wrong_keys(error)
    if error.failure is not Failure.REFUSED:
        return _not_s3(options, error.reason)
    if error.answer in _REGION:
        return ConfigurationError("DEDUP2D_S3_REGION", options.region, f"the bucket's ({error.reason})")
    if error.answer in _BUCKET or (error.status == HTTPStatus.FORBIDDEN and error.answer not in _CLOCK):
        return _wrong_bucket(options, action, error)
    return _cannot_do(options, action, error)


def _wrong_keys(error: CallFailedError) -> ConfigurationError:
    # The value is not shown: the secret may have been put there by mistake.
    return ConfigurationError(
        "DEDUP2D_S3_ACCESS_KEY",
        "(not shown)",
        "the id of a key that the server knows, and DEDUP2D_S3_SECRET_KEY to its secret;"
        f" or unset both where the machine has a role ({error.reason})",
    )


def _wrong_bucket(options: S3Options, action: str, error: CallFailedError) -> ConfigurationError:
    if error.answer in _BUCKET:
        allowed = f"a bucket that exists, or make it ({error.reason})"
    else:
        where = f"under {options.prefix}/" if options.prefix else "in it"
        allowed = f"a bucket in which the key may do {action} {where}, or allow it that ({error.reason})"
    return ConfigurationError("DEDUP2D_S3_BUCKET", options.bucket, allowed)


def _cannot_do(options: S3Options, action: str, error: CallFailedError) -> Dedup2DError:
    if options.server_side_encryption is not None and action == "s3:PutObject":
        return ConfigurationError(
            "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION",
            options.server_side_encryption,
            f"what the server offers, or unset it ({error.reason})",
        )
    if error.answer in _CLOCK:
        return _not_s3(options, f"{error.reason}: the clocks of this machine and the server differ")
    return error if error.passing else _not_s3(options, error.reason)


_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_BUCKET = frozenset({"InvalidBucketName", "NoSuchBucket"})
_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_KEYS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)


def _not_s3(options: S3Options, reason: str) -> ConfigurationError:
    return ConfigurationError(
        "DEDUP2D_S3_ENDPOINT",
        options.endpoint or "(unset: AWS)",
        f"the URL of an S3 server that answers ({reason})",
    )
