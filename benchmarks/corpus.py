"""
A folder of drawings with the truth about them: `manifest.jsonl`, `natural_pairs.jsonl`, `lookalikes.jsonl`.

The manifest has one line per sheet with `id`, `source_group`, `quality`, `doc_group`, `family` and
`render` (a picture) or `raw` (a file of one sheet), both relative to the folder.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

__all__ = ["Corpus", "Entry", "Pair", "balanced", "generated", "load"]


@frozen(kw_only=True)
class Entry:
    """One sheet of the corpus and the file that shows it."""

    id: str
    path: Path
    group: str
    doc_group: str
    quality: str
    format: str
    family: str | None = None
    transform: str = ""


@frozen(kw_only=True)
class Pair:
    """Two sheets and how they are related: a natural pair's type or a lookalike's label."""

    a: str
    b: str
    kind: str
    group: str


@frozen(kw_only=True)
class Corpus:
    """
    All of it.

    Args:
        labelled: every pair of ids that some list names, whatever it says of them.
        ambiguous: those of them between which no match is counted as wrong.
    """

    name: str
    entries: dict[str, Entry]
    natural: tuple[Pair, ...]
    lookalikes: tuple[Pair, ...]
    ambiguous: frozenset[frozenset[str]] = field(factory=frozenset)
    labelled: frozenset[frozenset[str]] = field(factory=frozenset)

    def right(self, query: str, found: str) -> bool:
        """Whether *found* shows the drawing that *query* shows."""
        return self.entries[query].doc_group == self.entries[found].doc_group

    def stranger(self, query: str, found: str) -> bool:
        """Whether *found* is certainly another drawing than *query*."""
        return not self.right(query, found) and frozenset({query, found}) not in self.ambiguous

    def unrelated(self, a: str, b: str) -> bool:
        """Whether nothing relates the two: neither document, nor family, nor any label."""
        one, other = self.entries[a], self.entries[b]
        kin = one.family is not None and one.family == other.family
        return not kin and not self.right(a, b) and frozenset({a, b}) not in self.labelled


def load(folder: Path, *, sources: bool = False) -> Corpus:
    """
    Read the corpus in *folder*.

    Args:
        folder: where the manifest is.
        sources: take the source files instead of the pictures made of them, where there is one that
            holds a single sheet of the corpus.

    Raises:
        SystemExit: there is no manifest, or a file that it names is missing.
    """
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        raise SystemExit(f"{folder} holds no manifest.jsonl: give a corpus's folder, or none to generate one")
    rows = _rows(manifest)
    sheets = Counter(row["raw"] for row in rows)
    entries = {
        row["id"]: _entry(folder, row, source=sources and row["raw"] is not None and sheets[row["raw"]] == 1)
        for row in rows
    }
    gone = [entry.id for entry in entries.values() if not entry.path.is_file()]
    if gone:
        raise SystemExit(
            f"{len(gone)} files that the manifest names are missing, the first is that of {gone[0]}"
        )
    lookalikes = tuple(_pairs(folder / "lookalikes.jsonl", "label", entries))
    natural = tuple(_pairs(folder / "natural_pairs.jsonl", "type", entries))
    unsure = {frozenset({pair.a, pair.b}) for pair in lookalikes if pair.kind != "different"}
    unsure |= {frozenset({pair.a, pair.b}) for pair in natural}
    return Corpus(
        name=folder.resolve().name,
        entries=entries,
        natural=natural,
        lookalikes=tuple(pair for pair in lookalikes if pair.kind != "ambiguous"),
        ambiguous=frozenset(unsure),
        labelled=frozenset(frozenset({pair.a, pair.b}) for pair in (*lookalikes, *natural)),
    )


def generated(folder: Path, *, parts: int, seed: int) -> Corpus:
    """Generate samples into *folder*, unless they are there already, and load them."""
    from dedup2d.samples import generate  # noqa: PLC0415 - only if no corpus is given

    if not (folder / "manifest.jsonl").is_file():
        generate(folder, seed=seed, parts=parts, overwrite=True)
    return load(folder)


def balanced(entries: Iterable[Entry], count: int, rng: random.Random) -> list[Entry]:
    """Choose *count* entries by turns from each source group, so that no source rules the result."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.id):
        groups[entry.group].append(entry)
    for members in groups.values():
        rng.shuffle(members)
    order = sorted(groups)
    rng.shuffle(order)
    chosen: list[Entry] = []
    while len(chosen) < count and any(groups.values()):
        for name in order:
            if groups[name] and len(chosen) < count:
                chosen.append(groups[name].pop())
    return chosen


def balanced_pairs(pairs: Sequence[Pair], count: int, rng: random.Random) -> list[Pair]:
    """Choose *count* pairs of each kind by turns from each source group."""
    chosen: list[Pair] = []
    for kind in sorted({pair.kind for pair in pairs}):
        groups: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            if pair.kind == kind:
                groups[pair.group].append(pair)
        for members in groups.values():
            rng.shuffle(members)
        some: list[Pair] = []
        while len(some) < count and any(groups.values()):
            some += [groups[name].pop() for name in sorted(groups) if groups[name]]
        chosen += some[:count]
    return chosen


def _entry(folder: Path, row: dict[str, Any], *, source: bool) -> Entry:
    return Entry(
        id=row["id"],
        path=folder / (row["raw"] if source else row["render"] or row["raw"]),
        group=row["source_group"],
        doc_group=row["doc_group"],
        quality=row["quality"],
        format=row["format"],
        family=row.get("family"),
        transform=row.get("transform") or "",
    )


def _pairs(path: Path, kind: str, entries: dict[str, Entry]) -> Iterable[Pair]:
    if not path.is_file():
        return
    for row in _rows(path):
        if row["a"] in entries and row["b"] in entries:
            yield Pair(a=row["a"], b=row["b"], kind=row[kind], group=entries[row["a"]].group)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]
