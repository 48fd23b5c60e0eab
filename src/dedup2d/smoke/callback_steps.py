"""The steps of a walk that are about callbacks."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import anyio

from dedup2d.callbacks import CallbackNotGenuineError, verify
from dedup2d.smoke.advice import advice_for
from dedup2d.smoke.outcomes import FailedError, SkippedError
from dedup2d.smoke.scene import Scene
from dedup2d.smoke.steps import expect
from dedup2d.types import CallbackStatus, Job

__all__ = ["accepted", "refused", "signed"]

_NOWHERE = "dedup2d-smoke.invalid"
"""A host that exists nowhere (RFC 2606): a service that takes it sends nothing to anybody."""
_PAUSE_SECONDS = 0.25
_GRACE_SECONDS = 2.0


async def refused(scene: Scene) -> str:
    reply = await scene.post_search(scene.copy, callback_url=_with_host(_own_url(scene), _NOWHERE))
    expect(
        reply,
        400,
        "CALLBACK_URL_INVALID",
        "set DEDUP2D_CALLBACK_ALLOWLIST to the hosts of your receivers: now any may be called",
    )
    return f"400 CALLBACK_URL_INVALID: {reply.fields.get('detail', '')}"


async def accepted(scene: Scene) -> str:
    url = _own_url(scene)
    if url is None:
        raise SkippedError("no receiver was named", "give --receive HOST:PORT, or --callback-url")
    job_id, _ = await scene.submit(callback_url=url)
    job = await _called_back(scene, job_id)
    status = None if job.callback_status is None else job.callback_status.value
    seen = f"callback_status={status}, callback_http_status={job.callback_http_status}"
    if job.callback_status is not CallbackStatus.SUCCESS:
        raise FailedError(f"{seen}: {job.callback_last_error}", _advice(job))
    if scene.receiver is not None:
        with anyio.move_on_after(_GRACE_SECONDS):  # it came before the service knew that it did
            scene.callback = await scene.receiver.of(job_id)
        if scene.callback is None:
            raise FailedError(
                f"{seen}, but nothing came to this machine", "let --callback-url lead to --receive"
            )
    scene.tenant_id = job.tenant_id
    return f"202, {seen}"


async def signed(scene: Scene) -> str:
    if scene.callback is None:
        raise SkippedError("what another receiver was sent is not known here", "give --receive HOST:PORT")
    secrets = scene.options.callback_secrets.of(scene.tenant_id)
    if not secrets:
        raise SkippedError("no secret was given", "give --callback-secret or DEDUP2D_CALLBACK_HMAC_SECRET")
    try:
        verified = verify(scene.callback.headers, scene.callback.body, secrets)
    except CallbackNotGenuineError as error:
        raise FailedError(
            str(error).partition(": answer")[0],
            "give services, workers and receivers the same secret (DEDUP2D_CALLBACK_HMAC_SECRET), and set"
            " their clocks by NTP",
        ) from None
    return f"genuine, status {verified.payload.get('status')}"


def _own_url(scene: Scene) -> str | None:
    """Return where a callback would arrive; None if no receiver was named."""
    if scene.options.callback_url is not None:
        return scene.options.callback_url
    if scene.receiver is None or scene.options.receive is None:
        return None
    host = scene.options.receive.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{scene.receiver.port}{scene.receiver.path}"


def _with_host(url: str | None, host: str) -> str:
    """Return *url* for another host, so that this is all that a service can have against it."""
    if url is None:
        return f"https://{host}/"
    parts = urlsplit(url)
    port = re.search(r":[0-9]+$", parts.netloc)
    return f"{parts.scheme}://{host}{port[0] if port else ''}/"


async def _called_back(scene: Scene, job_id: str) -> Job:
    """Wait until the job is final, and its callback ended or tried in vain."""
    job = await scene.completed(job_id)
    end = anyio.current_time() + scene.options.step_seconds / 2
    while job.callback_status is CallbackStatus.PENDING and anyio.current_time() < end:
        if job.callback_attempts and job.callback_last_error:
            break
        await anyio.sleep(_PAUSE_SECONDS)
        job = await scene.client.job(job_id)
    return job


def _advice(job: Job) -> str:
    if job.callback_status is CallbackStatus.SKIPPED:
        return advice_for("CALLBACK_URL_INVALID")
    if not job.callback_attempts:
        return "nobody sends callbacks: processes that run jobs do; see whether workers run, and their log"
    return "see whether the receiver runs and answers 2xx, and whether workers may reach it"
