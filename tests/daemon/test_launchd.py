"""The daemon under launchd: its plist, and what launchctl is told."""

import plistlib
import subprocess
from difflib import unified_diff
from pathlib import Path

import pytest

from daemon import launchd
from daemon.installation import Installation
from daemon.steps import Answer, AwaitGone, Run, ServiceError, Write, carry_out

DEPLOY = Path(__file__).parents[2] / "deploy/launchd"
PUBLISHED = Installation(Path("/usr/local/bin/agent-daemon"), "agent", 501, Path("/Users/agent"))


def mac(home: Path) -> Installation:
    """Make an installation whose home is a folder of the test."""
    return Installation(home / "bin/agent-daemon", "ada", 501, home, config=home / "my.toml")


class Launchctl:
    """Answers as launchctl does: `codes` by verb and target, and otherwise that all is well."""

    def __init__(self, codes: dict[str, int]) -> None:
        """Take the exit codes of the commands that do not go well."""
        self.codes = codes
        self.heard: list[str] = []

    def __call__(self, argv: tuple[str, ...]) -> Answer:
        """Answer one command."""
        words = " ".join(argv[1:3])
        self.heard.append(words)
        gone = 113 if argv[1] == "print" else 0
        return subprocess.CompletedProcess(argv, self.codes.get(words, gone), "", "launchctl said so")


@pytest.mark.parametrize(
    ("file", "system"), [("agent-vault.daemon.plist", False), ("system/agent-vault.daemon.plist", True)]
)
def test_deploy_is_what_is_rendered(file: str, *, system: bool) -> None:
    """The files to install by hand and those that `install` writes are the same."""
    expected = launchd.plist(PUBLISHED.other_kind if system else PUBLISHED)
    found = (DEPLOY / file).read_text()
    assert expected == found, "\n".join(unified_diff(found.splitlines(), expected.splitlines(), file, "rendered"))


def test_plist_keeps_the_daemon_alive_with_absolute_paths(tmp_path: Path) -> None:
    """Launchd gets every path whole, time to stop, and the folder of secrets rather than a secret."""
    keys = plistlib.loads(launchd.plist(mac(tmp_path)).encode())
    program = [f"{tmp_path}/bin/agent-daemon", "run", "--config", f"{tmp_path}/my.toml"]
    assert program == keys["ProgramArguments"]
    assert (True, True, 45, 10) == (keys["RunAtLoad"], keys["KeepAlive"], keys["ExitTimeOut"], keys["ThrottleInterval"])
    assert keys["ProcessType"] == "Interactive"
    environment = {"CREDENTIALS_DIRECTORY": f"{tmp_path}/.config/agent-vault/secrets", "HOME": str(tmp_path)}
    assert environment == keys["EnvironmentVariables"]
    assert f"{tmp_path}/Library/Logs/agent-vault/agent-daemon.log" == keys["StandardErrorPath"]
    assert keys["LimitLoadToSessionType"] == "Aqua"
    assert "UserName" not in keys


def test_a_daemon_of_the_machine_runs_as_the_user() -> None:
    """After a power cut nobody is logged in: launchd starts it at boot, not as root."""
    keys = plistlib.loads(launchd.plist(PUBLISHED.other_kind).encode())
    assert keys["UserName"] == "agent"
    assert "LimitLoadToSessionType" not in keys
    assert Path("/Library/LaunchDaemons/agent-vault.daemon.plist") == launchd.service_file(PUBLISHED.other_kind)


def test_the_old_service_is_gone_before_the_new_one_is_loaded(tmp_path: Path) -> None:
    """Bootstrap fails while the old daemon still stops, so the wait comes between."""
    told = Launchctl({})
    carry_out(launchd.install_steps(mac(tmp_path)), told)
    label = launchd.LABEL
    assert [
        f"bootout gui/501/{label}",
        f"bootout user/501/{label}",
        f"print gui/501/{label}",
        f"print user/501/{label}",
        f"enable gui/501/{label}",
        "bootstrap gui/501",
    ] == told.heard
    assert launchd.plist(mac(tmp_path)) == launchd.service_file(mac(tmp_path)).read_text()


@pytest.mark.parametrize("code", [112, 125])
def test_without_a_desktop_the_user_domain_is_used(tmp_path: Path, code: int) -> None:
    """Over SSH there is no gui domain; the plist then asks for the background session."""
    told = Launchctl({"bootstrap gui/501": code})
    carry_out(launchd.install_steps(mac(tmp_path)), told)
    assert ["bootstrap gui/501", f"enable user/501/{launchd.LABEL}", "bootstrap user/501"] == told.heard[-3:]
    written = plistlib.loads(launchd.service_file(mac(tmp_path)).read_bytes())
    assert written["LimitLoadToSessionType"] == "Background"


def test_another_failure_is_told_and_not_worked_around(tmp_path: Path) -> None:
    """A gui domain that is there and refuses is no reason to run in the other one."""
    told = Launchctl({"bootstrap gui/501": 5})
    with pytest.raises(
        ServiceError, match=r"bootstrap gui/501 .* failed \(5, launchctl said so\): read .*agent-daemon.log"
    ):
        carry_out(launchd.install_steps(mac(tmp_path)), told)
    assert "bootstrap user/501" not in told.heard


def test_a_daemon_that_does_not_stop_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait has an end, and the old plist is still there after it."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    told = Launchctl({f"print gui/501/{launchd.LABEL}": 0})
    with pytest.raises(ServiceError, match="still runs after 60 s"):
        carry_out(launchd.install_steps(mac(tmp_path)), told)
    assert not launchd.service_file(mac(tmp_path)).exists()


def test_uninstall_where_nothing_is_installed_is_no_error(tmp_path: Path) -> None:
    """Launchctl says 3 to a bootout of nothing."""
    told = Launchctl({f"bootout {domain}/501/{launchd.LABEL}": 3 for domain in ("gui", "user")})
    carry_out(launchd.uninstall_steps(mac(tmp_path)), told)
    assert 4 == len(told.heard)


def test_root_makes_the_folders_as_the_user() -> None:
    """Folders in a home belong to its owner, so root does not make them itself."""
    steps = launchd.install_steps(PUBLISHED.other_kind)
    folders = [step.argv for step in steps if isinstance(step, Run) and "/usr/bin/install" in step.argv]
    assert [("/usr/bin/sudo", "-u", "agent")] * 2 == [argv[:3] for argv in folders]
    assert [Write, Run, Run] == [type(step) for step in steps[-3:]]
    assert 1 == sum(isinstance(step, AwaitGone) for step in steps)


@pytest.mark.parametrize("folder", ["Desktop", "Documents/code", "downloads", "Library/Mobile Documents/x"])
def test_folders_that_macos_closes_are_refused(folder: str) -> None:
    """A service that starts there hangs or fails without a word, so it is refused with one."""
    home = Path("/Users/ada")
    with pytest.raises(ServiceError, match=r"cannot be used by a service.*install agent-vault elsewhere"):
        launchd.refuse_protected(home, [home / "bin/agent-daemon", home / folder / "agent-daemon"])


def test_other_folders_are_not_refused() -> None:
    """A name that only begins alike, or another user's folder, is not closed."""
    home = Path("/Users/ada")
    launchd.refuse_protected(home, [home / "Documents2/bin", home / ".local/bin", Path("/opt/Documents/bin")])
