"""Starts with wrong settings and missing servers: over within seconds, with one line that says what to do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
from attrs import frozen

from tests.s3_server import shared_s3_server
from tests.servers import free_port, redis_server

pytestmark = [pytest.mark.timeout(120), pytest.mark.deployment]

SECONDS = 25.0
"""How long a start that fails may take: importing, and one time-out of a server that is silent."""

SECRETS = ("hunter22", "right-password", "0123456789abcdef")
SERVE, WORKER, VISION = ["serve", "--port", "0"], ["worker"], ["vision", "serve", "--port", "0"]
COMMANDS = {"serve": SERVE, "worker": WORKER}
SERVERS = {"vision": VISION, "vision x 2": [*VISION, "--processes", "2"]}


@frozen
class Places:
    """Where things are, right and wrong."""

    variables: Mapping[str, str]
    names: Mapping[str, str]


def _answering_http(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """A deployment that is well, and addresses at which something else answers, or nobody."""
    directory, s3 = tmp_path_factory.mktemp("start"), shared_s3_server()
    (directory / "file").write_text("no directory")
    with (
        redis_server(directory / "redis", appendonly=True, password="right-password") as redis,
        closing(socket.create_server(("127.0.0.1", 0))) as http,
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
    ):
        threading.Thread(target=_answering_http, args=(http,), daemon=True).start()
        yield Places(
            {
                "DEDUP2D_DATA_DIR": str(directory / "data"),
                "DEDUP2D_API_KEYS": "acme:0123456789abcdef",
                "DEDUP2D_ASYNC_BACKEND": "redis",
                "DEDUP2D_REDIS_URL": redis.url,
                "DEDUP2D_FILE_STORAGE": "s3",
                "DEDUP2D_S3_ENDPOINT": s3.endpoint,
                "DEDUP2D_S3_BUCKET": s3.bucket,
                "DEDUP2D_S3_ACCESS_KEY": s3.access_key,
                "DEDUP2D_S3_SECRET_KEY": s3.secret_key,
                "DEDUPCAD_VISION_URL": "http://127.0.0.1:9",
            },
            {
                "closed": f"127.0.0.1:{free_port()}",
                "http": f"127.0.0.1:{http.getsockname()[1]}",
                "http_port": str(http.getsockname()[1]),
                "silent": f"127.0.0.1:{silent.getsockname()[1]}",
                "redis": f"127.0.0.1:{redis.port}",
                "file": str(directory / "file"),
            },
        )


@frozen
class Ended:
    """How a command ended."""

    code: int
    seconds: float
    stdout: str
    stderr: str


def run(places: Places, arguments: list[str], changes: Mapping[str, str]) -> Ended:
    """Run `dedup2d` with the variables of a deployment that is well, but for *changes*; {} are places."""
    changed = {name: value.format(**places.names) for name, value in changes.items()}
    others = {name: value for name, value in os.environ.items() if not name.startswith("DEDUP")}
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "dedup2d", *(each.format(**places.names) for each in arguments)],
        env={**others, **places.variables, **changed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"it runs: {stderr}") from None
    return Ended(process.returncode, time.monotonic() - begin, stdout, stderr)


REDIS = "DEDUP2D_REDIS_URL"
WRONG_FOR_ALL = {
    "Redis: closed port": ({REDIS: "redis://:hunter22@{closed}/0"}, REDIS, "refused"),
    "Redis: wrong password": ({REDIS: "redis://:hunter22@{redis}/0"}, REDIS, "password"),
    "Redis: no password": ({REDIS: "redis://{redis}/0"}, REDIS, "password"),
    "Redis: no such database": ({REDIS: "redis://:right-password@{redis}/99"}, REDIS, "out of range"),
    "Redis: something else": ({REDIS: "redis://:hunter22@{http}/0"}, REDIS, "HTTP"),
    "Redis: silent": ({REDIS: "redis://:hunter22@{silent}/0"}, REDIS, "does not answer"),
    "Redis: without TLS": ({REDIS: "rediss://:hunter22@{redis}/0"}, REDIS, "does not answer"),
    "Redis: unknown host": ({REDIS: "redis://:hunter22@no-such-host.invalid/0"}, REDIS, "not known"),
    "Redis: no scheme": ({REDIS: "user:hunter22@localhost:6379"}, REDIS, "redis://"),
    "S3: unknown key": ({"DEDUP2D_S3_ACCESS_KEY": "nobody"}, "DEDUP2D_S3_ACCESS_KEY", "InvalidAccessKeyId"),
    "S3: wrong secret": ({"DEDUP2D_S3_SECRET_KEY": "hunter22"}, "DEDUP2D_S3_SECRET_KEY", "403"),
    "S3: no secret": ({"DEDUP2D_S3_SECRET_KEY": ""}, "DEDUP2D_S3_SECRET_KEY", "other half"),
    "S3: no such bucket": ({"DEDUP2D_S3_BUCKET": "nowhere"}, "DEDUP2D_S3_BUCKET", "exists"),
    "S3: no bucket": ({"DEDUP2D_S3_BUCKET": ""}, "DEDUP2D_S3_BUCKET", "bucket of the uploads"),
    "S3: closed port": ({"DEDUP2D_S3_ENDPOINT": "http://{closed}"}, "DEDUP2D_S3_ENDPOINT", "refused"),
    "S3: something else": ({"DEDUP2D_S3_ENDPOINT": "http://{http}"}, "DEDUP2D_S3_ENDPOINT", "400"),
    "S3: silent": ({"DEDUP2D_S3_ENDPOINT": "http://{silent}"}, "DEDUP2D_S3_ENDPOINT", "in time"),
    "S3: unknown host": (
        {"DEDUP2D_S3_ENDPOINT": "http://no-such-host.invalid"},
        "DEDUP2D_S3_ENDPOINT",
        "not known",
    ),
    "vision: no scheme": ({"DEDUPCAD_VISION_URL": "vision:58001"}, "DEDUPCAD_VISION_URL", "scheme"),
    "vision: password": (
        {"DEDUPCAD_VISION_URL": "http://u:hunter22@v"},
        "DEDUPCAD_VISION_URL",
        "without user",
    ),
    "no directory for the index": (
        {"DEDUP2D_DATA_DIR": "{file}/data", "DEDUPCAD_VISION_URL": ""},
        "DEDUP2D_DATA_DIR",
        "directory to write to",
    ),
    "no directory for the uploads": (
        {"DEDUP2D_FILE_STORAGE": "local", "DEDUP2D_FILE_STORAGE_DIR": "/proc/nowhere"},
        "DEDUP2D_FILE_STORAGE_DIR",
        "directory to write to",
    ),
    "no number": ({"DEDUP2D_ASYNC_LEASE_SECONDS": "long"}, "DEDUP2D_ASYNC_LEASE_SECONDS", "seconds from"),
}
"""Changes to what is well, the variable to blame, and a word of the reason or of what to do."""

WRONG_FOR_ONE = {
    **{
        f"worker x 2: {what}": ([*WORKER, "--processes", "2"], *WRONG_FOR_ALL[what])
        for what in ("Redis: closed port", "S3: silent", "no number")
    },
    "serve: taken port": (["serve", "--port", "{http_port}"], {}, "DEDUP2D_PORT", "in use"),
    "serve: open to all": (
        SERVE,
        {"DEDUP2D_HOST": "0.0.0.0", "DEDUP2D_API_KEYS": ""},
        "DEDUP2D_HOST",
        "KEYS",
    ),
    "serve: unknown address": (SERVE, {"DEDUP2D_HOST": "no-such-host.invalid"}, "DEDUP2D_HOST", "not known"),
    "worker: nothing to do": (
        WORKER,
        {"DEDUP2D_ASYNC_BACKEND": "inprocess"},
        "DEDUP2D_ASYNC_BACKEND",
        "redis",
    ),
    "worker: no CAD queue": ([*WORKER, "--queue", "cad"], {}, "DEDUP2D_RENDER_QUEUE_NAME", "name of a queue"),
    "worker: taken port": ([*WORKER, "--metrics-port", "{http_port}"], {}, "--metrics-port", "in use"),
    "vision: taken port": (["vision", "serve", "--port", "{http_port}"], {}, "DEDUP2D_VISION_PORT", "in use"),
    "vision: open to all": (VISION, {"DEDUP2D_VISION_HOST": "0.0.0.0"}, "DEDUP2D_VISION_HOST", "API_KEY"),
    **{
        f"{name}: no directory": (command, {"DEDUP2D_DATA_DIR": "{file}/data"}, "DEDUP2D_DATA_DIR", "write")
        for name, command in SERVERS.items()
    },
}


def check(ended: Ended, variable: str, word: str) -> None:
    """Make sure that one line names the variable, the reason and what to do, and no secret."""
    assert ended.code == 2, ended.stderr
    assert ended.seconds < SECONDS
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(r"dedup2d: error: .* is not allowed: set it to .*", line)
    assert variable in line
    assert word in line
    assert not ended.stdout
    assert not any(secret in ended.stderr for secret in SECRETS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", WRONG_FOR_ALL)
def test_a_wrong_setting_ends_the_start(places: Places, what: str, command: str) -> None:
    """If this fails, a deployment that is set up wrongly hangs, says nothing, or says it with a secret."""
    changes, variable, word = WRONG_FOR_ALL[what]

    check(run(places, COMMANDS[command], changes), variable, word)


@pytest.mark.parametrize("what", WRONG_FOR_ONE)
def test_what_is_wrong_for_one_command_ends_its_start(places: Places, what: str) -> None:
    """If this fails, an operator looks for a fault of one command in the settings of all."""
    command, changes, variable, word = WRONG_FOR_ONE[what]

    check(run(places, command, changes), variable, word)


@pytest.mark.parametrize("what", WRONG_FOR_ALL)
def test_doctor_says_the_same_without_starting(places: Places, what: str) -> None:
    """If this fails, the command that is to find faults misses those that keep a service from starting."""
    changes, variable, word = WRONG_FOR_ALL[what]
    ended = run(places, ["doctor"], {"DEDUPCAD_VISION_URL": "http://{closed}", **changes})

    assert ended.code == 2
    assert any(
        "\terror\t" in line and variable in line and word in line for line in ended.stdout.splitlines()
    ), ended.stdout
    assert ended.stdout.startswith("part\t")
    assert not ended.stderr
    assert not any(secret in ended.stdout for secret in SECRETS)


def test_directories_of_others_are_not_needed(places: Places, tmp_path: Path) -> None:
    """If this fails, a worker that keeps nothing on its machine needs a disk to start."""
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dedup2d", *WORKER],
            env={**os.environ, **places.variables, "DEDUP2D_DATA_DIR": "/proc/nowhere"},
            stderr=output,
        )
    try:
        end = time.monotonic() + 30
        while "worker ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
