"""`dedup2d doctor` against real servers: what is well is said, what is wrong is named with what to do."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedup2d.build import build_service
from dedup2d.doctor import Finding, examine
from dedup2d.observe import Observer
from dedup2d.settings import Settings
from dedup2d.smoke.drawing import plate
from tests.backends import s3_options
from tests.cli_support import run_process
from tests.s3_server import shared_s3_server
from tests.servers import free_port, redis_url
from tests.vision_stub import StubProcess, stub_process

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stub() -> Iterator[StubProcess]:
    """A vision that is well."""
    with stub_process() as running:
        yield running


@pytest.fixture
def variables(tmp_path: Path, stub: StubProcess) -> dict[str, str]:
    """A deployment in which nothing is wrong."""
    options, server = s3_options(), shared_s3_server()
    return {
        "DEDUP2D_DATA_DIR": str(tmp_path / "data"),
        "DEDUP2D_API_KEYS": "acme:0123456789abcdef",
        "DEDUP2D_ASYNC_BACKEND": "redis",
        "DEDUP2D_REDIS_URL": redis_url(),
        "DEDUP2D_REDIS_KEY_PREFIX": options.prefix,
        "DEDUP2D_FILE_STORAGE": "s3",
        "DEDUP2D_S3_ENDPOINT": server.endpoint,
        "DEDUP2D_S3_BUCKET": server.bucket,
        "DEDUP2D_S3_PREFIX": options.prefix,
        "DEDUP2D_S3_ACCESS_KEY": server.access_key,
        "DEDUP2D_S3_SECRET_KEY": server.secret_key,
        "DEDUPCAD_VISION_URL": stub.url,
    }


def of(findings: list[Finding], part: str) -> Finding:
    """Return the worst finding about a part."""
    order = ("error", "warning", "ok")
    return min((one for one in findings if one.part == part), key=lambda one: order.index(one.state))


async def test_a_deployment_that_is_well_is_called_so(variables: dict[str, str]) -> None:
    """If this fails, an operator chases a fault that is not there."""
    findings = await examine(variables)

    assert not [one for one in findings if one.state == "error"]
    parts = {one.part for one in findings}
    assert parts == {
        "settings",
        "data directory",
        "redis",
        "jobs",
        "files",
        "keys",
        "queue",
        "callbacks",
        "vision",
    }
    assert of(findings, "jobs").text == "in Redis: 0 waiting, 0 running"
    assert of(findings, "vision").state == "ok"


@pytest.mark.parametrize(
    ("changes", "part", "words"),
    [
        ({"DEDUP2D_REDIS_URL": "localhost:6379"}, "settings", ["DEDUP2D_REDIS_URL", "redis://"]),
        ({"DEDUPCAD_VISION_URL": "vision:58001"}, "settings", ["DEDUPCAD_VISION_URL", "scheme"]),
        ({"DEDUP2D_S3_BUCKET": "no-such-bucket"}, "files", ["DEDUP2D_S3_BUCKET", "no-such-bucket"]),
        ({"DEDUP2D_S3_SECRET_KEY": "wrong-secret"}, "files", ["DEDUP2D_S3_SECRET_KEY"]),
        ({"DEDUP2D_S3_ACCESS_KEY": "nobody"}, "files", ["DEDUP2D_S3_ACCESS_KEY"]),
        ({"DEDUP2D_S3_ENDPOINT": "http://127.0.0.1:{closed}"}, "files", ["DEDUP2D_S3_ENDPOINT"]),
        ({"DEDUP2D_REDIS_URL": "redis://127.0.0.1:{closed}/0"}, "redis", ["DEDUP2D_REDIS_URL", "refused"]),
        ({"DEDUP2D_REDIS_URL": "redis://:hunter22@127.0.0.1:{redis}/0"}, "redis", ["DEDUP2D_REDIS_URL"]),
        ({"DEDUPCAD_VISION_URL": "http://127.0.0.1:{closed}"}, "vision", ["127.0.0.1:{closed}"]),
        (
            {"DEDUP2D_DATA_DIR": "/proc/nowhere", "DEDUPCAD_VISION_URL": ""},
            "data directory",
            ["DEDUP2D_DATA_DIR=/proc/nowhere is not allowed"],
        ),
    ],
)
async def test_what_is_wrong_is_named(
    variables: dict[str, str], changes: dict[str, str], part: str, words: list[str]
) -> None:
    """If this fails, the operator has to guess which of ten servers and forty variables is wrong."""
    places = {"closed": str(free_port()), "redis": redis_url().rpartition(":")[2].partition("/")[0]}
    findings = await examine(variables | {name: text.format(**places) for name, text in changes.items()})

    wrong = of(findings, part)
    assert wrong.state == "error"
    for word in words:
        assert word.format(**places) in wrong.text
    assert all("hunter22" not in one.text and "wrong-secret" not in one.text for one in findings)


async def test_jobs_that_nobody_will_run(variables: dict[str, str]) -> None:
    """If this fails, workers that are gone look like workers that are slow."""
    idle = await examine(variables)
    async with build_service(Settings.from_environment(variables), Observer()) as service:
        await service.submit("acme", plate("a"), file_name="a.png")
    found = [one for one in await examine(variables) if one.part == "queue"]

    assert of(idle, "queue").state == "ok"
    assert ", 0 workers listen to " in of(idle, "queue").text
    assert [one.state for one in found] == ["ok", "error"]
    assert "1 jobs wait, and no worker listens to" in found[1].text
    assert "start dedup2d worker" in found[1].text


async def test_a_variable_of_clients_is_no_mistake(variables: dict[str, str]) -> None:
    """If this fails, the key of `dedup2d smoke` in the environment is called a misspelt setting."""
    assert (
        of(await examine({**variables, "DEDUP2D_API_KEY": "some-key-0123456789"}), "settings").state == "ok"
    )


async def test_how_callbacks_are_guarded_and_signed_is_said(variables: dict[str, str]) -> None:
    """If this fails, callbacks go out unsigned or into the network, and nobody is told."""
    careless = {
        "DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS": "0",
        "DEDUP2D_CALLBACK_HMAC_SECRET": "acme:a-secret-of-acme-alone",
    }
    plain, warned = await examine(variables), await examine(variables | careless)

    assert "not signed" in of(plain, "callbacks").text
    said = [one.text for one in warned if one.part == "callbacks" and one.state == "warning"]
    assert ["private networks" in said[0], "without a secret of their own" in said[1]] == [True, True]
    assert "a-secret-of-acme-alone" not in str(warned)


async def test_stored_keys_are_counted_and_their_secret_is_tried(
    variables: dict[str, str], tmp_path: Path
) -> None:
    """If this fails, doctor calls a service well that refuses every key."""
    given = variables | {"DEDUP2D_KEYS_SECRET": "s" * 32, "DEDUP2D_API_KEYS": ""}
    made = run_process(["keys", "create", "acme"], tmp_path, **given)
    assert made.code == 0

    well, wrong = await examine(given), await examine(given | {"DEDUP2D_KEYS_SECRET": "w" * 32})

    assert of(well, "keys") == Finding("keys", "ok", "0 of DEDUP2D_API_KEYS, 1 stored")
    assert of(wrong, "keys").state == "error"
    assert "DEDUP2D_KEYS_SECRET=***" in of(wrong, "keys").text


async def test_a_data_directory_that_nothing_uses_need_not_be_there(variables: dict[str, str]) -> None:
    """If this fails, doctor refuses services and workers on read-only disks, which start all the same."""
    findings = await examine(variables | {"DEDUP2D_DATA_DIR": "/proc/nowhere"})

    assert of(findings, "data directory").state == "ok"
    assert not [one for one in findings if one.state == "error"]


async def test_what_works_but_is_hardly_meant_is_a_warning(tmp_path: Path) -> None:
    """If this fails, a typing error in a variable, or workers that cannot see the uploads, go unnoticed."""
    findings = await examine(
        {
            "DEDUP2D_DATA_DIR": str(tmp_path),
            "DEDUP2D_ASYNC_BACKEND": "redis",
            "DEDUP2D_REDIS_URL": redis_url(),
            "DEDUP2D_ASYNC_MAXJOBS": "7",
            "DEDUP2D_ARQ_QUEUE_NAME": "q",
            "HOME": "/",
        }
    )

    said = [one.text for one in findings if one.part == "settings" and one.state == "warning"]
    assert any("DEDUP2D_ASYNC_MAXJOBS" in text and "DEDUP2D_ASYNC_MAX_JOBS?" in text for text in said)
    assert any("DEDUP2D_FILE_STORAGE_DIR" in text for text in said)
    assert any("DEDUPCAD_VISION_URL" in text for text in said)
    assert "loopback" in of(findings, "keys").text
    assert of(findings, "keys").state == "warning"
    assert not any("ARQ" in text for text in said)


async def test_one_broken_part_does_not_hide_the_others(variables: dict[str, str]) -> None:
    """If this fails, faults are found one at a time, each after the last one is mended."""
    findings = await examine(
        variables | {"DEDUP2D_S3_BUCKET": "none", "DEDUPCAD_VISION_URL": f"http://127.0.0.1:{free_port()}"}
    )

    assert {one.part for one in findings if one.state == "error"} == {"files", "vision"}
    assert of(findings, "jobs").state == "ok"


def test_the_command_says_it_in_lines_and_in_its_exit_code(tmp_path: Path) -> None:
    """If this fails, a script that deploys cannot tell whether to go on."""
    data = tmp_path / "data"
    well = run_process(["doctor"], data)
    as_json = run_process(["doctor", "--json"], data)
    wrong = run_process(["doctor"], data, DEDUP2D_REDIS_URL="nonsense")

    assert (well.code, wrong.code) == (0, 2)
    assert "data directory\tok\t" in well.out
    assert {one["state"] for one in json.loads(as_json.out)["findings"]} <= {"ok", "warning"}
    assert wrong.out.splitlines()[1].startswith("settings\terror\tDEDUP2D_REDIS_URL=*** is not allowed")
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert not list(data.rglob("*doctor*"))
