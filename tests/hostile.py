"""
Makers of hostile files, for every test that feeds strangers' files to something.

Each maker writes one file into a directory and returns its path. `CASES` names them all with
what reading them must come to: an error class, or None where a sheet must come out.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import ezdxf
from attrs import frozen
from PIL import Image, ImageDraw

from dedup2d.errors import (
    Dedup2DError,
    EmptyFileError,
    ImageTooLargeError,
    UnreadableDrawingError,
    UnsupportedFormatError,
)

Maker = Callable[[Path], Path]


@frozen
class Case:
    """A hostile file: who makes it, the error it must end in, words of its message or warning."""

    make: Maker
    error: type[Dedup2DError] | None = None
    words: str = ""

    @property
    def name(self) -> str:
        return self.make.__name__


def write(directory: Path, name: str, data: bytes | str) -> Path:
    path = directory / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# --- good files to spoil -------------------------------------------------------------------


def picture(mode: str = "L", size: tuple[int, int] = (400, 300)) -> Image.Image:
    image = Image.new(mode, size, "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((20, 20, size[0] - 20, size[1] - 20), outline="black", width=3)
    pen.ellipse((100, 80, 260, 240), outline="black", width=3)
    return image


def encoded(kind: str, mode: str = "L", **options: object) -> bytes:
    out = io.BytesIO()
    picture(mode).save(out, kind, **options)
    return out.getvalue()


_FONT = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"


def pdf(pages: int = 1, box: str = "0 0 842 595", trailer: str = "") -> bytes:
    return pdf_with(b"50 50 m 700 500 l S 100 100 200 200 re S", pages, box, trailer)


def pdf_with(content: bytes, pages: int = 1, box: str = "0 0 842 595", trailer: str = "") -> bytes:
    """A PDF whose pages show *content*, with Helvetica as F1."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (pages, b" ".join(b"%d 0 R" % (4 + n) for n in range(pages))),
        b"<< /Length %d >> stream\n%s\nendstream" % (len(content), content),
    ]
    page = f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 3 0 R {_FONT} >>".encode()
    objects += [page] * pages
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        trailer.encode("latin-1"),
        start,
    )
    return bytes(out)


def dxf_text(entities: str, blocks: str = "", header: str = "") -> str:
    """A minimal R12 file; group codes and values on alternate lines."""
    sections = [("HEADER", header), ("BLOCKS", blocks), ("ENTITIES", entities)]
    parts = [f"0\nSECTION\n2\n{name}\n{body}0\nENDSEC\n" for name, body in sections]
    return "".join(parts) + "0\nEOF\n"


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"0\nLINE\n8\n0\n10\n{x1}\n20\n{y1}\n11\n{x2}\n21\n{y2}\n"


def insert(block: str, extra: str = "") -> str:
    return f"0\nINSERT\n8\n0\n2\n{block}\n10\n0.0\n20\n0.0\n{extra}"


def block(name: str, entities: str) -> str:
    return f"0\nBLOCK\n8\n0\n2\n{name}\n70\n0\n10\n0.0\n20\n0.0\n{entities}0\nENDBLK\n8\n0\n"


PART = "".join(line(*p) for p in ((0, 0, 200, 0), (200, 0, 200, 120), (200, 120, 0, 120), (0, 120, 0, 0)))
PART += "0\nCIRCLE\n8\n0\n10\n100.0\n20\n60.0\n40\n30.0\n"
PART += "".join(line(10 * n, 5, 10 * n, 15) for n in range(1, 19))


def dxf_document(version: str = "R2010") -> ezdxf.document.Drawing:
    document = ezdxf.new(version)
    space = document.modelspace()
    corners = [(0, 0), (200, 0), (200, 120), (0, 120)]
    if version == "R12":
        space.add_polyline2d(corners, close=True)
    else:
        space.add_lwpolyline(corners, close=True)
    space.add_circle((100, 60), 30)
    space.add_text("PART 4711", height=5).set_placement((10, 10))
    return document


def dxf_bytes(document: ezdxf.document.Drawing) -> bytes:
    out = io.StringIO()
    document.write(out)
    return out.getvalue().encode("utf-8", errors="surrogateescape")


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
SVG += 'width="400" height="300" viewBox="0 0 400 300">{}</svg>'
SVG_PART = '<rect x="20" y="20" width="360" height="260" fill="none" stroke="black" stroke-width="3"/>'


