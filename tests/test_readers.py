"""
Readers: what good files of each format come to.
"""

from __future__ import annotations

import gzip
import http.server
import io
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import ezdwg
import ezdxf
import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup2d.errors import (
    EmptyFileError,
    FileTooLargeError,
    ImageTooLargeError,
    UnreadableDrawingError,
    UnsupportedFormatError,
)
from dedup2d.readers import ReadLimits, Sheet, iterate, read, sniff
from tests import hostile


def read_bytes(directory: Path, data: bytes, limits: ReadLimits | None = None) -> list[Sheet]:
    return read(hostile.write(directory, "drawing", data), "drawing", limits)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def ink_box(raster: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of all that is dark."""
    rows, columns = np.nonzero(raster < 128)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


# --- what a file is ------------------------------------------------------------------------


GZIPPED_DXF = gzip.compress(hostile.dxf_text("").encode(), mtime=0)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (hostile.encoded("PNG"), "png"),
        (hostile.encoded("JPEG"), "jpeg"),
        (hostile.encoded("TIFF"), "tiff"),
        (hostile.pdf(), "pdf"),
        (b"\n junk \n" + hostile.pdf(), "pdf"),
        (hostile.dxf_text("").encode(), "dxf"),
        (b"999\nmade by hand\n  0\r\nSECTION\r\n", "dxf"),
        (GZIPPED_DXF, "dxf"),
        (b"AutoCAD Binary DXF\r\n\x1a\x00", "dxf"),
        (b"AC1032\x00\x00", "dwg"),
        (hostile.SVG.format("").encode(), "svg"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><!-- x --><svg:svg xmlns:svg='x'/>", "svg"),
        (hostile.SVG.format("").encode("utf-16"), "svg"),
    ],
)
def test_formats_are_told_by_content(data: bytes, found: str) -> None:
    """If this fails, drawings whose name has no or a wrong extension are refused."""
    assert sniff(data, "x.bin") == found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GIF89a....", "a GIF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"ISO-10303-21;", "STEP"),
        (b"hello", "plain text"),
        (b"\x1f\x8b\x08rubbish", "damaged gzip"),
        (gzip.compress(b"hello", mtime=0), "gzip of something other than a DXF"),
        (gzip.compress(GZIPPED_DXF, mtime=0), "gzip of something other than a DXF"),
    ],
)
def test_other_formats_are_refused_by_what_they_are(data: bytes, words: str) -> None:
    """If this fails, the sender of a GIF is told nothing that helps."""
    with pytest.raises(UnsupportedFormatError, match=words):
        sniff(data, "x.png")


def test_no_bytes_are_an_empty_file() -> None:
    """If this fails, an upload that broke off looks like an unknown format."""
    with pytest.raises(EmptyFileError):
        sniff(b"", "x.png")


def test_sniffing_needs_no_imaging_packages() -> None:
    """If this fails, a front end without the engine cannot refuse a bad upload."""
    code = "import sys; from dedup2d.readers.sniff import sniff; print(sniff(b'%PDF-1.4', 'x'));"
    code += "print(sorted({'numpy', 'cv2', 'PIL', 'ezdxf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[:2] == ["pdf", "[]"]


# --- pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_every_mode_gives_the_same_picture(mode: str, tmp_path: Path) -> None:
    """If this fails, one scanner's colour depth makes its drawings unlike all others."""
    grey = hostile.picture()
    image = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    )
    (sheet,) = read_bytes(tmp_path, saved(image, "PNG"))

    assert sheet.format == "png"
    np.testing.assert_allclose(sheet.raster, np.asarray(grey), atol=1)


def test_transparent_is_white(tmp_path: Path) -> None:
    """If this fails, drawings exported without a background turn black all over."""
    ink = np.asarray(hostile.picture())
    clear = np.dstack([np.zeros((*ink.shape, 3), np.uint8), 255 - ink])
    (sheet,) = read_bytes(tmp_path, saved(Image.fromarray(clear), "PNG"))

    np.testing.assert_allclose(sheet.raster, ink, atol=1)


def test_yellow_lines_on_white_stay_visible(tmp_path: Path) -> None:
    """If this fails, coloured layers vanish from pictures that a CAD program exported."""
    image = ImageOps.colorize(hostile.picture(), "yellow", "white")
    (sheet,) = read_bytes(tmp_path, saved(image, "PNG"))

    assert sheet.raster.min() < 10


