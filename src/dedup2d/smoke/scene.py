"""What the steps of a walk share, and what they leave behind to be cleared away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from secrets import token_hex

import anyio
from attrs import define, field

from dedup2d.client import ClientOptions, Dedup2DClient
from dedup2d.client.transport import PREFIX
from dedup2d.errors import Dedup2DError, DrawingNotFoundError, JobNotFoundError
from dedup2d.smoke.advice import advice_for
from dedup2d.smoke.asking import Plain, Reply, file_of
from dedup2d.smoke.drawing import plate
from dedup2d.smoke.options import SmokeOptions
from dedup2d.smoke.outcomes import FailedError
from dedup2d.smoke.receiver import Callback, Receiver, receiving
from dedup2d.types import Job, JobStatus, SearchParams, SearchResult

__all__ = ["SEARCH", "Scene", "staged"]

SEARCH = SearchParams(max_results=10, compute_diff=False)
_CLEAN_UP_SECONDS = 20.0
_SHARE_OF_WAITING = 0.8
"""Of a step's time: the rest is for saying why a job is not final."""
_JOB_WAITS = (
    "see whether workers run (dedup2d_worker_slots) and serve its queue, and what last_error says:"
    " dedup2d jobs list --status pending"
)


@define
class Scene:
    """A walk over one service."""

    options: SmokeOptions
    client: Dedup2DClient
    plain: Plain
    receiver: Receiver | None
    seed: str = field(factory=lambda: token_hex(8))
    drawing_id: str | None = field(default=None, init=False)
    """Of the walk's own drawing while it is in the index."""
    known_jobs: list[str] = field(factory=list, init=False)
    """Ids of all jobs that were submitted, the last at the end."""
    final_jobs: set[str] = field(factory=set, init=False)
    callback: Callback | None = field(default=None, init=False)
    """What the walk's own receiver was sent."""
    tenant_id: str = field(default="", init=False)
    job_id: str = field(default="", init=False)
    """Of the job that found the drawing."""

    @property
    def file_name(self) -> str:
        return f"dedup2d-smoke-{self.seed}.png"

    @property
    def drawing(self) -> bytes:
        """The drawing as it is added."""
        return plate(self.seed)

    @property
    def copy(self) -> bytes:
        """The same drawing at another resolution: other bytes, so that the engine must look at it."""
        return plate(self.seed, scale=1.5)

    async def ask(self, method: str, path: str) -> Reply:
        """Ask the API with the key."""
        return await self.plain.ask(method, PREFIX + path, key=self.options.api_key)

    async def post_search(self, data: bytes, file_name: str | None = None, **query: str) -> Reply:
        """Post a search by a plain request; note the job that it was taken in as, if it was."""
        reply = await self.plain.ask(
            "POST",
            f"{PREFIX}/search",
            key=self.options.api_key,
            query=query,
            file=file_of(file_name or self.file_name, data),
        )
        if reply.status == 202:
            self.known_jobs.append(str(reply.fields.get("job_id", "")))
        return reply

    async def submit(self, **query: str) -> tuple[str, Reply]:
        """
        Submit a search by the copy as a job; return its id and the answer.

        Raises:
            FailedError: the service made no job of it.
        """
        reply = await self.post_search(self.copy, max_results="10", compute_diff="false", **query)
        if reply.status != 202 or not self.known_jobs[-1]:
            asked = ", ".join(query)
            raise FailedError(
                f"a search with {asked} was answered with {reply.said}, not as a job (202)",
                advice_for(reply.code),
            )
        return self.known_jobs[-1], reply

    async def completed(self, job_id: str) -> Job:
        """
        Wait until the job is completed.

        Raises:
            FailedError: it fails, is canceled, or is not final in time.
        """
        seconds = self.options.step_seconds * _SHARE_OF_WAITING
        job = await self.client.wait(job_id, timeout=seconds)
        if not job.status.final:
            why = f": {job.last_error}" if job.last_error else ""
            raise FailedError(f"job {job_id} is still {job.status} after {seconds:g} s{why}", _JOB_WAITS)
        self.final_jobs.add(job_id)
        if job.status is not JobStatus.COMPLETED or job.result is None:
            code = job.error_code or job.status.value.upper()
            raise FailedError(f"job {job_id} is {job.status}: {code}: {job.error}", advice_for(code))
        return job

    def look_for_drawing(self, result: SearchResult) -> str:
        """
        Return how the drawing is related to what was searched by.

        Raises:
            FailedError: it was not found.
        """
        for match in (*result.duplicates, *result.similar):
            if match.drawing_id == self.drawing_id:
                return f"found as {match.relation} ({match.similarity:.2f})"
        raise FailedError(
            f"the drawing that was added is not among {result.total_matches} matches",
            "see whether all services and workers use one vision server (DEDUPCAD_VISION_URL), or one"
            " DEDUP2D_DATA_DIR",
        )

    async def clean_up(self) -> list[str]:
        """Cancel what still runs and remove the drawing; return what could not be, and why."""
        left = []
        with anyio.move_on_after(_CLEAN_UP_SECONDS) as limit:
            for what, undo in self._leftovers():
                try:
                    await undo()
                except (DrawingNotFoundError, JobNotFoundError):
                    continue
                except Dedup2DError as error:
                    left.append(f"{what} ({error})")
        return [*left, "more, as time was up"] if limit.cancelled_caught else left

    def _leftovers(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        for job_id in [each for each in self.known_jobs if each and each not in self.final_jobs]:
            yield f"job {job_id}", partial(self.client.cancel, job_id)
        if self.drawing_id is not None:
            yield f"drawing {self.drawing_id}, {self.file_name}", partial(self.client.remove, self.drawing_id)


@asynccontextmanager
async def staged(options: SmokeOptions) -> AsyncIterator[Scene]:
    """
    Connect, and listen for the callback where that is asked for, until the block ends.

    Raises:
        InvalidParameterError: nobody can listen at `receive`.
    """
    seconds = options.step_seconds
    # Each request is made once: what is tried again until it works is no proof that it works.
    reached = ClientOptions(
        url=options.url, api_key=options.api_key, timeout_seconds=seconds, upload_seconds=seconds, attempts=1
    )
    async with AsyncExitStack() as stack:
        receiver = None
        if options.receive is not None:
            path = None if options.callback_url else f"/dedup2d-smoke/{token_hex(8)}"
            receiver = await stack.enter_async_context(receiving(options.receive, path))
        client = await stack.enter_async_context(Dedup2DClient(reached))
        plain = await stack.enter_async_context(Plain(options.url, seconds=seconds))
        yield Scene(options, client, plain, receiver)
