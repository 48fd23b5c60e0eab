"""
Measures how well the engine finds drawings, beside the usual perceptual hashes.

    python -m benchmarks.accuracy [--corpus DIR] [--index N] [--queries N] [--modes fast,precise=10]

Indexes a corpus (generated samples if none is given), asks seeded queries for every transform and for
the pairs that the corpus lists, and writes `report.md` and `report.json` into the work folder.
Stopped, it goes on where it was; called again with more queries, it asks those that are missing.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import anyio
from attrs import frozen

from benchmarks.accuracy.asking import ask_engine, ask_peers
from benchmarks.accuracy.queries import Query, plan
from benchmarks.accuracy.report import as_json, as_markdown
from benchmarks.accuracy.rows import Rows, same_setup
from benchmarks.accuracy.scores import pair_scores, scores
from benchmarks.corpus import Corpus, Entry, generated, load
from benchmarks.engine import index
from benchmarks.machine import conditions
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
    same_setup(options.work, setup)
    rows = Rows(options.work / "answers.jsonl")
    rows.mend()
    queries = plan(
        corpus,
        {entry.id for entry in entries},
        queries=options.queries,
        pairs=options.pairs,
        seed=options.seed,
    )
    if options.peers:
        ask_peers(entries, queries, rows, options.work / "peers.npz", seed=options.seed)
    failed = anyio.run(_ask, options, entries, queries, rows)
    planned = {query.key for query in queries}
    answers = [answer for answer in rows if answer.key in planned]
    found, pairs = scores(corpus, answers), pair_scores(answers)
    stated = {
        **setup,
        "sheets queried per transform": options.queries,
        "pairs of each kind, at most": options.pairs,
        "not indexed": _worded(failed.values()) or "none",
        "failed queries": _worded(answer.error for answer in answers if answer.error) or "none",
        "modes": _modes_text(options),
        **conditions(),
    }
    (options.work / "report.json").write_text(as_json(stated, found, pairs))
    report = as_markdown(stated, found, pairs)
    (options.work / "report.md").write_text(report)
    print(report)


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
        return load(options.corpus)
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
