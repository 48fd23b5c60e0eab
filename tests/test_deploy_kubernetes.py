"""What of the manifests can be checked without a cluster."""

from __future__ import annotations

import re
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dedup2d.callbacks.guard_addresses import _EMBEDDING, _TABLE, is_public
from dedup2d.settings import Settings
from dedup2d_http.routes import RESOURCES
from dedup2d_http.server import GRACE_SECONDS
from dedup2d_http.vision_routes import RESOURCES as VISION_RESOURCES
from dedup2d_worker.process import LEAVE_SECONDS
from tests.deploy_files import DEPLOY, OWN_IMAGE, PINNED, ROOT, arguments_of, environment_of, manifests, pods
from tests.prometheus_files import ran

MANIFESTS = list(manifests())
PODS = pods()
KUBERNETES = "1.31"
NAMES = {"api", "worker", "gc", "vision"}


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for _, each in MANIFESTS if each["kind"] == kind}


def container(name: str) -> dict[str, Any]:
    [only] = PODS[name]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def variables(name: str) -> dict[str, str]:
    """Return the environment of a pod as the cluster would put it together."""
    found: dict[str, str] = {}
    for source in container(name).get("envFrom", ()):
        if "configMapRef" in source:
            found |= named("ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            found |= named("Secret")[source["secretRef"]["name"]]["stringData"]
    return found | {each["name"]: each["value"] for each in container(name).get("env", ())}


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    chosen = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in chosen)
    return wanted <= labels.items() and all(labels.get(each["key"]) in each["values"] for each in chosen)


def labels_of(name: str) -> dict[str, str]:
    found: dict[str, str] = PODS[name]["metadata"]["labels"]
    return found


@pytest.mark.parametrize(
    ("file", "manifest"), MANIFESTS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_manifests_keep_the_schema(file: str, manifest: dict[str, Any]) -> None:
    """If this fails, `kubectl apply` refuses a manifest, or drops a field of it without a word."""
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**manifest, "metadata": {"nonsense": 1}}, KUBERNETES, strict=True)


def test_all_that_runs_is_known() -> None:
    """If this fails, a manifest was added that the tests below do not look at, or one is gone."""
    assert PODS.keys() == NAMES


@pytest.mark.parametrize("name", PODS)
def test_pods_pass_the_restricted_standard(name: str) -> None:
    """If this fails, the namespace refuses the pod, or it runs with rights that it does not need."""
    spec, only = PODS[name]["spec"], container(name)

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] >= 10000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["mountPath"] for volume in only["volumeMounts"]} >= {"/tmp"}
    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert {"cpu", "memory", "ephemeral-storage"} <= only["resources"]["requests"].keys()
    assert {"memory", "ephemeral-storage"} <= only["resources"]["limits"].keys()
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"])
    namespace = named("Namespace")["dedup2d"]["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", PODS)
def test_pods_start_what_exists(name: str) -> None:
    """If this fails, a pod ends at once: its command, a setting or a secret does not exist."""
    only, given = container(name), variables(name)

    assert PINNED.fullmatch(only["image"])
    assert OWN_IMAGE.fullmatch(only["image"])
    assert "command" not in only
    arguments_of(only["args"])
    assert given.keys() <= Settings.names()


def test_pods_know_only_the_secrets_they_need() -> None:
    """If this fails, who breaks into a worker reads the keys of all tenants."""
    holders = {
        secret: {
            name for name in PODS if {"secretRef": {"name": secret}} in container(name).get("envFrom", ())
        }
        for secret in named("Secret")
    }

    assert holders == {
        "backends": {"api", "worker", "gc"},
        "vision": {"api", "worker", "vision"},
        "keys": {"api"},
        "callbacks": {"worker"},
    }


def test_the_example_of_the_secrets_has_none() -> None:
    """If this fails, somebody applies the example and runs with keys that the whole world can read."""
    for secret in named("Secret").values():
        assert set(secret["stringData"].values()) == {""}


def test_filled_secrets_make_settings_that_are_taken() -> None:
    """If this fails, pods refuse to start though the secrets were filled in as the example says."""
    filled = {
        "DEDUP2D_REDIS_URL": "redis://dedup2d:password@redis.dedup2d-data:6379/0",
        "DEDUP2D_S3_ACCESS_KEY": "access",
        "DEDUP2D_S3_SECRET_KEY": "secret",
        "DEDUPCAD_VISION_API_KEY": "k" * 16,
        "DEDUP2D_API_KEYS": "acme:" + "k" * 16,
        "DEDUP2D_KEYS_SECRET": "k" * 32,
        "DEDUP2D_CALLBACK_HMAC_SECRET": "k" * 16,
    }
    for name in PODS:
        given = variables(name)
        settings = Settings.from_environment({key: filled.get(key, value) for key, value in given.items()})
        assert settings.metrics_port == 9100 or name == "gc"


