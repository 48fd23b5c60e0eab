"""
Measures a deployment as operators run it: services, workers, Redis and a vision that answers at once.

Run from the root of the repository, on an idle machine:

    python -m benchmarks.deployment [--json FILE] [--only NAME ...]

Everything runs on this machine, the client that makes the load too: one service, one worker, uploads in a
local directory, 200 kB files, a vision stub. Each figure is the median of `--rounds` rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from attrs import define, field

from benchmarks.machine import conditions
from benchmarks.profiled import shares
from tests.deployment import API, KEY, Api, Deployment, deployment, picture, terminated, until
from tests.serving import free_port

SIZE = 200_000
DEFAULT_TIMES = {
    "DEDUP2D_ASYNC_LEASE_SECONDS": "60",
    "DEDUP2D_ASYNC_HEARTBEAT_SECONDS": "20",
    "DEDUP2D_ASYNC_SWEEP_SECONDS": "15",
}
"""The defaults: the harness of the crash tests has shorter ones."""
MIB = 1024 * 1024
PROFILED = [sys.executable, "-m", "benchmarks.profiled"]
_BOUNDARY = "dedup2d-benchmark"


class Connection:
    """One kept-alive HTTP/1.1 connection that costs the machine next to nothing."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request; return the status and the body of the answer."""
        self._writer.write(request)
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)


def get(path: str, *headers: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", f"X-API-Key: {KEY}", *headers, "", "")
    return "\r\n".join(lines).encode()


def post_file(path: str, data: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"X-API-Key: {KEY}",
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


@define
class Load:
    """What many calls took: so many in so many seconds, and each of them."""

    seconds: float = 0.0
    waits: list[float] = field(factory=list)
    statuses: set[int] = field(factory=set)

    @property
    def rate(self) -> float:
        return len(self.waits) / self.seconds

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.waits)
        return {
            "per_second": round(self.rate, 1),
            "p50_ms": round(1000 * statistics.median(ordered), 2),
            "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        }


async def loaded(port: int, requests: Iterator[bytes], *, concurrency: int) -> Load:
    """Send all *requests* over so many connections."""
    load = Load()

    async def send() -> None:
        async with Connection(port) as connection:
            for request in requests:
                begin = time.perf_counter()
                status, _ = await connection.call(request)
                load.waits.append(time.perf_counter() - begin)
                load.statuses.add(status)

    start = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(concurrency)))
    load.seconds = time.perf_counter() - start
    return load


def load(api: Api, make: Callable[[], bytes], number: int, concurrency: int, *, wanted: int) -> Load:
    requests = (make() for _ in range(number))
    done = asyncio.run(loaded(api.port, requests, concurrency=concurrency))
    if done.statuses != {wanted}:
        raise SystemExit(f"the service answered {done.statuses}, not {wanted}")
    return done


def submission() -> bytes:
    return post_file(f"{API}/search?async=true", picture(SIZE))


def drained(api: Api) -> None:
    until(lambda: not (api.jobs("pending") or api.jobs("in_progress")), seconds=300)


@contextmanager
def running(*, workers: int = 1, concurrency: int = 16, **variables: str) -> Iterator[tuple[Deployment, Api]]:
    with tempfile.TemporaryDirectory(prefix="dedup2d-bench-") as directory:
        settings = {"DEDUP2D_ASYNC_MAX_JOBS": "20000", **DEFAULT_TIMES, **variables}
        with deployment(Path(directory), **settings) as here:
            api = here.api()
            for _ in range(workers):
                here.worker("--concurrency", str(concurrency))
            yield here, api


def submit() -> dict[str, Any]:
    """Submits while one worker runs them at once."""
    found = {}
    with running() as (_, api):
        load(api, submission, 100, 4, wanted=202)
        for concurrency in (1, 16, 64):
            drained(api)
            found[f"concurrency {concurrency}"] = load(
                api, submission, 600, concurrency, wanted=202
            ).figures()
    return found


def backlog() -> dict[str, Any]:
    """Submits one after the other while so many jobs wait and no worker runs."""
    found = {}
    with running(workers=0) as (_, api):
        waiting = 0
        for wanted in (0, 199, 1000, 5000):
            if wanted > waiting:
                load(api, submission, wanted - waiting, 16, wanted=202)
            found[f"{wanted} waiting"] = load(api, submission, 200, 1, wanted=202).figures()
            waiting = max(wanted, waiting) + 200
    return found


def work() -> dict[str, Any]:
    """Jobs of one worker, vision answering at once, from the first to the last of 1,000."""
    with running(workers=0) as (here, api):
        load(api, submission, 1000, 16, wanted=202)
        here.worker("--concurrency", "16")
        drained(api)
        jobs = api.jobs("completed")
        seconds = max(job["finished_at"] for job in jobs) - min(job["started_at"] for job in jobs)
        return {"jobs_per_second": round(len(jobs) / seconds, 1)}


