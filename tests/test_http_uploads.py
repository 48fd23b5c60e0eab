"""Bodies that careless and hostile clients send: each a clear refusal, none held in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import httpx
import pytest
from starlette.requests import Request

from dedup2d.settings import Settings
from dedup2d_http.context import ClientGoneError
from dedup2d_http.pace import Pace
from dedup2d_http.routing import PREFIX
from dedup2d_http.uploads import UploadLimits, upload
from tests.http_support import PNG, Bench, assert_problem, bench, holding, png_of

TYPE = "multipart/form-data; boundary=BOUND"
HEAD = b'--BOUND\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
FIELD = b'--BOUND\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
END = b"\r\n--BOUND--\r\n"
MIB = 1024 * 1024


async def post(api: Bench, body: Any, content_type: str | None = TYPE, **headers: str) -> httpx.Response:
    headers = headers if content_type is None else {**headers, "Content-Type": content_type}
    return await api.client.post(f"{PREFIX}/search", content=body, headers=headers)


async def pieces_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_bodies_may_come_in_any_pieces(size: int) -> None:
    """If this fails, what is stored depends on how the network cuts the body."""
    data = PNG + b"\r\n--BOUN\r\n--BOUND\r\r\n-" + b"\r\n--BOUNDx" + b"\0" * 100
    async with bench() as api:
        answer = await post(api, pieces_of(HEAD + data + END + b"epilogue", size))

    assert answer.status_code == 200, answer.text
    assert api.searched == [("a.png", len(data))]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "INVALID_MULTIPART", "closing boundary"),
        (b"hello", "INVALID_MULTIPART", "malformed"),
        (b"--BOUND--\r\n", "INVALID_MULTIPART", "no part named file"),
        (b"--OTHER\r\n", "INVALID_MULTIPART", "malformed"),
        (HEAD, "INVALID_MULTIPART", "closing boundary"),
        (HEAD + PNG, "INVALID_MULTIPART", "closing boundary"),
        (HEAD + PNG + b"\r\n--BOUND", "INVALID_MULTIPART", "closing boundary"),
        (HEAD + PNG + b"\r\n--BOUND\r\n", "INVALID_MULTIPART", "closing boundary"),
        (HEAD + END, "EMPTY_FILE", "0 bytes"),
        (HEAD + b"just text" + END, "UNSUPPORTED_FORMAT", "a.png"),
        (HEAD + PNG + b"\r\n" + HEAD + PNG + END, "INVALID_MULTIPART", "more than one part named file"),
        (
            HEAD + PNG + b"\r\n" + FIELD % (b"mode", b"fast") + b"--BOUND--",
            "INVALID_PARAMETER",
            "in the query",
        ),
        (FIELD % (b"geom_json", b"no") + HEAD + PNG + END, "INVALID_GEOM_JSON", "not JSON"),
        (FIELD % (b"geom_json", b"{}") * 2 + HEAD + PNG + END, "INVALID_MULTIPART", "geom_json"),
        (FIELD % (b"\xff\0\n", b"1") + HEAD + PNG + END, "INVALID_PARAMETER", "not allowed"),
        (b"--BOUND\r\n\r\nx" + END, "INVALID_MULTIPART", "Content-Disposition"),
        (b"--BOUND\r\nContent-Disposition: form-data\r\n\r\nx" + END, "INVALID_MULTIPART", "name"),
        (
            b'--BOUND\r\nContent-Disposition: attachment; name="file"\r\n\r\nx' + END,
            "INVALID_MULTIPART",
            "form-data",
        ),
        (b"--BOUND\r\n: x\r\n\r\nx" + END, "INVALID_MULTIPART", "malformed"),
        (b"--BOUND\r\nA\0: x\r\n\r\nx" + END, "INVALID_MULTIPART", "malformed"),
        (b"--BOUND\r\n" + b"A: b\r\n" * 1000 + b"\r\n" + END, "INVALID_MULTIPART", "header"),
        (b"--BOUND\r\nA: " + b"b" * 20_000 + b"\r\n\r\n" + END, "INVALID_MULTIPART", "header"),
        (HEAD[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\nAAAA" + END, "INVALID_MULTIPART", "base64"),
    ],
)
@pytest.mark.parametrize("size", [1, 10_000_000])
async def test_bodies_that_are_not_right(body: bytes, code: str, words: str, size: int) -> None:
    """If this fails, a broken body is searched for, stored, or ends in a 500."""
    async with bench() as api:
        for query in ("", "?async=true"):
            answer = await api.client.post(
                f"{PREFIX}/search{query}", content=pieces_of(body, size), headers={"Content-Type": TYPE}
            )

            assert_problem(answer, 415 if code == "UNSUPPORTED_FORMAT" else 400, code, words)
        assert api.asked == []
        assert await api.stored_files() == 0
        assert (await api.client.get(f"{PREFIX}/jobs")).json()["total"] == 0


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        (None, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("image/png", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("application/json", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("multipart/mixed; boundary=BOUND", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("multipart/form-data", 400, "INVALID_MULTIPART"),
        ("multipart/form-data; boundary=", 400, "INVALID_MULTIPART"),
        ("multipart/form-data; boundary=" + "b" * 71, 400, "INVALID_MULTIPART"),
        ("multipart/form-data; boundary=\x00\xff", 400, "INVALID_MULTIPART"),
    ],
)
async def test_wrong_content_types(content_type: str | None, status: int, code: str) -> None:
    """If this fails, a body of another type is guessed at."""
    async with bench() as api:
        headers = [] if content_type is None else [(b"Content-Type", content_type.encode("latin-1"))]
        answer = await api.client.post(f"{PREFIX}/search", content=HEAD + PNG + END, headers=headers)

    assert_problem(answer, status, code)


async def test_compressed_bodies_are_refused() -> None:
    """If this fails, a compressed body is taken for a broken one, or unpacked without bound."""
    async with bench() as api:
        answer = await post(api, HEAD + PNG + END, **{"Content-Encoding": "gzip"})

    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "gzip")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "drawing"),
        ("", "drawing"),
        ("a\0b.png", "a_b.png"),
        ("a\nb.png", "a_b.png"),
        ("C:\\drawings\\Welle Ø5.png", "Welle Ø5.png"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("x" * 10_000 + ".png", "x" * 251 + ".png"),
        ('"><script>.png', '"><script>.png'),
    ],
)
async def test_file_names(sent: str, kept: str) -> None:
    """If this fails, a file name climbs out of a directory, breaks a log line, or is kept without bound."""
    escaped = sent.replace('"', '\\"').encode()
    body = b'--BOUND\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % escaped
    async with bench() as api:
        answer = await post(api, body + PNG + END)
        listed = await api.client.post(
            f"{PREFIX}/search?async=true", content=body + PNG + END, headers={"Content-Type": TYPE}
        )
        job = (await api.client.get(listed.json()["poll_url"])).json()

    assert answer.status_code == 200, answer.text
    assert job["file_name"] == kept


async def test_a_name_that_is_not_text_is_shown_safely() -> None:
    """If this fails, a name of any bytes ends in a 500, or reaches a terminal raw."""
    head = HEAD.replace(b"a.png", b"\xff\xfe\x1b[31m.txt")
    async with bench() as api:
        answer = await post(api, head + b"text" + END)

    problem = assert_problem(answer, 415, "UNSUPPORTED_FORMAT", "[31m.txt")
    assert problem["detail"].isprintable()


async def test_a_part_without_a_file_name_is_a_file_too() -> None:
    """If this fails, clients that send no file name cannot search."""
    async with bench() as api:
        answer = await post(api, HEAD.replace(b'; filename="a.png"', b"") + PNG + END)

    assert answer.status_code == 200
    assert api.searched == [("drawing", len(PNG))]


async def test_many_parts_and_huge_fields_are_refused() -> None:
    """If this fails, a small body costs much work, or a field much memory."""
    limits = UploadLimits(max_file_bytes=MIB)
    async with bench(limits=limits) as api:
        many = await add(api, FIELD % (b"metadata", b"{}") + HEAD + (b"\r\n" + HEAD) * 1000)
        parts = await add(api, b"".join(FIELD % (b"metadata", b"{}") for _ in range(2)) + HEAD + PNG + END)
        huge = await add(api, FIELD % (b"metadata", b"x" * 70_000) + HEAD + PNG + END)

    assert_problem(many, 400, "INVALID_MULTIPART", "more than one")
    assert_problem(parts, 400, "INVALID_MULTIPART", "more than one part named metadata")
    assert_problem(huge, 400, "INVALID_PARAMETER", "65,536 bytes")


async def test_the_number_of_parts_is_limited() -> None:
    """If this fails, a body of a million empty parts keeps the event loop busy."""
    async with bench(limits=UploadLimits(max_file_bytes=MIB, max_parts=1)) as api:
        answer = await add(api, FIELD % (b"metadata", b"{}") + HEAD + PNG + END)

    assert_problem(answer, 400, "INVALID_MULTIPART", "more than 1 parts")


async def add(api: Bench, body: bytes) -> httpx.Response:
    return await api.client.post(f"{PREFIX}/index/add", content=body, headers={"Content-Type": TYPE})


async def test_a_body_that_announces_too_much_is_not_read() -> None:
    """If this fails, an upload is transferred although it cannot be taken."""
    taken = 0

    async def never() -> AsyncIterator[bytes]:
        nonlocal taken
        taken += 1
        yield b"x"

    async with bench(Settings(max_upload_bytes=MIB)) as api:
        request = api.client.build_request(
            "POST", f"{PREFIX}/search", content=never(), headers={"Content-Type": TYPE}
        )
        del request.headers["Transfer-Encoding"]
        request.headers["Content-Length"] = str(200 * MIB)
        answer = await api.client.send(request)

    assert_problem(answer, 413, "FILE_TOO_LARGE", "1,048,576 bytes", "DEDUP2D_MAX_UPLOAD_BYTES")
    assert answer.headers["connection"] == "close"
    assert taken == 0


@pytest.mark.parametrize("query", ["", "?async=true", "?mode=precise"])
@pytest.mark.parametrize("path", ["search", "index/add"])
async def test_a_body_without_length_is_cut_off(query: str, path: str) -> None:
    """If this fails, an upload of any length fills the disk or the memory."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEAD + png_of(MIB)
        while sent < 300:
            sent += 1
            yield b"\0" * MIB

    async with bench(Settings(max_upload_bytes=4 * MIB)) as api:
        answer = await api.client.post(
            f"{PREFIX}/{path}{query if path == 'search' else ''}",
            content=endless(),
            headers={"Content-Type": TYPE},
        )

        assert_problem(answer, 413, "FILE_TOO_LARGE")
        assert sent <= 5
        assert await api.stored_files() == 0


