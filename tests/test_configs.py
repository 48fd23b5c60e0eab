"""What tenants configure: the contract on every store, and the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from dedup2d.build import build_configs
from dedup2d.configs import ConfigStore, TenantConfig
from dedup2d.configs.memory import MemoryConfigStore
from dedup2d.configs.sqlite import SQLiteConfigStore
from dedup2d.errors import UnreadableRecordError
from dedup2d.settings import Settings
from dedup2d.testing import CONFIG_STORE_CHECKS, ContractError, check_config_store
from dedup2d_http.routing import PREFIX
from tests.backends import CONFIG_STORES
from tests.http_support import KEY, OTHER_KEY, PNG, assert_problem, bench, keyed

CONFIG = f"{PREFIX}/config"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("check", CONFIG_STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CONFIG_STORES)
async def test_contract(name: str, check: Callable[[ConfigStore], Awaitable[None]], tmp_path: Path) -> None:
    """If this fails, a tenant's configuration is lost, mixed with a former one, or another tenant's."""
    with anyio.fail_after(30):
        async with CONFIG_STORES[name](tmp_path) as store:
            await check(store)


async def test_the_contract_refuses_broken_stores() -> None:
    """If this fails, the checks pass on stores that mix tenants, merge, or forget to delete."""

    class MixesTenants(MemoryConfigStore):
        async def get(self, tenant_id: str) -> TenantConfig | None:
            return next(iter(self._configs.values()), None)

    class Keeps(MemoryConfigStore):
        async def put(self, config: TenantConfig) -> None:
            self._configs.setdefault(config.tenant_id, config)

    class Remembers(MemoryConfigStore):
        async def delete(self, tenant_id: str) -> bool:
            return tenant_id in self._configs

    for broken in (MixesTenants, Keeps, Remembers):
        with pytest.raises(ContractError):
            await check_config_store(broken)
    await check_config_store(MemoryConfigStore)


async def test_a_configuration_survives_a_restart(tmp_path: Path) -> None:
    """If this fails, searches change with each restart."""
    settings = Settings(data_dir=tmp_path)
    config = TenantConfig(tenant_id="acme", parameters={"max_results": 3}, updated_at=1.5)
    async with build_configs(settings) as store:
        await store.put(config)
    async with build_configs(settings) as store:
        assert await store.get("acme") == config


async def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    """If this fails, a damaged record is silently no configuration at all."""
    store = SQLiteConfigStore(tmp_path / "configs.db")
    async with store:
        await store._database.write(
            lambda connection: connection.execute("INSERT INTO configs VALUES ('acme', '{')")
        )
        with pytest.raises(UnreadableRecordError):
            await store.get("acme")


async def test_the_life_of_a_configuration() -> None:
    """If this fails, a tenant cannot see, set, replace or forget what its searches are made with."""
    async with bench(keyed(), key=KEY) as api:
        nothing = await api.client.get(CONFIG)
        body = {"preset": "version", "similar_threshold": 0.6, "ignore": ["frame"], "compute_diff": False}
        first = await api.client.put(CONFIG, json=body)
        await api.search()
        await api.search(preset="loose", max_results="9")
        second = await api.client.put(CONFIG, json={"max_results": 7})
        deleted = [(await api.client.delete(CONFIG)).json() for _ in range(2)]
        after = await api.client.get(CONFIG)

    assert (nothing.json()["preset"], nothing.json()["parameters"], nothing.json()["updated_at"]) == (
        None,
        {},
        None,
    )
    assert first.json()["parameters"] == {name: value for name, value in body.items() if name != "preset"}
    assert first.json()["effective_parameters"]["similar_threshold"] == {"value": 0.6, "source": "tenant"}
    assert first.json()["effective_parameters"]["version_gate"] == {"value": "auto", "source": "tenant"}
    assert first.json()["effective_parameters"]["max_results"] == {"value": 50, "source": "default"}
    own, preset = (call.params for call in api.vision.calls)
    assert own
    assert preset
    assert (own.similar_threshold, own.ignore, own.compute_diff) == (0.6, ("frame",), False)
    assert (preset.similar_threshold, preset.ignore, preset.max_results) == (0.5, ("frame",), 9)
    assert second.json()["parameters"] == {"max_results": 7}
    assert second.json()["preset"] is None
    assert [each["deleted"] for each in deleted] == [True, False]
    assert after.json() == nothing.json()


async def test_results_say_where_parameters_come_from() -> None:
    """If this fails, nobody can tell why a search was made as it was, at once or as a job."""
    async with bench(keyed(), key=KEY) as api:
        await api.client.put(CONFIG, json={"similar_threshold": 0.6, "max_results": 7})
        now = (await api.search(preset="loose", diff_top_n="1")).json()
        path = await api.submit(preset="loose", diff_top_n="1")
        job = (await api.client.get(path, headers={"Prefer": "wait=10"})).json()

    for result in (now, job["result"]):
        shown = result["effective_parameters"]
        assert shown["diff_top_n"] == {"value": 1, "source": "request"}
        assert shown["similar_threshold"] == {"value": 0.5, "source": "preset"}
        assert shown["max_results"] == {"value": 7, "source": "tenant"}
        assert shown["enable_ml"] == {"value": False, "source": "default"}


async def test_a_job_keeps_what_was_configured_when_it_was_submitted() -> None:
    """If this fails, a change of the configuration changes jobs that were taken in before it."""
    async with bench(keyed(), key=KEY, concurrency=0) as api:
        await api.client.put(CONFIG, json={"max_results": 7})
        path = await api.submit()
        await api.client.put(CONFIG, json={"max_results": 8})
        job = (await api.client.get(path)).json()

    assert job["params"]["max_results"] == 7


async def test_tenants_do_not_share_configurations() -> None:
    """If this fails, one tenant sees or changes how another one searches."""
    async with bench(keyed(), key=KEY) as api:
        await api.client.put(CONFIG, json={"max_results": 7})
        other = {"X-API-Key": OTHER_KEY}
        seen = await api.client.get(CONFIG, headers=other)
        deleted = await api.client.delete(CONFIG, headers=other)
        await api.client.post(f"{PREFIX}/search", headers=other, files={"file": ("a.png", PNG)})
        kept = await api.client.get(CONFIG)

    assert (seen.json()["parameters"], seen.json()["tenant_id"]) == ({}, "other")
    assert deleted.json()["deleted"] is False
    assert api.vision.calls[-1].params
    assert api.vision.calls[-1].params.max_results == 50
    assert kept.json()["parameters"] == {"max_results": 7}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ("a JSON object",)),
        (b"[]", ("a JSON object",)),
        (b"{", ("a JSON object",)),
        (b"\xff{}", ("a JSON object",)),
        (b"[" * 60_000, ("a JSON object",)),
        (b'{"preset": "lax"}', ("preset=lax", "strict, version, loose")),
        (b'{"preset": 3}', ("preset=3",)),
        (b'{"max_results": 0}', ("max_results=0",)),
        (b'{"max_result": 1}', ("max_result=1", "max_results")),
        (b'{"tenant_id": "other"}', ("tenant_id",)),
        (b'{"similar_threshold": 0.99}', ("similar_threshold=0.99", "0.95")),
        (b'{"version_gate": "name"}', ("off, auto, file_name, meta",)),
    ],
)
async def test_what_cannot_be_configured_is_refused(body: bytes, words: tuple[str, ...]) -> None:
    """If this fails, a configuration is taken that breaks searches later, or a refusal says nothing."""
    async with bench(keyed(), key=KEY) as api:
        answer = await api.client.put(CONFIG, content=body, headers={"Content-Type": "application/json"})
        kept = await api.client.get(CONFIG)

    assert_problem(answer, 400, "INVALID_PARAMETER", *words)
    assert kept.json()["parameters"] == {}


async def test_other_bodies_are_refused() -> None:
    """If this fails, a body of another kind, or a huge one, is read into memory."""
    async with bench(keyed(), key=KEY) as api:
        text = await api.client.put(CONFIG, content=b"{}", headers={"Content-Type": "text/plain"})
        large = await api.client.put(
            CONFIG, content=b"{" + b" " * 70_000 + b"}", headers={"Content-Type": "application/json"}
        )

        async def pieces() -> Any:
            for _ in range(70):
                yield b" " * 1000

        streamed = await api.client.put(
            CONFIG, content=pieces(), headers={"Content-Type": "application/json"}
        )

    assert_problem(text, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json", "text/plain")
    assert_problem(large, 413, "FILE_TOO_LARGE", "65,536 bytes")
    assert_problem(streamed, 413, "FILE_TOO_LARGE", "65,536 bytes")
