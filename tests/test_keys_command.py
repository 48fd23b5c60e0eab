"""`dedup2d keys`, as a stranger uses it, and what services that run make of it."""

from __future__ import annotations

import json
import logging
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import pytest
import structlog

from dedup2d.cli.keys import _seconds_until
from dedup2d.errors import ConfigurationError, InvalidParameterError
from dedup2d.keys.text import read_key
from dedup2d.settings import Settings
from dedup2d_http import server
from dedup2d_http.routing import PREFIX
from tests.cli_support import Done, run, run_process
from tests.servers import redis_url
from tests.serving import serving

SECONDS = 15.0
JOBS = f"{PREFIX}/jobs"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep everything in a directory of the test, and put the logging of the process back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path / "data"
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def audit_lines(done: Done) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    return [line for line in found if line["logger"] == "dedup2d.audit"]


def test_a_key_is_shown_once(capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
    """If this fails, a script cannot take the key from stdout, or it can be read again later."""
    made = run(capsys, "keys", "create", "acme", "--scope", "search", "--scope", "index", "--name", "line 3")
    key = made.out.removesuffix("\n")

    assert made.code == 0
    assert read_key(key) is not None
    assert "may search, index; never expires" in made.err
    assert key not in made.err
    listed = run(capsys, "keys", "list")
    assert listed.rows[0][:4] == [read_key(key), "acme", "search, index", "active"]
    assert listed.rows[0][5:] == ["never", "line 3"]
    shown = run(capsys, "keys", "list", "--json")
    for text in (
        listed.out,
        shown.out,
        *[path.read_bytes().decode("latin-1") for path in data_dir.iterdir()],
    ):
        assert key.split("_")[2] not in text
    assert not {"digest", "secret_id"} & shown.json["keys"][0].keys()
    assert {stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()} == {0o600}


def test_changes_of_keys_are_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, nobody can say who made or revoked a key."""
    made = run(capsys, "keys", "create", "acme", "--json")
    revoked = run(capsys, "keys", "revoke", made.json["key"], "--json")

    (created,), (ended,) = audit_lines(made), audit_lines(revoked)
    assert (created["event"], ended["event"]) == ("key.create", "key.revoke")
    for line in (created, ended):
        assert line["key_id"] == made.json["key_id"]
        assert line["tenant"] == "acme"
        assert " on " in line["who"]
        assert line["request_id"]
    assert made.json["key"] not in made.err + revoked.err + revoked.out
    (listed,) = run(capsys, "keys", "list", "--json").json["keys"]
    assert (listed["state"], listed["created_by"], listed["revoked_by"]) == ("revoked", *[created["who"]] * 2)


def test_lists_are_paged_and_by_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, an operator with many keys cannot find one."""
    assert run(capsys, "keys", "list").code == 1
    for tenant in ("acme", "umbra", "acme"):
        run(capsys, "keys", "create", tenant, "-q")
    first = run(capsys, "keys", "list", "-n", "2")
    token = first.err.split("--page-token ")[1].strip()
    rest = run(capsys, "keys", "list", "--page-token", token)
    umbra = run(capsys, "keys", "list", "--tenant", "umbra")

    assert [row[1] for row in first.rows + rest.rows] == ["acme", "umbra", "acme"]
    assert [row[1] for row in umbra.rows] == ["umbra"]
    assert "2 of 3 keys" in first.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "ACME"], ["tenant_id=ACME", "a-z"]),
        (["create", "--scope", "all"], ["--scope", '"search"', "keys create --help"]),
        (["create", "--expires", "soon"], ["--expires=soon", "90d"]),
        (["create", "--expires", "2020-01-01"], ["--expires=2020-01-01", "in the future"]),
        (["create", "--name", "x" * 101], ["name=", "100"]),
        (["revoke"], ["at least one KEY", "keys revoke --help"]),
        (["revoke", "0123456789"], ["key=0123456789", "dedup2d keys list"]),
        (["revoke", "a-key-of-the-environment"], ["key=***", "dedup2d keys list"]),
        (["list", "--page-token", "x"], ["page_token=x"]),
        (["list", "-n", "0"], ["-n", "1"]),
        (["drop"], ["'drop'", "dedup2d keys --help"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    """If this fails, a stranger has to guess what the command wants, or reads a stack."""
    done = run(capsys, "keys", *arguments)

    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    for word in words:
        assert word in done.err


def test_of_several_keys_those_that_are_there_are_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, one mistyped id keeps leaked keys alive."""
    made = run(capsys, "keys", "create", "--json").json["key_id"]
    done = run(capsys, "keys", "revoke", "0123456789", made)

    assert done.code == 3
    assert "1 key revoked" in done.err
    assert run(capsys, "keys", "list").rows[0][3].startswith("revoked 20")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("2W", 1_209_600),
        ("1m", 60),
        ("2001-09-09", 0),
        ("2001-09-10", 80_000),
        ("2001-09-10T00:00+02:00", 72_800),
    ],
)
def test_expiries(text: str, seconds: float) -> None:
    """If this fails, a key ends at another time than its maker meant."""
    now = 1_000_000_000.0  # 2001-09-09 01:46:40 UTC
    if seconds < 1:
        with pytest.raises(InvalidParameterError):
            _seconds_until(text, now)
    else:
        assert _seconds_until(text, now) == seconds


def test_with_redis_the_secret_must_be_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    """If this fails, a key is made on one machine that the others do not know."""
    monkeypatch.setenv("DEDUP2D_ASYNC_BACKEND", "redis")
    monkeypatch.setenv("DEDUP2D_REDIS_URL", redis_url())
    monkeypatch.setenv("DEDUP2D_REDIS_KEY_PREFIX", f"test-{token_hex(8)}")
    refused = run(capsys, "keys", "create")
    assert (refused.code, refused.out) == (2, "")
    assert "DEDUP2D_KEYS_SECRET" in refused.err
    assert "openssl rand -hex 32" in refused.err

    monkeypatch.setenv("DEDUP2D_KEYS_SECRET", "s" * 32)
    assert run(capsys, "keys", "create").code == 0
    assert len(run(capsys, "keys", "list").rows) == 1
    assert not data_dir.exists()


def test_stored_keys_let_a_service_listen_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    """If this fails, a service with stored keys alone cannot serve other machines, or one without can."""

    class Reached(Exception):  # noqa: N818 - it ends the start where it would listen
        pass

    def listening(*_: object, **__: object) -> None:
        raise Reached

    monkeypatch.setattr(server, "free_address", listening)
    settings = Settings(data_dir=data_dir, host="0.0.0.0")
    with pytest.raises(ConfigurationError, match="DEDUP2D_HOST"):
        anyio.run(server.serve, settings)
    assert run(capsys, "keys", "create").code == 0
    with pytest.raises(Reached):
        anyio.run(server.serve, settings)


@pytest.mark.once
@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["inprocess", "redis"])
def test_running_services_take_and_refuse_keys_within_seconds(
    backend: str, tmp_path: Path, data_dir: Path
) -> None:
    """If this fails, a leaked key works until all services are started again."""
    variables = {
        "DEDUP2D_ASYNC_BACKEND": backend,
        "DEDUP2D_REDIS_URL": redis_url(),
        "DEDUP2D_REDIS_KEY_PREFIX": f"test-{token_hex(8)}",
        **({"DEDUP2D_KEYS_SECRET": "s" * 40} if backend == "redis" else {}),
    }
    other = tmp_path / "other" / "data" if backend == "redis" else data_dir
    other.parent.mkdir(exist_ok=True)
    with (
        serving(data_dir, variables) as one,
        serving(other, variables) as two,
        one.client() as first,
        two.client() as second,
    ):
        assert [client.get(JOBS).status_code for client in (first, second)] == [200, 200]

        made = run_process(["keys", "create", "acme", "--json"], data_dir, **variables).json
        headers = {"X-API-Key": made["key"]}
        for client in (first, second):
            until(lambda client=client: client.get(JOBS).status_code == 401)
            assert client.get(JOBS, headers=headers).status_code == 200
            assert client.delete(f"{PREFIX}/index/drawings/x", headers=headers).status_code == 403

        run_process(["keys", "revoke", made["key_id"]], data_dir, **variables)
        for client in (first, second):
            until(lambda client=client: client.get(JOBS, headers=headers).status_code == 401)


@pytest.mark.once
def test_a_start_is_written_down(data_dir: Path) -> None:
    """If this fails, nobody can say since when a service runs with another configuration."""
    given = {"DEDUP2D_API_KEYS": "acme:0123456789abcdef", "DEDUP2D_LOG_LEVEL": "error"}
    with serving(data_dir, given) as served:
        log = served.log.read_text()

    (line,) = [json.loads(line) for line in log.splitlines() if "config.start" in line]
    assert (line["logger"], line["settings"]["DEDUP2D_LOG_LEVEL"]) == ("dedup2d.audit", "error")
    assert line["settings"]["DEDUP2D_API_KEYS"] == "***"
    assert " on " in line["who"]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_service_whose_secret_is_gone_does_not_start(
    capsys: pytest.CaptureFixture[str], data_dir: Path
) -> None:
    """If this fails, a restore without keys.secret answers 401 to everybody and says nothing."""
    run(capsys, "keys", "create")
    (data_dir / "keys.secret").unlink()

    done = run_process(["serve", "--port", "0"], data_dir)
    assert done.code == 2
    assert "DEDUP2D_KEYS_SECRET=***" in done.err
    assert "keys.secret" in done.err
    again = run(capsys, "keys", "create")
    assert (again.code, again.out) == (2, "")
    assert "backup" in again.err
