"""
What Prometheus sees of the staged deployment, as it is well and in each bad case.

The walk has gone before. The bad cases are those of docs/operations.md; each mends what it broke.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.deployment import API, until
from tests.prometheus_files import alerts, panels, ran, recorded
from tests.prometheus_server import panel_query
from tests.staging import Stage, step

_QUERY = "HP37000-8_turn90.png"
_CALM_SECONDS = 20.0
_BUDGETS = {"Dedup2DErrorBudgetFast", "Dedup2DErrorBudgetSlow"}


class _Receiver(BaseHTTPRequestHandler):
    """
    Takes callbacks, and shows what `dedup2d gc` wrote as a node exporter would.

    By HTTP/1.0, so that no connection outlives the server.
    """

    page: Path

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        text = self.page.read_bytes() if self.page.exists() else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(stage: Stage, page: Path) -> Iterator[None]:
    """Run a receiver of callbacks."""
    handler = type("Receiver", (_Receiver,), {"page": page})
    with ThreadingHTTPServer(("127.0.0.1", stage.callback_port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def traffic(stage: Stage) -> Iterator[None]:
    """Let clients search, at once and by jobs with callbacks, for as long as the block runs."""
    ending = threading.Event()

    def come() -> None:
        while not ending.is_set():
            answer = search_at_once(stage)
            assert answer.status_code == 200, answer.text
            job_id = stage.submit(_QUERY, compute_diff="false", callback_url=callback_url(stage))
            stage.here.apis[0].final(job_id)
            ending.wait(1)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(come)
        try:
            yield
        finally:
            ending.set()
            coming.result()


def callback_url(stage: Stage) -> str:
    return f"http://127.0.0.1:{stage.callback_port}/hook"


def search_at_once(stage: Stage) -> httpx.Response:
    with stage.here.apis[1].client() as client:
        return client.post(f"{API}/search", files={"file": (_QUERY, stage.sample(_QUERY))})


def submitted(stage: Stage, **query: str) -> httpx.Response:
    return stage.here.apis[0].try_submit(stage.sample(_QUERY), name=_QUERY, compute_diff="false", **query)


def fire(stage: Stage, *names: str, meanwhile: Callable[[], object] = lambda: None, seconds: float) -> None:
    """Wait until each of the alerts has fired, and go on with what makes them."""
    missing, end = set(names), time.monotonic() + seconds
    while missing:
        assert time.monotonic() < end, f"not within {seconds:g} s: {', '.join(sorted(missing))}"
        meanwhile()
        time.sleep(0.3)
        missing -= stage.prometheus.firing()


def nothing_waits(stage: Stage) -> None:
    until(lambda: not stage.redis.zcard("dedup2d:active"), seconds=60)


@step("promtool finds nothing to say of what services, workers and the vision server export")
def exported(stage: Stage) -> None:
    for job, addresses in stage.targets().items():
        for address in addresses:
            text = httpx.get(f"http://{address}/metrics", trust_env=False, timeout=10).text
            checked = ran("check", "metrics", input=text)
            assert (checked.returncode, checked.stderr) == (0, ""), f"{job}: {checked.stderr}"


@step("all is well: each panel and each rule has samples, and no alert fires")
def calm(stage: Stage) -> None:
    prometheus = stage.prometheus
    until(lambda: not prometheus.query("ALERTS"), seconds=60)  # of what the walk has killed
    missing, page, begin = expressions(), stage.here.directory / "gc.prom", time.monotonic()
    with receiving(stage, page), traffic(stage):
        prometheus.follow({"node": [f"127.0.0.1:{stage.callback_port}"]})
        end = time.monotonic() + 60
        while missing:
            if any("_gc_" in each for each in missing):
                collected(stage, page)
            missing = [each for each in missing if prometheus.number(each) is None]
            assert time.monotonic() < end, f"no samples: {'; '.join(missing)}"
        time.sleep(max(0.0, begin + _CALM_SECONDS - time.monotonic()))
        fired = prometheus.fired(time.monotonic() - begin)
    prometheus.follow({"node": []})
    assert not fired, fired
    assert not prometheus.unhealthy(), prometheus.unhealthy()
    nothing_waits(stage)


def expressions() -> list[str]:
    """Return what panels ask for and rules record; first what is about collections, as these are rare."""
    found = [panel_query(target["expr"]) for panel in panels() for target in panel["targets"]]
    for name, each in recorded().items():
        for rule in each:
            labels = ",".join(f'{label}="{value}"' for label, value in rule.get("labels", {}).items())
            found.append(f"{name}{{{labels}}}")
    return sorted(set(found), key=lambda each: "_gc_" not in each)


def collected(stage: Stage, page: Path) -> None:
    """Run `dedup2d gc`, and wait until Prometheus knows."""
    before = stage.prometheus.number('dedup2d_gc_runs_total{job="node",outcome="ok"}') or 0
    command = stage.here.started(["gc", "--metrics-file", str(page)], "gc")
    assert command.process is not None
    assert command.process.wait(60) == 0, command.end_of_log()
    until(
        lambda: (stage.prometheus.number('dedup2d_gc_runs_total{job="node",outcome="ok"}') or 0) > before,
        seconds=20,
    )


@step("workers are killed in mid-job: WorkersLost, TargetDown")
def lost(stage: Stage) -> None:
    main = [worker for worker in stage.workers.values() if "main" in worker.arguments]
    stage.vision.send(signal.SIGSTOP)
    try:
        job_id = stage.submit(_QUERY)
        until(lambda: stage.here.apis[0].status(job_id) == "in_progress")
        for worker in main:
            worker.kill()
    finally:
        stage.vision.send(signal.SIGCONT)
    fire(stage, "Dedup2DWorkersLost", "Dedup2DTargetDown", seconds=30)
    for worker in main:
        stage.forget(worker)


@step("no worker is left, jobs wait: NoWorkers, Backlog, OldestJobWaits, JobsRefused, GCNotRunning")
def alone(stage: Stage) -> None:
    for worker in list(stage.workers.values()):
        stage.stop(worker)
    stage.prometheus.follow(stage.targets())
    until(lambda: submitted(stage).status_code == 429, every=0)
    fire(
        stage,
        *(f"Dedup2D{name}" for name in ("NoWorkers", "Backlog", "OldestJobWaits", "JobsRefused")),
        "Dedup2DGCNotRunning",
        meanwhile=lambda: submitted(stage),
        seconds=60,
    )


@step("a worker is back: SlowJobs, until what waited is done")
def back(stage: Stage) -> None:
    # A step below lets jobs fail for the vision server's sake, which takes an hour by default.
    stage.here.variables["DEDUP2D_ASYNC_MAX_WAIT_SECONDS"] = "2"
    stage.start_worker("main")
    stage.prometheus.follow(stage.targets())
    fire(stage, "Dedup2DSlowJobs", seconds=60)
    for job in stage.here.apis[0].jobs("pending"):
        with stage.here.apis[0].client() as client:
            client.post(f"{API}/jobs/{job['job_id']}/cancel")
    nothing_waits(stage)


@step("a receiver is down, and strange URLs are tried: CallbacksFailing, CallbacksBlocked")
def unheard(stage: Stage) -> None:
    def send() -> None:
        assert submitted(stage, callback_url=callback_url(stage)).status_code == 202
        refused = submitted(stage, callback_url="http://169.254.169.254/latest/meta-data")
        assert refused.status_code == 400, refused.text
        time.sleep(0.5)

    fire(stage, "Dedup2DCallbacksFailing", "Dedup2DCallbacksBlocked", meanwhile=send, seconds=45)
    nothing_waits(stage)


@step("the bucket denies access: StorageErrors")
def denied(stage: Stage) -> None:
    store = stage.here.s3
    assert store is not None
    assert store.gateway is not None
    allowed = store.gateway.environment
    assert "MINIO_ROOT_PASSWORD" in allowed, "only the gateway of JuiceFS can be told another secret"
    store.gateway.environment = {**allowed, "MINIO_ROOT_PASSWORD": "another-secret-0123456789"}
    store.restart()
    try:
        answer = submitted(stage)
        assert answer.status_code == 503, answer.text
        fire(stage, "Dedup2DStorageErrors", meanwhile=lambda: submitted(stage), seconds=45)
    finally:
        store.gateway.environment = allowed
        store.restart()
    until(lambda: submitted(stage).status_code == 202)
    nothing_waits(stage)


@step("Redis is down: JobStoreDown")
def forgetful(stage: Stage) -> None:
    stage.here.redis.kill()
    try:
        fire(stage, "Dedup2DJobStoreDown", seconds=45)
    finally:
        stage.here.redis.start()
    until(lambda: submitted(stage).status_code == 202)
    nothing_waits(stage)


@step(
    "the vision server is down: TargetDown, VisionErrors, VisionCircuitOpen, JobsFailing, both ErrorBudgets"
)
def blind(stage: Stage) -> None:
    def ask() -> None:
        answer = search_at_once(stage)
        assert answer.status_code == 503, answer.text
        submitted(stage)

    stage.vision.kill()
    try:
        fire(
            stage,
            *(
                f"Dedup2D{name}"
                for name in ("TargetDown", "VisionErrors", "VisionCircuitOpen", "JobsFailing")
            ),
            *_BUDGETS,
            meanwhile=ask,
            seconds=75,
        )
    finally:
        stage.vision.start()
    until(lambda: search_at_once(stage).status_code == 200, seconds=60, every=0.5)
    nothing_waits(stage)


@step("what is mended fires no more, and each alert has fired")
def mended(stage: Stage) -> None:
    end = time.monotonic() + 60
    while left := stage.prometheus.firing() - _BUDGETS:
        assert time.monotonic() < end, f"they still fire: {left}"
        # A circuit is closed by calls that succeed: clients come again.
        stage.here.apis[0].final(stage.submit(_QUERY, compute_diff="false"))
        time.sleep(0.5)
    nothing_waits(stage)
    fired = stage.prometheus.fired(1800)
    known = {(name, rule["labels"]["severity"]) for name, each in alerts().items() for rule in each}
    assert fired.keys() == known, f"never: {known - fired.keys()}, unknown: {fired.keys() - known}"
