"""`dedup2d gc`: what it deletes, what it must not, and how it tells of both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from attrs import define, evolve, field
from prometheus_client.parser import text_string_to_metric_families

from dedup2d.collecting import Collector, Waste, is_upload_key
from dedup2d.errors import Dedup2DError, FileNotStoredError, StoreUnavailableError, UnreadableRecordError
from dedup2d.files.local import LocalFileStore
from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.files.s3_names import Names
from dedup2d.intake import ServiceOptions
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner_options import RunnerOptions
from dedup2d.service import Dedup2D
from dedup2d.testing import FakeVision, ManualClock
from dedup2d.types import Job, JobStatus, SearchParams
from tests.cli_support import Done, run, run_process
from tests.prometheus_files import ran
from tests.s3_server import S3Server, shared_s3_server
from tests.s3_support import half_uploads, objects, pieces

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
HOUR = 3600.0
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def job_id(number: int) -> str:
    return f"{number:032x}"


def key(number: int, tenant: str = "acme") -> str:
    return f"{tenant}/{job_id(number)}"


def job(number: int, **fields: object) -> Job:
    made = Job(
        job_id=job_id(number),
        tenant_id="acme",
        file_key=key(number),
        file_name="a.png",
        file_hash="0" * 64,
        file_size=len(PNG),
        params=SearchParams(),
        created_at=0.0,
    )
    return evolve(made, **fields)  # type: ignore[arg-type]  # any of its keywords


# One pass over a store


@define
class Bench:
    """A job store and a file store on one movable clock; things happen while a collector waits."""

    clock: ManualClock = field(factory=ManualClock)
    slept: list[float] = field(factory=list)
    meanwhile: Callable[[], object] | None = None
    told: list[Waste] = field(factory=list)
    refused: list[tuple[Waste, Dedup2DError]] = field(factory=list)
    jobs: MemoryJobStore = field(init=False)
    files: MemoryFileStore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.jobs, self.files = MemoryJobStore(clock=self.clock), MemoryFileStore(clock=self.clock)

    async def put(self, *numbers: int) -> None:
        for number in numbers:
            await self.files.put(key(number), pieces(PNG))

    async def admit(self, number: int) -> None:
        new = job(number, created_at=self.clock())
        await self.jobs.admit(new, max_jobs=100, max_jobs_per_tenant=100)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.meanwhile is not None:
            await self.meanwhile()  # type: ignore[misc]  # set by each test

    def collector(self, files: MemoryFileStore | None = None, *, dry_run: bool = False) -> Collector:
        return Collector(
            jobs=self.jobs,
            files=files or self.files,
            retention_seconds=HOUR,
            clock=self.clock,
            sleep=self.sleep,
            dry_run=dry_run,
            told=self.told.append,
            failed=lambda waste, error: self.refused.append((waste, error)),
        )

    async def keys(self) -> list[str]:
        return [stored.key for stored in await self.files.list()]


async def test_a_live_jobs_file_stays_however_old() -> None:
    """If this fails, a job that waits for hours fails because its file is gone."""
    bench = Bench()
    await bench.put(1, 2, 3)
    await bench.admit(1)
    await bench.admit(2)
    await bench.jobs.claim("token", lease_seconds=10**9, job_id=job_id(2))
    bench.clock.advance(100 * HOUR)
    done = await bench.collector().run()
    assert (done.files, done.bytes) == (1, len(PNG))
    assert await bench.keys() == [key(1), key(2)]
    await bench.jobs.finish(job_id(2), "token", status=JobStatus.COMPLETED, ttl_seconds=HOUR)
    assert (await bench.collector().run()).files == 1
    assert await bench.keys() == [key(1)]


async def test_a_job_admitted_between_look_and_deletion_keeps_its_file() -> None:
    """If this fails, an upload that took very long is deleted under the job just made of it."""
    bench = Bench()
    await bench.put(1, 2)
    bench.clock.advance(1.5 * HOUR)
    bench.meanwhile = lambda: bench.admit(1)
    assert (await bench.collector().run()).files == 1
    assert await bench.keys() == [key(1)]
    assert bench.slept == [10.0]


async def test_what_cannot_be_new_does_not_wait() -> None:
    """If this fails, each thousand files that a lost job store left cost seconds of waiting."""
    bench = Bench()
    await bench.put(1, 2)
    bench.clock.advance(26 * HOUR)
    assert (await bench.collector().run()).files == 2
    assert bench.slept == []


async def test_geometry_beside_an_upload_shares_its_fate() -> None:
    """If this fails, geometry of jobs that wait is collected, or that of lost uploads stays for ever."""
    bench = Bench()
    await bench.put(1, 2)
    for number in (1, 2):
        await bench.files.put(f"{key(number)}.geometry", pieces(b"{}"))
    await bench.files.put(f"{key(2)}.other", pieces(b"{}"))
    await bench.admit(1)
    bench.clock.advance(100 * HOUR)
    done = await bench.collector().run()
    assert done.files == 2
    assert await bench.keys() == [key(1), f"{key(1)}.geometry", f"{key(2)}.other"]


async def test_a_file_is_not_submitted_when_it_may_be_collected_any_time() -> None:
    """If this fails, a job is admitted while a collector, which has just found no job, deletes its file."""
    bench = Bench()
    service = Dedup2D(
        jobs=bench.jobs,
        files=bench.files,
        queue=MemoryQueue(),
        vision=FakeVision(),
        options=ServiceOptions(run=RunnerOptions(concurrency=0, file_retention_seconds=HOUR)),
        clock=bench.clock,
    )
    async with service:
        await bench.put(1, 2)
        bench.clock.advance(HOUR / 2)
        await service.submit_stored("acme", key(1), file_name="a.png")
        bench.clock.advance(1)
        with pytest.raises(FileNotStoredError, match=r"more than 1800 s ago.*ask for another upload"):
            await service.submit_stored("acme", key(2), file_name="a.png")
        assert await service.submit_stored("acme", key(1), file_name="a.png")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (key(1), True),
        (key(1, "a-b_c9"), True),
        (job_id(1), False),
        (f"acme/sub/{job_id(1)}", False),
        ("acme/report", False),
        (f"ACME/{job_id(1)}", False),
        (f"acme/{job_id(1).upper()}x", False),
        ("acme/" + "G" * 32, False),
        (key(1) + "0", False),
    ],
)
async def test_only_our_keys_are_ours(name: str, ours: bool) -> None:
    """If this fails, files that somebody keeps beside the uploads are deleted."""
    bench = Bench()
    assert is_upload_key(name) is ours
    await bench.files.put(name, pieces(b"x"))
    bench.clock.advance(1000 * HOUR)
    assert (await bench.collector().run()).files == int(ours)


@define
class _Refusing(MemoryFileStore):
    """A store that refuses to delete some keys."""

    refuses: Callable[[str], bool] = field(kw_only=True)
    clock: Callable[[], float] = field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        super().__init__(clock=self.clock)

    async def delete(self, key: str) -> bool:
        if self.refuses(key):
            raise StoreUnavailableError("file store", "permission denied")
        return await super().delete(key)


@pytest.mark.parametrize("bad", [1, 15])
async def test_what_cannot_be_deleted_stops_nothing_else(bad: int) -> None:
    """If this fails, one file that belongs to root keeps the disk filling up."""
    bench = Bench()
    files = _Refusing(refuses=lambda name: name <= key(bad), clock=bench.clock)
    for number in range(1, 31):
        await files.put(key(number), pieces(PNG))
    bench.clock.advance(100 * HOUR)
    done = await bench.collector(files).run()
    assert (done.files, done.failed, len(bench.refused)) == (30 - bad, bad, bad)
    assert isinstance(done.error, StoreUnavailableError)


async def test_a_store_that_deletes_nothing_is_given_up() -> None:
    """If this fails, a bucket without the permission to delete is asked a million times each night."""
    bench = Bench()
    files = _Refusing(refuses=lambda _: True, clock=bench.clock)
    for number in range(100):
        await files.put(key(number), pieces(PNG))
    bench.clock.advance(100 * HOUR)
    collector = bench.collector(files)
    with pytest.raises(StoreUnavailableError):
        await collector.run()
    assert collector.collected.failed == 20


async def test_what_cannot_be_looked_up_stays() -> None:
    """If this fails, an old program deletes the file of a job that a newer one has written and runs."""

    class Newer(MemoryJobStore):
        async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
            raise UnreadableRecordError("Job", "it is of a newer version")

    class Down(MemoryJobStore):
        async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
            raise StoreUnavailableError("job store", "it does not answer")

    bench = Bench()
    await bench.put(1)
    bench.clock.advance(100 * HOUR)
    bench.jobs = Newer(clock=bench.clock)
    assert (await bench.collector().run()).files == 0
    bench.jobs = Down(clock=bench.clock)
    with pytest.raises(StoreUnavailableError):
        await bench.collector().run()
    assert await bench.keys() == [key(1)]


# The command on a directory


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a service that has run, and a clock on which nobody waits."""

    async def no_pause(_: float) -> None: ...

    async def make() -> None:
        async with SQLiteJobStore(tmp_path / "data" / "jobs.db"), LocalFileStore(tmp_path / "data" / "files"):
            pass

    anyio.run(make)
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("dedup2d.collecting.anyio.sleep", no_pause)
    monkeypatch.setattr("dedup2d.collecting._LOOK_AGAIN_SECONDS", 0.0)
    return tmp_path / "data"


