"""Builds the service on the back ends that the settings name."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal
from attrs import evolve

from dedup2d.children import Children
from dedup2d.configs import ConfigStore
from dedup2d.directories import check_writable
from dedup2d.errors import ConfigurationError, MissingExtraError
from dedup2d.files.local import LocalFileStore
from dedup2d.files.observed import observed
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.observe import Observer
from dedup2d.precision.overlay import Precision, PrecisionOptions
from dedup2d.protocols import FileStore, JobStore, Queue, VisionClient
from dedup2d.runner import RunnerOptions
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.settings import Settings
from dedup2d.types import Lane

if TYPE_CHECKING:
    from dedup2d.callbacks.attempts import Sender
    from dedup2d.engine.embedding import Model
    from dedup2d.readers import ReadLimits
    from dedup2d.redis_connection import RedisOptions
    from dedup2d.vision.embedded import EmbeddedVision

__all__ = [
    "build_callbacks",
    "build_configs",
    "build_embedded",
    "build_files",
    "build_jobs",
    "build_precision",
    "build_queue",
    "build_service",
    "build_vision",
    "check_directories",
    "read_limits",
    "redis_options",
    "uploads_directory",
]

# Each back end is loaded where it is built: its packages are behind an extra of their own.
# ruff: noqa: PLC0415 - its packages are behind an extra of their own


def build_service(
    settings: Settings,
    observer: Observer,
    *,
    concurrency: int | None = None,
    lanes: frozenset[Lane] | None = None,
) -> Dedup2D:
    """
    Return the service.

    Args:
        settings: name the back ends and the limits.
        observer: hears what happens.
        concurrency: jobs that this process runs at once. If not given: `max_concurrency` where jobs run in
            the service, and none where they have workers.
        lanes: the jobs that are run here, None for all.

    Raises:
        ConfigurationError: a directory that is needed cannot be written to.
        MissingExtraError: a back end's packages are not installed.
    """
    check_directories(settings)
    if concurrency is None:
        concurrency = settings.max_concurrency if settings.async_backend == "inprocess" else 0
    files = build_files(settings)
    return Dedup2D(
        jobs=build_jobs(settings),
        files=files,
        queue=build_queue(settings, lanes=lanes),
        vision=build_vision(settings, observer),
        options=service_options(settings, concurrency=concurrency, lanes=lanes),
        observer=observer,
        callbacks=build_callbacks(settings),
        configs=build_configs(settings),
        precision=build_precision(settings, observed(files, observer), observer),
    )


def build_precision(settings: Settings, files: FileStore, observer: Observer) -> Precision:
    """Return what compares geometries, with those of drawings in *files*."""
    limits: ReadLimits | None = None
    with suppress(MissingExtraError):  # a service in front of a vision server takes no geometry from files
        limits = read_limits(settings)
    return Precision(
        store=FileGeometryStore(files),
        children=Children(processes=min(2, settings.engine_processes)),
        options=PrecisionOptions(extract_seconds=settings.read_max_seconds),
        limits=limits,
        observer=observer,
    )


def build_callbacks(settings: Settings) -> Sender | None:
    """Return what sends callbacks; None where the package that it needs is not installed."""
    from dedup2d.callbacks.attempts import CallbackOptions, Signing

    try:
        from dedup2d.callbacks.sending import CallbackSender
    except MissingExtraError:
        return None
    return CallbackSender(
        options=CallbackOptions(
            guard=settings.callback_guard,
            secrets=settings.callback_secrets,
            signing=Signing(settings.callback_signing),
            timeout_seconds=settings.callback_timeout_seconds,
            max_attempts=settings.callback_max_attempts,
            max_body_bytes=settings.callback_max_body_bytes,
            concurrency=settings.callback_concurrency,
        )
    )


def check_directories(settings: Settings) -> None:
    """
    Make sure that what lies on this machine can be written.

    Raises:
        ConfigurationError: it cannot.
    """
    if settings.async_backend == "inprocess" or settings.vision_url is None:
        check_writable(settings.data_dir, "DEDUP2D_DATA_DIR")
    if settings.file_storage == "local":
        own = settings.file_storage_dir is not None
        directory = settings.file_storage_dir or settings.data_dir
        check_writable(directory, "DEDUP2D_FILE_STORAGE_DIR" if own else "DEDUP2D_DATA_DIR")


def build_jobs(settings: Settings) -> JobStore:
    """Return the store of jobs."""
    if settings.async_backend == "redis":
        from dedup2d.jobs.redis import RedisJobStore

        return RedisJobStore(redis_options(settings))
    from dedup2d.jobs.sqlite import SQLiteJobStore

    return SQLiteJobStore(settings.data_dir / "jobs.db")


def build_configs(settings: Settings) -> ConfigStore:
    """Return the store of tenants' configurations, beside that of the jobs."""
    if settings.async_backend == "redis":
        from dedup2d.configs.redis import RedisConfigStore

        return RedisConfigStore(redis_options(settings))
    from dedup2d.configs.sqlite import SQLiteConfigStore

    return SQLiteConfigStore(settings.data_dir / "configs.db")


def build_files(settings: Settings, *, clear_away: bool = True) -> FileStore:
    """Return the store of uploads; in a directory, it makes that and clears leftovers away if asked to."""
    if settings.file_storage == "s3":
        from dedup2d.files.s3 import S3FileStore, S3Options

        assert settings.s3_bucket is not None
        return S3FileStore(
            S3Options(
                bucket=settings.s3_bucket,
                endpoint=settings.s3_endpoint,
                region=settings.s3_region,
                prefix=settings.s3_prefix.strip("/"),
                access_key=settings.s3_access_key,
                secret_key=settings.s3_secret_key,
                addressing=settings.s3_addressing,
                server_side_encryption=settings.s3_encryption,
                kms_key_id=settings.s3_kms_key_id,
            )
        )
    return LocalFileStore(uploads_directory(settings), clear_away=clear_away)