# --- nothing, or something else ------------------------------------------------------------


def empty(directory: Path) -> Path:
    return write(directory, "empty.png", b"")


def text_named_png(directory: Path) -> Path:
    return write(directory, "letter.png", "Dear Sirs,\nplease find attached no drawing.\n")


def binary_noise(directory: Path) -> Path:
    return write(directory, "noise.dwg", bytes((n * 197 + 13) % 256 for n in range(5000)))


def zeros(directory: Path) -> Path:
    return write(directory, "zeros.tif", bytes(10_000))


def html_with_svg(directory: Path) -> Path:
    return write(directory, "page.svg", f"<!DOCTYPE html><html><body>{SVG.format('')}</body></html>")


def gzipped_text(directory: Path) -> Path:
    return write(directory, "notes.dxf.gz", gzip.compress(b"no drawing at all\n" * 50, mtime=0))


# --- cut short -----------------------------------------------------------------------------


def truncated_png(directory: Path) -> Path:
    data = encoded("PNG")
    return write(directory, "cut.png", data[: len(data) // 2])


def header_only_png(directory: Path) -> Path:
    return write(directory, "head.png", encoded("PNG")[:20])


def truncated_jpeg(directory: Path) -> Path:
    data = encoded("JPEG")
    return write(directory, "cut.jpg", data[: len(data) // 3])


def truncated_tiff(directory: Path) -> Path:
    data = encoded("TIFF")
    return write(directory, "cut.tif", data[: len(data) // 2])


def truncated_pdf(directory: Path) -> Path:
    return write(directory, "cut.pdf", pdf()[:150])


def truncated_dxf(directory: Path) -> Path:
    """Cut within the entities: what came before them must still be drawn, with a warning."""
    data = dxf_text(PART).encode()
    return write(directory, "cut.dxf", data[: int(len(data) * 0.7)])


def truncated_dxf_early(directory: Path) -> Path:
    return write(directory, "cut_early.dxf", dxf_bytes(dxf_document())[:300])


def truncated_gzip(directory: Path) -> Path:
    data = gzip.compress(dxf_bytes(dxf_document()))
    return write(directory, "cut.dxf.gz", data[: len(data) // 2])


def truncated_dwg(directory: Path) -> Path:
    return write(directory, "cut.dwg", b"AC1032\x00\x00\x00\x00\x00\x03\x00" + bytes(range(256)) * 8)


def truncated_svg(directory: Path) -> Path:
    return write(directory, "cut.svg", SVG.format(SVG_PART)[:-20])


# --- too large, or lying about it ----------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def one_bit_png(width: int, height: int, rows: int | None = None) -> bytes:
    """A white 1-bit PNG; *rows* of data may be fewer than *height*."""
    squeeze = zlib.compressobj(6)
    row = b"\x00" + b"\xff" * ((width + 7) // 8)
    data = b"".join(squeeze.compress(row) for _ in range(height if rows is None else rows)) + squeeze.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def png_of_900_megapixels(directory: Path) -> Path:
    return write(directory, "large.png", one_bit_png(30_000, 30_000))


def lying_png(directory: Path) -> Path:
    return write(directory, "lying.png", one_bit_png(8000, 8000, rows=3))


def png_text_bomb(directory: Path) -> Path:
    """A compressed text chunk that expands to 200 MB, which a reader could expand unasked."""
    bomb = _chunk(b"zTXt", b"note\x00\x00" + zlib.compress(bytes(200 * 1024**2), 9))
    data = encoded("PNG")
    return write(directory, "text_bomb.png", data[:33] + bomb + data[33:])


def _tiff(width: int, height: int, data: bytes, offset: int | None = None) -> bytes:
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, 1, 8 if offset is None else offset),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\x00" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def tiff_bomb(directory: Path) -> Path:
    """Declares 3,600 megapixels."""
    return write(directory, "bomb.tif", _tiff(60_000, 60_000, zlib.compress(bytes(1000))))


def lying_tiff(directory: Path) -> Path:
    """Declares 81 megapixels and has a thousand bytes for them."""
    return write(directory, "lying.tif", _tiff(9000, 9000, zlib.compress(bytes(1000))))


def tiff_pointing_nowhere(directory: Path) -> Path:
    return write(directory, "nowhere.tif", _tiff(500, 500, zlib.compress(bytes(1000)), offset=0x7FFFFFFF))


def tiff_in_circles(directory: Path) -> Path:
    """Its only directory names itself as the next one."""
    data = bytearray(_tiff(50, 50, zlib.compress(bytes(2500))))
    data[-4:] = data[4:8]
    return write(directory, "circles.tif", bytes(data))


def tiff_of_many_pages(directory: Path) -> Path:
    pages = [Image.new("1", (16, 16), 1) for _ in range(300)]
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    return write(directory, "many.tif", out.getvalue())


def gzip_bomb(directory: Path) -> Path:
    """600 MB of valid DXF comments in about 600 kB."""
    path = directory / "bomb.dxf.gz"
    with gzip.open(path, "wb", compresslevel=6) as out:
        out.write(b"0\nSECTION\n2\nENTITIES\n")
        comment = b"999\n" + b"x" * 200 + b"\n"
        piece = comment * 5000
        for _ in range(600_000_000 // len(piece)):
            out.write(piece)
    return path


# --- PDF -----------------------------------------------------------------------------------


def pdf_of_5000_pages(directory: Path) -> Path:
    return write(directory, "book.pdf", pdf(pages=5000))


def locked_pdf(directory: Path) -> Path:
    secret = "".join(f"{(n * 37 + 11) % 256:02x}" for n in range(32))
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{secret}> /U <{secret}> /P -4 >>"
    lock += f" /ID [<{secret}> <{secret}>]"
    return write(directory, "locked.pdf", pdf(trailer=lock))


def pdf_huge_box(directory: Path) -> Path:
    return write(directory, "huge_box.pdf", pdf(box="0 0 2000000000 1000000000"))


def pdf_long_box(directory: Path) -> Path:
    return write(directory, "long_box.pdf", pdf(box="0 0 10000000 1"))


def pdf_zero_box(directory: Path) -> Path:
    return write(directory, "zero_box.pdf", pdf(box="0 0 0 0"))


def pdf_mad_box(directory: Path) -> Path:
    return write(directory, "mad_box.pdf", pdf(box="nan -99999999999999999999 1e400 (x)"))


def pdf_without_pages(directory: Path) -> Path:
    return write(directory, "no_pages.pdf", pdf(pages=0))


# --- DXF -----------------------------------------------------------------------------------


def dxf_block_in_itself(directory: Path) -> Path:
    blocks = block("LOOP", PART + insert("LOOP") + insert("LOOP"))
    return write(directory, "loop.dxf", dxf_text(insert("LOOP"), blocks))


def dxf_blocks_in_circle(directory: Path) -> Path:
    blocks = block("A", PART + insert("B")) + block("B", PART + insert("A"))
    return write(directory, "circle.dxf", dxf_text(insert("A"), blocks))


def dxf_exponential_blocks(directory: Path) -> Path:
    """Twelve levels of ten inserts: a million million lines."""
    blocks = block("L0", line(0, 0, 10, 10))
    blocks += "".join(block(f"L{n}", insert(f"L{n - 1}") * 10) for n in range(1, 13))
    return write(directory, "exponential.dxf", dxf_text(insert("L12"), blocks))


def dxf_endless_array(directory: Path) -> Path:
    array = "70\n30000\n71\n30000\n44\n10.0\n45\n10.0\n"
    return write(directory, "array.dxf", dxf_text(insert("E", array), block("E", "")))


def dxf_deep_blocks(directory: Path) -> Path:
    blocks = block("D0", PART) + "".join(block(f"D{n}", PART + insert(f"D{n - 1}")) for n in range(1, 400))
    return write(directory, "deep.dxf", dxf_text(insert("D399"), blocks))


def dxf_too_many_entities(directory: Path) -> Path:
    return write(directory, "many.dxf", dxf_text(line(0, 0, 1, 1) * 300_001))


def dxf_missing_image(directory: Path) -> Path:
    """Names a picture by an absolute path, which must not be opened even if it is there."""
    picture().save(directory / "secret.png")
    document = dxf_document()
    definition = document.add_image_def(str(directory / "secret.png"), (400, 300))
    document.modelspace().add_image(definition, (20, 20), (50, 40))
    gone = document.add_image_def("/no/such/picture.png", (400, 300))
    document.modelspace().add_image(gone, (90, 20), (50, 40))
    return write(directory, "images.dxf", dxf_bytes(document))


def dxf_missing_xref(directory: Path) -> Path:
    document = dxf_document()
    document.add_xref_def("/no/such/site.dwg", "SITE")
    document.modelspace().add_blockref("SITE", (0, 0))
    return write(directory, "xref.dxf", dxf_bytes(document))


def dxf_missing_font(directory: Path) -> Path:
    document = dxf_document()
    document.styles.add("ODD", font="no_such_font.shx")
    document.modelspace().add_text("NOTE", height=8, dxfattribs={"style": "ODD"}).set_placement((60, 90))
    return write(directory, "font.dxf", dxf_bytes(document))


def dxf_empty(directory: Path) -> Path:
    return write(directory, "nothing.dxf", dxf_text(""))


def dxf_zero_extents(directory: Path) -> Path:
    return write(directory, "point.dxf", dxf_text(line(5, 5, 5, 5)))


def dxf_mad_coordinates(directory: Path) -> Path:
    mad = "0\nLINE\n8\n0\n10\nnan\n20\ninf\n11\n1e300\n21\n-1e300\n"
    mad += "0\nCIRCLE\n8\n0\n10\n1e300\n20\n0.0\n40\n1e300\n"
    mad += "0\nARC\n8\n0\n10\n0.0\n20\n0.0\n40\n1e200\n50\nnan\n51\n1e300\n"
    return write(directory, "mad.dxf", dxf_text(PART + mad))


def dxf_mad_dashes(directory: Path) -> Path:
    """A dashed line, and a dashed circle, of 1e14 dashes each."""
    document = dxf_document()
    document.linetypes.add("FINE", [0.2, 0.1, -0.1])
    far = {"linetype": "FINE"}
    document.modelspace().add_line((0, 0), (1e13, 0), dxfattribs=far)
    document.modelspace().add_circle((0, 0), 1e13, dxfattribs=far)
    return write(directory, "dashes.dxf", dxf_bytes(document))


def dxf_dense_hatch(directory: Path) -> Path:
    """A hatch of a hundred million lines."""
    document = dxf_document()
    hatch = document.modelspace().add_hatch()
    hatch.paths.add_polyline_path([(0, 0), (200, 0), (200, 120), (0, 120)], is_closed=True)
    hatch.set_pattern_fill("FINE", definition=[[45, (0, 0), (1e-6, 1e-6), [1e-6, -1e-6]]])
    return write(directory, "hatch.dxf", dxf_bytes(document))


def dxf_far_stray(directory: Path) -> Path:
    """One point a thousand kilometres away must not shrink the part to a dot."""
    return write(directory, "stray.dxf", dxf_text(PART + "0\nPOINT\n8\n0\n10\n1e9\n20\n1e9\n"))


def dxf_unknown_encoding(directory: Path) -> Path:
    header = "9\n$ACADVER\n1\nAC1015\n9\n$DWGCODEPAGE\n3\nKLINGON_77\n"
    text = "0\nTEXT\n8\n0\n10\n20.0\n20\n90.0\n40\n8.0\n1\n"
    data = dxf_text(PART, header=header).encode()
    note = text.encode() + b"\xff\xfe\x81\x8d caf\xe9\n"
    return write(directory, "encoding.dxf", data.replace(b"2\nENTITIES\n", b"2\nENTITIES\n" + note))


def dxf_with_layouts(directory: Path) -> Path:
    document = dxf_document()
    document.layouts.new("Plot").add_line((0, 0), (100, 50))
    return write(directory, "layouts.dxf", dxf_bytes(document))


def dxf_binary(directory: Path) -> Path:
    path = directory / "binary.dxf"
    dxf_document().saveas(path, fmt="bin")
    return path


def dxf_binary_truncated(directory: Path) -> Path:
    data = dxf_binary(directory).read_bytes()
    return write(directory, "binary_cut.dxf", data[: len(data) // 2 + 1])


# --- SVG -----------------------------------------------------------------------------------


def svg_external(url: str) -> Maker:
    """Refers to *url* in every way that a reader might follow."""

    def svg_external_references(directory: Path) -> Path:
        body = SVG_PART + f'<image x="50" y="50" width="300" height="200" xlink:href="{url}"/>'
        body += f'<image x="50" y="50" width="300" height="200" href="{url}"/>'
        body += f'<use href="{url}#part"/><filter id="f"><feImage href="{url}"/></filter>'
        body += f'<rect width="9" height="9" filter="url({url}#f)" fill="url({url}#g)"/>'
        body += f"<style>@import url({url}); @font-face {{ src: url({url}) }}</style>"
        head = f'<?xml version="1.0"?><?xml-stylesheet href="{url}"?>'
        return write(directory, "external.svg", head + SVG.format(body))

    return svg_external_references


def svg_local_file(directory: Path) -> Path:
    picture().save(directory / "secret.png")
    return svg_external((directory / "secret.png").as_uri())(directory)


def svg_local_path(directory: Path) -> Path:
    picture().save(directory / "secret.png")
    return svg_external(str(directory / "secret.png"))(directory)


def svg_external_entity(directory: Path) -> Path:
    head = f'<!DOCTYPE svg [<!ENTITY x SYSTEM "{Path("/etc/hostname").as_uri()}">]>'
    return write(directory, "entity.svg", head + SVG.format(SVG_PART + "<text x='9' y='99'>&x;</text>"))


def svg_billion_laughs(directory: Path) -> Path:
    laughs = '<!ENTITY l0 "ha">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 11))
    return write(directory, "laughs.svg", f"<!DOCTYPE svg [{laughs}]>" + SVG.format("<text>&l10;</text>"))


def svg_quadratic_entity(directory: Path) -> Path:
    head = f'<!DOCTYPE svg [<!ENTITY a "{"x" * 50_000}">]>'
    return write(directory, "quadratic.svg", head + SVG.format("<text>" + "&a;" * 100_000 + "</text>"))


def svg_many_small_entities(directory: Path) -> Path:
    """An entity that is short enough to be allowed, a hundred thousand times."""
    head = f'<!DOCTYPE svg [<!ENTITY a "{"x" * 9000}">]>'
    return write(directory, "entities.svg", head + SVG.format("<text>" + "&a;" * 100_000 + "</text>"))


def svg_exponential_uses(directory: Path) -> Path:
    body = '<g id="u0"><path d="M0 0L9 9" stroke="black"/></g>'
    body += "".join(f'<g id="u{n}">{f"""<use href="#u{n - 1}"/>""" * 10}</g>' for n in range(1, 13))
    return write(directory, "uses.svg", SVG.format(body))


def svg_deep(directory: Path) -> Path:
    return write(directory, "deep.svg", SVG.format("<g>" * 50_000 + SVG_PART + "</g>" * 50_000))


def svg_huge_size(directory: Path) -> Path:
    text = SVG.format(SVG_PART).replace('width="400" height="300"', 'width="4e9" height="3e9mm"', 1)
    return write(directory, "huge.svg", text)


def svg_without_size(directory: Path) -> Path:
    text = SVG.format(SVG_PART).replace('width="400" height="300" viewBox="0 0 400 300"', "", 1)
    return write(directory, "sizeless.svg", text)


# --- not a plain file ----------------------------------------------------------------------


def link_to_nothing(directory: Path) -> Path:
    path = directory / "dangling.png"
    path.symlink_to(directory / "gone.png")
    return path


def link_in_circles(directory: Path) -> Path:
    path = directory / "circle.png"
    path.symlink_to(path)
    return path


def link_to_device(directory: Path) -> Path:
    path = directory / "endless.png"
    path.symlink_to("/dev/zero")
    return path


def named_pipe(directory: Path) -> Path:
    path = directory / "pipe.png"
    os.mkfifo(path)
    return path


def folder(directory: Path) -> Path:
    path = directory / "folder.pdf"
    path.mkdir()
    return path


def link_to_drawing(directory: Path) -> Path:
    path = directory / "link.png"
    path.symlink_to(write(directory, "good.png", encoded("PNG")))
    return path


BAD, LARGE, OTHER = UnreadableDrawingError, ImageTooLargeError, UnsupportedFormatError

CASES: tuple[Case, ...] = (
    Case(empty, EmptyFileError, "0 bytes"),
    Case(text_named_png, OTHER, "plain text"),
    Case(binary_noise, OTHER),
    Case(zeros, OTHER, "zero bytes"),
    Case(html_with_svg, OTHER),
    Case(gzipped_text, OTHER, "gzip of something other"),
    Case(truncated_png, BAD, "PNG is damaged or incomplete"),
    Case(header_only_png, BAD, "PNG is damaged or incomplete"),
    Case(truncated_jpeg, BAD, "JPEG is damaged or incomplete"),
    Case(truncated_tiff, BAD, "TIFF is damaged or incomplete"),
    Case(truncated_pdf, BAD, "PDF"),
    Case(truncated_dxf, None, "is damaged"),
    Case(truncated_dxf_early, BAD),
    Case(truncated_gzip, BAD, "gzip is damaged"),
    Case(truncated_dwg, BAD, "DWG is damaged"),
    Case(truncated_svg, BAD, "SVG is damaged"),
    Case(png_of_900_megapixels, LARGE, "limit of 120,000,000 pixels"),
    Case(lying_png, BAD, "PNG is damaged"),
    Case(png_text_bomb, BAD, "PNG is damaged"),
    Case(tiff_bomb, LARGE, "limit of 120,000,000 pixels"),
    Case(lying_tiff, BAD, "TIFF is damaged"),
    Case(tiff_pointing_nowhere, BAD, "TIFF is damaged"),
    Case(tiff_in_circles, None),
    Case(tiff_of_many_pages, BAD, "limit of 200 pages"),
    Case(gzip_bomb, LARGE, "limit of 524,288,000 expanded bytes"),
    Case(pdf_of_5000_pages, BAD, "limit of 200 pages"),
    Case(locked_pdf, BAD, "password"),
    Case(pdf_huge_box, None),
    Case(pdf_long_box, None),
    Case(pdf_zero_box, None),
    Case(pdf_mad_box, None),
    Case(pdf_without_pages, BAD),
    Case(dxf_block_in_itself, None, "contains itself"),
    Case(dxf_blocks_in_circle, None, "contains itself"),
    Case(dxf_exponential_blocks, BAD, "limit of 300,000 entities"),
    Case(dxf_endless_array, BAD, "limit of 300,000 entities"),
    Case(dxf_deep_blocks, None, "nested"),
    Case(dxf_too_many_entities, BAD, "limit of 300,000 entities"),
    Case(dxf_missing_image, None, "only their frames"),
    Case(dxf_missing_xref, None, "xrefs"),
    Case(dxf_missing_font, None),
    Case(dxf_empty, BAD, "no sheet"),
    Case(dxf_zero_extents, None),
    Case(dxf_mad_coordinates, None, "left out"),
    Case(dxf_mad_dashes, None),
    Case(dxf_dense_hatch, None),
    Case(dxf_far_stray, None, "far away"),
    Case(dxf_unknown_encoding, None),
    Case(dxf_with_layouts, None),
    Case(dxf_binary, None),
    Case(dxf_binary_truncated, BAD),
    Case(svg_local_file, None, "outside of the file"),
    Case(svg_local_path, None, "outside of the file"),
    Case(svg_external_entity, BAD, "XML entities"),
    Case(svg_billion_laughs, BAD, "XML entities"),
    Case(svg_quadratic_entity, BAD, "XML entities"),
    Case(svg_many_small_entities, BAD),
    Case(svg_exponential_uses, BAD, "limit of 300,000 entities"),
    Case(svg_deep, BAD, "nested deeper"),
    Case(svg_huge_size, None),
    Case(svg_without_size, None),
    Case(link_to_nothing, BAD, "not there"),
    Case(link_in_circles, BAD, "circles"),
    Case(link_to_device, BAD, "regular file"),
    Case(named_pipe, BAD, "regular file"),
    Case(folder, BAD, "regular file"),
    Case(link_to_drawing, None),
)
