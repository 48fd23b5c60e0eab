"""
A service in a process of its own, on memory back ends and a vision that never answers.

Prints its URL once it listens: `python -m tests.http_process GRACE_SECONDS`.
"""

from __future__ import annotations

import sys

import anyio

from dedup2d.settings import Settings
from dedup2d_http.connections import free_address
from dedup2d_http.logs import configure_logging
from dedup2d_http.server import leave, serve_app
from tests.http_support import bench, holding


async def main(grace_seconds: float) -> None:
    configure_logging(level="info", form="json")
    settings = Settings(max_upload_bytes=8 * 1024 * 1024)
    async with bench(settings, vision=holding()) as api:
        await serve_app(
            api.app,
            *free_address("127.0.0.1", 0),
            api.stopping,
            on_ready=lambda url: print(url, flush=True),  # noqa: T201 - the test reads it
            grace_seconds=grace_seconds,
        )


if __name__ == "__main__":
    anyio.run(main, float(sys.argv[1]))
    leave()
