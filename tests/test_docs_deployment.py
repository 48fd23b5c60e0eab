"""docs/deployment.md is followed word by word, its machines being ports of loopback."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from redis import Redis

from dedup2d.settings import Settings
from tests.s3_server import S3Server, s3_server
from tests.servers import RedisServer, free_port, redis_server
from tests.test_docs import ROOT, commands, environment

PAGE = ROOT / "docs" / "deployment.md"
API_PAGE = ROOT / "docs" / "http-api.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DAEMON = re.compile(r"dedup2d (serve|worker|vision serve)\b")

# Runs what stays, waits until it is ready, and asks it to stop at the end; an exit code but 0 is an error.
_PRELUDE = """
pids=()
start() {
    local log=daemon-${#pids[@]}.log
    "$@" >"$log" 2>&1 &
    pids+=($!)
    until grep -q ready "$log"; do
        kill -0 $! || { cat "$log" >&2; exit 1; }
        sleep 0.2
    done
}
stop() {
    kill -TERM "${pids[@]}"
    for pid in "${pids[@]}"; do wait "$pid"; done
}
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true' EXIT
"""


def texts(kind: str, page: Path = PAGE) -> list[str]:
    return [text for found, text in _BLOCK.findall(page.read_text()) if found == kind]


def files() -> dict[str, str]:
    """Return the settings files of the page by their names."""
    return {text.partition("\n")[0].removeprefix("# "): text for text in texts("ini")}


def replaced(text: str, places: Mapping[str, str]) -> str:
    for shown, real in places.items():
        text = text.replace(shown, real)
    return text


def places(directory: Path, redis: RedisServer, s3: S3Server) -> dict[str, str]:
    """Return what stands in the page, and what it is here."""
    return {
        "redis.internal:6379": f"127.0.0.1:{redis.port}",
        "http://s3.internal:9000": s3.endpoint,
        "S3_BUCKET=drawings": f"S3_BUCKET={s3.bucket}",
        "S3-ACCESS-KEY": s3.access_key,
        "S3-SECRET-KEY": s3.secret_key,
        "vision.internal:58001": f"127.0.0.1:{free_port()}",
        "0.0.0.0": "127.0.0.1",
        "/var/lib/dedup2d": str(directory / "vision"),
        "127.0.0.1:8000": f"127.0.0.1:{free_port()}",
        "9100": str(free_port()),
    }


def let_in(redis: RedisServer) -> None:
    """Make the user of the page, with the rights that the page says are enough."""
    [rule] = [line for text in texts("text") for line in text.splitlines() if line.startswith("ACL ")]
    Redis.from_url(redis.url).execute_command(*rule.split())


def server_arguments() -> list[str]:
    """Return the settings of Redis that the page asks for, as a command line."""
    [text] = [text for text in texts("text") if text.startswith("appendonly")]
    return [word for line in text.splitlines() for word in ("--" + line).split()]


def port_of(shown: str, found: Mapping[str, str]) -> str:
    return found[shown].rpartition(":")[2]


@pytest.mark.deployment
@pytest.mark.timeout(240)
def test_the_page_works_as_it_stands(tmp_path: Path) -> None:
    """If this fails, an operator who does what the page says does not get a deployment."""
    with (
        redis_server(tmp_path / "redis", arguments=server_arguments()) as redis,
        s3_server(tmp_path) as s3,
    ):
        let_in(redis)
        found = places(tmp_path, redis, s3)
        for name in ("deployment.env", "vision.env"):
            (tmp_path / name).write_text(replaced(files()[name], found))
        with (tmp_path / "deployment.env").open("a") as settings:
            settings.write("DEDUP2D_S3_PRESIGNED_UPLOADS=1\n")  # for the snippet of the API's page
        [upload] = [text for text in texts("sh", API_PAGE) if "plant.dxf" in text]
        lines = ["set -x", *(_DAEMON.sub(r"start \g<0>", line) for line in commands(PAGE))]
        lines += ["cp drawings/HP37000-8_revC.dxf plant.dxf", upload, "stop"]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _PRELUDE + replaced("\n".join(lines), found)],
            cwd=tmp_path,
            env={
                **environment(tmp_path),
                "DEDUP2D_PORT": port_of("127.0.0.1:8000", found),
                "DEDUP2D_VISION_PORT": port_of("vision.internal:58001", found),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=220,
        )
        jobs = Redis.from_url(redis.url).zcard("dedup2d:tenant:acme:jobs")

    assert done.returncode == 0, done.stderr[-5000:]
    assert "warning" not in done.stdout, done.stdout
    assert " passed, 0 failed, " in done.stderr
    assert jobs >= 2 + 3  # those of the page, and of its smoke tests


def test_the_settings_of_the_page_exist() -> None:
    """If this fails, an operator sets variables that have no effect."""
    for name in ("deployment.env", "vision.env"):
        set_here = re.findall(r"^(\w+)=", files()[name], re.MULTILINE)
        assert set_here
        assert set(set_here) <= Settings.names()


def test_the_policy_of_the_page_is_json() -> None:
    """If this fails, a bucket policy that is copied from the page is refused."""
    [policy] = texts("json")

    assert json.loads(policy)["Statement"]
