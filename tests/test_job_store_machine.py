"""Every job store against a plain model, through random histories that hit the exact boundaries."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from attrs import asdict, evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dedup2d.errors import (
    CallbackStateError,
    IdempotencyConflictError,
    InvalidParameterError,
    JobNotFoundError,
    JobQueueFullError,
    LeaseLostError,
)
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.protocols import JobStore
from dedup2d.testing import ManualClock
from dedup2d.types import CallbackStatus, Job, JobCounts, JobStatus, SearchResult
from tests.backends import JOB_STORES
from tests.test_job_stores import (
    CountsReleasesAsLosses,
    ExpiresWhatRuns,
    LosesAtTheEnd,
    ProlongsFinalJobs,
)

PENDING, RUNNING = JobStatus.PENDING, JobStatus.IN_PROGRESS
WAITING = CallbackStatus.PENDING
URL, DAY = "https://receiver.example/", 86_400.0
FINAL = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED)
TENANTS = ("one", "two")
PLACES, PLACES_OF_TENANT, MAX_LOSSES, TTL = 4, 3, 2, 40.0

names = st.sampled_from([f"job-{n}" for n in range(5)])
tenants = st.sampled_from(TENANTS)
tokens = st.sampled_from(["red", "red", "red", "blue"])
spans = st.sampled_from([0.0, 5.0, 20.0])


class Model:
    """What the contract says, on a dict and nothing else; a job is a dict of its fields."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.finished: dict[str, tuple[str, JobStatus]] = {}
        """By which token, and as what, a job was finished."""

    def alive(self, now: float) -> dict[str, dict[str, Any]]:
        return {
            name: job
            for name, job in self.jobs.items()
            if job["status"] not in FINAL or now <= job["expires_at"]
        }

    def busy(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs.values() if job["status"] not in FINAL]

    def claimable(self, now: float) -> list[str]:
        due = [
            job
            for job in self.jobs.values()
            if job["status"] == PENDING and (job["next_attempt_at"] is None or job["next_attempt_at"] <= now)
        ]
        return [job["job_id"] for job in sorted(due, key=lambda job: (job["created_at"], job["job_id"]))]

    def admit(self, job: Job, now: float) -> str | type[Exception]:
        key = job.idempotency_key
        for known in self.alive(now).values():
            if key is not None and (known["tenant_id"], known["idempotency_key"]) == (job.tenant_id, key):
                asked = (known["file_hash"], known["callback_url"])
                same = asked == (job.file_hash, job.callback_url)
                return known["job_id"] if same else IdempotencyConflictError
        if job.job_id in self.jobs:
            return InvalidParameterError
        mine = [other for other in self.busy() if other["tenant_id"] == job.tenant_id]
        if len(self.busy()) >= PLACES or len(mine) >= PLACES_OF_TENANT:
            return JobQueueFullError
        self.jobs[job.job_id] = {**asdict(job, recurse=False)}
        if job.callback_url is not None:
            message_id = f"msg_{job.job_id}"
            self.jobs[job.job_id].update(callback_status=WAITING, callback_message_id=message_id)
        return job.job_id

    def end(self, job: dict[str, Any], status: JobStatus, now: float, expires_at: float) -> None:
        self.rest(job)
        job.update(status=status, finished_at=now, expires_at=expires_at, last_error=None)
        if job["callback_url"] is not None:
            job.update(callback_next_attempt_at=now)
            self.keep(job, now)

    def keep(self, job: dict[str, Any], due: float) -> None:
        job["expires_at"] = max(job["expires_at"], due + DAY)

    def idle_callback(self, job: dict[str, Any], **fields: Any) -> None:
        job.update(callback_lease_token=None, callback_lease_expires_at=None, callback_next_attempt_at=None)
        job.update(fields)

    def due(self, job: dict[str, Any]) -> float | None:
        if job["status"] not in FINAL or job["callback_status"] is not WAITING:
            return None
        name = (
            "callback_next_attempt_at" if job["callback_lease_token"] is None else "callback_lease_expires_at"
        )
        found: float = job[name]
        return found

    def due_callbacks(self, now: float) -> dict[str, float]:
        """Which callbacks can be claimed, with the time since when."""
        due = {name: self.due(job) for name, job in self.alive(now).items()}
        return {name: at for name, at in due.items() if at is not None and at <= now}

    def held_callback(self, name: str, token: str) -> dict[str, Any] | None:
        job = self.jobs.get(name)
        return job if job is not None and job["callback_lease_token"] == token else None

    def rest(self, job: dict[str, Any]) -> None:
        job.update(lease_token=None, lease_expires_at=None, next_attempt_at=None, progress=None)

    def held(self, name: str, token: str) -> dict[str, Any] | None:
        job = self.jobs.get(name)
        holds = job is not None and job["status"] == RUNNING and job["lease_token"] == token
        return job if holds else None


