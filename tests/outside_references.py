"""
Drawings that name something outside of themselves, in every way that their formats know.

`{file}` stands for the path of a picture on the machine, `{url}` for a server's address, `{host}` for its
host and port.
"""

from __future__ import annotations

import base64
import gzip
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from pathlib import Path

import ezdwg
import ezdxf
from ezdxf.document import Drawing

from tests import hostile

__all__ = ["Canaries", "drawings"]


class Canaries:
    """What the drawings name."""

    def __init__(self, file: str, host: str) -> None:
        self.file = file
        self.host = host
        self.url = f"http://{host}"

    def fill(self, text: str) -> str:
        return text.replace("{file}", self.file).replace("{url}", self.url).replace("{host}", self.host)


def drawings(canaries: Canaries) -> Iterator[tuple[str, bytes]]:
    """Give each drawing with a name that says what it does."""
    for name, svg in SVGS.items():
        yield f"{name}.svg", canaries.fill(svg).encode()
    yield "nested.svg", _svg_in_svg(canaries, "image/svg+xml")
    yield "nested_as_png.svg", _svg_in_svg(canaries, "image/png")
    for name, objects in PDFS.items():
        yield f"{name}.pdf", _pdf(canaries.fill(objects))
    for make in (_plot_styles, _images, _xref, _underlays, _fonts, _links, _sheet_set):
        for target in (canaries.file, canaries.url + "/x", "\\\\" + canaries.host + "\\share\\x"):
            data = _dxf(make, target)
            yield f"{make.__name__[1:]}.dxf", data
            yield f"{make.__name__[1:]}.dxf.gz", _gzip_named(data, target)
    for target in (canaries.file, canaries.url + "/x.png"):
        yield "image.dwg", _dwg(target)


# --- SVG -----------------------------------------------------------------------------------

_PART = hostile.SVG_PART
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def _svg(body: str, before: str = "", more: str = "") -> str:
    size = 'viewBox="0 0 400 300" width="400" height="300"'
    return f"{before}<svg {_NAMESPACES} {more} {size}>{body}{_PART}</svg>"


_IMAGE = '<image width="400" height="300" {} />'
SVGS = {
    "href_file": _svg(_IMAGE.format('href="{file}"')),
    "href_file_url": _svg(_IMAGE.format('href="file://{file}"')),
    "href_localhost": _svg(_IMAGE.format('href="file://localhost{file}"')),
    "href_spaces": _svg(_IMAGE.format('href="  {file}  "')),
    "href_entity": _svg(_IMAGE.format('href="&#x2f;&#x2f;.{file}"')),
    "href_url": _svg(_IMAGE.format('href="{url}/a.png"')),
    "href_bare": _svg(_IMAGE.format('href="//{host}/a.png"')),
    "href_upper": _svg(_IMAGE.format('HREF="{file}"')),
    "xlink": _svg(_IMAGE.format('xlink:href="{file}"')),
    "xlink_other_prefix": _svg(
        '<x:image xmlns:x="http://www.w3.org/2000/svg" xmlns:y="http://www.w3.org/1999/xlink" y:href="{file}"'
        ' width="400" height="300"/>'
    ),
    "both": _svg(_IMAGE.format('href="#a" xlink:href="{file}"')),
    "data_then_file": _svg(_IMAGE.format('href="data:image/png;base64,AAAA" xlink:href="{file}"')),
    "src": _svg(_IMAGE.format('src="{file}"')),
    "base": _svg(_IMAGE.format('href="secret.png"'), more='xml:base="file://{file}"'),
    "use": _svg('<use href="{file}#a"/><use xlink:href="{url}/a.svg#a"/>'),
    "fe_image": _svg(
        '<filter id="f"><feImage href="{file}"/><feImage xlink:href="{url}/a.png"/></filter>'
        '<rect width="400" height="300" filter="url(#f)"/>'
    ),
    "paint_url": _svg('<rect width="9" height="9" fill="url({url}/a.svg#p)" filter="url(file://{file}#f)"/>'),
    "mask_url": _svg('<rect width="9" height="9" mask="url({url}/m.svg#m)" clip-path="url({file}#c)"/>'),
    "style_import": _svg('<style>@import url("{url}/a.css"); @import "file://{file}";</style>'),
    "style_font": _svg("<style>@font-face {{font-family: x; src: url({url}/a.ttf), url({file})}}</style>"),
    "style_href": _svg(
        "<style>image {{href: url({file}); content: url({url}/a)}}</style>" + _IMAGE.format('class="a"')
    ),
    "style_attribute": _svg('<rect width="9" height="9" style="fill: url({url}/a#b); cursor: url({file})"/>'),
    "stylesheet": _svg("", before='<?xml-stylesheet href="{url}/a.css" type="text/css"?>'),
    "xslt": _svg("", before='<?xml-stylesheet href="{url}/a.xsl" type="text/xsl"?>'),
    "doctype_url": _svg("", before='<!DOCTYPE svg PUBLIC "-//x" "{url}/a.dtd">'),
    "doctype_file": _svg("", before='<!DOCTYPE svg SYSTEM "file://{file}">'),
    "entity_file": _svg("<text>&a;</text>", before='<!DOCTYPE svg [<!ENTITY a SYSTEM "file://{file}">]>'),
    "entity_url": _svg("<text>&a;</text>", before='<!DOCTYPE svg [<!ENTITY a SYSTEM "{url}/a">]>'),
    "parameter_entity": _svg("", before='<!DOCTYPE svg [<!ENTITY % a SYSTEM "{url}/a.dtd"> %a;]>'),
    "entity_in_href": _svg(
        _IMAGE.format('href="&a;"'), before='<!DOCTYPE svg [<!ENTITY a "file://{file}">]>'
    ),
    "default_attribute": _svg(
        _IMAGE.format(""), before='<!DOCTYPE svg [<!ATTLIST image href CDATA "{file}">]>'
    ),
    "xinclude": _svg('<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{file}" parse="text"/>'),
    "script": _svg('<script href="{url}/a.js"/><script>fetch("{url}/b")</script>'),
    "foreign": _svg(
        '<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="{url}/a"/></foreignObject>'
    ),
    "cursor": _svg('<cursor href="{file}"/><a href="{url}/a"><rect width="9" height="9"/></a>'),
    "animate": _svg('<image width="400" height="300"><set attributeName="href" to="{file}"/></image>'),
    "pattern": _svg(
        '<pattern id="p" width="400" height="300"><image href="{file}" width="400" height="300"/></pattern>'
        '<rect width="400" height="300" fill="url(#p)"/>'
    ),
    "font_uri": _svg('<font-face><font-face-src><font-face-uri href="{url}/a"/></font-face-src></font-face>'),
}
SVGS = {name: text.replace("{{", "{").replace("}}", "}") for name, text in SVGS.items()}


