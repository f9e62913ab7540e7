"""docs/openapi.json beside the vault as a process: every route, and answers to whatever fits the description or not."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import schemathesis
from deliveries import KEY, SECRET
from hypothesis import HealthCheck, given, settings
from programs import run
from schemathesis import checks

from vault.app import PREFIXES, make_app
from vault.settings import load

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))
OPERATIONS = [
    (method, path) for path, methods in DOCUMENT["paths"].items() for method in methods if method != "servers"
]
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
async def url(dsn: str, database: psycopg.Connection, tmp_path: Path) -> AsyncIterator[str]:
    """Where a vault is that has a few events."""
    env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "AGENT_EDGE_KEY": KEY, "VAULT_PORT": "0"}
    database.execute(
        "insert into public.agent_learnings (learning, metadata) values ('a', '1'), (%s, null)", ["b" * 999]
    )
    database.execute("insert into public.jobs (type, payload) select 'chat', '[{}]' from generate_series(1, 30)")
    async with run("vault", "serve", env=env, home=tmp_path) as program:
        yield f"http://127.0.0.1:{(await program.event('vault_listening'))['port']}"


def test_every_route_is_described(dsn: str) -> None:
    """The description has the routes that there are, under both addresses, and no other."""
    app = make_app(load(database_url=dsn, composio_webhook_secrets=SECRET))
    there = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {
        (method, prefix + path)
        for method, path in OPERATIONS
        for prefix in (("",) if "servers" in DOCUMENT["paths"][path] else PREFIXES)
    }
    assert described == there


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_answers_are_as_described(url: str, method: str, path: str) -> None:
    """Whatever is sent, with the key and without, the answer is one that the description names, and no fault."""
    schema: Any = schemathesis.openapi.from_dict(DOCUMENT)
    operation = schema[path][method]
    base = url if "servers" in DOCUMENT["paths"][path] else f"{url}/agent-vault"

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def conforms(case: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {KEY}"}
        response = case.call(base_url=base, session=session)
        case.validate_response(response, checks=CHECKS)

    with requests.Session() as session:
        await asyncio.to_thread(conforms)
