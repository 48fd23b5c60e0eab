"""From answers to figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence

from attrs import field, frozen

from benchmarks.accuracy.queries import EXPECTED, ITSELF
from benchmarks.accuracy.rows import Answer, Hit
from benchmarks.corpus import Corpus
from benchmarks.transforms import TRANSFORMS

__all__ = [
    "REPORTED",
    "PairScore",
    "Score",
    "missed_by",
    "pair_scores",
    "score",
    "scores",
    "stranger_duplicates",
]

REPORTED = 0.80
"""From this similarity on a match is in the answer by default."""


@frozen(kw_only=True)
class Score:
    """
    How one engine did on one transform. Shares are 0..1.

    Args:
        recall1, recall10: share of queries whose drawing (or one of its doc_group) is first, or
            among the first ten; mean over source groups of each group's share.
        plain1: the same as recall1, over queries instead of groups.
        worst: the source group with the least recall1 among those with the most queries, and that share.
        reported: share of queries with the right drawing first and reported by default.
        relation: share of the right first answers whose relation is right; None where nothing is said.
        false_duplicates: strangers called duplicates, per query.
        strangers: strangers reported by default, per query.
    """

    queries: int
    recall1: float
    recall10: float
    plain1: float
    reported: float
    worst: tuple[str, float]
    relation: float | None
    false_duplicates: float
    strangers: float
    p50: float
    p95: float
    errors: int


@frozen(kw_only=True)
class PairScore:
    """
    What was said of pairs of one kind. Shares are 0..1.

    Args:
        found: share found among ten; mean over source groups, as `named` and `wrong`.
        named: share that is reported with the right relation; None where nothing is said or asked for.
        wrong: share called what they must not be: a revision `identical`, a look-alike a duplicate.
        plain: found, named and wrong over pairs instead of groups.
        worst: the source group with the least `named` (`found` where there is none), and that share.
        verdicts, relations: how often each was given.
    """

    pairs: int
    found: float
    named: float | None
    wrong: float | None
    plain: tuple[float, float | None, float | None]
    worst: tuple[str, float]
    verdicts: Counter[str] = field(factory=Counter)
    relations: Counter[str] = field(factory=Counter)


def scores(corpus: Corpus, answers: Iterable[Answer]) -> dict[str, dict[str, Score]]:
    """Return engine -> transform -> score, with `all` for all transforms together."""
    sorted_out: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if answer.transform in TRANSFORMS:
            sorted_out[answer.engine][answer.transform].append(answer)
            sorted_out[answer.engine]["all"].append(answer)
    return {
        engine: {name: score(corpus, some) for name, some in by_transform.items()}
        for engine, by_transform in sorted_out.items()
    }


def score(corpus: Corpus, answers: Sequence[Answer]) -> Score:
    ranks = [_rank(corpus, answer) for answer in answers]
    first = [rank == 1 for rank in ranks]
    groups = _by_source(answers)
    named = [_relation_right(answer) for answer, right in zip(answers, first, strict=True) if right]
    said = [right for right in named if right is not None]
    seconds = sorted(answer.seconds for answer in answers)
    return Score(
        queries=len(answers),
        recall1=_by_group(groups, first),
        recall10=_by_group(groups, [rank is not None and rank <= 10 for rank in ranks]),
        plain1=_mean(first),
        reported=sum(
            right and answer.hits[0].score >= REPORTED for answer, right in zip(answers, first, strict=True)
        )
        / len(answers),
        worst=_worst(groups, first),
        relation=sum(said) / len(said) if said else None,
        false_duplicates=_strangers(corpus, answers, _called_duplicate) / len(answers),
        strangers=_strangers(corpus, answers, _is_reported) / len(answers),
        p50=seconds[len(seconds) // 2],
        p95=seconds[int(len(seconds) * 0.95)],
        errors=sum(bool(answer.error) for answer in answers),
    )


def pair_scores(
    answers: Iterable[Answer], disputed: Container[frozenset[str]] = ()
) -> dict[str, dict[str, PairScore]]:
    """
    Return engine -> kind of pair -> what was said of the pair's other drawing.

    A kind that has *disputed* pairs comes twice: as labelled, and marked "undisputed" without them.
    """
    sorted_out: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if answer.transform.startswith(("natural", "lookalike")):
            sorted_out[answer.engine][answer.transform].append(answer)
    return {
        engine: {
            name: _pair_score(kind, some)
            for kind, every in sorted(kinds.items())
            for name, some in _with_undisputed(kind, every, disputed)
        }
        for engine, kinds in sorted_out.items()
    }


def _with_undisputed(
    kind: str, answers: list[Answer], disputed: Container[frozenset[str]]
) -> Iterator[tuple[str, list[Answer]]]:
    yield kind, answers
    sure = [answer for answer in answers if frozenset({answer.query, answer.about}) not in disputed]
    if 0 < len(sure) < len(answers):
        yield f"{kind}, undisputed", sure


def _pair_score(kind: str, answers: Sequence[Answer]) -> PairScore:
    hits = [_about(answer) for answer in answers]
    groups = _by_source(answers)
    found = [hit in answer.hits[:10] for hit, answer in zip(hits, answers, strict=True)]
    named: list[bool] = []
    if kind in EXPECTED and any(hit and hit.relation for hit in hits):
        named = [hit is not None and _is_reported(hit) and hit.relation in EXPECTED[kind] for hit in hits]
    wrong = [hit is not None and _is_wrong(kind, hit) for hit in hits] if kind in _WRONG else []
    return PairScore(
        pairs=len(answers),
        found=_by_group(groups, found),
        named=_by_group(groups, named) if named else None,
        wrong=_by_group(groups, wrong) if wrong else None,
        plain=(_mean(found), _mean(named) if named else None, _mean(wrong) if wrong else None),
        worst=_worst(groups, named or found),
        verdicts=Counter(map(_verdict, hits)),
        relations=Counter(hit.relation for hit in hits if hit and hit.relation and _is_reported(hit)),
    )


_WRONG = ("natural revision", "lookalike different")


def _is_wrong(kind: str, hit: Hit) -> bool:
    if kind == "natural revision":
        return _is_reported(hit) and hit.relation in {"identical", "exact"}
    return hit.verdict == "duplicate"


def _verdict(hit: Hit | None) -> str:
    if hit is None:
        return "not among 20"
    if not hit.verdict:
        return "farther"
    return hit.verdict if _is_reported(hit) else "not reported"


def _about(answer: Answer) -> Hit | None:
    return next((hit for hit in answer.hits if hit.id == answer.about), None)


def _by_source(answers: Sequence[Answer]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        groups[answer.group].append(place)
    return groups


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def missed_by(corpus: Corpus, answer: Answer) -> float:
    """
    Return how bad an answer is: 0 right, 1 wrong name, 2 not first, 3 not among ten, 4 a false duplicate.
    """
    if any(hit.verdict == "duplicate" and corpus.unrelated(answer.query, hit.id) for hit in answer.hits):
        return 4.0
    if answer.transform not in EXPECTED:
        hit = _about(answer)
        return 4.0 if hit is not None and _is_wrong(answer.transform, hit) else 0.0
    rank = _rank(corpus, answer)
    if answer.transform in TRANSFORMS and rank != 1:
        return 2.0 if rank is not None and rank <= 10 else 3.0
    hit = _about(answer)
    if hit is None:
        return 0.0 if answer.transform in TRANSFORMS else 3.0
    return 0.0 if _is_reported(hit) and hit.relation in EXPECTED[answer.transform] else 1.0


def stranger_duplicates(corpus: Corpus, answers: Iterable[Answer]) -> dict[str, set[tuple[str, str]]]:
    """Return engine -> pairs of sheets that it called duplicates though nothing relates them."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for answer in answers:
        if answer.transform == ITSELF:
            pairs = {
                (min(answer.query, hit.id), max(answer.query, hit.id))
                for hit in answer.hits
                if hit.verdict == "duplicate"
            }
            found[answer.engine] |= {pair for pair in pairs if corpus.unrelated(*pair)}
    return dict(found)


