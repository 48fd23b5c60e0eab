"""
Looks at every part of a deployment without starting it: what works, what does not, and what to do.
"""

from __future__ import annotations

import difflib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from attrs import evolve, field, frozen, validators

from dedup2d.build import (
    build_callbacks,
    build_files,
    build_jobs,
    build_queue,
    build_vision,
    check_directories,
    redis_options,
)
from dedup2d.directories import check_writable
from dedup2d.errors import Dedup2DError
from dedup2d.keys.build import build_key_ring, build_key_store
from dedup2d.observe import Observer
from dedup2d.protocols import HeardQueue
from dedup2d.settings import Settings

__all__ = ["Finding", "examine"]

_SECONDS = 20.0
_LITTLE_ROOM_BYTES = 1024**3
_CLOCK_SECONDS = 2.0
_OF_CLIENTS = frozenset({"DEDUP2D_API_KEY"})
"""What commands read that call a service, and that is no setting of one."""


@frozen
class Finding:
    """What one look found: the part, how it is (`ok`, `warning` or `error`), and what to know or do."""

    part: str
    state: str = field(validator=validators.in_(("ok", "warning", "error")))
    text: str


Check = Callable[[Settings], Awaitable[list[Finding]]]


async def examine(
    variables: Mapping[str, str] = os.environ, *, data_dir: Path | None = None
) -> list[Finding]:
    """
    Look at every setting and dependency that *variables* name, each for 20 seconds at most.

    Nothing stays behind, and nothing of a running service is disturbed.
    """
    try:
        settings = Settings.from_environment(variables)
        settings = settings if data_dir is None else evolve(settings, data_dir=data_dir)
    except Dedup2DError as error:
        return [Finding("settings", "error", str(error))]
    findings = _settings(settings, variables)
    for part, check in _CHECKS.items():
        findings += await _guarded(part, check, settings)
    return findings


async def _guarded(part: str, check: Check, settings: Settings) -> list[Finding]:
    try:
        with anyio.fail_after(_SECONDS):
            return await check(settings)
    except TimeoutError:
        return [Finding(part, "error", f"it did not answer within {_SECONDS:g} s: see whether it runs")]
    except Dedup2DError as error:
        return [Finding(part, "error", str(error))]
    except Exception as error:  # noqa: BLE001 - the other parts are looked at all the same
        return [Finding(part, "error", f"this is a bug of dedup2d, please report it: {error!r}")]


