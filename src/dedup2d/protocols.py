"""
The protocols that back ends implement, with their contracts.

`dedup2d.testing` holds a `check_*` function for each, which asserts what is said here.
All methods may be called by many tasks at once. Every implementation is an async
context manager: it is used between `__aenter__` and `__aexit__` only. Errors of the
driver beneath are mapped to errors of `dedup2d.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from dedup2d.types import (
    AddResult,
    CallbackStatus,
    Comparison,
    Drawing,
    DrawingFile,
    DrawingPage,
    HalfUpload,
    Health,
    Job,
    JobCounts,
    JobPage,
    JobStatus,
    Lane,
    PresignedUpload,
    RebuildResult,
    SearchParams,
    SearchResult,
    StoredFile,
    Swept,
)

__all__ = [
    "MAX_CALLBACKS",
    "MAX_GEOMETRY_BYTES",
    "CallbackSigner",
    "Clocked",
    "ExpiringJobs",
    "FileStore",
    "GeometryStore",
    "HalfUploads",
    "JobStore",
    "KnowsFiles",
    "LocalFiles",
    "PresignedFiles",
    "Progress",
    "Queue",
    "SharedQueue",
    "VisionClient",
]

MAX_GEOMETRY_BYTES = 10 * 1024 * 1024
"""Largest geometry JSON that is stored."""

MAX_CALLBACKS = 10_000
"""Callbacks of one tenant that may wait, if nobody says how many."""

Progress = Callable[[str], None]
"""Told the stage that a search has reached; must return at once."""


class Resource(Protocol):
    """An async context manager that gives itself."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class JobStore(Resource, Protocol):
    """
    The truth about jobs.

    Each method is one atomic step: a crash leaves all of it or nothing, and two callers at
    once behave as one after the other. The time of a step is the store's clock. A final
    state never changes; status and result (or error) become visible together.
    """

    async def admit(
        self,
        job: Job,
        *,
        max_jobs: int,
        max_jobs_per_tenant: int,
        max_callbacks_per_tenant: int = MAX_CALLBACKS,
    ) -> Job:
        """
        Take in a pending job if there is a place.

        Jobs that are not final take places. If *job* has an `idempotency_key` which a job of
        the same tenant that has not expired carries, nothing is stored: that job is returned
        when `file_hash`, `params` and `callback_url` are the same. Idempotency is looked at before
        capacity. A job with a `callback_url` gets `callback_status` pending, and a `callback_message_id`
        if it has none.

        Raises:
            InvalidParameterError: the job is not pending, or its id is taken.
            JobQueueFullError: all places, or all of the tenant, are taken.
            CallbackQueueFullError: the job wants a callback, and as many of the tenant's final jobs
                have one that has not ended.
            IdempotencyConflictError: the key belongs to a job with another file, params or callback.
        """

    async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
        """
        Return the job, with its result; of any tenant if *tenant_id* is None.

        Raises:
            JobNotFoundError: it is not there, has expired, or is another tenant's.
        """

    async def list(
        self,
        tenant_id: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        page_token: str | None = None,
    ) -> JobPage:
        """
        List the tenant's jobs, newest first (by `created_at`, then `job_id`), without results.

        `next_page_token` goes on where the page ends: jobs that come or go meanwhile make no
        other job appear twice or be left out. `total` counts the jobs that fit *status*.

        Raises:
            InvalidParameterError: *page_token* was not given by this method, or *limit* is
                not 1 to 500.
        """

    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        """
        Take the right to run a job: *job_id*, or the one that has waited longest.

        Only a pending job whose `next_attempt_at` has come can be claimed, and only one that waits in one
        of *lanes* if given. It becomes in progress with *token* and a lease from now; `attempts` grows by
        one; `started_at` is set at the first claim. None if there is nothing (or not this one) to claim.
        """

    async def heartbeat(
        self, job_id: str, token: str, *, lease_seconds: float, progress: str | None = None
    ) -> bool:
        """
        Extend the lease from now, note *progress* if given, and say whether a cancel is wanted.

        Raises:
            LeaseLostError: *token* does not hold the job (any more). A lease that has run
                out but that no sweep has taken away is still held.
        """

    async def finish(
        self,
        job_id: str,
        token: str,
        *,
        status: JobStatus,
        ttl_seconds: float,
        result: SearchResult | None = None,
        error_code: str | None = None,
        error: str | None = None,
    ) -> Job:
        """
        Make the job final, compare-and-set on (in progress, *token*).

        `expires_at` is now plus *ttl_seconds*. As by every step that makes a job final, its callback waits
        from now on (`callback_next_attempt_at`), and the job is kept for a day at least, so that somebody
        comes to send it. A cancel that was asked for but came too late to
        stop the work does not change a `completed`. The call that made the job final may be given
        the job again when it is repeated, because its answer may have been lost on the way.

        Raises:
            LeaseLostError: *token* does not hold the job (any more); nothing is changed.
        """

    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        """
        Give the job back: pending again, to be claimed after *delay_seconds*.

        Does not count as a loss. If a cancel was asked for, the job becomes canceled instead,
        with the expiry that the last `cancel` gave.

        Raises:
            LeaseLostError: *token* does not hold the job (any more).
        """

    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        """
        Cancel a pending job at once; mark one in progress; leave a final one as it is.

        Raises:
            JobNotFoundError: as for `get`.
        """

    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        """
        Put right what crashes and time have done, up to *limit* jobs of each kind.

        Jobs whose lease has run out (now > `lease_expires_at`) become pending again with
        `losses` one more, or canceled if a cancel was asked for, or failed with `WORKER_LOST`
        once `losses` reaches *max_losses*. Jobs past `expires_at` are deleted and returned.
        `ready` are the ids of all jobs that can be claimed now.
        """

    async def claim_callback(
        self, token: str, *, lease_seconds: float, passing_over: Collection[str] = ()
    ) -> Job | None:
        """
        Take the right to send the callback that has been due longest, and return its job with the result.

        Those of the tenants *passing_over* are left to others. Only the callback of a final job can be
        claimed, whose `callback_next_attempt_at` has come, or whose sender's lease has run out (now at or
        past its end): no sweep is needed. `callback_attempts` grows by one. None if nothing can be claimed.
        """

    async def retry_callback(
        self,
        job_id: str,
        token: str,
        *,
        delay_seconds: float,
        attempted: bool = True,
        http_status: int | None = None,
        error: str | None = None,
    ) -> Job:
        """
        Let the callback be tried again after *delay_seconds*, and keep the job for a day beyond that.

        An attempt that was not made (*attempted* false) does not count, and leaves what is known of the
        last. The job comes back without its result, as from the two methods below.

        Raises:
            LeaseLostError: *token* does not hold the callback (any more).
        """

    async def finish_callback(
        self,
        job_id: str,
        token: str,
        *,
        status: CallbackStatus,
        ttl_seconds: float,
        http_status: int | None = None,
        error: str | None = None,
    ) -> Job:
        """
        End the callback as *status*; from now on the job is kept for *ttl_seconds*.

        Raises:
            LeaseLostError: *token* does not hold the callback (any more); nothing is changed.
            InvalidParameterError: *status* is `pending`.
        """

    async def redeliver(self, job_id: str, tenant_id: str) -> Job:
        """
        Let the callback be sent (again) now, with the same message id.

        One that has ended begins anew, at no attempts; one that waits is tried now; one that is just being
        sent is left as it is.

        Raises:
            JobNotFoundError: as for `get`.
            CallbackStateError: the job has no callback, or is not final.
        """

    async def counts(self) -> JobCounts:
        """Count what waits and runs, in time that does not grow with finished jobs."""


