"""What the tests of a vault that answers share: its settings, itself, and a hand on its database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient
from deliveries import KEY, SECRET, Commits, Switch
from psycopg.conninfo import conninfo_to_dict
from pytest_aiohttp import AiohttpClient

from vault.app import make_app
from vault.settings import ENVIRONMENT_NAMES, VaultSettings, load

Configure = Callable[..., VaultSettings]


@pytest.fixture
def configure(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Gives settings of the test's own database and secrets, and none of this machine's."""
    for name in ENVIRONMENT_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def settings(toml: str = "", **changed: Any) -> VaultSettings:
        file = tmp_path / "vault.toml"
        file.write_text(toml)
        given = {"database_url": dsn, "composio_webhook_secrets": SECRET, "agent_edge_key": KEY}
        return load(file, **given | changed)

    return settings


@pytest.fixture
async def vault(configure: Configure, aiohttp_client: AiohttpClient) -> TestClient:
    """A vault over the test's database."""
    return await aiohttp_client(make_app(configure()))


@pytest.fixture
def commits(database: psycopg.Connection) -> Commits:
    """A hold on the commits of learnings."""
    return Commits(database)


@pytest.fixture
def switch(server_dsn: str, dsn: str) -> Switch:
    """The test's database, to be taken away."""
    return Switch(server_dsn, str(conninfo_to_dict(dsn)["dbname"]))
