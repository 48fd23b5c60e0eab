"""deploy/compose.yml is started without an engine: its commands and environment, on ports of loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define
from redis import AuthenticationError, Redis
from redis.exceptions import NoPermissionError

from tests.deploy_files import DEPLOY, ROOT, compose, environment_of, made_env
from tests.deployment import until
from tests.leashed import Leashed
from tests.s3_server import s3_server
from tests.servers import free_port, redis_binary
from tests.test_deploy_kubernetes import container

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(150)]


@define
class Started:
    """The services of the compose file as processes, and where each of their ports is here."""

    directory: Path
    variables: dict[str, str]
    loaded: dict[str, Any]
    places: dict[str, str]

    def moved(self, text: str, service: str) -> str:
        """Replace names and ports of containers by those of this machine."""
        own = {f"127.0.0.1:9100{end}": f"127.0.0.1:{self.places[service]}{end}" for end in ("", "/metrics")}
        for shown, real in {**own, **self.places}.items():
            text = text.replace(shown, real)
        return text

    def environment(self, service: str) -> dict[str, str]:
        given = environment_of(self.loaded["services"][service])
        given = {name: self.moved(value, service) for name, value in given.items()}
        return {
            "PATH": os.environ["PATH"],
            "DEDUP2D_DATA_DIR": str(self.directory / "index"),
            "DEDUP2D_LOG_FORMAT": "json",
            "DEDUP2D_PORT": self.places["127.0.0.1:8000"].rpartition(":")[2],
            "DEDUP2D_VISION_PORT": self.places["127.0.0.1:58001"].rpartition(":")[2],
            **given,
            "DEDUP2D_METRICS_HOST": "127.0.0.1",
            "DEDUP2D_METRICS_PORT": self.places[service],
        }

    @contextmanager
    def running(self, service: str) -> Iterator[Leashed]:
        words = [str(word) for word in self.loaded["services"][service]["command"]]
        process = Leashed(
            [sys.executable, "-m", "dedup2d", *words],
            self.directory / f"{service}.log",
            self.environment(service),
        )
        process.start()
        try:
            yield process
        finally:
            process.stop()

    def tool(self, service: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dedup2d", *(words or self.loaded["services"][service]["command"])],
            env=self.environment(service),
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def healthy(self, service: str) -> bool:
        """Run the health check of the compose file."""
        [_, _, url] = self.loaded["services"][service]["healthcheck"]["test"]
        check = [sys.executable, str(DEPLOY / "healthcheck.py"), self.moved(url, service)]
        return subprocess.run(check, capture_output=True, check=False, timeout=20).returncode == 0


@contextmanager
def started_redis(directory: Path, variables: Mapping[str, str]) -> Iterator[int]:
    """Run deploy/redis/start.sh with the Redis of the tests."""
    port, programs = free_port(), directory / "programs"
    programs.mkdir()
    (programs / "redis-server").symlink_to(redis_binary())
    (directory / "redis").mkdir()
    process = Leashed(
        ["/bin/sh", str(DEPLOY / "redis/start.sh")],
        directory / "redis.log",
        {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "REDISCLI_AUTH": variables["CAD_ML_REDIS_PASSWORD"],
            "REDIS_BIND": "127.0.0.1",
            "REDIS_PORT": str(port),
            "REDIS_DIRECTORY": str(directory / "redis"),
        },
    )
    process.start()
    try:
        yield port
    finally:
        process.stop()


@contextmanager
def started_all(directory: Path) -> Iterator[Started]:
    variables = made_env(directory)
    with ExitStack() as stack:
        redis = stack.enter_context(started_redis(directory, variables))
        s3 = stack.enter_context(s3_server(directory))
        places = {
            "redis:6379": f"127.0.0.1:{redis}",
            "http://minio:9000": s3.endpoint,
            "127.0.0.1:8000": f"127.0.0.1:{free_port()}",
            "127.0.0.1:58001": f"127.0.0.1:{free_port()}",
        }
        places["vision:58001"] = places["127.0.0.1:58001"]
        places |= {name: str(free_port()) for name in ("api", "worker", "vision", "gc", "doctor", "index")}
        loaded = compose("compose.yml", variables)
        for name in ("api", "worker", "gc", "doctor"):
            loaded["services"][name]["environment"] |= {
                "DEDUP2D_S3_BUCKET": s3.bucket,
                "DEDUP2D_S3_ACCESS_KEY": s3.access_key,
                "DEDUP2D_S3_SECRET_KEY": s3.secret_key,
            }
        found = Started(directory, variables, loaded, places)
        for service in ("vision", "api", "worker"):
            stack.enter_context(found.running(service))
            until(lambda service=service: found.healthy(service), seconds=40)  # type: ignore[misc]  # mypy knows no defaults of lambdas
        yield found


def a_search_goes_through_all_of_it(started: Started) -> None:
    """Else the compose file brings up services that do not work together."""
    drawings = started.directory / "drawings"
    samples = started.tool("index", "samples", str(drawings), "--parts", "1")
    assert samples.returncode == 0, samples.stderr
    indexed = started.tool("index", "index", str(drawings))
    assert indexed.returncode == 0, indexed.stderr
    tenant, _, key = started.variables["DEDUP2D_API_KEYS"].partition(":")
    url = f"http://{started.places['127.0.0.1:8000']}"
    picture = next(drawings.glob("*_scan.*"))
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60, trust_env=False) as client:
        query = {"async": "true", "compute_diff": "false"}
        made = client.post(
            "/api/v1/dedup/2d/search", params=query, files={"file": (picture.name, picture.read_bytes())}
        )
        assert made.status_code == 202, made.text
        done = client.get(made.json()["poll_url"], headers={"Prefer": "wait=60"}).json()

    assert done["status"] == "completed", done
    assert done["tenant_id"] == tenant == started.variables["DEDUP2D_TENANT"]
    assert done["result"]["total_matches"] > 0


def probes_of_the_manifests_are_answered(started: Started) -> None:
    """Else a cluster would kill these processes though they are well."""
    for name, port in (("api", "127.0.0.1:8000"), ("vision", "127.0.0.1:58001"), ("worker", "")):
        ports = {"http": started.places.get(port, ""), "metrics": f"127.0.0.1:{started.places[name]}"}
        only = container(name)
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in only:
                asked = only[kind]["httpGet"]
                answer = httpx.get(f"http://{ports[asked['port']]}{asked['path']}", trust_env=False)
                assert answer.status_code == 200, (name, kind, answer.text)


def every_part_shows_its_metrics(started: Started) -> None:
    """Else a part is missing from the dashboard."""
    for name in ("api", "worker", "vision"):
        shown = httpx.get(f"http://127.0.0.1:{started.places[name]}/metrics", trust_env=False)
        assert "\ndedup2d_build_info{" in shown.text


def tools_find_nothing_wrong(started: Started) -> None:
    """Else `run --rm doctor` or `run --rm gc` cannot use what the services use."""
    doctor, gc = started.tool("doctor"), started.tool("gc")

    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert gc.returncode == 0, gc.stdout + gc.stderr


def redis_knows_one_user_with_few_rights(started: Started) -> None:
    """Else whoever reaches the port of Redis owns the jobs, or the user may do more than needed."""
    port = int(started.places["redis:6379"].rpartition(":")[2])
    password = started.variables["CAD_ML_REDIS_PASSWORD"]
    with Redis(port=port, username="dedup2d", password=password) as own:
        assert own.ping()
        kept = {name: own.config_get(name)[name] for name in ("appendonly", "maxmemory-policy")}
        assert kept == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        for words in (["FLUSHALL"], ["GET", "other"], ["ACL", "LIST"], ["CONFIG", "SET", "dir", "/"]):
            with pytest.raises(NoPermissionError):
                own.execute_command(*words)
    with Redis(port=port, retry=None) as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    page = (ROOT / "docs/deployment.md").read_text()
    [rights] = re.findall(r"^ACL SETUSER \S+ on \S+ (.*)$", page, re.MULTILINE)
    assert rights in (DEPLOY / "redis/start.sh").read_text()


def test_what_the_compose_file_starts_works_together(tmp_path: Path) -> None:
    """If this fails, `docker compose up` brings up parts that do not find or understand each other."""
    # One test: on several processes of pytest each would start all of it for itself.
    with started_all(tmp_path) as started:
        a_search_goes_through_all_of_it(started)
        probes_of_the_manifests_are_answered(started)
        every_part_shows_its_metrics(started)
        tools_find_nothing_wrong(started)
        redis_knows_one_user_with_few_rights(started)
