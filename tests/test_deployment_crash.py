"""The crash table: real processes, killed, stopped and restarted; every job ends once."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tests.deployment import API, Deployment, deployment, picture, terminated, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.deployment]

TAKEOVER_SECONDS = 3 + 1 + 6
"""Lease and sweep of these tests, and what a busy machine may need on top; 60 + 15 s by default."""


def test_a_killed_worker_is_replaced_by_another(tmp_path: Path) -> None:
    """If this fails, a worker that the system kills takes its jobs with it."""
    with deployment(tmp_path) as here:
        api, first = here.api(), here.worker()
        here.vision.control(mode="hang")
        job_id = api.submit()
        until(lambda: api.status(job_id) == "in_progress")
        second = here.worker()
        here.vision.control(mode="ok")
        first.kill()
        waited = until(lambda: api.status(job_id) == "completed")
        job = api.job(job_id)

        assert waited < TAKEOVER_SECONDS
        assert job["attempts"] == 2
        assert job["result"]["total_matches"] == 1
        assert terminated(second) == 0


def test_all_workers_killed_lose_nothing(tmp_path: Path) -> None:
    """If this fails, a rack that loses power loses the jobs that ran there."""
    with deployment(tmp_path) as here:
        api, workers = here.api(), [here.worker("--concurrency", "2") for _ in range(2)]
        here.vision.control(mode="hang")
        ids = [api.submit() for _ in range(6)]
        until(lambda: len(api.jobs("in_progress")) == 4)
        for worker in workers:
            worker.kill()
        here.vision.control(mode="ok")
        here.worker()
        until(lambda: len(api.jobs("completed")) == 6)

        assert sorted(job["job_id"] for job in api.jobs()) == sorted(ids)
        assert Counter(job["attempts"] for job in api.jobs()) == {1: 2, 2: 4}


def test_a_redis_that_forgot_everything_is_used_again_within_seconds(tmp_path: Path) -> None:
    """If this fails, a restarted Redis leaves services and workers hanging until somebody restarts them."""
    with deployment(tmp_path) as here:
        api, _ = here.api(), here.worker()
        done = api.submit()
        api.final(done)
        here.vision.control(mode="slow", slow_seconds=2)
        running = api.submit()
        until(lambda: api.status(running) == "in_progress")
        here.redis.restart()
        recovered = until(lambda: _polled(here, done) == 404, seconds=10)
        here.vision.control(mode="ok")
        begin = time.monotonic()
        api.final(api.submit())

        assert recovered < 5
        assert time.monotonic() - begin < 5
        assert _polled(here, running) == 404


def _polled(here: Deployment, job_id: str) -> int:
    with here.apis[0].client() as client:
        return client.get(f"{API}/jobs/{job_id}").status_code


def test_a_redis_that_keeps_a_log_loses_nothing_when_killed(tmp_path: Path) -> None:
    """If this fails, jobs that were answered with 202 are gone after a restart of Redis."""
    with deployment(tmp_path, appendonly=True) as here:
        api, _ = here.api(), here.worker("--concurrency", "2")
        here.vision.control(mode="slow", slow_seconds=1)
        ids = [api.submit() for _ in range(10)]
        until(lambda: api.jobs("completed"))
        here.redis.restart()
        until(lambda: len(api.jobs("completed")) == 10, seconds=60)

        assert sorted(job["job_id"] for job in api.jobs()) == sorted(ids)
        assert all(job["result"] is not None for job in map(api.job, ids))


def test_a_redis_that_stands_still_for_ten_seconds_hangs_nobody(tmp_path: Path) -> None:
    """If this fails, a paused Redis makes requests hang, or jobs end twice or never."""
    with deployment(tmp_path) as here:
        api, worker = here.api(), here.worker()
        here.vision.control(mode="slow", slow_seconds=2)
        ids = [api.submit() for _ in range(4)]
        until(lambda: api.jobs("in_progress"))
        here.redis.pause()
        begin = time.monotonic()
        refused = api.try_submit()
        answered_in = time.monotonic() - begin
        time.sleep(max(0.0, 10 - answered_in))
        here.redis.resume()
        until(lambda: len(api.jobs("completed")) == 4, seconds=30)

        assert refused.status_code == 503
        assert refused.json()["code"] == "STORE_UNAVAILABLE"
        assert "Retry-After" in refused.headers
        assert answered_in < 6
        assert all(api.job(job_id)["result"] for job_id in ids)
        assert worker.running()


def test_an_s3_server_that_is_away_for_ten_seconds_fails_no_job(tmp_path: Path) -> None:
    """If this fails, an outage of the storage fails jobs that would succeed a minute later."""
    with deployment(tmp_path, s3=True) as here:
        assert here.s3 is not None
        api, _ = here.api(), here.worker("--concurrency", "2")
        here.vision.control(mode="hang")
        first = [api.submit() for _ in range(2)]
        until(lambda: len(api.jobs("in_progress")) == 2)
        waiting = [api.submit() for _ in range(3)]
        here.s3.kill()
        here.vision.control(mode="ok")
        begin = time.monotonic()
        refused = api.try_submit()
        assert refused.status_code == 503
        assert refused.json()["code"] == "STORE_UNAVAILABLE"
        time.sleep(max(0.0, 10 - (time.monotonic() - begin)))
        here.s3.restart()
        until(lambda: len(api.jobs("completed")) >= 3, seconds=60)

        assert {api.final(job_id, seconds=60)["status"] for job_id in waiting} == {"completed"}
        assert not api.jobs("failed")
        assert first


@pytest.mark.parametrize("mode", ["500", "503", "429", "drop", "cut"])
def test_a_vision_that_fails_for_a_while_fails_no_job(mode: str, tmp_path: Path) -> None:
    """If this fails, an outage of vision is the end of every job that waits."""
    with deployment(tmp_path, DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS="2") as here:
        api, _ = here.api(), here.worker()
        here.vision.control(mode=mode)
        ids = [api.submit() for _ in range(4)]
        until(lambda: any(job["last_error"] for job in api.jobs("pending")))
        here.vision.control(mode="ok")
        until(lambda: len(api.jobs("completed")) == 4, seconds=60)

        assert all(api.job(job_id)["result"] for job_id in ids)


def test_a_vision_that_is_down_with_many_jobs_waiting_fails_none(tmp_path: Path) -> None:
    """If this fails, a restart of vision fails the whole backlog within a second."""
    with deployment(tmp_path, DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS="2") as here:
        api = here.api()
        here.vision.kill()
        ids = [api.submit() for _ in range(100)]
        here.worker("--concurrency", "4")
        until(lambda: sum(bool(job["last_error"]) for job in api.jobs("pending")) >= 5)
        time.sleep(3)
        assert not api.jobs("failed")
        here.vision.restart()
        until(lambda: len(api.jobs("completed")) == 100, seconds=100)

        assert sorted(here.vision.state()["answered"].values()) == [1] * 100
        assert sorted(job["job_id"] for job in api.jobs()) == sorted(ids)


def test_a_vision_that_hangs_is_left_after_its_time(tmp_path: Path) -> None:
    """If this fails, one hanging call keeps a slot of the worker for ever."""
    with deployment(tmp_path, DEDUPCAD_VISION_TIMEOUT_SECONDS="1") as here:
        api, _ = here.api(), here.worker()
        here.vision.control(mode="hang")
        job_id = api.submit()
        until(lambda: api.job(job_id)["last_error"], seconds=40)
        assert api.status(job_id) == "pending"
        here.vision.control(mode="ok")

        assert api.final(job_id, seconds=60)["status"] == "completed"


@pytest.mark.parametrize("mode", ["not-json", "incomplete"])
def test_a_vision_that_answers_nonsense_fails_the_job_with_its_code(mode: str, tmp_path: Path) -> None:
    """If this fails, a proxy's error page becomes half a result, or a job that is tried for an hour."""
    with deployment(tmp_path) as here:
        api, _ = here.api(), here.worker()
        here.vision.control(mode=mode)
        job = api.final(api.submit())

        assert (job["status"], job["error_code"]) == ("failed", "VISION_BAD_RESPONSE")
        assert job["result"] is None


