"""What must hold where attrs and anyio alone are installed; also run with everything installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from dedup2d import Dedup2D, JobStatus, SearchParams, ServiceOptions
from dedup2d.files.memory import MemoryFileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.queues.memory import MemoryQueue
from dedup2d.testing import FakeVision, check_file_store, check_job_store, check_queue

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)

HEAVY = (
    *("aiobotocore", "aiohttp", "cv2", "cyclopts", "environ", "ezdxf", "granian", "msgspec", "multipart"),
    *("numpy", "PIL", "prometheus_client", "pypdfium2", "redis", "resvg_py", "rich", "rq", "starlette"),
    "structlog",
)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    """If this fails, `import dedup2d` needs a package that a user of the bare library does not have."""
    loaded = run_python(f"import sys, dedup2d; print([m for m in {HEAVY!r} if m in sys.modules])")

    assert loaded == "[]"


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("dedup2d.settings", "environ", "engine"),
        ("dedup2d.metrics", "prometheus_client", "http"),
        ("dedup2d.callbacks.guard", "aiohttp", "http"),
        ("dedup2d.jobs.sqlite", "msgspec", "engine"),
        ("dedup2d.vision.embedded", "numpy", "engine"),
        ("dedup2d.vision.embedded", "cv2", "engine"),
        ("dedup2d_http.app", "starlette", "http"),
        ("dedup2d_http.server", "granian", "http"),
    ],
)
def test_missing_extra_is_one_clear_error(module: str, missing: str, extra: str) -> None:
    """If this fails, a missing extra shows as a bare ImportError that does not say what to install."""
    code = f"""
import sys
sys.modules[{missing!r}] = None
try:
    import {module}
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = run_python(code).splitlines()[-1]  # OpenCV prints advice of its own

    assert said.startswith("MissingExtraError ")
    assert f'pip install "dedup2d[{extra}]"' in said


def test_command_without_extra_says_what_to_install() -> None:
    """If this fails, `dedup2d` of a bare install ends in a traceback."""
    code = """
import sys
sys.modules["cyclopts"] = None
from dedup2d.cli import main
print("exit", main(["--version"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50
    )

    assert 'pip install "dedup2d[engine]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "exit 2"


def test_memory_back_ends_keep_their_contracts() -> None:
    """If this fails, the back ends that need no extra break a promise of the protocols."""

    async def main() -> None:
        await check_job_store(lambda clock: MemoryJobStore(clock=clock))
        await check_file_store(lambda clock: MemoryFileStore(clock=clock))
        await check_queue(MemoryQueue)

    anyio.run(main)


def test_service_runs_a_job_on_memory_alone() -> None:
    """If this fails, the library's main job cannot be done without extras."""

    @asynccontextmanager
    async def service() -> AsyncIterator[Dedup2D]:
        async with Dedup2D(
            jobs=MemoryJobStore(),
            files=MemoryFileStore(),
            queue=MemoryQueue(),
            vision=FakeVision(),
            options=ServiceOptions(),
        ) as dedup:
            yield dedup

    async def main() -> None:
        async with service() as dedup:
            job = await dedup.submit("acme", PNG, file_name="a.png", params=SearchParams(mode="fast"))
            final = await dedup.wait("acme", job.job_id, timeout=10)
            assert final.status is JobStatus.COMPLETED
            assert final.result is not None

    anyio.run(main)
