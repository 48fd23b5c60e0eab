"""
The OpenAPI 3.1 document, made of the table of routes and what is written beside each handler.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from dedup2d.search_params import SearchParams
from dedup2d_http.contract import Answer, Header, Operation, operation_of
from dedup2d_http.openapi_schemas import schemas_of
from dedup2d_http.params import Reader
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routing import PREFIX, Resource

__all__ = ["document_of"]

Json = dict[str, Any]

_PARAMETER = re.compile(r"{(\w+)}")
_EVERYWHERE = ("CROSS_ORIGIN", "HOST_NOT_ALLOWED", "INTERNAL", "SHUTTING_DOWN")
_WITH_KEY = ("FORBIDDEN", "INVALID_PARAMETER", "RATE_LIMITED", "STORE_UNAVAILABLE", "UNAUTHORIZED")
_LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
_RETRY_STATUSES = frozenset({429, 503})
_PATHS: Mapping[str, str] = {
    "job_id": "of a job",
    "drawing_id": "of a drawing of the index",
    "file_hash": "sha256 of a file",
}
_PATH_SCHEMAS: Mapping[str, Json] = {"file_hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
_TEXT = f"""\
Have we drawn this before, and if so what changed?

What lies under `{PREFIX}` needs an API key where the service was started with keys, and shows nothing but
what belongs to the key's tenant: what belongs to another is 404, as if it were not there.
Every error is `application/problem+json` (RFC 9457) with a stable `code`.
Unknown parameters, and those given twice, are refused."""


def document_of(resources: Iterable[Resource[Any]]) -> Json:
    """Return the document of *resources*; methods of which nothing is written down are left out."""
    documented = [
        (resource, method, promised)
        for resource in resources
        for method, handler in resource.methods.items()
        if (promised := operation_of(handler)) is not None
    ]
    answers = [answer for _, _, promised in documented for answer in promised.answers]
    references, components = schemas_of(answer.shape for answer in answers if isinstance(answer.shape, type))
    paths: Json = {}
    for resource, method, promised in documented:
        path = paths.setdefault(resource.path, _shared(resource.path))
        path[method.lower()] = _operation(resource, method, promised, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dedup2d",
            "version": version("dedup2d"),
            "description": _TEXT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(components.items())), "Problem": _problem()},
            "securitySchemes": {
                "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "Bearer": {"type": "http", "scheme": "bearer"},
            },
            "headers": _common_headers(),
        },
        "x-problems": {
            code: {"status": problem.status, "title": problem.title} for code, problem in PROBLEMS.items()
        },
    }


def _shared(path: str) -> Json:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATHS.get(name, ""),
            "schema": _PATH_SCHEMAS.get(
                name, {"type": "string", "minLength": 1, "format": name.replace("_", "-")}
            ),
        }
        for name in _PARAMETER.findall(path)
    ]
    return {"parameters": parameters} if parameters else {}


def _operation(
    resource: Resource[Any], method: str, promised: Operation, references: Mapping[type, Json]
) -> Json:
    keyed = resource.path.startswith("/api/")
    found: Json = {
        "operationId": _identifier(resource.path, method),
        "tags": [_tag(resource.path)],
        "summary": promised.summary,
        "parameters": [
            *(_query(name, reader, name in promised.required) for name, reader in promised.query.items()),
            *(_header(header) for header in promised.headers),
        ],
        "responses": _responses(resource, promised, references),
    }
    if promised.text:
        found["description"] = promised.text
    if promised.body or promised.json is not None:
        found["requestBody"] = {"required": promised.body_required, "content": _body(promised)}
    if keyed:
        scope = resource.scope_of(method)
        roles = [] if scope is None else [str(scope)]
        found["security"] = [{"ApiKey": roles}, {"Bearer": roles}]
    return found


def _identifier(path: str, method: str) -> str:
    words = re.findall(r"\w+", path.removeprefix(PREFIX)) or ["page"]
    prefix = "" if path.startswith(PREFIX) or words == ["page"] else "service_"
    return "_".join([method.lower(), prefix + words[0], *words[1:]])


def _tag(path: str) -> str:
    words = re.findall(r"\w+", path.removeprefix(PREFIX)) if path.startswith(PREFIX) else []
    return (
        words[0]
        if words and words[0] in ("search", "jobs", "index", "uploads", "config", "geom", "precision")
        else "service"
    )


def _query(name: str, reader: Reader, required: bool) -> Json:
    schema = {**reader.schema, **_default(name)}
    found: Json = {"name": name, "in": "query", "description": reader.text, "schema": schema}
    if required:
        found["required"] = True
    if reader.many:
        found |= {"style": "form", "explode": True}
    return found


def _default(name: str) -> Json:
    """Return the default of a parameter of searches."""
    default = next((each.default for each in SearchParams.__attrs_attrs__ if each.name == name), None)
    return {"default": default} if isinstance(default, str | int | float) else {}


def _header(header: Header) -> Json:
    return {"name": header.name, "in": "header", "description": header.text, "schema": dict(header.schema)}


def _body(promised: Operation) -> Json:
    content: Json = {}
    if promised.body:
        schema = {
            "type": "object",
            "properties": {part.name: {**part.schema, "description": part.text} for part in promised.body},
            "required": [part.name for part in promised.body if part.required],
            "additionalProperties": False,
        }
        encoding = {part.name: {"contentType": part.media_type} for part in promised.body if part.media_type}
        content["multipart/form-data"] = {"schema": schema, "encoding": encoding}
    if promised.json is not None:
        content["application/json"] = {"schema": dict(promised.json)}
    return content


def _responses(resource: Resource[Any], promised: Operation, references: Mapping[type, Json]) -> Json:
    found: Json = {}
    for answer in promised.answers:
        found[str(answer.status)] = _answer(answer, references)
    for status, codes in _codes(resource, promised).items():
        _add_problems(found.setdefault(str(status), {"description": "", "headers": {}}), status, codes)
    names = ["X-Request-Id", *(_LIMIT_HEADERS if resource.path.startswith("/api/") else ())]
    for response in found.values():
        response["headers"] |= {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return dict(sorted(found.items()))


def _answer(answer: Answer, references: Mapping[type, Json]) -> Json:
    headers = {name: _text_header(text) for name, text in answer.headers.items()}
    found: Json = {"description": answer.text, "headers": headers}
    if answer.shape is not None:
        shape = references[answer.shape] if isinstance(answer.shape, type) else dict(answer.shape)
        found["content"] = {answer.media_type: {"schema": shape}}
    return found


def _codes(resource: Resource[Any], promised: Operation) -> dict[int, list[str]]:
    codes = {*_EVERYWHERE, *promised.problems}
    if resource.path.startswith("/api/"):
        codes |= {*_WITH_KEY}
    if _PARAMETER.search(resource.path):
        codes.add("NOT_FOUND")
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return by_status


def _add_problems(response: Json, status: int, codes: list[str]) -> None:
    listed = "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes)
    response["description"] = "; ".join(filter(None, [response["description"], listed]))
    response.setdefault("content", {})["application/problem+json"] = {
        "schema": {
            "allOf": [{"$ref": "#/components/schemas/Problem"}],
            "properties": {"code": {"enum": codes}, "status": {"const": status}},
        }
    }
    headers = response["headers"]
    if status in _RETRY_STATUSES:
        headers["Retry-After"] = _text_header("seconds until it is worth to try again")
    if status == 401:
        headers["WWW-Authenticate"] = _text_header("Bearer: the other way to send the key")


def _text_header(text: str) -> Json:
    return {"description": text, "schema": {"type": "string"}}


def _common_headers() -> Json:
    return {
        "X-Request-Id": _text_header("id of the request: the client's, if it sent one; also in the log"),
        "RateLimit": _text_header("how many requests are left, and for how long; where they are limited"),
        "RateLimit-Policy": _text_header("how many requests a tenant may send in a second"),
    }


def _problem() -> Json:
    texts = {
        "type": "a URN made of the code",
        "title": "what the code means",
        "detail": "what is wrong, what is allowed, what to do",
        "instance": "path of the request",
        "request_id": "also in the header X-Request-Id, and in the log",
    }
    properties: Json = {name: {"type": "string", "description": text} for name, text in texts.items()}
    properties["status"] = {"type": "integer", "minimum": 400, "maximum": 599}
    properties["code"] = {"enum": sorted(PROBLEMS), "description": "stable; texts are not"}
    return {
        "description": "An error (RFC 9457).",
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
    }