def test_cmyk_jpeg_is_read_upright(tmp_path: Path) -> None:
    """If this fails, JPEGs from print shops come out inverted."""
    (sheet,) = read_bytes(tmp_path, saved(hostile.picture("RGB").convert("CMYK"), "JPEG", quality=95))

    assert float(np.median(sheet.raster)) > 250
    assert sheet.raster.min() < 30


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_exif_orientation_is_obeyed(kind: str, orientation: int, tmp_path: Path) -> None:
    """If this fails, photographed drawings lie on their side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = hostile.picture()
    image.paste(0, (30, 30, 90, 60))
    data = saved(image, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(image, "JPEG", exif=exif))))
    (sheet,) = read_bytes(tmp_path, data)

    assert sheet.raster.shape == expected.size[::-1]
    assert np.abs(sheet.raster.astype(int) - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("compression", ["group4", "group3", "tiff_lzw", "packbits", None])
def test_tiff_pages_of_one_bit(compression: str | None, tmp_path: Path) -> None:
    """If this fails, archives of scanned drawings cannot be read, or only their first pages."""
    pages = [hostile.picture("1"), hostile.picture("1", (500, 200)), hostile.picture("1")]
    data = saved(pages[0], "TIFF", compression=compression, save_all=True, append_images=pages[1:])
    sheets = read_bytes(tmp_path, data)

    assert [sheet.page for sheet in sheets] == [1, 2, 3]
    assert [sheet.raster.shape for sheet in sheets] == [(300, 400), (200, 500), (300, 400)]
    np.testing.assert_array_equal(sheets[1].raster, np.asarray(pages[1].convert("L")))


def test_large_pictures_shrink_and_thin_lines_survive(tmp_path: Path) -> None:
    """If this fails, one-pixel lines of a large plot fade away before they are compared."""
    large = np.full((6000, 8000), 255, np.uint8)
    large[3001, 500:7500] = 0
    (sheet,) = read_bytes(tmp_path, saved(Image.fromarray(large), "PNG"))

    assert sheet.raster.shape == (1500, 2000)
    assert sheet.raster[745:755, 1000].min() < 140


def test_pixels_are_checked_before_decoding(tmp_path: Path) -> None:
    """If this fails, a small file can claim any amount of memory."""
    with pytest.raises(ImageTooLargeError, match="400 x 300 pixels is above the limit of 1,000 pixels"):
        read_bytes(tmp_path, hostile.encoded("PNG"), ReadLimits(max_pixels=1000))


def test_bytes_are_checked_before_reading(tmp_path: Path) -> None:
    """If this fails, a file larger than memory is loaded."""
    with pytest.raises(FileTooLargeError, match="limit of 100 bytes"):
        read_bytes(tmp_path, hostile.encoded("PNG"), ReadLimits(max_bytes=100))


# --- PDF -----------------------------------------------------------------------------------


def test_pdf_gives_each_page_at_the_size_asked_for(tmp_path: Path) -> None:
    """If this fails, drawings behind the first page are never found."""
    sheets = read_bytes(tmp_path, hostile.pdf(pages=3), ReadLimits(raster_side=1000))

    assert [sheet.page for sheet in sheets] == [1, 2, 3]
    assert {sheet.raster.shape for sheet in sheets} == {(707, 1000)}
    assert ink_box(sheets[0].raster)[2] == pytest.approx(700 / 842 * 1000, abs=3)
    assert sheets[0].units_per_pixel == pytest.approx(842 * 25.4 / 72 / 1000)
    assert sheets[0].mm_per_pixel == sheets[0].units_per_pixel


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("box", ["0 0 842 595", "20 30 742 595", "-100 -50 842 595"])
def test_pdf_paths_lie_on_their_ink(tmp_path: Path, turn: int, box: str) -> None:
    """If this fails, PDFs are compared by lines that are not where the picture has them."""
    data = hostile.pdf(box=box).replace(b"/Contents", b"/Rotate %d /Contents" % turn)
    (sheet,) = read_bytes(tmp_path, data)
    dark = cv2.erode(sheet.raster, np.ones((3, 3), np.uint8))

    assert len(sheet.entities) == 2
    for entity in sheet.entities:
        for start, end in itertools.pairwise(entity.points):
            x, y = np.rint(start + (end - start) * np.linspace(0.05, 0.95, 20)[:, None]).astype(int).T
            assert (dark[y, x] < 200).all()


def test_pdf_words_have_their_places_and_turns(tmp_path: Path) -> None:
    """If this fails, a dimension changed in a PDF is looked for beside where it stands."""
    content = (
        b"BT /F1 20 Tf 100 200 Td (PART 4711) Tj ET BT /F1 20 Tf 0 1 -1 0 400 100 Tm (UPRIGHT) Tj ET"
        b" BT /F1 20 Tf 3 Tr 100 400 Td (HIDDEN) Tj ET"
    )
    sheet = read_bytes(tmp_path, hostile.pdf_with(content))[0]
    scale = 2000 / 842
    words = {word.text: word for word in sheet.texts}

    assert set(words) == {"PART", "4711", "UPRIGHT"}
    assert words["PART"].x == pytest.approx(100 * scale, abs=6)
    assert words["PART"].y == pytest.approx((595 - 200) * scale, abs=6)
    assert words["4711"].x > words["PART"].x + words["PART"].width
    assert words["UPRIGHT"].rotation == pytest.approx(90, abs=1)
    assert words["UPRIGHT"].x == pytest.approx(400 * scale, abs=6)
    assert words["UPRIGHT"].y == pytest.approx((595 - 100) * scale, abs=6)
    assert words["UPRIGHT"].width == pytest.approx(5 * 20 * scale, rel=0.2)


def test_pdf_with_too_many_paths_has_its_picture_only(tmp_path: Path) -> None:
    """If this fails, a map takes minutes to index."""
    content = b"0 0 m " + b"800 500 l 0 10 l " * 45_000 + b"S"
    sheet = read_bytes(tmp_path, hostile.pdf_with(content))[0]

    assert sheet.entities == ()
    assert ink_box(sheet.raster)[2] > 1000


def test_pdf_pages_come_one_by_one(tmp_path: Path) -> None:
    """If this fails, a document of 200 pages holds all of its pictures in memory."""
    sheets = iterate(hostile.write(tmp_path, "x.pdf", hostile.pdf(pages=200)), "x.pdf")

    assert isinstance(sheets, Iterator)
    assert next(sheets).page == 1


# --- DXF -----------------------------------------------------------------------------------


@pytest.fixture
def document() -> ezdxf.document.Drawing:
    return hostile.dxf_document()


def test_dxf_gives_ink_line_work_and_texts(document: ezdxf.document.Drawing, tmp_path: Path) -> None:
    """If this fails, search by geometry or by title block has nothing to go by."""
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert (sheet.format, sheet.name) == ("dxf", "Model")
    assert max(sheet.raster.shape) == 2000
    assert {entity.kind for entity in sheet.entities} == {"LWPOLYLINE", "CIRCLE"}
    (text,) = sheet.texts
    assert text.text == "PART 4711"
    left, _, right, bottom = ink_box(sheet.raster)
    assert sheet.units_per_pixel == pytest.approx(200 / (right - left), rel=0.01)
    assert text.height * sheet.units_per_pixel == pytest.approx(5, rel=0.2)
    assert bottom - text.y == pytest.approx(10 / sheet.units_per_pixel, abs=5)


@pytest.mark.parametrize(("unit", "millimetres"), [(4, 1.0), (1, 25.4), (6, 1000.0), (0, None), (99, None)])
def test_dxf_gives_millimetres_by_its_unit(
    document: ezdxf.document.Drawing, tmp_path: Path, unit: int, millimetres: float | None
) -> None:
    """If this fails, differences in a drawing in inches are given 25 times too small."""
    document.header["$INSUNITS"] = unit
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert sheet.units_per_pixel is not None
    expected = None if millimetres is None else pytest.approx(millimetres * sheet.units_per_pixel)
    assert sheet.mm_per_pixel == expected


@pytest.mark.parametrize(("unit", "millimetres"), [(1, 1.0), (0, 25.4)])
def test_a_layout_is_measured_on_its_paper(tmp_path: Path, unit: int, millimetres: float) -> None:
    """If this fails, differences on a plotted sheet are given in the wrong unit."""
    document = ezdxf.new("R2010")
    document.header["$INSUNITS"] = 6
    layout = document.layouts.get("Layout1")
    layout.add_line((0, 0), (200, 100))
    layout.dxf_layout.dxf.plot_paper_units = unit
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert sheet.units_per_pixel is not None
    assert sheet.mm_per_pixel == pytest.approx(millimetres * sheet.units_per_pixel)


@pytest.mark.parametrize(
    ("size", "view", "expected"),
    [
        ('width="100mm" height="50mm"', "0 0 1000 500", 100 / 2000),
        ('width="10cm" height="5cm"', None, 100 / 2000),
        ('width="1000" height="500"', "0 0 1000 500", None),
        ("", "0 0 1000 500", None),
    ],
)
def test_svg_gives_millimetres_where_its_page_has_them(
    tmp_path: Path, size: str, view: str | None, expected: float | None
) -> None:
    """If this fails, pixels of a browser are taken for millimetres of paper."""
    box = "" if view is None else f'viewBox="{view}"'
    lines = '<path d="M1 1 L370 180 M1 180 L900 1" stroke="black"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box}>{lines}</svg>'
    (sheet,) = read_bytes(tmp_path, svg.encode())

    assert sheet.mm_per_pixel == (None if expected is None else pytest.approx(expected, rel=0.01))


def test_svg_seen_from_closer_by_has_smaller_pixels(tmp_path: Path) -> None:
    """If this fails, differences of a small drawing on a large page are given far too large."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="400mm" height="400mm" viewBox="0 0 400 400">'
        '<rect x="10" y="10" width="100" height="50" fill="none" stroke="black"/></svg>'
    )
    (sheet,) = read_bytes(tmp_path, svg.encode())
    left, _, right, _ = ink_box(sheet.raster)

    assert sheet.mm_per_pixel is not None
    assert (right - left) * sheet.mm_per_pixel == pytest.approx(101, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "dpi"), [("PNG", 300), ("JPEG", 300), ("TIFF", 300), ("PNG", 72), ("PNG", None)]
)
def test_a_scan_gives_millimetres_by_its_resolution(tmp_path: Path, kind: str, dpi: int | None) -> None:
    """If this fails, differences on scans are given wrong by the scale at which they were read."""
    page = Image.new("L", (3000, 2000), 255)
    page.paste(0, (500, 500, 2500, 520))
    path = tmp_path / f"scan.{kind.lower()}"
    page.save(path, kind, **({"dpi": (dpi, dpi)} if dpi else {}))
    (sheet,) = read(path, path.name)

    expected = 25.4 / 300 * 3000 / 2000
    assert sheet.mm_per_pixel == (pytest.approx(expected, rel=0.01) if dpi == 300 else None)


