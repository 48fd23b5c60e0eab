"""What became of a step, and how a step says that it did not go well."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

__all__ = ["FailedError", "Outcome", "SkippedError", "State"]


class State(StrEnum):
    """How a step went; one is skipped where it was not asked for, or where one that it needs failed."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen(kw_only=True)
class Outcome:
    """
    What became of a step.

    `text` says what was seen, or why it failed or was skipped; `advice` what to do then, empty if it passed.
    """

    name: str
    title: str
    state: State
    text: str
    advice: str = ""
    seconds: float = 0.0


class FailedError(Exception):
    """The service did not do what it should; says what it did, and what to do about it."""

    def __init__(self, text: str, advice: str) -> None:
        self.text, self.advice = text, advice
        super().__init__(text)


class SkippedError(Exception):
    """The step cannot say anything here; says why, and what would let it."""

    def __init__(self, text: str, advice: str = "") -> None:
        self.text, self.advice = text, advice
        super().__init__(text)
