"""Random bytes on the wire, to a real server: an answer below 500 or a closed connection, soon."""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dedup2d_http.routing import PREFIX
from tests.http_support import PNG
from tests.test_http_server import Running, running

HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
BODY = HEAD + PNG + b"\r\n--B--\r\n"
SECONDS = 5.0
EXAMPLES = 100
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")

some = st.binary(max_size=12)
methods = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"get", b"PRI", b"CONNECT", b"TRACE"]
)
targets = st.one_of(
    st.sampled_from(
        [b"/livez", b"/", b"*", b"//", b"http://localhost/livez", b"localhost:80", b"/%00", b"/\xff", b"/a b"]
        + [
            f"{PREFIX}/{path}".encode()
            for path in ("search?async=true", "index/add", "jobs", "jobs/x/events")
        ]
    ),
    some,
)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""])
lines = st.one_of(
    st.sampled_from(
        [
            b"Host: localhost",
            b"Host: localhost",
            b"Host: evil.example",
            b"Content-Type: multipart/form-data; boundary=B",
            b"Content-Type: multipart/form-data; boundary=" + b"B" * 500,
            b"Content-Length: 0",
            b"Content-Length: 5",
            b"Content-Length: %d" % len(BODY),
            b"Content-Length: 99999999999999999999",
            b"Content-Length: +5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding : chunked",
            b"Expect: 100-continue",
            b"Expect: 200-ok",
            b"Connection: close",
            b"Connection: upgrade",
            b"Upgrade: h2c",
            b"Upgrade: websocket",
            b"Content-Encoding: gzip",
            b" folded",
            b"X: " + b"a" * 9000,
            b"Prefer: wait=60, wait=60",
            b"Cookie: " + b"a=b; " * 500,
        ]
    ),
    some,
    st.tuples(some, some).map(b": ".join),
)
framed = st.lists(
    st.one_of(
        st.sampled_from(
            [b"0\r\n\r\n", b"5\r\nabcde\r\n", b"%x\r\n%s\r\n" % (len(BODY), BODY), b"FFFFFFFFFFFFFFFF\r\n"]
        ),
        st.sampled_from(
            [b"-1\r\n", b"5;" + b"x" * 20_000 + b"\r\n", b"0\r\nTrailer: x\r\n\r\n", b"5\r\nabcdefg\r\n"]
        ),
        some,
    ),
    max_size=4,
).map(b"".join)
bodies = st.one_of(st.just(BODY), st.just(b""), framed, some)
requests = st.tuples(methods, targets, versions, st.lists(lines, max_size=6), bodies).map(
    lambda each: (
        b" ".join(each[:3]) + b"\r\n" + b"".join(line + b"\r\n" for line in each[3]) + b"\r\n" + each[4]
    )
)
streams = st.one_of(requests, st.lists(requests, max_size=3).map(b"".join), st.binary(max_size=200))


def answered(server: Running, sent: bytes) -> bytes:
    """Send all, say that no more comes, and return what came until the server closed."""
    found = b""
    with server.connect() as connection:
        connection.settimeout(SECONDS)
        try:
            connection.sendall(sent)
            with suppress(OSError):  # it closed already
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                found += piece
        except ConnectionError:
            pass
    return found


@pytest.mark.once
def test_any_bytes(tmp_path: Path) -> None:
    """If this fails, some bytes bring a 500, hold a connection, make the app stumble, or end the server."""
    with running(tmp_path) as server:

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(sent=streams)
        def check(sent: bytes) -> None:
            begin = time.monotonic()
            found = answered(server, sent)

            assert [status for status in STATUS.findall(found) if status >= b"500"] == []
            assert time.monotonic() - begin < SECONDS
            assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200

        check()
        log = server.log.read_text()

    assert "Traceback" not in log
    assert "request failed" not in log