def _svg_in_svg(canaries: Canaries, kind: str) -> bytes:
    inner = canaries.fill(SVGS["href_file"] if kind.endswith("xml") else SVGS["href_url"])
    data = base64.b64encode(inner.encode()).decode()
    return _svg(_IMAGE.format(f'href="data:{kind};base64,{data}"')).encode()


# --- PDF -----------------------------------------------------------------------------------

PDFS = {
    "open_uri": "/OpenAction << /S /URI /URI ({url}/a) >>",
    "open_script": "/OpenAction << /S /JavaScript /JS (get\\('{url}/a'\\); app.launchURL\\('{url}/b'\\)) >>",
    "launch": "/OpenAction << /S /Launch /F ({file}) /Unix << /F (/bin/true) >> >>",
    "go_to_remote": "/OpenAction << /S /GoToR /F ({file}) /D [0 /Fit] >>",
    "go_to_url": "/OpenAction << /S /GoToR /F << /FS /URL /F ({url}/a.pdf) >> /D [0 /Fit] >>",
    "submit": "/OpenAction << /S /SubmitForm /F << /FS /URL /F ({url}/a) >> >>",
    "import_data": "/OpenAction << /S /ImportData /F ({file}) >>",
    "on_close": "/AA << /WC << /S /URI /URI ({url}/a) >> /DS << /S /Launch /F ({file}) >> >>",
    "names": "/Names << /JavaScript << /Names [(a) << /S /JavaScript /JS (get\\('{url}/a'\\)) >>] >> >>",
    "uri_base": "/URI << /Base ({url}/) >>",
    "forms": "/AcroForm << /Fields [] /XFA ({url}/a.xml) /NeedAppearances true >>",
    "page_action": "PAGE /AA << /O << /S /URI /URI ({url}/a) >> /C << /S /Launch /F ({file}) >> >>",
    "annotation": "PAGE /Annots [<< /Type /Annot /Subtype /Link /Rect [0 0 9 9]"
    " /A << /S /URI /URI ({url}/a) >> >>"
    " << /Type /Annot /Subtype /Movie /Rect [0 0 9 9] /Movie << /F ({file}) >> >>"
    " << /Type /Annot /Subtype /FileAttachment /Rect [0 0 9 9] /FS << /Type /Filespec /F ({file}) >> >>]",
    "external_stream": "IMAGE /F ({file}) /FFilter /DCTDecode",
    "external_stream_url": "IMAGE /F << /FS /URL /F ({url}/a.jpg) >> /FFilter /DCTDecode",
    "opi": "IMAGE /OPI << /1.3 << /Type /OPI /Version 1.3 /F ({file}) /Size [9 9] /CropRect [0 0 9 9] >> >>",
    "alternate": "IMAGE /Alternates [<< /Image << /F ({file}) /Subtype /Image >> >>]",
    "font_file": "FONT /FontDescriptor << /Type /FontDescriptor /FontName /X /Flags 4 /FontFile2 6 0 R >>",
    "reference": "FORM /Ref << /F ({file}) /Page 0 >>",
}


