"""Settings of the back ends for many machines: Redis, S3 and a vision server."""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import frozen

from dedup2d.errors import ConfigurationError
from dedup2d.redis_url import REDIS_URL_RULE, check_redis_url
from dedup2d.setting_rules import choice, seconds, setting, text, whole, yes_or_no
from dedup2d.settings_callbacks import CallbackSettings

__all__ = ["BackendSettings"]

_HTTP_URL = "a URL with its scheme, as http://HOST:PORT, without user, query and fragment"
_KEY_TEXT = "letters, digits and . _ : { } -, at most 100"
_PREFIX_TEXT = "a key prefix such as dedup2d/files: letters, digits and . _ / -, no part starting with a dot"


def _is_redis_url(url: str) -> bool:
    check_redis_url(url)
    return True


def _is_http_url(url: str) -> bool:
    parts = urlsplit(url)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    _ = parts.port  # raises ValueError when it is none
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain


def _is_key_text(given: str) -> bool:
    return 0 < len(given) <= 100 and all(c.isascii() and (c.isalnum() or c in "._:{}-") for c in given)


def _is_prefix(given: str) -> bool:
    known = all(c.isascii() and (c.isalnum() or c in "._/-") for c in given)
    return known and all(part and part[0] != "." for part in given.strip("/").split("/"))


