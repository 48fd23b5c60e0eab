"""Reads the files of deploy/ as the tools that use them would."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dedup2d.cli.run import _app

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = ("compose.yml", "compose.single.yml")
OWN_IMAGE = re.compile(r"(.*/)?dedup2d:\d+\.\d+\.\d+(-lean)?")
PINNED = re.compile(r"[a-z0-9./-]+:(v?\d+\.\d+\.\d+[a-z0-9.-]*|RELEASE\.[0-9TZ-]+)(@sha256:[0-9a-f]{64})?")

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


class UnsetError(LookupError):
    """A variable that a file demands is not set."""


def compose_text(name: str) -> str:
    return (DEPLOY / name).read_text()


def compose(name: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with its variables replaced, as `docker compose config` would."""

    def value(found: re.Match[str]) -> str:
        variable, kind, rest = found.groups()
        given = variables.get(variable, "")
        if not given and kind == "?":
            raise UnsetError(variable)
        return given or (rest if kind == "-" else "")

    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(value, compose_text(name)))
    return loaded


def compose_variables(name: str) -> dict[str, str | None]:
    """Return the variables of the file and their defaults, None for those that must be set."""
    found = _VARIABLE.findall(compose_text(name))
    return {variable: rest if kind == "-" else None for variable, kind, rest in found}


def assignments(text: str) -> dict[str, str]:
    """Return the lines NAME=VALUE."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def example() -> dict[str, str]:
    return assignments((DEPLOY / ".env.example").read_text())


def made_env(directory: Path) -> dict[str, str]:
    """Let deploy/make-env.sh make a file and return what is in it."""
    made = directory / "made.env"
    subprocess.run(["sh", DEPLOY / "make-env.sh", made], check=True, timeout=20, capture_output=True)
    return assignments(made.read_text())


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in (service.get("environment") or {}).items()}


def own_services(loaded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the services that run dedup2d."""
    services: dict[str, dict[str, Any]] = loaded["services"]
    return {name: each for name, each in services.items() if OWN_IMAGE.fullmatch(each["image"])}


def arguments_of(words: list[Any]) -> dict[str, Any]:
    """Parse a command line of `dedup2d` without running it; raises what the command would say."""
    given = [str(word) for word in words]
    _, bound, _ = _app(given[0]).parse_args(given, exit_on_error=False, print_error=False)
    return dict(bound.arguments)


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every manifest of deploy/kubernetes, those of `examples` too, with the name of its file."""
    for path in sorted((DEPLOY / "kubernetes").rglob("*.yml")):
        if path.name != "prometheus.yml":
            yield from ((path.name, each) for each in yaml.safe_load_all(path.read_text()))


def pods() -> dict[str, dict[str, Any]]:
    """Return the templates of all pods by the names of what makes them."""
    found: dict[str, dict[str, Any]] = {}
    for _, each in manifests():
        spec = each.get("spec", {})
        spec = spec["jobTemplate"]["spec"] if each["kind"] == "CronJob" else spec
        if "template" in spec:
            found[each["metadata"]["name"]] = spec["template"]
    return found


def tool(name: str) -> str | None:
    """Return the command that a package of the test environment brought."""
    found = Path(sys.executable).with_name(name)
    return str(found) if found.exists() else None
