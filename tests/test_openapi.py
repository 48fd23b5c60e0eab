"""The OpenAPI document and its page: complete, right, and readable without any other machine."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
import schemathesis
from attrs import fields_dict

from dedup2d.types import PLACES, Area, DiffRegion, Match, SearchParams
from dedup2d_http.contract import operation_of
from dedup2d_http.openapi import document_of
from dedup2d_http.openapi_schemas import schemas_of, validated
from dedup2d_http.params import SEARCH_FIELDS
from dedup2d_http.problems import PROBLEMS
from dedup2d_http.routes import RESOURCES
from tests.http_support import bench, keyed

METHODS = [(each.path, method) for each in RESOURCES for method in each.methods]
DOCUMENT = document_of(RESOURCES)


def of(path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


@pytest.mark.parametrize(("path", "method"), METHODS)
def test_every_method_of_every_route_says_what_it_promises(path: str, method: str) -> None:
    """If this fails, a route was added that no client can know of: give its handler an `@operation`."""
    (resource,) = (each for each in RESOURCES if each.path == path)
    promised = operation_of(resource.methods[method])

    assert promised is not None
    assert promised.summary
    assert promised.summary[0].isupper()
    assert not promised.summary.endswith(".")
    assert promised.answers
    assert set(promised.problems) <= PROBLEMS.keys()
    assert set(promised.required) <= promised.query.keys()
    assert all(reader.text for name, reader in promised.query.items() if name != "callback_url")


def test_the_document_is_openapi_3_1() -> None:
    """If this fails, generators of clients refuse the document."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.validate()

    assert DOCUMENT["openapi"] == "3.1.0"
    assert sum(1 for _ in schema.get_all_operations()) == len(METHODS)
    identifiers = [of(*each)["operationId"] for each in METHODS]
    assert len(set(identifiers)) == len(identifiers)


def test_every_reference_leads_somewhere() -> None:
    """If this fails, the document names schemas that it does not have."""
    named = set(re.findall(r"#/components/(\w+)/([\w-]+)", str(DOCUMENT)))

    assert named
    for kind, name in named:
        assert name in DOCUMENT["components"][kind]


def test_every_code_is_listed_with_its_status() -> None:
    """If this fails, a client meets an error that the reference does not know."""
    listed: dict[str, int] = {}
    for path, method in METHODS:
        for status, answer in of(path, method)["responses"].items():
            problem = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
            for code in problem.get("properties", {}).get("code", {}).get("enum", ()):
                listed[code] = int(status)

    # What is no route's own: a job carries WORKER_LOST, and no method that exists is refused.
    elsewhere = {"METHOD_NOT_ALLOWED", "WORKER_LOST"}
    assert {code: listed.get(code) for code in PROBLEMS.keys() - elsewhere} == {
        code: problem.status for code, problem in PROBLEMS.items() if code not in elsewhere
    }
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == PROBLEMS.keys()
    assert DOCUMENT["x-problems"].keys() == PROBLEMS.keys()


def test_what_needs_a_key_says_so_and_nothing_else() -> None:
    """If this fails, clients send keys where they are not wanted, or learn of them by a 401."""
    for resource in RESOURCES:
        for method in resource.methods:
            security = of(resource.path, method).get("security")
            if not resource.path.startswith("/api/"):
                assert security is None
                continue
            scope = resource.scope_of(method)
            roles = [] if scope is None else [scope.value]
            assert security == [{"ApiKey": roles}, {"Bearer": roles}]
            assert "401" in of(resource.path, method)["responses"]


def test_bounds_of_validators_are_in_the_schemas() -> None:
    """If this fails, the document leaves out what msgspec does not know: bounds and choices."""
    _, schemas = schemas_of([SearchParams, Match])
    params = schemas["SearchParams"]["properties"]

    assert params["max_results"] == {"type": "integer", "minimum": 1, "maximum": 500}
    assert params["ignore"]["maxItems"] == 20
    assert schemas["Area"]["properties"]["x"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert schemas["DiffRegion"]["properties"]["place"]["enum"] == list(PLACES)
    assert schemas["DiffRegion"]["required"] == list(fields_dict(DiffRegion))
    assert schemas["Area"]["required"] == list(fields_dict(Area))


@pytest.mark.parametrize("name", sorted(SEARCH_FIELDS))
def test_the_query_takes_what_the_type_takes(name: str) -> None:
    """If this fails, the bounds of the query and those of `SearchParams` have gone apart."""
    bounds = validated(fields_dict(SearchParams)[name].validator)
    schema = SEARCH_FIELDS[name].schema

    assert {key: schema[key] for key in bounds} == bounds
    assert {key for key in schema if key.startswith(("min", "max"))} == bounds.keys()


async def test_the_reference_is_open_to_all_and_costs_nothing_twice() -> None:
    """If this fails, the reference needs a key, or is sent anew to whoever has it."""
    async with bench(keyed()) as api:
        document = await api.client.get("/openapi.json")
        page = await api.client.get("/docs")
        again = await api.client.get("/docs", headers={"If-None-Match": page.headers["etag"]})

    assert (document.status_code, document.headers["content-type"]) == (200, "application/json")
    assert document.json() == DOCUMENT
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (again.status_code, again.content) == (304, b"")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.ids.add(given.get("id") or "")
        self.links |= {given.get(name) or "" for name in ("href", "src", "action") if name in given}

    def handle_data(self, data: str) -> None:
        self.words += data + " "


async def test_the_page_shows_everything_and_asks_nobody() -> None:
    """If this fails, the page lacks a route or a code, has a dead link, or loads something from elsewhere."""
    async with bench() as api:
        answer = await api.client.get("/docs")
    page = _Page()
    page.feed(answer.text)

    assert page.tags.isdisjoint({"script", "img", "link", "iframe", "object", "embed", "form", "base"})
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert "@import" not in answer.text
    assert "url(" not in answer.text
    for path, _ in METHODS:
        assert path in page.words
    for code in PROBLEMS:
        assert code in page.words
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.path)
async def test_options_and_unknown_methods_of_every_route(resource: Any) -> None:
    """If this fails, a route does not tell its methods, or acts on a method that it does not have."""
    path = re.sub(r"{\w+}", "0" * 32, resource.path)
    async with bench() as api:
        options = await api.client.options(path)
        refused = await api.client.request("PATCH", path)

    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == resource.allow
    assert (refused.status_code, refused.headers["allow"]) == (405, resource.allow)
    assert refused.json()["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("path", [path for path, method in METHODS if method == "GET"])
async def test_head_is_get_without_a_body(path: str) -> None:
    """If this fails, HEAD has a body, or tells other headers than GET."""
    path = re.sub(r"{\w+}", "0" * 32, path)
    async with bench() as api:
        got = await api.client.get(path)
        head = await api.client.head(path)

    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "etag", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)
