"""What a callback says, as JSON of bounded length."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from dedup2d.codec import to_json
from dedup2d.types import Job, JobStatus, Match, SearchResult

__all__ = ["callback_body"]


@frozen(kw_only=True)
class _News:
    job_id: str
    tenant_id: str
    status: JobStatus
    started_at: float | None
    finished_at: float | None
    result: SearchResult | None
    error: str | None
    error_code: str | None


def callback_body(job: Job, *, max_bytes: int) -> bytes:
    """
    Return the body of the callback of the final *job*; the same at every attempt.

    Where it would be longer than *max_bytes*, the difference pictures are left out, then the places of the
    differences, then all matches but their number: `result.warnings` says so, and the job has them all.
    """
    body = _body(job, job.result)
    for reduce in (_without_pictures, _without_places, _without_matches):
        if len(body) <= max_bytes or job.result is None:
            break
        body = _body(job, reduce(job.result))
    return body


def _body(job: Job, result: SearchResult | None) -> bytes:
    return to_json(
        _News(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            status=job.status,
            started_at=job.started_at,
            finished_at=job.finished_at,
            result=result,
            error=job.error,
            error_code=job.error_code,
        )
    )


def _without_pictures(result: SearchResult) -> SearchResult:
    return _reduced(result, lambda match: evolve(match, diff_image_base64=None), "difference pictures")


def _without_places(result: SearchResult) -> SearchResult:
    return _reduced(
        result,
        lambda match: evolve(match, diff_image_base64=None, diff_regions=()),
        "difference pictures and regions",
    )


def _without_matches(result: SearchResult) -> SearchResult:
    return evolve(result, duplicates=(), similar=(), warnings=(_warning("matches"),))


def _reduced(result: SearchResult, reduce: Callable[[Match], Match], what: str) -> SearchResult:
    def all_of(matches: Iterable[Match]) -> tuple[Match, ...]:
        return tuple(reduce(match) for match in matches)

    return evolve(
        result,
        duplicates=all_of(result.duplicates),
        similar=all_of(result.similar),
        warnings=(*result.warnings, _warning(what)),
    )


def _warning(what: str) -> str:
    return f"the {what} were left out of this callback, which would be too long with them: get the job"
