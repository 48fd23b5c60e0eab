"""The steps of a walk: the service and its keys, the index, searches and jobs."""

from __future__ import annotations

from dedup2d.client.transport import PREFIX
from dedup2d.errors import DrawingNotFoundError
from dedup2d.smoke.advice import advice_for
from dedup2d.smoke.asking import Plain, Reply
from dedup2d.smoke.outcomes import FailedError, SkippedError
from dedup2d.smoke.scene import SEARCH, Scene
from dedup2d.types import Job, JobStatus

__all__ = [
    "add",
    "another_tenant",
    "bad_file",
    "bad_parameter",
    "cancel",
    "forced",
    "health",
    "job",
    "key",
    "list_jobs",
    "live",
    "metrics",
    "no_key",
    "ready",
    "remove",
    "search",
    "wrong_key",
]

_PAGES = 10
_CANCELS = 3
_NO_DRAWING = b"This is no drawing. dedup2d smoke sends it to see it refused.\n" * 4
_WRONG_KEY = "this-key-is-wrong-0123456789"


def expect(reply: Reply, status: int, code: str, advice: str) -> None:
    """
    See that the reply has this status, and the code if one is given.

    Raises:
        FailedError: it has not.
    """
    if reply.status != status or (code and reply.code != code):
        wanted = f"{status} {code}".rstrip()
        raise FailedError(f"answered with {reply.said} instead of {wanted}", advice)


async def live(scene: Scene) -> str:
    reply = await scene.plain.ask("GET", "/livez")
    expect(reply, 200, "", advice_for("NOT_FOUND"))
    return scene.options.url


async def ready(scene: Scene) -> str:
    reply = await scene.plain.ask("GET", "/readyz")
    expect(reply, 200, "", advice_for("STORE_UNAVAILABLE"))
    return "requests may be sent to it"


async def health(scene: Scene) -> str:
    reply = await scene.plain.ask("GET", "/health")
    expect(reply, 200, "", advice_for("STORE_UNAVAILABLE"))
    found = reply.fields
    if (status := found.get("status")) != "healthy":
        raise FailedError(f"the service is {status}", advice_for("STORE_UNAVAILABLE"))
    if (vision := found.get("vision")) != "healthy":
        raise FailedError(f"the service runs, but vision is {vision}", advice_for("VISION_UNAVAILABLE"))
    return f"version {found.get('version')}, vision {vision}"


async def metrics(scene: Scene) -> str:
    given = scene.options.metrics_urls
    for url in given or (scene.options.url.rstrip("/") + "/metrics",):
        async with Plain(url, seconds=scene.options.step_seconds) as plain:
            reply = await plain.ask("GET", "")
        if reply.status == 404 and not given:
            raise SkippedError("they are not beside the API", "give --metrics-url, once for each process")
        expect(reply, 200, "", "see where --metrics-port and --metrics-host have put them")
        if b"dedup2d_build_info{" not in reply.body:
            raise FailedError(f"{url} shows no metrics of dedup2d", "give --metrics-url of a dedup2d process")
    return f"at {', '.join(given)}" if given else "beside the API"


async def key(scene: Scene) -> str:
    reply = await scene.ask("GET", "/jobs?limit=1")
    expect(reply, 200, "", advice_for(reply.code))
    return "200" if scene.options.api_key else "no key is asked for"


async def no_key(scene: Scene) -> str:
    reply = await scene.plain.ask("GET", f"{PREFIX}/jobs")
    if reply.status == 200 and scene.options.api_key is None:
        raise SkippedError("this service asks for no key", "make one before others can reach it: keys.md")
    expect(reply, 401, "UNAUTHORIZED", "let nobody in but by a key: dedup2d keys create, or DEDUP2D_API_KEYS")
    return "401"


async def wrong_key(scene: Scene) -> str:
    reply = await scene.plain.ask("GET", f"{PREFIX}/jobs", key=_WRONG_KEY)
    if reply.status == 200 and scene.options.api_key is None:
        raise SkippedError("this service asks for no key", "make one before others can reach it: keys.md")
    expect(reply, 401, "UNAUTHORIZED", advice_for(reply.code))
    return "401"


async def bad_file(scene: Scene) -> str:
    reply = await scene.post_search(_NO_DRAWING, "dedup2d-smoke.txt")
    expect(
        reply, 415, "UNSUPPORTED_FORMAT", "see what stands between: the service itself refuses such a file"
    )
    return "415 UNSUPPORTED_FORMAT"


