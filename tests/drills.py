"""
A deployment for fault drills: Redis, S3 behind a proxy that can refuse, a vision server, a service, a worker.

All but the proxy are real and processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from anyio.from_thread import start_blocking_portal
from attrs import define, evolve, field

from dedup2d.smoke.drawing import plate
from tests.deployment import KEY, Api, Deployment, storage_variables
from tests.leashed import Leashed
from tests.s3_server import s3_server
from tests.s3_support import Proxy, proxy_to
from tests.servers import free_port, redis_server

__all__ = ["Drill", "drilled"]


@define
class Drill:
    """The deployment, and what an operator sees of it."""

    here: Deployment
    proxy: Proxy
    vision: Leashed
    worker: Leashed
    metrics_port: int
    api: Api = field(init=False)

    @property
    def drawing(self) -> bytes:
        """A drawing to search by, at another resolution than the one of the index."""
        return plate("plate", scale=1.5)

    def submit(self, seed: str = "plate", **query: str) -> str:
        return self.api.submit(plate(seed, scale=1.5), name=f"{seed}.png", compute_diff="false", **query)

    def command(self, *arguments: str) -> str:
        """Return what a command says that is run with the environment of the service."""
        done = subprocess.run(
            [sys.executable, "-m", "dedup2d", *arguments],
            env={**os.environ, **self.here.variables, "DEDUP2D_API_KEY": KEY},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def metrics(self) -> str:
        """Return the metrics of the service and, while it runs, of the worker."""
        urls = [f"{self.api.url}/metrics", f"http://127.0.0.1:{self.metrics_port}/metrics"]
        running = urls if self.worker.running() else urls[:1]
        return "\n".join(httpx.get(url, trust_env=False).text for url in running)

    def logs(self) -> str:
        return self.api.process.log.read_text() + self.worker.log.read_text()


@contextmanager
def drilled(directory: Path) -> Iterator[Drill]:
    """Start everything, with one drawing in the index."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(directory / "redis"))
        store = stack.enter_context(s3_server(directory))
        portal = stack.enter_context(start_blocking_portal())
        proxy = stack.enter_context(portal.wrap_async_context_manager(proxy_to(store)))
        through = evolve(store, endpoint=f"http://127.0.0.1:{proxy.port}")
        url = f"http://127.0.0.1:{free_port()}"
        variables = {
            **storage_variables(directory, through),
            "DEDUP2D_API_KEYS": f"acme:{KEY}",
            "DEDUP2D_ASYNC_BACKEND": "redis",
            "DEDUP2D_REDIS_URL": redis.url,
            "DEDUPCAD_VISION_URL": url,
            "DEDUP2D_DATA_DIR": str(directory / "vision"),
            "DEDUP2D_TENANT": "acme",
            "DEDUP2D_LOG_FORMAT": "json",
            "DEDUP2D_ASYNC_LEASE_SECONDS": "3",
            "DEDUP2D_ASYNC_HEARTBEAT_SECONDS": "1",
            "DEDUP2D_ASYNC_SWEEP_SECONDS": "1",
        }
        here = Deployment(directory, redis, None, store, variables, stack)
        vision = here.started(["vision", "serve", "--port", url.rpartition(":")[2]], "vision")
        here.wait_for(vision, lambda: httpx.get(f"{url}/livez", trust_env=False).status_code == 200)
        port = free_port()
        worker = here.worker("--metrics-port", str(port))
        drill = Drill(here, proxy, vision, worker, port)
        drill.api = here.api()
        with drill.api.client() as client:
            files = {"file": ("plate.png", plate("plate"))}
            client.post("/api/v1/dedup/2d/index/add", files=files).raise_for_status()
        yield drill
