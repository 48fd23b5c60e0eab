"""
The API against its own OpenAPI document, by schemathesis: whatever it makes up must be answered as promised.

All checks are on: no 5xx, no undocumented status, media type, header or field, no schema violated, nothing
taken that the document forbids, nothing refused that it allows, no route open without its key.
`DEDUP2D_CONTRACT_EXAMPLES` says how many examples each method gets (`nox -s contract`: 100).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.config import SchemathesisConfig

from dedup2d_http.openapi import document_of
from dedup2d_http.routes import RESOURCES
from dedup2d_http.routing import PREFIX
from tests.drawings import small_dxf, small_pdf, small_png
from tests.serving import Served, serving

EXAMPLES = int(os.environ.get("DEDUP2D_CONTRACT_EXAMPLES", "2"))
_ATTEMPTS = 3
"""Runs until one is whole: what calls follow depends on the answers, which Hypothesis does not expect."""
KEY = "key-of-the-contract-tests"
PARTS = ("flange", "bracket", "shaft")

# What a schema cannot say, so that values which fit it are refused all the same.
_REFUSED = {
    f"{PREFIX}/search": [
        "400",
        "404",
        "409",
        "415",
        "422",
        "429",
    ],  # thresholds in order; a drawing; a key twice
    f"{PREFIX}/index/add": ["400", "415", "422"],
    f"{PREFIX}/jobs": ["400"],  # only tokens that were given are tokens
    f"{PREFIX}/index/drawings": ["400"],
    f"{PREFIX}/uploads": ["400"],  # not offered without S3
    f"{PREFIX}/config": ["400"],  # thresholds in order; a weight
    f"{PREFIX}/precision/compare": ["400"],  # geometry
}


def _strict(schema: Any) -> Any:
    """Return the document with every object closed: a field that it does not name is a mismatch."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _strict(each) for name, each in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def _config() -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            # The right key is sent with every request; the checks try others by themselves.
            "generation": {
                "max-examples": EXAMPLES,
                "database": "none",
                "with-security-parameters": False,
            },
            "suppress-health-check": ["all"],
            "operations": [
                {
                    "include-path": path,
                    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "401", *statuses]}},
                }
                for path, statuses in _REFUSED.items()
            ],
        }
    )


DRAWINGS = [small_png("flange", 1), small_dxf("bracket", 2), small_pdf("shaft", 3)]
schemathesis.openapi.media_type(
    "application/octet-stream",
    st.sampled_from([*DRAWINGS, b"", b"%PDF-1.7 and no more", b"\x89PNG\r\n\x1a\n"]),
)
schemathesis.openapi.format(
    "area", st.builds("{:.3f},{:.3f},0.1,0.1".format, st.floats(0, 0.9), st.floats(0, 0.9))
)


def _known(kind: str) -> st.SearchStrategy[str]:
    """Return a strategy of ids that the service has given, and of some that it has not."""

    def pick(number: int) -> str:
        ids = [*KNOWN[kind], "0" * 32, "nothing"]
        return ids[number % len(ids)]

    return st.integers(0, 10_000).map(pick)  # when it is drawn: the ids are known by then


KNOWN: dict[str, list[str]] = {"job-id": [], "drawing-id": [], "page-token": []}
for each in KNOWN:
    schemathesis.openapi.format(each, _known(each))
SCHEMA = schemathesis.openapi.from_dict(_strict(document_of(RESOURCES)), config=_config())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a small index, as an operator would."""
    variables = {
        "DEDUP2D_API_KEYS": f"acme:{KEY}",
        "DEDUP2D_ENGINE_PROCESSES": "1",
        "DEDUP2D_MAX_WRONG_KEYS_PER_MINUTE": "0",
        "DEDUP2D_MAX_REQUESTS_PER_SECOND_PER_TENANT": "0",
        "DEDUP2D_CALLBACK_ALLOWLIST": "receiver.invalid",  # nothing made up is called
        "DEDUP2D_CALLBACK_RESOLVE_DNS": "0",
        "DEDUP2D_LOG_LEVEL": "warning",
    }
    with serving(tmp_path_factory.mktemp("contract") / "data", variables) as served:
        with served.client(KEY) as client:
            _fill(client)
        yield served
        assert served.process.poll() is None


def _fill(client: httpx.Client) -> None:
    """Give the service some drawings and jobs, so that what is asked for is there at times."""
    for number, drawing in enumerate(DRAWINGS * 4):
        added = client.post(f"{PREFIX}/index/add", files={"file": (f"{number}", drawing)})
        assert added.status_code == 200, added.text
        KNOWN["drawing-id"].append(added.json()["drawing_id"])
        files, query = {"file": ("query.png", DRAWINGS[0])}, {"async": "true", "mode": "fast"}
        submitted = client.post(f"{PREFIX}/search", params=query, files=files)
        KNOWN["job-id"].append(submitted.json()["job_id"])
    for listing in ("jobs", "index/drawings"):
        page = client.get(f"{PREFIX}/{listing}", params={"limit": "1"}).json()
        KNOWN["page-token"].append(page["next_page_token"])


@pytest.mark.once
@pytest.mark.timeout(600)
@SCHEMA.parametrize()
def test_every_answer_is_as_promised(case: schemathesis.Case, service: Served) -> None:
    """If this fails, the API does what its document does not say, or takes what it forbids."""
    if isinstance(case.body, dict) and any(value == [] for value in case.body.values()):
        return  # an empty list is no part of a form: what is wrong about it would not be sent
    case.call_and_validate(base_url=service.url, headers={"X-API-Key": KEY}, timeout=60)


class _Calls(SCHEMA.as_state_machine()):  # type: ignore[misc]  # made at run time
    """Calls one after the other, with what earlier ones gave: ids of jobs and drawings, tokens of pages."""

    service: Served

    def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
        return {"base_url": self.service.url, "headers": {"X-API-Key": KEY}, "timeout": 60}


@pytest.mark.once
@pytest.mark.timeout(600)
def test_calls_that_follow_from_each_other(service: Served) -> None:
    """If this fails, what was removed is still there, or what was just made is not."""
    _Calls.service = service
    for attempt in range(_ATTEMPTS):
        try:
            _Calls.run(
                settings=settings(
                    max_examples=2 * EXAMPLES,
                    stateful_step_count=8,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
            )
        except FlakyStrategyDefinition:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            break