async def test_memory_stays_flat_while_a_large_body_passes() -> None:
    """If this fails, a few large uploads at once exhaust the memory of the service."""
    total = left = 200 * MIB
    chunk, size = b"\0" * MIB, 0

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= MIB
        body = HEAD if left == total - MIB else chunk if left > 0 else END
        return {"type": "http.request", "body": body, "more_body": left > 0}

    body = await upload(arriving(receive), UploadLimits(max_file_bytes=2 * total))
    tracemalloc.start()
    async for piece in body:
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size == total - 2 * MIB
    assert peak < 6 * MIB


def arriving(receive: Any) -> Request:
    """Return a request whose body *receive* gives."""
    return Request({"type": "http", "headers": [(b"content-type", TYPE.encode())]}, receive)


@pytest.mark.parametrize("sent", [HEAD[:20], HEAD, HEAD + PNG])
async def test_a_client_that_leaves_leaves_nothing_behind(sent: bytes) -> None:
    """If this fails, a broken upload is searched for, or its pieces stay on disk."""
    async with bench() as api:
        for query in (b"", b"async=true"):
            answered = await ask(api, [sent], query)

            assert [message.get("status") for message in answered] == [400, None]  # for malformed chunks
        assert api.asked == []
        assert await api.stored_files() == 0


