"""
The families of metrics, by what they tell of; docs/metrics.md says what each means.

Labels have few values, none of which a client can choose. Those known beforehand are there from the start,
at zero: a rate needs a first sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from attrs import frozen

from dedup2d.callbacks.attempts import Outcome
from dedup2d.callbacks.guard_addresses import Refusal
from dedup2d.errors import Dedup2DError, MissingExtraError
from dedup2d.types import CallbackStatus, JobStatus

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
except ImportError as error:
    raise MissingExtraError("http", "exporting metrics") from error

__all__ = [
    "METHODS",
    "OTHER",
    "CallbackFamilies",
    "EngineFamilies",
    "FileFamilies",
    "GcFamilies",
    "HttpFamilies",
    "JobFamilies",
    "Make",
    "VisionServerFamilies",
    "known",
]


def _codes(kind: type[Dedup2DError]) -> set[str]:
    # Kinds of other modules are not ours to know: `known` counts them as others.
    own = {kind.code} if kind.__module__ == Dedup2DError.__module__ else set[str]()
    return own.union(*map(_codes, kind.__subclasses__()))


CODES = frozenset(_codes(Dedup2DError))
"""The codes of all errors of the library."""
_OUTCOMES = CODES | {"ok", "CANCELED"}
OTHER = "OTHER"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
"""What `method` may be; else `other`."""
VISION_OPERATIONS = ("add", "compare", "rebuild", "remove", "search")
STAGES = ("read", "l2", "l3", "l4", "total")
KINDS = ("file", "geometry", "half_upload", "job")

_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CALLBACK_SECONDS = (0.1, 0.5, 1, 5, 10, 60, 600, 3600, 7200, 21_600, 43_200, 86_400, 172_800)
_JOB_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_GC_SECONDS = (0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800)


def known(outcome: str) -> str:
    """Return *outcome* if it is one of those that the library knows, else `OTHER`: a label has few values."""
    return outcome if outcome in _OUTCOMES else OTHER


@frozen
class Make:
    """Makes families in one registry."""

    registry: CollectorRegistry

    def counter(self, name: str, says: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, says, labels, registry=self.registry)

    def gauge(
        self,
        name: str,
        says: str,
        labels: Sequence[str] = (),
        *,
        over: Literal["livesum", "mostrecent", "max"] = "mostrecent",
    ) -> Gauge:
        """*over* says what becomes of the values of processes that share their metrics."""
        return Gauge(name, says, labels, multiprocess_mode=over, registry=self.registry)

    def histogram(
        self, name: str, says: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        return Histogram(name, says, labels, buckets=buckets, registry=self.registry)


class JobFamilies:
    """Jobs, and the queue that wakes those who run them."""

    def __init__(self, make: Make) -> None:
        self.submitted = make.counter("dedup2d_jobs_submitted_total", "Jobs admitted")
        self.refused = make.counter(
            "dedup2d_jobs_queue_full_total", "Jobs refused because all places were taken"
        )
        self.finished = make.counter(
            "dedup2d_jobs_finished_total", "Jobs that became final, by status", ["status"]
        )
        self.failures = make.counter(
            "dedup2d_job_failures_total", "Jobs that failed, by the code of the error", ["code"]
        )
        self.duration = make.histogram(
            "dedup2d_job_duration_seconds",
            "Time from submission to the final state, by status",
            ["status"],
            buckets=_JOB_SECONDS,
        )
        self.released = make.counter("dedup2d_jobs_released_total", "Jobs given back to be run later")
        self.lost = make.counter("dedup2d_job_leases_lost_total", "Leases that ran out")
        self.cancels = make.counter("dedup2d_job_cancels_requested_total", "Cancels asked for")
        self.pending = make.gauge("dedup2d_jobs_pending", "Jobs that wait")
        self.active = make.gauge("dedup2d_jobs_active", "Jobs that run")
        self.oldest = make.gauge(
            "dedup2d_jobs_oldest_pending_seconds", "How long the oldest waiting job has waited"
        )
        self.depth = make.gauge("dedup2d_queue_depth", "Wake-ups that wait for a worker")
        self.slots = make.gauge(
            "dedup2d_worker_slots",
            "Jobs that this process can run at once; 0 where jobs run elsewhere",
            over="livesum",
        )
        self.store_up = make.gauge(
            "dedup2d_job_store_up", "Whether the job store answered when it was last looked at (1) or not (0)"
        )
        for status in JobStatus:
            if status.final:
                self.finished.labels(status)
                self.duration.labels(status)
        for code in sorted(CODES):
            self.failures.labels(code)


class FileFamilies:
    """The file store, as seen by those who call it."""

    def __init__(self, make: Make) -> None:
        self.operations = make.counter(
            "dedup2d_file_operations_total",
            "Calls of the file store, by operation and outcome (ok, or the code of the error)",
            ["backend", "operation", "outcome"],
        )
        self.seconds = make.histogram(
            "dedup2d_file_operation_duration_seconds",
            "Duration of calls of the file store, without the time it waited for its caller",
            ["backend", "operation"],
            buckets=_CALL_SECONDS,
        )
        self.bytes = make.counter(
            "dedup2d_file_bytes_total",
            "Bytes given to the file store (put) and taken from it (open)",
            ["backend", "operation"],
        )

    def prepare(self, backend: str, operations: Iterable[str]) -> None:
        """Let there be samples of *operations* from the start."""
        for operation in operations:
            for outcome in ("ok", "STORE_UNAVAILABLE"):
                self.operations.labels(backend, operation, outcome)
            self.seconds.labels(backend, operation)
            if operation in ("put", "open"):
                self.bytes.labels(backend, operation)


class EngineFamilies:
    """What the vision engine was asked, whichever answers, and what the embedded one tells of itself."""

    def __init__(self, make: Make) -> None:
        self.operations = make.counter(
            "dedup2d_vision_operations_total",
            "Calls of the vision engine, by operation and outcome (ok, or the code of the error)",
            ["operation", "outcome"],
        )
        self.seconds = make.histogram(
            "dedup2d_vision_operation_duration_seconds",
            "Duration of calls of the vision engine, by operation",
            ["operation"],
            buckets=_CALL_SECONDS,
        )
        self.stages = make.histogram(
            "dedup2d_engine_stage_duration_seconds",
            "Duration of the stages of a search by the embedded engine",
            ["stage"],
            buckets=_CALL_SECONDS,
        )
        self.drawings = make.gauge(
            "dedup2d_engine_index_drawings", "Drawings in the indexes of the embedded engine"
        )
        self.indexes = make.gauge("dedup2d_engine_indexes", "Indexes of the embedded engine, one a tenant")
        for operation in VISION_OPERATIONS:
            self.operations.labels(operation, "ok")
            self.seconds.labels(operation)
        for stage in STAGES:
            self.stages.labels(stage)


class GcFamilies:
    """What is deleted because nobody needs it any more."""

    def __init__(self, make: Make) -> None:
        self.runs = make.counter(
            "dedup2d_gc_runs_total", "Collections of what nobody needs, by outcome", ["outcome"]
        )
        self.success = make.gauge(
            "dedup2d_gc_last_success_timestamp_seconds",
            "Unix time at which a collection last ended well; 0 before the first",
            over="max",
        )
        self.seconds = make.histogram(
            "dedup2d_gc_duration_seconds", "Duration of collections", buckets=_GC_SECONDS
        )
        self.deleted = make.counter("dedup2d_gc_deleted_total", "What collections deleted, by kind", ["kind"])
        for outcome in ("ok", "STORE_UNAVAILABLE"):
            self.runs.labels(outcome)
        for kind in KINDS:
            self.deleted.labels(kind)


class HttpFamilies:
    """Requests that came in."""

    def __init__(self, make: Make) -> None:
        self.requests = make.counter(
            "dedup2d_http_requests_total",
            "Requests answered, by method, template of the route and status (499: the client left before)",
            ["method", "route", "status"],
        )
        self.seconds = make.histogram(
            "dedup2d_http_request_duration_seconds",
            "Time from a request's first to its answer's last byte, by method and template of the route",
            ["method", "route"],
            buckets=_REQUEST_SECONDS,
        )
        self.in_progress = make.gauge(
            "dedup2d_http_requests_in_progress", "Requests that are being answered", over="livesum"
        )
        self.problems = make.counter(
            "dedup2d_http_problems_total", "Requests answered with a problem, by its code", ["code"]
        )


class CallbackFamilies:
    """Callbacks of jobs."""

    def __init__(self, make: Make) -> None:
        self.attempts = make.counter(
            "dedup2d_callback_attempts_total", "Attempts to send a callback, by outcome", ["outcome"]
        )
        self.seconds = make.histogram(
            "dedup2d_callback_attempt_duration_seconds",
            "Duration of attempts to send a callback",
            buckets=_CALL_SECONDS,
        )
        self.retries = make.counter("dedup2d_callback_retries_total", "Callbacks that are to be tried again")
        self.blocked = make.counter(
            "dedup2d_callbacks_blocked_total",
            "Callback URLs and addresses that were refused, by reason",
            ["reason"],
        )
        self.finished = make.counter(
            "dedup2d_callbacks_finished_total", "Callbacks that have ended, by status", ["status"]
        )
        self.delays = make.histogram(
            "dedup2d_callback_duration_seconds",
            "Time from the end of the job to that of its callback, by status",
            ["status"],
            buckets=_CALLBACK_SECONDS,
        )
        for outcome in Outcome:
            self.attempts.labels(outcome)
        for reason in Refusal:
            self.blocked.labels(reason)
        for status in CallbackStatus:
            if status is not CallbackStatus.PENDING:
                self.finished.labels(status)
                self.delays.labels(status)


class VisionServerFamilies:
    """Calls to a vision server, each try by itself."""

    def __init__(self, make: Make) -> None:
        self.requests = make.counter(
            "dedupcad_vision_requests_total",
            "Requests to the vision server, by endpoint and outcome (ok, or the code of the error)",
            ["endpoint", "outcome"],
        )
        self.errors = make.counter(
            "dedupcad_vision_errors_total",
            "Requests to the vision server that failed, by endpoint and code",
            ["endpoint", "code"],
        )
        self.seconds = make.histogram(
            "dedupcad_vision_request_duration_seconds",
            "Duration of requests to the vision server, by endpoint",
            ["endpoint"],
            buckets=_CALL_SECONDS,
        )
        self.retries = make.counter(
            "dedupcad_vision_retries_total",
            "Requests to the vision server that were tried again, by endpoint",
            ["endpoint"],
        )
        self.circuit = make.gauge(
            "dedupcad_vision_circuit_state",
            "Circuit to the vision server: 0 closed, 1 half open, 2 open",
            ["endpoint"],
            over="max",
        )

    def prepare(self, endpoint: str, *, spared: bool) -> None:
        """Let there be samples of *endpoint* from the start, of a circuit too if it is *spared*."""
        self.requests.labels(endpoint, "ok")
        for code in ("VISION_UNAVAILABLE", "VISION_CIRCUIT_OPEN", "VISION_BAD_RESPONSE"):
            self.requests.labels(endpoint, code)
            self.errors.labels(endpoint, code)
        self.seconds.labels(endpoint)
        self.retries.labels(endpoint)
        if spared:
            self.circuit.labels(endpoint)
