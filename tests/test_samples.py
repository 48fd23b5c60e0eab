"""Generated samples: reproducible, readable, and related as they say."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import numpy as np
import pytest

from dedup2d.errors import InvalidParameterError
from dedup2d.readers import Sheet, read
from dedup2d.samples import Sample, generate
from dedup2d.samples.parts import KINDS
from dedup2d.types import DrawingFile, Relation, SearchParams, SearchResult
from dedup2d.vision.embedded import EmbeddedVision
from tests import drawings

pytestmark = pytest.mark.once

ALL_KINDS = len(KINDS)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """One part of every kind with all its descendants."""
    return generate(tmp_path_factory.mktemp("samples"), seed=5, parts=ALL_KINDS)


@pytest.fixture(scope="module")
def sheets(samples: list[Sample]) -> dict[str, Sheet]:
    """What the readers make of each sample, which must be one sheet."""
    read_all = {sample.id: read(sample.path, sample.path.name) for sample in samples}
    assert all(len(found) == 1 for found in read_all.values())
    return {name: found[0] for name, found in read_all.items()}


def _hashes(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def _generate_elsewhere(directory: Path, hash_seed: str) -> dict[str, str]:
    code = "import sys; from pathlib import Path; from dedup2d.samples import generate;"
    code += "generate(Path(sys.argv[1]), seed=9, parts=2)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True, env=environment)
    return _hashes(directory)


def test_the_same_seed_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Without this a benchmark on samples measures another thing each time."""
    first = _generate_elsewhere(tmp_path / "a", "1")
    assert first == _generate_elsewhere(tmp_path / "b", "2")
    assert len(first) > 20


def test_another_seed_gives_other_parts(tmp_path: Path) -> None:
    """If seeds did nothing, every sample folder would hold the same few parts."""
    generate(tmp_path / "a", seed=0, parts=1)
    generate(tmp_path / "b", seed=1, parts=1)
    a, b = (set(_hashes(tmp_path / name).values()) for name in "ab")
    assert not a & b


def test_a_part_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    """A larger folder must extend a smaller one, so that results can be compared."""
    few = generate(tmp_path / "few", seed=3, parts=1)
    many = generate(tmp_path / "many", seed=3, parts=2)
    both = zip(few, many, strict=False)
    assert all(one.path.read_bytes() == other.path.read_bytes() for one, other in both)


def test_every_file_opens_with_the_readers_and_shows_something(
    samples: list[Sample], sheets: dict[str, Sheet]
) -> None:
    """A blank or unreadable sample would count as the engine's mistake."""
    for sample in samples:
        sheet = sheets[sample.id]
        ink = float(np.mean(sheet.raster < 128))
        assert 0.003 < ink < 0.2, sample.id
        assert sheet.format == sample.format, sample.id
        assert not sheet.warnings, sample.id


def test_vector_files_carry_texts_and_entities(samples: list[Sample], sheets: dict[str, Sheet]) -> None:
    """Text and geometry comparisons have nothing to work on if the drawings are mere outlines."""
    for sample in samples:
        sheet = sheets[sample.id]
        texts = {text.text.strip() for text in sheet.texts}
        if sample.format in {"dxf", "pdf"}:
            assert sample.path.name.split("_")[0].removesuffix(f".{sample.format}") in texts, sample.id
        if sample.format == "dxf":
            assert len(sheet.entities) > 50, sample.id


def test_all_formats_companies_and_relations_are_there(samples: list[Sample]) -> None:
    """The set must show everything that a reader or a relation can be tried on."""
    assert {sample.format for sample in samples} == {"dxf", "pdf", "png", "tiff"}
    assert len({sample.company for sample in samples}) == 2
    assert {sample.kind for sample in samples} == set(KINDS)
    expected = {None, *Relation} - {Relation.SIMILAR}
    assert {sample.relation for sample in samples} == expected


def test_the_truth_holds_in_the_bytes(samples: list[Sample]) -> None:
    """`exact` must be the same bytes, and nothing else may be."""
    by_id = {sample.id: sample for sample in samples}
    for sample in samples:
        same = sample.path.read_bytes() == by_id[sample.original].path.read_bytes()
        assert same == (sample.relation in {None, Relation.EXACT}), sample.id


def test_revisions_change_a_little_and_variants_a_lot(
    samples: list[Sample], sheets: dict[str, Sheet]
) -> None:
    """A revision without any change of ink, or one that redraws all, is no truth to measure by."""
    rasters = {
        sample.id: sheets[sample.id].raster < 128
        for sample in samples
        if sample.format == "pdf" and sample.transform in {"format", "revision", "variant"}
    }
    for part in range(ALL_KINDS):
        own = {name: ink for name, ink in rasters.items() if name.startswith(f"p{part:03}")}
        original = own.pop(f"p{part:03}-pdf")
        for name, ink in own.items():
            if ink.shape != original.shape:
                continue
            common = float((ink & original).sum() / (ink | original).sum())
            if "rev" in name:
                assert 0.55 < common < 0.995, name
            else:
                assert common < 0.9, name


