"""
Measures how well the engine finds drawings, beside the usual perceptual hashes.

    python -m benchmarks.accuracy [--corpus DIR] [--index N] [--queries N] [--modes fast,precise=10]

Indexes a corpus (generated samples if none is given), asks seeded queries for every transform, for the
pairs that the corpus lists and with indexed sheets as they are, and writes `report.md`, `report.json`,
`reliability-*.svg` and contact sheets of the worst misses (`misses/*.png`) into the work folder.
Stopped, it goes on where it was; called again with more queries, it asks those that are missing.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import anyio
from attrs import evolve, frozen

from benchmarks.accuracy.asking import ask_engine, ask_peers
from benchmarks.accuracy.contact import contact_sheets
from benchmarks.accuracy.peers import HASHES, Peer, embedding, false_duplicates, hash_all
from benchmarks.accuracy.queries import ITSELF, Query, grey_of, plan
from benchmarks.accuracy.reliability import Bin, plot, reliability
from benchmarks.accuracy.report import Found, as_json, as_markdown
from benchmarks.accuracy.rows import Answer, Rows, same_setup
from benchmarks.accuracy.scores import pair_scores, scores, stranger_duplicates
from benchmarks.corpus import Corpus, Entry, generated, load
from benchmarks.engine import index
from benchmarks.machine import conditions
from benchmarks.transforms import Grey
from dedup2d.types import Mode
from dedup2d.vision.embedded import EmbeddedVision


@frozen(kw_only=True)
class Options:
    """What is measured."""

    corpus: Path | None
    work: Path
    index: int | None
    queries: int
    pairs: int
    strangers: int
    sources: bool
    onnx: Path | None
    modes: dict[str, int | None]
    parts: int
    seed: int
    processes: int
    peers: bool


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = _corpus(options)
    entries = _indexed(corpus, options)
    setup = {"corpus": corpus.name, "drawings indexed": len(entries), "seed": options.seed}
    if options.sources:
        setup["files"] = "sources where there are, else pictures"
    same_setup(options.work, setup)
    rows = Rows(options.work / "answers.jsonl")
    rows.mend()
    queries = plan(
        corpus,
        {entry.id for entry in entries},
        queries=options.queries,
        pairs=options.pairs,
        strangers=options.strangers,
        seed=options.seed,
    )
    peers = _peers(options)
    if peers:
        cache = options.work / "peers.npz"
        own = [query for query in queries if query.transform != ITSELF]
        ask_peers(peers, entries, own, rows, cache, seed=options.seed)
    failed = anyio.run(_ask, options, entries, queries, rows)
    planned = {query.key for query in queries}
    answers = [answer for answer in rows if answer.key in planned]
    stated = {
        **setup,
        "sheets queried per transform": options.queries,
        "pairs of each kind, at most": options.pairs,
        "sheets asked for as they are": options.strangers,
        "not indexed": _worded(failed.values()) or "none",
        "failed queries": _worded(answer.error for answer in answers if answer.error) or "none",
        "modes": _modes_text(options),
        **conditions(),
    }
    found = evolve(_measured(corpus, entries, queries, answers, options), setup=stated)
    (options.work / "report.json").write_text(as_json(found))
    report = as_markdown(found)
    (options.work / "report.md").write_text(report)
    print(report)


def _measured(
    corpus: Corpus,
    entries: list[Entry],
    queries: list[Query],
    answers: list[Answer],
    options: Options,
) -> Found:
    modes = {answer.engine: answer.engine.removeprefix("dedup2d ") for answer in answers}
    ours = [engine for engine in modes if engine.startswith("dedup2d") and not engine.endswith("fast")]
    bins: dict[str, list[Bin]] = {}
    sheets = []
    disputed = _disputed(corpus)
    unsure = {frozenset({one["a"], one["b"]}) for one in disputed}
    for engine in ours:
        own = [answer for answer in answers if answer.engine == engine]
        bins[engine] = reliability(corpus, own, unsure)
        (options.work / f"reliability-{modes[engine]}.svg").write_text(plot(bins[engine]))
        folder = options.work / "misses" / modes[engine]
        made = contact_sheets(corpus, queries, own, folder, seed=options.seed)
        sheets += [str(path.relative_to(options.work)) for path in made]
    return Found(
        setup={},
        scores=scores(corpus, answers),
        pairs=pair_scores(answers, unsure),
        strangers=_strangers(corpus, entries, answers, options),
        pairs_of_strangers=sum(corpus.unrelated(a.id, b.id) for a, b in combinations(entries, 2)),
        bins=bins,
        disputed=disputed,
        sheets=sheets,
    )


def _strangers(
    corpus: Corpus, entries: list[Entry], answers: list[Answer], options: Options
) -> dict[str, list[tuple[str, str]]]:
    found = {name: sorted(pairs) for name, pairs in stranger_duplicates(corpus, answers).items()}
    for peer in _peers(options):
        ids, codes = hash_all([peer], _pictures(entries), options.work / "peers.npz")
        found[peer.name] = false_duplicates(peer, ids, codes[peer.name], corpus.unrelated)
    return found


def _peers(options: Options) -> list[Peer]:
    if not options.peers:
        return []
    return [*HASHES, *([embedding(options.onnx)] if options.onnx else [])]


def _pictures(entries: Iterable[Entry]) -> Iterator[tuple[str, Grey]]:
    return ((entry.id, grey_of(entry.path)) for entry in entries)


def _disputed(corpus: Corpus) -> list[dict[str, str]]:
    """Return the labels of this corpus that were looked at and found wrong, with the reasons."""
    lines = (Path(__file__).parent / "disputed.jsonl").read_text().splitlines()
    rows: list[dict[str, str]] = [json.loads(line) for line in lines]
    known = {(pair.a, pair.b): pair.kind for pair in corpus.natural} | {
        (pair.a, pair.b): pair.kind for pair in corpus.lookalikes
    }
    return [
        row
        for row in rows
        if known.get((row["a"], row["b"]), "unrelated") == row["label"]
        and {row["a"], row["b"]} <= set(corpus.entries)
    ]


async def _ask(options: Options, entries: list[Entry], queries: list[Query], rows: Rows) -> dict[str, str]:
    if not options.modes:
        return {}
    async with EmbeddedVision(options.work / "index", processes=options.processes) as vision:
        failed = await index(vision, entries, workers=options.processes)
        for mode, sheets in options.modes.items():
            some = queries if sheets is None else _first_sheets(queries, sheets)
            await ask_engine(vision, some, mode, rows, seed=options.seed, workers=options.processes)
    return failed


def _first_sheets(queries: list[Query], count: int) -> list[Query]:
    """Keep all transforms of the first *count* sheets, and no pairs."""
    made = [query for query in queries if not query.paired]
    sheets = list(dict.fromkeys(query.entry.id for query in made))[:count]
    return [query for query in made if query.entry.id in sheets]


def _corpus(options: Options) -> Corpus:
    if options.corpus is not None:
        return load(options.corpus, sources=options.sources)
    return generated(options.work / "samples", parts=options.parts, seed=options.seed)


def _indexed(corpus: Corpus, options: Options) -> list[Entry]:
    """Choose what is indexed: generated copies are asked for, not indexed, but for the pairs' sake."""
    entries = [
        entry
        for entry in corpus.entries.values()
        if entry.transform in {"", "format", "revision", "variant", "opposite", "original"}
    ]
    if options.index is not None and options.index < len(entries):
        entries = random.Random(options.seed).sample(entries, options.index)
    return sorted(entries, key=lambda entry: entry.id)


