"""Steps that are taken again and again, whatever becomes of one of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from dedup2d.errors import Dedup2DError

__all__ = ["repeat"]

log = logging.getLogger("dedup2d.runner")


async def repeat(
    step: Callable[[], Awaitable[object]],
    what: str,
    *,
    seconds: float,
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Take *step* every so many *seconds*, until cancelled; an outage is told once, and its end."""
    failing = False
    while True:
        try:
            await step()
        except Dedup2DError as error:
            if not failing:
                log.warning("%s failed; it is tried until it succeeds", what, extra={"error": str(error)})
            failing = True
        except Exception:
            log.exception("%s failed; it is tried again", what)
            failing = True
        else:
            if failing:
                log.info("%s succeeds again", what)
            failing = False
        await sleep(seconds)
