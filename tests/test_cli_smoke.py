"""`dedup2d smoke` against services that run as processes: whole ones, and broken ones."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from dedup2d.smoke import STEP_NAMES
from dedup2d.smoke.drawing import plate
from tests.cli_support import Done, command, environment, run, run_process
from tests.deployment import API, until
from tests.servers import free_port, redis_url
from tests.serving import Served, serving
from tests.test_cli_jobs import receiving

KEY, OTHER_KEY = "test-key-0123456789", "other-key-0123456789"
SECRET = "whsec_c2VjcmV0IG9mIGNhbGxiYWNrcyBpbiB0ZXN0cw=="
KEYS = {"DEDUP2D_API_KEYS": f"acme:{KEY}, umbra:{OTHER_KEY}"}
PORT = free_port()
CALLBACKS = {
    "DEDUP2D_CALLBACK_ALLOW_HTTP": "1",
    "DEDUP2D_CALLBACK_ALLOWLIST": "127.0.0.1",
    "DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS": "0",
    "DEDUP2D_CALLBACK_PORTS": str(PORT),
    "DEDUP2D_CALLBACK_HMAC_SECRET": SECRET,
}
RECEIVE = ("--receive", f"127.0.0.1:{PORT}")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a service with keys, that may call a receiver of the tests."""
    with serving(tmp_path_factory.mktemp("whole") / "data", {**KEYS, **CALLBACKS}) as served:
        yield served


def smoke(served: Served | str, *arguments: str, key: str = KEY, secret: str = SECRET) -> Done:
    """Walk with the key and the secret in the environment."""
    url = served if isinstance(served, str) else served.url
    variables = {"DEDUP2D_API_KEY": key, "DEDUP2D_CALLBACK_HMAC_SECRET": secret}
    return run_process(["smoke", "--url", url, *arguments], Path("unused"), **variables)


def steps(done: Done) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in done.json["steps"]}


def failed(done: Done) -> set[str]:
    return {name for name, step in steps(done).items() if step["state"] == "failed"}


def drawings(served: Served) -> int:
    with served.client(KEY) as client:
        total: int = client.get(f"{API}/index/drawings").raise_for_status().json()["total"]
    return total


def active_jobs(served: Served) -> int:
    with served.client(KEY) as client:
        pages = [client.get(f"{API}/jobs?status={each}").json() for each in ("pending", "in_progress")]
    return sum(page["total"] for page in pages)


def test_all_of_a_whole_service(whole: Served) -> None:
    """If this fails, a service that is well does not pass, or the walk leaves something in its index."""
    done = smoke(whole, *RECEIVE, "--other-key", OTHER_KEY, "--json")
    found = steps(done)

    assert [name for name, step in found.items() if step["state"] != "passed"] == [], done.out
    assert tuple(found) == (*STEP_NAMES, "clean-up")
    assert done.code == 0
    assert (done.json["passed"], done.json["failed"], done.json["skipped"]) == (len(found), 0, 0)
    assert found["callback"]["text"] == "202, callback_status=success, callback_http_status=204"
    assert "genuine" in found["callback-signature"]["text"]
    assert "is not on the list" in found["callback-refused"]["text"]
    assert found["search"]["text"] == "found as exact (1.00)"
    assert found["job"]["text"].endswith("found as identical (1.00)")
    assert drawings(whole) == active_jobs(whole) == 0
    assert KEY not in done.out + done.err
    assert SECRET not in done.out + done.err


def test_a_table_for_people(whole: Served) -> None:
    """If this fails, the output of a pipe cannot be cut into columns, or says not why a step was left out."""
    done = smoke(whole, "--skip", "forced-job")
    rows = {row[1]: row for row in done.rows}

    assert done.code == 0
    assert done.out.splitlines()[0] == "state\tstep\tseconds\twhat"
    assert {len(row) for row in rows.values()} == {4}
    assert rows["forced-job"][0] == "skipped"
    assert rows["callback"][3].endswith("To do: give --receive HOST:PORT, or --callback-url")
    assert rows["live"][3] == f"the service answers: {whole.url}"
    assert done.err == f"{len(rows) - 4} passed, 0 failed, 4 skipped\n"


def test_a_wrong_key(whole: Served) -> None:
    """If this fails, a wrong key ends in a list of failures that does not name it."""
    done = smoke(whole, "--json", key="wrong-key-0123456789")
    found = steps(done)

    assert done.code == 1
    assert failed(done) == {"key"}
    assert "401 UNAUTHORIZED" in found["key"]["text"]
    assert "dedup2d keys list" in found["key"]["advice"]
    assert (found["add"]["state"], found["add"]["text"]) == ("skipped", "it needs the step key")


