"""What of the images, scripts and units can be checked without a container engine."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from dedup2d.settings import Settings
from dedup2d_http.server import GRACE_SECONDS
from dedup2d_worker.process import LEAVE_SECONDS
from tests.deploy_files import (
    DEPLOY,
    PINNED,
    ROOT,
    arguments_of,
    tool,
)

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCRIPTS = sorted(DEPLOY.rglob("*.sh"))
_PORT = re.compile(r"http://127\.0\.0\.1:(\d+)(/[\w/-]*)")


def run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 50, **more}
    return subprocess.run(list(map(str, words)), check=False, **options)  # type: ignore[call-overload,no-any-return]  # any of its options


def test_the_user_of_the_bucket_may_do_what_the_docs_say() -> None:
    """If this fails, the policy of the compose file and that of docs/deployment.md differ."""
    [shown] = re.findall(
        r"^```json\n(.*?)^```$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE | re.DOTALL
    )

    assert json.loads((DEPLOY / "minio/policy.json").read_text()) == json.loads(shown)


@pytest.mark.parametrize(
    ("said", "code"), [("", 0), ("policy change is already in effect", 0), ("access denied", 1)]
)
def test_the_bucket_may_be_set_up_again(tmp_path: Path, said: str, code: int) -> None:
    """If this fails, a second `up` stops before the service, or one without rights goes on."""
    fake = tmp_path / "mc"
    attach = f'echo "mc: <ERROR> {said}" >&2; exit 1' if said else "exit 0"
    fake.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\ncase "$*" in *attach*) {attach} ;; esac\n')
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run("sh", DEPLOY / "minio/setup.sh", env={"PATH": path, "S3_SECRET_KEY": "s" * 20})

    assert done.returncode == code
    assert ("denied" in done.stderr) == bool(code)
    assert "mb --ignore-existing s3/drawings" in (tmp_path / "calls").read_text()


def test_scripts_are_sound() -> None:
    """If this fails, a script breaks on another shell or on a name with a space."""
    assert len(SCRIPTS) >= 4
    done = run(tool("shellcheck") or "shellcheck", "--norc", *SCRIPTS)

    assert done.returncode == 0, done.stdout


def test_redis_takes_no_password_that_would_break_its_url() -> None:
    """If this fails, a password with a special character locks everybody out, or rewrites the rights."""
    done = run("sh", DEPLOY / "redis/start.sh", env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": "a b"})

    assert done.returncode == 2
    assert "CAD_ML_REDIS_PASSWORD" in done.stderr


def test_the_dockerfile_is_sound() -> None:
    """If this fails, hadolint knows a reason why the image is not built well."""
    linter = tool("hadolint") or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint has no wheel for this machine")
    done = run(linter, "--no-color", DEPLOY / "Dockerfile")

    assert done.returncode == 0, done.stdout


def test_images_are_small_pinned_and_run_without_root() -> None:
    """If this fails, an image runs as root, has its build tools in it, or changes with the day."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    named = {stage.split()[2]: stage for stage in stages}
    [default] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)

    assert PINNED.fullmatch(default)
    assert all(stage.split()[0] in {"${PYTHON_IMAGE}", *named} for stage in stages)
    assert list(named)[-2:] == ["lean", "full"]
    assert users == ["10001:10001"]
    for name in ("lean", "full"):
        assert named[name].startswith(f"base AS {name}\nCOPY --from=build-{name} /opt/dedup2d ")
    assert "USER 10001:10001" in named["base"]
    assert "pip install" not in named["base"]
    assert "HEALTHCHECK" in named["base"]
    assert "COPY --from=fonts /usr/share/fonts " in named["full"]  # else words are drawn as boxes
    assert not re.search(r"(SECRET|PASSWORD|KEY)=", DOCKERFILE)


def test_the_settings_of_the_image_exist() -> None:
    """If this fails, a variable of the image has no effect."""
    given = dict(re.findall(r"\b(DEDUP\w+)=(\S+)", DOCKERFILE))

    assert given.keys() <= Settings.names()
    assert Settings.from_environment(given).host == "0.0.0.0"
    [(port, _)] = _PORT.findall(DOCKERFILE)
    assert int(port) == Settings().port