KILLED_AT = """
import asyncio, os, signal, sys
from dedup2d.service import Dedup2D
from dedup2d.settings import Settings

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    service = Dedup2D.from_settings(Settings.from_environment())
    async with service:
        part, method = sys.argv[1].split(".")
        setattr(getattr(service, part), method, die)
        await service.submit("acme", b"\\x89PNG\\r\\n\\x1a\\n" + bytes(100), file_name="a.png")

asyncio.run(main())
"""


def test_a_service_killed_between_file_and_record_leaves_a_file_that_is_collected(tmp_path: Path) -> None:
    """If this fails, every crash of a service leaves an upload for ever."""
    with deployment(
        tmp_path,
        DEDUP2D_FILE_STORAGE_RETENTION_SECONDS="60",
        DEDUP2D_ASYNC_JOB_TIMEOUT_SECONDS="30",
    ) as here:
        killed = here.running([sys.executable, "-c", KILLED_AT, "jobs.admit"], "killed")
        assert killed.process is not None
        assert killed.process.wait(30) == -signal.SIGKILL
        (left,) = here.files()
        old = time.time() - 120
        os.utime(left, (old, old))
        here.worker()
        until(lambda: not here.files())


def test_a_job_whose_service_was_killed_before_the_wake_up_is_swept_up(tmp_path: Path) -> None:
    """If this fails, a job that was stored but never announced waits for ever."""
    with deployment(tmp_path) as here:
        api, _ = here.api(), here.worker()
        killed = here.running([sys.executable, "-c", KILLED_AT, "queue.put"], "killed")
        assert killed.process is not None
        assert killed.process.wait(30) == -signal.SIGKILL
        waited = until(lambda: len(api.jobs("completed")) == 1)

        assert waited < TAKEOVER_SECONDS


