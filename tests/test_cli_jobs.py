"""`dedup2d jobs` on the stores that the environment names, and beside a service that runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import pytest

from dedup2d.build import build_service
from dedup2d.observe import Observer
from dedup2d.service import Dedup2D
from dedup2d.settings import Settings
from dedup2d.smoke.drawing import plate
from dedup2d.types import CallbackStatus, Job, JobStatus
from tests.cli_support import Done, run, run_process
from tests.deployment import API, until
from tests.servers import free_port, redis_url
from tests.serving import Served, serving

KEY = "test-key-0123456789"
URL = "https://198.41.0.4/hook?token=of-the-receiver"
"""A public address, so that no name is resolved; nothing is sent to it here."""


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def stores(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep jobs in a file, or in Redis, and uploads in a directory."""
    variables = {"DEDUP2D_DATA_DIR": str(tmp_path / "data"), "DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH": "0"}
    if request.param == "redis":
        prefix = f"test-{token_hex(8)}"
        variables |= {
            "DEDUP2D_ASYNC_BACKEND": "redis",
            "DEDUP2D_REDIS_URL": redis_url(),
            "DEDUP2D_REDIS_KEY_PREFIX": prefix,
        }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def with_service(work: Callable[[Dedup2D], Awaitable[Any]]) -> Any:
    """Do *work* as a service would that runs no jobs."""

    async def main() -> Any:
        async with build_service(Settings.from_environment(), Observer(), concurrency=0) as service:
            return await work(service)

    return anyio.run(main)


async def submit(service: Dedup2D, name: str, *, tenant: str = "default", callback: bool = False) -> Job:
    url = URL if callback else None
    return await service.submit(tenant, plate(name), file_name=f"{name}.png", callback_url=url)


async def end(service: Dedup2D, job: Job, *, error: str | None = None) -> None:
    """Let a job end as a worker would."""
    assert await service.jobs.claim("me", lease_seconds=60, job_id=job.job_id)
    failed: dict[str, Any] = {"error_code": "VISION_UNAVAILABLE", "error": error} if error else {}
    status = JobStatus.FAILED if error else JobStatus.COMPLETED
    await service.jobs.finish(job.job_id, "me", status=status, ttl_seconds=600, **failed)


async def fail_callback(service: Dedup2D) -> None:
    """Let a callback that is due end in vain, as its sender would."""
    job = await service.jobs.claim_callback("me", lease_seconds=60)
    assert job is not None
    await service.jobs.finish_callback(
        job.job_id,
        "me",
        status=CallbackStatus.FAILED,
        ttl_seconds=600,
        http_status=410,
        error="the receiver answered with 410",
    )


def failed_job() -> Job:
    async def work(service: Dedup2D) -> Job:
        job = await submit(service, "plate")
        await end(service, job, error="nobody answers")
        return job

    found: Job = with_service(work)
    return found


def cells(done: Done) -> list[dict[str, str]]:
    names = done.out.splitlines()[0].split("\t")
    return [dict(zip(names, row, strict=True)) for row in done.rows]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, an operator does not see which jobs wait, or sees those of another tenant."""

    async def work(service: Dedup2D) -> list[Job]:
        jobs = [await submit(service, name) for name in "abc"]
        await submit(service, "theirs", tenant="umbra")
        await end(service, jobs[0], error="nobody answers")
        return jobs

    jobs = with_service(work)
    shown = run(capsys, "jobs", "list")
    failed = run(capsys, "jobs", "list", "--status", "failed")
    first = run(capsys, "jobs", "list", "-n", "2", "--json").json
    rest = run(capsys, "jobs", "list", "--json", "--page-token", first["next_page_token"]).json

    assert shown.code == 0
    assert [row["job"] for row in cells(shown)] == [job.job_id for job in reversed(jobs)]
    assert [(row["job"], row["why"]) for row in cells(failed)] == [
        (jobs[0].job_id, "VISION_UNAVAILABLE: nobody answers")
    ]
    assert [job["job_id"] for job in (*first["jobs"], *rest["jobs"])] == [j.job_id for j in reversed(jobs)]
    assert (first["total"], rest["next_page_token"]) == (3, None)
    assert [row["file"] for row in cells(run(capsys, "jobs", "list", "--tenant", "umbra"))] == ["theirs.png"]


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, somebody who looks at the wrong tenant takes silence for health."""
    listed, dead = run(capsys, "jobs", "list", "--status", "failed"), run(capsys, "jobs", "dead")

    assert (listed.code, listed.out) == (1, "")
    assert "no failed jobs of tenant default: --tenant names another" in listed.err
    assert (dead.code, dead.out) == (1, "")
    assert "--tenant names another" in dead.err


