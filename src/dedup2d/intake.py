"""Takes searches in as jobs: first the file, then the job, then the wake-up: no crash loses an answer."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping

import anyio
from attrs import define, evolve, field, frozen

from dedup2d.callbacks.attempts import Sender
from dedup2d.collecting import last_submit_seconds
from dedup2d.errors import (
    CallbackUrlError,
    FileNotStoredError,
    InvalidParameterError,
    JobNotFoundError,
    JobQueueFullError,
    StoreUnavailableError,
)
from dedup2d.files.keys import query_geometry_key
from dedup2d.observe import Observer
from dedup2d.parameters import Effective
from dedup2d.precision.overlay import Geometry, Precision
from dedup2d.protocols import MAX_CALLBACKS, Clocked, FileStore, JobStore, PresignedFiles, Queue
from dedup2d.runner_options import RunnerOptions
from dedup2d.tenants import TenantLimits, check_tenant_id
from dedup2d.tracing import current_request_id, current_traceparent
from dedup2d.types import Job, Lane, StoredFile, UploadOffer
from dedup2d.uploads import Data, as_chunks, checked, clean_file_name

__all__ = ["Intake", "ServiceOptions"]

_AS_ALL = TenantLimits()

log = logging.getLogger("dedup2d.service")

_CAD_FORMATS = frozenset({"dxf", "dwg"})
_OFFER_SECONDS = 900
_JOB_ID = re.compile(r"[0-9a-f]{32}")


@frozen(kw_only=True)
class ServiceOptions:
    """
    Limits of the service.

    Args:
        max_jobs: jobs that may wait and run at once, over all tenants.
        max_jobs_per_tenant: the same for one tenant.
        max_callbacks_per_tenant: callbacks of one tenant that may wait for their receivers.
        max_upload_bytes: largest file taken in.
        max_drawings_per_tenant: drawings in the index of one tenant, 0 for any number; looked at before each
            `add`, for a vision server that knows no limit. The embedded engine has its own.
        tenant_limits: what is other for some tenants.
        cad_lane: let DXF and DWG wait for workers of their own.
        offer_uploads: let clients put files into the file store themselves, where it can that.
        run: how jobs are run.
    """

    max_jobs: int = 200
    max_jobs_per_tenant: int = 1_000_000
    max_callbacks_per_tenant: int = MAX_CALLBACKS
    max_upload_bytes: int = 100 * 1024 * 1024
    max_drawings_per_tenant: int = 0
    tenant_limits: Mapping[str, TenantLimits] = field(factory=dict)
    cad_lane: bool = False
    offer_uploads: bool = False
    run: RunnerOptions = field(factory=RunnerOptions)

    def jobs_of(self, tenant_id: str) -> int:
        """Return how many jobs of the tenant may wait and run at once."""
        own = self.tenant_limits.get(tenant_id, _AS_ALL).max_jobs
        return self.max_jobs_per_tenant if own is None else own

    def upload_bytes_of(self, tenant_id: str) -> int:
        """Return how large a file of the tenant may be."""
        own = self.tenant_limits.get(tenant_id, _AS_ALL).max_upload_bytes
        return self.max_upload_bytes if own is None else own

    def drawings_of(self, tenant_id: str) -> int:
        """Return how many drawings the tenant's index may have; 0 for any number."""
        own = self.tenant_limits.get(tenant_id, _AS_ALL).max_drawings
        return self.max_drawings_per_tenant if own is None else own


