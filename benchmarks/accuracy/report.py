"""The report of an accuracy run: Markdown for people, JSON for machines."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from attrs import asdict, field, frozen

from benchmarks.accuracy.reliability import Bin, calibration_error
from benchmarks.accuracy.scores import PairScore, Score

__all__ = ["Found", "as_json", "as_markdown"]

_SHOWN_PAIRS = 12

_RECALL = """\
### Recall by transform

The right drawing first / among the first ten, in %, each source group weighing the same.
"""
_RELATIONS = """\
### Relations

Share of right first answers that carry the right relation, in %.
"""
_PAIRS = """\
### Pairs as they occur

The second drawing of each pair was searched for; what was said of the first, in %: found among ten /
reported with the right relation / called what it must not be (a revision identical, a look-alike a
duplicate), each source group weighing the same, then over pairs. `not reported`: below the similarity of
0.80 that an answer needs by default; `farther`: than the peer's threshold.
"""
_DISPUTED = """\
### Labels that are disputed

The rows marked "undisputed" leave these pairs out, all others count them as the corpus has them.
"""
_STRANGERS = """\
### Strangers called duplicates

Among all {pairs:,} pairs of indexed sheets that nothing relates (no document, no family, no label).
The engine searched with every sheet; the peers' distances were taken of every pair.
"""
_RELIABILITY = """\
### Reliability of the confidence

Reported matches whose truth is known, by stated confidence. Expected calibration error: {error:.3f}.
"""

Scores = dict[str, dict[str, Score]]
Pairs = dict[str, dict[str, PairScore]]


@frozen(kw_only=True)
class Found:
    """
    Everything that was measured.

    Args:
        setup: under what conditions.
        scores: engine -> transform -> score.
        pairs: engine -> kind of pair -> score.
        strangers: engine -> pairs of strangers that it called duplicates; `pairs_of_strangers` there are.
        bins: of each mode's confidence.
        disputed: rows of a, b, label, why.
        sheets: names of the contact sheets.
    """

    setup: dict[str, Any]
    scores: Scores
    pairs: Pairs
    strangers: dict[str, list[tuple[str, str]]] = field(factory=dict)
    pairs_of_strangers: int = 0
    bins: dict[str, list[Bin]] = field(factory=dict)
    disputed: list[dict[str, str]] = field(factory=list)
    sheets: list[str] = field(factory=list)


def as_json(found: Found) -> str:
    """Return everything that was measured."""
    return json.dumps(asdict(found), indent=1)


def as_markdown(found: Found) -> str:
    """Return the report's tables."""
    engines = sorted({*found.scores, *found.pairs}, key=lambda name: (not name.startswith("dedup2d"), name))
    asked = [engine for engine in engines if engine in found.scores]  # not for pairs alone
    parts = [
        _setup(found.setup),
        _RECALL,
        _recall(asked, found.scores),
        "### All transforms together\n",
        _totals(asked, found.scores),
        _RELATIONS,
        _relations(asked, found.scores),
        _PAIRS,
        _pairs(engines, found.pairs),
    ]
    if found.disputed:
        parts += [_DISPUTED, _disputed(found.disputed)]
    if found.strangers:
        parts += [_STRANGERS.format(pairs=found.pairs_of_strangers), _strangers(found.strangers)]
    for mode, bins in found.bins.items():
        parts += [_RELIABILITY.format(error=calibration_error(bins)), f"{mode}:\n", _bins(bins)]
    if found.sheets:
        parts += ["### Contact sheets of the worst misses\n", *(f"- {name}" for name in found.sheets)]
    return "\n".join(parts)


def _setup(setup: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in setup.items()) + "\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _transforms(found: Scores) -> list[str]:
    names = dict.fromkeys(name for rows in found.values() for name in rows)
    return [name for name in names if name != "all"]


def _recall(engines: list[str], found: Scores) -> str:
    rows = []
    for name in [*_transforms(found), "all"]:
        cells = []
        for engine in engines:
            one = found[engine].get(name)
            cells.append(f"{_percent(one.recall1)} / {_percent(one.recall10)}" if one else "")
        rows.append([name, *cells])
    return _table(["transform", *engines], rows)


def _totals(engines: list[str], found: Scores) -> str:
    rows = []
    for engine in engines:
        one = found[engine]["all"]
        ours = engine.startswith("dedup2d")
        rows.append(
            [
                engine,
                str(one.queries),
                _percent(one.recall1),
                _percent(one.plain1),
                f"{one.worst[0]} {_percent(one.worst[1])}",
                _percent(one.reported) if ours else "",
                f"{one.false_duplicates:.3f}",
                f"{one.strangers:.2f}" if ours else "",
                f"{one.p50:.2f} / {one.p95:.2f}" if ours else "",
                str(one.errors),
            ]
        )
    head = [
        "engine",
        "queries",
        "recall@1 by group",
        "recall@1 by query",
        "worst group",
        "first and reported",
        "strangers called duplicate per query",
        "strangers reported per query",
        "seconds p50 / p95",
        "errors",
    ]
    return _table(head, rows)


def _relations(engines: list[str], found: Scores) -> str:
    ours = [engine for engine in engines if engine.startswith("dedup2d") and "fast" not in engine]
    rows = [
        [name, *(_percent(found[engine][name].relation) if name in found[engine] else "" for engine in ours)]
        for name in [*_transforms(found), "all"]
    ]
    return _table(["transform", *ours], rows)


def _pairs(engines: list[str], pairs: Pairs) -> str:
    rows = [
        [
            kind,
            engine,
            str(one.pairs),
            f"{_percent(one.found)} / {_percent(one.named)} / {_percent(one.wrong)}",
            " / ".join(map(_percent, one.plain)),
            f"{one.worst[0]} {_percent(one.worst[1])}",
            _counts(one.verdicts),
            _counts(one.relations),
        ]
        for kind in sorted({kind for found in pairs.values() for kind in found})
        for engine in engines
        if (one := pairs.get(engine, {}).get(kind))
    ]
    head = ["pair", "engine", "pairs", "by group", "by pair", "worst group", "verdicts", "relations"]
    return _table(head, rows)


def _disputed(rows: list[dict[str, str]]) -> str:
    return _table(
        ["pair", "label", "why"], [[f"{one['a']}, {one['b']}", one["label"], one["why"]] for one in rows]
    )


def _strangers(found: dict[str, list[tuple[str, str]]]) -> str:
    rows = [
        [engine, str(len(pairs)), ", ".join(f"{a} {b}" for a, b in pairs[:_SHOWN_PAIRS])]
        for engine, pairs in sorted(found.items())
    ]
    return _table(["engine", "false duplicates", f"the first {_SHOWN_PAIRS}"], rows)


def _bins(bins: list[Bin]) -> str:
    rows = [[str(one.count), f"{one.confidence:.2f}", f"{one.right:.2f}"] for one in bins]
    return _table(["matches", "mean confidence", "share right"], rows)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
