"""L3 in the embedded engine: it names candidates and never decides."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attrs import evolve

from dedup2d.build import build_embedded
from dedup2d.engine.candidates import Candidate
from dedup2d.engine.embedding import Model, open_model
from dedup2d.engine.judge import judge
from dedup2d.errors import ConfigurationError, MissingExtraError
from dedup2d.readers import ReadLimits
from dedup2d.settings import Settings
from dedup2d.testing.plans import drawing_file, plan
from dedup2d.types import AddResult, Mode, Relation, SearchParams, SearchResult, Verdict
from dedup2d.vision import effort, learned, search
from dedup2d.vision.embedded import EmbeddedVision
from dedup2d.vision.indexes import Index
from dedup2d.vision.learned import NO_MODEL, NO_VERIFICATION, most_alike, opened, with_alike

from .onnx_models import model

LIMITS = ReadLimits(max_seconds=20)
WITH_ML = SearchParams(enable_ml=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def shades(tmp_path: Path) -> Model:
    return open_model(model(tmp_path / "model.onnx"))


@pytest.fixture
async def vision(directory: Path, shades: Model) -> AsyncIterator[EmbeddedVision]:
    async with EmbeddedVision(directory, limits=LIMITS, model=shades) as made:
        yield made


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fingerprints name nothing."""

    async def nothing(*_: object, **__: object) -> list[Candidate]:
        return []

    monkeypatch.setattr(Index, "candidates", nothing)


async def add(vision: EmbeddedVision, seed: int) -> AddResult:
    return await vision.add("tenant", drawing_file(plan(seed), f"plan-{seed}.png"))


async def find(vision: EmbeddedVision, seed: int, params: SearchParams = WITH_ML) -> SearchResult:
    """Search with the picture of a drawing, in other bytes."""
    return await vision.search("tenant", drawing_file(plan(seed, compression=1)), params)


def names(result: SearchResult) -> list[str]:
    return [match.file_name for match in (*result.duplicates, *result.similar)]


def stored(directory: Path) -> int:
    with sqlite3.connect(directory / "tenant" / "catalogue.sqlite3") as plain:
        (count,) = plain.execute("SELECT count(*) FROM vectors").fetchone()
    plain.close()
    return int(count)


def hang(*_: object) -> None:
    time.sleep(60)


def die(*_: object) -> None:
    os._exit(9)


# What it is for


@pytest.mark.usefixtures("blind")
async def test_it_brings_to_verification_what_fingerprints_do_not_name(vision: EmbeddedVision) -> None:
    """If this fails, L3 costs time and finds nothing that would not be found without it."""
    for seed in (1, 2, 3):
        await add(vision, seed)

    without = await find(vision, 2, SearchParams())
    result = await find(vision, 2)

    assert names(without) == []
    (match,) = result.duplicates
    assert (match.file_name, match.relation, match.match_level) == ("plan-2.png", Relation.IDENTICAL, 4)
    assert match.levels["l3"].score == pytest.approx(1, abs=1e-3)
    assert result.level_stats["l3"] == 3
    assert result.timing.l3_ms > 0
    assert result.warnings == ()


