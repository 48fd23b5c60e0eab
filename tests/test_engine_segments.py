"""Segments on disk: the same answers whatever an index went through, and whatever happens to the files."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dedup2d.engine import live as live_module
from dedup2d.engine import merging
from dedup2d.engine.candidates import Candidate
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.live import LiveCandidates
from dedup2d.engine.segment_files import SegmentFiles
from dedup2d.engine.segments import Row, segment_of
from dedup2d.vision import indexes as indexes_module
from dedup2d.vision.indexes import Indexes

from .segment_writer import add, caught_up, made_up, opened

WRITER = Path(__file__).with_name("segment_writer.py")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_LEAST_FRESH", 8)
    monkeypatch.setattr(merging, "MOST_DRAWINGS", 60)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = opened(tmp_path)
    yield made
    made.close()


def following(catalogue: Catalogue, directory: Path | None) -> LiveCandidates:
    return caught_up(LiveCandidates(catalogue, directory and directory / "segments"))


def settled(live: LiveCandidates) -> LiveCandidates:
    live.close()
    live.store()
    return caught_up(live)


def answers(live: LiveCandidates, seeds: range = range(0, 200, 17)) -> list[list[Candidate]]:
    return [live.query(made_up(seed), limit=30) for seed in seeds]


def files(directory: Path) -> list[Path]:
    return sorted((directory / "segments").glob("*.segment"))


def test_histories_do_not_matter(tmp_path: Path, catalogue: Catalogue) -> None:
    """Two processes, or one after a restart, would answer differently about the same drawings."""
    grown = following(catalogue, tmp_path)
    ids = []
    for seed in range(200):
        ids.append(add(catalogue, seed))
        if seed % 3 == 0:
            caught_up(grown)
        if seed % 7 == 0:
            catalogue.remove(ids[seed // 2])
            ids[seed // 2] = add(catalogue, seed // 2, name=f"again{seed}")
    settled(caught_up(grown))
    restarted, in_memory, alone = (
        following(catalogue, tmp_path),
        following(catalogue, None),
        LiveCandidates(catalogue),
    )
    while alone.catch_up(limit=3):
        pass

    assert len(files(tmp_path)) == sum(bool(one.name) for one in grown.segments) >= 3
    assert sum(map(len, restarted.segments)) > 150
    expected = answers(following(catalogue, None))
    assert all(found[0].key for found in expected)
    assert [len(one) for one in (grown, restarted, in_memory, alone)] == [200] * 4
    assert answers(grown) == answers(restarted) == answers(in_memory) == answers(alone) == expected
    for one in ids[::2]:
        catalogue.remove(one)
    for one in (grown, restarted, in_memory):
        caught_up(one)
    expected = answers(following(catalogue, None))
    assert answers(grown) == answers(restarted) == answers(in_memory) == expected
    assert answers(settled(grown)) == answers(following(catalogue, tmp_path)) == expected
    assert sum(len(one) - one.living for one in grown.segments) < 30


def test_a_start_reads_no_fingerprints(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process would read the whole index first: minutes at 100,000 drawings."""
    for seed in range(50):
        add(catalogue, seed)
    grown = settled(following(catalogue, tmp_path))
    fresh = len(grown) - sum(one.living for one in grown.segments)
    read: list[int] = []
    original = catalogue.fingerprints_of
    monkeypatch.setattr(catalogue, "fingerprints_of", lambda keys: read.extend(keys) or original(keys))

    assert len(following(catalogue, tmp_path)) == 50
    assert len(read) == fresh < 16


def test_made_anew_fingerprints_replace_the_stored(tmp_path: Path, catalogue: Catalogue) -> None:
    """After a rebuild the old fingerprints would still be searched, in this process or after a restart."""
    for seed in range(40):
        add(catalogue, seed)
    grown = settled(following(catalogue, tmp_path))
    catalogue.replace_fingerprints({key: made_up(500 + key).to_bytes() for key in range(1, 21)})
    restarted = following(catalogue, tmp_path)

    for one in (caught_up(grown), restarted):
        assert one.query(made_up(503), limit=1)[0].key == 3
        assert all(found.key != 3 or found.score < 0.5 for found in one.query(made_up(2), limit=9))
        assert len(one) == 40


