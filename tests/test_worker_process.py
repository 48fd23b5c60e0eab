"""Workers as processes: how they begin, share work, stop and are killed, on a real Redis."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field

from dedup2d import Dedup2D, JobStatus
from dedup2d.build import build_service
from dedup2d.observe import Observer
from dedup2d.settings import Settings
from dedup2d.types import Job
from tests.leashed import Leashed
from tests.servers import RedisServer, redis_server
from tests.serving import free_port
from tests.vision_stub import StubProcess, stub_process

pytestmark = [pytest.mark.timeout(120), pytest.mark.once]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
DXF = b"  0\nSECTION\n  2\nHEADER\n  0\nENDSEC\n  0\nEOF\n"
PATIENT = {"LEASE": "60", "HEARTBEAT": "20", "SWEEP": "30"}
QUICK = {"LEASE": "2", "HEARTBEAT": "0.5", "SWEEP": "0.5"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Here:
    """A Redis, a vision stub, and workers on them."""

    directory: Path
    redis: RedisServer
    vision: StubProcess
    workers: list[Leashed] = field(factory=list)

    def variables(self, times: dict[str, str], **more: str) -> dict[str, str]:
        return {
            "DEDUP2D_ASYNC_BACKEND": "redis",
            "DEDUP2D_REDIS_URL": self.redis.url,
            "DEDUP2D_DATA_DIR": str(self.directory / "data"),
            "DEDUPCAD_VISION_URL": self.vision.url,
            "DEDUP2D_LOG_FORMAT": "json",
            **{f"DEDUP2D_ASYNC_{name}_SECONDS": value for name, value in times.items()},
            **more,
        }

    def start(self, *options: str, times: dict[str, str] = PATIENT, **more: str) -> Leashed:
        """Start a worker; it may not be ready yet."""
        log = self.directory / f"worker-{len(self.workers)}.log"
        arguments = [sys.executable, "-m", "dedup2d", "worker", *options]
        worker = Leashed(arguments, log, self.variables(times, **more))
        worker.start()
        self.workers.append(worker)
        return worker

    async def worker(self, *options: str, times: dict[str, str] = PATIENT, **more: str) -> Leashed:
        """Start a worker and wait until it is ready."""
        worker = self.start(*options, times=times, **more)
        await until(lambda: bool(said(worker, "worker ready")), worker)
        return worker

    @asynccontextmanager
    async def producer(self, **more: str) -> AsyncIterator[Dedup2D]:
        """Give a service that takes jobs in and runs none."""
        settings = Settings.from_environment(self.variables(PATIENT, **more))
        async with build_service(settings, Observer()) as service:
            yield service


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with redis_server(tmp_path / "redis") as redis, stub_process() as vision:
        made = Here(tmp_path, redis, vision)
        yield made
        for worker in made.workers:
            if worker.running():
                worker.kill()


async def until(what: Callable[[], bool], *alive: Leashed, seconds: float = 30) -> None:
    with anyio.fail_after(seconds):
        while not what():
            for worker in alive:
                assert worker.running(), worker.end_of_log()
            await anyio.sleep(0.02)


async def becomes(service: Dedup2D, job: Job, status: JobStatus, *, seconds: float = 30) -> Job:
    with anyio.fail_after(seconds):
        while (  # noqa: ASYNC110 - another process does it
            found := await service.get("acme", job.job_id)
        ).status is not status:
            await anyio.sleep(0.02)
    return found


async def submit(service: Dedup2D, data: bytes = PNG, name: str = "a.png") -> Job:
    return await service.submit("acme", data + os.urandom(8).hex().encode(), file_name=name)


def lines(worker: Leashed) -> list[dict[str, Any]]:
    return [json.loads(line) for line in worker.log.read_text().splitlines()]


def said(worker: Leashed, event: str) -> list[dict[str, Any]]:
    return [line for line in map(_parsed, worker.log.read_text().splitlines()) if line.get("event") == event]


def _parsed(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return found


async def ended(worker: Leashed, *, seconds: float = 30) -> tuple[int, float]:
    """Wait for the end and return the exit code, and how long that took."""
    begin = time.monotonic()
    await until(lambda: not worker.running(), seconds=seconds)
    assert worker.process is not None
    return worker.process.returncode, time.monotonic() - begin


# Stopping


async def test_a_stopped_worker_lets_its_jobs_end(here: Here) -> None:
    """If this fails, a deploy throws away searches that were almost done."""
    here.vision.control(mode="slow", slow_seconds=1.5)
    worker = await here.worker("--concurrency", "2")
    async with here.producer() as service:
        running = [await submit(service) for _ in range(2)]
        for job in running:
            await becomes(service, job, JobStatus.IN_PROGRESS)
        waiting = await submit(service)
        worker.send(signal.SIGTERM)
        code, _ = await ended(worker)
        found = [await service.get("acme", job.job_id) for job in running]
        left = await service.get("acme", waiting.job_id)

    assert code == 0
    assert [(job.status, job.attempts) for job in found] == [(JobStatus.COMPLETED, 1)] * 2
    assert left.status is JobStatus.PENDING, "it began nothing more"


async def test_what_does_not_end_in_time_runs_elsewhere_at_once(here: Here) -> None:
    """If this fails, a deploy fails long searches, or makes them wait for a lease or a sweep."""
    here.vision.control(mode="hang")
    worker = await here.worker("--concurrency", "1", "--grace", "0.5")
    async with here.producer() as service:
        job = await submit(service)
        await becomes(service, job, JobStatus.IN_PROGRESS)
        other = await here.worker()
        here.vision.control(mode="ok")
        worker.send(signal.SIGTERM)
        code, took = await ended(worker)
        final = await becomes(service, job, JobStatus.COMPLETED, seconds=3)

    assert code == 0
    assert took < 6
    assert (final.attempts, final.losses) == (2, 0)
    assert said(other, "job is final")


async def test_a_second_signal_gives_back_at_once(here: Here) -> None:
    """If this fails, an operator in a hurry has to choose between waiting and losing leases."""
    here.vision.control(mode="hang")
    worker = await here.worker("--concurrency", "3", "--grace", "600")
    async with here.producer() as service:
        jobs = [await submit(service) for _ in range(3)]
        for job in jobs:
            await becomes(service, job, JobStatus.IN_PROGRESS)
        worker.send(signal.SIGTERM)
        await until(lambda: bool(said(worker, "stopping")), worker)
        worker.send(signal.SIGTERM)
        code, took = await ended(worker)
        found = [await service.get("acme", job.job_id) for job in jobs]

    assert code == 0
    assert took < 4
    assert [(job.status, job.losses) for job in found] == [(JobStatus.PENDING, 0)] * 3


async def test_a_worker_that_cannot_give_back_ends_nevertheless(here: Here) -> None:
    """If this fails, a worker hangs in its stop when Redis hangs, until the orchestrator kills it."""
    here.vision.control(mode="hang")
    worker = await here.worker("--grace", "0", DEDUP2D_REDIS_TIMEOUT_SECONDS="60")
    async with here.producer() as service:
        job = await submit(service)
        await becomes(service, job, JobStatus.IN_PROGRESS)
        here.redis.pause()
        worker.send(signal.SIGTERM)
        code, took = await ended(worker)
        here.redis.resume()

    assert code == 128 + signal.SIGTERM
    assert took < 10


async def test_a_killed_workers_job_is_taken_over(here: Here) -> None:
    """If this fails, a job is stuck when the machine it ran on is gone."""
    here.vision.control(mode="hang")
    worker = await here.worker(times=QUICK)
    async with here.producer() as service:
        job = await submit(service)
        await becomes(service, job, JobStatus.IN_PROGRESS)
        await here.worker(times=QUICK)
        here.vision.control(mode="ok")
        worker.kill()
        final = await becomes(service, job, JobStatus.COMPLETED, seconds=10)

    assert (final.attempts, final.losses) == (2, 1)


# What operators see


async def test_rq_shows_the_worker_and_its_queue(here: Here) -> None:
    """If this fails, who knows RQ's tools sees nothing of this service."""
    worker = await here.worker(DEDUP2D_QUEUE_NAME="drawings", DEDUP2D_RENDER_QUEUE_NAME="cad-drawings")
    await until(lambda: "idle" in rq_info(here), worker)
    shown = rq_info(here)
    worker.send(signal.SIGTERM)
    await ended(worker)

    assert re.search(r"^drawings ", shown, re.MULTILINE)
    assert re.search(r"^cad-drawings ", shown, re.MULTILINE)
    assert re.search(r"dedup2d-\S+ .*idle drawings, cad-drawings", shown)
    assert "0 workers" in rq_info(here)


