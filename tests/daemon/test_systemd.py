"""The daemon under systemd: its units, and what systemctl is told."""

import configparser
import shutil
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import pytest

from daemon import systemd
from daemon.installation import Installation
from daemon.steps import Answer, ServiceError, carry_out

DEPLOY = Path(__file__).parents[2] / "deploy/systemd"
UNITS = ["agent-vault.service", "agent-daemon.service", "user/agent-daemon.service"]
NO_SYSTEMD = "systemd-analyze is not installed here"


def linux(home: Path) -> Installation:
    """Make an installation whose home is a folder of the test."""
    return Installation(home / "bin/agent-daemon", "ada", 1000, home)


class Systemctl:
    """Answers as systemctl does: `codes` by verb, and otherwise that all is well."""

    def __init__(self, codes: dict[str, int]) -> None:
        """Take the exit codes of the verbs that fail."""
        self.codes = codes
        self.heard: list[str] = []

    def __call__(self, argv: tuple[str, ...]) -> Answer:
        """Answer one command."""
        self.heard.append(" ".join(argv))
        code = next((code for verb, code in self.codes.items() if verb in argv), 0)
        return subprocess.CompletedProcess(argv, code, "", "systemctl said so")


def settings(unit: Path) -> dict[str, str]:
    """Read the [Service] section; of a setting that is there twice, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # configparser's documented way
    parser.read(unit)
    return {**parser["Unit"], **parser["Service"]}


@pytest.mark.parametrize(
    ("file", "command"), [(UNITS[1], "/usr/local/bin/agent-daemon run"), (UNITS[2], "%h/.local/bin/agent-daemon run")]
)
def test_deploy_is_what_is_rendered(file: str, command: str) -> None:
    """The files to install by hand and those that `install` writes are the same."""
    expected = systemd.render(command, "agent-vault", system=not file.startswith("user/"))
    found = (DEPLOY / file).read_text()
    assert expected == found, "\n".join(unified_diff(found.splitlines(), expected.splitlines(), file, "rendered"))


@pytest.mark.parametrize("file", UNITS)
def test_every_unit_restarts_for_ever_but_not_into_a_wrong_setting(file: str) -> None:
    """Exit 78 stays down, all else comes back, and stopping has the time that it needs."""
    found = settings(DEPLOY / file)
    expected = {
        "Type": "notify",
        "Restart": "always",
        "RestartSec": "1",
        "RestartPreventExitStatus": "78",
        "StartLimitIntervalSec": "0",
        "TimeoutStopSec": "45",
        "NoNewPrivileges": "yes",
        "MemoryDenyWriteExecute": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    }
    assert expected == {name: found.get(name) for name in expected}


@pytest.mark.parametrize("file", UNITS[:2])
def test_every_loaded_secret_is_optional(file: str) -> None:
    """A missing file would stop the unit with 243, and an empty default is a syntax error to systemd."""
    lines = (DEPLOY / file).read_text().splitlines()
    loaded = [line.split("=")[1] for line in lines if line.startswith("LoadCredential=")]
    assert [f"{name.split(':')[0]}:/etc/agent-vault/secrets/{name.split(':')[0]}" for name in loaded] == loaded
    assert {f"SetCredential={name.split(':')[0]}:\\n" for name in loaded} <= set(lines)


def test_the_vaults_spool_is_where_it_may_write() -> None:
    """With all else read-only, the spool is in the service's own folder, closed to others."""
    found = settings(DEPLOY / UNITS[0])
    expected = {
        "ProtectSystem": "strict",
        "StateDirectory": "agent-vault",
        "StateDirectoryMode": "0700",
        "Environment": "VAULT_SPOOL_DIR=%S/agent-vault",
    }
    assert expected == {name: found.get(name) for name in expected}


