"""Every snippet of README and docs is run as it stands, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from tests.serving import serving

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|console|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SET_UP = re.compile(r"-m venv|nox")
SERVICE = "127.0.0.1:8000"
KEY = "documentation-key-0123456789"


def blocks(document: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(document.read_text()) if kind == language]


def having(language: str) -> list[Path]:
    """Return the documents with such snippets; `test_docs_deployment.py` runs those of a deployment."""
    return [each for each in DOCUMENTS if blocks(each, language) and each.name != "deployment.md"]


def name(document: Path) -> str:
    return document.name


def commands(document: Path) -> list[str]:
    """Return the lines after `$ `, continued ones joined, without those that set the machine up."""
    found: list[str] = []
    for block in blocks(document, "console"):
        text = block.replace("\\\n", " ")
        found += [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [line for line in found if not SET_UP.search(line)]


def environment(directory: Path) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "HOME": str(directory),
        "DEDUP2D_DATA_DIR": str(directory / "data"),
        "NO_COLOR": "1",
        "COVERAGE_PROCESS_CONFIG": os.environ.get("COVERAGE_PROCESS_CONFIG", ""),
    }


@pytest.mark.once
@pytest.mark.timeout(180)
@pytest.mark.parametrize("document", having("python"), ids=name)
def test_python_snippets_run(document: Path, tmp_path: Path) -> None:
    """If this fails, a reader who copies the Python of this page gets an error."""
    script = tmp_path / "snippets.py"
    script.write_text("\n\n".join(blocks(document, "python")))
    samples = ["dedup2d", "samples", "drawings", "--parts", "1"]
    subprocess.run(samples, cwd=tmp_path, env=environment(tmp_path), check=True, timeout=120)

    if SERVICE not in script.read_text():
        run_script(script, environment(tmp_path))
        return
    with serving(tmp_path / "service", {"DEDUP2D_API_KEYS": f"default:{KEY}"}) as service:
        script.write_text(script.read_text().replace(SERVICE, f"127.0.0.1:{service.port}"))
        run_script(script, {**environment(tmp_path), "KEY": KEY})


def run_script(script: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=script.parent,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.once
@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", having("console"), ids=name)
def test_console_snippets_run(document: Path, tmp_path: Path) -> None:
    """If this fails, a reader who types what this page shows gets an error."""
    lines, env = commands(document), environment(tmp_path)
    here = list(takewhile(lambda line: SERVICE not in line, lines))
    run_lines(here or ["dedup2d samples drawings --parts 1", "dedup2d index drawings/*.dxf"], tmp_path, env)
    calls = lines[len(here) :]
    if not calls:
        return
    with serving(tmp_path / "data", {"DEDUP2D_API_KEYS": f"default:{KEY}"}) as service:
        env["KEY"] = KEY
        run_lines([line.replace(SERVICE, f"127.0.0.1:{service.port}") for line in calls], tmp_path, env)


def run_lines(lines: list[str], directory: Path, env: dict[str, str]) -> None:
    """Run the lines in one shell that stops at the first that fails."""
    script = "\n".join(line for line in lines if not line.startswith("dedup2d serve"))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-x", "-c", script],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.once
def test_the_pictures_can_be_made_anew(tmp_path: Path) -> None:
    """If this fails, pictures of the page that explains the engine stay what an older engine saw."""
    page = (ROOT / "docs" / "how-it-finds.md").read_text()
    (arguments,) = re.findall(r"`python (-m docs\.pictures)`", page)
    subprocess.run([sys.executable, *arguments.split(), tmp_path], cwd=ROOT, check=True, timeout=60)

    assert {each.name for each in tmp_path.iterdir()} == set(re.findall(r"images/(step-[^)]+)", page))