async def bad_parameter(scene: Scene) -> str:
    reply = await scene.post_search(scene.drawing, max_results="0")
    expect(reply, 400, "INVALID_PARAMETER", "see what stands between: the service itself refuses it")
    return "400 INVALID_PARAMETER"


async def add(scene: Scene) -> str:
    added = await scene.client.add(scene.drawing, file_name=scene.file_name, metadata={"made_by": "smoke"})
    if not added.added:
        raise FailedError(f"the service has it already: {added.message}", advice_for("INTERNAL"))
    scene.drawing_id = added.drawing_id
    return f"{scene.file_name} is drawing {added.drawing_id}"


async def search(scene: Scene) -> str:
    found = await scene.client.search(
        scene.drawing, file_name=scene.file_name, params=SEARCH, timeout=scene.options.step_seconds
    )
    return scene.look_for_drawing(found)


async def job(scene: Scene) -> str:
    job_id, reply = await scene.submit(**{"async": "true"})
    taken = reply.fields
    if taken.get("status") != "pending" or taken.get("forced_async_reason") is not None:
        raise FailedError(f"it was taken in as {reply.body[:300].decode(errors='replace')}", advice_for(""))
    if not (taken.get("poll_url") and taken["poll_url"] == reply.headers.get("Location")):
        raise FailedError(
            "Location and poll_url do not say the same", "let the proxy in front leave Location as it is"
        )
    done = await scene.completed(job_id)
    assert done.result is not None
    found = scene.look_for_drawing(done.result)
    scene.job_id = job_id
    return f"202, then completed after {_duration(done)}: {found}"


def _duration(done: Job) -> str:
    return "an unknown time" if done.finished_at is None else f"{done.finished_at - done.created_at:.1f} s"


async def list_jobs(scene: Scene) -> str:
    token: str | None = None
    for _ in range(_PAGES):
        page = await scene.client.job_page(limit=200, page_token=token)
        if any(each.job_id == scene.job_id for each in page.jobs):
            return f"it is one of {page.total}"
        if (token := page.next_page_token) is None:
            break
    raise FailedError(f"job {scene.job_id} is not in the list", "see whether all services use one Redis")


async def another_tenant(scene: Scene) -> str:
    if scene.options.other_key is None:
        raise SkippedError("no key of another tenant was given", "give --other-key")
    path = f"{PREFIX}/jobs/{scene.job_id}"
    reply = await scene.plain.ask("GET", path, key=scene.options.other_key)
    expect(reply, 404, "JOB_NOT_FOUND", "see that --other-key is a key of another tenant")
    return "404 JOB_NOT_FOUND"


async def cancel(scene: Scene) -> str:
    for _ in range(_CANCELS):
        job_id, _ = await scene.submit(**{"async": "true"})
        if not await scene.client.cancel(job_id):
            scene.final_jobs.add(job_id)
            continue
        ended = await scene.client.wait(job_id, timeout=scene.options.step_seconds / 2)
        if ended.status.final:
            scene.final_jobs.add(job_id)
        if ended.status is JobStatus.CANCELED:
            return "canceled"
        if ended.status is not JobStatus.COMPLETED:  # one that was through meanwhile
            raise FailedError(
                f"job {job_id} is {ended.status} and not canceled", advice_for(ended.error_code or "")
            )
    return f"taken; {_CANCELS} jobs were through before"


async def forced(scene: Scene) -> str:
    reply = await scene.post_search(scene.copy, mode="precise", compute_diff="false")
    reason = reply.fields.get("forced_async_reason")
    if (reply.status, reason) != (202, "mode_precise"):
        raise FailedError(
            f"a search with mode=precise was answered with {reply.said}, not as a job (reason {reason})",
            advice_for(reply.code)
            if reply.code
            else "set DEDUP2D_FORCED_ASYNC_ON_MODE_PRECISE=1, or skip this step if it is meant to be 0",
        )
    return "202, forced_async_reason mode_precise"


async def remove(scene: Scene) -> str:
    assert scene.drawing_id is not None
    await scene.client.remove(scene.drawing_id)
    try:
        await scene.client.drawing(scene.drawing_id)
    except DrawingNotFoundError:
        scene.drawing_id = None
        return "it is gone"
    raise FailedError("it is still in the index", advice_for("INTERNAL"))