@runtime_checkable
class ExpiringJobs(Protocol):
    """What a JobStore may offer besides: it can say beforehand what a sweep would delete."""

    async def count_expired(self) -> int:
        """Count the jobs past `expires_at` that are still stored."""


class FileStore(Resource, Protocol):
    """
    Files by key.

    A key is one to eight segments of `A-Z a-z 0-9 . _ -` joined by `/`, none of them starting with a
    dot or longer than 200 characters, at most 512 characters in all.
    """

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        """
        Store the bytes under *key*, all or nothing; replaces what was there.

        Holds a bounded part in memory. If *chunks* raises, or the process dies, the key is as it
        was before. The returned `sha256` is of the bytes stored.

        Raises:
            InvalidParameterError: *key* is not a key.
        """

    def open(self, key: str) -> AsyncIterator[bytes]:
        """
        Give the bytes in chunks of at most 1 MiB, a file of no bytes as no chunk.

        Raises (at the first step):
            FileNotStoredError: no such file.
            InvalidParameterError: *key* is not a key.
        """

    async def delete(self, key: str) -> bool:
        """
        Delete the file; say whether it was there.

        Raises:
            InvalidParameterError: *key* is not a key.
        """

    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        """
        List files by key in order, those after the key *after*, at most *limit*.

        Only whole files are listed. *older_than* keeps those stored before that Unix time.
        """