def uploads_directory(settings: Settings) -> Path:
    """Return where uploads are kept if they are kept on this machine."""
    return settings.file_storage_dir or settings.data_dir / "files"


def build_queue(settings: Settings, *, lanes: frozenset[Lane] | None = None) -> Queue:
    """
    Return the queue, whose consumers serve *lanes* (None for all).

    Raises:
        MissingExtraError: the package that brings the queue for Redis is not installed.
    """
    if settings.async_backend == "redis":
        names = {Lane.MAIN: settings.main_queue_name}
        if settings.render_queue_name is not None:
            names[Lane.CAD] = settings.render_queue_name
        for entry in entry_points(group="dedup2d.queues", name="rq"):
            queue: Queue = entry.load()(redis_options(settings), names=names, lanes=lanes)
            return queue
        raise MissingExtraError("worker", "the queue for Redis")
    from dedup2d.queues.memory import MemoryQueue

    return MemoryQueue()


def build_vision(settings: Settings, observer: Observer) -> VisionClient:
    """Return what answers searches."""
    if settings.vision_url is not None:
        from dedup2d.vision.http import HTTPVisionClient, VisionOptions

        return HTTPVisionClient(
            VisionOptions(
                url=settings.vision_url,
                timeout_seconds=settings.vision_timeout_seconds,
                api_key=settings.vision_api_key,
                retry_attempts=settings.vision_retry_attempts,
                retry_base_delay_seconds=settings.vision_retry_base_delay_seconds,
                retry_max_delay_seconds=settings.vision_retry_max_delay_seconds,
                circuit_failures=settings.vision_circuit_failures,
                circuit_open_seconds=settings.vision_circuit_open_seconds,
                circuit_half_open_calls=settings.vision_circuit_half_open_calls,
                circuit_close_successes=settings.vision_circuit_close_successes,
            ),
            observer=observer,
        )
    return build_embedded(settings, observer=observer)


def build_embedded(
    settings: Settings,
    *,
    directory: Path | None = None,
    processes: int | None = None,
    observer: Observer | None = None,
) -> EmbeddedVision:
    """
    Return the engine on the indexes in *directory*, by default those in the data directory.

    Raises:
        ConfigurationError: the model that `ml_model` names is none that the engine can use.
        MissingExtraError: its packages, or those of the model, are not installed.
    """
    from dedup2d.vision.embedded import EmbeddedVision

    limits = read_limits(settings)
    return EmbeddedVision(
        directory or settings.data_dir / "index",
        limits=limits,
        processes=processes or settings.engine_processes,
        max_drawings=settings.max_drawings,
        model=_model(settings.ml_model, limits) if settings.ml_model else None,
        observer=observer,
    )


def read_limits(settings: Settings) -> ReadLimits:
    """
    Return the limits of reading one file.

    Raises:
        MissingExtraError: the readers' packages are not installed.
    """
    from dedup2d.readers import ReadLimits

    return ReadLimits(
        max_bytes=max(settings.max_upload_bytes, 1),
        max_pixels=settings.read_max_pixels,
        max_pages=settings.read_max_pages,
        max_entities=settings.read_max_entities,
        max_seconds=settings.read_max_seconds,
    )


def _model(path: Path, limits: ReadLimits) -> Model:
    from dedup2d.engine.embedding import NEEDED
    from dedup2d.vision.learned import opened

    try:
        # In a thread of its own, as the caller may be in an event loop.
        with start_blocking_portal() as portal:
            return portal.call(opened, path, limits)
    except ValueError as error:
        raise ConfigurationError("DEDUP2D_ML_MODEL", str(path), f"{NEEDED}; this one {error}") from error


def redis_options(settings: Settings) -> RedisOptions:
    """Return how Redis is reached."""
    from dedup2d.redis_connection import RedisOptions

    return RedisOptions(
        url=settings.redis_url,
        key_prefix=settings.redis_key_prefix,
        pool_size=settings.redis_pool_size,
        connect_seconds=settings.redis_connect_seconds,
        command_seconds=settings.redis_timeout_seconds,
    )


def service_options(
    settings: Settings, *, concurrency: int, lanes: frozenset[Lane] | None = None
) -> ServiceOptions:
    """Return the limits of the service."""
    served = settings.vision_url is not None
    return ServiceOptions(
        max_jobs=settings.max_jobs,
        max_jobs_per_tenant=settings.max_jobs_per_tenant,
        max_callbacks_per_tenant=settings.callback_max_waiting,
        max_upload_bytes=settings.max_upload_bytes,
        max_drawings_per_tenant=settings.max_drawings_per_tenant if served else 0,
        tenant_limits={
            tenant: limits if served else evolve(limits, max_drawings=None)
            for tenant, limits in settings.tenant_limits.items()
        },
        cad_lane=settings.render_queue_name is not None,
        offer_uploads=settings.s3_presigned_uploads,
        run=RunnerOptions(
            concurrency=concurrency,
            lanes=lanes,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            sweep_seconds=settings.sweep_seconds,
            job_timeout_seconds=settings.job_timeout_seconds,
            max_wait_seconds=settings.max_wait_seconds,
            ttl_seconds=settings.ttl_seconds,
            cleanup_on_finish=settings.file_cleanup_on_finish,
            file_retention_seconds=settings.file_retention_seconds,
        ),
    )
