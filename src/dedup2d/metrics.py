"""
Prometheus metrics: base units, no label that a client can choose.

All begin with `dedup2d_`, but those of calls to a vision server with `dedupcad_vision_`, and those of the
process itself. docs/metrics.md says what each means and what to do when it moves.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version

from dedup2d.errors import MissingExtraError
from dedup2d.metrics_families import (
    METHODS,
    OTHER,
    CallbackFamilies,
    EngineFamilies,
    FileFamilies,
    GcFamilies,
    HttpFamilies,
    JobFamilies,
    Make,
    PrecisionFamilies,
    VisionServerFamilies,
    known,
)
from dedup2d.observe import Observer
from dedup2d.types import CallbackStatus, JobCounts, JobStatus, Timing

try:
    from prometheus_client import (
        CollectorRegistry,
        Metric,
        PlatformCollector,
        ProcessCollector,
        generate_latest,
    )
except ImportError as error:
    raise MissingExtraError("http", "exporting metrics") from error

__all__ = ["CONTENT_TYPE", "PrometheusMetrics", "VisionServerMetrics", "rendered"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_CIRCUIT_STATES = {"closed": 0, "half-opened": 1, "opened": 2}
_NO_ROUTE = "none"
_CLIENT_GONE = 499


class VisionServerMetrics(Observer):
    """
    What a vision server counts and times, in a registry of its own: requests, files, engine, process.

    Args:
        registry: where the metrics are made, if not in one of their own.
        process: whether the process tells of itself; not if several share their metrics.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, process: bool = True) -> None:
        self.registry = registry or CollectorRegistry()
        self._make = make = Make(self.registry)
        self._http = HttpFamilies(make)
        self._files = FileFamilies(make)
        self._engine = EngineFamilies(make)
        make.gauge(
            "dedup2d_build_info", "Version of dedup2d and of Python", ["version", "python"], over="max"
        ).labels(version("dedup2d"), platform.python_version()).set(1)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format 0.0.4."""
        return rendered(self.registry)

    def http_routes(self, routes: Iterable[tuple[str, str, int]], problems: Iterable[str]) -> None:
        """Let there be samples of these (method, template, status) and codes of problems from the start."""
        for method, route, status in routes:
            self._http.requests.labels(method, route, str(status))
            self._http.seconds.labels(method, route)
        for code in problems:
            self._http.problems.labels(code)

    def http_begun(self) -> None:
        """Count a request that is being answered."""
        self._http.in_progress.inc()

    def http_ended(
        self, method: str, route: str | None, status: int | None, seconds: float, problem: str | None = None
    ) -> None:
        """
        Count a request that was answered.

        Args:
            method: as the client gave it.
            route: the template that it matched, never its path; None if there is none.
            status: of the answer; None if the client left before.
            seconds: how long it took.
            problem: the code, if a problem was answered.
        """
        method = method if method in METHODS else "other"
        route = _NO_ROUTE if route is None else route
        self._http.in_progress.dec()
        self._http.requests.labels(method, route, str(status or _CLIENT_GONE)).inc()
        self._http.seconds.labels(method, route).observe(seconds)
        if problem is not None and status is not None:
            self._http.problems.labels(problem).inc()

    def file_store(self, backend: str, operations: Collection[str]) -> None:
        self._files.prepare(backend, operations)

    def file_operation(self, backend: str, operation: str, outcome: str, seconds: float, size: int) -> None:
        self._files.operations.labels(backend, operation, known(outcome)).inc()
        self._files.seconds.labels(backend, operation).observe(seconds)
        if size:
            self._files.bytes.labels(backend, operation).inc(size)

    def vision_operation(self, operation: str, outcome: str, seconds: float) -> None:
        self._engine.operations.labels(operation, known(outcome)).inc()
        self._engine.seconds.labels(operation).observe(seconds)

    def engine_searched(self, timing: Timing) -> None:
        stages = {
            "read": timing.read_ms,
            "l2": timing.l2_ms,
            "l3": timing.l3_ms,
            "l4": timing.l4_ms,
            "total": timing.total_ms,
        }
        for stage, milliseconds in stages.items():
            if milliseconds:
                self._engine.stages.labels(stage).observe(milliseconds / 1000)

    def index_counted(self, indexes: int, drawings: int) -> None:
        self._engine.indexes.set(indexes)
        self._engine.drawings.set(drawings)


class PrometheusMetrics(VisionServerMetrics):
    """What services and workers count and time: jobs, callbacks and calls to a vision server besides."""

    def __init__(self, registry: CollectorRegistry | None = None, *, process: bool = True) -> None:
        super().__init__(registry, process=process)
        self._jobs = JobFamilies(self._make)
        self._vision = VisionServerFamilies(self._make)
        self._callbacks = CallbackFamilies(self._make)
        self._gc = GcFamilies(self._make)
        self._precision = PrecisionFamilies(self._make)

    def job_submitted(self) -> None:
        self._jobs.submitted.inc()

    def job_refused(self) -> None:
        self._jobs.refused.inc()

    def job_finished(self, status: JobStatus, seconds: float, code: str | None = None) -> None:
        self._jobs.finished.labels(status).inc()
        self._jobs.duration.labels(status).observe(seconds)
        if status is JobStatus.FAILED:
            self._jobs.failures.labels(known(code or OTHER)).inc()

    def job_released(self) -> None:
        self._jobs.released.inc()

    def leases_lost(self, count: int) -> None:
        self._jobs.lost.inc(count)

    def cancel_requested(self) -> None:
        self._jobs.cancels.inc()

    def jobs_counted(self, counts: JobCounts, now: float) -> None:
        self._jobs.store_up.set(1)
        self._jobs.pending.set(counts.pending)
        self._jobs.active.set(counts.in_progress)
        self._jobs.oldest.set(max(0.0, now - counts.oldest_pending_at) if counts.oldest_pending_at else 0.0)

    def jobs_uncountable(self) -> None:
        self._jobs.store_up.set(0)

    def queue_measured(self, depth: int) -> None:
        self._jobs.depth.set(depth)

    def slots(self, count: int) -> None:
        self._jobs.slots.set(count)

    def precision_ran(self, counts: Mapping[str, int], seconds: float) -> None:
        for outcome, count in counts.items():
            self._precision.matches.labels(outcome).inc(count)
        self._precision.seconds.observe(seconds)

    def gc_ran(self, outcome: str, seconds: float) -> None:
        self._gc.runs.labels(known(outcome)).inc()
        self._gc.seconds.observe(seconds)
        if outcome == "ok":
            self._gc.success.set_to_current_time()

    def gc_deleted(self, kind: str, count: int) -> None:
        self._gc.deleted.labels(kind).inc(count)

    def vision_server(self, endpoint: str, *, spared: bool) -> None:
        self._vision.prepare(endpoint, spared=spared)

    def vision_called(self, endpoint: str, outcome: str, seconds: float) -> None:
        outcome = known(outcome)
        self._vision.requests.labels(endpoint, outcome).inc()
        if outcome not in ("ok", "CANCELED"):
            self._vision.errors.labels(endpoint, outcome).inc()
        self._vision.seconds.labels(endpoint).observe(seconds)

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


def rendered(registry: CollectorRegistry) -> bytes:
    """Return what is in *registry* in Prometheus' text format 0.0.4."""
    return generate_latest(_WithoutBirthdays(registry))


class _WithoutBirthdays:
    """A registry without the times at which each counter was made, which would double its samples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric
