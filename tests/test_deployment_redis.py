"""A deployment whose Redis is full, guarded, or written to by strangers; and how fast a backlog drains."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.deployment import API, deployment, terminated, until
from tests.leashed import Leashed

pytestmark = [pytest.mark.timeout(120), pytest.mark.deployment]

CALM: dict[str, Any] = {"DEDUP2D_ASYNC_SWEEP_SECONDS": "15"}
RULE = ["+@all", "-@admin", "-@dangerous", "+info", "+config|get"]
"""What docs/deployment.md lets the user of a deployment do."""


def told(process: Leashed, *levels: str) -> list[dict[str, Any]]:
    """Return the lines of these levels in the log of a process, without what its start says of the Redis."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [one for one in lines if one["level"] in levels and "about the Redis" not in one["event"]]


def test_a_full_redis_refuses_new_jobs_and_ends_the_others(tmp_path: Path) -> None:
    """If this fails, a full Redis fails the jobs that run, or is filled beyond its limit."""
    with deployment(tmp_path) as here, Redis.from_url(here.redis.url) as redis:
        api, worker = here.api(), here.worker("--concurrency", "2")
        assert here.vision is not None
        here.vision.control(mode="slow", slow_seconds=4)  # longer than a lease
        ids = [api.submit() for _ in range(4)]
        until(lambda: len(api.jobs("in_progress")) == 2)
        redis.config_set("maxmemory", "1")
        refused = api.try_submit()
        finals = [api.final(job_id) for job_id in ids]
        files = here.files()
        redis.config_set("maxmemory", "0")
        here.vision.control(mode="ok")

        assert (refused.status_code, refused.json()["code"]) == (503, "STORE_UNAVAILABLE")
        assert [(job["status"], job["attempts"]) for job in finals] == [("completed", 1)] * 4
        assert not files
        assert api.final(api.submit())["status"] == "completed"
        assert not told(worker, "error")


def test_a_user_with_the_rights_of_the_documentation_runs_a_deployment(tmp_path: Path) -> None:
    """If this fails, who follows the documentation has a service that is refused by its own Redis."""
    with deployment(tmp_path, **CALM) as here, Redis.from_url(here.redis.url) as redis:
        redis.execute_command(
            "ACL", "SETUSER", "app", "on", ">app-password", "~dedup2d:*", "~rq:*", "&rq:*", *RULE
        )
        guarded = {"DEDUP2D_REDIS_URL": here.redis.url.replace("://", "://app:app-password@")}
        api, worker = here.api(**guarded), here.worker(**guarded)
        assert api.final(api.submit())["status"] == "completed"
        assert here.vision is not None
        here.vision.control(mode="hang")
        job_id = api.submit()
        until(lambda: api.status(job_id) == "in_progress")
        with api.client() as client:
            assert client.post(f"{API}/jobs/{job_id}/cancel").status_code == 200
        assert api.final(job_id)["status"] == "canceled"
        time.sleep(4)  # RQ tidies up with the first beat of the worker

        assert terminated(worker) == 0
        assert not told(worker, "warning", "error")
        assert not redis.acl_log()


def test_what_strangers_put_into_the_queue_neither_runs_nor_stops_anything(tmp_path: Path) -> None:
    """If this fails, who can write to Redis runs code in workers, or holds them up with garbage."""
    queue, mark = "rq:queue:dedup2d:queue", tmp_path / "was-here"
    with deployment(tmp_path, **CALM) as here, Redis.from_url(here.redis.url) as redis:
        api, worker = here.api(), here.worker()
        call = json.dumps(["os.system", None, [f"touch {mark}"], {}])
        for name, data in {"call": call, "bytes": b"\xff\xfe\x00", "deep": "[" * 100_000}.items():
            fields = {"data": data, "created_at": "2026-01-01T00:00:00.000000Z", "origin": "dedup2d:queue"}
            redis.hset(f"rq:job:{name}", mapping={**fields, "success_callback_name": "os.abort"})
            redis.rpush(queue, name)
        redis.set("rq:job:text", "no hash")
        redis.rpush(queue, "text", b"\xff\xfe", b"", b"x" * 1_000_000, *(f"none-{n}" for n in range(2000)))
        begin = time.monotonic()
        assert api.final(api.submit())["status"] == "completed"
        waited = time.monotonic() - begin
        until(lambda: not redis.llen(queue), seconds=60)

        assert waited < 5
        assert not mark.exists()
        assert worker.running()
        assert len(told(worker, "error")) < 10
        redis.set(queue, "no list")
        assert api.try_submit().status_code == 202  # it is stored, and the sweep finds it


def test_the_backlog_of_an_outage_does_not_wait_for_sweeps(tmp_path: Path) -> None:
    """If this fails, jobs stand idle for a quarter of a minute and more after vision is back."""
    circuit: dict[str, Any] = {"DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS": "2"}
    with deployment(tmp_path, **CALM, **circuit) as here:
        api = here.api()
        assert here.vision is not None
        here.vision.kill()
        here.worker("--concurrency", "4")
        for _ in range(40):
            api.submit()
        until(lambda: all(job["last_error"] for job in api.jobs("pending")))
        here.vision.restart()
        waited = until(lambda: len(api.jobs("completed")) == 40)

        assert waited < 12  # the circuit opens after 2 s at most, and the jobs come back within 5 s of that
