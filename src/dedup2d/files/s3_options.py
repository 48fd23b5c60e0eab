"""Where an S3 bucket is and how it is used."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from attrs import field, frozen

from dedup2d.errors import ConfigurationError
from dedup2d.files.keys import is_key

__all__ = ["S3Options"]

_MIB = 1024 * 1024
# Older buckets and other servers than AWS' allow more than AWS does today.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_LONGEST_PREFIX = 400


@frozen(kw_only=True)
class S3Options:
    """
    Where a bucket is, who uses it and how.

    Args:
        bucket: its name; it must exist.
        endpoint: URL of the server, as `http://HOST:PORT`; None for AWS.
        region: region of the bucket.
        prefix: what the names of all objects begin with, before a `/` of its own; at most 400
            characters, of the kind a key has.
        access_key: id of the key, together with *secret_key*; None for the credential chain of AWS
            (environment, files, role of the machine).
        secret_key: its secret.
        addressing: where a URL names the bucket: `path`, `virtual` (as part of the host name), or `auto`:
            in the path if there is an *endpoint*, else in the host name.
        server_side_encryption: `AES256` or `aws:kms`: what each upload asks the server for.
        kms_key_id: key for `aws:kms`, unless the bucket's own.
        buffer_bytes: most bytes of all uploads of this store together that wait in memory; what is more
            waits in temporary files.
        connect_seconds: how long it may take to connect.
        read_seconds: how long the server may be silent.
        connections: most connections at once.

    Raises:
        ConfigurationError: a value is not allowed; it names the setting.
    """

    bucket: str
    endpoint: str | None = None
    region: str = "us-east-1"
    prefix: str = ""
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    addressing: str = "auto"
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    buffer_bytes: int = 48 * _MIB
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    connections: int = 64

    def __attrs_post_init__(self) -> None:
        self._check_place()
        self._check_access()

    def _check_place(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ConfigurationError("DEDUP2D_S3_BUCKET", self.bucket, "the name of a bucket")
        if self.endpoint is not None and not _is_endpoint(self.endpoint):
            raise ConfigurationError(
                "DEDUP2D_S3_ENDPOINT",
                _without_user(self.endpoint),
                "a URL as http://HOST:PORT or https://HOST, without user, query and fragment",
            )
        if self.prefix and not (is_key(self.prefix) and len(self.prefix) <= _LONGEST_PREFIX):
            raise ConfigurationError(
                "DEDUP2D_S3_PREFIX",
                self.prefix,
                "up to eight segments of A-Z a-z 0-9 . _ - joined by /, none starting with a dot",
            )
        _check_choice("DEDUP2D_S3_ADDRESSING", self.addressing, "auto", "path", "virtual")

    def _check_access(self) -> None:
        if (self.access_key is None) != (self.secret_key is None):
            missing = "DEDUP2D_S3_SECRET_KEY" if self.access_key else "DEDUP2D_S3_ACCESS_KEY"
            raise ConfigurationError(missing, "", "the other half of the credentials, or unset both")
        encryption = self.server_side_encryption
        if encryption is not None:
            _check_choice("DEDUP2D_S3_SERVER_SIDE_ENCRYPTION", encryption, "AES256", "aws:kms")
        if self.kms_key_id is not None and encryption != "aws:kms":
            raise ConfigurationError(
                "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION",
                encryption or "",
                "aws:kms, since DEDUP2D_S3_KMS_KEY_ID is set",
            )

    @property
    def addressing_style(self) -> str:
        """Where a URL names the bucket, `auto` decided."""
        if self.addressing != "auto":
            return self.addressing
        return "virtual" if self.endpoint is None else "path"

    @property
    def encryption(self) -> dict[str, str]:
        """Parameters of a call that begins an object."""
        wanted = {"ServerSideEncryption": self.server_side_encryption, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in wanted.items() if value is not None}


def _check_choice(name: str, value: str, *allowed: str) -> None:
    if value not in allowed:
        raise ConfigurationError(name, value, "one of " + ", ".join(allowed))


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc) and port != 0
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain


def _without_user(url: str) -> str:
    return re.sub(r"(?s)//.*@", "//", url) if "@" in url else url