def lay(path: Path, *, hours: float, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - hours * HOUR
    os.utime(path, (then, then))
    return path


def all_files(directory: Path) -> list[str]:
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith("jobs.db")
    )


def lay_out(data: Path) -> tuple[list[Path], list[Path]]:
    """Lay out what is to go and what is to stay."""
    files = data / "files"
    goes = [
        lay(files / "acme+" / job_id(1), hours=2),
        lay(files / "globex+" / job_id(2), hours=30),
        lay(files / ".incoming" / "77-0123456789abcdef", hours=1.5),
        lay(data / "incoming" / "default+" / job_id(3), hours=1.5),
    ]
    stays = [
        lay(files / "acme+" / job_id(4), hours=0.9),
        lay(files / "acme+" / "plan.dxf", hours=1000),
        lay(files / "notes.txt", hours=1000),
        lay(files / ".incoming" / "78-0123456789abcdef", hours=0.5),
        lay(data / "incoming" / "default+" / job_id(5), hours=0.5),
        lay(data / "index" / "acme" / "catalogue.sqlite3", hours=1000),
        lay(data / "files" / "acme" / job_id(6), hours=1000),
    ]
    return goes, stays


def test_a_dry_run_lists_all_and_deletes_nothing(data: Path, capsys: Capture) -> None:
    """If this fails, whoever wants to know first has done it, or is told of something else than is done."""
    goes, stays = lay_out(data)
    before = all_files(data)
    dry = run(capsys, "gc", "--dry-run", "--json")
    assert dry.code == 0
    assert all_files(data) == before
    numbers = {name: dry.json[name] for name in ("jobs", "files", "half_uploads", "leftovers", "failed")}
    assert numbers == {"jobs": 0, "files": 2, "half_uploads": 1, "leftovers": 1, "failed": 0}
    assert {one["name"].rpartition("/")[2] for one in dry.json["found"]} == {path.name for path in goes}
    table = run(capsys, "gc", "--dry-run")
    assert [row[0] for row in table.rows] == ["file", "file", "half_upload", "leftover"]
    assert "would delete 0 expired jobs, 2 files, 1 half upload, 0 geometries, 1 leftover" in table.err

    real = run(capsys, "gc", "--json")
    assert real.code == 0
    names = [sorted(one["name"] for one in each.json["found"]) for each in (dry, real)]
    assert names[0] == names[1]
    assert [path.exists() for path in goes] == [False] * 4
    assert [path.exists() for path in stays] == [True] * 7
    nothing = "deleted 0 expired jobs, 0 files, 0 half uploads, 0 geometries, 0 leftovers"
    assert run(capsys, "gc").out.startswith(nothing)


