"""What a search is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from attrs import Attribute, field, frozen

from dedup2d.errors import InvalidParameterError

__all__ = [
    "IGNORED_PLACES",
    "MAX_IGNORED",
    "MAX_RESULTS_LIMIT",
    "Area",
    "Between",
    "Mode",
    "PrecisionProfile",
    "SearchParams",
    "VersionGate",
    "Whole",
    "ignored_of",
]

E = TypeVar("E", bound=StrEnum)

MAX_RESULTS_LIMIT = 500

MAX_IGNORED = 20
"""Most areas that a search leaves out."""

IGNORED_PLACES = ("frame", "title_block")
"""Parts of a sheet that can be ignored by name."""


class Mode(StrEnum):
    """How deep a search goes: hashes only, verify the best, verify many."""

    FAST = "fast"
    BALANCED = "balanced"
    PRECISE = "precise"


class PrecisionProfile(StrEnum):
    """How geometries are scored: as the same drawing, or as versions of one."""

    STRICT = "strict"
    VERSION = "version"


class VersionGate(StrEnum):
    """What two drawings must share to be versions of one: see `dedup2d.precision.version_gate`."""

    OFF = "off"
    AUTO = "auto"
    FILE_NAME = "file_name"
    META = "meta"


@frozen
class Between:
    """A validator of attrs: a number from *low* to *high*. `schema` says so in JSON Schema, for the API."""

    low: float
    high: float

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"minimum": self.low, "maximum": self.high}

    def __call__(self, _: Any, attribute: Attribute[Any], value: Any) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.low <= value <= self.high
        ):
            expected = f"a number from {self.low:g} to {self.high:g}"
            raise InvalidParameterError(attribute.name, value, expected)


@frozen
class Whole:
    """A validator of attrs: a whole number from *low* to *high*; `schema` as of `Between`."""

    low: int
    high: int

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"minimum": self.low, "maximum": self.high}

    def __call__(self, _: Any, attribute: Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            expected = f"a whole number from {self.low} to {self.high}"
            raise InvalidParameterError(attribute.name, value, expected)


@frozen(kw_only=True)
class Area:
    """
    A box on a sheet, in shares of its width and height: 0..1 from the top left.

    Raises:
        InvalidParameterError: it is empty, or not on the sheet.
    """

    x: float = field(validator=Between(0, 1))
    y: float = field(validator=Between(0, 1))
    width: float = field(validator=Between(0, 1))
    height: float = field(validator=Between(0, 1))

    def __attrs_post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0 and self.x < 1 and self.y < 1):
            raise InvalidParameterError("ignore", str(self), "an area that is not empty")

    def __str__(self) -> str:
        return f"{self.x:g},{self.y:g},{self.width:g},{self.height:g}"


def ignored_of(text: str) -> Area | str:
    """
    Return what *text* says to ignore: `frame`, `title_block`, or `X,Y,WIDTH,HEIGHT` as in `Area`.

    Raises:
        InvalidParameterError: it says none of these.
    """
    if text in IGNORED_PLACES:
        return text
    try:
        x, y, width, height = (float(part) for part in text.split(","))
        return Area(x=x, y=y, width=width, height=height)
    except ValueError:  # also that of Area
        expected = f"X,Y,WIDTH,HEIGHT as shares 0 to 1 of the sheet, or one of {', '.join(IGNORED_PLACES)}"
        raise InvalidParameterError("ignore", text, expected) from None


class _Ignored:
    """A validator of attrs: areas and places, not too many."""

    schema: ClassVar[Mapping[str, Any]] = {"maxItems": MAX_IGNORED}

    def __call__(self, _: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, tuple) or len(value) > MAX_IGNORED:
            raise InvalidParameterError(attribute.name, value, f"a tuple of at most {MAX_IGNORED}")
        for one in value:
            if not isinstance(one, Area) and one not in IGNORED_PLACES:
                expected = "an Area or one of " + ", ".join(IGNORED_PLACES)
                raise InvalidParameterError(attribute.name, one, expected)


def _one_of(kind: type[E], name: str, value: Any) -> E:
    try:
        return kind(value)
    except ValueError:
        raise InvalidParameterError(name, value, "one of " + ", ".join(kind)) from None


def _mode(value: Any) -> Mode:
    return _one_of(Mode, "mode", value)


def _profile(value: Any) -> PrecisionProfile:
    return _one_of(PrecisionProfile, "precision_profile", value)


def _gate(value: Any) -> VersionGate:
    return _one_of(VersionGate, "version_gate", value)


@frozen(kw_only=True)
class SearchParams:
    """
    What a search is asked to do.

    Args:
        mode: `fast` stops after fingerprints, `balanced` verifies the best
            candidates geometrically, `precise` verifies more of them.
        max_results: most matches returned, 1 to 500.
        compute_diff: add a difference picture and regions to the best matches.
        diff_top_n: how many matches get a difference picture, 0 to 50.
        enable_ml: ask a learned embedding for further candidates, where a model is set
            (DEDUP2D_ML_MODEL); they are verified like all others.
        enable_geometric: verify candidates geometrically (L4) unless `fast`.
        exclude_self: leave out drawings whose file has the query's bytes.
        duplicate_threshold: least similarity of a `duplicate`, 0 to 1.
        similar_threshold: least similarity of a `similar`, at most the above.
        ignore: parts of the query's sheet that neither the verdict nor the
            difference looks at: areas, `frame`, `title_block`; at most 20.
        enable_precision: score the best matches by geometry, where that came with the query.
        precision_profile: `strict` or `version`: how geometries are scored.
        precision_top_n: how many matches are scored by geometry, 1 to 500.
        precision_visual_weight: of what the pictures say in the similarity, 0 to 1.
        precision_geom_weight: of what the geometry says, 0 to 1; not both are 0, and their sum counts as 1.
        precision_compute_diff: say of the best matches in what their geometry differs.
        precision_diff_top_n: of how many, 0 to 50.
        precision_diff_max_paths: most differences told of each, 1 to 2,000.
        version_gate: what matches must share in profile `version`: drawing numbers (`meta`), names
            (`file_name`), whichever is known (`auto`), nothing (`off`).

    Raises:
        InvalidParameterError: a value is out of its range.
    """

    mode: Mode = field(default=Mode.BALANCED, converter=_mode)
    max_results: int = field(default=50, validator=Whole(1, MAX_RESULTS_LIMIT))
    compute_diff: bool = True
    diff_top_n: int = field(default=5, validator=Whole(0, 50))
    enable_ml: bool = False
    enable_geometric: bool = True
    exclude_self: bool = False
    duplicate_threshold: float = field(default=0.95, validator=Between(0, 1))
    similar_threshold: float = field(default=0.80, validator=Between(0, 1))
    ignore: tuple[Area | str, ...] = field(default=(), validator=_Ignored())
    enable_precision: bool = True
    precision_profile: PrecisionProfile = field(default=PrecisionProfile.STRICT, converter=_profile)
    precision_top_n: int = field(default=20, validator=Whole(1, MAX_RESULTS_LIMIT))
    precision_visual_weight: float = field(default=0.3, validator=Between(0, 1))
    precision_geom_weight: float = field(default=0.7, validator=Between(0, 1))
    precision_compute_diff: bool = True
    precision_diff_top_n: int = field(default=5, validator=Whole(0, 50))
    precision_diff_max_paths: int = field(default=200, validator=Whole(1, 2000))
    version_gate: VersionGate = field(default=VersionGate.OFF, converter=_gate)

    @property
    def precise(self) -> bool:
        """Whether geometry that comes with the query is used."""
        return self.enable_precision and (self.enable_geometric or self.mode is Mode.PRECISE)

    def __attrs_post_init__(self) -> None:
        if not self.precision_visual_weight + self.precision_geom_weight > 0:
            raise InvalidParameterError(
                "precision_geom_weight",
                self.precision_geom_weight,
                "more than 0, as precision_visual_weight is 0",
            )
        if self.similar_threshold > self.duplicate_threshold:
            raise InvalidParameterError(
                "similar_threshold",
                self.similar_threshold,
                f"at most duplicate_threshold ({self.duplicate_threshold:g})",
            )
