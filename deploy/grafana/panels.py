"""
What the dashboard shows, row by row.

Lines that begin with `dedup2d:` come from the recording rules and tell of the whole deployment; all others
follow the variable *Process*.
"""

from __future__ import annotations

from attrs import field, frozen

__all__ = ["ROWS", "Graph", "Panel", "Query", "Stat"]


@frozen
class Query:
    """A line, or several told apart by *legend*."""

    expr: str
    legend: str


@frozen(kw_only=True)
class Panel:
    """One picture; *says* is what an operator reads beside it."""

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8


@frozen(kw_only=True)
class Graph(Panel):
    """Lines over time."""


@frozen(kw_only=True)
class Stat(Panel):
    """The newest value, red on the wrong side of *threshold*."""

    threshold: float
    more_is_better: bool = False
    width: int = field(default=4)


_CALLERS = 'job=~"dedup2d-(api|worker)"'


def _where(matchers: str) -> str:
    return "{" + ",".join(filter(None, ('instance=~"$instance"', matchers))) + "}"


def rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{_where(matchers)}[$__rate_interval]))"


def total(metric: str, matchers: str = "") -> str:
    return f"sum(rate({metric}{_where(matchers)}[$__rate_interval]))"


def largest(metric: str, by: str, matchers: str = "") -> str:
    return f"max by ({by}) ({metric}{_where(matchers)})"


def lines(metric: str, by: str, matchers: str = "") -> tuple[Query, ...]:
    """Return the rate of a counter, one line for each value of the labels *by*."""
    return (
        Query(rate(metric, by, matchers), " ".join("{{" + name.strip() + "}}" for name in by.split(","))),
    )


def spread(metric: str, by: str = "", matchers: str = "") -> tuple[Query, ...]:
    """Return the median and the 95th percentile of a histogram."""
    labels = ", ".join(filter(None, ("le", by)))
    name = "{{" + by + "}} " if by else ""
    buckets = rate(f"{metric}_bucket", labels, matchers)
    return tuple(
        Query(f"histogram_quantile({part}, {buckets})", f"{name}p{part * 100:g}") for part in (0.5, 0.95)
    )


TRAFFIC = (
    Stat(
        title="Error budget left",
        says="Share of the budget of 30 days that is left: 0.5 % of requests may be 5xx, 1 % of jobs may fail"
        " for a reason of the service. Below 0 it is overdrawn.",
        unit="percentunit",
        queries=(Query("dedup2d:error_budget_left:ratio_30d", "{{objective}}"),),
        threshold=0.25,
        more_is_better=True,
    ),
    Stat(
        title="Alerts",
        says="Alerts that fire now. Each has a section in docs/operations.md.",
        unit="short",
        queries=(Query('count(ALERTS{alertname=~"Dedup2D.*",alertstate="firing"}) or vector(0)', "firing"),),
        threshold=1,
    ),
    Graph(
        title="Requests by status",
        says="Requests that services answered. 499: the client left before; 429: it was told to come again.",
        unit="reqps",
        queries=lines("dedup2d_http_requests_total", "status", 'job="dedup2d-api"'),
    ),
    Graph(
        title="Share of 5xx",
        says="Of all requests but probes and /metrics, with the burn of the error budget behind it.",
        unit="percentunit",
        queries=(
            Query("dedup2d:http_errors:ratio_rate5m", "5 minutes"),
            Query('dedup2d:errors:ratio_rate1h{objective="requests"}', "1 hour"),
        ),
    ),
    Graph(
        title="Requests by route",
        says="By the template of the route; none: no route has the path.",
        unit="reqps",
        queries=lines("dedup2d_http_requests_total", "method, route", 'job="dedup2d-api"'),
    ),
    Graph(
        title="Duration of requests",
        says="95th percentile from the first byte in to the last byte out."
        " Waiting polls and events take as long as they wait.",
        unit="s",
        queries=(Query("dedup2d:http_request_duration_seconds:p95_rate5m", "{{route}}"),),
    ),
    Graph(
        title="Problems by code",
        says="Answers that are problems. What each code means is in docs/http-api.md.",
        unit="reqps",
        queries=lines("dedup2d_http_problems_total", "code", 'job="dedup2d-api"'),
    ),
    Graph(
        title="Requests in progress",
        says="Requests that are being answered, uploads and long polls included.",
        unit="short",
        queries=(
            Query(largest("dedup2d_http_requests_in_progress", "job, instance"), "{{job}} {{instance}}"),
        ),
    ),
)

