"""`dedup2d smoke`: the smoke tests of a running service."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated

import attrs
from cyclopts import Parameter, validators

from dedup2d.callbacks.signing import CallbackSecrets
from dedup2d.cli.exits import Exit
from dedup2d.cli.options import Json, Quiet
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import visible
from dedup2d.errors import InvalidParameterError
from dedup2d.smoke import STEP_NAMES, Outcome, SmokeOptions, State, walk
from dedup2d.smoke.options import Listen

__all__ = ["smoke"]

_COLUMNS = (Column("state"), Column("step"), Column("seconds", number=True), Column("what", wraps=True))
_SECRET_RULE = "SECRET or TENANT:SECRET, as DEDUP2D_CALLBACK_HMAC_SECRET has it"  # noqa: S105 - says what one is


def smoke(
    *,
    url: Annotated[str, Parameter(help="The service, as http://HOST:PORT.")],
    key: Annotated[
        str | None,
        Parameter(
            env_var="DEDUP2D_API_KEY",
            help="A key with the scopes search and index. The variable keeps it out of lists of processes.",
        ),
    ] = None,
    other_key: Annotated[
        str | None, Parameter(help="A key of another tenant, who must not see the jobs.")
    ] = None,
    metrics_url: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Where a service, worker or vision server shows its metrics; may be given several times."
            " [default: URL/metrics, if it is there]",
        ),
    ] = None,
    receive: Annotated[
        str | None, Parameter(help="Receive a callback here, HOST:PORT of this machine (port 0: a free one).")
    ] = None,
    callback_url: Annotated[
        str | None,
        Parameter(
            help="Where the service sends the callback: the URL by which it reaches --receive, else a"
            " receiver of your own that answers 2xx. [default: http://HOST:PORT of --receive]"
        ),
    ] = None,
    callback_secret: Annotated[
        str | None,
        Parameter(
            env_var="DEDUP2D_CALLBACK_HMAC_SECRET",
            help="What the callback to --receive must be signed with.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        Parameter(negative="", help="A step that is left out; may be given several times."),
    ] = None,
    timeout: Annotated[
        float,
        Parameter(help="Seconds that each step may take.", validator=validators.Number(gte=1, lte=3600)),
    ] = 60.0,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """
    Walk the smoke tests of the runbook against a running service, and say what to do about what fails.

    It adds a drawing of its own making to the index of the key's tenant, finds it, and removes it again,
    also after a failure or Ctrl-C. The few jobs that it makes expire by themselves. Exits with 0 if no step
    failed, with 1 if one did.
    """
    options = SmokeOptions(
        url=url,
        api_key=key,
        other_key=other_key,
        metrics_urls=metrics_url or (),
        callback_url=callback_url,
        receive=None if receive is None else Listen.parse(receive),
        callback_secrets=_secrets(callback_secret),
        skip=skip or (),
        step_seconds=timeout,
    )
    terminal = Terminal(quiet=quiet)
    with terminal.progress("smoke tests") as bar:
        bar.total(len(STEP_NAMES) + 1)
        rows = _Rows(terminal, live=not json and not sys.stdout.isatty())

        def told(outcome: Outcome) -> None:
            bar.advance(outcome.title)
            rows.add(outcome)

        outcomes = run_async(lambda: walk(options, told))
    counts = Counter(outcome.state for outcome in outcomes)
    if json:
        terminal.json(_document(url, outcomes, counts))
    elif sys.stdout.isatty():
        terminal.table(_COLUMNS, map(_row, outcomes))
    terminal.note(", ".join(f"{counts[state]} {state}" for state in State))
    return Exit.FAILED if counts[State.FAILED] else Exit.OK


class _Rows:
    """Writes each row of the table into a pipe as soon as it is known: a walk may take minutes."""

    def __init__(self, terminal: Terminal, *, live: bool) -> None:
        self._terminal, self._live, self._begun = terminal, live, False

    def add(self, outcome: Outcome) -> None:
        if not self._live:
            return
        if not self._begun:
            self._terminal.table(_COLUMNS, ())
            self._begun = True
        self._terminal.line("\t".join(_row(outcome)))
        sys.stdout.flush()


def _row(outcome: Outcome) -> tuple[str, str, str, str]:
    what = f"{outcome.title}: {outcome.text}" + (f". To do: {outcome.advice}" if outcome.advice else "")
    return outcome.state, outcome.name, f"{outcome.seconds:.1f}", visible(what)


def _document(url: str, outcomes: list[Outcome], counts: Counter[State]) -> dict[str, object]:
    return {
        "url": url,
        **{state.value: counts[state] for state in State},
        "steps": [attrs.asdict(outcome) for outcome in outcomes],
    }


def _secrets(text: str | None) -> CallbackSecrets:
    try:
        return CallbackSecrets.parse(text or "")
    except ValueError:
        raise InvalidParameterError("--callback-secret", "***", _SECRET_RULE) from None
