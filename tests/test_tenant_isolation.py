"""
Two tenants on one service, as a state machine: neither notices that there is another.

Each call of a tenant is made twice: on a service that both use, and on one that the tenant has for itself.
The answers must be the same, but for ids and times. So whatever seeps through (a match, a total, a page, a
difference picture, an error that words it otherwise, an ETag, a key that is taken) shows as a difference,
without anybody having thought of it before.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import define, evolve, field, frozen
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from dedup2d.files.local import LocalFileStore
from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.s3 import S3FileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.jobs.redis import RedisJobStore
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.keys import Principal
from dedup2d.keys.ring import KeyRing
from dedup2d.metrics import PrometheusMetrics
from dedup2d.protocols import FileStore, JobStore, Queue, VisionClient
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import RunnerOptions
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d.vision.embedded import EmbeddedVision
from dedup2d_http.app import create_app
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX
from tests.backends import fresh, redis_options, rq_queue, s3_options
from tests.drawings import revised_png, small_png

TENANTS = ("acme", "umbra")
WORLDS = ("both", *TENANTS)
DRAWINGS = (small_png(), revised_png(), small_png("flange", 1), small_png("flange", 2))
UNKNOWN = "0" * 32
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

who = st.sampled_from(TENANTS)
drawing = st.integers(0, len(DRAWINGS) - 1)
pick = st.integers(0, 50)
idempotency = st.sampled_from([None, "k1", "k2"])
Whose = st.sampled_from(["own", "own", "foreign", "unknown"])


_firsts = count(1, 100_000)


def fake_vision() -> FakeVision:
    """Return a vision whose drawings have ids that no other one's have."""
    return FakeVision(first_number=next(_firsts))


@frozen(kw_only=True)
class Stack:
    """What the three services of a test stand on."""

    parts: Callable[[Path], tuple[JobStore, FileStore, Queue, VisionClient]]
    concurrency: int
    examples: int
    steps: int
    offers: bool = False


STACKS = {
    "waiting": Stack(
        parts=lambda _: (MemoryJobStore(), MemoryFileStore(), MemoryQueue(), fake_vision()),
        concurrency=0,
        examples=12,
        steps=30,
    ),
    "running": Stack(
        parts=lambda _: (MemoryJobStore(), MemoryFileStore(), MemoryQueue(), fake_vision()),
        concurrency=2,
        examples=8,
        steps=30,
    ),
    "one machine": Stack(
        parts=lambda directory: (
            SQLiteJobStore(directory / "jobs.db"),
            LocalFileStore(directory / "files"),
            MemoryQueue(),
            EmbeddedVision(directory / "index", processes=1),
        ),
        concurrency=2,
        examples=3,
        steps=20,
    ),
    "servers": Stack(
        parts=lambda _: (
            RedisJobStore(redis_options()),
            S3FileStore(s3_options()),
            rq_queue(),
            fake_vision(),
        ),
        concurrency=2,
        examples=6,
        steps=20,
        offers=True,
    ),
}


def tenant_name(tenant: str, number: int) -> str:
    return f"{tenant}-{number}"


def key_of(tenant: str, number: int) -> str:
    return f"key-of-{tenant_name(tenant, number)}"


class AnyTenant(KeyRing):
    """Knows the keys of the tenants of all examples, however many there will be."""

    async def find(self, text: str) -> Principal | None:
        return Principal(text.removeprefix("key-of-"))


