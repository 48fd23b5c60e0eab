"""The queries: what is asked, what is right, made anew from the seed whenever needed."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
from attrs import frozen

from benchmarks.corpus import Corpus, Entry, balanced, balanced_pairs
from benchmarks.transforms import TRANSFORMS, Grey, apply_transform
from dedup2d.readers import read

__all__ = ["EXPECTED", "ITSELF", "Query", "grey_of", "plan"]

ITSELF = "itself"

EXPECTED: dict[str, frozenset[str]] = {
    **dict.fromkeys(TRANSFORMS, frozenset({"identical", "exact"})),
    "mirrored": frozenset({"mirrored"}),
    "stamped": frozenset({"identical", "exact", "revision"}),
    "revised": frozenset({"revision"}),
    **dict.fromkeys(("cropped_70", "cropped_40", "placed", "turned_cropped_scanned"), frozenset({"partial"})),
    "reframed_turned_scanned": frozenset({"identical", "partial"}),
    "natural revision": frozenset({"revision"}),
    "natural format": frozenset({"identical", "exact"}),
    "natural resave": frozenset({"identical", "exact"}),
}
"""Relations that are right for the drawing that the query was made from."""


@frozen(kw_only=True)
class Query:
    """
    One question.

    Args:
        transform: a name of `TRANSFORMS`, `natural ...` / `lookalike ...` for a pair, or `itself` for
            an indexed sheet that is asked for as it is, to see which others are found.
        entry: the sheet that is transformed, or the pair's second one as it is.
        about: the sheet whose relation counts: *entry* itself, or the pair's first one.
    """

    transform: str
    entry: Entry
    about: str

    @property
    def key(self) -> str:
        return f"{self.transform}/{self.entry.id}/{self.about}"

    @property
    def paired(self) -> bool:
        return self.transform not in TRANSFORMS

    def grey(self, seed: int) -> Grey:
        """Return the picture that is asked with."""
        grey = grey_of(self.entry.path)
        if self.paired:
            return grey
        own_seed = zlib.crc32(f"{seed}/{self.transform}/{self.entry.id}".encode())
        return apply_transform(self.transform, grey, own_seed)

    def data(self, seed: int) -> tuple[bytes, str]:
        """Return the file that is asked with, and its suffix: the pair's own file, or a PNG."""
        if self.paired:
            return self.entry.path.read_bytes(), self.entry.path.suffix
        _, packed = cv2.imencode(".png", self.grey(seed), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return packed.tobytes(), ".png"


def plan(
    corpus: Corpus, indexed: set[str], *, queries: int, pairs: int, strangers: int, seed: int
) -> list[Query]:
    """
    Choose the queries.

    Args:
        corpus: what is asked about.
        indexed: ids of the sheets that can be found.
        queries: sheets for each transform.
        pairs: most pairs of each kind.
        strangers: most sheets that are asked for as they are.
        seed: of the choice.
    """
    return [
        *_paired(corpus, indexed, pairs, seed),
        *_made(corpus, indexed, queries, seed),
        *_themselves(corpus, indexed, strangers, seed),
    ]


def _themselves(corpus: Corpus, indexed: set[str], count: int, seed: int) -> Iterator[Query]:
    known = [entry for entry in corpus.entries.values() if entry.id in indexed]
    for entry in balanced(known, count, random.Random(seed + 2)):
        yield Query(transform=ITSELF, entry=entry, about=entry.id)


def _made(corpus: Corpus, indexed: set[str], count: int, seed: int) -> Iterator[Query]:
    rng = random.Random(seed)
    real = [entry for entry in corpus.entries.values() if entry.quality == "real" and entry.id in indexed]
    chosen = balanced(real, count, rng)
    for entry in chosen:
        for transform in TRANSFORMS:
            yield Query(transform=transform, entry=entry, about=entry.id)


def _paired(corpus: Corpus, indexed: set[str], count: int, seed: int) -> Iterator[Query]:
    rng = random.Random(seed + 1)
    for label, pairs in (("natural", corpus.natural), ("lookalike", corpus.lookalikes)):
        known = [pair for pair in pairs if pair.a in indexed]
        for pair in balanced_pairs(known, count, rng):
            yield Query(transform=f"{label} {pair.kind}", entry=corpus.entries[pair.b], about=pair.a)


def grey_of(path: Path) -> Grey:
    """Return the first sheet of a file as the product's readers see it."""
    return read(path, path.name)[0].raster