@define(kw_only=True, eq=False)
class Intake:
    """The part of `dedup2d.service.Dedup2D` that admits jobs."""

    jobs: JobStore
    files: FileStore
    queue: Queue
    options: ServiceOptions
    observer: Observer
    clock: Callable[[], float]
    new_id: Callable[[], str]
    precision: Precision
    callbacks: Sender | None = None
    _was_full: bool = field(default=False, init=False)

    async def submit(
        self,
        tenant_id: str,
        data: Data,
        *,
        file_name: str,
        params: Effective,
        idempotency_key: str | None,
        callback_url: str | None = None,
        geometry: Geometry | None = None,
    ) -> Job:
        """Take in *data*; see `Dedup2D.submit`."""
        check_tenant_id(tenant_id)
        callback_url = await self._callback(callback_url)
        if idempotency_key is None:
            await self._refuse_while_full()
        job_id, name = self.new_id(), clean_file_name(file_name)
        key = f"{tenant_id}/{job_id}"
        formats: list[str] = []
        most = self.options.upload_bytes_of(tenant_id)
        chunks = checked(data, name, max_bytes=most, told=formats.append)
        stored = await self.files.put(key, chunks)
        new = self._job(tenant_id, stored, formats, name=name, params=params, idempotency_key=idempotency_key)
        new = evolve(new, callback_url=callback_url)
        try:
            new = await self._with_geometry(new, geometry)
            job = await self._admit(new)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._discard(key, job_id)
            raise
        if job.job_id != job_id:
            await self._delete_files(key)
            return job
        return await self._announced(job)

    async def _with_geometry(self, job: Job, geometry: Geometry | None) -> Job:
        """Store the geometry that came with the job, once it was seen to be right."""
        read = await self.precision.read(geometry)
        if read is None:
            return job
        stored = await self.files.put(query_geometry_key(job.file_key), as_chunks(read.data))
        return evolve(job, geometry_key=stored.key, geometry_hash=stored.sha256)

    async def offer_upload(self, tenant_id: str, *, size: int) -> UploadOffer:
        """Let a client put a file into the file store itself; see `Dedup2D.offer_upload`."""
        check_tenant_id(tenant_id)
        if not (self.options.offer_uploads and isinstance(self.files, PresignedFiles)):
            raise InvalidParameterError("size", size, "the file itself: this service offers no uploads")
        most = self.options.upload_bytes_of(tenant_id)
        if not 1 <= size <= most:
            raise InvalidParameterError("size", size, f"1 to {most} bytes")
        await self._refuse_while_full()
        key = f"{tenant_id}/{self.new_id()}"
        upload = await self.files.presign(key, size=size, expires_seconds=_OFFER_SECONDS)
        return UploadOffer(file_key=key, upload=upload)

    async def submit_stored(
        self,
        tenant_id: str,
        file_key: str,
        *,
        file_name: str,
        params: Effective,
        idempotency_key: str | None,
        callback_url: str | None = None,
    ) -> Job:
        """Take in a file that a client has put into the store itself; see `Dedup2D.submit_stored`."""
        owner, _, job_id = file_key.partition("/")
        if owner != check_tenant_id(tenant_id) or not _JOB_ID.fullmatch(job_id):
            raise FileNotStoredError(file_key)
        if (known := await self._known(job_id, tenant_id)) is not None:
            return known
        callback_url = await self._callback(callback_url)
        name = clean_file_name(file_name)
        formats: list[str] = []
        digest, size = hashlib.sha256(), 0
        most = self.options.upload_bytes_of(tenant_id)
        chunks = checked(self.files.open(file_key), name, max_bytes=most, told=formats.append)
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
        await self._refuse_if_old(file_key)
        stored = StoredFile(key=file_key, size=size, created_at=self.clock(), sha256=digest.hexdigest())
        new = self._job(tenant_id, stored, formats, name=name, params=params, idempotency_key=idempotency_key)
        job = await self._admit(evolve(new, callback_url=callback_url))
        return await self._announced(job)

    async def _refuse_if_old(self, file_key: str) -> None:
        """Leave to collectors what they may be about to delete."""
        found = await self.files.list(prefix=file_key, limit=1)
        if not found or found[0].key != file_key:
            raise FileNotStoredError(file_key)
        now = await self.files.now() if isinstance(self.files, Clocked) else self.clock()
        most = last_submit_seconds(self.options.run.file_retention_seconds)
        if now - found[0].created_at > most:
            raise FileNotStoredError.saying(
                f"the file {file_key} was uploaded more than {most:g} s ago and may be deleted any time:"
                " ask for another upload, and submit it sooner"
            )

    async def _callback(self, url: str | None) -> str | None:
        """Return the callback URL as it will be called."""
        if url is None:
            return None
        if self.callbacks is None:
            raise CallbackUrlError("unsupported", "this service sends no callbacks", "none, and poll the job")
        try:
            return await self.callbacks.check(url)
        except CallbackUrlError as error:
            self.observer.callback_blocked(str(error.reason))
            raise

    async def _known(self, job_id: str, tenant_id: str) -> Job | None:
        try:
            return await self.jobs.get(job_id, tenant_id)
        except JobNotFoundError:
            return None

    def _job(
        self,
        tenant_id: str,
        stored: StoredFile,
        formats: list[str],
        *,
        name: str,
        params: Effective,
        idempotency_key: str | None,
    ) -> Job:
        cad = self.options.cad_lane and not _CAD_FORMATS.isdisjoint(formats)
        return Job(
            job_id=stored.key.rpartition("/")[2],
            tenant_id=tenant_id,
            file_key=stored.key,
            file_name=name,
            file_hash=stored.sha256,
            file_size=stored.size,
            params=params.params,
            parameter_sources=params.sources,
            created_at=self.clock(),
            idempotency_key=idempotency_key,
            lane=Lane.CAD if cad else Lane.MAIN,
            request_id=current_request_id(),
            traceparent=current_traceparent(),
        )

    async def _refuse_while_full(self) -> None:
        """Spare the upload when there was no place for the last one, and is none yet."""
        if not self._was_full:
            return
        counts = await self.jobs.counts()
        if counts.pending + counts.in_progress >= self.options.max_jobs:
            self.observer.job_refused()
            raise JobQueueFullError(self.options.max_jobs)
        self._was_full = False

    async def _admit(self, job: Job) -> Job:
        try:
            return await self.jobs.admit(
                job,
                max_jobs=self.options.max_jobs,
                max_jobs_per_tenant=self.options.jobs_of(job.tenant_id),
                max_callbacks_per_tenant=self.options.max_callbacks_per_tenant,
            )
        except JobQueueFullError as error:
            self._was_full = not error.per_tenant
            self.observer.job_refused()
            raise

    async def _announced(self, job: Job) -> Job:
        self.observer.job_submitted()
        try:
            await self.queue.put(job.job_id, lane=job.lane)
        except StoreUnavailableError:
            log.warning("nobody was woken for a job: the next sweep will", extra={"job_id": job.job_id})
        except Exception:  # the job is taken in: a client that is told otherwise submits it again
            log.exception("nobody was woken for a job: the next sweep will", extra={"job_id": job.job_id})
        return job

    async def _discard(self, key: str, job_id: str) -> None:
        """Delete the file of a job that was not admitted; keep it if it was after all."""
        if await self._known(job_id, key.partition("/")[0]) is None:
            await self._delete_files(key)

    async def _delete_files(self, key: str) -> None:
        await self.files.delete(key)
        await self.files.delete(query_geometry_key(key))
