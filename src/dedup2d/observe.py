"""
What the service tells an observer, without needing any metrics package.

`dedup2d.metrics.PrometheusMetrics` turns it into Prometheus metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dedup2d.errors import Dedup2DError
from dedup2d.types import CallbackStatus, JobCounts, JobStatus

__all__ = ["Observer"]


class Observer:
    """
    Hears what happens; this one ignores it. Its methods return at once and never raise.

    Operations are named by *part* (`vision`, `files`) and *operation*; an outcome is `ok`
    or the code of the error.
    """

    def job_submitted(self) -> None:
        """Hear that a job was admitted."""

    def job_refused(self) -> None:
        """Hear that a job was refused because all places were taken."""

    def job_finished(self, status: JobStatus, seconds: float) -> None:
        """Hear that a job became final, so long after it was submitted."""

    def job_released(self) -> None:
        """Hear that a job was given back to be run later."""

    def leases_lost(self, count: int) -> None:
        """Hear that workers vanished, or lost their jobs to others."""

    def cancel_requested(self) -> None:
        """Hear that a cancel was asked for."""

    def jobs_counted(self, counts: JobCounts, now: float) -> None:
        """Hear how many jobs wait and run."""

    def files_collected(self, count: int) -> None:
        """Hear that files without a job were deleted."""

    def operation(self, part: str, operation: str, outcome: str, seconds: float) -> None:
        """Hear that a part was called and how it went."""

    def vision_called(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Hear that a vision server was asked once; a retry is a call of its own."""

    def vision_retried(self, endpoint: str) -> None:
        """Hear that a vision server is going to be asked again."""

    def vision_circuit(self, endpoint: str, state: str) -> None:
        """Hear that a circuit became `closed`, `half-opened` or `opened`."""

    def callback_tried(self, outcome: str, seconds: float) -> None:
        """Hear that a callback was tried once, and how it went (`dedup2d.callbacks.sending.Outcome`)."""

    def callback_blocked(self, reason: str) -> None:
        """Hear that a callback URL or address was refused (`dedup2d.callbacks.guard.Refusal`)."""

    def callback_retried(self) -> None:
        """Hear that a callback is going to be tried again."""

    def callback_finished(self, status: CallbackStatus, seconds: float) -> None:
        """Hear that a callback has ended, so long after its job."""

    @contextmanager
    def timed(self, part: str, operation: str) -> Iterator[None]:
        """Tell `operation` how the block went."""
        begin = time.perf_counter()
        outcome = "CANCELED"
        try:
            yield
            outcome = "ok"
        except Dedup2DError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = "INTERNAL"
            raise
        finally:
            self.operation(part, operation, outcome, time.perf_counter() - begin)
