"""
How one setting is declared: its variable, default, what is allowed, and what it is for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import Converter, Factory, field, frozen

from dedup2d.errors import ConfigurationError, MissingExtraError

try:
    import environ
except ImportError as error:
    raise MissingExtraError("engine", "reading settings from the environment") from error

__all__ = [
    "MIB",
    "Rule",
    "Variable",
    "choice",
    "directory",
    "file",
    "names",
    "origins",
    "parts",
    "read_variables",
    "seconds",
    "setting",
    "text",
    "whole",
    "yes_or_no",
]

T = TypeVar("T")
Rule = tuple[Callable[[str], Any], str]
"""Turns the text of a variable into its value or raises ValueError; and what is allowed, in words."""

MIB = 1024 * 1024
_ORIGIN = re.compile(r"https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


@frozen
class Variable:
    """One setting as documentation shows it."""

    name: str
    default: str
    allowed: str
    help: str


def parts(text: str) -> tuple[str, ...]:
    """Return what stands between the commas of *text*, without what is empty."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def whole(low: int, high: int) -> Rule:
    def convert(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return convert, f"a whole number from {low} to {high}"


def seconds(low: float, high: float) -> Rule:
    def convert(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return convert, f"seconds from {low:g} to {high:g}"


def choice(*allowed: str) -> Rule:
    def convert(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return convert, " or ".join(allowed)


def yes_or_no() -> Rule:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }

    def convert(text: str) -> bool:
        try:
            return words[text.lower()]
        except KeyError:
            raise ValueError from None

    return convert, "1 or 0"


def text(allowed: str, accept: Callable[[str], object]) -> Rule:
    def convert(text: str) -> str:
        if not accept(text):
            raise ValueError
        return text

    return convert, allowed


def directory() -> Rule:
    def convert(text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError
        return Path(text).expanduser()

    return convert, "the path of a directory"


def file() -> Rule:
    return directory()[0], "the path of a file"


def names() -> Rule:
    def convert(text: str) -> tuple[str, ...]:
        return parts(text.lower())

    return convert, "host names, separated by commas"


def origins() -> Rule:
    def convert(text: str) -> tuple[str, ...]:
        found = parts(text.lower())
        if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in found):
            raise ValueError
        return found

    return convert, "origins such as https://app.example.com, separated by commas, or *"


def setting(name: str, default: Any, rule: Rule, help: str, *, secret: bool = False) -> Any:  # noqa: A002 - environ's word
    convert, allowed = rule

    def checked(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return convert(value.strip())
        except (ValueError, OverflowError):
            # What stands before an @ may be a password in a URL.
            hidden = secret or "@" in value
            raise ConfigurationError(name, "***" if hidden else value, allowed) from None

    shown = "" if isinstance(default, Factory) or secret else str(default)  # type: ignore[arg-type]  # a class at run time
    variable = Variable(name, shown, allowed, help)
    made = environ.var(default=default, converter=checked, name=name, help=help)
    return field(
        default=default,
        converter=Converter(checked),
        metadata={**made.metadata, "variable": variable},
        repr=not secret,
    )


def read_variables(settings: type[T], given: Mapping[str, str]) -> T:
    """
    Return *settings* with what the variables say.

    Raises:
        ConfigurationError: a value is not allowed.
    """
    made: T = environ.to_config(settings, dict(given))
    return made
