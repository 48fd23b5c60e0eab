"""Candidates: the right drawing among others, whatever was added and removed before."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup2d.engine import postings
from dedup2d.engine.candidates import Candidates
from dedup2d.engine.features import Features
from dedup2d.engine.fingerprint import Fingerprint, fingerprint
from dedup2d.engine.merging import merged
from tests.engine_sheets import part, template

PRINTS = {seed: fingerprint(part(seed))[0] for seed in range(12)}


def filled(keys: list[int]) -> Candidates:
    made = Candidates()
    for key in keys:
        made.add(key, PRINTS[key])
    return made


def printed(sheet: np.ndarray) -> Fingerprint:
    return fingerprint(np.ascontiguousarray(sheet))[0]


def features(rng: np.random.Generator, count: int) -> Features:
    return Features(
        places=rng.uniform(100, 900, (count, 2)).astype(np.float32),
        angles=rng.uniform(-3, 3, count).astype(np.float32),
        sizes=rng.uniform(10, 40, count).astype(np.float32),
        codes=rng.integers(0, 256, (count, 32), dtype=np.uint8),
    )


def joined(one: Features, two: Features) -> Features:
    names = ("places", "angles", "sizes", "codes")
    return Features(**{name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in names})


@pytest.fixture(scope="module")
def index() -> Candidates:
    return filled(list(PRINTS))


@pytest.mark.parametrize("seed", [0, 5, 11])
def test_itself_comes_first(index: Candidates, seed: int) -> None:
    """A drawing that is in the index would not be found."""
    best = index.query(PRINTS[seed], limit=3)[0]

    assert (best.key, best.l1, best.mirrored, best.turns) == (seed, 1.0, False, 0)
    assert best.l2 > 0.9


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_pose_is_found(index: Candidates, turns: int, *, mirrored: bool) -> None:
    """Sheets scanned sideways or mirrored would be new drawings."""
    sheet = part(3)
    best = index.query(printed(np.rot90(sheet[:, ::-1] if mirrored else sheet, turns)), limit=1)[0]

    assert best.key == 3
    assert best.mirrored == mirrored


def test_crop_and_turn_are_found(index: Candidates) -> None:
    """A detail cut out of a drawing would be a new drawing."""
    crop = part(7)[60:700, 60:760]
    matrix = cv2.getRotationMatrix2D((350, 320), 25, 0.8)
    turned = cv2.warpAffine(crop, matrix, (700, 640), borderValue=255)

    assert index.query(printed(crop), limit=1)[0].key == 7
    assert index.query(printed(turned), limit=1)[0].key == 7


def test_a_thorough_look_finds_what_is_common_in_its_place() -> None:
    """A plate has the corners and holes of a hundred other plates: no search would find it by them."""
    rng = np.random.default_rng(1)
    common, made = features(rng, 12), Candidates()
    for key in range(100):
        own = features(rng, 20 if key == 7 else 300)
        elsewhere = evolve(common, places=rng.uniform(100, 900, (12, 2)).astype(np.float32))
        all_of_it = joined(common if key == 7 else elsewhere, own)
        made.add(key, evolve(PRINTS[0], hash=bytes(32), information=0.0, parts=(), features=all_of_it))
    query = evolve(PRINTS[0], hash=bytes(32), information=0.0, parts=(), features=common)

    assert made.query(query, limit=3) == []
    best = made.query(query, limit=3, thorough=True)[0]
    assert (best.key, best.votes) == (7, 12)
    assert np.array(best.placement) == pytest.approx(np.eye(3).ravel(), abs=0.5)


def test_blank_finds_nothing(index: Candidates) -> None:
    """An empty page would match whatever is emptiest."""
    assert index.query(printed(np.full((700, 1000), 255, np.uint8)), limit=5) == []


def test_frame_only_sheets_do_not_match_by_hash() -> None:
    """Empty frames of one size would all be duplicates."""
    made = Candidates()
    frame = np.full((700, 1000), 255, np.uint8)
    cv2.rectangle(frame, (20, 20), (980, 680), 0, 2)
    made.add(1, printed(frame))

    assert all(one.l1 == 0 for one in made.query(printed(frame), limit=5))


def test_removed_is_gone_at_once(index: Candidates) -> None:
    """A deleted drawing would still be shown."""
    made = filled(list(PRINTS))
    made.remove(4)
    made.remove(99)

    assert 4 not in [one.key for one in made.query(PRINTS[4], limit=50)]
    assert (len(made), 4 in made, 5 in made) == (11, False, True)
    assert len(index) == 12


def test_added_again_replaces() -> None:
    """A drawing indexed anew would be found by its old picture."""
    made = filled([1, 2])
    made.add(1, PRINTS[8])

    assert len(made) == 2
    assert made.query(PRINTS[8], limit=1)[0].key == 1
    assert all(one.key != 1 or one.l2 < 0.9 for one in made.query(PRINTS[1], limit=5))


@given(
    order=st.permutations(list(PRINTS)),
    gone=st.sets(st.sampled_from(sorted(PRINTS)), max_size=8),
)
@settings(max_examples=8, deadline=None)
def test_order_and_history_do_not_matter(order: list[int], gone: set[int]) -> None:
    """Two machines with the same drawings would answer differently."""
    kept = sorted(set(PRINTS) - gone)
    lived = filled(order)
    lived.query(PRINTS[0], limit=1)
    for key in gone:
        lived.remove(key)

    assert lived.query(PRINTS[kept[0]], limit=50) == filled(kept).query(PRINTS[kept[0]], limit=50)


def test_sealed_and_merged_answer_alike() -> None:
    """What was stored long ago would be found differently from what was just added."""
    plain, sealed = filled(list(PRINTS)), Candidates()
    for key, own in PRINTS.items():
        sealed.add(key, PRINTS[(key + 1) % 12])
        sealed.seal()
        sealed.add(key, own)
        if key % 4 == 0:
            sealed.seal()
    answers = [plain.query(PRINTS[seed], limit=20) for seed in PRINTS]

    assert [sealed.query(PRINTS[seed], limit=20) for seed in PRINTS] == answers
    olds = sealed.segments[1:4]
    assert sealed.swap(olds, merged(olds))
    assert not sealed.swap(olds, merged(olds))
    assert not sealed.swap(sealed.segments[:2], merged(sealed.segments[:1]))
    assert (len(sealed), len(sealed.segments)) == (12, 13)
    assert [sealed.query(PRINTS[seed], limit=20) for seed in PRINTS] == answers


def test_removed_from_a_segment_is_gone_at_once() -> None:
    """A deleted drawing would be shown until its segment is written anew."""
    made = filled([1, 2, 3])
    made.seal()
    made.remove(2)

    assert (len(made), 1 in made, 2 in made, "2" in made) == (2, True, False, False)
    assert [one.key for one in made.query(PRINTS[2], limit=5) if one.key == 2] == []
    made.add(2, PRINTS[2])
    assert made.query(PRINTS[2], limit=1)[0].key == 2


def test_longer_keys_of_a_large_index_still_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that outgrew its keys would lose drawings, or answer by the order of adding."""
    monkeypatch.setattr(postings, "_ROOMY", 100)
    forward, backward = filled(list(PRINTS)), filled(list(PRINTS)[::-1])
    backward.seal()
    backward.add(1000, PRINTS[3])
    backward.seal()
    backward.remove(1000)

    assert all(forward.query(PRINTS[seed], limit=1)[0].key == seed for seed in PRINTS)
    assert all(one.l2 > 0.8 for one in (forward.query(PRINTS[seed], limit=1)[0] for seed in PRINTS))
    assert forward.query(PRINTS[5], limit=20) == backward.query(PRINTS[5], limit=20)