@frozen(kw_only=True)
class BackendSettings(CallbackSettings):
    """The part of `dedup2d.settings.Settings` that names servers and how they are used."""

    async_backend: str = setting(
        "DEDUP2D_ASYNC_BACKEND",
        "inprocess",
        choice("inprocess", "redis"),
        "where jobs wait and run: in the service itself, or in Redis for `dedup2d worker` processes",
    )
    redis_url: str = setting(
        "DEDUP2D_REDIS_URL",
        "redis://127.0.0.1:6379/0",
        text(REDIS_URL_RULE, _is_redis_url),
        "the Redis that keeps jobs and wakes workers; user and password go before the host",
        secret=True,
    )
    redis_key_prefix: str = setting(
        "DEDUP2D_REDIS_KEY_PREFIX",
        "dedup2d",
        text(_KEY_TEXT, _is_key_text),
        "what every key in Redis starts with",
    )
    redis_pool_size: int = setting(
        "DEDUP2D_REDIS_POOL_SIZE", 64, whole(2, 10_000), "most connections to Redis of one process"
    )
    redis_connect_seconds: float = setting(
        "DEDUP2D_REDIS_CONNECT_SECONDS", 2.0, seconds(0.1, 60), "how long connecting to Redis may take"
    )
    redis_timeout_seconds: float = setting(
        "DEDUP2D_REDIS_TIMEOUT_SECONDS", 5.0, seconds(0.1, 60), "how long Redis may take to answer"
    )
    queue_name: str | None = setting(
        "DEDUP2D_QUEUE_NAME",
        None,
        text(_KEY_TEXT, _is_key_text),
        "RQ queue that wakes workers; default: the key prefix and :queue. Also read: DEDUP2D_ARQ_QUEUE_NAME",
    )
    render_queue_name: str | None = setting(
        "DEDUP2D_RENDER_QUEUE_NAME",
        None,
        text(_KEY_TEXT, _is_key_text),
        "RQ queue for DXF and DWG alone, for workers of their own; unset: they wait with the others",
    )
    file_storage: str = setting(
        "DEDUP2D_FILE_STORAGE", "local", choice("local", "s3"), "where uploads are kept"
    )
    s3_endpoint: str | None = setting(
        "DEDUP2D_S3_ENDPOINT", None, text(_HTTP_URL, _is_http_url), "URL of the S3 server; unset: AWS"
    )
    s3_bucket: str | None = setting(
        "DEDUP2D_S3_BUCKET", None, text("the name of a bucket", bool), "bucket of the uploads; it must exist"
    )
    s3_region: str = setting("DEDUP2D_S3_REGION", "us-east-1", text("a region", bool), "region of the bucket")
    s3_prefix: str = setting(
        "DEDUP2D_S3_PREFIX",
        "dedup2d",
        text(_PREFIX_TEXT, _is_prefix),
        "what every key in the bucket starts with",
    )
    s3_access_key: str | None = setting(
        "DEDUP2D_S3_ACCESS_KEY",
        None,
        text("an access key id", bool),
        "access key id; unset: AWS_ACCESS_KEY_ID and the rest of AWS' credential chain",
    )
    s3_secret_key: str | None = setting(
        "DEDUP2D_S3_SECRET_KEY", None, text("a secret key", bool), "secret of the access key", secret=True
    )
    s3_addressing: str = setting(
        "DEDUP2D_S3_ADDRESSING",
        "auto",
        choice("auto", "path", "virtual"),
        "bucket in the path of a URL or in its host name; auto: what the endpoint suggests",
    )
    s3_encryption: str | None = setting(
        "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION",
        None,
        choice("AES256", "aws:kms"),
        "encryption that the S3 server is asked for",
    )
    s3_kms_key_id: str | None = setting(
        "DEDUP2D_S3_KMS_KEY_ID", None, text("a key id", bool), "key for aws:kms, unless the bucket's own"
    )
    s3_presigned_uploads: bool = setting(
        "DEDUP2D_S3_PRESIGNED_UPLOADS", False, yes_or_no(), "let clients put files into the bucket themselves"
    )
    vision_url: str | None = setting(
        "DEDUPCAD_VISION_URL",
        None,
        text(_HTTP_URL, _is_http_url),
        "vision server that answers searches; unset: the embedded engine",
    )
    vision_api_key: str | None = setting(
        "DEDUPCAD_VISION_API_KEY",
        None,
        text(
            "at least 16 ASCII characters", lambda key: len(key) >= 16 and key.isascii() and key.isprintable()
        ),
        "key that the vision server asks for and its clients send",
        secret=True,
    )
    vision_timeout_seconds: float = setting(
        "DEDUPCAD_VISION_TIMEOUT_SECONDS",
        60.0,
        seconds(0.1, 3600),
        "how long one call of the vision server may take",
    )
    vision_retry_attempts: int = setting(
        "DEDUPCAD_VISION_RETRY_ATTEMPTS", 2, whole(1, 10), "how often a search or health check is tried"
    )
    vision_retry_base_delay_seconds: float = setting(
        "DEDUPCAD_VISION_RETRY_BASE_DELAY_SECONDS", 0.5, seconds(0, 60), "pause before the second try"
    )
    vision_retry_max_delay_seconds: float = setting(
        "DEDUPCAD_VISION_RETRY_MAX_DELAY_SECONDS", 5.0, seconds(0, 600), "longest pause between tries"
    )
    vision_circuit_failures: int = setting(
        "DEDUPCAD_VISION_CIRCUIT_FAILURES", 5, whole(1, 1000), "failures in a row that open the circuit"
    )
    vision_circuit_open_seconds: float = setting(
        "DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS",
        30.0,
        seconds(0.1, 3600),
        "how long an open circuit refuses calls",
    )
    vision_circuit_half_open_calls: int = setting(
        "DEDUPCAD_VISION_CIRCUIT_HALF_OPEN_CALLS",
        2,
        whole(1, 100),
        "calls at once that try a half-open circuit",
    )
    vision_circuit_close_successes: int = setting(
        "DEDUPCAD_VISION_CIRCUIT_CLOSE_SUCCESSES", 2, whole(1, 100), "successes that close the circuit again"
    )

    vision_host: str = setting(
        "DEDUP2D_VISION_HOST",
        "127.0.0.1",
        text("an address", bool),
        "address that `dedup2d vision serve` listens on; others than loopback's need DEDUPCAD_VISION_API_KEY",
    )
    vision_port: int = setting(
        "DEDUP2D_VISION_PORT",
        58001,
        whole(0, 65535),
        "port that `dedup2d vision serve` listens on; 0 takes a free one",
    )
    vision_processes: int = setting(
        "DEDUP2D_VISION_PROCESSES",
        1,
        whole(1, 64),
        "processes of `dedup2d vision serve`; they share DEDUP2D_ENGINE_PROCESSES and the places to wait in",
    )
    vision_max_waiting: int = setting(
        "DEDUP2D_VISION_MAX_WAITING",
        32,
        whole(0, 10_000),
        "searches that may wait in `dedup2d vision serve`; further ones are told to come again",
    )

    def check_backends(self) -> None:
        """
        Look at settings that depend on each other.

        Raises:
            ConfigurationError: one is missing or does not fit another.
        """
        _ = self.callback_guard  # which refuses what is no host, network or port
        if self.file_storage == "s3" and self.s3_bucket is None:
            raise ConfigurationError(
                "DEDUP2D_S3_BUCKET", "", "the bucket of the uploads, since DEDUP2D_FILE_STORAGE is s3"
            )
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            missing = "DEDUP2D_S3_SECRET_KEY" if self.s3_access_key else "DEDUP2D_S3_ACCESS_KEY"
            raise ConfigurationError(missing, "", "the other half of the credentials, or unset both")
        if self.s3_kms_key_id is not None and self.s3_encryption != "aws:kms":
            raise ConfigurationError(
                "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION",
                self.s3_encryption or "",
                "aws:kms, since DEDUP2D_S3_KMS_KEY_ID is set",
            )
        if self.s3_presigned_uploads and self.file_storage != "s3":
            raise ConfigurationError(
                "DEDUP2D_FILE_STORAGE", self.file_storage, "s3, since DEDUP2D_S3_PRESIGNED_UPLOADS is set"
            )
        if self.render_queue_name is not None and self.render_queue_name == self.main_queue_name:
            raise ConfigurationError(
                "DEDUP2D_RENDER_QUEUE_NAME", self.render_queue_name, "another name than DEDUP2D_QUEUE_NAME"
            )

    @property
    def main_queue_name(self) -> str:
        """Name of the queue that wakes workers."""
        return self.queue_name or f"{self.redis_key_prefix}:queue"