def test_dxf_line_work_lies_on_its_ink(document: ezdxf.document.Drawing, tmp_path: Path) -> None:
    """If this fails, line work and picture of one sheet contradict each other."""
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))
    points = np.concatenate([entity.points for entity in sheet.entities])
    columns, rows = np.rint(points).astype(int).T
    near = cv2.erode(sheet.raster, np.ones((3, 3), np.uint8))

    assert (near[rows, columns] < 128).all()


@pytest.mark.parametrize("version", ["R12", "R2000", "R2004", "R2007", "R2010", "R2013", "R2018"])
def test_dxf_of_every_version_gives_the_same_picture(version: str, tmp_path: Path) -> None:
    """If this fails, saving a drawing for an older program makes it another drawing."""
    (old,) = read_bytes(tmp_path, hostile.dxf_bytes(hostile.dxf_document(version)))
    (new,) = read_bytes(tmp_path, hostile.dxf_bytes(hostile.dxf_document("R2010")))

    assert old.raster.shape == new.raster.shape
    assert (np.abs(old.raster.astype(int) - new.raster) > 60).mean() < 1e-3


@pytest.mark.parametrize(
    ("escaped", "letters"),
    [
        ("\\U+220545,6", "\N{EMPTY SET}45,6"),
        ("\\U+039b1", "\N{GREEK CAPITAL LETTER LAMDA}1"),
        ("\\M+182A0", "\N{HIRAGANA LETTER A}"),
        ("A\\U+D83D\\U+DE00", "A\N{GRINNING FACE}"),
        ("A\\U+D83D", "A\ufffd"),
        ("\\U+001B[31m\\M+50000\\U+000A", "\ufffd[31m\ufffd\ufffd\ufffd"),
        ("A\\U+22G5 \\U", "A\\U+22G5 \\U"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_letters_that_a_dxf_escapes_are_read(
    escaped: str, letters: str, binary: bool, tmp_path: Path
) -> None:
    """If this fails, a diameter sign saved for an older program makes it another drawing."""
    sheets = []
    for words in (escaped, letters):
        document = hostile.dxf_document()
        document.modelspace().add_text(words, height=9).set_placement((40, 40))
        path = tmp_path / "drawing.dxf"
        document.saveas(path, fmt="bin" if binary else "asc")
        sheets += read(path, path.name)

    assert letters in {text.text for text in sheets[0].texts}
    assert [text.text for text in sheets[0].texts] == [text.text for text in sheets[1].texts]
    np.testing.assert_array_equal(sheets[0].raster, sheets[1].raster)


def test_control_characters_are_marked_in_a_damaged_dxf_too(tmp_path: Path) -> None:
    """If this fails, a text of a file that was cut off writes to the terminal of whoever searches for it."""
    document = hostile.dxf_document()
    document.modelspace().add_text("\\U+001B[31m\\U+2205", height=9).set_placement((40, 40))
    data = hostile.dxf_bytes(document)
    cut = data.rindex(b"ENDSEC", 0, data.index(b"OBJECTS"))
    (sheet,) = read_bytes(tmp_path, data[:cut])

    assert any("damaged" in warning for warning in sheet.warnings)
    assert "\ufffd[31m\N{EMPTY SET}" in {text.text for text in sheet.texts}


@pytest.mark.parametrize("style", ["Standard", "NOT_IN_THE_FILE"])
def test_non_breaking_spaces_are_spaces(document: ezdxf.document.Drawing, style: str, tmp_path: Path) -> None:
    """If this fails, a note shows backslashes that no CAD program shows, or is not there at all."""
    document.modelspace().add_mtext(
        "BREAK\\~ALL\\~EDGES", {"char_height": 9, "insert": (20, 60), "style": style}
    )
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    words = {word for text in sheet.texts for word in text.text.split()}
    assert {"BREAK", "ALL", "EDGES"} <= words


def test_gzipped_and_binary_dxf_are_the_same_drawing(tmp_path: Path) -> None:
    """If this fails, how a DXF is stored changes what is found."""
    (plain,) = read_bytes(tmp_path, hostile.dxf_bytes(hostile.dxf_document()))
    (zipped,) = read_bytes(tmp_path, gzip.compress(hostile.dxf_bytes(hostile.dxf_document())))
    (binary,) = read(hostile.dxf_binary(tmp_path), "binary.dxf")

    np.testing.assert_array_equal(plain.raster, zipped.raster)
    np.testing.assert_array_equal(plain.raster, binary.raster)


def test_each_layout_with_something_on_it_is_a_sheet(
    document: ezdxf.document.Drawing, tmp_path: Path
) -> None:
    """If this fails, sheets drawn in paper space are never found, or empty ones clutter the index."""
    plot = document.layouts.new("Plot")
    plot.add_line((0, 0), (297, 0))
    plot.add_viewport((150, 100), (200, 100), (100, 60), 120)
    document.layouts.new("Empty")
    sheets = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert [(sheet.page, sheet.name) for sheet in sheets] == [(1, "Model"), (2, "Plot")]


def test_a_far_stray_does_not_shrink_the_drawing(tmp_path: Path) -> None:
    """If this fails, one forgotten point makes a drawing a dot that resembles every other dot."""
    (sheet,) = read(hostile.dxf_far_stray(tmp_path), "stray.dxf")
    left, _, right, _ = ink_box(sheet.raster)

    assert right - left > 1900


def test_endless_lines_do_not_shrink_the_drawing(document: ezdxf.document.Drawing, tmp_path: Path) -> None:
    """If this fails, a construction line makes the part around it small."""
    document.modelspace().add_xline((100, 60), (1, 0.3))
    document.modelspace().add_ray((100, 60), (0, 1))
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))
    polyline = next(entity for entity in sheet.entities if entity.kind == "LWPOLYLINE")

    assert np.ptp(polyline.points[:, 0]) > 1900


def test_two_views_far_apart_are_both_drawn(tmp_path: Path) -> None:
    """If this fails, the guard against strays throws away half of a drawing."""
    document = ezdxf.new()
    for shift in (0, 5000):
        for n in range(20):
            document.modelspace().add_line((shift + n, 0), (shift + n, 30))
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert not sheet.warnings
    left, _, right, _ = ink_box(sheet.raster)
    assert right - left > 1900


def test_every_cad_colour_is_black_ink(tmp_path: Path) -> None:
    """If this fails, yellow and white layers of a dark screen vanish on white."""
    document = ezdxf.new()
    for colour in range(1, 256):
        document.modelspace().add_line((0, colour), (300, colour), dxfattribs={"color": colour})
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))
    middle = sheet.raster[:, sheet.raster.shape[1] // 2]

    assert np.count_nonzero(np.diff((middle < 100).astype(int)) == 1) == 255


def test_a_wipeout_hides_what_lies_below(document: ezdxf.document.Drawing, tmp_path: Path) -> None:
    """If this fails, lines hidden behind labels count as ink, or labels are black boxes."""
    document.modelspace().add_wipeout([(80, 40), (120, 80)])
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))
    height, width = sheet.raster.shape
    centre = sheet.raster[height // 2 - 40 : height // 2 + 40, width // 2 - 40 : width // 2 + 40]

    assert float((centre == 255).mean()) > 0.95


def test_large_filled_areas_do_not_cover_lines(document: ezdxf.document.Drawing, tmp_path: Path) -> None:
    """If this fails, a hatched wall is one black block in which nothing can be compared."""
    hatch = document.modelspace().add_hatch()
    hatch.paths.add_polyline_path([(0, 0), (200, 0), (200, 120), (0, 120)], is_closed=True)
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert 128 < float(np.median(sheet.raster)) < 255
    assert sheet.raster.min() < 40


def test_large_letters_are_black(tmp_path: Path) -> None:
    """If this fails, a sheet of large lettering is as good as blank."""
    document = ezdxf.new()
    document.modelspace().add_text("LH", height=50)
    (sheet,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert sheet.raster.min() < 30


def test_entities_are_limited_with_blocks_taken_apart(tmp_path: Path) -> None:
    """If this fails, nested blocks multiply without bound."""
    path = hostile.dxf_exponential_blocks(tmp_path)

    with pytest.raises(UnreadableDrawingError, match="limit of 1,000 entities"):
        read(path, "x.dxf", ReadLimits(max_entities=1000))


def test_missing_images_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an uploaded DXF shows its sender pictures from the server's disk."""
    opened: list[object] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **rest: opened.append(args) or real(*args, **rest))
    (sheet,) = read(hostile.dxf_missing_image(tmp_path), "images.dxf")

    assert opened == []
    assert "only their frames are drawn" in " ".join(sheet.warnings)


# --- DWG -----------------------------------------------------------------------------------


def test_dwg_is_drawn_like_the_dxf_that_it_was(tmp_path: Path) -> None:
    """If this fails, a part saved as DWG is not found by its DXF."""
    drawn = ezdwg.new()
    document = ezdxf.new("R2000")
    for space in (drawn.modelspace(), document.modelspace()):
        for start, end in (((0, 0), (200, 0)), ((200, 0), (200, 120)), ((200, 120), (0, 0))):
            space.add_line(start, end)
        space.add_circle((100, 60), 30)
    drawn.save(str(tmp_path / "part.dwg"))
    (dwg,) = read(tmp_path / "part.dwg", "part.dwg")
    (dxf,) = read_bytes(tmp_path, hostile.dxf_bytes(document))

    assert dwg.format == "dwg"
    assert dwg.raster.shape == dxf.raster.shape
    assert (np.abs(dwg.raster.astype(int) - dxf.raster) > 60).mean() < 0.01
    # ezdwg, which reads where zumen cannot be had, does not say what it leaves out
    assert ("may be missing" in " ".join(dwg.warnings)) is (sys.version_info < (3, 12))


def test_a_dwg_too_old_to_be_read_here_says_where_it_can_be(tmp_path: Path) -> None:
    """If this fails, the owner of an old DWG takes it for damaged."""
    path = tmp_path / "old.dwg"
    path.write_bytes(b"AC1009" + bytes(500))
    with pytest.raises(UnreadableDrawingError) as caught:
        read(path, path.name)

    assert ("Python 3.12" in str(caught.value)) is (sys.version_info < (3, 12))
    assert "save it as" in str(caught.value)


# --- SVG -----------------------------------------------------------------------------------


def test_svg_is_drawn_at_the_size_asked_for(tmp_path: Path) -> None:
    """If this fails, a small or huge SVG is compared at another resolution than the rest."""
    (sheet,) = read_bytes(tmp_path, hostile.SVG.format(hostile.SVG_PART).encode())

    assert sheet.raster.shape == (1500, 2000)
    assert ink_box(sheet.raster) == pytest.approx((92, 92, 1907, 1407), abs=3)


def test_a_small_corner_of_an_svg_page_is_looked_at_closely(tmp_path: Path) -> None:
    """If this fails, a part in the corner of a large page is a few pixels wide."""
    small = '<rect x="300" y="200" width="20" height="30" fill="none" stroke="black" stroke-width="0.2"/>'
    (sheet,) = read_bytes(tmp_path, hostile.SVG.format(small).encode())
    _, top, _, bottom = ink_box(sheet.raster)

    assert bottom - top > 1800


@pytest.mark.parametrize("paper", ["", '<rect width="100%" height="100%" fill="#eee"/>'])
def test_thin_lines_count_where_an_svg_is_looked_at_closely(paper: str, tmp_path: Path) -> None:
    """If this fails, a plate on a page of two metres is not drawn, only a dot beside it."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="10in" height="80in" viewBox="0 0 10 80">'
        f'{paper}<g stroke="black" fill="none" stroke-width="0.01"><rect x="1" y="76" width="3" height="2"/>'
        '<path d="M6 77l.05 0l0 .05l-.05 0z" fill="black"/></g></svg>'
    )
    (sheet,) = read_bytes(tmp_path, svg.encode())
    left, top, right, bottom = ink_box(sheet.raster)

    assert right - left > 1800
    assert (bottom - top) / (right - left) == pytest.approx(2.01 / 5.055, rel=0.02)


class _Recorder(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None: ...


def test_svg_asks_nothing_of_the_network(tmp_path: Path) -> None:
    """If this fails, an uploaded SVG makes the server fetch addresses that its sender chose."""
    asked: list[str] = []
    handler = type("Handler", (_Recorder,), {"asked": asked})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/picture.png"
            (sheet,) = read(hostile.svg_external(url)(tmp_path), "external.svg")
        finally:
            server.shutdown()
            thread.join()

    assert asked == []
    assert "outside of the file" in " ".join(sheet.warnings)


@pytest.mark.parametrize("make", [hostile.svg_local_file, hostile.svg_local_path])
def test_svg_shows_nothing_of_local_files(make: hostile.Maker, tmp_path: Path) -> None:
    """If this fails, an uploaded SVG shows its sender pictures from the server's disk."""
    (sheet,) = read(make(tmp_path), "external.svg")
    (without,) = read_bytes(tmp_path, hostile.SVG.format(hostile.SVG_PART).encode())
    middle = slice(300, 1200), slice(300, 1700)

    assert (tmp_path / "secret.png").exists()
    np.testing.assert_array_equal(sheet.raster[middle], without.raster[middle])


def test_svg_embedded_pictures_are_drawn(tmp_path: Path) -> None:
    """If this fails, the guard against outside references throws away what the file holds itself."""
    import base64  # noqa: PLC0415 - only this test needs it

    data = base64.b64encode(hostile.encoded("PNG")).decode()
    body = f'<image width="400" height="300" href="data:image/png;base64,{data}"/>'
    (sheet,) = read_bytes(tmp_path, hostile.SVG.format(body).encode())

    assert sheet.raster.min() < 30
    assert not sheet.warnings
