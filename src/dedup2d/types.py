"""
Domain types: what a drawing, a search, a match and a job are.

Times are Unix seconds (float, UTC). Boxes are pixels of the compared raster,
origin at the top left. All types are frozen; a change makes a new value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from attrs import Factory, field, frozen, validators

from dedup2d.geometry.result import GeometryDiff, Section
from dedup2d.parameters import EffectiveParameter, Source
from dedup2d.search_params import (
    IGNORED_PLACES,
    MAX_IGNORED,
    MAX_RESULTS_LIMIT,
    Area,
    Mode,
    PrecisionProfile,
    SearchParams,
    VersionGate,
)

__all__ = [
    "IGNORED_PLACES",
    "MAX_IGNORED",
    "MAX_RESULTS_LIMIT",
    "PLACES",
    "AddResult",
    "Area",
    "CallbackStatus",
    "Comparison",
    "DiffRegion",
    "Drawing",
    "DrawingFile",
    "DrawingPage",
    "EffectiveParameter",
    "HalfUpload",
    "Health",
    "Job",
    "JobCounts",
    "JobPage",
    "JobStatus",
    "Lane",
    "LevelScore",
    "Match",
    "Mode",
    "PrecisionProfile",
    "PresignedUpload",
    "RebuildResult",
    "Relation",
    "SearchParams",
    "SearchResult",
    "Source",
    "StoredFile",
    "Swept",
    "Timing",
    "Transform",
    "UploadOffer",
    "Verdict",
    "VersionGate",
]

PLACES = ("view", "title_block", "revision_table", "notes", "frame", "sheet")
"""Parts of a sheet where a difference may lie; `sheet` is any other."""


class Verdict(StrEnum):
    """What a match amounts to under the thresholds of the search."""

    DUPLICATE = "duplicate"
    SIMILAR = "similar"
    DIFFERENT = "different"


class Relation(StrEnum):
    """How two drawings are related."""

    EXACT = "exact"
    IDENTICAL = "identical"
    REVISION = "revision"
    PARTIAL = "partial"
    MIRRORED = "mirrored"
    VARIANT = "variant"
    SIMILAR = "similar"


class JobStatus(StrEnum):
    """Where a job is; the last three are final and never change."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        return self in _FINAL


class CallbackStatus(StrEnum):
    """
    Where the callback of a job is.

    `pending` from the submission on; `success` once the receiver said so; `failed` after the last attempt, or
    one that no other is to follow; `skipped` where the settings do not allow its URL (any more).
    """

    PENDING = "pending"
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


class Lane(StrEnum):
    """Which workers a job waits for: CAD files may have workers of their own."""

    MAIN = "main"
    CAD = "cad"


_FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED})


@frozen(kw_only=True)
class DrawingFile:
    """
    A file handed to a vision client: its name, hash, size and its bytes.

    `open` gives the bytes as chunks and may be called more than once; `path`
    is set where they already lie in a local file that may be read in place.
    """

    name: str
    sha256: str
    size: int
    open: Callable[[], AsyncIterator[bytes]]
    path: Path | None = None


@frozen(kw_only=True)
class StoredFile:
    """A file in a FileStore. `sha256` is empty where a listing does not know it."""

    key: str
    size: int
    created_at: float
    sha256: str = ""


@frozen(kw_only=True)
class HalfUpload:
    """
    What a FileStore keeps of an upload that has not ended. `key` is empty where it is not known.

    `size` is what was sent, 0 where that is not known; `begun_at` the Unix time of the last that is known
    to have happened to it.
    """

    name: str
    key: str
    size: int
    begun_at: float
    token: str = ""


@frozen(kw_only=True)
class PresignedUpload:
    """
    How a client may put one file into the store itself.

    It sends the bytes to `url` by `method`, with all of `headers`, before the Unix time `expires_at`.
    The URL can be used more than once until then: what lies under the key may change.
    """

    url: str = field(repr=False)
    method: str = "PUT"
    headers: Mapping[str, str] = field(factory=dict)
    expires_at: float


@frozen(kw_only=True)
class UploadOffer:
    """Where a client may put a file itself, and the key by which it is submitted afterwards."""

    file_key: str
    upload: PresignedUpload


@frozen(kw_only=True)
class Transform:
    """
    How the query lies on the match, in this order: mirror, turn, scale, shift.

    `mirrored` flips left and right; `rotation_degrees` turns counter-clockwise;
    `scale` is match size over query size; the shift is in pixels of the match's raster.
    """

    mirrored: bool = False
    rotation_degrees: float = 0.0
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