def test_groups_hold_one_drawing_each(samples: list[Sample]) -> None:
    """Benchmarks count a match inside a group as right: variants in it would hide false duplicates."""
    for sample in samples:
        original = next(one for one in samples if one.id == sample.original)
        apart = sample.relation is Relation.VARIANT or sample.transform == "opposite"
        assert (sample.doc_group != original.doc_group) == apart, sample.id


def test_the_manifest_tells_the_truth(samples: list[Sample]) -> None:
    """The accuracy benchmark reads the manifest and the pairs, not the return value."""
    folder = samples[0].path.parent
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [sample.id for sample in samples]
    assert [row["relation"] for row in rows] == [sample.relation for sample in samples]
    assert all((folder / row["raw"]).is_file() for row in rows)
    assert all(row["render"] is None or row["render"].endswith(".png") for row in rows)
    pairs = [json.loads(line) for line in (folder / "natural_pairs.jsonl").read_text().splitlines()]
    ids = {row["id"] for row in rows}
    assert {pair["type"] for pair in pairs} == {"revision", "format", "resave"}
    assert all(pair["a"] in ids and pair["b"] in ids for pair in pairs)


def test_existing_files_are_not_overwritten_unasked(tmp_path: Path) -> None:
    """A user's own file of the same name must survive, and nothing may be half done."""
    generate(tmp_path, parts=1)
    precious = next(tmp_path.glob("*.dxf"))
    precious.write_text("mine")
    with pytest.raises(InvalidParameterError, match="or allow to overwrite"):
        generate(tmp_path, parts=3)
    assert precious.read_text() == "mine"
    assert len(list(tmp_path.glob("*.dxf"))) < 8
    generate(tmp_path, parts=1, overwrite=True)
    assert precious.read_text() != "mine"


def test_overwriting_replaces_links_and_follows_none(tmp_path: Path) -> None:
    """A planted link must not let the generator write elsewhere."""
    outside, inside = tmp_path / "outside", tmp_path / "in"
    outside.write_text("untouched")
    inside.mkdir()
    (inside / "manifest.jsonl").symlink_to(outside)
    generate(inside, parts=1, overwrite=True)
    assert outside.read_text() == "untouched"
    assert not (inside / "manifest.jsonl").is_symlink()


@pytest.mark.parametrize("parts", [0, -1, 1001])
def test_a_silly_number_of_parts_is_refused(tmp_path: Path, parts: int) -> None:
    """Zero parts would give an empty folder without a word; millions would fill the disk."""
    with pytest.raises(InvalidParameterError, match="1 to 1000"):
        generate(tmp_path / "new", parts=parts)
    assert not (tmp_path / "new").exists()


def test_a_directory_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """The user must be told what is wrong with the place, not shown a stack."""
    place = tmp_path / "taken"
    place.write_text("a file")
    with pytest.raises(InvalidParameterError, match="folder that can be made"):
        generate(place, parts=1)


def test_no_scratch_files_stay_behind(samples: list[Sample]) -> None:
    """Half-written leftovers would be indexed as drawings."""
    names = {path.name for path in samples[0].path.parent.iterdir()}
    assert names == {sample.path.name for sample in samples} | {"manifest.jsonl", "natural_pairs.jsonl"}


@pytest.mark.parametrize("part", drawings.PARTS)
def test_small_drawings_are_readable_in_every_format(part: str, tmp_path: Path) -> None:
    """Everybody's tests stand on these helpers."""
    made = {
        "png": drawings.small_png(part),
        "pdf": drawings.small_pdf(part),
        "dxf": drawings.small_dxf(part),
        "tiff": drawings.small_tiff(part),
        "svg": drawings.small_svg(part),
    }
    for name, data in made.items():
        path = tmp_path / f"drawing.{name}"
        path.write_bytes(data)
        (sheet,) = read(path, path.name)
        assert sheet.format == name
        assert float(np.mean(sheet.raster < 128)) > 0.003
    assert drawings.revised_png(part) != drawings.small_png(part)


def _file(path: Path) -> DrawingFile:
    data = path.read_bytes()

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    digest = hashlib.sha256(data).hexdigest()
    return DrawingFile(name=path.name, sha256=digest, size=len(data), open=chunks, path=path)


async def _first_answers(indexed: list[Sample], asked: list[Sample]) -> dict[str, SearchResult]:
    params = SearchParams(compute_diff=False)
    async with EmbeddedVision(None, processes=2) as vision:
        for sample in indexed:
            await vision.add("tests", _file(sample.path))
        return {sample.id: await vision.search("tests", _file(sample.path), params) for sample in asked}


@pytest.mark.timeout(180)
def test_the_engine_finds_the_original_of_every_copy(samples: list[Sample]) -> None:
    """If copies of clean generated drawings are not found, either they or the engine are broken."""
    indexed = [sample for sample in samples if sample.relation is None and sample.part < 4]
    wanted = {"scan", "photocopy", "turn90", "turn180", "turn270"}
    asked = [sample for sample in samples if sample.transform in wanted and sample.part < 4]
    names = {sample.id: sample.path.name for sample in indexed}
    answers = anyio.run(_first_answers, indexed, asked)
    missed = {}
    for sample in asked:
        result = answers[sample.id]
        best = [match.file_name for match in (*result.duplicates, *result.similar)][:1]
        if best != [names[sample.original]]:
            missed[sample.id] = best
    assert not missed
