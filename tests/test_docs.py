"""What the documentation says of the programs, held against the programs."""

import re
from pathlib import Path

import pytest

from daemon.settings import DaemonSettings
from notifier.configuration import fields_of, settings_of
from vault.settings import VaultSettings

DOCS = Path(__file__).parent.parent / "docs"
PACKAGES = ("vault", "notifier", "daemon", "sql")


@pytest.mark.parametrize("settings", [VaultSettings, DaemonSettings])
def test_every_setting_is_documented_with_its_default(settings: type[VaultSettings | DaemonSettings]) -> None:
    """The settings page has a row for each setting, with the default that the code has."""
    page = (DOCS / "settings.md").read_text()
    for field, setting in settings_of(settings).items():
        if not setting.name:
            assert f"[[{field}]]" in page
            continue
        row = re.search(rf"^\| `{setting.name}` \| (.*?) \|", page, re.MULTILINE)
        assert row, f"{setting.name} is not in docs/settings.md"
        default = fields_of(settings)[field].default
        if default == ():
            assert "none" == row[1]
        elif isinstance(default, bool | str | int | float | tuple):
            shown = ", ".join(default) if isinstance(default, tuple) else f"{default}".removesuffix(".0")
            assert f"`{shown.lower() if isinstance(default, bool) else shown}`" == row[1]


def test_every_log_event_is_documented() -> None:
    """The logs page names every event that the code logs, and none that it does not."""
    source = "\n".join(path.read_text() for package in PACKAGES for path in (DOCS.parent / package).glob("*.py"))
    logged = set(
        re.findall(r'(?:log|get_logger\(\))\.(?:debug|info|warning|error|exception|critical)\(\s*"(\w+)"', source)
    )
    logged |= set(re.findall(r'(?:_complain|_unready)\(\s*"(\w+)"', source))
    listed = (DOCS / "logs.md").read_text()
    documented = {
        name for row in re.findall(r"^\| (`.*?`) \|", listed, re.MULTILINE) for name in re.findall(r"\w+", row)
    }
    assert set() == logged - documented
    for name in documented:
        assert f'"{name}"' in source, f"{name} is documented and never logged"


def test_every_file_that_the_docs_name_is_there() -> None:
    """A page that points at a test or a unit points at one that exists."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    named = {
        found for page in pages for found in re.findall(r"`((?:tests|deploy|docs)/[\w./-]+\.\w+)`", page.read_text())
    }
    assert named
    assert [] == [one for one in sorted(named) if not (DOCS.parent / one).exists()]
