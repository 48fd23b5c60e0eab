"""Builds the service on the back ends that the settings name."""

from __future__ import annotations

from dedup2d.files.local import LocalFileStore
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.observe import Observer
from dedup2d.queues.memory import MemoryQueue
from dedup2d.readers import ReadLimits
from dedup2d.runner import RunnerOptions
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.settings import Settings
from dedup2d.vision.embedded import EmbeddedVision

__all__ = ["build_service"]


def build_service(settings: Settings, observer: Observer) -> Dedup2D:
    """Return the service for one machine, everything under `settings.data_dir`."""
    return Dedup2D(
        jobs=SQLiteJobStore(settings.data_dir / "jobs.db"),
        files=LocalFileStore(settings.file_storage_dir or settings.data_dir / "files"),
        queue=MemoryQueue(),
        vision=EmbeddedVision(
            settings.data_dir / "index", limits=read_limits(settings), processes=settings.engine_processes
        ),
        options=service_options(settings),
        observer=observer,
    )


def read_limits(settings: Settings) -> ReadLimits:
    """Return the limits of reading one file."""
    return ReadLimits(
        max_bytes=max(settings.max_upload_bytes, 1),
        max_pixels=settings.read_max_pixels,
        max_pages=settings.read_max_pages,
        max_entities=settings.read_max_entities,
        max_seconds=settings.read_max_seconds,
    )


def service_options(settings: Settings) -> ServiceOptions:
    """Return the limits of the service."""
    return ServiceOptions(
        max_jobs=settings.max_jobs,
        max_jobs_per_tenant=settings.max_jobs_per_tenant,
        max_upload_bytes=settings.max_upload_bytes,
        run=RunnerOptions(
            concurrency=settings.max_concurrency,
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