def listens(name: str) -> dict[str, int]:
    settings = Settings.from_environment(
        {key: value for key, value in variables(name).items() if "METRICS" in key or "PORT" in key}
    )
    assert settings.metrics_port is not None
    own = {"api": {"http": settings.port}, "vision": {"http": settings.vision_port}}
    return {"metrics": settings.metrics_port, **own.get(name, {})}


@pytest.mark.parametrize("name", sorted(NAMES - {"gc"}))
def test_probes_ask_what_is_answered(name: str) -> None:
    """If this fails, the cluster kills healthy pods, or sends requests to none."""
    only = container(name)
    resources = VISION_RESOURCES if name == "vision" else RESOURCES
    paths = {resource.path for resource in resources if "GET" in resource.methods}

    assert {port["name"]: port["containerPort"] for port in only["ports"]} == listens(name)
    for kind in ("startupProbe", "livenessProbe", *(["readinessProbe"] if name != "worker" else [])):
        asked = only[kind]["httpGet"]
        assert asked["port"] in listens(name)
        assert asked["path"] in ({"/metrics"} if asked["port"] == "metrics" else paths)
    if name != "worker":  # one that lacks what it needs is not ready, and a restart would not help it
        assert only["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert only["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", PODS)
def test_pods_have_time_to_give_jobs_back(name: str) -> None:
    """If this fails, jobs are killed at every deploy and run again a minute later."""
    waited = container(name).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", 0])
    grace = float(arguments_of(container(name)["args"]).get("grace", GRACE_SECONDS))

    needed = float(waited[1]) + grace + LEAVE_SECONDS + 1
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > needed


def test_selectors_choose_what_they_mean() -> None:
    """If this fails, a service has no pods behind it, or a budget protects nothing."""
    for kind in ("Deployment", "StatefulSet"):
        for name, each in named(kind).items():
            assert matches(each["spec"]["selector"], labels_of(name))
    for name, each in named("Service").items():
        chosen = [pod for pod in PODS if matches({"matchLabels": each["spec"]["selector"]}, labels_of(pod))]
        assert chosen == [name]
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= set(listens(name))
    for name, each in named("PodDisruptionBudget").items():
        assert [pod for pod in PODS if matches(each["spec"]["selector"], labels_of(pod))] == [name]
    assert named("PodDisruptionBudget").keys() == {"api", "worker", "vision"}
    vision = f"http://vision:{named('Service')['vision']['spec']['ports'][0]['port']}"
    assert variables("api")["DEDUPCAD_VISION_URL"] == vision


def test_workers_are_counted_by_the_age_of_the_queue() -> None:
    """If this fails, the number of workers never changes, or is set back at every apply."""
    scaler = named("HorizontalPodAutoscaler")["worker"]["spec"]
    [metric] = scaler["metrics"]
    [rule] = yaml.safe_load(named("ConfigMap")["adapter-config"]["data"]["config.yaml"])["externalRules"]
    name = metric["external"]["metric"]["name"]

    assert "replicas" not in named("Deployment")["worker"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}
    assert rule["name"]["as"] == name
    assert name in rule["seriesQuery"]
    assert name in rule["metricsQuery"]
    assert rule["resources"] == {"namespaced": False}
    assert 'job="dedup2d-api"' in rule["seriesQuery"]
    assert f'"{name}"' in "".join(path.read_text() for path in (ROOT / "src/dedup2d").glob("metrics*.py"))


def policies_for(name: str, direction: str) -> list[dict[str, Any]]:
    found = [
        each["spec"] for each in named("NetworkPolicy").values() if direction in each["spec"]["policyTypes"]
    ]
    return [spec for spec in found if matches(spec["podSelector"], labels_of(name))]


def blocks() -> list[tuple[set[str], dict[str, Any]]]:
    """Return every block of addresses that is let out to, with the pods that it holds for."""
    found = []
    for policy in named("NetworkPolicy").values():
        holders = {name for name in PODS if matches(policy["spec"]["podSelector"], labels_of(name))}
        for rule in policy["spec"].get("egress", ()):
            found += [(holders, to["ipBlock"]) for to in rule["to"] if "ipBlock" in to]
    return found


def test_nothing_passes_that_is_not_listed() -> None:
    """If this fails, pods reach, and are reached by, whatever the cluster has."""
    first = named("NetworkPolicy")["deny-all"]["spec"]

    assert first == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in named("NetworkPolicy").values():
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
            assert rule["ports"]
            assert rule.get("from") or rule.get("to")
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                assert peer.get("namespaceSelector") != {}
                assert peer.get("podSelector") != {}


def test_only_workers_reach_the_internet() -> None:
    """If this fails, a service or the vision server that is broken into can send out what it holds."""
    assert [holders for holders, _ in blocks()] == [{"worker"}, {"worker"}]
    for policy in named("NetworkPolicy").values():
        for rule in policy["spec"].get("egress", ()):
            if any("ipBlock" in to for to in rule["to"]):
                wanted = Settings.from_environment(variables("worker") | {"DEDUP2D_REDIS_URL": ""})
                assert {each["port"] for each in rule["ports"]} == wanted.callback_ports


def test_callbacks_never_go_inside() -> None:
    """If this fails, the network lets a callback through to an address that the guard knows as private."""
    four, six = (block for _, block in blocks())
    assert four["cidr"] == "0.0.0.0/0"
    assert six["cidr"] == "2000::/3"  # within which all public addresses lie
    kept = [ip_network(text) for text in (*four["except"], *six["except"])]
    refused = [network for network, _ in _TABLE] + [network for network, _ in _EMBEDDING]
    for network in refused:
        outside = isinstance(network, IPv6Network) and not network.overlaps(IPv6Network("2000::/3"))
        inside = any(each.version == network.version and network.subnet_of(each) for each in kept)  # type: ignore[arg-type]  # of one version, as was looked at
        assert outside or inside, network
    # And nothing that is public is kept back: each is refused at both of its ends.
    for each in kept:
        assert is_public(each[0])
        assert is_public(each[-1])


def test_each_asks_only_whom_it_needs() -> None:
    """If this fails, a part cannot reach what it stands on, or reaches more."""
    ports = {
        name: {
            port["port"]
            for spec in policies_for(name, "Egress")
            for rule in spec.get("egress", ())
            for port in rule["ports"]
        }
        for name in PODS
    }
    entered = {
        name: {
            port["port"]
            for spec in policies_for(name, "Ingress")
            for rule in spec.get("ingress", ())
            for port in rule["ports"]
        }
        for name in PODS
    }

    assert ports == {
        "api": {53, 6379, 9000, 58001},
        "worker": {53, 6379, 9000, 58001, 443},
        "gc": {53, 6379, 9000},
        "vision": {53},
    }
    assert entered == {"api": {8000, 9100}, "worker": {9100}, "gc": {9100}, "vision": {58001, 9100}}


def test_prometheus_names_the_jobs_as_the_alerts_do() -> None:
    """If this fails, the pods are scraped under names that no alert and no panel knows, or not at all."""
    path = DEPLOY / "kubernetes/examples/prometheus.yml"
    [job] = yaml.safe_load(path.read_text())["scrape_configs"]
    [kept, renamed, _] = job["relabel_configs"]
    regex = re.compile(renamed["regex"])

    assert kept["action"] == "keep"
    for name in ("api", "worker", "vision"):
        labels = labels_of(name)
        found = ";".join((labels["app.kubernetes.io/name"], "metrics"))
        assert re.fullmatch(kept["regex"], found)
        assert any(port["name"] == "metrics" for port in container(name)["ports"])
        component = regex.fullmatch(labels["app.kubernetes.io/component"])
        assert component
        assert component.expand(renamed["replacement"].replace("$", "\\")) == f"dedup2d-{name}"


def test_promtool_accepts_the_search_in_kubernetes(tmp_path: Path) -> None:
    """If this fails, a Prometheus with the example in its configuration does not start."""
    [job] = yaml.safe_load((DEPLOY / "kubernetes/examples/prometheus.yml").read_text())["scrape_configs"]
    # Debian's is built without the search in Kubernetes; the rest of the file it knows.
    rest = {each: value for each, value in job.items() if each != "kubernetes_sd_configs"}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [rest]}))
    done = ran("check", "config", tmp_path / "prometheus.yml")

    assert done.returncode == 0, done.stderr


def test_one_pod_has_the_index() -> None:
    """If this fails, two vision servers write one index, or an index goes with its pod."""
    spec = named("StatefulSet")["vision"]["spec"]
    [claim] = spec["volumeClaimTemplates"]
    [mounted] = [each for each in container("vision")["volumeMounts"] if each["name"] == "index"]

    assert spec["replicas"] == 1
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    assert f"DEDUP2D_DATA_DIR={mounted['mountPath']} " in (DEPLOY / "Dockerfile").read_text()
    assert environment_of({"environment": variables("vision")})["DEDUP2D_ENGINE_PROCESSES"] == "2"
