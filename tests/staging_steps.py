"""The smoke tests of a staged deployment, in the order in which they are walked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.deployment import API, KEY, Api, until
from tests.leashed import Leashed
from tests.staging import OTHER_KEY, Stage, step

QUERY = "HP37000-8_turn90.png"
FOUND = "HP37000-8.png"


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=10)


def names_of(result: dict[str, Any]) -> list[str]:
    return [match["file_name"] for match in result["duplicates"]]


def answered(api: Api, job_id: str, name: str) -> dict[str, Any]:
    """Wait for the job and see that its result names the drawing as a duplicate."""
    job = api.final(job_id, seconds=60)
    assert job["status"] == "completed", f"{job['status']}: {job['error']}"
    assert name in names_of(job["result"]), f"{name} is not among {names_of(job['result'])}"
    return job


def log_of(worker: Leashed, job_id: str) -> list[str]:
    """Return what the worker's log says about the job."""
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line.get("job_id") == job_id]


def worker_of(stage: Stage, job_id: str) -> Leashed:
    """Return the worker that runs, or ran, the job."""
    found: list[Leashed] = []

    def named() -> bool:
        found.extend(worker for worker in stage.workers.values() if log_of(worker, job_id))
        return bool(found)

    until(named, seconds=20)
    return found[0]


@step("dedup2d doctor finds nothing wrong")
def doctor(stage: Stage) -> None:
    process = stage.here.running([sys.executable, "-m", "dedup2d", "doctor", "--json"], "doctor")
    assert process.process is not None
    code = process.process.wait(60)
    findings = json.loads(process.log.read_text())["findings"]
    wrong = [
        f"{each['part']}: {each['text']}"
        for each in findings
        if each["state"] != "ok" and not (each["part"] == "callbacks" and "private networks" in each["text"])
    ]  # the receiver of callbacks is on loopback
    assert not wrong, "; ".join(wrong)
    assert code == 0
    assert {"redis", "jobs", "files", "queue", "vision"} <= {each["part"] for each in findings}


@step("a job waits with its file in the bucket, and a canceled one leaves none")
def waiting(stage: Stage) -> None:
    first, second = stage.here.apis
    job_id = stage.submit(QUERY)
    assert len(stage.files()) == 1, stage.files()
    assert (first.status(job_id), second.status(job_id)) == ("pending", "pending")
    assert stage.redis.ttl(f"dedup2d:job:{job_id}") == -1, "a waiting job must not expire"
    with second.client() as client:
        canceled = client.post(f"{API}/jobs/{job_id}/cancel").raise_for_status().json()
    assert canceled["canceled"], canceled
    assert first.status(job_id) == "canceled"
    until(lambda: not stage.files(), seconds=10)


@step("POST search: 202, pending, poll_url; three workers start; completed with the right drawing")
def search(stage: Stage) -> None:
    first, second = stage.here.apis
    query = {"mode": "balanced", "max_results": "10"}
    answer = first.try_submit(stage.sample(QUERY), name=QUERY, **query)
    taken = answer.json()
    assert (answer.status_code, taken["status"]) == (202, "pending"), answer.text
    assert taken["poll_url"] == answer.headers["Location"] == f"{API}/jobs/{taken['job_id']}"
    for queue in ("main", "main", "cad"):
        stage.start_worker(queue)
    stage.job = answered(first, taken["job_id"], FOUND)
    assert second.job(taken["job_id"]) == stage.job, "the other service sees another job"


@step("the file is gone from the bucket once its job is final")
def cleaned_up(stage: Stage) -> None:
    until(lambda: not stage.files(), seconds=10)


@step("the log of its worker says that the job started and that it is final")
def logged(stage: Stage) -> None:
    events = log_of(worker_of(stage, stage.job["job_id"]), stage.job["job_id"])
    assert events == ["job started", "job is final"], events


@step("Redis has the keys of the job, its result and its tenant, and they expire")
def kept(stage: Stage) -> None:
    job_id, redis = stage.job["job_id"], stage.redis
    for key in (f"dedup2d:job:{job_id}", f"dedup2d:result:{job_id}", f"dedup2d:payload:{job_id}"):
        assert 3600 <= redis.ttl(key) <= 2 * 3600, f"{key} lives for {redis.ttl(key)} s"
    assert redis.hget(f"dedup2d:job:{job_id}", "status") == "completed"
    assert redis.zscore("dedup2d:tenant:acme:jobs", job_id) is not None


@step("rq info shows the queues and three workers")
def seen_by_rq(stage: Stage) -> None:
    command = [str(Path(sys.executable).with_name("rq")), "info", "--raw", "--url", stage.here.redis.url]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert {line[1] for line in lines if line[0] == "queue"} == {"dedup2d:queue", "dedup2d:cad"}, shown
    assert len([line for line in lines if line[0] == "worker"]) == 3, shown