def latency() -> dict[str, Any]:
    """From the submit to the completed job as the store has it, and as a polling client sees it."""
    stored, seen = [], []

    async def one(port: int) -> None:
        async with Connection(port) as connection:
            begin = time.perf_counter()
            _, body = await connection.call(submission())
            path = json.loads(body)["poll_url"]
            _, body = await connection.call(get(path, "Prefer: wait=20"))
            seen.append(time.perf_counter() - begin)
            job = json.loads(body)
            assert job["status"] == "completed", job
            stored.append(job["finished_at"] - job["created_at"])

    with running() as (_, api):
        for _ in range(120):
            asyncio.run(one(api.port))
            time.sleep(0.02)
    return {
        "stored_p50_ms": round(1000 * statistics.median(stored[20:]), 1),
        "seen_p50_ms": round(1000 * statistics.median(seen[20:]), 1),
        "seen_p99_ms": round(1000 * sorted(seen[20:])[-2], 1),
    }


def search() -> dict[str, Any]:
    """Searches answered at once."""

    def one() -> bytes:
        return post_file(f"{API}/search", picture(SIZE))

    with running(workers=0) as (_, api):
        load(api, one, 50, 4, wanted=200)
        return {f"concurrency {n}": load(api, one, 400, n, wanted=200).figures() for n in (1, 16)}


def poll() -> dict[str, Any]:
    """Polls of one finished job."""
    with running() as (_, api):
        job_id = api.submit()
        api.final(job_id)
        request = get(f"{API}/jobs/{job_id}")
        load(api, lambda: request, 200, 4, wanted=200)
        return {
            f"concurrency {n}": load(api, lambda: request, 3000, n, wanted=200).figures() for n in (1, 16)
        }


def listing() -> dict[str, Any]:
    """Lists of 50 by a rare status among 5,000 finished jobs."""
    with running() as (here, api):
        load(api, submission, 5000, 16, wanted=202)
        drained(api)
        here.vision.control(mode="422")
        for _ in range(3):
            api.final(api.submit())
        request = get(f"{API}/jobs?status=failed&limit=50")
        newest = get(f"{API}/jobs?limit=50")
        return {
            "rare status": load(api, lambda: request, 200, 1, wanted=200).figures(),
            "newest 50": load(api, lambda: newest, 200, 1, wanted=200).figures(),
        }


def memory() -> dict[str, Any]:
    """How much the processes grow by 20 uploads of 20 MB at once."""
    found = {}
    for storage in ("local", "s3"):
        with (
            tempfile.TemporaryDirectory(prefix="dedup2d-bench-") as directory,
            deployment(Path(directory), s3=storage == "s3") as here,
        ):
            api, worker = here.api(), here.worker("--concurrency", "16")
            api.final(api.submit())
            assert api.process.process is not None
            assert worker.process is not None
            processes = {"api": api.process.process.pid, "worker": worker.process.pid}
            before = {name: peak(pid) for name, pid in processes.items()}
            big = post_file(f"{API}/search?async=true", picture(20_000_000))
            load(api, lambda big=big: big, 20, 20, wanted=202)
            drained(api)
            for name, pid in processes.items():
                found[f"{name}, {storage}"] = {"rise_mib": round((peak(pid) - before[name]) / MIB, 1)}
    return found


def profile() -> dict[str, Any]:
    """What a service that takes jobs in and a worker that runs them spend their time on, in percent."""
    with running(workers=0) as (here, _):
        port, service, worker = free_port(), here.directory / "service.prof", here.directory / "worker.prof"
        taking = here.running([*PROFILED, str(service), "serve", "--port", str(port)], "profiled")
        api = Api(taking, port)
        here.wait_for(taking, api.answers)
        load(api, submission, 600, 4, wanted=202)
        working = here.running([*PROFILED, str(worker), "worker", "--concurrency", "16"], "profiled")
        drained(here.apis[0])
        terminated(taking)
        terminated(working)
        return {"service, submit": shares(service), "worker": shares(worker)}


def peak(pid: int) -> int:
    """Return the most memory that a process has held so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    measure.__name__: measure
    for measure in (submit, backlog, work, latency, search, poll, listing, memory, profile)
}


def median(rounds: list[Any]) -> Any:
    """Return the figures of several rounds as one, number by number."""
    if isinstance(rounds[0], dict):
        return {name: median([one[name] for one in rounds if name in one]) for name in rounds[0]}
    return statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted(MEASURES), default=list(MEASURES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = dict(conditions())
    for name in options.only:
        found[name] = median([MEASURES[name]() for _ in range(options.rounds)])
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
