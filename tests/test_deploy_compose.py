"""What of the compose files can be checked without a container engine."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from dedup2d.settings import Settings
from dedup2d_http.server import GRACE_SECONDS
from dedup2d_worker.process import GRACE_SECONDS as WORKER_GRACE
from dedup2d_worker.process import LEAVE_SECONDS
from tests.deploy_files import (
    COMPOSE,
    DEPLOY,
    PINNED,
    ROOT,
    UnsetError,
    arguments_of,
    assignments,
    compose,
    compose_variables,
    environment_of,
    example,
    made_env,
    own_services,
    tool,
)

_PORT = re.compile(r"http://127\.0\.0\.1:(\d+)(/[\w/-]*)")
_SECONDS = re.compile(r"(\d+)s")


def run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 50, **more}
    return subprocess.run(list(map(str, words)), check=False, **options)  # type: ignore[call-overload,no-any-return]  # any of its options


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made_env(tmp_path_factory.mktemp("env"))


def test_the_compose_files_keep_the_specification() -> None:
    """If this fails, `docker compose` refuses a file."""
    done = run(
        tool("check-jsonschema") or "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        *(DEPLOY / name for name in COMPOSE),
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMPOSE)
def test_every_image_is_pinned(name: str, filled: dict[str, str]) -> None:
    """If this fails, two machines that are set up on two days run different software."""
    for service in compose(name, filled)["services"].values():
        assert PINNED.fullmatch(service["image"]), service["image"]


@pytest.mark.parametrize("name", COMPOSE)
def test_containers_hold_only_the_rights_they_need(name: str, filled: dict[str, str]) -> None:
    """If this fails, who breaks into a container can change its programs or gain rights in it."""
    loaded = compose(name, filled)
    for service in loaded["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))
    for service in own_services(loaded).values():
        assert service["read_only"] is True
        assert service["tmpfs"][0].startswith("/tmp:size=")
        assert "user" not in service  # that of the image, which is not root


@pytest.mark.parametrize("name", COMPOSE)
def test_services_get_settings_that_exist(name: str, filled: dict[str, str]) -> None:
    """If this fails, a variable of a compose file has no effect, or its service does not start."""
    for service in own_services(compose(name, filled)).values():
        given = environment_of(service)
        assert given.keys() <= Settings.names()
        Settings.from_environment(given)


@pytest.mark.parametrize("name", COMPOSE)
def test_commands_are_understood(name: str, filled: dict[str, str]) -> None:
    """If this fails, a container ends at once with wrong usage."""
    for service in own_services(compose(name, filled)).values():
        arguments_of(service["command"])
    with pytest.raises(Exception, match="bogus"):
        arguments_of(["serve", "--bogus"])


@pytest.mark.parametrize("name", COMPOSE)
def test_what_is_demanded_stands_in_the_example(name: str, filled: dict[str, str]) -> None:
    """If this fails, a deployment starts with a secret that everybody knows, or cannot be told a variable."""
    variables = compose_variables(name)
    needed = {variable for variable, default in variables.items() if default is None}
    secrets = {variable for variable, value in example().items() if not value}

    assert variables.keys() <= example().keys()
    assert needed <= secrets
    for variable in needed:
        with pytest.raises(UnsetError, match=variable):
            compose(name, {**filled, variable: ""})
    for variable, default in variables.items():
        assert default in (None, "", example()[variable]), variable


def test_the_example_names_nothing_that_is_not_used() -> None:
    """If this fails, an operator sets a variable that no file reads."""
    assert set(example()) == set().union(*(compose_variables(name) for name in COMPOSE))


def test_secrets_are_made_anew_and_for_the_owner_only(tmp_path: Path) -> None:
    """If this fails, deployments share secrets, others on the machine read them, or a file in use is lost."""
    (tmp_path / "b").mkdir()
    one, other = made_env(tmp_path), made_env(tmp_path / "b")
    secrets = [name for name, value in example().items() if not value]

    assert all(one[name] != other[name] for name in secrets)
    assert all(len(one[name]) >= 48 for name in secrets)
    assert len({one[name] for name in secrets}) == len(secrets)
    assert (tmp_path / "made.env").stat().st_mode & 0o777 == 0o600
    again = run("sh", DEPLOY / "make-env.sh", tmp_path / "made.env")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert assignments((tmp_path / "made.env").read_text()) == one


@pytest.mark.parametrize("name", COMPOSE)
def test_ports_are_those_that_are_listened_on(name: str, filled: dict[str, str]) -> None:
    """If this fails, a port of the machine leads nowhere, or a healthy service counts as unhealthy."""
    for service in own_services(compose(name, filled)).values():
        settings = Settings.from_environment(environment_of(service))
        listened = {settings.vision_port if service["command"][0] == "vision" else settings.port}
        assert {int(port.rpartition(":")[2]) for port in service.get("ports", ())} <= listened
        check = service["healthcheck"]
        if check != {"disable": True}:
            [(port, _)] = _PORT.findall(" ".join(check["test"]))
            assert int(port) in listened | {settings.metrics_port}


@pytest.mark.parametrize("name", COMPOSE)
def test_ports_are_opened_to_this_machine_only_and_may_be_moved(name: str, filled: dict[str, str]) -> None:
    """If this fails, MinIO or Prometheus is open to the network, or two deployments collide."""
    moved = filled | {variable: "12345" for variable in filled if variable.endswith("_PORT")}
    for loaded, port in ((compose(name, filled), None), (compose(name, moved), "12345")):
        for service in loaded["services"].values():
            for published in service.get("ports", ()):
                address, outside, _ = published.split(":")
                assert address == "127.0.0.1"
                assert outside == (port or outside)


@pytest.mark.parametrize("name", COMPOSE)
def test_containers_have_time_to_give_jobs_back(name: str, filled: dict[str, str]) -> None:
    """If this fails, jobs are killed at every deploy and run again a minute later."""
    for service in own_services(compose(name, filled)).values():
        kind = service["command"][0]
        if kind in ("serve", "worker", "vision"):
            [seconds] = map(float, _SECONDS.findall(service["stop_grace_period"]))
            needed = WORKER_GRACE + LEAVE_SECONDS if kind == "worker" else GRACE_SECONDS + 6
            assert seconds > needed


def test_all_share_the_network() -> None:
    """If this fails, other compose projects on the network cad-ml-network do not find the services."""
    loaded = compose("compose.yml", dict.fromkeys(example(), "0" * 48))

    assert loaded["networks"] == {"cad-ml-network": {"name": "cad-ml-network"}}
    assert all(service["networks"] == ["cad-ml-network"] for service in loaded["services"].values())


@pytest.mark.parametrize("name", COMPOSE)
def test_what_is_mounted_exists(name: str, filled: dict[str, str]) -> None:
    """If this fails, a container finds an empty directory where its configuration should be."""
    loaded = compose(name, filled)
    for service in loaded["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source == filled["CAD_ML_DRAWINGS"]:
                continue
            assert (DEPLOY / source).exists() if source.startswith(".") else source in loaded["volumes"]


def test_prometheus_asks_every_part(filled: dict[str, str]) -> None:
    """If this fails, a part of the compose file is missing from dashboard and alerts."""
    services = own_services(compose("compose.yml", filled))
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    asked = {
        (job["job_name"], name, found["port"])
        for job in jobs
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }

    ports = {
        name: environment_of(services[name])["DEDUP2D_METRICS_PORT"] for name in ("api", "worker", "vision")
    }
    assert asked == {(f"dedup2d-{name}", name, int(port)) for name, port in ports.items()}


def test_grafana_finds_the_dashboard(filled: dict[str, str]) -> None:
    """If this fails, Grafana starts without the dashboard, or with one that finds no data."""
    services = compose("compose.yml", filled)["services"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    provisioning = DEPLOY / "grafana/provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards/dedup2d.yml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    place = Path(mounted["./grafana/dedup2d.json"])

    assert str(place.parent) == provider["options"]["path"]
    assert str(place) == services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert json.loads((DEPLOY / "grafana/dedup2d.json").read_text())["title"]


def test_commands_of_the_page_name_what_exists(filled: dict[str, str]) -> None:
    """If this fails, a reader of docs/containers.md types a command that cannot work."""
    page = (ROOT / "docs/containers.md").read_text()
    shown = "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    composed = re.findall(r"docker compose -f deploy/(\S+) (?:run --rm|exec) (\S+)", shown)
    own = [line.split(" && ") for line in re.findall(r"sh -c '(.*?)'", shown)]
    names = set(re.findall(r"\b(DEDUP\w+|CAD_ML_\w+)\b", page))
    made = {"deploy/.env", "deploy/settings.env", "deploy/drawings"}

    assert len(composed) >= 4
    for name, service in composed:
        assert service in compose(name, filled)["services"]
    for path in re.findall(r"\bdeploy/[\w./-]+\w", shown + page):
        assert (ROOT / path).exists() or path in made, path
    for command in [each for line in own for each in line] + re.findall(r"^dedup2d .*$", shown, re.MULTILINE):
        arguments_of(shlex.split(command)[1:])
    of_commands = {"DEDUP2D_API_KEY"}  # what `dedup2d smoke` is given, which is no setting of a service
    assert names <= Settings.names() | example().keys() | {"DEDUP2D_S3_"} | of_commands