@runtime_checkable
class LocalFiles(Protocol):
    """What a FileStore may offer besides: its files lie on this machine's disk."""

    def local_path(self, key: str) -> str:
        """Return the path under which the file of *key* can be read in place, if stored."""


@runtime_checkable
class PresignedFiles(Protocol):
    """What a FileStore may offer besides: clients can put files into it themselves."""

    async def presign(
        self, key: str, *, size: int, content_type: str | None = None, expires_seconds: int = 900
    ) -> PresignedUpload:
        """
        Return a URL by which somebody without credentials may put *size* bytes under *key*.

        It serves this key and size alone, and for 1 to 3600 seconds. Nobody has looked at the bytes
        that are put so, nor counted their hash.

        Raises:
            InvalidParameterError: *key* is not a key, or *size* or *expires_seconds* out of range.
        """


@runtime_checkable
class HalfUploads(Protocol):
    """What a FileStore may offer besides: it keeps what was sent of uploads that were never ended."""

    @property
    def longest_upload_seconds(self) -> float:
        """An upload whose `begun_at` is longer ago is not going on any more."""

    def half_uploads(self, *, older_than: float) -> AsyncIterator[HalfUpload]:
        """
        Give the uploads that have not ended and whose `begun_at` is before the Unix time *older_than*.

        Those that are going on are among them.
        """

    async def abandon(self, upload: HalfUpload) -> bool:
        """Delete what is left of an upload that `half_uploads` gave; say whether it was still there."""


@runtime_checkable
class Clocked(Protocol):
    """What a FileStore may offer besides: the age of its files is by another clock than this machine's."""

    async def now(self) -> float:
        """Return the Unix time by that clock."""


class GeometryStore(Resource, Protocol):
    """
    The geometry of drawings, as JSON, by tenant and hash of the drawing's file.

    What is stored of one tenant is neither found, replaced nor deleted through another. The store does not
    look into the JSON: `dedup2d.geometry.reading.read_geometry` does, whenever it is used.

    Every method raises InvalidParameterError where *tenant_id* is not the id of a tenant, or *file_hash* not
    a sha256 as 64 of `0-9 a-f`.
    """

    async def put(self, tenant_id: str, file_hash: str, data: bytes) -> None:
        """
        Store *data*, all or nothing; replaces what was there, and makes its age begin anew.

        The same again is no error. To be called after the drawing was added: what belongs to no drawing may
        be collected.

        Raises:
            InvalidParameterError: *data* is empty, or larger than `MAX_GEOMETRY_BYTES`.
        """

    async def get(self, tenant_id: str, file_hash: str) -> bytes | None:
        """
        Return what was stored, byte for byte; None if nothing is.

        Raises:
            UnreadableRecordError: what is stored is damaged, or expands to more than `MAX_GEOMETRY_BYTES`.
        """

    async def exists(self, tenant_id: str, file_hash: str) -> bool:
        """Say whether there is one, without reading it."""

    async def delete(self, tenant_id: str, file_hash: str) -> bool:
        """Delete it; say whether it was there."""


