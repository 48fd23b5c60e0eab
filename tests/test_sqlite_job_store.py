"""The SQLite job store where a file on disk matters: crashes, processes, versions, growth."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from dedup2d.errors import (
    InternalError,
    JobNotFoundError,
    JobQueueFullError,
    StoreUnavailableError,
    StoreVersionError,
    UnreadableRecordError,
)
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.testing import ManualClock
from dedup2d.types import Job, JobStatus, SearchParams, SearchResult

KILLED = """
import sys, time, anyio
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.types import Job, JobStatus, SearchResult

def job(name):
    return Job(job_id=name, tenant_id="t", file_key=name, file_name="a.png", file_hash="h",
               file_size=1, created_at=time.time())

async def main():
    async with SQLiteJobStore(sys.argv[1]) as store:
        for number in range(10**9):
            name = f"{sys.argv[2]}-{number}"
            await store.admit(job(name), max_jobs=10**6, max_jobs_per_tenant=10**6)
            print("admitted", name, flush=True)
            claimed = await store.claim("token", lease_seconds=60, job_id=name)
            if number % 3:
                await store.finish(name, "token", status=JobStatus.COMPLETED, ttl_seconds=1000,
                                   result=SearchResult(file_hash=name))
                print("finished", name, flush=True)

anyio.run(main)
"""

ADMITTING = """
import sys, time, anyio
from dedup2d.errors import JobQueueFullError
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.types import Job

async def main():
    async with SQLiteJobStore(sys.argv[1]) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        outcomes = []

        async def ask(number):
            name = f"{sys.argv[2]}-{number}"
            job = Job(job_id=name, tenant_id="t", file_key=name, file_name="a.png", file_hash="h",
                      file_size=1, created_at=time.time())
            try:
                await store.admit(job, max_jobs=10, max_jobs_per_tenant=10)
            except JobQueueFullError:
                outcomes.append("full")
            else:
                outcomes.append("admitted")

        async with anyio.create_task_group() as tasks:
            for number in range(25):
                tasks.start_soon(ask, number)
        print(*outcomes, flush=True)

anyio.run(main)
"""

CLAIMING = """
import sys, anyio
from dedup2d.jobs.sqlite import SQLiteJobStore

async def main():
    async with SQLiteJobStore(sys.argv[1]) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        claimed = []

        async def take(number):
            job = await store.claim(f"{sys.argv[2]}-{number}", lease_seconds=60)
            if job is not None:
                claimed.append(job.job_id)

        async with anyio.create_task_group() as tasks:
            for number in range(25):
                tasks.start_soon(take, number)
        print(*claimed, flush=True)

anyio.run(main)
"""


FULL_DISK = """
import resource, sys, anyio
from dedup2d.errors import StoreUnavailableError
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.types import Job, JobStatus, SearchResult

