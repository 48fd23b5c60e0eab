"""
Clients that hold their connections, and honest ones that send much, in a process of their own.

`python -m tests.slow_clients hold PORT KEY COUNT PATH` opens COUNT connections of each kind and keeps them,
opening again what is closed, until its input ends. `python -m tests.slow_clients upload PORT KEY COUNT BYTES`
sends COUNT drawings at once as searches and prints the status of each answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.drawings import small_png

API = "/api/v1/dedup/2d"
KIND = "Content-Type: multipart/form-data; boundary=B"
HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="large.png"\r\n\r\n'
END = b"\r\n--B--\r\n"
PIPELINED = 200

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(line: str, key: str, *more: str) -> bytes:
    return "\r\n".join((f"{line} HTTP/1.1", "Host: localhost", f"X-API-Key: {key}", *more, "", "")).encode()


def post(key: str, length: int) -> bytes:
    return request(f"POST {API}/search?async=true", key, KIND, f"Content-Length: {length}")


async def drip(streams: Streams, first: bytes) -> None:
    """Send *first*, and then a byte a second."""
    _, writer = streams
    writer.write(first)
    while True:
        await writer.drain()
        await asyncio.sleep(1)
        writer.write(b"a")


async def slow_header(streams: Streams, *_: str) -> None:
    await drip(streams, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")


async def slow_body(streams: Streams, key: str, _: str) -> None:
    await drip(streams, post(key, 50_000_000) + HEAD + small_png()[:64])


async def idle(streams: Streams, *_: str) -> None:
    reader, writer = streams
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while await reader.read(4096):
        pass


async def slow_reader(streams: Streams, key: str, path: str) -> None:
    """Ask for much and take a byte a second."""
    reader, writer = streams
    writer.write(request(f"GET {path}", key) * PIPELINED)
    while await reader.read(1):  # noqa: ASYNC110 - it is slow on purpose
        await asyncio.sleep(1)


Kind = Callable[[Streams, str, str], Awaitable[None]]
KINDS: tuple[Kind, ...] = (slow_header, slow_body, idle, slow_reader)


async def keep(port: int, kind: Kind, key: str, path: str) -> None:
    """Be a client of *kind* for ever: what the service closes is opened again."""
    while True:
        taking = socket.socket()
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taking.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(taking, ("127.0.0.1", port))
            await kind(await asyncio.open_connection(sock=taking, limit=1024), key, path)
        except OSError:
            await asyncio.sleep(0.5)
        finally:
            taking.close()


async def hold(port: int, key: str, count: int, path: str) -> None:
    clients = [asyncio.create_task(keep(port, kind, key, path)) for _ in range(count) for kind in KINDS]
    await asyncio.sleep(1)
    print("holding", flush=True)  # noqa: T201 - the test reads it
    await asyncio.to_thread(sys.stdin.read)
    for client in clients:
        client.cancel()


def upload(port: int, key: str, count: int, size: int) -> None:
    with tempfile.NamedTemporaryFile() as body:
        body.write(HEAD + small_png())
        body.truncate(len(HEAD) + size)
        body.seek(0, os.SEEK_END)
        body.write(END)
        body.flush()
        length = body.tell()

        def send(_: int) -> str:
            with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
                connection.sendall(post(key, length))
                with Path(body.name).open("rb") as file:
                    connection.sendfile(file)
                return connection.recv(65536).partition(b"\r\n")[0].decode()

        with ThreadPoolExecutor(count) as threads:
            for status in threads.map(send, range(count)):
                print(status, flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    what, port, key, count, more = sys.argv[1:]
    if what == "hold":
        asyncio.run(hold(int(port), key, int(count), more))
    else:
        upload(int(port), key, int(count), int(more))
