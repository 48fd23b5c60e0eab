"""A process that grows an index and stores its segments until it is killed; run by test_engine_segments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.features import Features
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint
from dedup2d.engine.live import LiveCandidates
from dedup2d.engine.records import FileRecord, SheetRecord


def made_up(seed: int) -> Fingerprint:
    """A fingerprint of no drawing, told from others by everything in it."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(20, 40))
    features = Features(
        places=rng.uniform(0, 1000, (count, 2)).astype(np.float32),
        angles=rng.uniform(0, 6, count).astype(np.float32),
        sizes=rng.uniform(4, 40, count).astype(np.float32),
        codes=rng.integers(0, 256, (count, 32), np.uint8),
    )
    code, parts = rng.bytes(32), tuple(rng.bytes(32) for _ in range(seed % 3))
    plain = Fingerprint(1000, 800, (0, 0, 1000, 800), code, 1.0, features, parts=parts)
    return Fingerprint.from_bytes(plain.to_bytes())


def add(catalogue: Catalogue, seed: int, *, name: str = "") -> str:
    """Add a made-up drawing and return its id."""
    sheet = SheetRecord(
        page=1,
        sheet="",
        format="png",
        width=10,
        height=10,
        fingerprint_version=FINGERPRINT_VERSION,
        fingerprint=made_up(seed).to_bytes(),
        ink=b"",
    )
    file = FileRecord(file_hash=f"{seed:064x}", file_name=name or f"{seed}.png", size=1)
    return catalogue.add(file, [sheet])[0][0]


def opened(directory: Path) -> Catalogue:
    return Catalogue(directory / "catalogue.sqlite3", fingerprint_version=FINGERPRINT_VERSION)


def caught_up(live: LiveCandidates) -> LiveCandidates:
    while live.catch_up():
        pass
    return live


def grow(directory: Path, start: int) -> None:
    catalogue = opened(directory)
    live = LiveCandidates(catalogue, directory / "segments")
    os.write(1, b"ready\n")
    for seed in range(start, start + 100_000):
        name = add(catalogue, seed)
        if seed % 5 == 0:
            catalogue.remove(name)
        if seed % 20 == 0:
            caught_up(live)
            os.write(1, f"{len(live)}\n".encode())


if __name__ == "__main__":
    grow(Path(sys.argv[1]), int(sys.argv[2]))
