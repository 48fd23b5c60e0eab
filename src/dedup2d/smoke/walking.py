"""Walks the steps one after the other, each in its time, and clears away what they leave."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
from attrs import frozen

from dedup2d.errors import Dedup2DError, InvalidParameterError
from dedup2d.smoke import callback_steps, steps
from dedup2d.smoke.advice import advice_on
from dedup2d.smoke.options import SmokeOptions
from dedup2d.smoke.outcomes import FailedError, Outcome, SkippedError, State
from dedup2d.smoke.scene import Scene, staged

__all__ = ["STEP_NAMES", "walk"]

_CLEAN_UP = "clean-up"
_TOO_LONG = "see what it waits for: run dedup2d doctor with the environment of the service"
_CLEAN_UP_TITLE = "nothing of it stays behind"


@frozen
class _Step:
    """A step, what it says when it passes, and the steps without which it says nothing."""

    name: str
    title: str
    run: Callable[[Scene], Awaitable[str]]
    needs: tuple[str, ...] = ()


_STEPS = (
    _Step("live", "the service answers", steps.live),
    _Step("ready", "it is ready", steps.ready, ("live",)),
    _Step("health", "service and vision are healthy", steps.health, ("live",)),
    _Step("metrics", "metrics can be read", steps.metrics, ("live",)),
    _Step("no-key", "no key is refused", steps.no_key, ("live",)),
    _Step("wrong-key", "a wrong key is refused", steps.wrong_key, ("live",)),
    _Step("key", "the key opens the API", steps.key, ("live",)),
    _Step("bad-file", "a file that is no drawing is refused", steps.bad_file, ("key",)),
    _Step("bad-parameter", "a parameter out of range is refused", steps.bad_parameter, ("key",)),
    _Step("add", "a drawing is added", steps.add, ("key",)),
    _Step("search", "a search at once finds it", steps.search, ("add",)),
    _Step("job", "a search as a job finds it", steps.job, ("add",)),
    _Step("list", "the list of jobs has the job", steps.list_jobs, ("job",)),
    _Step("other-tenant", "another tenant does not see the job", steps.another_tenant, ("job",)),
    _Step("cancel", "a job is canceled", steps.cancel, ("key",)),
    _Step("forced-job", "a precise search becomes a job", steps.forced, ("key",)),
    _Step("callback-refused", "a callback to another host is refused", callback_steps.refused, ("key",)),
    _Step("callback", "a callback arrives", callback_steps.accepted, ("job",)),
    _Step("callback-signature", "the callback is signed", callback_steps.signed, ("callback",)),
    _Step("remove", "the drawing is removed", steps.remove, ("add",)),
)

STEP_NAMES = tuple(step.name for step in _STEPS)
"""Names of all steps, in the order in which they are walked."""


async def walk(options: SmokeOptions, told: Callable[[Outcome], object] | None = None) -> list[Outcome]:
    """
    Walk all steps, the next also after one that failed, and return what became of each.

    Whatever happens, jobs that still run are canceled and the drawing is removed; that is the last outcome.
    What went through the service meanwhile, its finished jobs, expires by itself.

    Args:
        options: the service.
        told: called with each outcome as soon as it is known.

    Raises:
        InvalidParameterError: a name in `skip` is none of `STEP_NAMES`, or nobody can listen at `receive`.
    """
    unknown = options.skip.difference(STEP_NAMES)
    if unknown:
        raise InvalidParameterError("skip", min(unknown), "names of steps: " + ", ".join(STEP_NAMES))
    outcomes: dict[str, Outcome] = {}

    def add(outcome: Outcome) -> None:
        outcomes[outcome.name] = outcome
        if told is not None:
            told(outcome)

    async with staged(options) as scene:
        try:
            for step in _STEPS:
                add(await _outcome(step, scene, outcomes))
        finally:
            with anyio.CancelScope(shield=True):
                add(await _cleaned_up(scene))
    return list(outcomes.values())


async def _outcome(step: _Step, scene: Scene, before: dict[str, Outcome]) -> Outcome:
    begin = time.monotonic()
    state, text, advice = await _result(step, scene, before)
    seconds = time.monotonic() - begin
    return Outcome(name=step.name, title=step.title, state=state, text=text, advice=advice, seconds=seconds)


async def _result(step: _Step, scene: Scene, before: dict[str, Outcome]) -> tuple[State, str, str]:
    seconds = scene.options.step_seconds
    try:
        _look_at_needs(step, scene, before)
        with anyio.fail_after(seconds):
            return State.PASSED, await step.run(scene), ""
    except FailedError as failure:
        return State.FAILED, failure.text, failure.advice
    except SkippedError as reason:
        return State.SKIPPED, reason.text, reason.advice
    except Dedup2DError as error:
        return State.FAILED, str(error), advice_on(error)
    except TimeoutError:
        return State.FAILED, f"it took longer than {seconds:g} s", _TOO_LONG


def _look_at_needs(step: _Step, scene: Scene, before: dict[str, Outcome]) -> None:
    if step.name in scene.options.skip:
        raise SkippedError("it was not asked for")
    for need in step.needs:
        if before[need].state is not State.PASSED:
            raise SkippedError(f"it needs the step {need}")


async def _cleaned_up(scene: Scene) -> Outcome:
    begin = time.monotonic()
    left = await scene.clean_up()
    return Outcome(
        name=_CLEAN_UP,
        title=_CLEAN_UP_TITLE,
        state=State.FAILED if left else State.PASSED,
        text="left behind: " + "; ".join(left) if left else "no drawing, no waiting job",
        advice="remove it by hand once the service answers" if left else "",
        seconds=time.monotonic() - begin,
    )