class Queue(Resource, Protocol):
    """
    Wakes a worker with a job id. It may deliver twice or never; the JobStore decides.

    A worker that was woken runs every job that waits, not only the one it was told of.
    """

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        """Ask that some worker of *lane* looks at the job soon. Never waits for a worker."""

    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        """
        Call *handler* with job ids, up to *concurrency* at once, until cancelled.

        Cancelling waits for the running handlers, which are cancelled too. A handler that raises
        is logged and does not end the others.
        """

    async def depth(self) -> int:
        """Return about how many wake-ups wait."""


@runtime_checkable
class SharedQueue(Protocol):
    """What a Queue may offer besides: one wake-up stands for all jobs that wait, so it is passed on."""

    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        """
        Wake one more worker of *lane*, an idle one of this process if there is one.

        Called by a handler that has found *job_id* to run: others may wait behind it.
        """


class VisionClient(Resource, Protocol):
    """
    Answers searches over one index per tenant, and keeps those indexes.

    An added drawing is found by every search that starts after `add` returned, also by another
    process on the same index. Cancelling a call stops its work, the child process included.
    """

    async def search(
        self,
        tenant_id: str,
        file: DrawingFile,
        params: SearchParams,
        *,
        progress: Progress | None = None,
    ) -> SearchResult:
        """
        Search the tenant's index for drawings related to *file*, each of its pages.

        Raises:
            UnsupportedFormatError, UnreadableDrawingError, ImageTooLargeError: the file.
            VisionUnavailableError: may pass; try again later.
        """

    async def add(
        self,
        tenant_id: str,
        file: DrawingFile,
        *,
        metadata: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> AddResult:
        """
        Add every sheet of *file*, all or none.

        The same bytes under the same name and source are added once: again is no error and `added` is
        false. With *source* (where the file lies) the sheets replace those that came
        from the same source before, in the same step.

        Raises: as `search`.
        """

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        """
        Remove one drawing; searches that start afterwards do not find it.

        Raises:
            DrawingNotFoundError: no such drawing in this tenant's index.
        """

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        """Make all fingerprints anew from what the index keeps, while searches go on."""

    async def drawings(
        self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
    ) -> DrawingPage:
        """
        List the tenant's drawings, newest first.

        Raises:
            InvalidParameterError: a foreign *page_token*, or *limit* is not 1 to 500.
        """

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        """
        Return one drawing.

        Raises:
            DrawingNotFoundError: no such drawing in this tenant's index.
        """

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        """
        Return the drawing as a PNG picture.

        Raises:
            DrawingNotFoundError: no such drawing in this tenant's index.
        """

    async def compare(self, a: DrawingFile, b: DrawingFile, params: SearchParams) -> Comparison:
        """
        Compare the first sheets of two files; *b* is the older one, the difference is seen from it.

        Raises: as `search`.
        """

    async def health(self) -> Health:
        """Say whether searches can be answered. Never raises, answers within seconds."""


@runtime_checkable
class KnowsFiles(Protocol):
    """What a VisionClient may offer besides: it finds drawings by the hash of their file."""

    async def indexed_files(self, tenant_id: str, file_hashes: Collection[str]) -> Collection[str]:
        """Return those of *file_hashes*, up to 1000, of which the tenant's index has a drawing."""


class CallbackSigner(Protocol):
    """Makes the headers by which a receiver knows that a callback is genuine."""

    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        """
        Return the headers for one attempt to deliver *body* at Unix time *timestamp*.

        The same arguments give the same headers. Never raises.
        """


JobStoreMaker = Callable[[Callable[[], float]], AbstractAsyncContextManager[JobStore]]
"""Makes an empty JobStore that reads the time from the given clock."""
