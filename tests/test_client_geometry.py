"""`dedup2d.client` with geometry, presets and configuration, against a real service on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup2d.client import ClientOptions, Dedup2DClient
from dedup2d.errors import InvalidGeometryError, InvalidParameterError
from dedup2d.presets import PRESETS
from dedup2d.types import Match, Relation, SearchParams, SearchResult, Source, Verdict
from tests.geometry_support import plate
from tests.http_support import KEY, PNG, bench, keyed, served


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_geometry_goes_with_drawings(tmp_path: Path) -> None:
    """If this fails, a program has no way to bring geometry but HTTP by hand."""
    path = tmp_path / "plate.json"
    path.write_bytes(plate(turned=True))
    async with (
        bench(keyed(), key=KEY) as api,
        served(api) as url,
        Dedup2DClient(ClientOptions(url=url, api_key=KEY)) as client,
    ):
        added = await client.add(PNG, file_name="a.png", geometry=path)
        there = await client.has_geometry(added.file_hash)
        match = Match(
            drawing_id="a",
            file_hash=added.file_hash,
            file_name="a.png",
            similarity=0.9,
            confidence=0.5,
            match_level=2,
            verdict=Verdict.SIMILAR,
            relation=Relation.SIMILAR,
        )
        api.vision.result = SearchResult(total_matches=1, similar=(match,))
        found = await client.search(PNG, geometry=plate())
        job = await client.submit(PNG, geometry=plate(radius=5.5), params=SearchParams(similar_threshold=0.5))
        final = await client.wait(job.job_id, timeout=30)
        score = await client.compare_geometry(plate(), path)
        version = SearchParams(precision_profile="version", precision_compute_diff=False)
        other = await client.compare_geometry(plate(), plate(radius=5.5), params=version)
        with pytest.raises(InvalidGeometryError, match="not JSON"):
            await client.search(PNG, geometry=b"{")
        with pytest.raises(InvalidParameterError, match="file_hash"):
            await client.has_geometry("x")

    assert there
    assert found.duplicates[0].precision_score == pytest.approx(1.0)
    assert job.geometry_hash is not None
    assert final.result is not None
    (changed,) = final.result.similar
    assert changed.precision_diff is not None
    assert changed.precision_diff.counts == {"entities.changed": 1}
    assert score.score == pytest.approx(1.0)
    assert other.score is not None
    assert 0 < other.score < 1
    assert other.diff is None


async def test_presets_and_configuration() -> None:
    """If this fails, a program cannot see or set how its tenant searches."""
    async with (
        bench(keyed(), key=KEY) as api,
        served(api) as url,
        Dedup2DClient(ClientOptions(url=url, api_key=KEY)) as client,
    ):
        presets = await client.presets()
        nothing = await client.config()
        config = await client.set_config({"max_results": 7, "ignore": ("frame",)}, preset="loose")
        found = await client.search(PNG)
        with pytest.raises(InvalidParameterError, match="max_results=0"):
            await client.set_config({"max_results": 0})
        kept = await client.config()
        gone = [await client.delete_config(), await client.delete_config()]

    assert presets == PRESETS
    assert nothing is None
    assert config is not None
    assert (config.preset, config.parameters) == ("loose", {"max_results": 7, "ignore": ("frame",)})
    assert kept == config
    assert found.effective_parameters["max_results"].source is Source.TENANT
    assert gone == [True, False]