def rq_info(here: Here) -> str:
    rq = str(Path(sys.executable).parent / "rq")
    return subprocess.run(
        [rq, "info", "--url", here.redis.url], capture_output=True, text=True, check=True, timeout=30
    ).stdout


async def test_the_log_says_what_an_operator_needs_and_nothing_secret(here: Here) -> None:
    """If this fails, nobody can tell from a worker's log what it serves, or anybody who reads it gets in."""
    url = here.redis.url.replace("redis://", "redis://default:hidden-word@")
    worker = await here.worker("--concurrency", "3", DEDUP2D_REDIS_URL=url)
    async with here.producer() as service:
        job = await submit(service)
        await becomes(service, job, JobStatus.COMPLETED)
    worker.send(signal.SIGINT)
    code, _ = await ended(worker)
    events = [line["event"] for line in lines(worker)]
    (ready,) = said(worker, "worker ready")

    assert code == 0
    assert (ready["queues"], ready["concurrency"]) == (["dedup2d:queue"], 3)
    assert (ready["vision"], ready["file_storage"]) == (here.vision.url, "local")
    assert [event for event in events if event.startswith("job ")] == ["job started", "job is final"]
    assert events[-2:] == ["stopping", "stopped"]
    assert "hidden-word" not in worker.log.read_text()


