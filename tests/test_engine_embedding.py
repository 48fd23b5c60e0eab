"""L3: what models are taken, what they are shown and give, and the vectors of an index in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dedup2d.engine import embedding
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.clean import encode_ink
from dedup2d.engine.embedding import Model, embed, open_model, picture_of
from dedup2d.engine.records import FileRecord, SheetRecord, Vector
from dedup2d.engine.vectors import LiveVectors
from dedup2d.errors import InternalError, UnreadableDrawingError

from .onnx_models import model

VERSION = 1
MODEL = Model("model.onnx", "digest", 1, 8, 8, 3)


@pytest.fixture(autouse=True)
def _no_session_of_another_test() -> None:
    embedding._loaded.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(tmp_path / "catalogue.sqlite3", fingerprint_version=VERSION)
    yield made
    made.close()


def ink(*, left: int = 40, width: int = 200, height: int = 100) -> np.ndarray:
    made = np.zeros((height, width), np.uint8)
    made[20:80, left : left + 8] = 255
    return made


def vector_of(picture: np.ndarray, made: Model) -> np.ndarray:
    (data,) = embed((encode_ink(picture),), made)
    assert data is not None
    return np.frombuffer(data, "<f2").astype(np.float64)


def scaled(by: float) -> list[onnx.NodeProto]:
    """Return a head that multiplies by *by*, a float32."""
    factor = helper.make_tensor("by", TensorProto.FLOAT, [1], [by])
    return [
        helper.make_node("Constant", [], ["by"], value=factor),
        helper.make_node("Mul", ["flat", "by"], ["vector0"]),
    ]


# What models are taken


def test_a_model_of_one_size_and_one_of_any_are_taken(path: Path) -> None:
    """If this fails, models as torchvision and timm export them cannot be used."""
    fixed = open_model(model(path, pixels=(1, 3, 96, 64), pool=32))
    free = open_model(model(path, pixels=("batch", 1, "height", "width"), pool=32))

    assert (fixed.channels, fixed.height, fixed.width, fixed.dimensions) == (3, 96, 64, 18)
    assert (free.channels, free.height, free.width, free.dimensions) == (1, 224, 224, 49)
    assert fixed.digest != free.digest


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ({"pixels": (4, 1, 64, 64)}, "takes [4, 1, 64, 64]"),
        ({"pixels": (1, 64, 64, 3)}, "takes [1, 64, 64, 3]"),
        ({"pixels": (1, 1, 64, 2048)}, "takes pictures of 2048 x 64 pixels"),
        ({"outputs": 2}, "has 1 inputs and 2 outputs"),
        ({"pool": 64}, "gives (1, 1), which is no such vector"),
        ({"pool": 1, "pixels": (1, 3, 64, 64)}, "gives (1, 12288), which is no such vector"),
        ({"head": [helper.make_node("Shape", ["flat"], ["vector0"])]}, "cannot be loaded: "),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_model_that_does_not_fit_is_refused_with_the_reason(
    path: Path, shape: dict[str, object], why: str
) -> None:
    """If this fails, a wrong model is noticed only by searches that find nothing, or fill the index."""
    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        open_model(model(path, **shape))  # type: ignore[arg-type]  # any of its keywords


def truncated(path: Path) -> None:
    path.write_bytes(model(path).read_bytes()[:100])


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "cannot be read (no such file or directory)"),
        (Path.mkdir, "is not a regular file"),
        (pipe, "is not a regular file"),
        (Path.touch, "cannot be loaded: "),
        (truncated, "cannot be loaded: "),
    ],
    ids=["none", "directory", "pipe", "empty", "truncated"],
)
def test_what_is_no_model_is_refused_with_the_reason(
    path: Path, make: Callable[[Path], None], why: str
) -> None:
    """If this fails, a wrong path makes the start hang or end in a traceback."""
    make(path)

    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        open_model(path)


def test_weights_outside_of_the_file_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a model's weights may change and the index go on as if they had not."""
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "weights")
    head = [helper.make_node("MatMul", ["flat", "weights"], ["vector0"])]
    whole = onnx.load(model(path, head=head))
    whole.graph.initializer.append(weights)
    onnx.save_model(whole, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    monkeypatch.chdir(path.parent)  # where a session made of bytes would look

    with pytest.raises(ValueError, match="cannot be loaded"):
        open_model(path)


# What a model is shown


def test_a_sheet_is_shown_whole_black_on_white_in_the_middle() -> None:
    """If this fails, models see sheets distorted, cut or as negatives, unlike anything they know."""
    shown = picture_of(np.full((50, 100), 255, np.uint8), Model("", "", 1, 64, 64, 3))

    black, white = (0 - 0.449) / 0.226, (1 - 0.449) / 0.226
    assert shown.shape == (1, 1, 64, 64)
    assert np.allclose(shown[0, 0, 16:48], black, atol=1e-5)
    assert np.allclose(shown[0, 0, :16], white, atol=1e-5)
    assert np.allclose(shown[0, 0, 48:], white, atol=1e-5)


def test_each_colour_is_normalised_as_in_imagenet() -> None:
    """If this fails, models of torchvision and timm get colours that they were not trained with."""
    shown = picture_of(np.zeros((10, 10), np.uint8), Model("", "", 3, 8, 8, 3))

    assert np.allclose(shown[0, :, 0, 0], [2.2489, 2.4286, 2.64], atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1)])
