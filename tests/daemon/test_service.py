"""The verbs `install` and `uninstall`, on either platform, with commands that are only written down."""

import argparse
import pwd
import subprocess
from pathlib import Path

import pytest

from daemon import launchd, service, systemd
from daemon.installation import find_program
from daemon.steps import Answer, ServiceError, run_command

SECRET = "postgresql://u:hunter2@db/x"


def parsed(*words: str) -> argparse.Namespace:
    """Read a command line as the program does."""
    parser = argparse.ArgumentParser()
    service.add_arguments(parser)
    return parser.parse_args(words)


def fine(argv: tuple[str, ...]) -> Answer:
    """Answer that all is well, or to launchctl's print that nothing is there."""
    return subprocess.CompletedProcess(argv, int("print" in argv), "", "")


def forbidden(argv: tuple[str, ...]) -> Answer:
    """Fail the test: nothing was to be run."""
    raise AssertionError(argv)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home with a program in it, of a user who is not root, on a machine with nothing installed."""
    program = tmp_path / ".local/bin/agent-daemon"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    account = pwd.struct_passwd(("ada", "x", 1000, 1000, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(systemd, "MACHINE", tmp_path / "etc")
    monkeypatch.setattr(launchd, "MACHINE", tmp_path / "LaunchDaemons")
    monkeypatch.setattr(service, "find_user", lambda _: account)
    monkeypatch.setattr("pwd.getpwuid", lambda _: account)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("sys.argv", [str(program), "install"])
    return tmp_path


def everything_in(folder: Path) -> dict[Path, bytes]:
    """Read all files below a folder."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def has_database(folder: Path) -> None:
    """Put the one secret into this folder without which no service works."""
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "database_url").write_text(SECRET)
    (folder / "database_url").chmod(0o600)


