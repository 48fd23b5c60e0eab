"""The contract of `JobStore` as checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dedup2d.protocols import JobStore, JobStoreMaker
from dedup2d.testing import job_admission, job_callbacks, job_running, job_sweeping
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import checking

__all__ = ["JOB_STORE_CHECKS", "check_job_store"]

JOB_STORE_CHECKS: tuple[Callable[[JobStore, ManualClock], Awaitable[None]], ...] = (
    *job_admission.CHECKS,
    *job_running.CHECKS,
    *job_sweeping.CHECKS,
    *job_callbacks.CHECKS,
)
"""Every check by itself: called with an empty store and the clock that it reads."""


async def check_job_store(make: JobStoreMaker, *, seconds: float = 30.0) -> None:
    """
    Assert that the stores of *make* keep the contract of `JobStore`.

    Args:
        make: gives an async context manager of an empty store that reads the clock given.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in JOB_STORE_CHECKS:
        clock = ManualClock()
        with checking(check, seconds):
            async with make(clock) as store:
                await check(store, clock)
