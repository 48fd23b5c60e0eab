"""
The version gate: whether two drawings can be versions of one at all.

Drawing numbers and names say more about that than lines do: siblings of a family look more alike than the
first and the last version of one part.
"""

from __future__ import annotations

import re

from attrs import frozen

from dedup2d.errors import shown
from dedup2d.search_params import PrecisionProfile, SearchParams, VersionGate

__all__ = ["Named", "refusal", "same_number", "stem_of"]

_LONGEST = 255
"""Characters of a name that are looked at: its end, where versions stand."""

_SEPARATORS = re.compile(r"[\s_\-./]+")
_EXTENSION = re.compile(r"\.(?:dxf|dwg|pdf|png|jpe?g|tiff?|svg|gz|json)$")
_BETWEEN = r"(?:^|[\s_\-.(\[,;]+)"
_END = r"[)\]]?"
_LETTER_OR_NUMBER = r"(?:[a-z]|[0-9]{1,4}(?:[.\-][0-9]{1,3})?[a-z]?)"
_DATE = (
    r"(?:(?:19|20)[0-9]{2}[\-_.]?(?:0[1-9]|1[0-2])[\-_.]?(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[1-9]|[12][0-9]|3[01])[\-_.](?:0[1-9]|1[0-2])[\-_.](?:19|20)[0-9]{2})"
)
_TIME = r"(?:[t_\- ]?[0-2][0-9][\-_.:]?[0-5][0-9](?:[\-_.:]?[0-5][0-9])?z?)?"
_WORDS = r"(?:final|draft|copy|old|new|latest|kopie|alt|neu|entwurf)"
_VERSIONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_BETWEEN}(?:version|revision|rev|ver|issue|ausgabe|stand)[\s_\-.:]*{_LETTER_OR_NUMBER}{_END}$",
        rf"{_BETWEEN}[vr][\s_\-.]?[0-9]{{1,4}}(?:[.\-][0-9]{{1,3}})?[a-z]?{_END}$",
        rf"{_BETWEEN}{_DATE}{_TIME}{_END}$",
        rf"{_BETWEEN}{_WORDS}(?:[\s_\-]*[0-9]{{1,3}})?{_END}$",
        r"[\s_\-.]*\([0-9]{1,3}\)$",
    )
)


@frozen
class Named:
    """What a drawing is called: its file's name, and its drawing number where that is known."""

    file_name: str
    drawing_number: str | None = None


def refusal(params: SearchParams, query: Named, other: Named) -> str | None:
    """
    Return why *other* cannot be a version of *query*, None if it may be.

    What is not known on both sides refuses nothing. In the profile `strict` there is no gate.
    """
    if params.precision_profile is not PrecisionProfile.VERSION:
        return None
    gate = params.version_gate
    known = query.drawing_number is not None and other.drawing_number is not None
    if gate is VersionGate.META or (gate is VersionGate.AUTO and known):
        return _by_number(query.drawing_number, other.drawing_number)
    return _by_name(query.file_name, other.file_name) if gate is not VersionGate.OFF else None


def same_number(a: str, b: str) -> bool:
    """Say whether two drawing numbers are one: case, spaces and separators do not matter."""
    return _plain(a) == _plain(b)


def stem_of(file_name: str) -> str:
    """
    Return a file's name without what tells versions apart, in lower case and with single separators.

    Taken off the end, again and again: extensions, `v2`, `rev B`, `R02`, `(3)`, dates with or without a time,
    and words such as `final` or `copy`. What would leave nothing is kept.
    """
    text = file_name[-_LONGEST:].replace("\\", "/").rpartition("/")[2].strip().casefold()
    text = _without(text, (_EXTENSION,))
    return _plain(_without(text, _VERSIONS))


def _by_number(query: str | None, other: str | None) -> str | None:
    if query is None or other is None or same_number(query, other):
        return None
    return f"version gate: drawing number {shown(other, 60)} is not {shown(query, 60)}"


def _by_name(query: str, other: str) -> str | None:
    ours, theirs = stem_of(query), stem_of(other)
    if not ours or not theirs or ours == theirs:
        return None
    return f"version gate: file name {shown(theirs, 60)} is not {shown(ours, 60)}, versions aside"


def _without(text: str, patterns: tuple[re.Pattern[str], ...]) -> str:
    """Take off what fits until nothing does, or nothing would be left."""
    while True:
        shorter = next((s for p in patterns if (s := p.sub("", text).rstrip(" _-.,;")) != text and s), text)
        if shorter == text:
            return text
        text = shorter


def _plain(text: str) -> str:
    return _SEPARATORS.sub("-", text.strip().casefold()).strip("-")