JOBS = (
    Graph(
        title="Jobs submitted and final",
        says="While more are submitted than become final, the queue grows.",
        unit="ops",
        queries=(
            Query("dedup2d:jobs_submitted:rate5m", "submitted"),
            Query("dedup2d:jobs_finished:rate5m", "{{status}}"),
        ),
    ),
    Graph(
        title="Success and failure",
        says="Of the jobs that completed or failed in 15 minutes."
        " Failures of the service leave out drawings that cannot be read.",
        unit="percentunit",
        queries=(
            Query("dedup2d:jobs_success:ratio_rate15m", "completed"),
            Query("dedup2d:jobs_failure:ratio_rate15m", "failed"),
            Query("dedup2d:jobs_service_failure:ratio_rate15m", "failed for a reason of the service"),
        ),
    ),
    Graph(
        title="Failures by code",
        says="Why jobs failed; `dedup2d jobs dead` lists them.",
        unit="ops",
        queries=lines("dedup2d_job_failures_total", "code"),
    ),
    Graph(
        title="Duration of jobs",
        says="From submission to the final state, waiting included, by status.",
        unit="s",
        queries=(
            *spread("dedup2d_job_duration_seconds", "status"),
            Query("dedup2d:job_duration_seconds:p95_rate15m", "completed p95, 15 minutes"),
        ),
    ),
    Graph(
        title="Refused, given back, canceled",
        says="Refused: all places were taken."
        " Given back: a part was down or the worker stopped; the job runs later.",
        unit="ops",
        queries=(
            Query(total("dedup2d_jobs_queue_full_total"), "refused"),
            Query(total("dedup2d_jobs_released_total"), "given back"),
            Query(total("dedup2d_job_cancels_requested_total"), "cancels asked for"),
        ),
    ),
    Graph(
        title="Leases lost",
        says="Each is a worker that was killed, hung or lost the job store in mid-job.",
        unit="ops",
        queries=(Query(total("dedup2d_job_leases_lost_total"), "leases lost"),),
    ),
)

QUEUE = (
    Graph(
        title="Jobs that wait and run",
        says="With the jobs that all processes together can run at once.",
        unit="short",
        queries=(
            Query("dedup2d:jobs_pending:max", "wait"),
            Query("dedup2d:jobs_active:max", "run"),
            Query("dedup2d:worker_slots:sum", "slots"),
        ),
    ),
    Graph(
        title="Age of the oldest waiting job",
        says="Grows by a second a second if nobody takes it: no worker for its queue, or a part is down.",
        unit="s",
        queries=(Query("dedup2d:jobs_oldest_pending_seconds:max", "oldest"),),
    ),
    Graph(
        title="Time to work off what waits",
        says="At the rate at which jobs become final now; no line while none does.",
        unit="s",
        queries=(Query("dedup2d:jobs_backlog_seconds:max", "to work off"),),
    ),
    Graph(
        title="Wake-ups that wait",
        says="Messages for workers. Few even with many jobs, as one wake-up stands for all;"
        " growing without end: no worker listens.",
        unit="short",
        queries=(Query(largest("dedup2d_queue_depth", "job", _CALLERS), "{{job}}"),),
    ),
    Graph(
        title="Job store",
        says="1: it answered when the process last looked. 0: nothing can be submitted, polled or run there.",
        unit="short",
        queries=(
            Query(f"min by (job, instance) (dedup2d_job_store_up{_where(_CALLERS)})", "{{job}} {{instance}}"),
        ),
    ),
)