async def test_metrics_are_served(here: Here) -> None:
    """If this fails, what workers do is not seen by Prometheus."""
    port = free_port()
    worker = await here.worker("--metrics-port", str(port))
    async with here.producer() as service:
        await becomes(service, await submit(service), JobStatus.COMPLETED)
    await until(lambda: 'dedup2d_jobs_finished_total{status="completed"} 1.0' in metrics(port), worker)


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


# Several


def two_free_ports() -> int:
    """Return the first of two free ports that follow each other."""
    while True:
        port = free_port()
        with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port


async def test_processes_share_the_work_and_are_replaced(here: Here) -> None:
    """If this fails, `--processes` uses one core, or loses them one by one."""
    port = two_free_ports()
    here.vision.control(mode="hang")
    options = ["--processes", "2", "--concurrency", "1", "--metrics-port", str(port)]
    supervisor = here.start(*options, times=QUICK)
    await until(lambda: len(said(supervisor, "worker ready")) == 2, supervisor)
    async with here.producer() as service:
        jobs = [await submit(service) for _ in range(2)]
        for job in jobs:
            await becomes(service, job, JobStatus.IN_PROGRESS)
        first = said(supervisor, "worker ready")[0]["process_id"]
        here.vision.control(mode="ok")
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(said(supervisor, "worker ready")) == 3, supervisor)
        assert "dedup2d_build_info" in metrics(port)
        assert "dedup2d_build_info" in metrics(port + 1)
        await until(lambda: bool(said(supervisor, "job is final")), supervisor)
        supervisor.send(signal.SIGTERM)
        code, _ = await ended(supervisor)

    assert code == 0
    assert len(said(supervisor, "stopped")) == 2


async def test_cad_files_have_workers_of_their_own(here: Here) -> None:
    """If this fails, heavy CAD files hold up all others although an operator has set them apart."""
    apart = {"DEDUP2D_RENDER_QUEUE_NAME": "cad"}
    main = await here.worker("--queue", "main", times=QUICK, **apart)
    async with here.producer(**apart) as service:
        drawing = await submit(service, DXF, "a.dxf")
        scan = await submit(service)
        await becomes(service, scan, JobStatus.COMPLETED)
        assert (await service.get("acme", drawing.job_id)).status is JobStatus.PENDING
        cad = await here.worker("--queue", "cad", times=PATIENT, **apart)
        await becomes(service, drawing, JobStatus.COMPLETED)
    await until(lambda: bool(said(cad, "job is final")), cad)  # said after it can be seen

    assert len(said(main, "job is final")) == len(said(cad, "job is final")) == 1


# Wrong settings


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        ((), {"DEDUP2D_ASYNC_BACKEND": "inprocess"}, "DEDUP2D_ASYNC_BACKEND=inprocess"),
        (("--queue", "cad"), {}, "DEDUP2D_RENDER_QUEUE_NAME"),
        ((), {"DEDUP2D_REDIS_URL": "redis://127.0.0.1:1"}, "DEDUP2D_REDIS_URL=redis://127.0.0.1:1"),
        ((), {"DEDUP2D_ASYNC_MAX_CONCURRENCY": "0"}, "DEDUP2D_ASYNC_MAX_CONCURRENCY"),
        (("--processes", "0"), {}, "--processes"),
        (("--processes", "2"), {"DEDUP2D_REDIS_URL": "redis://127.0.0.1:1"}, "DEDUP2D_REDIS_URL="),
    ],
)
async def test_what_cannot_work_stops_the_start(
    options: tuple[str, ...], variables: dict[str, str], words: str, here: Here
) -> None:
    """If this fails, a wrong setting gives a worker that does nothing, or a stack instead of a reason."""
    worker = here.start(*options, times=PATIENT, **variables)
    code, _ = await ended(worker)

    assert code == 2
    assert words in worker.log.read_text()
    assert "Traceback" not in worker.log.read_text()


async def test_a_metrics_port_that_is_taken_stops_the_start(here: Here) -> None:
    """If this fails, a worker runs whose metrics are those of another."""
    worker = here.start("--metrics-port", str(here.redis.port))
    code, _ = await ended(worker)

    assert code == 2
    assert "address already in use" in worker.log.read_text()
