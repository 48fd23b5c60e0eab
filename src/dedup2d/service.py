"""
The service object: everything that the API, the command and a library user do, they do here.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from dedup2d.callbacks.attempts import Sender
from dedup2d.callbacks.delivery import Deliverer
from dedup2d.configs import ConfigStore, TenantConfig, make_config
from dedup2d.configs.memory import MemoryConfigStore
from dedup2d.errors import (
    IndexFullError,
    JobQueueFullError,
    VisionUnsupportedError,
)
from dedup2d.files.observed import observed
from dedup2d.geometry.result import GeometryScore
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.intake import Intake, ServiceOptions
from dedup2d.observe import Observer
from dedup2d.parameters import Effective, effective, effective_parameters, given_by
from dedup2d.precision.overlay import Geometry, Precision
from dedup2d.protocols import FileStore, JobStore, Queue, VisionClient
from dedup2d.runner import Runner, in_time
from dedup2d.tenants import check_tenant_id
from dedup2d.types import (
    AddResult,
    Comparison,
    Drawing,
    DrawingFile,
    DrawingPage,
    Health,
    Job,
    JobCounts,
    JobPage,
    JobStatus,
    RebuildResult,
    SearchParams,
    SearchResult,
    UploadOffer,
)
from dedup2d.uploads import Data, clean_file_name, spooled
from dedup2d.watch import Watch

if TYPE_CHECKING:
    from dedup2d.settings import Settings

__all__ = ["Dedup2D", "ServiceOptions"]

log = logging.getLogger("dedup2d.service")

_LONGEST_POLL_SECONDS = 0.5

Params = SearchParams | Effective | None
"""
What a search is asked to do: parameters that stand as they are, those that `Dedup2D.effective` gave, or
None for what the tenant has configured.
"""


def new_id() -> str:
    """Return a new random id of 128 bits, as 32 hexadecimal digits."""
    return secrets.token_hex(16)


@define(kw_only=True, eq=False)
class Dedup2D:
    """
    Finds drawings in a tenant's index, at once or as jobs, and keeps that index.

    An async context manager: entering it enters the back ends and starts running jobs; leaving
    it gives running jobs back, to be run at the next start.

    Args:
        jobs, files, queue, vision: the back ends (see `dedup2d.protocols`).
        options: limits.
        observer: hears what happens, for metrics.
        callbacks: sends the callbacks of jobs; None takes no jobs with one.
        configs: keeps what tenants have set for all their searches.
        precision: compares geometries, and has the store of those of drawings; made on *files* if not given.
        clock: gives Unix seconds.
        new_id: gives unguessable ids.
    """

    jobs: JobStore
    files: FileStore
    queue: Queue
    vision: VisionClient
    options: ServiceOptions = field(factory=ServiceOptions)
    observer: Observer = field(factory=Observer)
    callbacks: Sender | None = None
    configs: ConfigStore = field(factory=MemoryConfigStore)
    precision: Precision | None = None
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = new_id
    _runner: Runner = field(init=False)
    _intake: Intake = field(init=False)
    _watch: Watch = field(init=False)
    _precision: Precision = field(init=False)
    _stack: AsyncExitStack = field(factory=AsyncExitStack, init=False)
    _direct: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        files = observed(self.files, self.observer)
        self._precision = self.precision or Precision(store=FileGeometryStore(files), observer=self.observer)
        self.observer.slots(self.options.run.concurrency)
        self._runner = Runner(
            jobs=self.jobs,
            files=files,
            queue=self.queue,
            vision=self.vision,
            options=self.options.run,
            observer=self.observer,
            clock=self.clock,
            new_id=self.new_id,
            precision=self._precision,
            deliverer=self._deliverer(self.callbacks) if self.callbacks is not None else None,
        )
        self._watch = Watch(
            jobs=self.jobs, queue=self.queue, vision=self.vision, observer=self.observer, clock=self.clock
        )
        self._intake = Intake(
            jobs=self.jobs,
            files=files,
            queue=self.queue,
            options=self.options,
            observer=self.observer,
            clock=self.clock,
            new_id=self.new_id,
            precision=self._precision,
            callbacks=self.callbacks,
        )

    def _deliverer(self, sender: Sender) -> Deliverer:
        return Deliverer(
            jobs=self.jobs,
            sender=sender,
            ttl_seconds=self.options.run.ttl_seconds,
            observer=self.observer,
            clock=self.clock,
            new_id=self.new_id,
        )

    @classmethod
    def from_settings(cls, settings: Settings, *, observer: Observer | None = None) -> Dedup2D:
        """
        Build the service on the back ends that *settings* name.

        Raises:
            MissingExtraError: a back end's packages are not installed.
        """
        from dedup2d.build import build_service  # noqa: PLC0415 - loads the back ends

        return build_service(settings, observer or Observer())

    @classmethod
    def from_environment(cls) -> Dedup2D:
        """
        Build the service from the environment's settings.

        Raises:
            ConfigurationError: a setting is not allowed.
            MissingExtraError: a back end's packages are not installed.
        """
        from dedup2d.settings import Settings  # noqa: PLC0415 - needs an extra

        return cls.from_settings(Settings.from_environment())

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for part in self._parts():
                if part is not None:
                    await stack.enter_async_context(part)
            if self.options.run.concurrency:
                tasks: TaskGroup = await stack.enter_async_context(anyio.create_task_group())
                stack.callback(tasks.cancel_scope.cancel)
                tasks.start_soon(self._runner.run)
            self._stack = stack.pop_all()
        return self

    def _parts(self) -> tuple[AbstractAsyncContextManager[Any] | None, ...]:
        own = (self.jobs, self.files, self.configs, self._precision.store, self._precision)
        return (*own, self.vision, self.queue, self.callbacks)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The parts are left as after a block that ended well: else the task group of the runner
        # would wrap the caller's own exception in an ExceptionGroup.
        await self._stack.__aexit__(None, None, None)

    async def drain(self) -> None:
        """
        Take no more jobs to run here, and return when those that run have ended.

        Cancelling it gives them back at once. The service is to be left afterwards.
        """
        await self._runner.drain()

    # Jobs

    async def submit(
        self,
        tenant_id: str,
        data: Data,
        *,
        file_name: str,
        params: Params = None,
        idempotency_key: str | None = None,
        callback_url: str | None = None,
        geometry: Geometry | None = None,
    ) -> Job:
        """
        Take in a search as a job and return it, pending.

        The file is stored first, then the job, then the wake-up is sent: a crash between them
        loses nothing that was answered. Once the job is final, whatever became of it, that is posted to
        *callback_url*.

        *geometry* is the drawing's v2 geometry JSON, which is compared with that of the matches.

        Raises:
            InvalidGeometryError: *geometry* is none.
            CallbackUrlError: *callback_url* may not be called, or no callbacks are sent here.
            CallbackQueueFullError: too many callbacks of the tenant wait for their receivers.
            EmptyFileError, FileTooLargeError, UnsupportedFormatError: the file.
            JobQueueFullError: no place is free.
            IdempotencyConflictError: the key came before with another request.
        """
        return await self._intake.submit(
            tenant_id,
            data,
            file_name=file_name,
            params=await self._effective(tenant_id, params),
            idempotency_key=idempotency_key,
            callback_url=callback_url,
            geometry=geometry,
        )

    async def offer_upload(self, tenant_id: str, *, size: int) -> UploadOffer:
        """
        Let a client put a file of *size* bytes into the file store itself, within 15 minutes.

        The offer's `file_key` goes to `submit_stored` afterwards. A file that is not submitted is collected.

        Raises:
            InvalidParameterError: *size* is out of range, or uploads are not offered here.
            JobQueueFullError: no place is free.
        """
        return await self._intake.offer_upload(tenant_id, size=size)

    async def submit_stored(
        self,
        tenant_id: str,
        file_key: str,
        *,
        file_name: str,
        params: Params = None,
        idempotency_key: str | None = None,
        callback_url: str | None = None,
    ) -> Job:
        """
        Take in a search by the file that was put under the *file_key* of an offer.

        The file is read once, to look at its format, size and hash. Again gives the same job.

        Raises:
            FileNotStoredError: it is not there, or another tenant's.
        and those of `submit`.
        """
        return await self._intake.submit_stored(
            tenant_id,
            file_key,
            file_name=file_name,
            params=await self._effective(tenant_id, params),
            idempotency_key=idempotency_key,
            callback_url=callback_url,
        )

    async def get(self, tenant_id: str, job_id: str) -> Job:
        """
        Return the tenant's job, with its result when it is completed.

        Raises:
            JobNotFoundError: the tenant has no such job (any more).
        """
        return await self.jobs.get(job_id, check_tenant_id(tenant_id))

    async def wait(self, tenant_id: str, job_id: str, *, timeout: float) -> Job:  # noqa: ASYNC109 - a long poll, not a failure
        """
        Return the job once it is final, or as it is after *timeout* seconds.

        Raises:
            JobNotFoundError: the tenant has no such job (any more).
        """
        job, pause = await self.get(tenant_id, job_id), 0.005
        with anyio.move_on_after(timeout):
            while not job.status.final:
                await anyio.sleep(pause)
                pause = min(_LONGEST_POLL_SECONDS, pause * 1.5)
                job = await self.get(tenant_id, job_id)
        return job

    async def list_jobs(
        self,
        tenant_id: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        page_token: str | None = None,
    ) -> JobPage:
        """
        List the tenant's jobs, newest first, without results.

        Raises:
            InvalidParameterError: a foreign *page_token*, or *limit* is not 1 to 500.
        """
        return await self.jobs.list(
            check_tenant_id(tenant_id), status=status, limit=limit, page_token=page_token
        )

    async def cancel(self, tenant_id: str, job_id: str) -> Job:
        """
        Cancel the job: at once while it waits, soon while it runs, never once it is final.

        Raises:
            JobNotFoundError: the tenant has no such job (any more).
        """
        before = await self.get(tenant_id, job_id)
        job = await self.jobs.cancel(job_id, tenant_id, ttl_seconds=self.options.run.ttl_seconds)
        self.observer.cancel_requested()
        if job.status is JobStatus.IN_PROGRESS:
            self._runner.hurry(job_id)
        elif not before.status.final and job.status is JobStatus.CANCELED:
            await self._runner.after_final(job)
        return job

    async def redeliver(self, tenant_id: str, job_id: str) -> Job:
        """
        Send the callback of a final job (again) now, under the same message id; its attempts begin anew.

        Raises:
            JobNotFoundError: the tenant has no such job (any more).
            CallbackStateError: the job has no callback, or is not final.
        """
        job = await self.jobs.redeliver(job_id, check_tenant_id(tenant_id))
        log.info("callback is sent again: it was asked for", extra={"job_id": job_id})
        self._runner.hurry_callbacks()
        return job

    # What tenants have set for all their searches

    async def effective(
        self, tenant_id: str, given: Mapping[str, Any] | None = None, *, preset: str | None = None
    ) -> Effective:
        """
        Return the parameters of a search: *given*, else the *preset*'s, else the tenant's configuration's.

        Raises:
            InvalidParameterError: a value is not allowed, two do not go together, or there is no such preset.
        """
        config = await self.configs.get(check_tenant_id(tenant_id))
        own = {} if config is None else config.search_params()
        return effective(request=given or {}, preset=preset, tenant=own)

    async def config(self, tenant_id: str) -> TenantConfig | None:
        """Return what the tenant has configured, None if that is nothing."""
        return await self.configs.get(check_tenant_id(tenant_id))

    async def set_config(
        self, tenant_id: str, parameters: Mapping[str, Any], *, preset: str | None = None, by: str = ""
    ) -> TenantConfig:
        """
        Configure the tenant's searches, in place of what was configured before.

        Args:
            tenant_id: whose.
            parameters: of `SearchParams` by name, as JSON gives them; they win over those of *preset*.
            preset: name of a preset.
            by: who does it, to be kept with it.

        Raises:
            InvalidParameterError: a name is not known, a value not allowed, or two do not go together.
        """
        config = make_config(tenant_id, parameters, preset=preset, updated_at=self.clock(), updated_by=by)
        await self.configs.put(config)
        return config

    async def delete_config(self, tenant_id: str) -> bool:
        """Forget what the tenant has configured; say whether that was anything."""
        return await self.configs.delete(check_tenant_id(tenant_id))

    # Searches and the index

    async def search(
        self,
        tenant_id: str,
        data: Data,
        *,
        file_name: str,
        params: Params = None,
        geometry: Geometry | None = None,
    ) -> SearchResult:
        """
        Search now and return the answer.

        *geometry* is the drawing's v2 geometry JSON, which is compared with that of the matches.

        Raises:
            InvalidGeometryError: *geometry* is none.
            EmptyFileError, FileTooLargeError, UnsupportedFormatError, UnreadableDrawingError: the file.
            JobQueueFullError: as many searches run as jobs may wait and run.
            JobTimeoutError: it took longer than a job may.
            VisionUnavailableError: the engine cannot answer now.
        """
        chosen = await self._effective(tenant_id, params)
        async with self._direct_drawing(tenant_id, data, file_name) as drawing:
            read = await self._precision.read(geometry)
            with self.observer.timed_vision("search"):
                found = await self.vision.search(tenant_id, drawing, chosen.params)
            if read is not None:
                found = await self._precision.overlay(tenant_id, drawing.name, found, chosen.params, read)
        return evolve(found, effective_parameters=effective_parameters(chosen.params, chosen.sources))

    async def compare(
        self,
        tenant_id: str,
        a: Data,
        b: Data,
        *,
        file_names: tuple[str, str],
        params: SearchParams | None = None,
    ) -> Comparison:
        """
        Compare the first sheets of two files; the difference is seen from *b*, the older one.

        Raises: as `search`.
        """
        async with (
            self._direct_drawing(tenant_id, a, file_names[0]) as first,
            self._direct_drawing(tenant_id, b, file_names[1]) as second,
        ):
            with self.observer.timed_vision("compare"):
                return await self.vision.compare(first, second, params or SearchParams())

    async def add(
        self,
        tenant_id: str,
        data: Data,
        *,
        file_name: str,
        metadata: Mapping[str, str] | None = None,
        source: str | None = None,
        geometry: Geometry | None = None,
    ) -> AddResult:
        """
        Add every sheet of a file to the tenant's index, all or none.

        *source* says where the file lies; what came from there before is replaced.

        *geometry* is the drawing's v2 geometry JSON, stored for later searches. Without it, that of a DXF
        or DWG file is taken from it, if there is none yet.

        Raises:
            InvalidGeometryError: *geometry* is none.
            IndexFullError: the index has no room for all of them.
        and those of `search`.
        """
        if source is None:
            await self._refuse_if_full(check_tenant_id(tenant_id))
        async with self._direct_drawing(tenant_id, data, file_name) as drawing:
            read = await self._precision.read(geometry)
            with self.observer.timed_vision("add"):
                added = await self.vision.add(tenant_id, drawing, metadata=metadata, source=source)
            return await self._precision.stored(tenant_id, drawing, added, read)

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        """
        Remove one drawing from the tenant's index.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        check_tenant_id(tenant_id)
        file_hash = await self._hash_of(tenant_id, drawing_id)
        with self.observer.timed_vision("remove"):
            await self.vision.remove(tenant_id, drawing_id)
        if file_hash is not None:
            await self._precision.forget(tenant_id, file_hash, self.vision)

    async def has_geometry(self, tenant_id: str, file_hash: str) -> bool:
        """
        Say whether the geometry of the file with this sha256 is stored for the tenant's searches.

        Raises:
            InvalidParameterError: *file_hash* is not 64 of `0-9 a-f`.
        """
        return await self._precision.store.exists(check_tenant_id(tenant_id), file_hash)

    async def compare_geometry(
        self, query: Geometry, other: Geometry, *, params: SearchParams | None = None
    ) -> GeometryScore:
        """
        Compare two geometries by the profile and the limits of differences of *params*.

        Raises:
            InvalidGeometryError: one of them is none, or they take too long.
        """
        return await self._precision.compare(query, other, params or SearchParams())

    async def drawings(
        self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
    ) -> DrawingPage:
        """
        List the tenant's drawings, newest first.

        Raises:
            InvalidParameterError: a foreign *page_token*, or *limit* is not 1 to 500.
        """
        return await self.vision.drawings(check_tenant_id(tenant_id), limit=limit, page_token=page_token)

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        """
        Return one drawing of the tenant's index.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        return await self.vision.drawing(check_tenant_id(tenant_id), drawing_id)

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        """
        Return one drawing of the tenant's index as a PNG picture.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        return await self.vision.picture(check_tenant_id(tenant_id), drawing_id)

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        """Make all fingerprints of the tenant's index anew."""
        with self.observer.timed_vision("rebuild"):
            return await self.vision.rebuild(check_tenant_id(tenant_id))

    async def health(self) -> Health:
        """Say whether the vision engine can answer."""
        return await self.vision.health()

    async def counts(self) -> JobCounts:
        """Count what waits and runs, and tell the observer."""
        return await self._watch.look()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Tell the observer again and again what waits, runs and is kept, while the block lasts."""
        failure = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch.run)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                failure = error
            tasks.cancel_scope.cancel()
        if failure:
            raise failure

    # Inside

    async def _effective(self, tenant_id: str, params: Params) -> Effective:
        if isinstance(params, Effective):
            return params
        return given_by(params) if params is not None else await self.effective(tenant_id)

    async def _hash_of(self, tenant_id: str, drawing_id: str) -> str | None:
        """Return the hash of the drawing's file; None from a server that does not show single drawings."""
        try:
            return (await self.vision.drawing(tenant_id, drawing_id)).file_hash
        except VisionUnsupportedError:
            return None

    async def _refuse_if_full(self, tenant_id: str) -> None:
        most = self.options.drawings_of(tenant_id)
        if most and (await self.vision.drawings(tenant_id, limit=1)).total >= most:
            raise IndexFullError(most)

    @asynccontextmanager
    async def _direct_drawing(self, tenant_id: str, data: Data, file_name: str) -> AsyncIterator[DrawingFile]:
        """Give *data* as a drawing for one call of the engine; a slow upload does not count as its time."""
        check_tenant_id(tenant_id)
        if self._direct >= self.options.max_jobs:
            self.observer.job_refused()
            raise JobQueueFullError(self.options.max_jobs)
        self._direct += 1
        try:
            name = clean_file_name(file_name)
            most = self.options.upload_bytes_of(tenant_id)
            async with spooled(data, name, max_bytes=most) as drawing:
                with in_time(self.options.run.job_timeout_seconds):
                    yield drawing
        finally:
            self._direct -= 1