def _settings(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    findings = [Finding("settings", "warning", text) for text in (*_unknown(variables), *_odd(settings))]
    return findings or [Finding("settings", "ok", "every value is allowed")]


def _unknown(variables: Mapping[str, str]) -> list[str]:
    known = Settings.names() | _OF_CLIENTS
    unknown = [name for name in variables if name.startswith(("DEDUP2D_", "DEDUPCAD_")) and name not in known]
    return [f"{name} is not a setting and has no effect{_meant(name, known)}" for name in sorted(unknown)]


def _meant(name: str, known: frozenset[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    return f": did you mean {close[0]}?" if close else ": remove it"


def _odd(settings: Settings) -> list[str]:
    """Say what is allowed but hardly meant."""
    found = []
    if settings.async_backend == "redis" and settings.file_storage == "local":
        found.append(
            "uploads are kept in a local directory, but jobs run in workers: let every service and worker see"
            " the same DEDUP2D_FILE_STORAGE_DIR, or set DEDUP2D_FILE_STORAGE=s3"
        )
    if settings.async_backend == "redis" and settings.vision_url is None:
        found.append(
            "every machine has an index of its own: set DEDUPCAD_VISION_URL unless all of them share"
            " DEDUP2D_DATA_DIR on one machine"
        )
    return found


async def _keys(settings: Settings) -> list[Finding]:
    given, stored = len(settings.api_keys), 0
    if settings.async_backend == "redis" or (settings.data_dir / "keys.db").exists():
        async with build_key_ring(settings):  # which looks whether the secret fits
            pass
        async with build_key_store(settings) as store:
            stored = (await store.list(limit=1)).total
    if not given and not stored:
        text = "there are none: the service will answer on loopback only; `dedup2d keys create` makes one"
        return [Finding("keys", "warning", text)]
    return [Finding("keys", "ok", f"{given} of DEDUP2D_API_KEYS, {stored} stored")]


async def _data_directory(settings: Settings) -> list[Finding]:
    directory, part = settings.data_dir, "data directory"
    if not _keeps_something(settings):
        return [Finding(part, "ok", "it is not used: other machines keep everything")]
    check_writable(directory, "DEDUP2D_DATA_DIR")
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return [Finding(part, "warning", f"{directory} can be written to, but not looked at ({reason})")]
    state = "warning" if free < _LITTLE_ROOM_BYTES else "ok"
    return [Finding(part, state, f"{directory} can be written to, {free / 1024**3:.1f} GiB are free")]


def _keeps_something(settings: Settings) -> bool:
    """Whether a service or worker with these settings uses its data directory."""
    files_here = settings.file_storage == "local" and settings.file_storage_dir is None
    return files_here or settings.async_backend == "inprocess" or settings.vision_url is None


async def _jobs(settings: Settings) -> list[Finding]:
    async with build_jobs(settings) as jobs:
        counts = await jobs.counts()
    where = "in Redis" if settings.async_backend == "redis" else "in jobs.db"
    text = f"{where}: {counts.pending} waiting, {counts.in_progress} running"
    return [Finding("jobs", "ok", text)]


async def _redis(settings: Settings) -> list[Finding]:
    if settings.async_backend != "redis":
        return []
    from dedup2d.redis_connection import connect, probe  # noqa: PLC0415 - behind an extra

    options = redis_options(settings)
    client = connect(options)
    try:
        facts = await probe(client, options)
        seconds, microseconds = await client.time()
    finally:
        await client.aclose()
    findings = [Finding("redis", "warning", text) for text in facts.warnings]
    ahead = time.time() - (seconds + microseconds / 1e6)
    if abs(ahead) > _CLOCK_SECONDS:
        text = f"the clock of this machine is {ahead:+.1f} s off that of Redis: set both by NTP"
        findings.append(Finding("redis", "warning", text))
    version = facts.version or "of a version that its user may not ask for"
    return [
        Finding("redis", "ok", f"Redis {version} can be used, kept on disk: {facts.persistence}"),
        *findings,
    ]


async def _files(settings: Settings) -> list[Finding]:
    key, data = f"doctor/{secrets.token_hex(16)}", secrets.token_bytes(64)

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    check_directories(settings)
    async with build_files(settings) as files:
        await files.put(key, chunks())
        try:
            found = b"".join([chunk async for chunk in files.open(key)])
        finally:
            await files.delete(key)
    if found != data:
        return [Finding("files", "error", "a file that was stored came back changed: look at the storage")]
    where = f"in bucket {settings.s3_bucket}" if settings.file_storage == "s3" else "in a local directory"
    return [Finding("files", "ok", f"{where}: storing, reading and deleting work")]


async def _queue(settings: Settings) -> list[Finding]:
    async with build_queue(settings) as queue, build_jobs(settings) as jobs:
        depth, counts = await queue.depth(), await jobs.counts()
        listeners = await queue.listeners() if isinstance(queue, HeardQueue) else {}
    told = "".join(f", {number} workers listen to {name}" for name, number in listeners.items())
    findings = [Finding("queue", "ok", f"{depth} wake-ups wait{told}")]
    unheard = [name for name, number in listeners.items() if not number]
    if unheard and counts.pending:
        where = ", ".join(unheard)
        text = (
            f"{counts.pending} jobs wait, and no worker listens to {where}: start dedup2d worker, or see in"
            " its log why it ended"
        )
        findings.append(Finding("queue", "error", text))
    return findings


async def _vision(settings: Settings) -> list[Finding]:
    async with AsyncExitStack() as stack:
        vision = await stack.enter_async_context(build_vision(settings, Observer()))
        health = await vision.health()
    where = settings.vision_url or "the embedded engine"
    details = ", ".join(f"{name} {value}" for name, value in health.details.items())
    state = {"healthy": "ok", "degraded": "warning"}.get(health.status, "error")
    return [Finding("vision", state, f"{where} is {health.status} ({details})")]


async def _callbacks(settings: Settings) -> list[Finding]:
    part, sender = "callbacks", build_callbacks(settings)
    if sender is None:
        return [Finding(part, "warning", 'none can be sent: pip install "dedup2d[http]"')]
    async with sender:
        signed = "" if settings.callback_secrets else ", not signed: DEDUP2D_CALLBACK_HMAC_SECRET is not set"
    findings = [Finding(part, "ok", f"they can be sent{signed}")]
    if not settings.callback_block_private_networks:
        text = (
            "they may go to private networks: set DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS=1, but to develop"
        )
        findings.append(Finding(part, "warning", text))
    if settings.callback_secrets.tenants and not settings.callback_secrets.common:
        text = "those of tenants without a secret of their own are not signed: add a common secret"
        findings.append(Finding(part, "warning", text))
    return findings


_CHECKS: Mapping[str, Check] = {
    "data directory": _data_directory,
    "redis": _redis,
    "jobs": _jobs,
    "keys": _keys,
    "files": _files,
    "queue": _queue,
    "callbacks": _callbacks,
    "vision": _vision,
}