def _pdf(extra: str) -> bytes:
    """Make one page; *extra* goes into its catalog, or into the part that its first word names."""
    part, _, rest = extra.partition(" ") if extra.split(" ", 1)[0].isupper() else ("ROOT", "", extra)
    put = {name: rest if part == name else "" for name in ("ROOT", "PAGE", "IMAGE", "FONT", "FORM")}
    content = b"50 50 m 700 500 l S q 300 0 0 300 50 50 cm /I Do Q /X Do BT /F1 20 Tf 100 100 Td (part) Tj ET"
    empty_stream = f"/F ({rest.split('(')[-1].split(')')[0]})" if part == "FONT" else ""
    page = (
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 842 595] /Contents 4 0 R"
        " /Resources << /XObject << /I 5 0 R /X 7 0 R >>"
        f" /Font << /F1 << /Type /Font /Subtype /TrueType /BaseFont /X {put['FONT']} >> >> >>"
        f" {put['PAGE']} >>"
    )
    image = (
        "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
        f" /Length 1 {put['IMAGE']} >> stream\n\x7f\nendstream"
    )
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {put['ROOT']} >>",
        "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        page,
        f"<< /Length {len(content)} >> stream\n{content.decode()}\nendstream",
        image,
        f"<< /Length 0 {empty_stream} >> stream\n\nendstream",
        f"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Length 0 {put['FORM']} >> stream\n\nendstream",
    ]
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


# --- DXF and DWG ---------------------------------------------------------------------------


def _dxf(change: Callable[[Drawing, str], None], target: str) -> bytes:
    document = ezdxf.new("R2010")
    document.modelspace().add_lwpolyline([(0, 0), (200, 0), (200, 120), (0, 120)], close=True)
    change(document, target)
    out = StringIO()
    document.write(out)
    return out.getvalue().encode()


def _plot_styles(document: Drawing, target: str) -> None:
    document.modelspace().dxf_layout.dxf.current_style_sheet = target
    document.layout("Layout1").dxf_layout.dxf.current_style_sheet = target
    document.layout("Layout1").add_line((0, 0), (200, 120))
    viewport = document.layout("Layout1").add_viewport((100, 60), (200, 120), (100, 60), 120)
    viewport.dxf.plot_style_name = target
    document.header["$STYLESHEET"] = target


def _images(document: Drawing, target: str) -> None:
    definition = document.add_image_def(target, (400, 300))
    document.modelspace().add_image(definition, (20, 20), (50, 40))


def _xref(document: Drawing, target: str) -> None:
    document.add_xref_def(target, "SITE")
    document.modelspace().add_blockref("SITE", (0, 0))


def _underlays(document: Drawing, target: str) -> None:
    for kind in ("pdf", "dwf", "dgn"):
        definition = document.add_underlay_def(target, kind, "1")
        document.modelspace().add_underlay(definition, (10, 10))


def _fonts(document: Drawing, target: str) -> None:
    document.styles.add("ODD", font=target, dxfattribs={"bigfont": target})
    document.modelspace().add_text("NOTE", height=8, dxfattribs={"style": "ODD"}).set_placement((60, 90))
    document.modelspace().add_mtext(
        "{\\F" + target.replace("\\", "/") + ";NOTE}", dxfattribs={"style": "ODD"}
    )
    document.styles.add_shx(target)
    document.modelspace().add_shape("GATE", (5, 5), 3)


def _links(document: Drawing, target: str) -> None:
    line = document.modelspace().add_line((0, 0), (200, 120))
    line.set_hyperlink(target)
    document.modelspace().add_mtext(f'%<\\AcVar Filename \\f "{target}">%').set_location((50, 50))


def _sheet_set(document: Drawing, target: str) -> None:
    document.header["$PROJECTNAME"] = target
    document.header["$MENU"] = target
    document.header["$HYPERLINKBASE"] = target


def _gzip_named(data: bytes, name: str) -> bytes:
    out = BytesIO()
    with gzip.GzipFile(filename=name, mode="wb", fileobj=out) as file:
        file.write(data)
    return out.getvalue()


def _dwg(target: str) -> bytes:
    drawn = ezdwg.new()
    drawn.image_defs["A"] = {"file_path": target, "size": (400.0, 300.0), "pixel_size": (1.0, 1.0)}
    drawn.modelspace().add_image("A", (20, 20), width=50)
    drawn.modelspace().add_line((0, 0), (200, 120))
    with tempfile.TemporaryDirectory() as directory:
        drawn.save(f"{directory}/drawing.dwg")
        return Path(directory, "drawing.dwg").read_bytes()