WORKER_KILLED_AFTER_FINISH = """
import os, signal, sys
from dedup2d.upkeep import Upkeep

async def die(self, job):
    os.kill(os.getpid(), signal.SIGKILL)

Upkeep.after_final = die
from dedup2d.cli import main
sys.exit(main(["worker"]))
"""


def test_a_worker_killed_right_after_the_result_leaves_one_final_state(tmp_path: Path) -> None:
    """If this fails, a job is run again, and answered again, after its result was stored."""
    with deployment(tmp_path) as here:
        api = here.api()
        job_id = api.submit()
        here.running([sys.executable, "-c", WORKER_KILLED_AFTER_FINISH], "dies")
        until(lambda: api.status(job_id) == "completed", seconds=60)
        before = api.job(job_id)
        here.worker()
        later = api.submit()
        api.final(later)
        time.sleep(5)

        assert api.job(job_id) == before
        assert here.vision.state()["searches"][before["file_hash"]] == 1


def test_a_worker_that_is_asked_to_stop_gives_its_job_to_another(tmp_path: Path) -> None:
    """If this fails, a deploy cancels or fails what was running."""
    with deployment(tmp_path) as here:
        api, first = here.api(), here.worker("--grace", "1")
        here.vision.control(mode="hang")
        job_id = api.submit()
        until(lambda: api.status(job_id) == "in_progress")
        second = here.worker()
        here.vision.control(mode="ok")
        begin = time.monotonic()
        assert terminated(first) == 0
        stopped_in = time.monotonic() - begin
        job = api.final(job_id)

        assert stopped_in < 5
        assert job["status"] == "completed"
        assert job["result"]["total_matches"] == 1
        assert second.running()


def test_hundreds_of_jobs_end_once_while_workers_are_killed(tmp_path: Path) -> None:
    """If this fails, jobs get lost or run for ever where machines come and go."""
    with deployment(
        tmp_path,
        stub=("--fail-rate", "0.2"),
        DEDUP2D_ASYNC_MAX_JOBS="2000",
        DEDUPCAD_VISION_RETRY_ATTEMPTS="1",
    ) as here:
        here.vision.control(mode="slow", slow_seconds=0.1)  # so short that hardly any is lost three times
        api = here.api()
        workers = [here.worker("--concurrency", "4") for _ in range(3)]
        ids: list[str] = []
        with ThreadPoolExecutor(4) as pool:
            for _ in range(8):
                ids += pool.map(lambda _: api.submit(), range(50))
                workers.pop(0).kill()
                workers.append(here.worker("--concurrency", "4"))
        until(lambda: len(api.jobs("completed")) == 400, seconds=150, every=1)
        jobs = api.jobs()

        assert Counter(job["status"] for job in jobs) == {"completed": 400}
        assert sorted(job["job_id"] for job in jobs) == sorted(ids)
        assert Redis.from_url(here.redis.url).zcard("dedup2d:active") == 0


def test_two_services_admit_exactly_as_many_as_there_are_places(tmp_path: Path) -> None:
    """If this fails, services that share a queue overfill it."""
    with deployment(tmp_path, DEDUP2D_ASYNC_MAX_JOBS="100") as here:
        apis = [here.api(), here.api()]

        def submit(number: int) -> httpx.Response:
            return apis[number % 2].try_submit(picture())

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(submit, range(200)))

        assert Counter(answer.status_code for answer in answers) == {202: 100, 429: 100}
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
        assert len(apis[0].jobs("pending")) == 100