def test_any_sheet_fits(shape: tuple[int, int]) -> None:
    """If this fails, a long drawing crashes the model."""
    assert picture_of(np.zeros(shape, np.uint8), MODEL).shape == (1, 1, 8, 8)


# What a model gives


def test_vectors_have_length_1_and_tell_pictures_apart(path: Path) -> None:
    """If this fails, likeness is no cosine, or all drawings are alike."""
    made = open_model(model(path))
    one, again, other = (vector_of(picture, made) for picture in (ink(), ink(), ink(left=140)))

    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-3)
    assert one @ again == pytest.approx(1, abs=1e-3)
    assert one @ other < one @ again


@pytest.mark.parametrize("by", [0.0, float("nan"), float("inf")])
def test_numbers_without_a_direction_are_like_nothing(path: Path, by: float) -> None:
    """If this fails, a model that overflows puts not-a-number into answers and into the index."""
    made = open_model(model(path, head=scaled(by)))

    assert not vector_of(ink(), made).any()


@pytest.mark.parametrize("by", [1e38, 1e-38])
def test_very_large_and_small_numbers_keep_their_direction(path: Path, by: float) -> None:
    """If this fails, the length of a vector overflows and the drawing is like nothing."""
    made = open_model(model(path, head=scaled(by)))
    plain = open_model(model(path.with_name("plain.onnx")))

    assert vector_of(ink(), made) @ vector_of(ink(), plain) == pytest.approx(1, abs=1e-3)


def test_a_damaged_picture_gives_nothing_and_harms_no_other(path: Path) -> None:
    """If this fails, one damaged picture leaves all that are asked with it without a vector."""
    found = embed((b"damaged", encode_ink(ink())), open_model(model(path)))

    assert found[0] is None
    assert found[1] is not None


def test_a_model_changed_on_disk_is_not_used(path: Path) -> None:
    """If this fails, vectors of two models are mixed under one name, and likeness means nothing."""
    made = open_model(model(path))
    model(path, pool=4)

    with pytest.raises(InternalError, match="DEDUP2D_ML_MODEL was changed"):
        embed((encode_ink(ink()),), made)


def test_a_model_that_vanished_is_not_used(path: Path) -> None:
    """If this fails, a deleted model ends in a traceback."""
    made = open_model(model(path))
    path.unlink()

    with pytest.raises(InternalError, match="restart"):
        embed((encode_ink(ink()),), made)


def test_a_vector_of_another_length_is_refused(path: Path) -> None:
    """If this fails, a model whose output depends on the picture makes searches crash."""
    bright = [
        helper.make_node("Relu", ["flat"], ["bright"]),
        helper.make_node("Compress", ["bright", "which"], ["some"], axis=1),
        helper.make_node("Identity", ["some"], ["vector0"]),
    ]
    which = [
        helper.make_node("Constant", [], ["none"], value_float=-1.9),
        helper.make_node("Greater", ["flat", "none"], ["mask"]),
        helper.make_node("Constant", [], ["all"], value_ints=[-1]),
        helper.make_node("Reshape", ["mask", "all"], ["which"]),
    ]
    made = open_model(model(path, head=[*which, *bright]))
    assert made.dimensions == 64  # of an even grey

    with pytest.raises(UnreadableDrawingError, match="where it gave 64"):
        embed((encode_ink(np.full((64, 32), 255, np.uint8)),), made)


def test_a_model_takes_one_thread(path: Path) -> None:
    """If this fails, each child takes all processors, and several slow each other down."""
    options = embedding._loaded(open_model(model(path))).get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


# The vectors of an index


def data(*values: float) -> bytes:
    return np.array(values, "<f2").tobytes()


def put(catalogue: Catalogue, number: int, values: bytes | None, *, of: str = MODEL.digest) -> int:
    sheet = SheetRecord(
        page=1,
        sheet="",
        format="png",
        width=10,
        height=10,
        fingerprint_version=VERSION,
        fingerprint=b"fingerprint",
        ink=b"ink",
        vector=None if values is None else Vector(of, values),
    )
    file = FileRecord(file_hash=f"{number:064x}", file_name=f"{number}.png", size=1)
    (name,), _ = catalogue.add(file, [sheet])
    return catalogue.key_of(name)