def test_a_key_without_the_scope(tmp_path: Path) -> None:
    """If this fails, an operator whose key may only search is not told which scope is missing."""
    data_dir = tmp_path / "data"
    made = run_process(["keys", "create", "acme", "--scope", "search"], data_dir)
    with serving(data_dir) as served:
        done = smoke(served, "--json", key=made.out.strip())

    assert failed(done) == {"add"}
    assert "--scope search --scope index" in steps(done)["add"]["advice"]


def test_a_secret_that_does_not_fit(whole: Served) -> None:
    """If this fails, receivers refuse every callback and the walk passes."""
    done = smoke(whole, *RECEIVE, "--json", secret="another-secret-0123456789")

    assert done.code == 1
    assert failed(done) == {"callback-signature"}
    assert "no signature fits" in steps(done)["callback-signature"]["text"]
    assert "DEDUP2D_CALLBACK_HMAC_SECRET" in steps(done)["callback-signature"]["advice"]


def test_a_callback_that_is_blocked(tmp_path: Path) -> None:
    """If this fails, a receiver that the service may not call is not told from one that is down."""
    with serving(tmp_path / "data", KEYS) as served:
        done = smoke(served, *RECEIVE, "--json")
        left = drawings(served), active_jobs(served)
    found = steps(done)

    assert done.code == 1
    assert failed(done) == {"callback"}
    assert "400 CALLBACK_URL_INVALID" in found["callback"]["text"]
    assert "DEDUP2D_CALLBACK_ALLOWLIST" in found["callback"]["advice"]
    assert found["callback-signature"]["state"] == "skipped"
    assert left == (0, 0)


def test_a_receiver_that_is_down(whole: Served) -> None:
    """If this fails, callbacks that nobody takes look like callbacks that arrive."""
    done = smoke(whole, "--json", "--timeout", "30", "--callback-url", f"http://127.0.0.1:{PORT}/hook")

    assert failed(done) == {"callback"}
    assert "callback_status=pending" in steps(done)["callback"]["text"]
    assert "could not be reached" in steps(done)["callback"]["text"]
    assert "see whether the receiver runs" in steps(done)["callback"]["advice"]


def test_another_receiver_than_ours(whole: Served) -> None:
    """If this fails, a proxy that leads callbacks elsewhere is not found, or looks like a slow service."""
    with receiving(PORT) as came:
        url = f"http://127.0.0.1:{PORT}/hook"
        done = smoke(whole, "--json", "--receive", f"127.0.0.1:{free_port()}", "--callback-url", url)

    assert came  # also what an earlier test left to be tried again
    assert failed(done) == {"callback"}
    assert "nothing came to this machine" in steps(done)["callback"]["text"]
    assert "let --callback-url lead to --receive" in steps(done)["callback"]["advice"]


def test_a_receiver_of_ones_own(whole: Served) -> None:
    """If this fails, a receiver that runs already cannot be tried."""
    with receiving(PORT) as came:
        done = smoke(whole, "--json", "--callback-url", f"http://127.0.0.1:{PORT}/hook")
    found = steps(done)

    assert came  # also what an earlier test left to be tried again
    assert (done.code, found["callback"]["state"]) == (0, "passed")
    assert found["callback-signature"]["advice"] == "give --receive HOST:PORT"


def test_every_host_may_be_called(tmp_path: Path) -> None:
    """If this fails, a service that calls whatever host is named passes."""
    anything = {**CALLBACKS, "DEDUP2D_CALLBACK_ALLOWLIST": "", "DEDUP2D_CALLBACK_RESOLVE_DNS": "0"}
    with serving(tmp_path / "data", {**KEYS, **anything}) as served:
        done = smoke(served, *RECEIVE, "--json")
        active = active_jobs(served)

    assert failed(done) == {"callback-refused"}
    assert "set DEDUP2D_CALLBACK_ALLOWLIST" in steps(done)["callback-refused"]["advice"]
    assert active == 0


def test_vision_is_down(tmp_path: Path) -> None:
    """If this fails, an operator is not led to the vision server."""
    nowhere = {"DEDUPCAD_VISION_URL": f"http://127.0.0.1:{free_port()}"}
    with serving(tmp_path / "data", {**KEYS, **nowhere}) as served:
        done = smoke(served, "--json", "--timeout", "20")
        active = active_jobs(served)
    found = steps(done)

    assert done.code == 1
    assert failed(done) == {"health", "add"}
    assert found["health"]["text"] == "the service runs, but vision is unhealthy"
    assert "VISION_UNAVAILABLE" in found["add"]["text"] or "vision" in found["add"]["text"]
    for name in ("health", "add"):
        assert "DEDUPCAD_VISION_URL" in found[name]["advice"]
    assert found["clean-up"]["state"] == "passed"
    assert active == 0


