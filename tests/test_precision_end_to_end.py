"""Geometry with real searches: the embedded engine and a vision server, at once and as jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dedup2d_http.routing import PREFIX
from tests.drawings import revised_png, small_dxf, small_png, small_tiff
from tests.geometry_support import plate
from tests.serving import Served, serving, vision_serving

OWN = {"DEDUP2D_ENGINE_PROCESSES": "1", "DEDUP2D_FORCED_ASYNC_ON_PRECISION": "0"}
QUERY = small_png("flange", 1, long_side=1200)
DRAWINGS = {
    # The pictures put the copy first; by geometry a hole of it was moved, and the revision is what was meant.
    "copy.png": (small_png("flange", 1), plate(hole=(21.0, 25.0))),
    "revision.png": (revised_png("flange", 1), plate(turned=True)),
    "scan.tiff": (small_tiff("flange", 1), None),
    "other.dxf": (small_dxf("bracket", 2), None),
}


@pytest.fixture(scope="module", params=["embedded", "vision server"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with an index, on its own engine or on a vision server."""
    folder = tmp_path_factory.mktemp("precision")
    if request.param == "embedded":
        with filled(folder / "service", OWN) as served:
            yield served
        return
    (folder / "vision").mkdir()
    with (
        vision_serving(folder / "vision" / "data", {"DEDUP2D_ENGINE_PROCESSES": "1"}) as vision,
        filled(folder / "service", {**OWN, "DEDUPCAD_VISION_URL": vision.url}) as served,
    ):
        yield served


@contextmanager
def filled(folder: Path, variables: dict[str, str]) -> Iterator[Served]:
    """Serve an index of `DRAWINGS`."""
    folder.mkdir()
    with serving(folder / "data", variables) as served:
        with served.client() as client:
            for name, (drawing, geometry) in DRAWINGS.items():
                parts: dict[str, Any] = {"file": (name, drawing)}
                if geometry is not None:
                    parts["geom_json"] = geometry
                added = client.post(f"{PREFIX}/index/add", files=parts)
                assert added.status_code == 200, added.text
        yield served


def search(client: httpx.Client, *, job: bool, with_geometry: bool = True, **query: str) -> dict[str, Any]:
    """Search at once or as a job, and return the result."""
    parts: dict[str, Any] = {"file": ("query.png", QUERY)}
    if with_geometry:
        parts["geom_json"] = plate()
    more = {"async": "true"} if job else {}
    answer = client.post(f"{PREFIX}/search", params={**query, **more}, files=parts)
    if not job:
        assert answer.status_code == 200, answer.text
        return dict(answer.json())
    assert answer.status_code == 202, answer.text
    done = client.get(answer.json()["poll_url"], headers={"Prefer": "wait=30"}).json()
    assert done["status"] == "completed", done
    return dict(done["result"])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("job", [False, True])
def test_geometry_decides_where_pictures_cannot(service: Served, job: bool) -> None:
    """If this fails, a moved hole is a duplicate with one of the engines, or in one of the ways to search."""
    with service.client() as client:
        plain = search(client, job=job, with_geometry=False)
        fused = search(client, job=job)

    seen = [each["file_name"] for each in (*plain["duplicates"], *plain["similar"])]
    assert set(seen[:2]) == {"copy.png", "scan.tiff"}
    assert "revision.png" in seen
    matches = {each["file_name"]: each for each in (*fused["duplicates"], *fused["similar"])}
    assert list(matches) == ["revision.png", "copy.png"]
    revision, copy = matches.values()
    assert (revision["relation"], revision["precision_score"]) == ("identical", pytest.approx(1.0))
    assert (copy["relation"], copy["verdict"]) == ("revision", "similar")
    assert copy["precision_score"] < 1
    assert copy["precision_diff"]["counts"] == {"entities.moved": 1}
    for each in matches.values():
        wanted = 0.3 * each["visual_similarity"] + 0.7 * each["precision_score"]
        assert each["similarity"] == pytest.approx(wanted)
        assert each["levels"]["l4"]["score"] == each["precision_score"]
    scan = next(each for each in fused["filtered"] if each["file_name"] == "scan.tiff")
    assert scan["similarity"] == pytest.approx(0.3 * scan["visual_similarity"])
    assert "precision_verified:2" in fused["warnings"]
    assert any(each.startswith("precision_missing_geom_json:") for each in fused["warnings"])
    assert fused["timing"]["precision_ms"] > 0
    assert fused["timing"]["l4_ms"] >= fused["timing"]["precision_ms"]


@pytest.mark.timeout(120)
def test_geometry_of_a_dxf_is_stored_and_goes_with_it(service: Served) -> None:
    """If this fails, geometry is not taken from a DXF with one of the engines, or stays behind it."""
    with service.client() as client:
        added = client.post(f"{PREFIX}/index/add", files={"file": ("a.dxf", small_dxf("shaft", 3))}).json()
        there = client.get(f"{PREFIX}/geom/{added['file_hash']}/exists").json()
        client.delete(f"{PREFIX}/index/drawings/{added['drawing_id']}")
        gone = client.get(f"{PREFIX}/geom/{added['file_hash']}/exists").json()

    assert (there["exists"], gone["exists"]) == (True, False)