async def test_a_search_stops_when_its_client_leaves() -> None:
    """If this fails, searches go on for clients that gave up, and their repeats pile up."""
    vision = holding()
    async with bench(vision=vision) as api:
        with anyio.fail_after(10):
            answered = await ask(api, [HEAD + PNG + END], b"", leave_when=partial(vision.until_running, 1))

        assert answered[0]["status"] == 400
        assert vision.cancelled == 1
        assert await api.stored_files() == 0


async def ask(
    api: Bench, pieces: list[bytes], query: bytes, *, leave_when: Callable[[], Awaitable[None]] | None = None
) -> list[Any]:
    """Send *pieces* as an ASGI server would, then break the connection; return what was answered."""
    waiting, sent = list(pieces), []

    async def receive() -> dict[str, Any]:
        if waiting:
            more = leave_when is None or len(waiting) > 1
            return {"type": "http.request", "body": waiting.pop(0), "more_body": more}
        if leave_when:
            await leave_when()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"{PREFIX}/search",
        "raw_path": f"{PREFIX}/search".encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", TYPE.encode()), (b"content-length", b"900")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await api.app(scope, receive, send)
    return sent


async def test_a_client_that_falls_silent_is_let_go() -> None:
    """If this fails, slow clients hold uploads open for ever."""

    async def silent() -> AsyncIterator[bytes]:
        yield HEAD + PNG
        await anyio.sleep_forever()

    async with bench(limits=UploadLimits(max_file_bytes=MIB, pace=Pace(idle_seconds=0.05))) as api:
        answer = await post(api, silent())

        assert_problem(answer, 408, "REQUEST_TIMEOUT", "0.05 s")
        assert answer.headers["connection"] == "close"
        assert await api.stored_files() == 0


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (Pace(grace_seconds=0.1, bytes_per_second=10_000), "less than 10,000 bytes a second"),
        (Pace(total_seconds=0.1, bytes_per_second=1), "not through after 0.1 s"),
    ],
)
async def test_a_client_that_drips_is_let_go(pace: Pace, words: str) -> None:
    """If this fails, a byte now and then holds an upload open for ever."""

    async def dripping() -> AsyncIterator[bytes]:
        yield HEAD + PNG
        while True:
            await anyio.sleep(0.01)
            yield b"\0"

    async with bench(limits=UploadLimits(max_file_bytes=MIB, pace=pace)) as api:
        answer = await post(api, dripping())

        assert_problem(answer, 408, "REQUEST_TIMEOUT", words)
        assert await api.stored_files() == 0


async def test_our_own_slowness_is_not_the_clients() -> None:
    """If this fails, an upload to a busy store is refused as too slow."""

    async def quick() -> dict[str, Any]:
        return {"type": "http.request", "body": HEAD + PNG + END, "more_body": False}

    pace = Pace(grace_seconds=0.05, total_seconds=0.05, bytes_per_second=1e9)
    body = await upload(arriving(quick), UploadLimits(max_file_bytes=MIB, pace=pace))
    await anyio.sleep(0.1)

    assert b"".join([piece async for piece in body]) == PNG


async def test_a_broken_connection_is_told_apart_from_an_end() -> None:
    """If this fails, a body that was cut off counts as complete."""

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        await upload(arriving(gone), UploadLimits(max_file_bytes=1))