@asynccontextmanager
async def service(stack: Stack, directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Open an API on back ends of its own."""
    settings = evolve(Settings(), max_requests_per_second_per_tenant=0)
    metrics = PrometheusMetrics()
    jobs, files, queue, vision = stack.parts(fresh(directory))
    library = Dedup2D(
        jobs=jobs,
        files=files,
        queue=queue,
        vision=vision,
        observer=metrics,
        options=ServiceOptions(
            max_jobs=100_000, offer_uploads=stack.offers, run=RunnerOptions(concurrency=stack.concurrency)
        ),
    )
    async with library:
        app = create_app(library, settings, keys=AnyTenant({UNKNOWN: "nobody"}), metrics=metrics)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60
        ) as client:
            yield client


@define
class Eye:
    """How one tenant sees one service: its answers without what differs by itself, as ids and times do."""

    names: dict[str, str] = field(factory=dict)

    def seen(self, answer: httpx.Response) -> tuple[object, ...]:
        kept = {"content-type", "retry-after", "allow", "preference-applied", "cache-control", "vary"}
        headers = {name: value for name, value in answer.headers.items() if name in kept}
        tagged = {"etag", "location"} & set(answer.headers)
        if answer.headers.get("content-type", "").startswith("image/"):
            return answer.status_code, headers, tagged, answer.content
        return answer.status_code, headers, tagged, self._plain(answer.text)

    def _plain(self, text: str) -> str:
        text = re.sub(r'"request_id":"[^"]*"', "", text)
        text = re.sub(r'"(next_page_token|url)":"[^"]*"', r'"\1":"..."', text)
        text = re.sub(r"\b1[0-9]{9}(\.[0-9]+)?\b", "TIME", text)
        text = re.sub(r'"([a-z0-9_]*_ms|expires_at)":[0-9.e+-]+', r'"\1":0', text)
        return re.sub(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|drawing-[0-9]+", self._named, text)

    def _named(self, match: re.Match[str]) -> str:
        return self.names.setdefault(match[0], f"id-{len(self.names)}")


@frozen
class Known:
    """Something that a tenant was told of: what it is called on the common service and on its own."""

    tenant: str
    both: str
    alone: str

    def on(self, world: str) -> str:
        return self.both if world == "both" else self.alone


@define
class Ground:
    """The three services of a test."""

    portal: BlockingPortal
    clients: dict[str, httpx.AsyncClient]
    numbers: Iterator[int] = field(factory=count)


@contextmanager
def ground(stack: Stack, directory: Path) -> Iterator[Ground]:
    async def opened(stack_of: AsyncExitStack) -> dict[str, httpx.AsyncClient]:
        return {world: await stack_of.enter_async_context(service(stack, directory)) for world in WORLDS}

    @asynccontextmanager
    async def all_of_them() -> AsyncIterator[dict[str, httpx.AsyncClient]]:
        async with AsyncExitStack() as services:
            yield await opened(services)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(all_of_them()) as clients,
    ):
        yield Ground(portal, clients)


class TwoTenants(RuleBasedStateMachine):
    """Any calls of either tenant, with ids and tokens of either."""

    def __init__(self, stack: Stack, on: Ground) -> None:
        super().__init__()
        self.stack = stack
        self.on = on
        self.number = next(on.numbers)
        self.eyes = {(tenant, world): Eye() for tenant in TENANTS for world in ("both", tenant)}
        self.known: dict[str, list[Known]] = {}
        self.markers: dict[str, set[str]] = {tenant: {tenant_name(tenant, self.number)} for tenant in TENANTS}

    @initialize()
    def begin(self) -> None:
        """Both have a drawing and a job from the start, the same ones."""
        for tenant in TENANTS:
            self.add(tenant, 0, "common.png")
            self.submit(tenant, 0, None, "")

    def call(
        self, tenant: str, method: str, url: Callable[[str], str], **more: Any
    ) -> tuple[httpx.Response, httpx.Response]:
        """Make the call on the common service and on the tenant's own; the answers must look the same."""
        headers = more.pop("headers", lambda _: {})
        shared, alone = (
            self.ask(tenant, world, method, url(world), headers=headers(world), **more)
            for world in ("both", tenant)
        )
        assert self.eyes[tenant, "both"].seen(shared) == self.eyes[tenant, tenant].seen(alone)
        sent = url("both") + str(headers("both"))
        self.check_names(tenant, shared.text, but=sent)
        assert shared.status_code < 500, shared.text
        return shared, alone

    def ask(
        self,
        tenant: str,
        world: str,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        headers = {"X-API-Key": key_of(tenant, self.number), **(headers or {})}

        async def send() -> httpx.Response:
            return await self.on.clients[world].request(method, url, headers=headers, **more)

        return self.on.portal.call(send)

    def check_names(self, tenant: str, text: str, *, but: str = "") -> None:
        """Make sure that *text* has no name or id of the other tenant, except those that were sent."""
        other = TENANTS[1 - TENANTS.index(tenant)]
        told = [each for each in self.markers[other] - self.markers[tenant] if each in text]
        assert [each for each in told if each not in but] == []

    def learn(self, kind: str, tenant: str, shared: str, alone: str) -> None:
        self.known.setdefault(kind, []).append(Known(tenant, shared, alone))
        if shared != alone:  # else it is made of the file alone, and the same for all
            self.markers[tenant].add(shared)

    def some(self, kind: str, tenant: str, whose: str, at: int) -> Known:
        """Choose an id or token that *tenant* or the other one was told, or one that nobody was."""
        found = [each for each in self.known.get(kind, []) if (each.tenant == tenant) == (whose == "own")]
        if whose == "unknown" or not found:
            return Known(tenant, UNKNOWN, UNKNOWN)
        return found[at % len(found)]

    # What makes something

    @rule(tenant=who, which=drawing, name=st.sampled_from(["common.png", "own-of-{}.png"]))
    def add(self, tenant: str, which: int, name: str) -> None:
        own = name.format(tenant_name(tenant, self.number))
        shared, alone = self.call(
            tenant,
            "POST",
            lambda _: f"{PREFIX}/index/add",
            files={"file": (own, DRAWINGS[which])},
            data={"metadata": f'{{"of":"{own}"}}'},
        )
        if shared.json()["added"]:
            self.learn("drawing", tenant, shared.json()["drawing_id"], alone.json()["drawing_id"])

    @rule(tenant=who, which=drawing, key=idempotency, query=st.sampled_from(["", "&max_results=1"]))
    def submit(self, tenant: str, which: int, key: str | None, query: str) -> None:
        shared, alone = self.call(
            tenant,
            "POST",
            lambda _: f"{PREFIX}/search?async=true{query}",
            files={"file": (f"job-of-{tenant_name(tenant, self.number)}.png", DRAWINGS[which])},
            headers=lambda _: {} if key is None else {"Idempotency-Key": f"{self.number}-{key}"},
        )
        if shared.status_code == 202:
            self.learn_job(tenant, shared, alone)

    def learn_job(self, tenant: str, shared: httpx.Response, alone: httpx.Response) -> None:
        known = Known(tenant, shared.json()["job_id"], alone.json()["job_id"])
        if known not in self.known.get("job", []):
            self.learn("job", tenant, known.both, known.alone)
        if self.stack.concurrency:
            ended, _ = self.call(
                tenant,
                "GET",
                lambda world: f"{PREFIX}/jobs/{known.on(world)}",
                headers=lambda _: {"Prefer": "wait=30"},
            )
            assert ended.json()["status"] == "completed"

    @precondition(lambda self: self.stack.offers)
    @rule(tenant=who)
    def offer(self, tenant: str) -> None:
        shared, alone = self.call(tenant, "POST", lambda _: f"{PREFIX}/uploads?size={len(DRAWINGS[0])}")
        for answer in (shared, alone):
            offered = answer.json()
            put = httpx.put(offered["url"], content=DRAWINGS[0], headers=offered["headers"], trust_env=False)
            assert put.status_code == 200, put.text
        self.learn("file_key", tenant, shared.json()["file_key"], alone.json()["file_key"])

    @rule(tenant=who, whose=Whose, at=pick, as_own=st.booleans())
    def search_by_file_key(self, tenant: str, whose: str, at: int, as_own: bool) -> None:
        known = self.some("file_key", tenant, whose, at)
        if "/" not in known.both:
            known = self.some("job", tenant, whose, at)
            known = Known(
                known.tenant, f"{self.name(known)}/{known.both}", f"{self.name(known)}/{known.alone}"
            )
        if as_own:
            own = tenant_name(tenant, self.number)
            known = Known(tenant, *(f"{own}/{key.partition('/')[2]}" for key in (known.both, known.alone)))
        shared, alone = self.call(
            tenant, "POST", lambda world: f"{PREFIX}/search?file_key={known.on(world)}&file_name=a.png"
        )
        if shared.status_code == 202:
            self.learn_job(tenant, shared, alone)

    def name(self, known: Known) -> str:
        return tenant_name(known.tenant, self.number)

    # What looks

    @rule(tenant=who, which=drawing, mode=st.sampled_from(["fast", "balanced"]))
    def search(self, tenant: str, which: int, mode: str) -> None:
        self.call(
            tenant,
            "POST",
            lambda _: f"{PREFIX}/search?mode={mode}&max_results=500",
            files={"file": ("query.png", DRAWINGS[which])},
        )

    @rule(tenant=who, kind=st.sampled_from(["jobs", "index/drawings"]), limit=st.sampled_from([1, 2, 500]))
    def list_all(self, tenant: str, kind: str, limit: int) -> None:
        """Go through all pages."""
        token = Known(tenant, "", "")
        while True:
            shared, alone = self.call(
                tenant,
                "GET",
                lambda world, token=token: (  # type: ignore[misc]  # mypy knows no defaults of lambdas
                    f"{PREFIX}/{kind}?limit={limit}"
                    + (f"&page_token={token.on(world)}" if token.both else "")
                ),
            )
            if not shared.json()["next_page_token"]:
                return
            token = Known(tenant, shared.json()["next_page_token"], alone.json()["next_page_token"])
            self.known.setdefault(f"token of {kind}", []).append(token)

    @rule(tenant=who, kind=st.sampled_from(["jobs", "index/drawings"]), at=pick)
    def list_with_a_foreign_token(self, tenant: str, kind: str, at: int) -> None:
        """A token is a place in time: with another's, what is one's own is listed from there on."""
        token = self.some(f"token of {kind}", tenant, "foreign", at)
        listed = self.ask(tenant, "both", "GET", f"{PREFIX}/{kind}?page_token={token.both}")
        self.check_names(tenant, listed.text)

    @rule(
        tenant=who,
        resource=st.sampled_from(RESOURCES),
        method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
        whose=Whose,
        at=pick,
        body=st.booleans(),
    )
    def any_route(  # noqa: PLR0917 - hypothesis names them
        self,
        tenant: str,
        resource: Any,
        method: str,
        whose: str,
        at: int,
        body: bool,
    ) -> None:
        """Every route there is and will be, with the id of a job or drawing in its path."""
        job = self.some("job", tenant, whose, at)
        known = self.some("drawing", tenant, whose, at)
        endless = resource.path.endswith("/events") and whose == "own" and not self.stack.concurrency
        if resource.path == "/metrics" or (endless and method == "GET"):
            return  # counts all; waits for the end
        more = {"files": {"file": ("query.png", DRAWINGS[at % len(DRAWINGS)])}} if body else {}
        path = re.sub(r"\{file_hash[^}]*\}", UNKNOWN * 2, resource.path)
        self.call(
            tenant,
            method,
            lambda world: path.format(job_id=job.on(world), drawing_id=known.on(world)),
            **more,
        )

    @rule(tenant=who, whose=Whose, at=pick)
    def cancel(self, tenant: str, whose: str, at: int) -> None:
        job = self.some("job", tenant, whose, at)
        self.call(tenant, "POST", lambda world: f"{PREFIX}/jobs/{job.on(world)}/cancel")

    @rule(tenant=who, whose=Whose, at=pick)
    def poll_with_an_etag(self, tenant: str, whose: str, at: int) -> None:
        """Take the ETag of one job to another: it must not tell that the other has it."""
        tagged = self.some("job", tenant, "own", at)
        asked = self.some("job", tenant, whose, at + 1)
        shared, alone = self.call(tenant, "GET", lambda world: f"{PREFIX}/jobs/{tagged.on(world)}")
        tags = Known(tenant, shared.headers.get("etag", '"x"'), alone.headers.get("etag", '"x"'))
        self.call(
            tenant,
            "GET",
            lambda world: f"{PREFIX}/jobs/{asked.on(world)}",
            headers=lambda world: {"If-None-Match": tags.on(world)},
        )

    @rule(tenant=who, whose=Whose, at=pick)
    def remove(self, tenant: str, whose: str, at: int) -> None:
        known = self.some("drawing", tenant, whose, at)
        self.call(tenant, "DELETE", lambda world: f"{PREFIX}/index/drawings/{known.on(world)}")

    @invariant()
    def metrics_name_nobody(self) -> None:
        text = self.on.portal.call(self.on.clients["both"].get, "/metrics").text
        for tenant in TENANTS:
            assert not [marker for marker in self.markers[tenant] if marker in text]


@pytest.mark.once
@pytest.mark.timeout(180)
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_neither_tenant_notices_the_other(stack: Stack, tmp_path: Path) -> None:
    """If this fails, a tenant learns something of another one's drawings or jobs."""
    with ground(stack, tmp_path) as on:
        run_machine(
            lambda: TwoTenants(stack, on),
            settings=hypothesis_settings(
                max_examples=stack.examples,
                stateful_step_count=stack.steps,
                deadline=None,
                suppress_health_check=QUIET,
            ),
        )
