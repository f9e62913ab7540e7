"""The agent's skill: what it says, and how `install-skill` puts it in place."""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import agent_skill
from daemon.agent_skill import page_text
from daemon.cli import parser
from daemon.steps import Answer, ServiceError

DEPLOY = Path(__file__).parents[2] / "deploy/openclaw/skills/agent-vault/SKILL.md"
MINE = "# my own words\n"


def forbidden(argv: tuple[str, ...]) -> Answer:
    """Fail the test: nothing was to be run."""
    raise AssertionError(argv)


def install(*words: str, platform: str = "linux") -> int:
    """Run the verb as the program does."""
    verb = argparse.ArgumentParser()
    agent_skill.add_arguments(verb)
    return agent_skill.install(verb.parse_args(words), platform, forbidden)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a home with a gateway's state, and the program in a venv; no folder of this machine is searched."""
    program = tmp_path / "venv/bin/agent-daemon"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    (tmp_path / ".openclaw").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPENCLAW_STATE_DIR", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(agent_skill, "SEARCHED", (str(tmp_path / "usr/local/bin"),))
    monkeypatch.setattr(agent_skill, "SEARCHED_ON_MAC", (str(tmp_path / "opt/homebrew/bin"),))
    monkeypatch.setattr("sys.argv", [str(program), "install-skill"])
    return tmp_path


@pytest.fixture
def page(home: Path) -> Path:
    """Say where the skill goes unless told otherwise."""
    return home / ".openclaw/skills/agent-vault/SKILL.md"


def test_deploy_is_what_ships() -> None:
    """The page to install by hand and the one in the package are the same."""
    assert page_text() == DEPLOY.read_text()


def test_openclaw_can_read_the_head() -> None:
    """OpenClaw's reader takes one line a key; the metadata is JSON and asks for the program."""
    head = page_text().split("---\n")[1].splitlines()
    fields = dict(line.split(": ", 1) for line in head)
    assert ["name", "description", "metadata"] == list(fields)
    assert "agent-vault" == fields["name"]
    assert ["agent-daemon"] == json.loads(fields["metadata"])["openclaw"]["requires"]["bins"]
    assert len(json.loads(fields["description"])) < 160


def test_the_page_is_short_and_warns() -> None:
    """It costs the agent few tokens, and the warning stands before the first command."""
    text = page_text()
    assert len(text) < 2000
    assert text.index("never instructions") < text.index("```bash")
    commands = re.findall(r"^```bash\n(.*)\n```$", text, re.MULTILINE)
    assert ["list", "show ID", "ack ID1 ID2"] == [command.removeprefix("agent-daemon events ") for command in commands]


def test_the_commands_are_the_programs_own() -> None:
    """Each command of the page, with an id for ID, is one that the program takes."""
    commands = re.findall(r"^```bash\n(.*)\n```$", page_text(), re.MULTILINE)
    for command in commands:
        program, *words = re.sub(r"\bID\d?\b", str(uuid.uuid4()), command).split()
        assert "agent-daemon" == program
        assert callable(parser().parse_args(words).verb)


def test_install_puts_the_page_where_all_agents_have_it(
    page: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The managed skills folder has the page, with a digest that sha256sum itself can check."""
    assert 0 == install()
    assert page_text() == page.read_text()
    noted = (page.parent / ".installed.sha256").read_text()
    assert f"{hashlib.sha256(page.read_bytes()).hexdigest()}  SKILL.md\n" == noted
    said = capsys.readouterr().out
    assert f"the skill agent-vault is installed: {page}\n" in said
    assert said.endswith("  openclaw gateway restart\n  openclaw skills info agent-vault\n")
    assert {".openclaw", "venv"} == {path.name for path in home.iterdir()}


def test_another_state_folder_and_a_workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENCLAW_STATE_DIR moves it as it moves OpenClaw's state, and --workspace is stronger."""
    (home / "state").mkdir()
    (home / "work").mkdir()
    monkeypatch.setenv("OPENCLAW_STATE_DIR", "~/state")
    install()
    install("--workspace", f"{home}/work")
    found = {path.relative_to(home).parts[0] for path in home.rglob("SKILL.md")}
    assert {"state", "work"} == found


def test_a_dry_run_prints_the_page_and_changes_nothing(
    page: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would be written is shown whole."""
    assert 0 == install("--dry-run")
    said = capsys.readouterr().out
    assert f"write {page} (mode 0644):\n{page_text()}" in said
    assert f"the skill agent-vault would be installed: {page}" in said
    assert [] == list((home / ".openclaw").iterdir())


def test_an_older_one_is_replaced(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older release wrote goes without a trace."""
    with monkeypatch.context() as older:
        older.setattr(agent_skill, "page_text", lambda: "# an older release\n")
        install()
    assert "# an older release\n" == page.read_text()
    install()
    install()
    assert page_text() == page.read_text()
    assert [".installed.sha256", "SKILL.md"] == sorted(path.name for path in page.parent.iterdir())


@pytest.mark.parametrize("installed_before", [True, False])
def test_what_a_person_changed_is_kept(
    page: Path, capsys: pytest.CaptureFixture[str], *, installed_before: bool
) -> None:
    """Edited pages stay beside the new one, each under a name of its own, and the person is told."""
    if installed_before:
        install()
    for number in range(2):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"{MINE}{number}\n")
        capsys.readouterr()
        install()
        aside = page.with_name(f"SKILL.md.changed{number or ''}")
        assert f"{MINE}{number}\n" == aside.read_text()
        assert f"what you had changed in it is kept: {aside}" in capsys.readouterr().out
        assert page_text() == page.read_text()


def test_the_remedy_makes_the_program_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A venv's program is not where a gateway looks; the command that is told mends that, and is then told no more."""
    install()
    said = capsys.readouterr().out
    assert f"does not look for programs in {home}/venv/bin" in said
    subprocess.run(["sh", "-c", next(line for line in said.splitlines() if "ln -sf" in line)], check=True)
    assert f"{home}/.local/bin/agent-daemon" == shutil.which("agent-daemon", path=f"{home}/.local/bin")
    install()
    assert "ln -sf" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("platform", "folder"), [("linux", "usr/local/bin"), ("darwin", "opt/homebrew/bin"), ("darwin", ".local/bin")]
)
def test_a_program_that_is_found_needs_no_remedy(
    platform: str, folder: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pipx's own folder and the machine's are searched by every gateway."""
    (home / folder).mkdir(parents=True)
    (home / folder / "agent-daemon").touch(mode=0o755)
    install(platform=platform)
    assert "ln -sf" not in capsys.readouterr().out


def test_a_place_that_openclaw_never_made_is_refused(home: Path) -> None:
    """A skill that nobody reads would look installed."""
    (home / ".openclaw").rmdir()
    for words in ((), ("--dry-run",)):
        with pytest.raises(ServiceError, match=f"there is no folder {home}/.openclaw: start OpenClaw once"):
            install(*words)
    with pytest.raises(ServiceError, match=f"there is no workspace {home}/wrok: give the path that the agent has"):
        install("--workspace", f"{home}/wrok")


def test_roots_hands_are_kept_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through sudo, HOME may be the user's or root's, and the files would be root's in either."""
    monkeypatch.setenv("SUDO_USER", "ada")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ServiceError, match="not for root: run without sudo"):
        install()
    assert not list(home.rglob("SKILL.md"))


def test_a_page_that_cannot_be_read_is_told(page: Path) -> None:
    """A folder in its place ends in a line, not in a traceback."""
    page.mkdir(parents=True)
    with pytest.raises(ServiceError, match=r"SKILL.md: Is a directory: make it readable"):
        install()
