"""How long a search looks: how many candidates of a sheet, and how closely."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

from dedup2d.engine.candidates import Candidate
from dedup2d.types import Mode

__all__ = ["EFFORTS", "ONCE_MORE", "SURE", "Effort", "Placement", "by_turns", "placements", "worth_a_look"]

Placement = tuple[float, ...] | None

_VERIFIED_LEAST = 3
_VERIFIED_IN_ALL = 200
_HARDLY = 0.1  # of the best candidate's score
SURE = 0.87
"""
Similarity that a search is content with. Below it looks once more, as `ONCE_MORE` says: after a wrong "no"
somebody draws the part again.
"""


@frozen(kw_only=True)
class Effort:
    """
    How many candidates are looked at.

    Args:
        verified: at most, of those that levels 1 and 2 name.
        by_l3: at most, of those that level 3 names.
        surely: however little speaks for them.
        by_all: with all features of both.
        many: with all features too, those that so many speak for.
        thorough: asks for common features too, which may be all that a plain drawing has.
    """

    verified: int
    by_l3: int
    surely: int
    by_all: int
    many: float = 10
    thorough: bool = False

    def share(self, sheets: int) -> int:
        """Return how many candidates of each of *sheets* are verified, so that many stay affordable."""
        return min(self.verified, max(_VERIFIED_LEAST, _VERIFIED_IN_ALL // sheets))


EFFORTS = {
    Mode.FAST: Effort(verified=0, by_l3=0, surely=0, by_all=0),
    Mode.BALANCED: Effort(verified=12, by_l3=6, surely=4, by_all=2),
    Mode.PRECISE: Effort(verified=50, by_l3=12, surely=40, by_all=12),
}
ONCE_MORE = Effort(verified=38, by_l3=12, surely=38, by_all=12, many=math.inf, thorough=True)


def by_turns(thorough: Sequence[Candidate], quick: Sequence[Candidate]) -> list[Candidate]:
    """Two of those found by common features too, then one by the others alone, whom those may hide."""
    found: dict[int, Candidate] = {}
    for number in range(max(len(thorough), len(quick))):
        for one in (*thorough[2 * number : 2 * number + 2], *quick[number : number + 1]):
            found.setdefault(one.key, one)
    return list(found.values())


def placements(candidates: Sequence[Candidate], by_all: int, many: float) -> dict[int, Placement]:
    """
    Where to lay the query on each; None, to look for it with all features.

    That takes longer: it is for those that *many* features speak for, and for the first ones, as the few
    hits of a drawing whose features are common may agree on a wrong place.
    """
    return {
        one.key: None if one.votes >= many or number < by_all else one.placement
        for number, one in enumerate(candidates)
    }


def worth_a_look(candidates: Sequence[Candidate], surely: int) -> list[Candidate]:
    """The first *surely* ones, and of the others those that anything much speaks for beside the best."""
    least = _HARDLY * max((one.score for one in candidates), default=0.0)
    return [one for number, one in enumerate(candidates) if number < surely or one.score >= least]
