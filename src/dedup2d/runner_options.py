"""How jobs are run."""

from __future__ import annotations

from attrs import frozen

from dedup2d.types import Lane

__all__ = ["RunnerOptions"]


@frozen(kw_only=True)
class RunnerOptions:
    """
    How jobs are run; all times in seconds.

    Args:
        concurrency: jobs at once, 0 for none.
        lanes: the jobs that are run, None for all.
        max_losses: leases a job may lose before it fails with `WORKER_LOST`.
        max_wait_seconds: how long a job may wait for a vision engine that cannot answer.
        cleanup_on_finish: delete a job's file when the job is final.
        file_retention_seconds: age from which a file without a live job is collected.
    """

    concurrency: int = 2
    lanes: frozenset[Lane] | None = None
    lease_seconds: float = 60.0
    heartbeat_seconds: float = 20.0
    sweep_seconds: float = 15.0
    job_timeout_seconds: float = 300.0
    max_wait_seconds: float = 3600.0
    ttl_seconds: float = 3600.0
    max_losses: int = 3
    cleanup_on_finish: bool = True
    file_retention_seconds: float = 3600.0
