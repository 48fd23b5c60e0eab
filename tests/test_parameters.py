"""Where the parameters of a search come from: every parameter, from every source, and what wins."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from attrs import fields

from dedup2d.codec import from_json, to_json
from dedup2d.configs import TenantConfig, make_config
from dedup2d.errors import InvalidParameterError
from dedup2d.parameters import (
    Effective,
    Source,
    effective,
    effective_parameters,
    given_by,
    preset_values,
    read_parameters,
)
from dedup2d.presets import PRESETS
from dedup2d.search_params import Area, Mode, PrecisionProfile, SearchParams, VersionGate
from dedup2d.types import Job, SearchResult
from dedup2d_http.params import PARAMETERS

# For each parameter three values, of request, preset and tenant: the first and last differ from the default.
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "mode": (Mode.FAST, Mode.PRECISE, Mode.FAST),
    "max_results": (1, 2, 3),
    "compute_diff": (False, True, False),
    "diff_top_n": (1, 2, 3),
    "enable_ml": (True, False, True),
    "enable_geometric": (False, True, False),
    "exclude_self": (True, False, True),
    "duplicate_threshold": (0.91, 0.92, 0.93),
    "similar_threshold": (0.1, 0.2, 0.3),
    "ignore": (("frame",), ("title_block",), (Area(x=0, y=0, width=1, height=1),)),
    "enable_precision": (False, True, False),
    "precision_profile": (PrecisionProfile.VERSION, PrecisionProfile.STRICT, PrecisionProfile.VERSION),
    "precision_top_n": (1, 2, 3),
    "precision_visual_weight": (0.1, 0.2, 0.4),
    "precision_geom_weight": (0.1, 0.2, 0.4),
    "precision_compute_diff": (False, True, False),
    "precision_diff_top_n": (1, 2, 3),
    "precision_diff_max_paths": (1, 2, 3),
    "version_gate": (VersionGate.META, VersionGate.FILE_NAME, VersionGate.AUTO),
}
SOURCES = (Source.REQUEST, Source.PRESET, Source.TENANT)
CASES = [(name, given) for name in VALUES for given in product((True, False), repeat=3)]


def test_the_table_has_every_parameter() -> None:
    """If this fails, a new parameter has no place in the table, and nobody knows what wins."""
    assert list(VALUES) == [each.name for each in fields(SearchParams)]
    assert set(VALUES) == set(PARAMETERS)


@pytest.mark.parametrize(("name", "given"), CASES)
def test_who_wins(name: str, given: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a parameter comes from another source than request > preset > tenant > default."""
    monkeypatch.setattr("dedup2d.parameters.preset_values", lambda preset: preset or {})
    request, preset, tenant = (
        {name: value} if there else {} for value, there in zip(VALUES[name], given, strict=True)
    )

    found = effective(request=request, preset=preset, tenant=tenant)  # type: ignore[arg-type]  # any of its keywords

    wanted = next(((s, v) for s, v, there in zip(SOURCES, VALUES[name], given, strict=True) if there), None)
    default = getattr(SearchParams(), name)
    source, value = wanted or (Source.DEFAULT, default)
    assert getattr(found.params, name) == value
    shown = effective_parameters(found.params, found.sources)
    assert shown[name].source == source
    plain = value if not isinstance(value, tuple) else tuple(map(str, value))
    assert shown[name].value == plain
    others = {other: each.source for other, each in shown.items() if other != name}
    assert set(others.values()) == {Source.DEFAULT}
    assert len(shown) == len(VALUES)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_those_of_the_issue(name: str) -> None:
    """If this fails, a preset means something else than what was agreed."""
    wanted: dict[str, tuple[Any, ...]] = {
        "strict": ("balanced", "strict", 20, 0.95, 0.80, 0.3, 0.7, "off"),
        "version": ("balanced", "version", 50, 0.95, 0.70, 0.5, 0.5, "auto"),
        "loose": ("balanced", "version", 50, 0.90, 0.50, 0.6, 0.4, "off"),
    }
    params = effective(request={}, preset=name).params

    assert (
        params.mode,
        params.precision_profile,
        params.precision_top_n,
        params.duplicate_threshold,
        params.similar_threshold,
        params.precision_visual_weight,
        params.precision_geom_weight,
        params.version_gate,
    ) == wanted[name]
    assert set(effective(request={}, preset=name).sources.values()) == {Source.PRESET}


def test_a_preset_of_the_request_wins_over_the_tenants_parameters() -> None:
    """If this fails, a client that names a preset gets another one."""
    tenant = make_config("acme", {"max_results": 7, "similar_threshold": 0.6}, preset="loose", updated_at=0.0)

    plain = effective(request={}, tenant=tenant.search_params())
    preset = effective(request={"precision_top_n": 9}, preset="version", tenant=tenant.search_params())

    assert (plain.params.duplicate_threshold, plain.params.similar_threshold) == (0.9, 0.6)
    assert plain.sources["duplicate_threshold"] is Source.TENANT
    assert (preset.params.similar_threshold, preset.params.max_results) == (0.7, 7)
    assert preset.sources["similar_threshold"] is Source.PRESET
    assert preset.sources["max_results"] is Source.TENANT
    assert preset.sources["precision_top_n"] is Source.REQUEST


