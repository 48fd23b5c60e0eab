"""`dedup2d compare --geometry`: two drawings against each other, entity by entity."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from dedup2d.build import read_limits
from dedup2d.children import Children
from dedup2d.cli.exits import Exit
from dedup2d.cli.geometry_files import geometry_of
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.codec import to_json
from dedup2d.geometry.of_json import compare_json
from dedup2d.geometry.result import DiffEntry, GeometryDiff, GeometryScore, Similarity
from dedup2d.settings import Settings
from dedup2d.types import SearchParams, Verdict

__all__ = ["compare_geometry"]

_MOST_SHOWN = 20
_MOST_PATHS = 1000
_LONGEST = 60
_SECTIONS = (
    Column("section"),
    *(Column(name, number=True) for name in ("score", "weight", "old", "new", "matched")),
)
_DIFFERENCES = (
    Column("change"),
    Column("what"),
    Column("x", number=True),
    Column("y", number=True),
    Column("difference", wraps=True),
)


@frozen(kw_only=True)
class _Result:
    score: GeometryScore
    verdict: Verdict
    warnings: tuple[str, ...]


def compare_geometry(
    settings: Settings,
    old: Path,
    new: Path,
    *,
    profile: str,
    thresholds: SearchParams,
    json: bool,
    terminal: Terminal,
) -> int:
    """Compare two files by geometry, print how alike they are and what differs, and return the exit code."""
    score, warnings = run_async(lambda: _scored(settings, old, new, profile))
    result = _Result(score=score, verdict=_verdict(score.score, thresholds), warnings=warnings)
    if json:
        terminal.json(_as_json(old, new, profile, result))
    else:
        _show(terminal, profile, result)
    return Exit.NOTHING if result.verdict is Verdict.DIFFERENT else Exit.OK


async def _scored(
    settings: Settings, old: Path, new: Path, profile: str
) -> tuple[GeometryScore, tuple[str, ...]]:
    limits = read_limits(settings)
    async with Children(processes=1, memory_bytes=limits.max_memory_bytes) as children:
        before, after = await geometry_of(children, old, limits), await geometry_of(children, new, limits)
        score = await children.call(
            compare_json,
            before.data,
            after.data,
            profile,
            _MOST_PATHS,
            seconds=limits.max_seconds,
            name=f"{old.name} and {new.name}",
        )
    told = [f"{path.name}: {text}" for path, one in ((old, before), (new, after)) for text in one.warnings]
    return score, (*told, *score.warnings)


def _verdict(score: float | None, thresholds: SearchParams) -> Verdict:
    if score is None or score < thresholds.similar_threshold:
        return Verdict.DIFFERENT
    return Verdict.DUPLICATE if score >= thresholds.duplicate_threshold else Verdict.SIMILAR


def _show(terminal: Terminal, profile: str, result: _Result) -> None:
    score = result.score
    for warning in result.warnings:
        terminal.note(f"dedup2d: warning: {visible(warning)}")
    if score.score is None:
        terminal.line("the two have nothing that can be compared by geometry")
        return
    terminal.line(f"similarity {score.score:.3f} by geometry (profile {profile}), verdict {result.verdict}")
    if score.transform and (placed := _placed(score.transform)):
        terminal.line(f"OLD was {placed} to fit NEW")
    if score.breakdown:
        terminal.table(_SECTIONS, (_section(name, part) for name, part in score.breakdown.items()))
    if score.diff is not None:
        _show_differences(terminal, score.diff)


def _section(name: str, part: Any) -> tuple[str, ...]:
    numbers = (f"{part.score:.3f}", f"{part.weight:.2f}", part.query, part.other, part.matched)
    return (name, *map(str, numbers))


def _placed(transform: Similarity) -> str:
    own = transform.scale / (transform.unit_factor or 1.0)
    parts = [
        "mirrored" if transform.mirrored else "",
        f"turned by {transform.rotation:.1f}°" if abs(transform.rotation) >= 0.05 else "",
        f"scaled by {own:.4g}" if abs(own - 1) >= 0.0005 else "",
        f"brought to its unit ({transform.unit_factor:.6g})" if transform.unit_factor != 1 else "",
        "moved by {:.6g}, {:.6g}".format(*transform.shift) if _is_moved(transform) else "",
    ]
    return ", ".join(filter(None, parts))


def _is_moved(transform: Similarity) -> bool:
    return max(map(abs, transform.shift)) >= 0.001


def _show_differences(terminal: Terminal, diff: GeometryDiff) -> None:
    total = sum(diff.counts.values()) or len(diff.entries)
    if not total:
        terminal.line("nothing differs")
        return
    kinds = ", ".join(f"{count:,} {name.replace('.', ' ')}" for name, count in diff.counts.items())
    shown = diff.entries[:_MOST_SHOWN]
    more = f"; the first {len(shown)} of them here" if total > len(shown) else ""
    terminal.line(counted(total, "difference") + (f": {kinds}" if kinds else "") + more)
    terminal.table(_DIFFERENCES, map(_difference, shown))


def _difference(entry: DiffEntry) -> tuple[str, ...]:
    what = entry.type if entry.section == "entities" else f"{entry.type} ({entry.section})"
    x, y = ("", "") if entry.place is None else (f"{value:.6g}" for value in entry.place)
    return str(entry.kind), what, x, y, _said(entry)


def _said(entry: DiffEntry) -> str:
    before, after = dict(entry.before or {}), dict(entry.after or {})
    if not (before and after):
        return ", ".join(f"{name} {_value(value)}" for name, value in (before or after).items())
    return ", ".join(
        f"{name} {_value(before.get(name))} → {_value(after.get(name))}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return "".join(_spelled(value))[:_LONGEST]


def _spelled(value: Any) -> Iterator[str]:
    if isinstance(value, float):
        yield f"{value:.6g}"
    elif isinstance(value, str):
        yield f'"{visible(value)}"'
    elif isinstance(value, list | tuple):
        yield "(" + ", ".join("".join(_spelled(one)) for one in value[:_MOST_SHOWN]) + ")"
    elif isinstance(value, Mapping):
        yield ", ".join(f"{name} {''.join(_spelled(one))}" for name, one in value.items())
    else:
        yield str(value)


def _as_json(old: Path, new: Path, profile: str, result: _Result) -> dict[str, Any]:
    document: dict[str, Any] = jsonlib.loads(to_json(result.score))
    document.pop("warnings", None)
    return {
        "old": str(old),
        "new": str(new),
        "profile": profile,
        "similarity": document.pop("score", None),
        "verdict": str(result.verdict),
        **document,
        "warnings": list(result.warnings),
    }