@pytest.fixture
def without_workers(tmp_path: Path) -> Iterator[Served]:
    """Run a service whose jobs wait for workers that nobody has started."""
    redis = {
        "DEDUP2D_ASYNC_BACKEND": "redis",
        "DEDUP2D_REDIS_URL": redis_url(),
        "DEDUP2D_REDIS_KEY_PREFIX": f"test-{token_hex(8)}",
    }
    with serving(tmp_path / "data", {**KEYS, **redis}) as served:
        yield served


def test_no_workers(without_workers: Served) -> None:
    """If this fails, jobs that nobody runs are not told from jobs that are slow, or are left behind."""
    done = smoke(without_workers, "--json", "--timeout", "10")
    found = steps(done)

    assert failed(done) == {"job"}
    assert "is still pending after 8 s" in found["job"]["text"]
    assert "see whether workers run" in found["job"]["advice"]
    assert found["cancel"]["text"] == "canceled"
    assert drawings(without_workers) == active_jobs(without_workers) == 0


def test_stopped_half_way(without_workers: Served, tmp_path: Path) -> None:
    """If this fails, Ctrl-C leaves a drawing in the index of a tenant, and a job that waits."""
    log = tmp_path / "smoke.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("smoke", "--url", without_workers.url, "--timeout", "90"),
            env=environment(tmp_path, DEDUP2D_API_KEY=KEY),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: active_jobs(without_workers) == 1)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    finally:
        process.kill()

    assert code == 130, log.read_text()
    assert time.monotonic() - begin < 15
    assert "nothing of it stays behind" in log.read_text()
    assert drawings(without_workers) == active_jobs(without_workers) == 0


def test_nobody_is_there() -> None:
    """If this fails, a wrong URL costs a time-out for each step, or ends in a traceback."""
    done = smoke(f"http://127.0.0.1:{free_port()}", "--json")
    found = steps(done)

    assert done.code == 1
    assert failed(done) == {"live"}
    assert "connection refused" in found["live"]["text"]
    assert "whether this machine may reach it" in found["live"]["advice"]
    assert {step["state"] for name, step in found.items() if name not in ("live", "clean-up")} == {"skipped"}


def test_metrics_on_a_port_of_their_own(tmp_path: Path) -> None:
    """If this fails, metrics that nobody can read pass, or those on another port cannot be looked at."""
    port = free_port()
    with serving(tmp_path / "data", {**KEYS, "DEDUP2D_METRICS_PORT": str(port)}) as served:
        skips = [each for each in STEP_NAMES if each not in ("live", "metrics")]
        only = [word for name in skips for word in ("--skip", name)]
        beside = steps(smoke(served, "--json", *only))["metrics"]
        there = steps(smoke(served, "--json", *only, "--metrics-url", f"http://127.0.0.1:{port}/metrics"))
        wrong = smoke(served, "--json", *only, "--metrics-url", f"{served.url}/livez")

    assert (beside["state"], beside["advice"]) == ("skipped", "give --metrics-url, once for each process")
    assert there["metrics"]["state"] == "passed"
    assert failed(wrong) == {"metrics"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--url"),
        (("--url", "ftp://example.com"), "url=ftp://example.com is not allowed"),
        (("--url", "http://user:secret@example.com"), "url=*** is not allowed"),
        (
            ("--url", "http://x", "--skip", "nothing"),
            "skip=nothing is not allowed: give names of steps: live",
        ),
        (("--url", "http://x", "--receive", "9800"), "give HOST:PORT"),
        (("--url", "http://x", "--receive", "0.0.0.0:9800"), "or callback_url too"),
        (("--url", "http://x", "--receive", "198.51.100.1:9800"), "a free port of this machine"),
        (("--url", "http://x", "--callback-secret", "short"), "--callback-secret=*** is not allowed"),
        (("--url", "http://x", "--timeout", "0"), "--timeout"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    """If this fails, a mistake on the command line is taken for a broken service (1), or shows a secret."""
    done = run(capsys, "smoke", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "secret@" not in done.err


def test_drawings_are_unlike() -> None:
    """If this fails, two walks at once find each other's drawings."""
    assert plate("a") == plate("a")
    assert len({plate(str(seed)) for seed in range(20)}) == 20
    with pytest.raises(ValueError, match="scale is 0"):
        plate("a", scale=0)