@frozen(kw_only=True)
class DiffRegion:
    """
    One change: a place where two drawings differ, with all that belongs together.

    The box is in pixels of the match's raster, `x_mm` to `height_mm` in millimetres on its
    paper where its size is known; `area` counts differing pixels. `change` says whether the query
    added ink there, removed it, both, or moved it by `shift_x`, `shift_y` pixels; the box of
    what moved holds both places. `place` says on which part of the match's sheet it lies.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    change: str = field(validator=validators.in_(("added", "removed", "changed", "moved")))
    place: str = field(default="sheet", validator=validators.in_(PLACES))
    shift_x: float | None = None
    shift_y: float | None = None
    x_mm: float | None = None
    y_mm: float | None = None
    width_mm: float | None = None
    height_mm: float | None = None


@frozen(kw_only=True)
class LevelScore:
    """What one level of the search found: a score 0..1 and its details."""

    score: float
    details: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class Match:
    """
    One drawing of the index that answers a search.

    `similarity` and `confidence` are 0..1; `match_level` is the deepest level (1 to 4)
    that looked at it; `levels` has keys `l1` to `l4`. `page` and `query_page` count from 1.
    `source` is where the drawing was indexed from (a path), where that is known.

    `reason` is one sentence that says why it has this relation, `thresholds` what decided it, and
    `changed_area` (0..1) how much of the match's sheet changed, where that was measured.

    Where geometry came with the query, `visual_similarity` is what the pictures alone say; `precision_score`
    (0..1) what the geometry says, None where there was none to compare, and `precision_breakdown` the same by
    section; `precision_diff` names the differences of the best matches, `precision_diff_similarity` is the
    share of entries (0..1) without one.
    """

    drawing_id: str
    file_hash: str
    file_name: str
    similarity: float
    confidence: float
    match_level: int
    verdict: Verdict
    relation: Relation
    page: int = 1
    query_page: int = 1
    source: str | None = None
    levels: Mapping[str, LevelScore] = field(factory=dict)
    transform: Transform | None = None
    diff_image_base64: str | None = None
    diff_regions: tuple[DiffRegion, ...] = ()
    reason: str = ""
    thresholds: Mapping[str, float] = field(factory=dict)
    changed_area: float | None = None
    visual_similarity: float | None = None
    precision_score: float | None = None
    precision_breakdown: Mapping[str, Section] = field(factory=dict)
    precision_diff: GeometryDiff | None = None
    precision_diff_similarity: float | None = None


@frozen(kw_only=True)
class Timing:
    """
    Milliseconds spent, as a whole, per level and on reading the query.

    `precision_ms` went into comparing geometries, and is part of `l4_ms`.
    """

    total_ms: float = 0.0
    read_ms: float = 0.0
    l1_ms: float = 0.0
    l2_ms: float = 0.0
    l3_ms: float = 0.0
    l4_ms: float = 0.0
    precision_ms: float = 0.0


@frozen(kw_only=True)
class SearchResult:
    """
    The answer of a search, best match first in both lists.

    `duplicates` and `similar` are the matches by verdict; `total_matches` counts both.
    `level_stats` says how many drawings each level looked at. `filtered` are those that the pictures
    found and the geometry took out, with its reasons. `effective_parameters` says what each parameter was,
    and who had set it.
    """

    success: bool = True
    total_matches: int = 0
    duplicates: tuple[Match, ...] = ()
    similar: tuple[Match, ...] = ()
    final_level: int = 1
    timing: Timing = Factory(Timing)
    level_stats: Mapping[str, int] = field(factory=dict)
    warnings: tuple[str, ...] = ()
    file_hash: str = ""
    pages: int = 1
    error: str | None = None
    filtered: tuple[Match, ...] = ()
    effective_parameters: Mapping[str, EffectiveParameter] = field(factory=dict)


@frozen(kw_only=True)
class Comparison:
    """
    Two drawings against each other; `diff_png` is the picture of the difference.

    `reason`, `thresholds` and `changed_area` are as in `Match`.
    """

    similarity: float
    verdict: Verdict
    relation: Relation
    levels: Mapping[str, LevelScore] = field(factory=dict)
    transform: Transform | None = None
    diff_regions: tuple[DiffRegion, ...] = ()
    diff_png: bytes | None = None
    warnings: tuple[str, ...] = ()
    reason: str = ""
    thresholds: Mapping[str, float] = field(factory=dict)
    changed_area: float | None = None


@frozen(kw_only=True)
class Drawing:
    """
    One sheet in an index.

    `width` and `height` are those of its raster, of which one pixel covers `mm_per_pixel` millimetres:
    of the paper, in model space of what is drawn; None where the file does not say.
    """

    drawing_id: str
    file_hash: str
    file_name: str
    page: int
    format: str
    width: int
    height: int
    created_at: float
    sheet: str = ""
    source: str | None = None
    metadata: Mapping[str, str] = field(factory=dict)
    warnings: tuple[str, ...] = ()
    mm_per_pixel: float | None = None


@frozen(kw_only=True)
class DrawingPage:
    """One page of a list of drawings, newest first."""

    drawings: tuple[Drawing, ...]
    total: int
    next_page_token: str | None = None


@frozen(kw_only=True)
class AddResult:
    """What adding a file to an index did. `added` is false where it was there already."""

    drawing_id: str
    file_hash: str
    drawing_ids: tuple[str, ...]
    added: bool
    message: str
    processing_time_ms: float
    warnings: tuple[str, ...] = ()
    success: bool = True
    s3_key: str | None = None


@frozen(kw_only=True)
class RebuildResult:
    """What rebuilding an index did."""

    message: str
    drawings: int
    success: bool = True


@frozen(kw_only=True)
class Health:
    """Whether a part can do its work, with details to show an operator."""

    status: str = field(validator=validators.in_(("healthy", "degraded", "unhealthy")))
    details: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Job:
    """
    One asynchronous search.

    `attempts` counts claims, `losses` the claims whose lease ran out. `lease_token` is
    known to the worker that holds the job and to nobody else. `error_code` and `error`
    are set when it failed; `last_error` says why a pending job was given back. `request_id` and
    `traceparent` are of the request that submitted it (see `dedup2d.tracing`).

    `parameter_sources` says who has set the parameters that are not the default's. `geometry_key` is where
    the geometry lies that came with the drawing, `geometry_hash` the sha256 of its bytes; None without one.

    `callback_status` is None where no callback was asked for. `callback_attempts` counts the attempts since
    the job became final, or since the callback was asked for again; `callback_http_status` and
    `callback_last_error` tell of the last one. `callback_message_id` is the same at every attempt.
    """

    job_id: str
    tenant_id: str
    file_key: str
    file_name: str
    file_hash: str
    file_size: int
    created_at: float
    params: SearchParams = Factory(SearchParams)
    status: JobStatus = JobStatus.PENDING
    attempts: int = 0
    losses: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    next_attempt_at: float | None = None
    expires_at: float | None = None
    cancel_requested: bool = False
    progress: str | None = None
    lease_token: str | None = field(default=None, repr=False)
    lease_expires_at: float | None = None
    last_error: str | None = None
    error_code: str | None = None
    error: str | None = None
    result: SearchResult | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    lane: Lane = Lane.MAIN
    request_id: str | None = None
    traceparent: str | None = None
    callback_url: str | None = field(default=None, repr=False)
    callback_status: CallbackStatus | None = None
    callback_attempts: int = 0
    callback_http_status: int | None = None
    callback_next_attempt_at: float | None = None
    callback_finished_at: float | None = None
    callback_last_error: str | None = None
    callback_message_id: str | None = None
    parameter_sources: Mapping[str, Source] = field(factory=dict)
    geometry_key: str | None = None
    geometry_hash: str | None = None
    callback_lease_token: str | None = field(default=None, repr=False)
    callback_lease_expires_at: float | None = None


@frozen(kw_only=True)
class JobPage:
    """One page of a tenant's jobs, newest first, without their results."""

    jobs: tuple[Job, ...]
    total: int
    next_page_token: str | None = None


@frozen(kw_only=True)
class JobCounts:
    """How many jobs wait and run, over all tenants, and since when the oldest waits."""

    pending: int = 0
    in_progress: int = 0
    oldest_pending_at: float | None = None


@frozen(kw_only=True)
class Swept:
    """
    What a sweep put right.

    `ready` are the ids of jobs to be woken, oldest first; `lost` how many leases had
    run out; `failed` the jobs that failed for it; `expired` the jobs that were deleted
    (their files are the caller's to delete).
    """

    ready: tuple[str, ...] = ()
    lost: int = 0
    failed: tuple[Job, ...] = ()
    expired: tuple[Job, ...] = ()