def test_a_user_unit_asks_for_nothing_that_needs_privileges() -> None:
    """Each of these stops a unit of a user's manager with 217 or 218."""
    forbidden = {
        "User",
        "CapabilityBoundingSet",
        "PrivateDevices",
        "ProtectClock",
        "ProtectKernelModules",
        "PrivateUsers",
    }
    assert not forbidden & settings(DEPLOY / UNITS[2]).keys()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason=NO_SYSTEMD)
@pytest.mark.parametrize("file", UNITS)
def test_systemd_finds_no_fault(file: str, tmp_path: Path) -> None:
    """Systemd itself reads the units; the program is replaced by one that is there."""
    text = (DEPLOY / file).read_text()
    for program in ("/opt/agent-vault/bin/agent-vault", "/usr/local/bin/agent-daemon", "%h/.local/bin/agent-daemon"):
        text = text.replace(f"ExecStart={program} ", f"ExecStart={sys.executable} ")
    unit = tmp_path / Path(file).name
    unit.write_text(text)
    scope = "--user" if file.startswith("user/") else "--system"
    argv = ["systemd-analyze", scope, "--man=no", "--recursive-errors=no", "verify", str(unit)]
    answer = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (0, "") == (answer.returncode, answer.stderr)


def test_install_starts_anew_and_lingers(tmp_path: Path) -> None:
    """A second install must not leave the old daemon running, nor the new one end at log-out."""
    told = Systemctl({})
    carry_out(systemd.install_steps(linux(tmp_path)), told)
    assert [
        "systemctl --user show --property=Version",
        "systemctl --user daemon-reload",
        "systemctl --user enable agent-daemon.service",
        "loginctl enable-linger ada",
        "systemctl --user restart agent-daemon.service",
    ] == told.heard
    assert systemd.unit(linux(tmp_path)) == systemd.service_file(linux(tmp_path)).read_text()
    assert 0o40700 == systemd.secrets_folder(linux(tmp_path)).stat().st_mode


def test_where_no_manager_answers_nothing_is_written(tmp_path: Path) -> None:
    """An install that cannot work leaves no file behind."""
    with pytest.raises(ServiceError, match="on a machine that systemd booted"):
        carry_out(systemd.install_steps(linux(tmp_path)), Systemctl({"show": 1}))
    assert [] == list(tmp_path.iterdir())


def test_uninstall_of_a_unit_that_is_not_loaded_is_no_error(tmp_path: Path) -> None:
    """Systemctl says 5 to a stop of nothing, and 1 to its disabling."""
    it = linux(tmp_path)
    carry_out(systemd.install_steps(it), Systemctl({}))
    carry_out(systemd.uninstall_steps(it), Systemctl({"stop": 5, "disable": 1}))
    assert not systemd.service_file(it).exists()
    assert systemd.secrets_folder(it).exists()


def test_without_the_users_manager_nothing_is_removed(tmp_path: Path) -> None:
    """A unit that could not be stopped keeps its file."""
    it = linux(tmp_path)
    carry_out(systemd.install_steps(it), Systemctl({}))
    with pytest.raises(ServiceError, match="log in as ada itself"):
        carry_out(systemd.uninstall_steps(it), Systemctl({"stop": 1}))
    assert systemd.service_file(it).exists()


def test_the_machines_unit_names_the_user(tmp_path: Path) -> None:
    """Root's systemd runs the daemon as its user, from /etc, without lingering."""
    it = linux(tmp_path).other_kind
    assert "\nUser=ada\n" in systemd.unit(it)
    assert Path("/etc/systemd/system/agent-daemon.service") == systemd.service_file(it)
    assert not [step for step in systemd.install_steps(it) if "loginctl" in step.text or "--user" in step.text]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("/opt/a", "/opt/a"), ("/opt/a b", '"/opt/a b"'), ("/opt/50%", "/opt/50%%"), ('/o/"x"', '"/o/\\"x\\""')],
)
def test_paths_are_quoted_for_systemd(word: str, expected: str) -> None:
    """Systemd expands % and splits at spaces."""
    assert expected == systemd.quoted(word)
