"""
What the service tells an observer, without needing any metrics package.

`dedup2d.metrics.PrometheusMetrics` turns it into Prometheus metrics.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from dedup2d.errors import Dedup2DError
from dedup2d.types import CallbackStatus, JobCounts, JobStatus, Timing

__all__ = ["CANCELED", "Observer", "outcome_of"]


class Observer:
    """
    Hears what happens; this one ignores it. Its methods return at once and never raise.

    An outcome is `ok` or the code of the error, `CANCELED` if the caller gave up before.
    """

    def job_submitted(self) -> None:
        """Hear that a job was admitted."""

    def job_refused(self) -> None:
        """Hear that a job was refused because all places were taken."""

    def job_finished(self, status: JobStatus, seconds: float, code: str | None = None) -> None:
        """Hear that a job became final, so long after it was submitted, and by what error it failed."""

    def job_released(self) -> None:
        """Hear that a job was given back to be run later."""

    def leases_lost(self, count: int) -> None:
        """Hear that workers vanished, or lost their jobs to others."""

    def cancel_requested(self) -> None:
        """Hear that a cancel was asked for."""

    def jobs_counted(self, counts: JobCounts, now: float) -> None:
        """Hear how many jobs wait and run."""

    def jobs_uncountable(self) -> None:
        """Hear that the job store did not answer when it was looked at."""

    def queue_measured(self, depth: int) -> None:
        """Hear about how many wake-ups wait."""

    def slots(self, count: int) -> None:
        """Hear how many jobs this process can run at once; 0 if others run them."""

    def gc_ran(self, outcome: str, seconds: float) -> None:
        """Hear that what nobody needs was looked for and deleted, and how that went."""

    def gc_deleted(self, kind: str, count: int) -> None:
        """Hear that so many of a kind (`file`, `half_upload`, `job`) were deleted."""

    def file_store(self, backend: str, operations: Collection[str]) -> None:
        """Hear which file store will be used (`local`, `memory`, `s3`), and for what."""

    def file_operation(self, backend: str, operation: str, outcome: str, seconds: float, size: int) -> None:
        """Hear that a file store was called; *size* bytes were put or taken."""

    def vision_operation(self, operation: str, outcome: str, seconds: float) -> None:
        """Hear that the vision engine was called, whichever it is."""

    def engine_searched(self, timing: Timing) -> None:
        """Hear how long the stages of a search by the embedded engine took; 0 for one that was left out."""

    def precision_ran(self, counts: Mapping[str, int], seconds: float) -> None:
        """Hear what became of matches that were to be compared by geometry, and how long that took."""

    def index_counted(self, indexes: int, drawings: int) -> None:
        """Hear how much is in the indexes of the embedded engine, over all tenants."""

    def vision_server(self, endpoint: str, *, spared: bool) -> None:
        """Hear that a vision server will be asked, by an endpoint with a circuit if it is *spared*."""

    def vision_called(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Hear that a vision server was asked once; a retry is a call of its own."""

    def vision_retried(self, endpoint: str) -> None:
        """Hear that a vision server is going to be asked again."""

    def vision_circuit(self, endpoint: str, state: str) -> None:
        """Hear that a circuit became `closed`, `half-opened` or `opened`."""

    def callback_tried(self, outcome: str, seconds: float) -> None:
        """Hear that a callback was tried once, and how it went (`dedup2d.callbacks.attempts.Outcome`)."""

    def callback_blocked(self, reason: str) -> None:
        """Hear that a callback URL or address was refused (`dedup2d.callbacks.guard.Refusal`)."""

    def callback_retried(self) -> None:
        """Hear that a callback is going to be tried again."""

    def callback_finished(self, status: CallbackStatus, seconds: float) -> None:
        """Hear that a callback has ended, so long after its job."""

    @contextmanager
    def timed_vision(self, operation: str) -> Iterator[None]:
        """Tell `vision_operation` how the block went."""
        begin, outcome = time.perf_counter(), CANCELED
        try:
            yield
            outcome = "ok"
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            self.vision_operation(operation, outcome, time.perf_counter() - begin)


CANCELED = "CANCELED"


def outcome_of(error: Exception) -> str:
    """Return what an observer is told of a call that raised *error*."""
    return error.code if isinstance(error, Dedup2DError) else Dedup2DError.code