async def test_it_is_off_by_default(vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, setting a model makes every search slower without anybody asking."""
    await add(vision, 1)
    monkeypatch.setattr(learned, "embed", die)

    result = await find(vision, 1, SearchParams())

    assert SearchParams().enable_ml is False
    assert "l3" not in result.level_stats
    assert "l3" not in result.duplicates[0].levels
    assert result.timing.l3_ms == 0
    assert result.warnings == ()


async def test_a_candidate_of_other_levels_shows_its_likeness(vision: EmbeddedVision) -> None:
    """If this fails, nobody can see how good the model is on drawings that were found anyway."""
    await add(vision, 1)

    (match,) = (await find(vision, 1)).duplicates

    assert match.levels["l2"].score > 0
    assert match.levels["l3"].score == pytest.approx(1, abs=1e-3)


async def test_a_drawing_of_the_index_finds_its_like(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the query itself takes the only place of what the model finds."""
    added = await add(vision, 1)
    await vision.add("tenant", drawing_file(plan(1, compression=1), "again.png"))

    async def nothing(*_: object, **__: object) -> list[Candidate]:
        return []

    monkeypatch.setattr(Index, "candidates", nothing)
    for mode in (Mode.BALANCED, Mode.PRECISE):
        monkeypatch.setitem(effort.EFFORTS, mode, evolve(effort.EFFORTS[mode], by_l3=1))
    found = await vision.neighbours("tenant", added.drawing_id, WITH_ML)

    assert names(found) == ["again.png"]


# It never decides


@pytest.mark.usefixtures("blind")
async def test_what_it_finds_alike_is_no_match_unless_verified(vision: EmbeddedVision) -> None:
    """If this fails, sheets that share a frame are called similar because a network says so."""
    await add(vision, 1)
    await add(vision, 2)

    result = await find(vision, 9)

    assert result.level_stats["l3"] == 2
    assert result.level_stats["l4"] == 2  # they were looked at
    assert names(result) == []


@pytest.mark.usefixtures("blind")
async def test_without_a_verification_it_gives_no_verdict(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the same picture by L3 alone is called a duplicate when verification crashes."""
    await add(vision, 1)
    monkeypatch.setattr(search, "verify_batch", die)

    result = await find(vision, 1)

    assert names(result) == []
    assert result.warnings[0].startswith("1 candidates could not be verified")


@pytest.mark.parametrize("l3", [0.0, 0.5, 1.0])
def test_its_score_counts_in_no_judgement(l3: float) -> None:
    """If this fails, similarity, confidence or verdict of a match depend on the model."""
    seen = judge(Candidate(key=1, l3=l3), None, WITH_ML, same_bytes=False)
    plain = judge(Candidate(key=1), None, WITH_ML, same_bytes=False)

    assert seen.verdict is Verdict.DIFFERENT
    assert evolve(seen, levels=plain.levels) == plain


@pytest.mark.parametrize(
    "params",
    [SearchParams(enable_ml=True, mode=Mode.FAST), SearchParams(enable_ml=True, enable_geometric=False)],
)
async def test_where_nothing_is_verified_it_is_not_asked(
    vision: EmbeddedVision, params: SearchParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, `fast` waits for a model whose candidates nothing can verify."""
    await add(vision, 1)
    monkeypatch.setattr(learned, "embed", die)

    result = await find(vision, 1, params)

    assert result.warnings == (NO_VERIFICATION,)
    assert result.level_stats["l3"] == 0
    assert names(result) == ["plan-1.png"]


def test_its_candidates_come_last_and_do_not_take_the_places_of_others() -> None:
    """If this fails, what the fingerprints find is verified later, or not at all, because of L3."""
    named = [Candidate(key=1, l2=0.9), Candidate(key=2, l2=0.1)]

    candidates = with_alike(named, {2: 0.5, 4: 0.9, 3: 0.8})

    assert [(one.key, one.l3) for one in candidates] == [(1, None), (2, 0.5), (4, 0.9), (3, 0.8)]
    assert [one.key for one in most_alike(candidates, candidates[:1], 2)] == [4, 3]
    assert [one.key for one in most_alike(candidates, candidates[:1], 9)] == [4, 3, 2]


# Vectors come and go with drawings


async def test_an_index_without_vectors_is_searched_and_rebuilt(
    directory: Path, shades: Model, vision: EmbeddedVision, blind: None
) -> None:
    """If this fails, a model can only be used by those who index everything again."""
    async with EmbeddedVision(directory, limits=LIMITS) as before:
        await add(before, 1)
        await add(before, 2)
    early = await find(vision, 1)
    rebuilt = await vision.rebuild("tenant")
    late = await find(vision, 1)

    assert names(early) == []
    assert early.warnings[0].startswith("2 of 2 drawings have no vector")
    assert rebuilt.success
    assert stored(directory) == 2
    assert names(late) == ["plan-1.png"]
    assert late.warnings == ()


async def test_rebuild_asks_the_model_only_for_what_it_has_not_made(
    vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, every rebuild takes the time of the whole model again."""
    await add(vision, 1)
    monkeypatch.setattr(learned, "embed", die)

    assert (await vision.rebuild("tenant")).success


async def test_a_rebuild_whose_model_fails_says_so_and_renews_the_rest(
    directory: Path, vision: EmbeddedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a broken model keeps an index from being rebuilt, or nobody learns of it."""
    async with EmbeddedVision(directory, limits=LIMITS) as before:
        await add(before, 1)
    monkeypatch.setattr(learned, "embed", die)

    rebuilt = await vision.rebuild("tenant")

    assert not rebuilt.success
    assert rebuilt.drawings == 1
    assert "learned embeddings were not all made" in rebuilt.message


@pytest.mark.usefixtures("blind")
async def test_a_removed_drawing_takes_its_vector_along(directory: Path, vision: EmbeddedVision) -> None:
    """If this fails, what a customer removed stays on the disk, and is named to others."""
    added = await add(vision, 1)
    assert names(await find(vision, 1)) == ["plan-1.png"]
    assert stored(directory) == 1

    await vision.remove("tenant", added.drawing_id)

    assert stored(directory) == 0
    assert names(await find(vision, 1)) == []


@pytest.mark.usefixtures("blind")
async def test_two_processes_with_two_models_share_an_index(
    directory: Path, vision: EmbeddedVision, tmp_path: Path
) -> None:
    """If this fails, vectors of one model are compared with those of another, of another length."""
    await add(vision, 1)
    other = open_model(model(tmp_path / "other.onnx", pool=16))
    async with EmbeddedVision(directory, limits=LIMITS, model=other) as beside:
        await add(beside, 2)

        assert names(await find(vision, 1)) == ["plan-1.png"]
        assert names(await find(vision, 2)) == []
        assert names(await find(beside, 2)) == ["plan-2.png"]
        await beside.rebuild("tenant")
        assert names(await find(beside, 1)) == ["plan-1.png"]
        result = await find(vision, 1)
        assert names(result) == []
        assert result.warnings[0].startswith("2 of 2 drawings have no vector")


# What goes wrong


async def test_a_model_changed_while_running_is_said_and_stops_nothing(
    directory: Path, vision: EmbeddedVision, tmp_path: Path
) -> None:
    """If this fails, replacing the model's file makes every search and every addition fail."""
    model(tmp_path / "model.onnx", pool=4)

    added = await add(vision, 1)
    result = await find(vision, 1)

    assert added.added
    assert "DEDUP2D_ML_MODEL was changed" in added.warnings[0]
    assert stored(directory) == 0
    assert names(result) == ["plan-1.png"]
    assert "DEDUP2D_ML_MODEL was changed" in result.warnings[0]


async def test_a_model_that_hangs_is_ended(
    directory: Path, shades: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, one picture on which a model never ends blocks a service for good."""
    async with EmbeddedVision(directory, limits=LIMITS, model=shades) as made:
        assert made._learned is not None
        made._learned._seconds = 0.3
        monkeypatch.setattr(learned, "embed", hang)
        added = await add(made, 1)
        result = await find(made, 1)

    assert "longer than 0.3 s" in added.warnings[0]
    assert "longer than 0.3 s" in result.warnings[0]
    assert names(result) == ["plan-1.png"]


async def test_a_search_that_wants_a_model_where_none_is_set_is_told(directory: Path) -> None:
    """If this fails, a caller believes that a model was asked."""
    async with EmbeddedVision(directory, limits=LIMITS) as plain:
        await add(plain, 1)
        result = await find(plain, 1)

    assert result.warnings == (NO_MODEL,)
    assert names(result) == ["plan-1.png"]


# The setting


def settings(path: Path) -> Settings:
    return evolve(Settings.from_environment({}), data_dir=path.parent, ml_model=path)


async def test_a_wrong_model_stops_the_start_and_says_what_is_needed(tmp_path: Path) -> None:
    """If this fails, an operator learns of a wrong model from the warnings of searches."""
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no model")

    with pytest.raises(ConfigurationError, match="one ONNX file") as caught:
        build_embedded(settings(wrong))

    assert caught.value.name == "DEDUP2D_ML_MODEL"
    assert "this one cannot be loaded" in str(caught.value)


async def test_a_model_that_exceeds_the_limits_of_children_is_refused(tmp_path: Path) -> None:
    """If this fails, a model too large for children stops the start, or each child dies of it later."""
    with pytest.raises(ValueError, match="cannot be used: it took longer than"):
        await opened(model(tmp_path / "model.onnx"), evolve(LIMITS, max_seconds=0.01))


def test_without_its_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an operator without onnxruntime sees a traceback, or installs the wrong extra."""
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('hidden')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(MissingExtraError) as caught:
        build_embedded(settings(model(tmp_path / "model.onnx")))

    assert caught.value.extra == "ml"


async def test_the_setting_reaches_the_engine(tmp_path: Path, blind: None) -> None:
    """If this fails, DEDUP2D_ML_MODEL has no effect."""
    async with build_embedded(settings(model(tmp_path / "model.onnx"))) as made:
        await add(made, 1)
        assert names(await find(made, 1)) == ["plan-1.png"]