def _rank(corpus: Corpus, answer: Answer) -> int | None:
    for rank, hit in enumerate(answer.hits, start=1):
        if corpus.right(answer.query, hit.id):
            return rank
    return None


def _relation_right(answer: Answer) -> bool | None:
    hit = _about(answer)
    if hit is None or not hit.relation:
        return None
    return hit.relation in EXPECTED[answer.transform]


def _called_duplicate(hit: Hit) -> bool:
    return hit.verdict == "duplicate"


def _is_reported(hit: Hit) -> bool:
    return hit.verdict == "duplicate" or (bool(hit.relation) and hit.score >= REPORTED)


def _strangers(corpus: Corpus, answers: Sequence[Answer], counts: type | object) -> int:
    assert callable(counts)
    return sum(
        counts(hit) and corpus.stranger(answer.query, hit.id) for answer in answers for hit in answer.hits
    )


def _by_group(groups: dict[str, list[int]], values: Sequence[bool]) -> float:
    shares = [sum(values[place] for place in places) / len(places) for places in groups.values()]
    return sum(shares) / len(shares)


def _worst(groups: dict[str, list[int]], first: Sequence[bool]) -> tuple[str, float]:
    """Among groups with at least half as many queries as the largest: one miss of one is no verdict."""
    enough = max(map(len, groups.values())) / 2
    shares = {
        name: sum(first[place] for place in places) / len(places)
        for name, places in groups.items()
        if len(places) >= enough
    }
    name = min(sorted(shares), key=lambda name: shares[name])
    return name, shares[name]