@pytest.mark.parametrize(
    ("request_", "tenant", "words"),
    [
        (
            {"duplicate_threshold": 0.6},
            {"similar_threshold": 0.7},
            ("duplicate_threshold=0.6", "0.7 of the tenant"),
        ),
        (
            {"similar_threshold": 0.97},
            {"duplicate_threshold": 0.96},
            ("similar_threshold=0.97", "0.96 of the tenant"),
        ),
        ({"similar_threshold": 0.97}, {}, ("similar_threshold=0.97", "0.95 of the default")),
        ({"similar_threshold": 0.9, "duplicate_threshold": 0.8}, {}, ("similar_threshold=0.9", "(0.8)")),
        ({}, {"duplicate_threshold": 0.6}, ("duplicate_threshold", "similar_threshold")),
        (
            {"precision_visual_weight": 0},
            {"precision_geom_weight": 0},
            ("precision_geom_weight", "more than 0"),
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    request_: dict[str, Any], tenant: dict[str, Any], words: tuple[str, ...]
) -> None:
    """If this fails, a client is refused for a value that it never sent, and cannot find out whose it is."""
    with pytest.raises(InvalidParameterError) as raised:
        effective(request=request_, tenant=tenant)

    for word in words:
        assert word in str(raised.value)


def test_presets_that_are_none_are_refused() -> None:
    """If this fails, a misspelt preset is none at all."""
    with pytest.raises(InvalidParameterError, match="strict, version, loose"):
        preset_values("lax")


def test_parameters_of_a_caller_stand_as_they_are() -> None:
    """If this fails, what a program of its own gives is said to be of somebody else."""
    found = given_by(SearchParams(max_results=3, mode="fast"))

    assert found == Effective(
        params=SearchParams(max_results=3, mode=Mode.FAST),
        sources={"max_results": Source.REQUEST, "mode": Source.REQUEST},
    )


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_result": 3}, ("max_result=3", "max_results")),
        ({"tenant_id": "other"}, ("tenant_id",)),
        ({"max_results": "3"}, ("max_results=3", "whole number from 1 to 500")),
        ({"max_results": True}, ("max_results=True",)),
        ({"max_results": 0}, ("max_results=0",)),
        ({"max_results": 2.5}, ("max_results=2.5",)),
        ({"max_results": None}, ("max_results=None",)),
        ({"diff_top_n": 2.5}, ("diff_top_n=2.5",)),
        ({"compute_diff": 1}, ("compute_diff=1", "true or false")),
        ({"enable_precision": "false"}, ("enable_precision=false", "true or false")),
        ({"mode": "slow"}, ("mode=slow", "fast, balanced, precise")),
        ({"mode": []}, ("mode=[]",)),
        ({"version_gate": "name"}, ("version_gate=name", "off, auto, file_name, meta")),
        ({"precision_profile": 5}, ("precision_profile=5", "strict, version")),
        ({"duplicate_threshold": 1.5}, ("duplicate_threshold=1.5", "0 to 1")),
        ({"similar_threshold": 0.9, "duplicate_threshold": 0.8}, ("similar_threshold=0.9",)),
        ({"precision_visual_weight": 0, "precision_geom_weight": 0}, ("precision_geom_weight",)),
        ({"precision_diff_max_paths": 2001}, ("precision_diff_max_paths=2001",)),
        ({"ignore": "frame"}, ("ignore", "a list of texts")),
        ({"ignore": ["notes"]}, ("ignore=notes",)),
        ({"ignore": ["frame"] * 21}, ("ignore", "at most 20")),
    ],
)
def test_configurations_are_checked(parameters: dict[str, Any], words: tuple[str, ...]) -> None:
    """If this fails, a tenant configures something that breaks each of its searches, or does nothing."""
    with pytest.raises(InvalidParameterError) as raised:
        make_config("acme", parameters, updated_at=0.0)

    for word in words:
        assert word in str(raised.value)


def test_a_configuration_of_another_version_does_not_stop_searches() -> None:
    """If this fails, going back to an older version refuses every search of a tenant."""
    config = TenantConfig(
        tenant_id="acme", preset="gone", parameters={"later": 1, "max_results": 3}, updated_at=0.0
    )

    assert config.search_params() == {"max_results": 3}


def test_parameters_come_back_equal() -> None:
    """If this fails, a job searches with other parameters than it was submitted with."""
    values = {name: each[0] for name, each in VALUES.items()}
    found = effective(request=values)
    shown = effective_parameters(found.params, found.sources)

    assert from_json(to_json(found.params), SearchParams) == found.params
    result = SearchResult(effective_parameters=shown)
    assert from_json(to_json(result), SearchResult) == result
    plain = {name: each.value for name, each in shown.items()}
    assert read_parameters(json.loads(to_json(plain))) == {
        name: value for name, value in values.items() if name != "ignore"
    } | {"ignore": values["ignore"]}


def test_jobs_of_the_version_before_are_read() -> None:
    """If this fails, jobs that wait during an upgrade are lost, or searched for otherwise than was asked."""
    record = {
        "job_id": "j",
        "tenant_id": "acme",
        "file_key": "acme/j",
        "file_name": "a.png",
        "file_hash": "0" * 64,
        "file_size": 5,
        "created_at": 1.5,
        "params": {
            "mode": "precise",
            "max_results": 3,
            "compute_diff": False,
            "diff_top_n": 2,
            "enable_ml": False,
            "enable_geometric": True,
            "exclude_self": False,
            "duplicate_threshold": 0.9,
            "similar_threshold": 0.5,
            "ignore": ["frame"],
        },
    }
    job = from_json(json.dumps(record), Job)

    assert job.params == SearchParams(
        mode="precise",
        max_results=3,
        compute_diff=False,
        diff_top_n=2,
        duplicate_threshold=0.9,
        similar_threshold=0.5,
        ignore=("frame",),
    )
    assert (job.parameter_sources, job.geometry_key, job.geometry_hash) == ({}, None, None)
