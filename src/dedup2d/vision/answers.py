"""What the embedded engine found, put into the words of the contract."""

from __future__ import annotations

import time
from collections.abc import Sequence

from attrs import evolve

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.extract import Difference
from dedup2d.engine.judge import judge
from dedup2d.engine.records import SheetRecord
from dedup2d.engine.verify import Evidence
from dedup2d.types import Comparison, SearchParams, SearchResult, Timing, Transform, Verdict
from dedup2d.vision.hits import QuerySheet
from dedup2d.vision.search import MAX_PAGES, Found

__all__ = [
    "BLANK",
    "answer",
    "bounded",
    "comparison",
    "counted",
    "read_warnings",
    "since",
    "unsearched_warnings",
]

BLANK = "the sheet is blank: there is nothing to search by"

_MOST_WARNINGS = 50


def answer(
    found: Found | None, timing: Timing, *, file_hash: str, pages: int, warnings: list[str]
) -> SearchResult:
    """Return the result of a search; nothing was found in an index that is not there."""
    if found is None:
        stats = {"l1": 0, "l2": 0, "l4": 0}
        return SearchResult(
            timing=timing, level_stats=stats, warnings=bounded(warnings), file_hash=file_hash, pages=pages
        )
    duplicates = tuple(one for one in found.matches if one.verdict is Verdict.DUPLICATE)
    similar = tuple(one for one in found.matches if one.verdict is Verdict.SIMILAR)
    return SearchResult(
        total_matches=len(found.matches),
        duplicates=duplicates,
        similar=similar,
        final_level=found.final_level,
        timing=evolve(timing, l2_ms=found.candidates_ms, l3_ms=found.learned_ms, l4_ms=found.verify_ms),
        level_stats=found.stats,
        warnings=bounded([*warnings, *found.warnings]),
        file_hash=file_hash,
        pages=pages,
    )


def comparison(
    found: tuple[Candidate, Evidence | None, Difference | None],
    params: SearchParams,
    *,
    same_bytes: bool,
    warnings: list[str],
) -> Comparison:
    """Return the result of a comparison."""
    candidate, evidence, difference = found
    judgement = judge(candidate, evidence, params, same_bytes=same_bytes)
    png, regions = difference if difference and params.compute_diff else (None, ())
    return Comparison(
        similarity=judgement.similarity,
        verdict=judgement.verdict,
        relation=judgement.relation,
        levels=judgement.levels,
        transform=Transform() if same_bytes else judgement.transform,
        diff_regions=regions,
        diff_png=png,
        reason=judgement.reason,
        thresholds=judgement.thresholds,
        changed_area=judgement.changed_area,
        warnings=bounded(warnings),
    )


def read_warnings(sheets: Sequence[SheetRecord]) -> list[str]:
    """Return what reading warned of and what is blank, with the page where there are several."""
    several = len(sheets) > 1
    return [
        f"page {sheet.page}: {text}" if several else text for sheet in sheets for text in _warnings(sheet)
    ]


def _warnings(sheet: SheetRecord) -> tuple[str, ...]:
    blank = QuerySheet.of(sheet.page, sheet.likeness).blank
    return (*sheet.warnings, BLANK) if blank else sheet.warnings


def unsearched_warnings(sheets: Sequence[SheetRecord]) -> list[str]:
    """Return which pages of a query are too many."""
    if len(sheets) <= MAX_PAGES:
        return []
    return [f"pages {MAX_PAGES + 1} to {len(sheets)} were not searched: send them as files of their own"]


def bounded(warnings: list[str]) -> tuple[str, ...]:
    """Return the warnings, or the first of too many and how many more there were."""
    if len(warnings) <= _MOST_WARNINGS:
        return tuple(warnings)
    return (*warnings[:_MOST_WARNINGS], f"and {len(warnings) - _MOST_WARNINGS} more warnings")


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def since(started: float) -> float:
    """Return the milliseconds since *started*, of `time.perf_counter`."""
    return (time.perf_counter() - started) * 1000