def test_geometries_go_when_their_drawing_is_gone(data: Path, capsys: Capture) -> None:
    """If this fails, the command deletes geometries of drawings that are there, or keeps orphans for ever."""
    drawing = data.parent / "plate.svg"
    drawing.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200">'
        '<rect x="20" y="20" width="70" height="90" fill="none" stroke="black"/></svg>'
    )
    assert run(capsys, "index", str(drawing)).code == 0
    file_hash = sha256(drawing.read_bytes()).hexdigest()
    folder = data / "files" / "_geometry+" / "default+"
    needed = lay(folder / f"{file_hash[:2]}+" / f"{file_hash}.json.gz", hours=1000)
    orphan = lay(folder / "00+" / f"{'0' * 64}.json.gz", hours=2)
    young = lay(folder / "ff+" / f"{'f' * 64}.json.gz", hours=0.5)

    assert run(capsys, "gc", "--dry-run", "--json").json["geometries"] == 1
    assert orphan.exists()
    done = run(capsys, "gc", "--json").json
    assert (done["geometries"], done["files"], done["failed"]) == (1, 0, 0)
    assert [one["kind"] for one in done["found"]] == ["geometry"]
    assert [path.exists() for path in (needed, orphan, young)] == [True, False, True]


def test_expired_jobs_go_with_their_files(data: Path, capsys: Capture) -> None:
    """If this fails, a service that runs no workers keeps what it was told to forget."""

    async def fill() -> None:
        clock = ManualClock(time.time() - 5 * HOUR)
        async with SQLiteJobStore(data / "jobs.db", clock=clock) as jobs:
            for number in range(1, 5):
                new = job(number, created_at=clock())
                await jobs.admit(new, max_jobs=100, max_jobs_per_tenant=100)
            for number in (1, 2):
                await jobs.cancel(job_id(number), "acme", ttl_seconds=HOUR)
            await jobs.cancel(job_id(3), "acme", ttl_seconds=100 * HOUR)

    anyio.run(fill)
    for number in range(1, 5):
        lay(data / "files" / "acme+" / job_id(number), hours=5)
    dry = run(capsys, "gc", "--dry-run", "--json")
    assert dry.json["jobs"] == 2
    done = run(capsys, "gc", "--json")
    # The expired ones take their files along; that of the final one is as old as files may get.
    assert (done.json["jobs"], done.json["files"]) == (2, 1)
    assert all_files(data) == [f"files/acme+/{job_id(4)}"]
    assert run(capsys, "gc", "--dry-run", "--json").json["jobs"] == 0


