"""How the checks say what is wrong. Not `assert`, which `python -O` would take out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

__all__ = ["ContractError", "checking", "expect", "expect_same", "refused", "together"]

T = TypeVar("T")


class ContractError(AssertionError):
    """An implementation does not keep the contract of its protocol."""


def expect(condition: object, contract: str) -> None:
    """Raise ContractError with the words of the *contract* unless *condition* holds."""
    if not condition:
        raise ContractError(contract)


def expect_same(found: object, wanted: object, contract: str) -> None:
    """Raise ContractError unless *found* equals *wanted*."""
    if found != wanted:
        raise ContractError(f"{contract}: expected {_shown(wanted)}, found {_shown(found)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 2000 else f"{text[:2000]}... ({len(text)} characters)"


@contextmanager
def refused(error: type[Exception], contract: str) -> Iterator[None]:
    """Expect that the body raises *error*."""
    try:
        yield
    except error:
        return
    except Exception as other:
        raise ContractError(f"{contract}: expected {error.__name__}, got {other!r}") from other
    raise ContractError(f"{contract}: expected {error.__name__}, got no error")


@contextmanager
def checking(check: Callable[..., object], seconds: float) -> Iterator[None]:
    """Give the body the time for one *check*, and say in every error which it was."""
    name = check.__name__.replace("_", " ")
    try:
        with anyio.fail_after(seconds):
            yield
    except ContractError as error:
        error.add_note(f"in the check: {name}")
        raise
    except TimeoutError as error:
        raise ContractError(f"{name}: it is not done within {seconds:g} s") from error
    except Exception as error:
        raise ContractError(f"{name}: {error!r} was raised") from error


async def together(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T | Exception]:
    """Make all *calls* at once and return what each returned or raised."""
    outcomes: list[Any] = [None] * len(calls)

    async def run(index: int) -> None:
        try:
            outcomes[index] = await calls[index]()
        except Exception as error:  # noqa: BLE001 - it is the outcome
            outcomes[index] = error

    async with anyio.create_task_group() as tasks:
        for index in range(len(calls)):
            tasks.start_soon(run, index)
    return outcomes