VISION = (
    Graph(
        title="Calls of the engine",
        says="By what was asked and how it went, as services and workers see it.",
        unit="ops",
        queries=lines("dedup2d_vision_operations_total", "operation, outcome", _CALLERS),
    ),
    Graph(
        title="Share of failed calls",
        says="Failures of the engine, an open circuit included; drawings that cannot be read are none.",
        unit="percentunit",
        queries=(Query("dedup2d:vision_errors:ratio_rate5m", "failed"),),
    ),
    Graph(
        title="Duration of calls",
        says="95th percentile by operation, retries and waiting included.",
        unit="s",
        queries=(Query("dedup2d:vision_operation_duration_seconds:p95_rate5m", "{{operation}}"),),
    ),
    Graph(
        title="Circuit to the vision server",
        says="0 closed, 1 half open, 2 open: it failed so often in a row that it is not asked for a while.",
        unit="short",
        queries=(
            Query(
                largest("dedupcad_vision_circuit_state", "endpoint, instance"), "{{endpoint}} {{instance}}"
            ),
        ),
    ),
    Graph(
        title="Requests to the vision server",
        says="Each try by itself, by endpoint and outcome.",
        unit="reqps",
        queries=lines("dedupcad_vision_requests_total", "endpoint, outcome"),
    ),
    Graph(
        title="Errors and retries",
        says="Requests to the vision server that failed, by code, and those that were tried again.",
        unit="reqps",
        queries=(
            Query(rate("dedupcad_vision_errors_total", "endpoint, code"), "{{endpoint}} {{code}}"),
            Query(rate("dedupcad_vision_retries_total", "endpoint"), "{{endpoint}} tried again"),
        ),
    ),
    Graph(
        title="Duration of requests to the vision server",
        says="Each try by itself, by endpoint.",
        unit="s",
        queries=spread("dedupcad_vision_request_duration_seconds", "endpoint"),
    ),
)

FILES = (
    Graph(
        title="Calls of the file store",
        says="By operation and outcome.",
        unit="ops",
        queries=lines("dedup2d_file_operations_total", "backend, operation, outcome"),
    ),
    Graph(
        title="Share of failed calls of the file store",
        says="Failures of the store itself; files that are too large are none.",
        unit="percentunit",
        queries=(Query("dedup2d:file_errors:ratio_rate5m", "{{backend}}"),),
    ),
    Graph(
        title="Duration of calls of the file store",
        says="By operation, without the time that the store waited for its caller.",
        unit="s",
        queries=spread("dedup2d_file_operation_duration_seconds", "operation"),
    ),
    Graph(
        title="Bytes",
        says="Given to the store and taken from it.",
        unit="Bps",
        queries=lines("dedup2d_file_bytes_total", "backend, operation"),
    ),
    Graph(
        title="Collections",
        says="Runs by outcome, and how long they take.",
        unit="short",
        queries=(
            Query(rate("dedup2d_gc_runs_total", "outcome"), "{{outcome}} a second"),
            *(Query(each.expr, f"seconds {each.legend}") for each in spread("dedup2d_gc_duration_seconds")),
        ),
    ),
    Graph(
        title="Collected",
        says="Files without a job, half uploads and expired jobs that were deleted.",
        unit="ops",
        queries=lines("dedup2d_gc_deleted_total", "kind"),
    ),
    Stat(
        title="Last collection",
        says="Time since any process last collected; more than an hour: nobody does.",
        unit="s",
        queries=(Query("dedup2d:gc_age_seconds:min", "ago"),),
        threshold=3600,
    ),
)