@pytest.mark.parametrize("gone", [0, 30])
def test_what_too_many_have_is_left_out_alike(gone: int) -> None:
    """A drawing's score would depend on how its copies are spread over segments, or on removed ones."""
    copies = range(100, 190)
    plain, spread = filled([1, 2]), filled([2])
    for key in copies:
        if key >= 100 + gone:
            plain.add(key, PRINTS[1])
        spread.add(key, PRINTS[1])
        if key % 20 == 0:
            spread.seal()
    spread.add(1, PRINTS[1])
    for key in range(100, 100 + gone):
        spread.remove(key)

    assert plain.query(PRINTS[1], limit=200) == spread.query(PRINTS[1], limit=200)
    plain.seal()
    plain.remove(101 + gone)
    spread.remove(101 + gone)
    assert plain.query(PRINTS[1], limit=200) == spread.query(PRINTS[1], limit=200)


def test_a_shared_part_finds_and_says_less_the_more_have_it() -> None:
    """A view on another sheet would not be found by its hash, or a logo would make all drawings alike."""
    rng = np.random.default_rng(3)
    hashes = [rng.bytes(32) for _ in range(20)]
    bare = evolve(PRINTS[0], features=PRINTS[0].features, parts=())
    few, many = Candidates(), Candidates()
    for key, code in enumerate(hashes):
        other = evolve(bare, hash=rng.bytes(32), features=_none(), parts=(code,))
        few.add(key, other)
        many.add(key, evolve(other, parts=(hashes[0],)))
    query = evolve(bare, hash=rng.bytes(32), features=_none(), parts=(hashes[0],))

    assert [one.key for one in few.query(query, limit=50) if one.l1 > 0.4] == [0]
    assert max(one.l1 for one in many.query(query, limit=50)) < 0.1


def _none() -> Features:
    one = PRINTS[0].features
    return Features(one.places[:0], one.angles[:0], one.sizes[:0], one.codes[:0])


def test_limit_is_checked(index: Candidates) -> None:
    """A wrong limit would silently give nothing."""
    assert len(index.query(PRINTS[0], limit=2)) == 2
    with pytest.raises(ValueError, match="limit=0"):
        index.query(PRINTS[0], limit=0)


def test_shared_template_weighs_little() -> None:
    """Every drawing of a company would be a candidate of an empty form of its template."""
    form = printed(template())
    alone = filled([1]).query(form, limit=1)[0]
    among = next(one for one in filled(list(PRINTS)).query(form, limit=12) if one.key == 1)

    assert among.l2 < alone.l2 - 0.1