def damaged(path: Path) -> Iterator[bytes]:
    """What may have become of a file."""
    data = path.read_bytes()
    yield b""
    yield data[:50]
    yield data[:-64]
    yield data + bytes(64)
    yield b"x" + data[1:]
    yield data[:20] + b"y" + data[21:]
    yield data[:40] + b"\xff" + data[41:]
    yield data[:200] + b"z" + data[201:]


def test_damaged_files_are_made_again(tmp_path: Path, catalogue: Catalogue) -> None:
    """A disk fault in a cache would make searches fail, or find nothing."""
    for seed in range(40):
        add(catalogue, seed)
    expected = answers(settled(following(catalogue, tmp_path)))
    for data in damaged(files(tmp_path)[0]):
        path = files(tmp_path)[0]
        path.unlink()  # mapped ones must stay as they are
        path.write_bytes(data)
        again = following(catalogue, tmp_path)

        assert answers(again) == expected
        settled(again)
        assert path not in files(tmp_path)


def test_damage_inside_tables_breaks_no_search(tmp_path: Path, catalogue: Catalogue) -> None:
    """One wrong number in a file would bring every search down."""
    for seed in range(40):
        add(catalogue, seed)
    settled(following(catalogue, tmp_path)).close()
    for path in files(tmp_path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :] = random.Random(1).randbytes(len(data) - len(data) // 2)
        path.unlink()
        path.write_bytes(data)

    assert len(answers(following(catalogue, tmp_path))) == 12


def test_files_of_another_catalogue_or_a_later_time_do_not_count(tmp_path: Path) -> None:
    """A restored backup would answer with drawings that it never had."""
    first, second, old = (tmp_path / name for name in ("first", "second", "old"))
    for directory, start in ((first, 0), (second, 100)):
        directory.mkdir()
        catalogue = opened(directory)
        for seed in range(start, start + 20):
            add(catalogue, seed)
        if directory == first:
            catalogue.close()
            shutil.copytree(first, old)
            catalogue = opened(first)
        for seed in range(start + 20, start + 40):
            add(catalogue, seed)
        settled(following(catalogue, directory)).close()
        catalogue.close()
    shutil.copytree(first / "segments", old / "segments")
    shutil.copytree(second / "segments", first / "segments", dirs_exist_ok=True)
    restored, mixed = opened(old), opened(first)
    for seed in range(300, 320):
        add(restored, seed)  # gets the keys and changes of what the backup did not have

    assert answers(following(restored, old)) == answers(following(restored, None))
    assert following(restored, old).query(made_up(305), limit=1)[0].l2 > 0.5
    assert answers(following(mixed, first)) == answers(following(mixed, None))
    restored.close()
    mixed.close()


def test_a_deleted_folder_is_written_again(tmp_path: Path, catalogue: Catalogue) -> None:
    """Whoever deletes the cache would break the running service, or it would never come back."""
    for seed in range(40):
        add(catalogue, seed)
    grown = settled(following(catalogue, tmp_path))
    expected = answers(grown)
    shutil.rmtree(tmp_path / "segments")

    assert answers(caught_up(grown)) == expected
    settled(grown)
    assert files(tmp_path)
    assert answers(grown) == answers(following(catalogue, tmp_path)) == expected


def test_a_disk_that_refuses_does_not_stop_searches(tmp_path: Path, catalogue: Catalogue) -> None:
    """On a full or read-only disk nothing would be found."""
    (tmp_path / "segments").write_text("in the way")
    for seed in range(40):
        add(catalogue, seed)
    refused = settled(following(catalogue, tmp_path))

    assert answers(refused) == answers(following(catalogue, None))


def test_one_writes_at_a_time_and_clears_away(tmp_path: Path) -> None:
    """Two processes would write the same, or what killed ones left would fill the disk."""
    held, other = SegmentFiles(tmp_path, "salt"), SegmentFiles(tmp_path, "salt")
    (tmp_path / "1-3-ab.segment.unfinished").touch()
    (tmp_path / "0-2-ab.segment").touch()
    (tmp_path / "9-9-ab.segment").touch()
    with held.turn() as ours, other.turn() as theirs:
        assert (ours, theirs) == (True, False)
        held.clear_away()
    with other.turn() as theirs:
        assert theirs

    assert sorted(path.name for path in tmp_path.iterdir()) == ["9-9-ab.segment", "lock"]


def test_a_stored_segment_is_the_same(tmp_path: Path) -> None:
    """What was written would not be what is read."""
    made = segment_of([Row(seed, seed, seed, made_up(seed)) for seed in (5, 3, 9)])
    stored = SegmentFiles(tmp_path, "salt").write(made)

    assert stored.sizes == made.sizes
    for name, array in made.arrays.items():
        np.testing.assert_array_equal(array, stored.arrays[name])
    assert SegmentFiles(tmp_path, "other").open(str(stored.name)) is None


@contextmanager
def growing(directory: Path, start: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.segment_writer", directory, str(start)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=WRITER.parents[1],
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline()


@pytest.mark.once
def test_a_killed_writer_harms_nothing(tmp_path: Path) -> None:
    """After kill -9 the index would answer wrongly, or the cache would grow for ever."""
    rng = random.Random(5)
    for attempt in range(6):
        with growing(tmp_path, attempt * 10_000 + 1) as process:
            lines(process, rng.randrange(8, 14))
            time.sleep(rng.random() * 0.05)
        catalogue = opened(tmp_path)
        seeds = range(attempt * 10_000 + 1, attempt * 10_000 + 60, 13)

        assert answers(following(catalogue, tmp_path), seeds) == answers(following(catalogue, None), seeds)
        catalogue.close()
    catalogue = opened(tmp_path)
    last = settled(following(catalogue, tmp_path))
    assert {path.name for path in files(tmp_path)} == {one.name for one in last.segments if one.name}
    assert not list((tmp_path / "segments").glob("*.unfinished"))
    catalogue.close()


@pytest.mark.once
def test_processes_share_what_one_wrote(tmp_path: Path) -> None:
    """A service beside an indexing run would miss drawings, or show removed ones."""
    catalogue = opened(tmp_path)
    reader = following(catalogue, tmp_path)
    with growing(tmp_path, 1) as one, growing(tmp_path, 50_001) as two:
        for _ in range(6):
            lines(one, 4)
            lines(two, 4)
            caught_up(reader)
            assert reader.query(made_up(41), limit=1)[0].l2 > 0.5
            assert all(found.l2 < 0.5 for found in reader.query(made_up(40), limit=3))
    caught_up(reader)
    assert len(reader) == catalogue.counts().drawings
    seeds = range(1, 200, 31)
    assert answers(reader, seeds) == answers(following(catalogue, None), seeds)
    assert answers(settled(reader), seeds) == answers(following(catalogue, tmp_path), seeds)
    catalogue.close()


async def test_adding_alone_stores_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first search after a long indexing run would read the whole index."""
    monkeypatch.setattr(indexes_module, "_TENDED", 10)
    indexes = Indexes(tmp_path, open_indexes=2, held_drawings=99, clock=time.time, busy_seconds=5.0)
    for seed in range(20):
        async with indexes.use("tenant", create=True) as index:
            assert index is not None
            add(index.catalogue, seed)
    await indexes.close()

    assert files(tmp_path / "tenant")
    assert not [one for one in threading.enumerate() if one.name == "segments"]
