"""Metrics on a port of their own: what it shows, what it refuses, and what it survives."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx
import pytest
from attrs import evolve

from dedup2d import metrics_server
from dedup2d.errors import ConfigurationError
from dedup2d.metrics_server import metrics_served
from dedup2d.settings import Settings
from dedup2d_http.routing import PREFIX
from tests.http_support import assert_problem, bench
from tests.serving import free_port


@contextmanager
def served(text: bytes = b"up 1\n", host: str = "127.0.0.1") -> Iterator[str]:
    port = free_port()
    with metrics_served(lambda: text, host=host, port=port):
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=5, trust_env=False)


def test_it_shows_the_metrics_and_nothing_else() -> None:
    """If this fails, Prometheus finds nothing there, or others find more than they should."""
    with served(b"x 1\n" * 100_000) as url:
        found = get(f"{url}/metrics?name[]=x")
        head = httpx.head(f"{url}/metrics", timeout=5, trust_env=False)
        others = [get(url + path) for path in ("/", "/health", f"{PREFIX}/jobs", "/metrics/..", "/metrics/")]
        posted = httpx.post(f"{url}/metrics", content=b"x", timeout=5, trust_env=False)

    assert (found.status_code, found.content) == (200, b"x 1\n" * 100_000)
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert found.headers["server"].strip() == "dedup2d"
    assert (head.status_code, head.content) == (200, b"")
    assert [one.status_code for one in others] == [404] * 5
    assert others[0].text == "the metrics are at /metrics\n"
    assert posted.status_code == 501


def test_it_ends_with_the_block() -> None:
    """If this fails, a stopped service holds its port, and the next start fails."""
    with served() as url:
        host, port = url.removeprefix("http://").split(":")
        silent = socket.create_connection((host, int(port)))
    with closing(silent), pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=2)
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]


def test_ipv6() -> None:
    """If this fails, machines without IPv4 have no metrics."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    port = free_port()
    with metrics_served(lambda: b"up 1\n", host="::1", port=port):
        assert get(f"http://[::1]:{port}/metrics").text == "up 1\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host"])
def test_an_address_that_cannot_be_used(host: str) -> None:
    """If this fails, a start with a wrong address shows a traceback, or no metrics and no word of it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        wanted = f"METRICS_PORT={host}:{port} is not allowed: set it to an address that is free"
        with (
            pytest.raises(ConfigurationError, match=wanted),
            metrics_served(lambda: b"", host=host, port=port),
        ):
            pass


def test_metrics_that_fail_are_no_reason_to_end() -> None:
    """If this fails, one error while rendering leaves Prometheus blind, or shows it a half."""
    port = free_port()

    def broken() -> bytes:
        raise ZeroDivisionError

    with metrics_served(broken, host="127.0.0.1", port=port):
        answers = [get(f"http://127.0.0.1:{port}/metrics") for _ in range(2)]

    assert [(one.status_code, one.text) for one in answers] == [(500, "see the log\n")] * 2


def test_silent_connections_are_few_and_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, whoever reaches the port can fill the process with threads, or keep Prometheus out."""
    monkeypatch.setattr(metrics_server, "_SECONDS", 1.0)
    before = threading.active_count()
    with served() as url, contextlib.ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        silent = []
        for number in range(100):
            one = stack.enter_context(closing(socket.create_connection((host, int(port)), timeout=10)))
            with contextlib.suppress(OSError):  # it may have been closed at once
                one.sendall(b"GET /metrics HTTP/1.1\r\nX-A: " if number % 2 else b"")
            silent.append(one)
        assert threading.active_count() - before <= 17
        dripping = stack.enter_context(closing(silent[1].dup()))
        begin = time.monotonic()
        for _ in range(30):  # one byte now and then does not keep it open
            with contextlib.suppress(OSError):
                dripping.send(b"x")
            time.sleep(0.05)
        while time.monotonic() < begin + 5:
            try:
                if get(f"{url}/metrics").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        else:
            pytest.fail("Prometheus is kept out")


async def test_beside_the_api_they_are_gone_then() -> None:
    """If this fails, metrics that were put out of clients' reach are still in it."""
    async with bench(evolve(Settings(), metrics_port=9100)) as api:
        answer = await api.client.get("/metrics")
        health = await api.client.get("/health")

    assert_problem(answer, 404, "NOT_FOUND", "a port of their own")
    assert "9100" not in answer.text
    assert health.status_code == 200