async def main():
    async with SQLiteJobStore(sys.argv[1]) as store:
        async def fill():
            for number in range(10**6):
                job = Job(job_id=f"job-{number}", tenant_id="t", file_key="k", file_name="x" * 5000,
                          file_hash="h", file_size=1, created_at=float(number))
                await store.admit(job, max_jobs=10**6, max_jobs_per_tenant=10**6)
                print("admitted", job.job_id, flush=True)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            await fill()
        except StoreUnavailableError as error:
            print("refused", error, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await store.claim("token", lease_seconds=10)
        print("goes on", flush=True)

anyio.run(main)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_job(name: str, **fields: Any) -> Job:
    given: dict[str, Any] = {
        "tenant_id": "tenant",
        "file_key": name,
        "file_name": "a.png",
        "file_hash": "hash",
        "file_size": 1,
        "created_at": 1000.0,
    }
    return Job(job_id=name, **(given | fields))


async def admit(store: SQLiteJobStore, name: str, **fields: Any) -> Job:
    return await store.admit(make_job(name, **fields), max_jobs=10_000, max_jobs_per_tenant=10_000)


async def complete(store: SQLiteJobStore, name: str, *, ttl_seconds: float = 100.0) -> Job:
    await store.claim("token", lease_seconds=60, job_id=name)
    return await store.finish(
        name,
        "token",
        status=JobStatus.COMPLETED,
        ttl_seconds=ttl_seconds,
        result=SearchResult(file_hash=name),
    )


def start(script: str, path: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def together(script: str, path: Path) -> list[str]:
    """Run *script* in two processes that begin their work at the same time; return their words."""
    workers = [start(script, path, name) for name in ("a", "b")]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [word for worker in workers for word in worker.communicate(timeout=50)[0].split()]


async def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    """If this fails, a deploy forgets the jobs that customers wait for."""
    clock = ManualClock()
    async with SQLiteJobStore(tmp_path / "new" / "jobs.db", clock=clock) as store:
        waits = await admit(store, "waits", params=SearchParams(mode="fast"), idempotency_key="k")
        await admit(store, "done")
        done = await complete(store, "done")
        await admit(store, "runs")
        await store.claim("mine", lease_seconds=60, job_id="runs")

    async with SQLiteJobStore(tmp_path / "new" / "jobs.db", clock=clock) as store:
        assert await store.get("waits") == waits
        assert await store.get("done") == done
        assert await store.heartbeat("runs", "mine", lease_seconds=60) is False


async def test_kill_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    """If this fails, kill -9 loses admitted jobs, or leaves a completed one without its result."""
    path = tmp_path / "jobs.db"
    admitted: set[str] = set()
    finished: set[str] = set()
    for turn in range(6):
        worker = start(KILLED, path, f"turn{turn}")
        assert worker.stdout is not None
        words = [worker.stdout.readline().split() for _ in range(2 + turn * 7)]
        worker.send_signal(signal.SIGKILL)
        words += [line.split() for line in worker.stdout if line.endswith("\n")]
        worker.communicate()
        admitted |= {name for what, name in words if what == "admitted"}
        finished |= {name for what, name in words if what == "finished"}

        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        async with SQLiteJobStore(path) as store:
            for name in admitted:
                job = await store.get(name)
                wanted = SearchResult(file_hash=name) if job.status is JobStatus.COMPLETED else None
                assert job.result == wanted
                assert name not in finished or job.status is JobStatus.COMPLETED
    assert len(admitted) > 50
    assert len(finished) > 30


async def test_two_processes_share_the_places(tmp_path: Path) -> None:
    """If this fails, two processes on one store admit more jobs than there are places."""
    words = await anyio.to_thread.run_sync(together, ADMITTING, tmp_path / "jobs.db")

    assert (words.count("admitted"), words.count("full")) == (10, 40)
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        assert (await store.counts()).pending == 10


async def test_two_processes_share_no_job(tmp_path: Path) -> None:
    """If this fails, two processes on one store run the same job at once."""
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        for number in range(20):
            await admit(store, f"job-{number}")

    claimed = await anyio.to_thread.run_sync(together, CLAIMING, tmp_path / "jobs.db")

    assert sorted(claimed) == sorted(f"job-{number}" for number in range(20))


async def test_opening_a_file_twice_leaves_its_locks_alone(tmp_path: Path) -> None:
    """If this fails, another process deletes the log of a store, and what is admitted then is in no file."""
    path = tmp_path / "jobs.db"
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "print(*c.execute('SELECT count(*) FROM jobs').fetchone()); c.close()"
    )

    async def seen_by_another_process() -> int:
        return int((await anyio.run_process([sys.executable, "-c", script, str(path)])).stdout)

    async with SQLiteJobStore(path) as store:
        await admit(store, "before")
        async with SQLiteJobStore(path) as second:
            await second.get("before")
        assert await seen_by_another_process() == 1
        await admit(store, "after")
        assert await seen_by_another_process() == 2


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """If this fails, an old version damages the jobs of a new one after a rollback."""
    async with SQLiteJobStore(tmp_path / "jobs.db"):
        pass
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()

    with pytest.raises(StoreVersionError, match="format 7, this one knows up to 2"):
        async with SQLiteJobStore(tmp_path / "jobs.db"):
            pass


_FORMAT_1 = """
DROP INDEX jobs_callbacks;
DROP INDEX jobs_callbacks_of_tenant;
ALTER TABLE jobs DROP COLUMN callback_due;
PRAGMA user_version = 1;
"""


async def test_a_file_of_the_version_before_callbacks_goes_on(tmp_path: Path) -> None:
    """If this fails, an update of the program loses the jobs stored before it, or never sends a callback."""
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        await admit(store, "job")
        await complete(store, "job", ttl_seconds=10**6)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        for job_id, text in connection.execute("SELECT job_id, record FROM jobs").fetchall():
            record = {name: each for name, each in json.loads(text).items() if "callback" not in name}
            connection.execute("UPDATE jobs SET record = ? WHERE job_id = ?", (json.dumps(record), job_id))
        connection.executescript(_FORMAT_1)
    connection.close()

    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        old = await store.get("job")
        assert (old.status, old.callback_status) == (JobStatus.COMPLETED, None)
        assert old.result is not None
        await admit(store, "new", callback_url="https://receiver.example/")
        await store.cancel("new", "tenant", ttl_seconds=5)
        claimed = await store.claim_callback("token", lease_seconds=5)
        assert claimed is not None
        assert claimed.job_id == "new"


async def test_records_of_other_versions_are_read(tmp_path: Path) -> None:
    """If this fails, an update of the program cannot read the jobs stored before it."""
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        await admit(store, "job")
        with sqlite3.connect(tmp_path / "jobs.db") as connection:
            record = json.loads(connection.execute("SELECT record FROM jobs").fetchone()[0])
            del record["losses"], record["progress"], record["params"]["enable_ml"]
            record["invented_later"] = {"a": [1]}
            record["params"]["also_later"] = True
            connection.execute("UPDATE jobs SET record = ?", (json.dumps(record),))
        connection.close()

        assert await store.get("job") == make_job("job")


async def test_one_unreadable_record_stops_no_other_job(tmp_path: Path) -> None:
    """If this fails, one damaged record keeps every job of the machine from being run or listed."""
    clock = ManualClock()
    async with SQLiteJobStore(tmp_path / "jobs.db", clock=clock) as store:
        for name, created_at in (("bad", 1.0), ("bad-too", 2.0), ("good", 3.0)):
            await admit(store, name, created_at=created_at)
        await store.cancel("bad-too", "tenant", ttl_seconds=5)
        with sqlite3.connect(tmp_path / "jobs.db") as connection:
            connection.execute("UPDATE jobs SET record = '{\"mode\":' WHERE job_id LIKE 'bad%'")
        connection.close()

        claimed = await store.claim("token", lease_seconds=10)
        assert claimed is not None
        assert claimed.job_id == "good"
        page = await store.list("tenant", limit=1)
        assert [job.job_id for job in page.jobs] == ["good"]
        page = await store.list("tenant", limit=5, page_token=page.next_page_token)
        assert page.jobs == ()
        with pytest.raises(UnreadableRecordError):
            await store.get("bad")
        clock.advance(6)
        await store.sweep(max_losses=3, ttl_seconds=5)
        assert (await store.list("tenant")).total == 2


async def test_an_unreadable_record_keeps_no_callback_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If this fails, one damaged record keeps all later callbacks from being sent, or fills the log."""
    clock = ManualClock()
    async with SQLiteJobStore(tmp_path / "jobs.db", clock=clock) as store:
        for name in ("bad", "good"):
            await admit(store, name, callback_url="https://receiver.example/")
            await store.cancel(name, "tenant", ttl_seconds=5)
            clock.advance(1)
        with sqlite3.connect(tmp_path / "jobs.db") as connection:
            connection.execute("UPDATE jobs SET record = '{' WHERE job_id = 'bad'")
        connection.close()

        found = [await store.claim_callback("token", lease_seconds=60) for _ in range(20)]
        assert [job and job.job_id for job in found] == ["good", *[None] * 19]
        assert caplog.text.count("cannot be read") == 1


async def test_every_statement_uses_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the store gets slower with every job that it has ever finished."""
    statements: set[str] = set()
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(statements.add)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        for number in range(30):
            await admit(store, f"job-{number}", idempotency_key=f"key-{number}", tenant_id=f"t-{number % 3}")
        statements.clear()
        await admit(store, "more", idempotency_key="key")
        await complete(store, "more", ttl_seconds=-1)
        await store.claim("token", lease_seconds=-1)
        await store.cancel("job-5", "t-2", ttl_seconds=1)
        await store.counts()
        first = await store.list("t-1", limit=2)
        await store.list("t-1", limit=2, page_token=first.next_page_token)
        await store.list("t-1", limit=2, status=JobStatus.PENDING)
        await store.sweep(max_losses=3, ttl_seconds=5)
        await admit(store, "told", callback_url="https://receiver.example/")
        await store.cancel("told", "tenant", ttl_seconds=5)
        assert await store.claim_callback("token", lease_seconds=5, passing_over=["t-1"])
        await store.retry_callback("told", "token", delay_seconds=0)
        await store.redeliver("told", "tenant")

    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        plans = {
            statement: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            for statement in statements
            if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE"))
        }
    connection.close()
    assert len(plans) >= 12
    for statement, plan in plans.items():
        for step in plan:
            whole = step.startswith("SCAN") and "CONSTANT ROW" not in step
            # An index of the waiting or the running alone may be read as a whole: it is short.
            short = "jobs_waiting" in step or "jobs_running" in step
            assert not whole or short, (statement, step)
            assert "TEMP B-TREE" not in step, (statement, step)


async def test_swept_jobs_leave_nothing(tmp_path: Path) -> None:
    """If this fails, the file grows for ever with the results of jobs that have expired."""
    clock = ManualClock()
    async with SQLiteJobStore(tmp_path / "jobs.db", clock=clock) as store:
        for number in range(40):
            await admit(store, f"job-{number}")
            await store.claim("token", lease_seconds=60, job_id=f"job-{number}")
            await store.finish(
                f"job-{number}",
                "token",
                status=JobStatus.COMPLETED,
                ttl_seconds=10,
                result=SearchResult(warnings=("x" * 50_000,)),
            )
        clock.advance(11)
        assert len((await store.sweep(max_losses=3, ttl_seconds=10)).expired) == 40

    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (0,)
    connection.close()
    assert (tmp_path / "jobs.db").stat().st_size < 200_000


async def test_a_cancelled_call_happens_or_does_not(tmp_path: Path) -> None:
    """If this fails, a client that hangs up leaves half a step, or blocks the store for the others."""
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        for number in range(30):
            name = f"job-{number}"
            with anyio.move_on_after(number * 0.0005):
                await admit(store, name)
            task = asyncio.create_task(store.claim("token", lease_seconds=60, job_id=name))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await admit(store, "after")
        counts = await store.counts()
        listed = (await store.list("tenant", limit=500)).jobs

    assert counts.pending + counts.in_progress == len(listed)
    assert {job.status for job in listed} <= {JobStatus.PENDING, JobStatus.IN_PROGRESS}
    assert all((job.attempts == 1) == (job.status is JobStatus.IN_PROGRESS) for job in listed)


async def test_a_locked_file_is_an_error_that_may_pass(tmp_path: Path) -> None:
    """If this fails, a backup that holds the file locks up the service, or breaks it for good."""
    async with SQLiteJobStore(tmp_path / "jobs.db", busy_seconds=0.05) as store:
        await admit(store, "job")
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked") as caught:
            await admit(store, "more")
        assert caught.value.transient
        assert (await store.get("job")).job_id == "job"
        other.execute("ROLLBACK")
        other.close()
        await admit(store, "more")


async def test_errors_leave_the_store_usable(tmp_path: Path) -> None:
    """If this fails, a refused job leaves a transaction open, and all later ones fail."""
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        await store.admit(make_job("first"), max_jobs=1, max_jobs_per_tenant=1)
        for _ in range(10):
            with pytest.raises(JobQueueFullError):
                await store.admit(make_job("full"), max_jobs=1, max_jobs_per_tenant=1)
            with pytest.raises(UnreadableRecordError):
                await admit(store, "half", file_name="\udc80")
            with pytest.raises(JobNotFoundError):
                await store.get("half")
        await store.claim("token", lease_seconds=60)
        with pytest.raises(UnreadableRecordError):
            await store.finish(
                "first",
                "token",
                status=JobStatus.COMPLETED,
                ttl_seconds=1,
                result=evolve(SearchResult(), total_matches=float("nan")),  # type: ignore[arg-type]  # wrong on purpose
            )
        assert (await store.get("first")).status is JobStatus.IN_PROGRESS


async def test_a_damaged_file_is_named_as_that(tmp_path: Path) -> None:
    """If this fails, a damaged file shows as a crash of the driver, or is silently overwritten."""
    path, content = tmp_path / "jobs.db", b"no database at all" * 100
    path.write_bytes(content)
    with pytest.raises(InternalError, match="job store is damaged") as caught:
        async with SQLiteJobStore(path):
            pass
    assert str(tmp_path) not in str(caught.value)
    assert path.read_bytes() == content


async def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """If this fails, a wrong path in the settings writes jobs into somebody's other database."""
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("PRAGMA application_id = 5")
    connection.execute("CREATE TABLE theirs (a)")
    connection.commit()
    connection.close()
    with pytest.raises(InternalError, match="not written by dedup2d"):
        async with SQLiteJobStore(tmp_path / "jobs.db"):
            pass


async def test_a_file_that_cannot_be_made_is_an_error_without_its_path(tmp_path: Path) -> None:
    """If this fails, clients read the paths of the server in an error."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailableError) as caught:
        async with SQLiteJobStore(tmp_path / "file" / "jobs.db"):
            pass
    assert str(tmp_path) not in str(caught.value)


async def test_the_file_is_private(tmp_path: Path) -> None:
    """If this fails, other users of the machine read the results of a company."""
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        await admit(store, "job")
        for path in tmp_path.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path.name


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """If this fails, a full disk loses jobs that were admitted, or the store stays broken after it."""
    worker = start(FULL_DISK, tmp_path / "jobs.db", "")
    lines = (await anyio.to_thread.run_sync(worker.communicate))[0].splitlines()

    assert lines[-2].startswith("refused the job store cannot work now")
    assert lines[-1] == "goes on"
    assert len(lines) > 20
    async with SQLiteJobStore(tmp_path / "jobs.db") as store:
        counts = await store.counts()
        assert (counts.pending, counts.in_progress) == (len(lines) - 3, 1)