@pytest.mark.parametrize("platform", ["darwin", "linux"])
@pytest.mark.parametrize("words", [[], ["--system"]])
def test_a_dry_run_prints_the_whole_plan_and_changes_nothing(
    platform: str, words: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file with its contents and every command is printed, and none of it done."""
    manager = service.manager_of(platform)
    has_database(manager.secrets_folder(service.chosen(parsed(*words))))
    before, args = everything_in(home), parsed("--dry-run", *words)
    assert 0 == service.install(args, platform, forbidden)
    assert 0 == service.uninstall(args, platform, forbidden)
    it = service.chosen(args)
    printed = capsys.readouterr().out
    for step in [*manager.install_steps(it), *manager.uninstall_steps(it)]:
        assert step.text in printed
    assert str(manager.service_file(it)) in printed
    assert f"{home}/.local/bin/agent-daemon" in printed
    assert ("bootstrap" if platform == "darwin" else "daemon-reload") in printed
    assert before == everything_in(home)


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_no_secret_gets_into_a_file_or_onto_the_screen(
    platform: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment and the secrets folder hold it, and nothing else afterwards."""
    monkeypatch.setenv("DATABASE_URL", SECRET)
    secret = home / ".config/agent-vault/secrets/database_url"
    secret.parent.mkdir(parents=True)
    secret.write_text(SECRET)
    secret.chmod(0o600)
    service.install(parsed(), platform, fine)
    holders = [path for path, held in everything_in(home).items() if b"hunter2" in held]
    assert [secret] == holders
    printed = capsys.readouterr().out
    assert "hunter2" not in printed
    assert "nowhere" not in printed
    assert 0o40700 == secret.parent.stat().st_mode


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_a_missing_database_is_told_with_its_place(
    platform: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's DATABASE_URL does not count: a service does not see it."""
    monkeypatch.setenv("DATABASE_URL", SECRET)
    assert 1 == service.install(parsed("--dry-run"), platform, forbidden)
    assert 1 == service.install(parsed(), platform, fine)
    assert (
        f"DATABASE_URL is nowhere yet: put it into {home}/.config/agent-vault/secrets/database_url"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [(".openclaw/.env", "export DATABASE_URL=x\n"), (".config/agent-vault/daemon.toml", 'database_url = "x"\n')],
)
def test_a_database_in_a_file_that_the_daemon_reads_is_enough(
    file: str, text: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing OpenClaw install needs nothing new."""
    (home / file).parent.mkdir(parents=True)
    (home / file).write_text(text)
    service.install(parsed(), "linux", fine)
    assert "nowhere" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "file"),
    [
        ('openclaw_state_dir = "~/claw"', "claw/.env"),
        ('openclaw_env_file = "~/claw.env"', "claw.env"),
        ('openclaw_state_dir = "~/claw"\nopenclaw_env_file = "{home}/claw.env"', "claw.env"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--config", "{home}/my.toml"]])
def test_a_database_in_an_openclaw_elsewhere_is_enough(
    words: list[str], setting: str, file: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the configuration says of OpenClaw's files counts as it does for the daemon, in the home of its user."""
    config = home / ("my.toml" if words else ".config/agent-vault/daemon.toml")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(setting.format(home=home))
    args = parsed(*(word.format(home=home) for word in words))
    assert 1 == service.install(args, "linux", fine)
    assert "nowhere" in capsys.readouterr().out
    (home / file).parent.mkdir(exist_ok=True)
    (home / file).write_text("DATABASE_URL=x\n")
    assert 0 == service.install(args, "linux", fine)
    assert "nowhere" not in capsys.readouterr().out


def test_a_database_where_openclaw_is_not_is_not_enough(home: Path) -> None:
    """The usual .env is not read beside another that the configuration names."""
    (home / ".openclaw").mkdir()
    (home / ".openclaw/.env").write_text("DATABASE_URL=x\n")
    assert 0 == service.install(parsed("--dry-run"), "linux", forbidden)
    (home / "my.toml").write_text('openclaw_state_dir = "/no/claw"')
    assert 1 == service.install(parsed("--dry-run", "--config", f"{home}/my.toml"), "linux", forbidden)


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_install_twice_and_uninstall_twice(platform: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each can be repeated; what was never installed is no error."""
    has_database(home / ".config/agent-vault/secrets")
    file = service.manager_of(platform).service_file(service.chosen(parsed()))
    for _ in range(2):
        assert 0 == service.install(parsed(), platform, fine)
        assert file.is_relative_to(home)
        assert file.exists()
    assert 0 == service.uninstall(parsed(), platform, fine)
    assert not file.exists()
    assert 0 == service.uninstall(parsed(), platform, forbidden)
    assert "agent-daemon is not installed" in capsys.readouterr().out


def test_a_link_out_of_documents_is_refused_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is where the program lies, not only how it is named; Linux has no such rule."""
    has_database(home / ".config/agent-vault/secrets")
    real = home / "Documents/venv/bin/agent-daemon"
    real.parent.mkdir(parents=True)
    real.touch()
    link = home / "agent-daemon"
    link.symlink_to(real)
    monkeypatch.setattr("sys.argv", [str(link)])
    with pytest.raises(ServiceError, match=r"Documents/venv/bin/agent-daemon cannot be used by a service"):
        service.install(parsed("--dry-run"), "darwin", forbidden)
    assert 0 == service.install(parsed("--dry-run"), "linux", forbidden)


def test_the_machines_service_needs_root(home: Path) -> None:
    """The remedy names the whole path, which sudo does not search for."""
    with pytest.raises(
        ServiceError, match=rf"--system needs root: run with sudo, as sudo {home}/.local/bin/agent-daemon"
    ):
        service.install(parsed("--system"), "linux", forbidden)


@pytest.mark.usefixtures("home")
def test_root_does_not_install_a_users_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """By habit people say sudo; that would be root's own service."""
    monkeypatch.setenv("SUDO_USER", "ada")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ServiceError, match="run without sudo, or add --system"):
        service.install(parsed(), "linux", forbidden)


@pytest.mark.usefixtures("home")
def test_two_kinds_at_once_are_refused() -> None:
    """Two daemons would both be right, and both be woken."""
    service.install(parsed(), "linux", fine)
    with pytest.raises(ServiceError, match="run agent-daemon uninstall first"):
        service.install(parsed("--system", "--dry-run"), "linux", forbidden)
    it = service.chosen(parsed("--system"))
    with pytest.raises(
        ServiceError, match=r"agent-daemon.service is installed already: run agent-daemon uninstall first"
    ):
        service.refuse_second(it, service.manager_of("linux"))


@pytest.mark.usefixtures("home")
def test_user_without_system_and_unknown_platforms_are_refused() -> None:
    """Both say what to do instead."""
    with pytest.raises(ServiceError, match="--user goes with --system"):
        service.install(parsed("--user", "bob"), "linux", forbidden)
    with pytest.raises(ServiceError, match="no service manager known on win32"):
        service.install(parsed(), "win32", forbidden)


def test_the_configuration_is_handed_on_whole(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service starts elsewhere, so the path must not depend on where install was run."""
    monkeypatch.chdir(home)
    it = service.chosen(parsed("--config", "my.toml"))
    assert [f"{home}/.local/bin/agent-daemon", "run", "--config", f"{home}/my.toml"] == it.command


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_configuration_that_is_not_there_is_refused(words: list[str], home: Path) -> None:
    """Nothing is installed that would not start."""
    before = everything_in(home)
    with pytest.raises(ServiceError, match=f"there is no {home}/nope.toml: correct --config"):
        service.install(parsed("--config", f"{home}/nope.toml", *words), "linux", forbidden)
    assert before == everything_in(home)


def test_the_program_is_found_as_called_or_beside_python(tmp_path: Path) -> None:
    """Pipx's link stays as it is; `python -m daemon` finds the script in its own bin; else the remedy is told."""
    script, link = tmp_path / "venv/bin/agent-daemon", tmp_path / "agent-daemon"
    python = str(script.parent / "python")
    with pytest.raises(ServiceError, match="no agent-daemon script beside"):
        find_program("/x/daemon/__main__.py", python)
    script.parent.mkdir(parents=True)
    script.touch()
    link.symlink_to(script)
    assert link == find_program(str(link), python)
    assert script == find_program("/x/daemon/__main__.py", python)


def test_a_missing_command_and_a_closed_folder_are_told(home: Path) -> None:
    """Neither ends in a traceback."""
    with pytest.raises(ServiceError, match="/no/such/systemctl is not on this machine"):
        run_command(("/no/such/systemctl",))
    (home / ".config").touch()
    with pytest.raises(ServiceError, match="make it writable"):
        service.install(parsed(), "linux", fine)


@pytest.mark.parametrize("platform", ["darwin", "linux"])
@pytest.mark.parametrize("words", [[], ["--system"]])
@pytest.mark.parametrize("mode", [0o644, 0o440])
def test_secrets_that_others_can_read_are_refused(
    platform: str, words: list[str], mode: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is installed that would not start; the refusal says which chmod to run, and after it all is well."""
    monkeypatch.setattr("os.geteuid", lambda: 0 if words else 1000)
    args = parsed(*words)
    folder = service.manager_of(platform).secrets_folder(service.chosen(args))
    folder.mkdir(parents=True)
    secret = folder / "database_url"
    secret.write_text(SECRET)
    secret.chmod(mode)
    before = everything_in(home)
    with pytest.raises(ServiceError, match=f"open to others: chmod 600 {secret}, then run this again$") as refused:
        service.install(args, platform=platform, run=forbidden)
    assert "hunter2" not in str(refused.value)
    assert before == everything_in(home)
    secret.chmod(0o600)
    service.refuse_open_secrets(service.chosen(args), service.manager_of(platform))