def test_what_is_copied_reaches_the_builder() -> None:
    """If this fails, the build stops at a file that .dockerignore keeps from it, or takes secrets along."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
        if not source.startswith("--")
    ]

    assert lines[0] == "*"
    assert all((ROOT / source).exists() for source in copied)
    assert all(any(f"{source}/".startswith(f"{entry}/") for entry in allowed) for source in copied)
    assert {"**/.env", "**/*.env"} <= set(lines)


@pytest.mark.parametrize(("lock", "extras"), [("full", {"all"}), ("lean", {"http", "s3", "worker"})])
def test_locked_packages_are_what_the_project_needs(lock: str, extras: set[str]) -> None:
    """If this fails, an image lacks a package or has a wrong one: run deploy/requirements/lock.sh."""
    text = (DEPLOY / f"requirements/{lock}.txt").read_text()
    locked = {
        name: Version(version) for name, version in re.findall(r"^([\w.-]+)==([^ ;]+)", text, re.MULTILINE)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional, wanted = project["optional-dependencies"], list(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for each in map(Requirement, optional[waiting.pop()]):
            if each.name == "dedup2d":
                waiting += each.extras
            else:
                wanted.append(str(each))
    here = {"python_version": "3.13", "python_full_version": "3.13.7", "sys_platform": "linux"}

    assert text.count("--hash=sha256:") >= len(locked)
    for each in map(Requirement, wanted):
        if each.marker is None or each.marker.evaluate(here):
            assert locked[each.name.replace("_", "-")] in each.specifier, each


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_the_health_check_tells_healthy_from_not(status: int, code: int) -> None:
    """If this fails, a container that cannot answer counts as healthy."""
    with answering(status) as url:
        # A proxy of the machine must not be asked for the container's own address.
        done = run(sys.executable, DEPLOY / "healthcheck.py", url, env={"http_proxy": "http://127.0.0.1:9"})
    gone = run(sys.executable, DEPLOY / "healthcheck.py", url)

    assert (done.returncode, done.stdout) == (code, f"status {status}\n")
    assert gone.returncode == 1
    assert "refused" in gone.stdout
    assert run(sys.executable, DEPLOY / "healthcheck.py").returncode == 2


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_sound(unit: Path, tmp_path: Path) -> None:
    """If this fails, systemd refuses a unit, ignores a line of it, or its sandbox has become weak."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    for each in (DEPLOY / "systemd").iterdir():
        text = each.read_text().replace("/opt/dedup2d/.venv/bin/dedup2d", sys.executable)
        (tmp_path / each.name).write_text(text)
    place = tmp_path / unit.name
    timer = place.with_suffix(".timer")
    verified = run(analyze, "verify", "--man=no", place, *([timer] if timer.exists() else []))
    rated = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", place)

    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    assert rated.returncode == 0, rated.stdout[-200:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_what_exists_and_wait_for_it(unit: Path) -> None:
    """If this fails, a unit ends with wrong usage, has settings that do not exist, or is killed too early."""
    text = unit.read_text()
    [command] = re.findall(r"^ExecStart=/opt/dedup2d/\.venv/bin/dedup2d (.*)$", text, re.MULTILINE)
    given = arguments_of(command.split())
    settings = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))

    assert settings.keys() <= Settings.names()
    assert "User=dedup2d" in text
    if "Type=oneshot" not in text:
        [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        assert float(stop) > given.get("grace", GRACE_SECONDS) + LEAVE_SECONDS + 1
        assert "KillMode=mixed" in text


def test_images_are_named_after_the_version() -> None:
    """If this fails, a new version is deployed under the name of the one before, or the other way round."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = [*DEPLOY.glob("*.yml"), *DEPLOY.glob("kubernetes/*.yml"), DEPLOY / ".env.example"]
    named = [tag for path in files for tag in re.findall(r"dedup2d:(\d[\w.-]*)", path.read_text())]

    assert len(named) >= 8
    assert set(named) == {version, f"{version}-lean"}
