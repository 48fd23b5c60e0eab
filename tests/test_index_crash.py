"""An index whose writer is killed with SIGKILL, and one that several processes use at once."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from attrs import field, frozen

from dedup2d.engine.catalogue import Catalogue
from dedup2d.testing.plans import drawing_file, plan
from dedup2d.types import SearchParams
from dedup2d.vision.embedded import EmbeddedVision

from . import index_writer

pytestmark = pytest.mark.once

WRITER = Path(__file__).with_name("index_writer.py")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@frozen
class Writer:
    """A process that changes an index, and what it has reported so far."""

    process: subprocess.Popen[str]
    lines: list[list[str]] = field(factory=list)
    reader: threading.Thread | None = None

    def wait_for(self, word: str, count: int = 1, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while sum(line[0] == word for line in self.lines) < count:
            assert time.monotonic() < deadline, self.lines
            assert self.process.poll() is None, self.lines
            time.sleep(0.002)


@contextmanager
def writing(what: str, where: Path, number: int) -> Iterator[Writer]:
    process = subprocess.Popen(
        [sys.executable, WRITER, what, where, str(number)], stdout=subprocess.PIPE, text=True
    )
    writer = Writer(process)
    assert process.stdout is not None
    out = process.stdout
    reader = threading.Thread(target=lambda: writer.lines.extend(line.split() for line in out))
    reader.start()
    try:
        yield writer
    finally:
        process.kill()
        process.wait()
        reader.join()
        out.close()


def check_whole(path: Path) -> int:
    """Assert that the database is sound and has whole files only; return how many."""
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
        files = plain.execute(
            "SELECT f.sheets, count(d.key), count(p.key), count(i.key) FROM files AS f"
            " LEFT JOIN drawings AS d ON d.file_key = f.file_key LEFT JOIN fingerprints AS p ON p.key = d.key"
            " LEFT JOIN pictures AS i ON i.key = d.key GROUP BY f.file_key"
        ).fetchall()
        counted = plain.execute("SELECT sum(drawings) FROM counts").fetchone()[0] or 0
    plain.close()
    for wanted, drawings, fingerprints, pictures in files:
        assert 1 <= drawings <= wanted
        assert drawings == fingerprints == pictures
    assert counted == sum(found for _, found, *_ in files)
    return len(files)


def reported(lines: list[list[str]]) -> dict[str, set[str]]:
    """Return the drawings that were reported added and not asked to be removed, by file or source."""
    alive: dict[str, set[str]] = {}
    for word, *rest in lines:
        if word == "added":
            alive[rest[0]] = set(rest[1:])
        elif word == "removing":
            for ids in alive.values():
                ids.discard(rest[0])
    return alive


def check_reported(path: Path, lines: list[list[str]]) -> None:
    """Assert that what was reported is there, but for one source that a later step had replaced."""
    catalogue = Catalogue(path, fingerprint_version=index_writer.VERSION)
    replaced = 0
    for origin, ids in reported(lines).items():
        now = {one.drawing_id for one in catalogue.of_source(origin)}
        if now and not now & ids and ids:
            replaced += 1
            assert len(now) == index_writer.SHEETS
            continue
        for one in ids:
            assert catalogue.drawing(one).drawing_id == one
    catalogue.close()
    assert replaced <= 1


def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    """A power cut or the out-of-memory killer during indexing would cost the index, or half a file."""
    path, rng, files = tmp_path / "catalogue.sqlite3", random.Random(7), 0
    for attempt in range(12):
        with writing("change", path, attempt * 1000 + 1) as writer:
            if attempt % 4:
                writer.wait_for("added", rng.randrange(1, 12))
                time.sleep(rng.random() * 0.02)
            elif attempt:
                writer.wait_for("ready")
                time.sleep(rng.random() * 0.01)
            else:
                time.sleep(rng.uniform(0.2, 0.6))  # while it starts, or makes the database
        if path.exists():
            files = check_whole(path)
            check_reported(path, writer.lines)
    assert files > 10


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Two indexing runs at once would lose drawings or stop each other."""
    path = tmp_path / "catalogue.sqlite3"
    with writing("change", path, 1) as one, writing("change", path, 200_000) as two:
        one.wait_for("added", 15)
        two.wait_for("added", 15)
    check_whole(path)
    for writer in (one, two):
        check_reported(path, writer.lines)


async def test_a_killed_engine_leaves_a_searchable_index(tmp_path: Path) -> None:
    """After kill -9 of `dedup2d index` the next search would fail, or find what was not added."""
    added: set[str] = set()
    for _ in range(2):
        with writing("plans", tmp_path, 50) as writer:
            await anyio.to_thread.run_sync(writer.wait_for, "added", len(added) + 2)
        added |= {line[2] for line in writer.lines if line[0] == "added"}
    check_whole(tmp_path / "tenant" / "catalogue.sqlite3")
    async with EmbeddedVision(tmp_path, processes=1) as vision:
        listed = (await vision.drawings("tenant", limit=500)).drawings
        assert added <= {one.drawing_id for one in listed}
        assert len(listed) <= len(added) + 1
        for seed in (0, len(added) - 1):
            query = drawing_file(plan(seed, compression=1))
            result = await vision.search("tenant", query, SearchParams(compute_diff=False))
            assert result.duplicates[0].file_name == f"plan-{seed}.png"


async def test_a_second_process_finds_what_the_first_adds(tmp_path: Path) -> None:
    """A service would have to be restarted after each run of `dedup2d index`."""
    fast = SearchParams(mode="fast", compute_diff=False)  # type: ignore[arg-type]  # made a mode by its converter
    async with EmbeddedVision(tmp_path, processes=1) as vision:
        with writing("plans", tmp_path, 6) as writer:
            for count in range(1, 5):
                await anyio.to_thread.run_sync(writer.wait_for, "added", count)
                done = sum(line[0] == "added" for line in writer.lines)
                result = await vision.search("tenant", drawing_file(plan(done - 1)), fast)
                assert [match.file_name for match in result.duplicates] == [f"plan-{done - 1}.png"]
                assert result.level_stats["l1"] >= done
