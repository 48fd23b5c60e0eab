"""
Prometheus metrics: base units, no label that a client can choose.

All begin with `dedup2d_`, but those of calls to a vision server with `dedupcad_vision_`.
"""

from __future__ import annotations

import platform
from importlib.metadata import version

from dedup2d.errors import MissingExtraError
from dedup2d.observe import Observer
from dedup2d.types import CallbackStatus, JobCounts, JobStatus

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise MissingExtraError("http", "exporting metrics") from error

__all__ = ["PrometheusMetrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_CIRCUIT_STATES = {"closed": 0, "half-opened": 1, "opened": 2}
_CALLBACK_SECONDS = (0.1, 0.5, 1, 5, 10, 60, 600, 3600, 7200, 21_600, 43_200, 86_400, 172_800)
_JOB_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class PrometheusMetrics(Observer):
    """Counts and times what it hears, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self._submitted = Counter("dedup2d_jobs_submitted", "Jobs admitted", registry=registry)
        self._refused = Counter(
            "dedup2d_jobs_queue_full", "Jobs refused because all places were taken", registry=registry
        )
        self._finished = Counter(
            "dedup2d_jobs_finished", "Jobs that became final, by status", ["status"], registry=registry
        )
        self._duration = Histogram(
            "dedup2d_job_duration_seconds",
            "Time from submission to the final state, by status",
            ["status"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self._released = Counter(
            "dedup2d_jobs_released", "Jobs given back to be run later", registry=registry
        )
        self._lost = Counter("dedup2d_job_leases_lost", "Leases that ran out", registry=registry)
        self._cancels = Counter("dedup2d_job_cancels_requested", "Cancels asked for", registry=registry)
        self._pending = Gauge("dedup2d_jobs_pending", "Jobs that wait", registry=registry)
        self._active = Gauge("dedup2d_jobs_active", "Jobs that run", registry=registry)
        self._oldest = Gauge(
            "dedup2d_jobs_oldest_pending_seconds",
            "How long the oldest waiting job has waited",
            registry=registry,
        )
        self._collected = Counter(
            "dedup2d_gc_files_deleted", "Files without a job that were deleted", registry=registry
        )
        self._operations = Counter(
            "dedup2d_operations",
            "Calls of a part (vision, files), by operation and outcome",
            ["part", "operation", "outcome"],
            registry=registry,
        )
        self._operation_seconds = Histogram(
            "dedup2d_operation_duration_seconds",
            "Duration of calls of a part (vision, files), by operation",
            ["part", "operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._vision = VisionMetrics(registry)
        self._callbacks = CallbackMetrics(registry)
        build = Gauge(
            "dedup2d_build_info", "Version of dedup2d and of Python", ["version", "python"], registry=registry
        )
        build.labels(version("dedup2d"), platform.python_version()).set(1)
        for status in JobStatus:
            if status.final:
                self._finished.labels(status)
                self._duration.labels(status)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def job_submitted(self) -> None:
        self._submitted.inc()

    def job_refused(self) -> None:
        self._refused.inc()

    def job_finished(self, status: JobStatus, seconds: float) -> None:
        self._finished.labels(status).inc()
        self._duration.labels(status).observe(seconds)

    def job_released(self) -> None:
        self._released.inc()

    def leases_lost(self, count: int) -> None:
        self._lost.inc(count)

    def cancel_requested(self) -> None:
        self._cancels.inc()

    def jobs_counted(self, counts: JobCounts, now: float) -> None:
        self._pending.set(counts.pending)
        self._active.set(counts.in_progress)
        self._oldest.set(max(0.0, now - counts.oldest_pending_at) if counts.oldest_pending_at else 0.0)

    def files_collected(self, count: int) -> None:
        self._collected.inc(count)

    def operation(self, part: str, operation: str, outcome: str, seconds: float) -> None:
        self._operations.labels(part, operation, outcome).inc()
        self._operation_seconds.labels(part, operation).observe(seconds)

    def vision_called(self, endpoint: str, outcome: str, seconds: float) -> None:
        self._vision.called(endpoint, outcome, seconds)

    def vision_retried(self, endpoint: str) -> None:
        self._vision.retries.labels(endpoint).inc()

    def vision_circuit(self, endpoint: str, state: str) -> None:
        self._vision.circuit.labels(endpoint).set(_CIRCUIT_STATES[state])

    def callback_tried(self, outcome: str, seconds: float) -> None:
        self._callbacks.attempts.labels(outcome).inc()
        self._callbacks.seconds.observe(seconds)

    def callback_blocked(self, reason: str) -> None:
        self._callbacks.blocked.labels(reason).inc()

    def callback_retried(self) -> None:
        self._callbacks.retries.inc()

    def callback_finished(self, status: CallbackStatus, seconds: float) -> None:
        self._callbacks.finished.labels(status).inc()
        self._callbacks.delays.labels(status).observe(seconds)


class CallbackMetrics:
    """What is counted and timed of callbacks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "dedup2d_callback_attempts",
            "Attempts to send a callback, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "dedup2d_callback_attempt_duration_seconds",
            "Duration of attempts to send a callback",
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "dedup2d_callback_retries", "Callbacks that are to be tried again", registry=registry
        )
        self.blocked = Counter(
            "dedup2d_callbacks_blocked",
            "Callback URLs and addresses that were refused, by reason",
            ["reason"],
            registry=registry,
        )
        self.finished = Counter(
            "dedup2d_callbacks_finished",
            "Callbacks that have ended, by status",
            ["status"],
            registry=registry,
        )
        self.delays = Histogram(
            "dedup2d_callback_duration_seconds",
            "Time from the end of the job to that of its callback, by status",
            ["status"],
            buckets=_CALLBACK_SECONDS,
            registry=registry,
        )
        for status in CallbackStatus:
            if status is not CallbackStatus.PENDING:
                self.finished.labels(status)


class VisionMetrics:
    """What is counted and timed of the calls to a vision server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "dedupcad_vision_requests",
            "Requests to the vision server, by endpoint and outcome (ok, or the code of the error)",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self.errors = Counter(
            "dedupcad_vision_errors",
            "Requests to the vision server that failed, by endpoint and code",
            ["endpoint", "code"],
            registry=registry,
        )
        self.seconds = Histogram(
            "dedupcad_vision_request_duration_seconds",
            "Duration of requests to the vision server, by endpoint",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "dedupcad_vision_retries",
            "Requests to the vision server that were tried again, by endpoint",
            ["endpoint"],
            registry=registry,
        )
        self.circuit = Gauge(
            "dedupcad_vision_circuit_state",
            "Circuit to the vision server: 0 closed, 1 half open, 2 open",
            ["endpoint"],
            registry=registry,
        )

    def called(self, endpoint: str, outcome: str, seconds: float) -> None:
        self.requests.labels(endpoint, outcome).inc()
        if outcome not in ("ok", "CANCELED"):
            self.errors.labels(endpoint, outcome).inc()
        self.seconds.labels(endpoint).observe(seconds)