CALLBACKS = (
    Graph(
        title="Attempts to send callbacks",
        says="By outcome: success, an answer that is none, a time-out,"
        " TLS, DNS, a refused connection, blocked by the guard.",
        unit="ops",
        queries=lines("dedup2d_callback_attempts_total", "outcome"),
    ),
    Graph(
        title="Share of failed attempts",
        says="Of those that the guard let through, in 15 minutes.",
        unit="percentunit",
        queries=(Query("dedup2d:callback_failures:ratio_rate15m", "failed"),),
    ),
    Graph(
        title="Duration of attempts",
        says="How long receivers take to answer.",
        unit="s",
        queries=spread("dedup2d_callback_attempt_duration_seconds"),
    ),
    Graph(
        title="Callbacks ended, and tried again",
        says="failed: given up after the last attempt; skipped: its URL is not allowed any more.",
        unit="ops",
        queries=(
            *lines("dedup2d_callbacks_finished_total", "status"),
            Query(total("dedup2d_callback_retries_total"), "to be tried again"),
        ),
    ),
    Graph(
        title="Delay of callbacks",
        says="From the end of the job to that of its callback, retries included.",
        unit="s",
        queries=spread("dedup2d_callback_duration_seconds", "status"),
    ),
    Graph(
        title="Refused callback URLs",
        says="By reason, at submission and before each attempt.",
        unit="ops",
        queries=lines("dedup2d_callbacks_blocked_total", "reason"),
    ),
)

ENGINE = (
    Graph(
        title="Stages of a search",
        says="Where the time of a search goes: reading, three levels of comparing, the whole.",
        unit="s",
        queries=spread("dedup2d_engine_stage_duration_seconds", "stage"),
    ),
    Graph(
        title="Searches of the engine",
        says="Searches that the engine itself ended, by process.",
        unit="ops",
        queries=lines("dedup2d_engine_stage_duration_seconds_count", "instance", 'stage="total"'),
    ),
    Graph(
        title="Index",
        says="Drawings in the indexes of the engine, and how many indexes it holds, one a tenant.",
        unit="short",
        queries=(
            Query(largest("dedup2d_engine_index_drawings", "job, instance"), "{{job}} {{instance}} drawings"),
            Query(largest("dedup2d_engine_indexes", "job, instance"), "{{job}} {{instance}} indexes"),
        ),
    ),
)

_PROCESSES = 'job=~"dedup2d-(api|worker|vision)"'
_EACH = "{{job}} {{instance}}"

PROCESSES = (
    Graph(
        title="Targets that answer",
        says="Processes that Prometheus can scrape, by job.",
        unit="short",
        queries=(Query(f"sum by (job) (up{_where(_PROCESSES)})", "{{job}}"),),
    ),
    Graph(
        title="Versions",
        says="Processes by version; two lines during an upgrade, one after it.",
        unit="short",
        queries=(
            Query(
                f"count by (version, python) (dedup2d_build_info{_where(_PROCESSES)})",
                "{{version}} on Python {{python}}",
            ),
        ),
    ),
    Graph(
        title="Age of processes",
        says="A line that falls to 0 is a restart.",
        unit="s",
        queries=(
            Query(f"time() - min by (job, instance) (process_start_time_seconds{_where(_PROCESSES)})", _EACH),
        ),
    ),
    Graph(
        title="CPU",
        says="Cores in use, child processes of the engine left out.",
        unit="short",
        queries=(Query(rate("process_cpu_seconds_total", "job, instance", _PROCESSES), _EACH),),
    ),
    Graph(
        title="Memory",
        says="Resident memory, child processes of the engine left out.",
        unit="bytes",
        queries=(
            Query(
                f"sum by (job, instance) (process_resident_memory_bytes{_where(_PROCESSES)})",
                _EACH,
            ),
        ),
    ),
    Graph(
        title="Open files",
        says="Share of the file descriptors that the process may have.",
        unit="percentunit",
        queries=(
            Query(
                f"max by (job, instance) (process_open_fds{_where(_PROCESSES)}"
                f" / process_max_fds{_where(_PROCESSES)})",
                _EACH,
            ),
        ),
    ),
)

ROWS = (
    ("Traffic", TRAFFIC),
    ("Jobs", JOBS),
    ("Queue", QUEUE),
    ("Vision and circuit", VISION),
    ("Files", FILES),
    ("Callbacks", CALLBACKS),
    ("Engine", ENGINE),
    ("Processes", PROCESSES),
)
