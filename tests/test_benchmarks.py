"""The figures that the project publishes are computed right."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from benchmarks.accuracy.contact import contact_sheets
from benchmarks.accuracy.queries import EXPECTED, Query, plan
from benchmarks.accuracy.reliability import calibration_error, plot, reliability
from benchmarks.accuracy.report import Found, as_json, as_markdown
from benchmarks.accuracy.rows import Answer, Hit, Rows, same_setup
from benchmarks.accuracy.scores import missed_by, pair_scores, score, scores, stranger_duplicates
from benchmarks.corpus import Corpus, Entry, Pair, balanced, load
from benchmarks.kept import answered
from benchmarks.transforms import TRANSFORMS


def _entry(name: str, group: str = "g", doc_group: str | None = None) -> Entry:
    return Entry(
        id=name,
        path=Path(f"{name}.png"),
        group=group,
        doc_group=doc_group or name,
        quality="real",
        format="png",
    )


def _corpus(*entries: Entry, natural: tuple[Pair, ...] = ()) -> Corpus:
    return Corpus(name="c", entries={one.id: one for one in entries}, natural=natural, lookalikes=())


def _answer(query: str, *hits: Hit, transform: str = "same", group: str = "g", about: str = "") -> Answer:
    return Answer(
        engine="dedup2d balanced",
        key=f"{transform}/{query}",
        transform=transform,
        query=query,
        about=about or query,
        group=group,
        seconds=1.0,
        hits=hits,
    )


def _hit(name: str, score: float = 0.99, relation: str = "identical", verdict: str = "duplicate") -> Hit:
    return Hit(id=name, score=score, relation=relation, verdict=verdict)


def test_recall_counts_the_own_document_group() -> None:
    """The same drawing under another id is a right answer; another drawing is not."""
    corpus = _corpus(_entry("a", doc_group="d"), _entry("b", doc_group="d"), _entry("c"))
    right = score(corpus, [_answer("a", _hit("b"), _hit("c"))])
    assert (right.recall1, right.recall10) == (1.0, 1.0)
    late = score(corpus, [_answer("a", _hit("c"), _hit("b"))])
    assert (late.recall1, late.recall10) == (0.0, 1.0)
    assert score(corpus, [_answer("a", _hit("c"))]).recall10 == 0.0


def test_recall_at_ten_ends_at_ten() -> None:
    """A right answer on place eleven is not among the first ten."""
    others = [_entry(f"x{index}") for index in range(10)]
    corpus = _corpus(_entry("a"), *others)
    answer = _answer("a", *(_hit(one.id) for one in others), _hit("a"))
    assert score(corpus, [answer]).recall10 == 0.0


def test_groups_weigh_the_same_and_the_worst_is_named() -> None:
    """Two sources hold 42 % of the corpus: per-query figures would mostly be about them."""
    corpus = _corpus(*(_entry(name, group="big") for name in "abc"), _entry("d", group="small"))
    answers = [_answer(name, _hit(name), group="big") for name in "abc"]
    answers += [_answer("d", _hit("a"), group="small"), _answer("d", _hit("b"), group="small")]
    found = score(corpus, answers)
    assert found.recall1 == pytest.approx(0.5)
    assert found.plain1 == pytest.approx(0.6)
    assert found.worst == ("small", 0.0)


def test_only_certain_strangers_are_false_duplicates() -> None:
    """Pairs that the corpus calls ambiguous or related must not be held against the engine."""
    corpus = Corpus(
        name="c",
        entries={name: _entry(name) for name in "abc"},
        natural=(),
        lookalikes=(),
        ambiguous=frozenset({frozenset("ab")}),
    )
    found = score(corpus, [_answer("a", _hit("a"), _hit("b"), _hit("c", verdict="similar", score=0.85))])
    assert (found.false_duplicates, found.strangers) == (0.0, 1.0)
    worse = score(corpus, [_answer("a", _hit("c"))])
    assert (worse.false_duplicates, worse.strangers) == (1.0, 1.0)


def test_relations_are_held_to_the_transform() -> None:
    """A crop that is called identical is a wrong answer even when it is first."""
    corpus = _corpus(_entry("a"))
    wrong = score(corpus, [_answer("a", _hit("a"), transform="cropped_40")])
    right = score(corpus, [_answer("a", _hit("a", relation="partial"), transform="cropped_40")])
    assert (wrong.relation, right.relation) == (0.0, 1.0)
    assert set(TRANSFORMS) <= set(EXPECTED)


def test_pairs_tell_what_was_said_of_the_other_drawing() -> None:
    """A revision that is called a duplicate must show up as such."""
    answers = [
        _answer("b", _hit("x"), _hit("a"), transform="natural revision", about="a"),
        _answer("d", _hit("c", score=0.5, verdict="similar"), transform="natural revision", about="c"),
        _answer("f", transform="natural revision", about="e"),
    ]
    found = pair_scores(answers)["dedup2d balanced"]["natural revision"]
    assert (found.pairs, found.found) == (3, pytest.approx(2 / 3))
    assert (found.named, found.wrong) == (0.0, pytest.approx(1 / 3))
    assert found.verdicts == {"duplicate": 1, "not reported": 1, "not among 20": 1}
    assert found.relations == {"identical": 1}


def test_queries_are_balanced_over_sources_and_extend_each_other() -> None:
    """More queries must include the fewer ones, or a run cannot be extended."""
    entries = [_entry(f"{group}{index}", group=group) for group in "abc" for index in range(5)]
    few, many = (balanced(entries, count, random.Random(0)) for count in (6, 9))
    assert sorted(one.group for one in few) == list("aabbcc")
    assert many[:6] == few


def test_a_plan_asks_every_transform_and_pair() -> None:
    """A transform left out of the plan would silently be left out of the report."""
    pair = Pair(a="a", b="b", kind="revision", group="g")
    corpus = _corpus(_entry("a"), _entry("b"), natural=(pair,))
    queries = plan(corpus, {"a", "b"}, queries=2, pairs=5, strangers=1, seed=0)
    assert {query.transform for query in queries} == {*TRANSFORMS, "natural revision", "itself"}
    assert len({query.key for query in queries}) == len(queries) == 2 * len(TRANSFORMS) + 2


def test_peers_see_through_the_eight_poses() -> None:
    """The comparison is unfair if the hashes are not given the poses that they can be given."""
    pytest.importorskip("imagehash")
    pytest.importorskip("pdqhash")
    from benchmarks.accuracy.peers import HASHES, ranked  # noqa: PLC0415 - not installed for every test

    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 2, (2, 12, 16), dtype=np.uint8) * 255
    a, b = (np.kron(one, np.ones((40, 40), np.uint8)) for one in blocks)
    for peer in HASHES:
        codes = np.stack([peer.poses(a), peer.poses(b)])
        best = ranked(peer, np.ascontiguousarray(np.rot90(b[:, ::-1])), ["a", "b"], codes, 2)
        assert best[0][0] == "b", peer.name
        assert best[0][1] <= peer.threshold < best[1][1], peer.name


def test_peers_are_charged_with_strangers_they_call_duplicates_only() -> None:
    """The comparison is unfair if a peer is blamed for pairs that are related, or excused for some."""
    pytest.importorskip("imagehash")
    pytest.importorskip("pdqhash")
    from benchmarks.accuracy.peers import HASHES, false_duplicates  # noqa: PLC0415 - not installed for every test

    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 2, (2, 12, 16), dtype=np.uint8) * 255
    a, b = (np.kron(one, np.ones((40, 40), np.uint8)) for one in blocks)
    codes = np.stack([HASHES[0].poses(picture) for picture in (a, b, np.rot90(a), a)])
    found = false_duplicates(
        HASHES[0], ["a", "b", "c", "d"], codes, lambda one, other: {one, other} != {"a", "d"}
    )
    assert found == [("c", "a"), ("d", "c")]


def test_confidence_is_measured_against_the_truth() -> None:
    """A confidence that is never compared with what was right is decoration."""
    corpus = _corpus(_entry("a"), _entry("b"))
    sure = evolve(_hit("a"), confidence=0.95)
    wrong = evolve(_hit("b", relation="revision", score=0.9), confidence=0.95)
    doubtful = evolve(_hit("a", relation="similar", score=0.85), confidence=0.35)
    unreported = evolve(_hit("b", score=0.5), confidence=0.1)
    bins = reliability(corpus, [_answer("a", sure, wrong), _answer("a", sure, doubtful, unreported)])
    assert [(one.count, one.right) for one in bins] == [(1, 1.0), (3, pytest.approx(2 / 3))]
    assert calibration_error(bins) == pytest.approx((0.65 + 3 * (0.95 - 2 / 3)) / 4)
    assert plot(bins).count("<circle") == 2


def test_strangers_called_duplicates_are_counted_once() -> None:
    """Both sheets of a pair are asked for: one error must not count twice, nor a related pair at all."""
    corpus = Corpus(
        name="c",
        entries={name: _entry(name) for name in "abc"},
        natural=(),
        lookalikes=(),
        labelled=frozenset({frozenset("ac")}),
    )
    answers = [
        _answer("a", _hit("b"), _hit("c"), transform="itself"),
        _answer("b", _hit("a"), _hit("c", verdict="similar"), transform="itself"),
        _answer("c", _hit("b"), transform="same"),
    ]
    assert stranger_duplicates(corpus, answers) == {"dedup2d balanced": {("a", "b")}}


def test_disputed_labels_stay_in_the_figures_and_are_shown_apart() -> None:
    """A wrong label that is dropped silently makes every figure suspect."""
    answers = [
        _answer(
            "b", _hit("a", relation="revision", verdict="similar"), transform="natural revision", about="a"
        ),
        _answer("d", _hit("c"), transform="natural revision", about="c"),
    ]
    found = pair_scores(answers, {frozenset("cd")})["dedup2d balanced"]
    assert (found["natural revision"].wrong, found["natural revision, undisputed"].wrong) == (0.5, 0.0)
    assert found["natural revision"].plain == (1.0, 0.5, 0.5)


def test_misses_are_shown_worst_first(tmp_path: Path) -> None:
    """Who improves the engine looks at these pictures: they must show what went wrong, and only that."""
    cv2 = pytest.importorskip("cv2")
    entries = [evolve(_entry(name), path=tmp_path / f"{name}.png") for name in "ab"]
    for number, entry in enumerate(entries):
        picture = np.full((60, 90), 255, np.uint8)
        cv2.circle(picture, (30 + 20 * number, 30), 12, 0, 2)
        cv2.imwrite(str(entry.path), picture)
    corpus = _corpus(*entries)
    queries = [Query(transform=name, entry=entries[0], about="a") for name in ("same", "faxed")]
    answers = [
        evolve(_answer("a", _hit("a")), key=queries[0].key),
        evolve(_answer("a", _hit("b"), transform="faxed"), key=queries[1].key),
    ]
    assert [missed_by(corpus, answer) for answer in answers] == [0.0, 4.0]
    written = contact_sheets(corpus, queries, answers, tmp_path / "misses", seed=0)
    assert [path.name for path in written] == ["faxed.png"]
    assert cv2.imread(str(written[0])).shape == (380, 1560, 3)


def test_answers_survive_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    """A run of an hour must not be lost to a half-written line."""
    rows = Rows(tmp_path / "answers.jsonl")
    rows.add(_answer("a", _hit("a")))
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"engine": "dedup2d ba')
    rows.mend()
    rows.add(_answer("b", _hit("b")))
    assert [answer.query for answer in rows] == ["a", "b"]
    assert rows.keys("dedup2d balanced") == {"same/a", "same/b"}


def test_a_long_measurement_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    """Hours of comparing geometries must not be lost, nor be begun anew for a half-written line."""
    asked: list[str] = []

    def measured(names: list[str]) -> Iterator[str]:
        for name in names:
            asked.append(name)
            yield name.upper()

    file = tmp_path / "answers.jsonl"
    assert next(answered(["a", "b"], measured, file)) == ("a", "A")
    with file.open("a") as kept:
        kept.write('["b", "')
    assert dict(answered(["b", "a", "c"], measured, file)) == {"a": "A", "b": "B", "c": "C"}
    assert asked == ["a", "b", "c"]
    assert dict(answered(["c"], measured, None)) == {"c": "C"}


def test_results_of_another_setup_are_not_mixed_in(tmp_path: Path) -> None:
    """Answers over another corpus in the same folder would falsify every figure."""
    same_setup(tmp_path, {"corpus": "one"})
    same_setup(tmp_path, {"corpus": "one"})
    with pytest.raises(SystemExit, match="another set-up"):
        same_setup(tmp_path, {"corpus": "two"})


def test_the_report_names_everything_that_was_measured() -> None:
    """A figure that is missing from the report is not published."""
    corpus = _corpus(_entry("a"), _entry("b"))
    answers = [_answer("a", _hit("a")), _answer("b", _hit("a"), transform="natural format", about="a")]
    found, pairs = scores(corpus, answers), pair_scores(answers)
    measured = Found(setup={"seed": 0}, scores=found, pairs=pairs, strangers={"PDQ 256": [("a", "b")]})
    text = as_markdown(measured)
    assert "| same | 100 / 100 |" in text
    assert "| natural format | dedup2d balanced | 1 | 100 / 100 /  | 100 / 100 /  | g 100 |" in text
    assert "| 1 duplicate | 1 identical |" in text
    assert "| PDQ 256 | 1 | a b |" in text
    assert json.loads(as_json(measured))["scores"]["dedup2d balanced"]["all"]["queries"] == 1


def test_a_folder_without_a_manifest_is_a_clear_error(tmp_path: Path) -> None:
    """Who mistypes the corpus's folder must be told so."""
    with pytest.raises(SystemExit, match=r"no manifest\.jsonl"):
        load(tmp_path)