def test_show_keeps_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a job cannot be looked into, or a screen shows the secret in a callback's URL."""
    job = with_service(lambda service: submit(service, "plate", callback=True))
    shown = run(capsys, "jobs", "show", job.job_id)
    document = run(capsys, "jobs", "show", job.job_id, "--json")
    fields = {row[0]: row[1] for row in shown.rows}

    assert (fields["status"], fields["callback_host"], fields["file_name"]) == (
        "pending",
        "198.41.0.4",
        "plate.png",
    )
    assert fields["created_at"].endswith(" UTC")
    assert document.json["result"] is None
    assert not {"lease_token", "callback_lease_token", "callback_url"} & set(document.json)
    assert "of-the-receiver" not in shown.out + document.out


def test_cancel(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a job that blocks others cannot be stopped, or one that is through seems to be."""
    waiting = with_service(lambda service: submit(service, "plate"))
    failed = failed_job()
    some = run(capsys, "jobs", "cancel", waiting.job_id, failed.job_id, "f" * 32)
    none = run(capsys, "jobs", "cancel", failed.job_id)

    assert (some.code, some.out.split()) == (3, [waiting.job_id])
    assert f"job {failed.job_id} is failed already" in some.err
    assert f"job {'f' * 32} does not exist or has expired" in some.err
    assert none.code == 2
    assert [row["status"] for row in cells(run(capsys, "jobs", "list"))] == ["failed", "canceled"]


def test_retry_needs_the_drawing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """If this fails, a job is retried without its drawing, or one with it is not."""
    job = failed_job()
    retried = run(capsys, "jobs", "retry", job.job_id)
    new_id = retried.out.strip()
    new = run(capsys, "jobs", "show", new_id, "--json").json
    again = run(capsys, "jobs", "retry", new_id)
    with_service(lambda service: service.files.delete(job.file_key))
    gone = run(capsys, "jobs", "retry", job.job_id)

    assert retried.code == 0
    assert (new["status"], new["file_hash"], new["tenant_id"]) == ("pending", job.file_hash, "default")
    assert (again.code, again.out) == (2, "")
    assert "is pending: only failed and canceled jobs are retried" in again.err
    assert (gone.code, gone.out) == (2, "")
    assert "its drawing was deleted when it ended" in gone.err
    assert "DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH=0" in gone.err


def test_dead_letters(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, what ended badly is not found, or a callback in vain cannot be sent again."""

    async def work(service: Dedup2D) -> Job:
        called = await submit(service, "called", callback=True)
        await end(service, called)
        await fail_callback(service)
        await end(service, await submit(service, "well"))
        await submit(service, "waiting")
        return called

    called, failed = with_service(work), failed_job()
    shown = run(capsys, "jobs", "dead")
    one = run(capsys, "jobs", "dead", "-n", "1", "--json")
    again = run(capsys, "jobs", "dead", "--redeliver")
    after = run(capsys, "jobs", "show", called.job_id, "--json").json
    refused = run(capsys, "jobs", "redeliver", failed.job_id)

    assert [(row["job"], row["why"]) for row in cells(shown)] == [
        (failed.job_id, "VISION_UNAVAILABLE: nobody answers"),
        (called.job_id, "callback failed after 1 attempt with 410: the receiver answered with 410"),
    ]
    assert (len(one.json["dead"]), one.json["more"]) == (1, True)
    assert (one.json["dead"][0]["job_failed"], one.json["dead"][0]["callback_failed"]) == (True, False)
    assert again.code == 0
    assert "1 job: sent again" in again.err
    assert (after["callback_status"], after["callback_attempts"]) == ("pending", 0)
    assert refused.code == 2
    assert "was submitted without callback_url" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cancel",), "give at least one JOB"),
        (("show", "f" * 32), "does not exist or has expired"),
        (("list", "--page-token", "nonsense"), "page_token=nonsense is not allowed"),
        (("list", "--limit", "501"), "--limit"),
        (("list", "--status", "lost"), "--status"),
        (("list", "--tenant", "No Tenant"), "No Tenant"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    """If this fails, wrong usage ends in a traceback, or in silence."""
    done = run(capsys, "jobs", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_store_that_is_down(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an operator takes a Redis that is down for one without jobs."""
    monkeypatch.setenv("DEDUP2D_ASYNC_BACKEND", "redis")
    monkeypatch.setenv("DEDUP2D_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    for arguments in (("list",), ("dead",), ("show", "f" * 32), ("cancel", "f" * 32)):
        done = run(capsys, "jobs", *arguments)
        assert (done.code, done.out) == (2, "")
        assert "DEDUP2D_REDIS_URL" in done.err
        assert "refused" in done.err


@contextmanager
def receiving(port: int) -> Iterator[list[str]]:
    """Take callbacks; gives the ids of their jobs."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            came.append(self.headers["X-Dedup-Job-Id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield came
        finally:
            server.shutdown()
            thread.join()


def post(served: Served, name: str, **query: str) -> str:
    with served.client(KEY) as client:
        query = {"async": "true", **query}
        answer = client.post(f"{API}/search", params=query, files={"file": (f"{name}.png", plate(name))})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_beside_a_service(tmp_path: Path) -> None:
    """If this fails, what the command does is not done by the service that runs."""
    port = free_port()
    variables = {
        **{name: value for name, value in os.environ.items() if name.startswith("DEDUP2D_")},
        "DEDUP2D_API_KEYS": f"default:{KEY}",
        "DEDUP2D_ASYNC_SWEEP_SECONDS": "1",
        "DEDUP2D_CALLBACK_ALLOW_HTTP": "1",
        "DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS": "0",
        "DEDUP2D_CALLBACK_PORTS": str(port),
        "DEDUP2D_CALLBACK_MAX_ATTEMPTS": "1",
    }
    data_dir = tmp_path / "data"

    def jobs(*arguments: str) -> Done:
        return run_process(["jobs", *arguments, "--json"], data_dir, **variables)

    def of(job_id: str) -> Any:
        return jobs("show", job_id).json

    nowhere = {
        "DEDUPCAD_VISION_URL": f"http://127.0.0.1:{free_port()}",
        "DEDUP2D_ASYNC_MAX_WAIT_SECONDS": "1",
    }
    with serving(data_dir, {**variables, **nowhere}) as served:
        lost = post(served, "lost")
        until(lambda: of(lost)["status"] == "failed")
    with serving(data_dir, variables) as served:
        called = post(served, "called", callback_url=f"http://127.0.0.1:{port}/hook")
        until(lambda: of(called)["callback_status"] == "failed")
        dead = {one["job_id"]: one["reason"] for one in jobs("dead").json["dead"]}
        retried = jobs("retry", lost).json["jobs"][0]["job_id"]
        with receiving(port) as came:
            assert jobs("redeliver", called).code == 0
            until(lambda: of(called)["callback_status"] == "success")
        until(lambda: of(retried)["status"] == "completed")
        left = [one["job_id"] for one in jobs("dead").json["dead"]]

    assert set(dead) == {lost, called}
    assert dead[lost].startswith("VISION_UNAVAILABLE: ")
    assert "could not be reached" in dead[called]
    assert came == [called]
    assert left == [lost]