def caught_up(vectors: LiveVectors, *, limit: int = 2000) -> LiveVectors:
    while vectors.catch_up(limit=limit):
        pass
    return vectors


def remove(catalogue: Catalogue, key: int) -> None:
    catalogue.remove(catalogue.drawings([key])[key].drawing_id)


def test_the_most_alike_come_beside_those_that_are_named(catalogue: Catalogue) -> None:
    """If this fails, what L3 brings to verification is not what the model finds most alike."""
    near, far, middle, opposite = (
        put(catalogue, number, data(*values))
        for number, values in enumerate([(1, 0, 0), (0, 1, 0), (0.8, 0.6, 0), (-1, 0, 0)])
    )
    vectors = caught_up(LiveVectors(catalogue, MODEL))

    alike = vectors.nearest(data(1, 0, 0), {far, 999}, 1)
    rest = vectors.nearest(data(1, 0, 0), (), 10)

    assert alike == {far: 0, near: 1}
    assert list(rest) == [near, middle]
    assert rest[middle] == pytest.approx(0.8, abs=1e-3)
    assert vectors.nearest(data(1, 0, 0), {opposite}, 0) == {opposite: 0}


def test_an_empty_index_is_asked_without_harm(catalogue: Catalogue) -> None:
    """If this fails, the first search of a tenant crashes."""
    assert caught_up(LiveVectors(catalogue, MODEL)).nearest(data(1, 0, 0), (), 5) == {}


@pytest.mark.parametrize("bad", [data(1, 0), b"", b"odd", data(float("nan"), 0, 0), data(float("inf"), 0, 0)])
def test_damaged_vectors_are_left_out(catalogue: Catalogue, bad: bytes) -> None:
    """If this fails, one damaged row makes searches crash, or answers hold not-a-number."""
    put(catalogue, 1, bad)
    good = put(catalogue, 2, data(1, 0, 0))
    vectors = caught_up(LiveVectors(catalogue, MODEL))

    assert len(vectors) == 1
    assert vectors.nearest(data(1, 0, 0), (), 5) == {good: 1}


def test_vectors_of_another_model_are_left_out(catalogue: Catalogue) -> None:
    """If this fails, after a change of the model likeness is that of apples and pears."""
    put(catalogue, 1, data(1, 0, 0), of="another")
    put(catalogue, 2, None)

    assert len(caught_up(LiveVectors(catalogue, MODEL))) == 0


def test_many_come_and_go(catalogue: Catalogue) -> None:
    """If this fails, a removed drawing is still named, or another one under its key."""
    rng = np.random.default_rng(3)
    directions = rng.standard_normal((300, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    keys = [put(catalogue, number, data(*one)) for number, one in enumerate(directions)]
    vectors = caught_up(LiveVectors(catalogue, MODEL), limit=70)
    for key in keys[::3]:
        remove(catalogue, key)
    caught_up(vectors)

    cosines = np.clip(directions @ directions[1], 0, 1)
    kept = {key: cosines[number] for number, key in enumerate(keys) if number % 3}
    found = vectors.nearest(data(*directions[1]), kept, 0)
    assert len(vectors) == 200
    assert found == pytest.approx(kept, abs=2e-3)


def test_what_another_process_changes_is_taken_over(catalogue: Catalogue, tmp_path: Path) -> None:
    """If this fails, a service does not find what a command beside it added, or finds what it removed."""
    gone = put(catalogue, 1, data(1, 0, 0))
    vectors = caught_up(LiveVectors(catalogue, MODEL))
    other = Catalogue(tmp_path / "catalogue.sqlite3", fingerprint_version=VERSION)
    added = put(other, 2, data(0, 1, 0))
    remove(other, gone)

    assert caught_up(vectors).nearest(data(1, 1, 0), (), 5).keys() == {added}
    other.replace_fingerprints({added: b"new"}, {added: Vector(MODEL.digest, data(0, 0, 1))})
    assert caught_up(vectors).nearest(data(0, 0, 1), (), 5) == {added: 1}
    other.replace_fingerprints({added: b"new"}, {added: Vector("another", data(0, 0, 1))})
    assert len(caught_up(vectors)) == 0
    other.close()


def test_after_a_long_sleep_all_is_read_anew(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a process that slept for long goes on naming drawings that are gone."""
    gone, stays = (put(catalogue, number, data(1, 0, 0)) for number in (1, 2))
    vectors = caught_up(LiveVectors(catalogue, MODEL))
    monkeypatch.setattr("dedup2d.engine.rows.KEPT_REMOVALS", 0)
    remove(catalogue, gone)

    assert caught_up(vectors).nearest(data(1, 0, 0), (), 5) == {stays: 1}
