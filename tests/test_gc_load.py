"""`dedup2d gc` again and again, also killed, beside services and workers that are busy."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.protocols import FileStore
from tests.cli_support import command
from tests.deployment import Deployment, deployment, terminated, until
from tests.s3_support import pieces

pytestmark = [pytest.mark.timeout(180), pytest.mark.deployment]

DAYS = 3 * 86_400.0
JOBS = 40
ORPHANS = 25


@contextmanager
def all_files_old(directory: Path) -> Iterator[None]:
    """Let each file, once it is under its key, look days old."""
    stop = threading.Event()

    def age() -> None:
        while not stop.wait(0.005):
            for path in directory.glob("*+/*"):
                with suppress(FileNotFoundError):
                    os.utime(path, (time.time() - DAYS, time.time() - DAYS))

    thread = threading.Thread(target=age)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


AHEAD = [
    sys.executable,
    "-c",
    (
        "import sys, time; now = time.time; time.time = lambda: now() + 3 * 86_400\n"
        "from dedup2d.cli import main; sys.exit(main(['gc']))"
    ),
]
"""A gc on a machine whose clock is three days ahead."""


@contextmanager
def gc_in_a_loop(here: Deployment, arguments: list[str]) -> Iterator[list[int]]:
    """Run gc after gc; every second one is killed somewhere. The list has the exit codes."""
    stop, codes = threading.Event(), list[int]()

    def loop() -> None:
        while not stop.is_set():
            process = here.running(arguments, "gc")
            assert process.process is not None
            if len(codes) % 2:
                time.sleep(random.uniform(0.3, 0.8))
                process.kill()
            codes.append(process.process.wait(60))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield codes
    finally:
        stop.set()
        thread.join()


async def lay_orphans(store: FileStore) -> None:
    async with store:
        for number in range(ORPHANS):
            await store.put(f"acme/{number:032x}", pieces(b"nobody's"))


async def count(store: FileStore) -> int:
    async with store:
        return len(await store.list())


def test_under_load_nothing_live_is_deleted_and_all_else_is(tmp_path: Path) -> None:
    """
    If this fails, a gc on a schedule makes jobs fail, or leaves behind what it is for.

    All files look days old, also those of jobs that wait and run: only the job store keeps them. Workers
    leave the files of final jobs where they are.
    """
    settings = {
        "DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH": "0",
        "DEDUP2D_FILE_STORAGE_RETENTION_SECONDS": "300",
    }
    with deployment(tmp_path, stub=("--mode", "slow", "--slow-seconds", "0.5"), **settings) as here:
        api = here.api()
        workers = [here.worker("--concurrency", "2") for _ in range(2)]
        files = tmp_path / "files"
        for number in range(ORPHANS):
            (files / "gone+").mkdir(exist_ok=True)
            (files / "gone+" / f"{number:032x}").write_bytes(b"nobody's")
        with all_files_old(files), gc_in_a_loop(here, command("gc")) as codes:
            ids = [api.submit() for _ in range(JOBS)]
            until(lambda: not api.jobs("pending") and not api.jobs("in_progress"), seconds=90)
            until(lambda: len(codes) >= 6, seconds=60)
        ended = {job["job_id"]: job["status"] for job in api.jobs()}
        assert ended == dict.fromkeys(ids, "completed")
        assert codes.count(0) >= 3
        last = here.running(command("gc"), "gc")
        assert last.process is not None
        assert last.process.wait(60) == 0
        assert here.files() == []
        assert [terminated(worker) for worker in workers] == [0, 0]


def test_on_s3_nothing_live_is_deleted(tmp_path: Path) -> None:
    """
    If this fails, a gc on a machine whose clock is wrong deletes what is just being submitted.

    It is three days ahead of the bucket, by whose clock the files are young.
    """
    settings = {"DEDUP2D_FILE_STORAGE_RETENTION_SECONDS": "300", "DEDUP2D_S3_PREFIX": "uploads"}
    with deployment(tmp_path, s3=True, stub=("--mode", "slow", "--slow-seconds", "0.3"), **settings) as here:
        assert here.s3 is not None
        store = S3FileStore(
            S3Options(
                bucket=here.s3.bucket,
                endpoint=here.s3.endpoint,
                prefix="uploads",
                access_key=here.s3.access_key,
                secret_key=here.s3.secret_key,
            )
        )
        anyio.run(lay_orphans, store)
        api, worker = here.api(), here.worker("--concurrency", "2")
        with gc_in_a_loop(here, AHEAD) as codes:
            ids = [api.submit() for _ in range(20)]
            until(lambda: not api.jobs("pending") and not api.jobs("in_progress"), seconds=90)
            until(lambda: len(codes) >= 4, seconds=60)
        assert {job["job_id"]: job["status"] for job in api.jobs()} == dict.fromkeys(ids, "completed")
        assert codes.count(0) >= 2
        assert terminated(worker) == 0
        left = anyio.run(count, store)
        assert left == ORPHANS
