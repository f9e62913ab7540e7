"""The built wheel: what ships, and whose names it takes."""

import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("vault", "notifier", "daemon", "sql")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release does."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("agent_vault-*.whl"))


def test_every_file_of_the_packages_ships(wheel: Path) -> None:
    """The wheel holds every Python, SQL and template file that git knows, and nothing but our packages."""
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert set(listed.stdout.split()) <= shipped
    assert set(PACKAGES) == {name.split("/")[0] for name in shipped}
    assert {"sql/triggers.sql", "sql/privileges.sql", "sql/functions/record_events.sql"} <= shipped


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, without what it needs, into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel],
        check=True,
        capture_output=True,
    )
    return target


def test_the_installed_wheel_finds_its_sql(installed: Path, tmp_path: Path) -> None:
    """Installed outside a clone, the program prints the whole schema from the wheel's own files."""
    ours = "import sql, sys; assert sql.__file__.startswith(sys.argv.pop()), sql.__file__; "
    printed = subprocess.run(
        [sys.executable, "-c", f"{ours}from vault.cli import main; main()", "migrate", "--print", installed],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "create table if not exists public.jobs" in printed


def test_nobody_else_owns_our_packages(installed: Path) -> None:
    """No other distribution that is installed here brings a top-level package of our names."""
    owners = {
        distribution.name
        for distribution in distributions(path=[str(installed), *sys.path])
        for file in distribution.files or ()
        if file.parts[0] in PACKAGES
    }
    assert {"agent-vault"} == owners
