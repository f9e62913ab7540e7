"""What the tests of the command line share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
