"""From answers to figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from benchmarks.accuracy.queries import EXPECTED
from benchmarks.accuracy.rows import Answer, Hit
from benchmarks.corpus import Corpus

__all__ = ["PairScore", "Score", "pair_scores", "score", "scores"]

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
    """What was said of pairs of one kind: how many, how many found among ten, verdicts, relations."""

    pairs: int
    found: int
    verdicts: Counter[str] = field(factory=Counter)
    relations: Counter[str] = field(factory=Counter)


def scores(corpus: Corpus, answers: Iterable[Answer]) -> dict[str, dict[str, Score]]:
    """Return engine -> transform -> score, with `all` for all transforms together."""
    sorted_out: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if not answer.transform.startswith(("natural", "lookalike")):
            sorted_out[answer.engine][answer.transform].append(answer)
            sorted_out[answer.engine]["all"].append(answer)
    return {
        engine: {name: score(corpus, some) for name, some in by_transform.items()}
        for engine, by_transform in sorted_out.items()
    }


def score(corpus: Corpus, answers: Sequence[Answer]) -> Score:
    ranks = [_rank(corpus, answer) for answer in answers]
    first = [rank == 1 for rank in ranks]
    groups: dict[str, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        groups[answer.group].append(place)
    named = [_relation_right(answer) for answer, right in zip(answers, first, strict=True) if right]
    said = [right for right in named if right is not None]
    seconds = sorted(answer.seconds for answer in answers)
    return Score(
        queries=len(answers),
        recall1=_by_group(groups, first),
        recall10=_by_group(groups, [rank is not None and rank <= 10 for rank in ranks]),
        plain1=sum(first) / len(first),
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


def pair_scores(answers: Iterable[Answer]) -> dict[str, dict[str, PairScore]]:
    """Return engine -> kind of pair -> what was said of the pair's other drawing."""
    sorted_out: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if answer.transform.startswith(("natural", "lookalike")):
            sorted_out[answer.engine][answer.transform].append(answer)
    return {
        engine: {kind: _pair_score(some) for kind, some in sorted(kinds.items())}
        for engine, kinds in sorted_out.items()
    }


def _pair_score(answers: Sequence[Answer]) -> PairScore:
    verdicts: Counter[str] = Counter()
    relations: Counter[str] = Counter()
    found = 0
    for answer in answers:
        hit = next((hit for hit in answer.hits if hit.id == answer.about), None)
        if hit is None:
            verdicts["not among 20"] += 1
            continue
        found += hit in answer.hits[:10]
        verdict = hit.verdict if hit.verdict != "similar" or hit.score >= REPORTED else "not reported"
        verdicts[verdict or "farther"] += 1
        if hit.relation and verdict != "not reported":
            relations[hit.relation] += 1
    return PairScore(pairs=len(answers), found=found, verdicts=verdicts, relations=relations)


def _rank(corpus: Corpus, answer: Answer) -> int | None:
    for rank, hit in enumerate(answer.hits, start=1):
        if corpus.right(answer.query, hit.id):
            return rank
    return None


def _relation_right(answer: Answer) -> bool | None:
    hit = next((hit for hit in answer.hits if hit.id == answer.about), None)
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
