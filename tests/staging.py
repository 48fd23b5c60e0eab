"""
Stages a deployment on loopback and walks the smoke tests of docs/deployment.md: `nox -s staging`.

Redis, S3, a vision server on an index of generated drawings, two services, three workers and a Prometheus run
as processes of their own, with nothing of the tests in them. One line is printed for each step; the exit
code is 0 if all went well, else 1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
from attrs import define, field
from redis import Redis

from tests.deployment import KEY, Deployment, storage_variables
from tests.leashed import Leashed
from tests.prometheus_server import Prometheus, started
from tests.s3_server import s3_server
from tests.s3_support import half_uploads, objects
from tests.servers import free_port, redis_server

__all__ = ["CALLBACK_SECRET", "OTHER_KEY", "Stage", "main", "step"]

OTHER_KEY = "other-tenant-key-0123456789"
CALLBACK_SECRET = "callback-secret-0123456789"
_VISION_KEY = "vision-key-0123456789"
_INDEXED = ("HP37000-8.png", "HP37028-3.png")
_LOOK_AT_PROCESSES = 5.0

Step = Callable[["Stage"], None]
_STEPS: list[tuple[str, Step]] = []


def step(what: str) -> Callable[[Step], Step]:
    """Add a function to the walk, in the order of the file."""

    def add(function: Step) -> Step:
        _STEPS.append((what, function))
        return function

    return add


@define
class Stage:
    """The deployment, and what the steps share."""

    here: Deployment
    samples: Path
    vision: Leashed
    vision_url: str
    mark: str
    callback_port: int
    """The one port of loopback that callbacks may go to."""
    prometheus: Prometheus
    workers: dict[int, Leashed] = field(factory=dict, init=False)
    """Running workers, by the ports of their metrics."""
    stopped: dict[str, int] = field(factory=dict, init=False)
    """Exit codes of the processes that were asked to stop, by their logs."""
    job: dict[str, Any] = field(factory=dict, init=False)
    """The first job that completed."""

    def targets(self) -> dict[str, list[str]]:
        """Return what Prometheus is to scrape, by the names of its jobs."""
        return {
            "dedup2d-api": [f"127.0.0.1:{api.port}" for api in self.here.apis],
            "dedup2d-worker": [f"127.0.0.1:{port}" for port in self.workers],
            "dedup2d-vision": [self.vision_url.removeprefix("http://")],
        }

    @property
    def redis(self) -> Redis:
        return Redis.from_url(self.here.redis.url, decode_responses=True)

    def start_worker(self, queue: str) -> Leashed:
        port = free_port()
        worker = self.here.worker("--queue", queue, "--metrics-port", str(port))
        self.workers[port] = worker
        return worker

    def sample(self, name: str) -> bytes:
        return (self.samples / name).read_bytes()

    def submit(self, name: str, *, api: int = 0, **query: str) -> str:
        """Submit a sample as a job."""
        return self.here.apis[api].submit(self.sample(name), name=name, **query)

    def files(self) -> list[str]:
        """Return the names of all objects in the bucket."""
        return asyncio.run(objects(self._s3, ""))

    def half_uploads(self) -> list[str]:
        return asyncio.run(half_uploads(self._s3, ""))

    def stop(self, process: Leashed, *, seconds: float = 40.0) -> None:
        """Ask a process to stop, and note its exit code."""
        assert process.process is not None
        process.process.send_signal(signal.SIGTERM)
        self.stopped[process.log.name] = process.process.wait(seconds)
        self.forget(process)

    def forget(self, worker: Leashed) -> None:
        """Take a worker that has ended off the list."""
        self.workers = {port: each for port, each in self.workers.items() if each is not worker}

    def processes(self) -> list[str]:
        """Return the command lines of all processes that were started for this deployment."""
        return [line for line in map(self._command_line, Path("/proc").iterdir()) if line]

    def _command_line(self, process: Path) -> str:
        try:
            marked = process.name.isdecimal() and self.mark.encode() in (process / "environ").read_bytes()
            return (process / "cmdline").read_text().replace("\0", " ") if marked else ""
        except OSError:
            return ""

    @property
    def _s3(self) -> Any:
        return self.here.s3


@contextmanager
def staged(directory: Path) -> Iterator[Stage]:
    """Start everything but the workers; whatever runs at the end is killed."""
    mark = f"staging-{token_hex(8)}"
    samples = directory / "samples"
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(directory / "redis", appendonly=True))
        store = stack.enter_context(s3_server(directory))
        vision_url = f"http://127.0.0.1:{free_port()}"
        callback_port = free_port()
        variables = {
            **storage_variables(directory, store),
            "STAGING": mark,
            "DEDUP2D_API_KEYS": f"acme:{KEY}, umbra:{OTHER_KEY}",
            "DEDUP2D_ASYNC_BACKEND": "redis",
            "DEDUP2D_REDIS_URL": redis.url,
            "DEDUP2D_RENDER_QUEUE_NAME": "dedup2d:cad",
            "DEDUP2D_S3_PRESIGNED_UPLOADS": "1",
            "DEDUPCAD_VISION_URL": vision_url,
            "DEDUPCAD_VISION_API_KEY": _VISION_KEY,
            "DEDUP2D_DATA_DIR": str(directory / "unused"),
            "DEDUP2D_LOG_FORMAT": "json",
            # A takeover within seconds, not the default's minute.
            "DEDUP2D_ASYNC_LEASE_SECONDS": "3",
            "DEDUP2D_ASYNC_HEARTBEAT_SECONDS": "1",
            "DEDUP2D_ASYNC_SWEEP_SECONDS": "1",
            # Places that a step can fill, and a circuit that it can wait for.
            "DEDUP2D_ASYNC_MAX_JOBS": "24",
            "DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS": "15",
            "DEDUP2D_CALLBACK_ALLOWLIST": "127.0.0.1",
            "DEDUP2D_CALLBACK_ALLOW_HTTP": "1",
            "DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS": "0",
            "DEDUP2D_CALLBACK_PORTS": str(callback_port),
            "DEDUP2D_CALLBACK_HMAC_SECRET": CALLBACK_SECRET,
        }
        here = Deployment(directory, redis, None, store, variables, stack)
        vision = _start_vision(here, samples, vision_url)
        stage = Stage(here, samples, vision, vision_url, mark, callback_port, started(here))
        here.api()
        here.api()
        yield stage


def _start_vision(here: Deployment, samples: Path, url: str) -> Leashed:
    """Index drawings for the tenant of the tests and start the vision server on them."""
    place = {"DEDUP2D_DATA_DIR": str(here.directory / "vision"), "DEDUP2D_TENANT": "acme"}
    indexed = [str(samples / name) for name in _INDEXED]
    for arguments in (["samples", str(samples), "--parts", "3"], ["index", *indexed]):
        subprocess.run([sys.executable, "-m", "dedup2d", *arguments], check=True, **_quiet(place))
    vision = here.started(["vision", "serve", "--port", url.rpartition(":")[2]], "vision", place)
    here.wait_for(vision, lambda: httpx.get(f"{url}/livez", trust_env=False).status_code == 200)
    return vision


def _quiet(variables: dict[str, str]) -> dict[str, Any]:
    return {"env": {**os.environ, **variables}, "capture_output": True, "timeout": 120}


def stop_all(stage: Stage) -> None:
    """Ask every process to stop, in the order of a shutdown."""
    running = [*(api.process for api in stage.here.apis), *stage.workers.values(), stage.vision]
    running.append(stage.prometheus.process)
    for process in [each for each in running if each.running()]:
        stage.stop(process)
    wrong = {name: code for name, code in stage.stopped.items() if code}
    assert not wrong, f"they ended with {wrong}"


def nothing_is_left(stage: Stage) -> None:
    """See that no file, half upload, live job or process is left behind."""
    assert not stage.files(), f"the bucket still holds {stage.files()}"
    assert not stage.half_uploads(), f"half uploads are left: {stage.half_uploads()}"
    active = stage.redis.zrange("dedup2d:active", 0, -1)
    assert not active, f"jobs are not final: {active}"
    end = time.monotonic() + _LOOK_AT_PROCESSES
    while (left := stage.processes()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left, f"processes are left: {left}"


def no_traceback(stage: Stage) -> None:
    """See that no log of the deployment has a traceback."""
    logs = [path for path in stage.here.directory.glob("*.log") if "Traceback" in path.read_text()]
    assert not logs, f"look into {', '.join(path.name for path in logs)}: {logs[0].read_text()[-1500:]}"


_ENDING: list[tuple[str, Step]] = [
    ("SIGTERM ends every service, worker and the vision server with 0", stop_all),
    ("no log has a traceback", no_traceback),
    ("no file, half upload, live job or process is left", nothing_is_left),
]


def walk(stage: Stage) -> int:
    """Walk all steps, the next also after one that failed; return how many failed."""
    failed = 0
    for what, function in (*_STEPS, *_ENDING):
        begin, reason = time.monotonic(), ""
        stage.prometheus.follow(stage.targets())
        try:
            function(stage)
        except Exception as error:  # noqa: BLE001 - the other steps say more about what is wrong
            traceback.print_tb(error.__traceback__)
            failed += 1
            reason = f": {str(error)[:1000] or type(error).__name__}"
        say(not reason, time.monotonic() - begin, what + reason)
    return failed


def say(well: bool, seconds: float, what: str) -> None:
    print(f"{'ok' if well else 'FAILED':6} {seconds:6.1f} s  {what}", flush=True)  # noqa: T201 - what it is for


def main() -> int:
    """Stage, walk, stop; return the exit code."""
    for steps in ("staging_steps", "staging_prometheus"):  # they fill the list of steps
        import_module(f"tests.{steps}")

    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="dedup2d-staging-") as directory,
        staged(Path(directory)) as stage,
    ):
        say(True, time.monotonic() - begin, "Redis, S3, vision, two services and Prometheus have started")
        failed = walk(stage)
    print(f"{failed} failed, {time.monotonic() - begin:.0f} s")  # noqa: T201 - what it is for
    return 1 if failed else 0


if __name__ == "__main__":
    # The steps import this module by its name, not as the script.
    from tests.staging import main as walk_all

    sys.exit(walk_all())
