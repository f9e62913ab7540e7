"""What the tests of the whole programs share."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import programs
import pytest
from deliveries import KEY, SECRET

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `agent-vault` with nothing of this machine's settings, on this standard input."""

    def command(*arguments: str, stdin: Any = subprocess.DEVNULL, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vault", *arguments],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **env},
            check=False,
            stdin=stdin,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done

    return command


@pytest.fixture
async def port(dsn: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The port of a vault that runs, of which no request is a fault of its own; a test may add to its environment."""
    config = tmp_path / "vault.toml"
    config.touch()
    env = {
        "DATABASE_URL": dsn,
        "COMPOSIO_WEBHOOK_SECRET": f"another,{SECRET}",
        "AGENT_EDGE_KEY": KEY,
        "VAULT_PORT": "0",
        "VAULT_CONFIG": str(config),
        **getattr(request, "param", {}),
    }
    async with programs.run("vault", "serve", env=env, home=tmp_path) as program:
        yield (await program.event("vault_listening"))["port"]
        await check_faultless(program)


async def check_faultless(program: programs.Program) -> None:
    """Fail where the vault logged a fault of its own, or does not end as it should."""
    assert 0 == await program.stop()
    assert [] == [event for event in program.events if event["level"] in {"error", "critical"}]
