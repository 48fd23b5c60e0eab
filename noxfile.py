"""
The checks of the project: `nox` runs them all, `nox -s lint` one of them.

A Python that is not installed is passed over at home and is an error where `CI` is set.
"""

from __future__ import annotations

import os

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
TEST_TOOLS = nox.project.dependency_groups(PROJECT, "test", "bench")
LATER_TOOLS = nox.project.dependency_groups(PROJECT, "test-any")
# Many tests wait for processes and servers, so that there may be one more than there are cores.
PARALLEL = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
# What reckons with arrays, reads files of deploy/, throws random bytes, or starts the command once more for
# each of its answers finds the same on every Python, as do programs in other languages and benchmarks.
ONCE = [
    "benchmarks*",
    "callback_receivers",
    "cli_geometry",
    "cli_jobs",
    "cli_search",
    "cli_smoke",
    "deploy",
    "deploy_*",
    "doctor",
    "engine_*",
    "export*",
    "extras",
    "geometry_*",
    "http_fuzz*",
    "http_hostile",
    "job_store_machine",
    "owasp",
    "precision*",
    "readers_hostile",
    "s3_start",
    "vision_embedded",
    "vision_learned",
    "vision_server",
]
LAST = ("-m", "not deployment and not once", *(f"--ignore-glob=tests/test_{some}.py" for some in ONCE))
# What works on the oldest and on the newest works in between: there it is to install, and to do its work.
BETWEEN = [
    f"tests/test_{some}.py"
    for some in (
        "cli_index",
        "codec",
        "extras",
        "file_stores",
        "http_search",
        "job_stores",
        "public_api",
        "queues",
        "readers",
    )
]
LINT_TOOLS = nox.project.dependency_groups(PROJECT, "lint")

nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "bare", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Look at style, format and the directions of imports."""
    session.install(*LINT_TOOLS, "-e", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session(default=False)
def types(session: nox.Session) -> None:
    """Check the types, strictly, as `tests` does first: making one more environment takes minutes."""
    session.install(*LINT_TOOLS, *TEST_TOOLS, "-e", ".[all]")
    session.run("mypy")


@nox.session
def bare(session: nox.Session) -> None:
    """Test what must work where attrs and anyio alone are installed."""
    session.install(*nox.project.dependency_groups(PROJECT, "bare"), ".")
    session.run("pytest", "-p", "no:cacheprovider", "tests/bare", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Test all on the first Python, there types, and the API on Redis, RQ and S3 too; less on the others."""
    first = session.python == PYTHONS[0]
    session.install(*([*TEST_TOOLS, *LINT_TOOLS] if first else LATER_TOOLS), "-e", ".[all]")
    if first and not session.posargs:
        session.run("mypy")
    some = {PYTHONS[0]: (), PYTHONS[-1]: LAST}.get(str(session.python), BETWEEN)
    session.run("pytest", *PARALLEL, "--durations", "20", *some, *session.posargs)
    if first and not session.posargs:
        on_servers(session)


def on_servers(session: nox.Session) -> None:
    """Test the API, or what is asked for, on Redis, RQ and S3 (see tests/servers.py, tests/s3_server.py)."""
    usual = [f"tests/test_http_{name}.py" for name in ("jobs", "search", "index", "offers")]
    chosen = session.posargs or [*usual, "tests/test_precision.py"]
    session.run("pytest", *PARALLEL, *chosen, env={"DEDUP2D_TEST_STACK": "servers"})


@nox.session(default=False, python=PYTHONS[0])
def servers(session: nox.Session) -> None:
    """Do the part of `tests` that runs on Redis, RQ and S3 only."""
    session.install(*TEST_TOOLS, "-e", ".[all]")
    on_servers(session)


@nox.session(default=False, python=PYTHONS[0])
def contract(session: nox.Session) -> None:
    """Hold the API against its OpenAPI document with over 2,000 made-up requests; takes minutes."""
    session.install(*TEST_TOOLS, "-e", ".[all]")
    session.run(
        "pytest", "tests/test_contract.py", *session.posargs, env={"DEDUP2D_CONTRACT_EXAMPLES": "100"}
    )


@nox.session(default=False, python=PYTHONS[0])
def coverage(session: nox.Session) -> None:
    """Test once more and report what was covered, in child processes too; refuse too little."""
    session.install(*TEST_TOOLS, "-e", ".[all]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report", "--skip-covered", "--fail-under=85")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed and accuracy on generated drawings; see docs/benchmarks.md."""
    session.install(*nox.project.dependency_groups(PROJECT, "bench"), "-e", ".[all]")
    session.run("python", "-m", "benchmarks.speed", *session.posargs)
    session.run("python", "-m", "benchmarks.accuracy", *session.posargs)


@nox.session(default=False)
def staging(session: nox.Session) -> None:
    """Start a whole deployment on loopback, walk its smoke tests, see each alert fire; needs Prometheus."""
    session.install(*TEST_TOOLS, "-e", ".[all]")
    session.run("python", "-m", "tests.staging")
