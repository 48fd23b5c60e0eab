"""The report of an accuracy run: Markdown for people, JSON for machines."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from attrs import asdict

from benchmarks.accuracy.scores import PairScore, Score

__all__ = ["as_json", "as_markdown"]

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

The second drawing of each pair was searched for; what was said of the first. `not reported`: below the
similarity of 0.80 that an answer needs by default; `farther`: than the hash's threshold.
"""

Scores = dict[str, dict[str, Score]]
Pairs = dict[str, dict[str, PairScore]]


def as_json(setup: dict[str, Any], found: Scores, pairs: Pairs) -> str:
    """Return everything that was measured."""
    return json.dumps(
        {
            "setup": setup,
            "scores": {name: {key: asdict(one) for key, one in rows.items()} for name, rows in found.items()},
            "pairs": {name: {key: asdict(one) for key, one in rows.items()} for name, rows in pairs.items()},
        },
        indent=1,
    )


def as_markdown(setup: dict[str, Any], found: Scores, pairs: Pairs) -> str:
    """Return the report's tables."""
    engines = sorted(found, key=lambda name: (not name.startswith("dedup2d"), name))
    return "\n".join(
        [
            _setup(setup),
            _RECALL,
            _recall(engines, found),
            "### All transforms together\n",
            _totals(engines, found),
            _RELATIONS,
            _relations(engines, found),
            _PAIRS,
            _pairs(engines, pairs),
        ]
    )


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
        [kind, engine, str(one.pairs), str(one.found), _counts(one.verdicts), _counts(one.relations)]
        for kind in sorted({kind for found in pairs.values() for kind in found})
        for engine in engines
        if (one := pairs.get(engine, {}).get(kind))
    ]
    return _table(["pair", "engine", "pairs", "among ten", "verdicts", "relations"], rows)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