class JobStoreMachine(RuleBasedStateMachine):
    make: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1000.0)
        self.model = Model()
        self.directory = Path(tempfile.mkdtemp())
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        entering = self.stack.enter_async_context(type(self).make(self.clock, self.directory))
        self.store: JobStore = self.loop.run(entering)

    def teardown(self) -> None:
        self.loop.run(self.stack.aclose())
        self.loop.close()
        rmtree(self.directory)

    def outcome(self, call: Any) -> Any:
        """Return what the awaited *call* returns, or the type of what it raises."""
        try:
            return self.loop.run(call)
        except (ValueError, LookupError, RuntimeError) as error:
            return type(error)

    def same(self, found: Any, name: str, *, secret: bool = True) -> None:
        wanted = Job(**self.model.jobs[name])
        assert found == (evolve(wanted, lease_token=None, callback_lease_token=None) if secret else wanted)

    @rule(
        name=names,
        tenant=tenants,
        key=st.sampled_from([None, "k", "k"]),
        file_hash=st.sampled_from(["f", "f", "g"]),
        age=st.integers(0, 3),
        url=st.sampled_from([URL, URL, None]),
    )
    def admit(
        self, *, name: str, tenant: str, key: str | None, file_hash: str, age: int, url: str | None
    ) -> None:
        job = Job(
            job_id=name,
            tenant_id=tenant,
            file_key=name,
            file_name="a.png",
            file_hash=file_hash,
            file_size=1,
            created_at=self.clock() - age,
            idempotency_key=key,
            callback_url=url,
        )
        wanted = self.model.admit(job, self.clock())
        found = self.outcome(self.store.admit(job, max_jobs=PLACES, max_jobs_per_tenant=PLACES_OF_TENANT))
        if isinstance(wanted, str):
            self.same(found, wanted)
        else:
            assert found is wanted

    @rule(token=tokens, name=st.none() | names, lease=spans)
    def claim(self, token: str, name: str | None, lease: float) -> None:
        now = self.clock()
        claimable = self.model.claimable(now)
        chosen = name if name in claimable else None
        if name is None and claimable:
            chosen = claimable[0]
        found = self.outcome(self.store.claim(token, lease_seconds=lease, job_id=name))
        if chosen is None:
            assert found is None
            return
        job = self.model.jobs[chosen]
        job.update(
            status=RUNNING,
            attempts=job["attempts"] + 1,
            next_attempt_at=None,
            progress=None,
            lease_token=token,
            lease_expires_at=now + lease,
        )
        job["started_at"] = now if job["started_at"] is None else job["started_at"]
        self.same(found, chosen, secret=False)

    @rule(name=names, token=tokens, lease=spans, progress=st.sampled_from([None, "l1", "l4"]))
    def heartbeat(self, name: str, token: str, lease: float, progress: str | None) -> None:
        found = self.outcome(self.store.heartbeat(name, token, lease_seconds=lease, progress=progress))
        job = self.model.held(name, token)
        if job is None:
            assert found is LeaseLostError
            return
        job["lease_expires_at"] = self.clock() + lease
        job["progress"] = progress or job["progress"]
        assert found is job["cancel_requested"]

    @rule(name=names, token=tokens, delay=spans, error=st.sampled_from([None, "away"]))
    def release(self, name: str, token: str, delay: float, error: str | None) -> None:
        now = self.clock()
        found = self.outcome(self.store.release(name, token, delay_seconds=delay, error=error))
        job = self.model.held(name, token)
        if job is None:
            assert found is LeaseLostError
            return
        if job["cancel_requested"]:
            self.model.end(job, JobStatus.CANCELED, now, job["expires_at"])
        else:
            self.model.rest(job)
            job.update(status=PENDING, next_attempt_at=now + delay if delay else None, last_error=error)
        self.same(found, name)

    @rule(name=names, token=tokens, status=st.sampled_from(FINAL), ttl=spans)
    def finish(self, name: str, token: str, status: JobStatus, ttl: float) -> None:
        now = self.clock()
        completed = status is JobStatus.COMPLETED
        outcome: dict[str, Any] = {
            "result": SearchResult(file_hash=name) if completed else None,
            "error_code": None if completed else "INTERNAL",
            "error": None if completed else "why",
        }
        found = self.outcome(self.store.finish(name, token, status=status, ttl_seconds=ttl, **outcome))
        job = self.model.held(name, token)
        if job is None:
            # A store may know that this is the call that finished the job, made again.
            if found is not LeaseLostError:
                assert self.model.finished.get(name) == (token, status)
                self.same(found, name)
            return
        self.model.end(job, status, now, now + ttl)
        job.update(outcome)
        self.model.finished[name] = token, status
        self.same(found, name)

    @rule(name=names, foreign=st.sampled_from([False, False, True]), ttl=spans)
    def cancel(self, name: str, foreign: bool, ttl: float) -> None:
        now = self.clock()
        owner = self.model.jobs.get(name, {"tenant_id": "one"})["tenant_id"]
        tenant = "stranger" if foreign else owner
        found = self.outcome(self.store.cancel(name, tenant, ttl_seconds=ttl))
        job = self.model.alive(now).get(name)
        if job is None or job["tenant_id"] != tenant:
            assert found is JobNotFoundError
            return
        if job["status"] not in FINAL:
            job.update(cancel_requested=True, expires_at=now + ttl)
        if job["status"] == PENDING:
            self.model.end(job, JobStatus.CANCELED, now, now + ttl)
        self.same(found, name)

    @rule(token=tokens, lease=spans, passed=st.sets(tenants))
    def claim_callback(self, token: str, lease: float, passed: set[str]) -> None:
        now = self.clock()
        found = self.outcome(self.store.claim_callback(token, lease_seconds=lease, passing_over=passed))
        due = {
            name: at
            for name, at in self.model.due_callbacks(now).items()
            if self.model.jobs[name]["tenant_id"] not in passed
        }
        if not due:
            assert found is None
            return
        # Which of several that are due since the same moment is first, is the store's own.
        assert due[found.job_id] == min(due.values())
        job = self.model.jobs[found.job_id]
        job.update(
            callback_attempts=job["callback_attempts"] + 1,
            callback_next_attempt_at=None,
            callback_lease_token=token,
            callback_lease_expires_at=now + lease,
        )
        self.model.keep(job, now + lease)
        self.same(found, found.job_id, secret=False)

    @rule(name=names, token=tokens, delay=spans, attempted=st.booleans(), error=st.sampled_from([None, "no"]))
    def retry_callback(self, name: str, token: str, delay: float, attempted: bool, error: str | None) -> None:
        now = self.clock()
        code = 503 if error else None
        found = self.outcome(
            self.store.retry_callback(
                name, token, delay_seconds=delay, attempted=attempted, http_status=code, error=error
            )
        )
        job = self.model.held_callback(name, token)
        if job is None:
            assert found is LeaseLostError
            return
        told = {"callback_http_status": code, "callback_last_error": error}
        self.model.idle_callback(
            job,
            callback_next_attempt_at=now + delay,
            **(told if attempted else {"callback_attempts": job["callback_attempts"] - 1}),
        )
        self.model.keep(job, now + delay)
        self.same_without_result(found, name)

    @rule(name=names, token=tokens, status=st.sampled_from(CallbackStatus), ttl=spans)
    def finish_callback(self, name: str, token: str, status: CallbackStatus, ttl: float) -> None:
        now = self.clock()
        found = self.outcome(
            self.store.finish_callback(
                name, token, status=status, ttl_seconds=ttl, http_status=200, error="e"
            )
        )
        job = self.model.held_callback(name, token)
        if status is WAITING:
            assert found in (InvalidParameterError, LeaseLostError)
        elif job is None:
            assert found is LeaseLostError
        else:
            self.model.idle_callback(
                job,
                callback_status=status,
                callback_http_status=200,
                callback_last_error="e",
                callback_finished_at=now,
                expires_at=now + ttl,
            )
            self.same_without_result(found, name)

    @rule(name=names, foreign=st.sampled_from([False, False, True]))
    def redeliver(self, name: str, foreign: bool) -> None:
        now = self.clock()
        owner = self.model.jobs.get(name, {"tenant_id": "one"})["tenant_id"]
        tenant = "stranger" if foreign else owner
        found = self.outcome(self.store.redeliver(name, tenant))
        job = self.model.alive(now).get(name)
        if job is None or job["tenant_id"] != tenant:
            assert found is JobNotFoundError
            return
        if job["callback_url"] is None or job["status"] not in FINAL:
            assert found is CallbackStateError
            return
        if job["callback_lease_token"] is None:
            anew = {"callback_attempts": 0, "callback_finished_at": None, "callback_status": WAITING}
            job.update(anew if job["callback_status"] is not WAITING else {}, callback_next_attempt_at=now)
            self.model.keep(job, now)
        self.same_without_result(found, name)

    def same_without_result(self, found: Any, name: str) -> None:
        wanted = Job(**{**self.model.jobs[name], "result": None, "callback_lease_token": None})
        assert found == wanted

    @rule()
    def sweep(self) -> None:
        now = self.clock()
        found = self.outcome(self.store.sweep(max_losses=MAX_LOSSES, ttl_seconds=TTL))
        gone = set(self.model.jobs) - set(self.model.alive(now))
        over = [
            job
            for job in self.model.jobs.values()
            if job["status"] == RUNNING and now > job["lease_expires_at"]
        ]
        failed = {self.lose(job, now) for job in over} - {None}
        assert (found.lost, {job.job_id for job in found.failed}) == (len(over), failed)
        assert {job.job_id for job in found.expired} == gone
        for name in gone:
            del self.model.jobs[name]
            self.model.finished.pop(name, None)
        assert list(found.ready) == self.model.claimable(now)

    def lose(self, job: dict[str, Any], now: float) -> str | None:
        """Let the model's *job* lose its worker; return its name if it fails for that."""
        name: str = job["job_id"]
        job["losses"] += 1
        stored = self.outcome(self.store.get(name))
        if job["cancel_requested"]:
            self.model.end(job, JobStatus.CANCELED, now, now + TTL)
        elif job["losses"] < MAX_LOSSES:
            self.model.rest(job)
            # The words are the store's own.
            assert stored.last_error
            job.update(status=PENDING, last_error=stored.last_error)
        else:
            self.model.end(job, JobStatus.FAILED, now, now + TTL)
            assert stored.error
            job.update(error_code="WORKER_LOST", error=stored.error)
            return name
        return None

    @rule(tenant=tenants, status=st.none() | st.sampled_from(list(JobStatus)), limit=st.integers(1, 3))
    def page_through(self, tenant: str, status: JobStatus | None, limit: int) -> None:
        alive = self.model.alive(self.clock()).values()
        fitting = [job for job in alive if job["tenant_id"] == tenant and status in (None, job["status"])]
        fitting.sort(key=lambda job: (job["created_at"], job["job_id"]), reverse=True)
        found: list[Job] = []
        token = None
        while True:
            page = self.outcome(self.store.list(tenant, status=status, limit=limit, page_token=token))
            assert page.total == len(fitting)
            assert len(page.jobs) == min(limit, len(fitting) - len(found))
            found += page.jobs
            token = page.next_page_token
            if token is None:
                break
        hidden = {"lease_token": None, "callback_lease_token": None, "result": None}
        assert found == [Job(**{**job, **hidden}) for job in fitting]

    @rule(seconds=st.sampled_from([0.001, 1.0, 25.0, 100.0, DAY]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 5), past=st.booleans())
    def advance_to_a_boundary(self, which: int, past: bool) -> None:
        """Stop exactly where a lease, a delay or an expiry ends, or just past it."""
        fields = (
            *("lease_expires_at", "next_attempt_at", "expires_at"),
            *("callback_lease_expires_at", "callback_next_attempt_at"),
        )
        ends = {job[field] for job in self.model.jobs.values() for field in fields if job[field] is not None}
        ahead = sorted(end for end in ends if end > self.clock())
        if ahead:
            self.clock.set(ahead[which % len(ahead)] + 0.001 * past)

    @invariant()
    def counts_agree(self) -> None:
        pending = [job["created_at"] for job in self.model.busy() if job["status"] == PENDING]
        wanted = JobCounts(
            pending=len(pending),
            in_progress=len(self.model.busy()) - len(pending),
            oldest_pending_at=min(pending, default=None),
        )
        assert self.outcome(self.store.counts()) == wanted

    @invariant()
    def lists_agree(self) -> None:
        alive = self.model.alive(self.clock())
        for tenant in TENANTS:
            page = self.outcome(self.store.list(tenant))
            mine = {name for name, job in alive.items() if job["tenant_id"] == tenant}
            assert ({job.job_id for job in page.jobs}, page.total) == (mine, len(mine))

    @invariant()
    def jobs_agree(self) -> None:
        alive = self.model.alive(self.clock())
        for name in self.model.jobs:
            found = self.outcome(self.store.get(name))
            if name in alive:
                self.same(found, name)
            else:
                assert found is JobNotFoundError


def run_machine(make: Callable[..., Any], *, examples: int, **options: Any) -> None:
    machine = type("Machine", (JobStoreMachine,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", JOB_STORES)
def test_store_agrees_with_the_model(name: str) -> None:
    """If this fails, some history of calls leaves jobs in a state that the contract does not allow."""
    run_machine(JOB_STORES[name], examples=100 if name == "memory" else 20)


@pytest.mark.once
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "broken", [LosesAtTheEnd, ExpiresWhatRuns, ProlongsFinalJobs, CountsReleasesAsLosses]
)
def test_machine_finds_broken_stores(broken: type[MemoryJobStore]) -> None:
    """If this fails, the random histories are too tame to find what is wrong with a store."""
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_machine(
            lambda clock, directory: broken(clock=clock),
            examples=1000,  # it stops at the first that is wrong
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
