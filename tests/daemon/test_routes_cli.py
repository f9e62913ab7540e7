"""The command `agent-daemon routes`, as a process, with neither a database nor a token."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROUTES = """
[[routes]]
type = "GMAIL_*"
action = "agent"
agentId = "mail"
message = "{slug}: learning {learning_id}"
complete_when = "handled"

[[routes]]
type = "GITHUB_*"
sessionKey = "agent:main:Work"

[[routes]]
type = "NOISE_*"
action = "drop"
"""
JOB, LEARNING = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The daemon's file, where it usually is."""
    path = tmp_path / ".config/agent-vault/daemon.toml"
    path.parent.mkdir(parents=True)
    path.write_text(ROUTES)
    return path


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing of this machine's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "routes", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.usefixtures("config")
def test_all_routes_in_order(tmp_path: Path) -> None:
    """A line each, with what counts for its action, and the default at the end."""
    assert [
        (
            "routes[0]  GMAIL_*  agent  agent_id=mail  message={slug}: learning {learning_id}  wait_for_completion=true"
            "  timeout_seconds=600  deliver=false  complete_when=handled  handle_within_s=900.0"
        ),
        "routes[1]  GITHUB_*  wake  mode=now  session_key=agent:main:Work  complete_when=accepted",
        "routes[2]  NOISE_*  drop",
        "default  *  wake  mode=now  complete_when=accepted",
    ] == run(tmp_path).stdout.splitlines()


def test_no_routes_at_all(tmp_path: Path) -> None:
    """Without a file everything takes the default."""
    assert "default  *  wake  mode=now  complete_when=accepted\n" == run(tmp_path).stdout


@pytest.mark.usefixtures("config")
def test_the_route_of_a_type(tmp_path: Path) -> None:
    """Which one it takes, every value that counts, the session and the text as it would be sent."""
    shown = run(tmp_path, "github_push", "OTHER").stdout
    told = f"Check latest composio_trigger learnings. Learning {LEARNING}, job {JOB}."
    assert [
        "github_push: routes[1]",
        "  type           GITHUB_*",
        "  action         wake",
        "  mode           now",
        "  agent_id       not set",
        "  session_key    agent:main:Work",
        "  complete_when  accepted",
        "  session        agent:main:work",
        f"  text           New Composio trigger (github_push). {told}",
        "OTHER: default",
    ] == shown.splitlines()[:10]


@pytest.mark.usefixtures("config")
def test_routes_as_json(tmp_path: Path) -> None:
    """One object a line, for every route and for every type that was asked for."""
    routes = [json.loads(line) for line in run(tmp_path, "--json").stdout.splitlines()]
    assert [("routes[0]", "agent"), ("routes[1]", "wake"), ("routes[2]", "drop"), ("default", "wake")] == [
        (one["route"], one["action"]) for one in routes
    ]
    mail, noise = (json.loads(line) for line in run(tmp_path, "GMAIL_X", "NOISE_X", "--json").stdout.splitlines())
    assert ("GMAIL_X", "routes[0]", f"GMAIL_X: learning {LEARNING}", "{slug}: learning {learning_id}") == (
        mail["job_type"], mail["route"], mail["text"], mail["message"],
    )  # fmt: skip
    assert {"job_type": "NOISE_X", "route": "routes[2]", "type": "NOISE_*", "action": "drop"} == noise


def test_a_mistake_is_told_on_a_line(config: Path, tmp_path: Path) -> None:
    """Exit status 78, as at the daemon's start, wherever the file's option stands."""
    config.rename(tmp_path / "other.toml")
    (tmp_path / "other.toml").write_text('[[routes]]\nmessage = "x"')
    refused = run(tmp_path, "GMAIL_X", "--config", str(tmp_path / "other.toml"))
    assert (78, "") == (refused.returncode, refused.stdout)
    assert refused.stderr.startswith('agent-daemon: routes[0].message: it means nothing with action = "wake"')
