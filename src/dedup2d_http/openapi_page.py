"""The OpenAPI document as one page of HTML: no script, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["CONTENT_SECURITY_POLICY", "page_of_document"]

Json = Mapping[str, Any]


def page_of_document(document: Json) -> str:
    """Return the page that shows *document*, as `dedup2d_http.openapi` makes it."""
    info = document["info"]
    operations = list(_operations(document))
    return _PAGE.format(
        style=_STYLE,
        title=escape(f"{info['title']} {info['version']}"),
        text=_prose(info["description"]),
        contents="\n".join(_entry(method, path, each) for method, path, each in operations),
        operations="\n".join(_section(method, path, each) for method, path, each in operations),
        problems=_problems(document["x-problems"]),
        schemas="\n".join(_schema(*each) for each in document["components"]["schemas"].items()),
    )


def _operations(document: Json) -> Iterable[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        shared = methods.get("parameters", [])
        for method, each in methods.items():
            if method != "parameters":
                yield method.upper(), path, {**each, "parameters": [*shared, *each["parameters"]]}


def _entry(method: str, path: str, each: Json) -> str:
    return (
        f'<li><a href="#{escape(each["operationId"])}">{_method(method)} <code>{escape(path)}</code></a>'
        f" {_marked(each['summary'])}</li>"
    )


def _section(method: str, path: str, each: Json) -> str:
    parts = [
        f'<section id="{escape(each["operationId"])}">',
        f"<h3>{_method(method)} <code>{escape(path)}</code></h3>",
        f"<p>{_marked(each['summary'])}</p>",
        _prose(each.get("description", "")),
        _key(each.get("security")),
        _parameters(each["parameters"]),
        _body(each.get("requestBody")),
        _responses(each["responses"]),
        "</section>",
    ]
    return "\n".join(filter(None, parts))


def _key(security: list[Json] | None) -> str:
    if security is None:
        return "<p>Needs no key.</p>"
    roles = next(iter(security[0].values()))
    scope = f" with the scope <code>{escape(', '.join(roles))}</code>" if roles else ""
    return f"<p>Needs a key{scope}.</p>"


def _parameters(parameters: list[Json]) -> str:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>{_star(each.get('required', False))}",
            escape(each["in"]),
            _type(each["schema"]),
            _marked(each.get("description", "")),
        )
        for each in parameters
    ]
    return _table("Parameters", ("name", "in", "value", ""), rows)


def _body(body: Json | None) -> str:
    if body is None:
        return ""
    return "".join(_body_of(media_type, content) for media_type, content in body["content"].items())


def _body_of(media_type: str, content: Json) -> str:
    schema, encoding = content["schema"], content.get("encoding")
    rows = [
        (
            f"<code>{escape(name)}</code>{_star(name in schema.get('required', ()))}",
            _type(part) if encoding is None else escape(encoding.get(name, {}).get("contentType", "")),
            _marked(part["description"]),
        )
        for name, part in schema["properties"].items()
    ]
    what = "part" if encoding is not None else "field"
    return _table(f"Body, <code>{escape(media_type)}</code>", (what, "content", ""), rows)


def _responses(responses: Json) -> str:
    rows = []
    for status, each in responses.items():
        shapes = [
            _type(content["schema"])
            if media_type == "application/json"
            else f"<code>{escape(media_type)}</code>"
            for media_type, content in each.get("content", {}).items()
        ]
        headers = ", ".join(f"<code>{escape(name)}</code>" for name in each.get("headers", {}))
        rows.append((f"<b>{escape(status)}</b>", _marked(each["description"]), ", ".join(shapes), headers))
    return _table("Answers", ("status", "", "body", "headers"), rows)


def _problems(problems: Json) -> str:
    rows = [
        (f"<code>{escape(code)}</code>", str(each["status"]), escape(each["title"]))
        for code, each in problems.items()
    ]
    return _table("", ("code", "status", "meaning"), rows)


def _schema(name: str, schema: Json) -> str:
    rows = [
        (f"<code>{escape(each)}</code>", _type(value), _marked(value.get("description", "")))
        for each, value in schema.get("properties", {}).items()
    ]
    shape = _table("", ("field", "value", ""), rows) if rows else f"<p>{_type(schema)}</p>"
    text = _prose(schema.get("description", ""))
    return f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3>{text}{shape}</section>'


def _type(schema: Json) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for combined, word in (("anyOf", " or "), ("allOf", " and ")):
        if combined in schema:
            return word.join(_type(each) for each in schema[combined])
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return "list of " + " and ".join(map(_type, items)) + _bounds(schema)
    if kind == "object" and "additionalProperties" in schema:
        return "object of " + _type(schema["additionalProperties"] or {}) + _bounds(schema)
    return escape(str(kind)) + _bounds(schema)


_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
    "default": "default {}",
}


def _bounds(schema: Json) -> str:
    found = [
        text.format(escape(json.dumps(schema[name]))) for name, text in _BOUNDS.items() if name in schema
    ]
    return f" ({', '.join(found)})" if found else ""


def _table(title: str, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    heading = f"<h4>{title}</h4>" if title else ""
    return f"{heading}<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    """Return *text* escaped, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _method(method: str) -> str:
    return f'<b class="method {method.lower()}">{method}</b>'


def _star(required: bool) -> str:
    return " <small>required</small>" if required else ""


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0b57d0, #9ec1ff); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
code { font: 0.92em ui-monospace, monospace; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 2rem 0 0.3rem; } h4 { margin: 0.8rem 0 0.2rem; }
ul { list-style: none; padding: 0; } li { padding: 0.15rem 0; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; } th, td { border-bottom: 1px solid var(--line); vertical-align: top;
padding: 0.25rem 0.8rem 0.25rem 0; } td:first-child code { overflow-wrap: normal; }
section { scroll-margin-top: 1rem; }
section:target { background: var(--soft); outline: 0.5rem solid var(--soft); }
.method { display: inline-block; min-width: 3.6rem; padding: 0 0.4rem; border-radius: 4px; color: #fff;
text-align: center; font-size: 0.8em; box-sizing: border-box; }
.get { background: #1a5fb4; } .post { background: #26704a; } .delete { background: #a51d2d; }
.put, .patch { background: #8a4b08; }
small { opacity: 0.75; }
"""

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'"
"""Lets the page have its own style, and nothing else."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}: API</title><style>{style}</style></head>
<body>
<h1>{title}: API</h1>
{text}
<p>The same for programs, as OpenAPI 3.1: <a href="openapi.json"><code>openapi.json</code></a></p>
<nav><h2>Routes</h2><ul>
{contents}
<li><a href="#problems">Errors</a>, <a href="#schemas">schemas</a></li>
</ul></nav>
<main><h2>In detail</h2>
{operations}
<h2 id="problems">Errors</h2>
{problems}
<h2 id="schemas">Schemas</h2>
{schemas}
</main>
</body></html>
"""