def _worded(errors: Iterable[str]) -> str:
    return "; ".join(f"{count} times: {text}" for text, count in Counter(errors).most_common(5))


def _modes_text(options: Options) -> str:
    return ", ".join(
        mode if sheets is None else f"{mode} ({sheets} sheets)" for mode, sheets in options.modes.items()
    )


def _modes(text: str) -> dict[str, int | None]:
    modes: dict[str, int | None] = {}
    if text == "none":
        return modes
    for part in text.split(","):
        name, _, sheets = part.partition("=")
        modes[str(Mode(name))] = int(sheets) if sheets else None
    return modes


def _options() -> Options:
    description = (__doc__ or "").split("\n")[1]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=description)
    parser.add_argument("--corpus", type=Path, help="folder with manifest.jsonl; default: generated samples")
    parser.add_argument(
        "--work", type=Path, default=Path("build/accuracy"), help="index, answers and reports"
    )
    parser.add_argument("--index", type=int, help="index only so many drawings, chosen by the seed")
    parser.add_argument("--queries", type=int, default=40, help="sheets asked for with every transform")
    parser.add_argument("--pairs", type=int, default=40, help="pairs asked for, of each kind")
    parser.add_argument("--strangers", type=int, default=40, help="indexed sheets asked for as they are")
    parser.add_argument(
        "--sources", action="store_true", help="take DXF, PDF, ... files instead of their pictures"
    )
    parser.add_argument("--onnx", type=Path, help="an image embedding to measure beside the hashes")
    parser.add_argument(
        "--modes",
        type=_modes,
        default=_modes("balanced"),
        help="such as fast,balanced,precise=10 (=sheets), or none",
    )
    parser.add_argument("--parts", type=int, default=40, help="parts generated where no corpus is given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="child processes")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave the hashes out")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