def test_a_directory_without_the_jobs_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """If this fails, a gc with a slip in its settings deletes the uploads of all live jobs."""
    upload = lay(tmp_path / "data" / "files" / "acme+" / job_id(1), hours=50)
    for arguments in ((), ("--dry-run",)):
        done = run(capsys, "gc", "--data-dir", tmp_path / "data", *arguments)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "jobs.db" in done.err
    assert upload.exists()
    assert run(capsys, "gc", "--data-dir", tmp_path / "nowhere").code == 2
    assert not (tmp_path / "nowhere").exists()


def test_what_stays_against_our_will_is_told(
    data: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a schedule looks green while a disk fills up."""
    lay_out(data)
    delete = LocalFileStore._delete

    def refusing(self: LocalFileStore, key: str) -> bool:
        if key.endswith(job_id(1)):
            raise StoreUnavailableError("file store", "Permission denied")
        return delete(self, key)

    monkeypatch.setattr(LocalFileStore, "_delete", refusing)
    metrics = data.parent / "gc.prom"
    done = run(capsys, "gc", "--json", "--metrics-file", metrics)
    assert (done.code, done.json["failed"], done.json["files"]) == (3, 1, 1)
    assert f"file acme/{job_id(1)}: " in done.err
    assert "Permission denied" in done.json["failures"][0]["reason"]
    assert values(metrics)["dedup2d_gc_runs_total", "STORE_UNAVAILABLE"] == 1
    assert values(metrics)["dedup2d_gc_last_success_timestamp_seconds", ""] == 0


def values(path: Path) -> Mapping[tuple[str, str], float]:
    families = text_string_to_metric_families(path.read_text())
    samples = (sample for family in families for sample in family.samples)
    return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}


def test_counters_in_the_file_go_on(data: Path, capsys: Capture) -> None:
    """If this fails, rates of a gc that runs as a cron job are always zero, or its alert always fires."""
    path = data.parent / "textfile" / "dedup2d_gc.prom"
    path.parent.mkdir()
    begin = time.time()
    for number in range(3):
        lay(data / "files" / "acme+" / job_id(number), hours=2)
        assert run(capsys, "gc", "--metrics-file", path).code == 0
        found = values(path)
        assert found["dedup2d_gc_deleted_total", "file"] == number + 1
        assert found["dedup2d_gc_runs_total", "ok"] == number + 1
        assert found["dedup2d_gc_duration_seconds_count", ""] == number + 1
        assert found["dedup2d_gc_duration_seconds_bucket", "+Inf"] == number + 1
    assert begin <= found["dedup2d_gc_last_success_timestamp_seconds", ""] <= time.time()
    assert all(name.startswith("dedup2d_gc_") for name, _ in found)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in path.parent.iterdir()] == [path.name]

    path.write_bytes(b"\xff{ not metrics")
    assert run(capsys, "gc", "--metrics-file", path).code == 0
    assert values(path)["dedup2d_gc_runs_total", "ok"] == 1
    before = path.read_bytes()
    assert run(capsys, "gc", "--dry-run", "--metrics-file", path).code == 0
    assert path.read_bytes() == before


def test_promtool_finds_nothing_to_say_of_the_file(data: Path, capsys: Capture) -> None:
    """If this fails, the node exporter refuses the file, or names in it are not what Prometheus asks for."""
    path = data.parent / "dedup2d_gc.prom"
    assert run(capsys, "gc", "--metrics-file", path).code == 0
    checked = ran("check", "metrics", input=path.read_text())

    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_metrics_file_that_cannot_be_is_refused_before(data: Path, capsys: Capture) -> None:
    """If this fails, the run whose figures are lost has deleted already."""
    goes, _ = lay_out(data)
    for place in (data, data / "nowhere" / "gc.prom"):
        done = run(capsys, "gc", "--metrics-file", place)
        assert (done.code, done.err.count("\n")) == (2, 1)
    assert all(path.exists() for path in goes)


# The command on a bucket


@pytest.fixture
def server() -> S3Server:
    return shared_s3_server()


def gc_on(server: S3Server, prefix: str, data: Path, *arguments: str, **variables: str) -> Done:
    return run_process(
        ["gc", "--json", *arguments],
        data,
        DEDUP2D_FILE_STORAGE="s3",
        DEDUP2D_S3_ENDPOINT=server.endpoint,
        DEDUP2D_S3_BUCKET=server.bucket,
        DEDUP2D_S3_PREFIX=prefix,
        DEDUP2D_S3_ACCESS_KEY=server.access_key,
        DEDUP2D_S3_SECRET_KEY=server.secret_key,
        **variables,
    )


@pytest.mark.once
async def test_in_a_shared_bucket_only_ours_go(server: S3Server, tmp_path: Path) -> None:
    """If this fails, gc deletes what other programs, or another dedup2d, keep in the same bucket."""
    prefix = f"gc-{time.time_ns()}"
    options = S3Options(
        bucket=server.bucket,
        endpoint=server.endpoint,
        prefix=prefix,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )
    async with SQLiteJobStore(tmp_path / "jobs.db") as jobs, S3FileStore(options) as store:
        for number in (1, 2):
            await store.put(key(number), pieces(PNG))
        await jobs.admit(job(1, created_at=time.time()), max_jobs=9, max_jobs_per_tenant=9)
    names = Names(prefix)
    others = [
        f"{prefix}-2/{key(3)}!",
        f"{prefix}/{key(4)}",
        f"{prefix}/acme/report.pdf!",
        f"{prefix}/{job_id(5)}!",
    ]
    async with server.client() as client:
        for other in others:
            await client.put_object(Bucket=server.bucket, Key=other, Body=b"other")
        for name in (names.name(key(6)), f"{prefix}/others/report!"):
            await client.create_multipart_upload(Bucket=server.bucket, Key=name)

    def collector(ahead: float, *, dry_run: bool = False) -> Collector:
        def clock() -> float:
            return time.time() + ahead

        return Collector(
            jobs=jobs, files=later, retention_seconds=60, clock=clock, dry_run=dry_run, sleep=at_once
        )

    later = _Later(options, seconds=100 * HOUR)
    async with SQLiteJobStore(tmp_path / "jobs.db") as jobs, later:
        later.seconds = 0.0
        assert await collector(100 * HOUR).run() == await collector(100 * HOUR, dry_run=True).run()
        there = {stored.key for stored in await later.list()}
        assert {key(1), key(2)} <= there, "where only our own clock is wrong nothing goes"
        later.seconds = 100 * HOUR
        dry = await collector(100 * HOUR, dry_run=True).run()
        assert (dry.files, dry.half_uploads) == (1, 1)
        done = await collector(100 * HOUR).run()
        assert (done.files, done.half_uploads) == (1, 1)
    left = await objects(server, prefix)
    assert sorted(left) == sorted([names.name(key(1)), *others])
    assert await half_uploads(server, prefix) == [f"{prefix}/others/report!"]
    run_of_all = await anyio.to_thread.run_sync(lambda: gc_on(server, prefix, tmp_path))
    assert (run_of_all.code, run_of_all.json["files"]) == (0, 0), run_of_all


async def at_once(_: float) -> None: ...


class _Later(S3FileStore):
    """A store in a bucket whose server believes that it is later."""

    def __init__(self, options: S3Options, *, seconds: float) -> None:
        super().__init__(options)
        self.seconds = seconds

    async def now(self) -> float:
        return await super().now() + self.seconds


async def test_a_bucket_that_cannot_be_used_ends_the_run_in_one_line(
    server: S3Server, tmp_path: Path
) -> None:
    """If this fails, a schedule that does not work says so in a stack, or not at all."""
    async with SQLiteJobStore(tmp_path / "jobs.db"):
        pass
    wrong = evolve(server, access_key="nobody", secret_key="nothing-of-that-kind")
    metrics = tmp_path / "gc.prom"
    done = await anyio.to_thread.run_sync(
        lambda: gc_on(wrong, "gc", tmp_path, "--metrics-file", str(metrics))
    )
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "nothing-of-that-kind" not in done.err + metrics.read_text()
    assert values(metrics)["dedup2d_gc_runs_total", "ok"] == 0