@step("GET /metrics: services, workers and the vision server export what they did")
def metrics(stage: Stage) -> None:
    vision = get(f"{stage.vision_url}/metrics").text
    services = "".join(get(f"{api.url}/metrics").text for api in stage.here.apis)
    workers = "".join(get(f"http://127.0.0.1:{port}/metrics").text for port in stage.workers)
    assert "dedup2d_jobs_submitted_total 2.0" in services
    assert 'dedup2d_jobs_finished_total{status="completed"} 1.0' in workers
    assert 'dedup2d_vision_operations_total{operation="search",outcome="ok"} 1.0' in vision
    assert "dedupcad_vision_" in workers


@step("dedup2d smoke passes through both services, a signed callback included")
def smoke(stage: Stage) -> None:
    ports = (int(stage.vision_url.rpartition(":")[2]), *stage.workers)
    for api in stage.here.apis:
        urls = (f"http://127.0.0.1:{port}/metrics" for port in (api.port, *ports))
        command = ["smoke", "--json", "--url", api.url, "--receive", f"127.0.0.1:{stage.callback_port}"]
        command += ["--other-key", OTHER_KEY, *(word for url in urls for word in ("--metrics-url", url))]
        process = stage.here.started(command, "smoke", {"DEDUP2D_API_KEY": KEY})
        assert process.process is not None
        code = process.process.wait(120)
        walked = json.loads(process.log.read_text().splitlines()[0])["steps"]
        wrong = [f"{each['name']}: {each['text']}" for each in walked if each["state"] != "passed"]
        assert not wrong, "; ".join(wrong)
        assert code == 0
    until(lambda: not stage.files(), seconds=10)


@step("a drawing added through one service is found through the other")
def added(stage: Stage) -> None:
    first, second = stage.here.apis
    with first.client() as client:
        name = "HP37056-2.png"
        answer = client.post(f"{API}/index/add", files={"file": (name, stage.sample(name))})
    assert answer.json()["added"], answer.text
    answered(second, stage.submit("HP37056-2_turn180.png", api=1), name)


@step("a DXF waits in the queue for CAD files, and only its worker takes it")
def cad(stage: Stage) -> None:
    first = stage.here.apis[0]
    [cad_worker] = [worker for worker in stage.workers.values() if "cad" in worker.arguments]
    cad_worker.send(signal.SIGSTOP)
    try:
        job_id = stage.submit("HP37000-8_revC.dxf")
        answered(first, stage.submit(QUERY), FOUND)  # the others go on meanwhile
        assert first.status(job_id) == "pending"
    finally:
        cad_worker.send(signal.SIGCONT)
    assert first.final(job_id)["status"] == "completed"
    assert worker_of(stage, job_id) is cad_worker


@step("a file that the client puts into the bucket itself")
def presigned(stage: Stage) -> None:
    data = stage.sample(QUERY)
    with stage.here.apis[0].client() as client:
        offer = client.post(f"{API}/uploads", params={"size": len(data)})
        assert offer.status_code == 201, offer.text
        place = offer.json()
        put = httpx.request(
            place["method"], place["url"], headers=place["headers"], content=data, trust_env=False
        )
        assert put.status_code == 200, put.text
        query = {"file_key": place["file_key"], "file_name": QUERY}
        taken = client.post(f"{API}/search", params=query)
    assert taken.status_code == 202, taken.text
    answered(stage.here.apis[1], taken.json()["job_id"], FOUND)
    until(lambda: not stage.files(), seconds=10)


@step("a worker killed in mid-job: another completes it")
def killed(stage: Stage) -> None:
    first = stage.here.apis[0]
    stage.vision.send(signal.SIGSTOP)
    try:
        job_id = stage.submit(QUERY)
        until(lambda: first.status(job_id) == "in_progress")
        worker = worker_of(stage, job_id)
        worker.kill()
        stage.forget(worker)
    finally:
        stage.vision.send(signal.SIGCONT)
    job = answered(first, job_id, FOUND)
    assert job["attempts"] == 2, job
    stage.start_worker("main")


@step("a service and a worker are replaced while clients submit: nothing is lost")
def rolling(stage: Stage) -> None:
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(submit_for_a_while, stage, 12)
        old = stage.here.apis[0]
        stage.here.api()
        stage.here.apis.remove(old)
        stage.stop(old.process)
        worker = next(worker for worker in stage.workers.values() if "main" in worker.arguments)
        stage.start_worker("main")
        stage.stop(worker)
        ids = submitting.result()
    for job_id in ids:
        answered(stage.here.apis[0], job_id, FOUND)
    assert set(stage.stopped.values()) == {0}, stage.stopped


def submit_for_a_while(stage: Stage, number: int) -> list[str]:
    """Submit by turns to the services, and to the other if one does not take it: as a load balancer does."""
    ids: list[str] = []
    while len(ids) < number:
        api = stage.here.apis[len(ids) % 2]
        try:
            answer = api.try_submit(stage.sample(QUERY), name=QUERY, compute_diff="false")
        except httpx.TransportError:
            continue
        if answer.status_code == 503:
            continue
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["job_id"])
        time.sleep(0.2)
    return ids
