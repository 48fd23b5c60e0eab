"""Short words for the checks of job stores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dedup2d.protocols import JobStore
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import ContractError
from dedup2d.types import (
    DiffRegion,
    Job,
    JobStatus,
    LevelScore,
    Match,
    Relation,
    SearchResult,
    Timing,
    Transform,
    Verdict,
)

__all__ = ["RESULT", "TOKEN", "admit", "claim", "complete", "ids", "make_job", "take_all"]

TOKEN = "token"  # noqa: S105 - of a lease in a test

RESULT = SearchResult(
    total_matches=1,
    duplicates=(
        Match(
            drawing_id="drawing-1",
            file_hash="0" * 64,
            file_name="Platte \u00fc.dxf",
            similarity=0.1 + 0.2,
            confidence=1.0,
            match_level=4,
            verdict=Verdict.DUPLICATE,
            relation=Relation.IDENTICAL,
            page=2,
            source="drawings/a.dxf",
            levels={"l1": LevelScore(score=0.5, details={"distance": 3.0})},
            transform=Transform(mirrored=True, rotation_degrees=90.0, scale=0.5, shift_x=-1.5),
            diff_image_base64="iVBORw0KGgo=",
            diff_regions=(DiffRegion(x=1, y=2, width=3, height=4, area=5, change="added"),),
        ),
    ),
    final_level=4,
    timing=Timing(total_ms=12.5),
    level_stats={"l1": 100},
    warnings=("one", "two"),
    file_hash="f" * 64,
)
"""A result in which nearly everything is set."""


def make_job(clock: ManualClock, job_id: str = "job", **fields: Any) -> Job:
    given: dict[str, Any] = {
        "tenant_id": "tenant",
        "file_key": f"tenant/{job_id}",
        "file_name": "drawing.dxf",
        "file_hash": "hash",
        "file_size": 10,
        "created_at": clock(),
    }
    return Job(job_id=job_id, **(given | fields))


async def admit(store: JobStore, clock: ManualClock, job_id: str, **fields: Any) -> Job:
    return await store.admit(make_job(clock, job_id, **fields), max_jobs=1000, max_jobs_per_tenant=1000)


async def take_all(store: JobStore, clock: ManualClock, number: int) -> list[Job]:
    """Admit the jobs `job-0` and so on, each a second after the one before."""
    return [await admit(store, clock, f"job-{n}", created_at=clock() + n) for n in range(number)]


async def claim(store: JobStore, job_id: str, token: str = TOKEN, *, lease_seconds: float = 60.0) -> Job:
    job = await store.claim(token, lease_seconds=lease_seconds, job_id=job_id)
    if job is None:
        raise ContractError(f"the pending job {job_id} can be claimed by its id")
    return job


async def complete(store: JobStore, job_id: str, token: str = TOKEN, *, ttl_seconds: float = 100.0) -> Job:
    return await store.finish(
        job_id, token, status=JobStatus.COMPLETED, ttl_seconds=ttl_seconds, result=RESULT
    )


def ids(jobs: Iterable[Job]) -> list[str]:
    return [job.job_id for job in jobs]
