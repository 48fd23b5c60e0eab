"""The service's log: one form for all, with the request's id and without what clients sent."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from dedup2d.settings import Settings
from dedup2d_http.logs import configure_logging
from tests.http_support import bench, failing


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Give a stream, and put the logging of the process back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    multipart = logging.getLogger("python_multipart")
    multipart_level = multipart.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    multipart.setLevel(multipart_level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_failed_request_can_be_followed_by_its_id(stream: io.StringIO) -> None:
    """If this fails, the request_id of a problem response leads to nothing, or the log holds the file."""
    configure_logging(level="info", form="auto", stream=stream)
    name = "name-of-a-file-that-is-nobodys-business.png"
    async with bench(Settings(), vision=failing(ZeroDivisionError("why it failed"))) as api:
        answer = await api.search((name, b"\x89PNG\r\n\x1a\n" + b"secret bytes"))

    logged = [line for line in lines(stream) if line.get("request_id") == answer.json()["request_id"]]
    failed, request = logged
    assert (failed["level"], failed["event"]) == ("error", "request failed")
    assert "why it failed" in json.dumps(failed["exception"])
    assert (request["event"], request["status"], request["method"]) == ("request", 500, "POST")
    assert name not in stream.getvalue()
    assert "secret bytes" not in stream.getvalue()


def test_the_librarys_logs_have_the_same_form(stream: io.StringIO) -> None:
    """If this fails, a log collector sees two formats, or the fields of a job's line are lost."""
    configure_logging(level="warning", form="json", stream=stream)
    logging.getLogger("dedup2d.runner").warning("job is final", extra={"job_id": "j1"})
    logging.getLogger("dedup2d.runner").info("not shown")

    (line,) = lines(stream)
    assert (line["event"], line["job_id"], line["logger"]) == ("job is final", "j1", "dedup2d.runner")
    assert str(line["timestamp"]).endswith("Z")


def test_a_terminal_gets_lines_for_people(stream: io.StringIO) -> None:
    """If this fails, whoever starts the service by hand reads JSON."""
    configure_logging(level="info", form="console", stream=stream)
    logging.getLogger("dedup2d").info("listening")

    assert "listening" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
