"""Each command starts with the packages of its own extras alone, and else names the extra that lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = ("cv2", "ezdwg", "ezdxf", "numpy", "PIL", "pypdfium2", "resvg_py")
HIDDEN = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from dedup2d.cli import main
sys.exit(main())
"""
REDIS = {"DEDUP2D_ASYNC_BACKEND": "redis", "DEDUP2D_REDIS_URL": "redis://127.0.0.1:1"}
VISION = {"DEDUPCAD_VISION_URL": "http://127.0.0.1:1"}
S3 = {"DEDUP2D_FILE_STORAGE": "s3", "DEDUP2D_S3_BUCKET": "drawings", **VISION}


def dedup2d_without(
    hidden: tuple[str, ...], arguments: list[str], directory: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command as if these packages were not installed."""
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, ",".join(hidden), *arguments],
        env={**os.environ, "DEDUP2D_DATA_DIR": str(directory), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_the_client_needs_nothing_of_engine_and_server() -> None:
    """If this fails, whoever only calls a service must install all that it is made of."""
    others = ("redis", "rq", "starlette", "granian", "structlog", "prometheus_client", "purgatory", "environ")
    hidden = f"import sys; sys.modules.update(dict.fromkeys({(*ENGINE, *others)!r}))\n"
    script = hidden + "from dedup2d.client import *; ClientOptions(url='http://127.0.0.1'); print('made')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50
    )

    assert (done.stdout, done.stderr) == ("made\n", "")


def test_a_client_without_its_packages_names_the_extra() -> None:
    """If this fails, an import error names a package that nobody asked for."""
    script = "import sys; sys.modules['aiohttp'] = None; import dedup2d.client"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50
    )

    assert 'pip install "dedup2d[' in done.stderr


@pytest.mark.parametrize("command", ["serve", "worker", "doctor", "vision serve"])
def test_services_and_workers_need_no_engine(command: str, tmp_path: Path) -> None:
    """If this fails, machines that only ask a vision server must install all imaging packages."""
    done = dedup2d_without(ENGINE, [*command.split(), "--help"], tmp_path, {})

    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: dedup2d {command.split(maxsplit=1)[0]}" in done.stdout


def test_doctor_looks_at_other_servers_without_an_engine(tmp_path: Path) -> None:
    """If this fails, doctor cannot be run where services run."""
    done = dedup2d_without(ENGINE, ["doctor"], tmp_path, VISION)

    assert done.returncode == 2
    assert "127.0.0.1:1 is unhealthy" in done.stdout.replace("\n", " ")
    assert "bug" not in done.stdout


@pytest.mark.parametrize(
    ("command", "hidden", "variables", "extra"),
    [
        ("serve", "granian", {}, "http"),
        ("serve", "numpy", {}, "engine"),
        ("serve", "redis", {**REDIS, **VISION}, "redis"),
        ("serve", "rq", {**REDIS, **VISION}, "worker"),
        ("serve", "aiobotocore", S3, "s3"),
        ("worker", "structlog", REDIS, "worker"),
        ("worker", "prometheus_client", REDIS, "worker"),
        ("worker", "rq", {**REDIS, **VISION}, "worker"),
        ("vision serve", "starlette", {}, "http"),
        ("vision serve", "cv2", {}, "engine"),
    ],
)
def test_a_missing_package_is_named_by_its_extra(
    command: str, hidden: str, variables: dict[str, str], extra: str, tmp_path: Path
) -> None:
    """If this fails, an operator sees a traceback, or installs the wrong extra."""
    done = dedup2d_without((hidden,), command.split(), tmp_path, variables)

    assert done.returncode == 2
    assert f'pip install "dedup2d[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr
