"""The command `agent-daemon doctor`: what counts of the settings, the database and the gateway from here, the skill."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psycopg

from daemon import agent_skill, persons_settings
from daemon.answers import Verdict
from daemon.gateway import Gateway
from daemon.installation import PROGRAM
from notifier.checkup import Finding, examine_database, settings_findings, settings_lines
from notifier.complaint import one_line
from notifier.configuration import CONFIGURATION, Known
from notifier.sources import at_home
from sql.names import DAEMONS_LOGIN, Identity, NameTakenError, keep_name, may_be_no_daemon
from sql.session import Session

NAME: Final = "agent-daemon doctor"
_UNASKED: Final = "not asked: mend the settings first"


def add_doctor(command: argparse.ArgumentParser) -> None:
    """Describe the command."""
    command.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="a TOML file (DAEMON_CONFIG)")
    command.set_defaults(verb=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    found = persons_settings.look(args.config)
    for line in settings_lines(found):
        print(line)
    findings = [*settings_findings(found), *_files(found.right), *asyncio.run(_examine(found.right))]
    findings += _skill(found.right)
    for finding in findings:
        print(finding)
    return CONFIGURATION if found.wrong else int(not all(finding.ok for finding in findings))


def _files(right: Known) -> list[Finding]:
    """Say which of OpenClaw's own files others can read."""
    return [
        Finding("file", f"{path} is open to others: {remedy}", ok=False) for path, remedy in right.get("open_files", ())
    ]


async def _examine(right: Known) -> list[Finding]:
    return [*await _database(right), await _gateway(right)]


async def _database(right: Known) -> list[Finding]:
    if "database_url" not in right:
        return [Finding("database", _UNASKED, ok=False)]
    dsn = right["database_url"].get_secret_value()
    findings = await examine_database(dsn, name=NAME)
    usable = {finding.what for finding in findings if finding.ok}
    if {"database", "schema"} <= usable and {"name", "queues"} <= right.keys():
        findings.append(await _login(dsn, right["name"], right["queues"]))
    return findings


async def _login(dsn: str, name: str, queues: Iterable[str]) -> Finding:
    """Ask whether the login may be this daemon, by the pulse of a run without the name: it changes nothing."""
    session = Session(dsn, name=NAME)
    try:
        with contextlib.suppress(NameTakenError):
            await keep_name(session, Identity(name, "doctor"), list(queues), listens=False)
    except psycopg.Error as error:
        said = one_line(error)
        remedy = f": {DAEMONS_LOGIN}" if may_be_no_daemon(error) else ""
        return Finding("login", f"{said}{remedy}", ok=False)
    finally:
        await session.close()
    return Finding("login", f"it may be {name}, and deliver from {', '.join(queues)}")


async def _gateway(right: Known) -> Finding:
    """Ask, without waking anyone, whether the gateway would take a wake with this token."""
    if not {"gateway_url", "hooks_path", "hook_token"} <= right.keys():
        return Finding("gateway", _UNASKED, ok=False)
    url: str = right["gateway_url"]
    async with Gateway(url, right["hooks_path"], right["hook_token"].get_secret_value()) as gateway:
        answer = await gateway.probe()
        ok = answer.verdict is Verdict.ACCEPTED
        said = f"{url} takes wakes with this hook token" if ok else gateway.remedy(answer)
    return Finding("gateway", said, ok=ok)


def _skill(right: Known) -> list[Finding]:
    """Say whether agents can read what to do with a wake; without the skill they are woken all the same."""
    if "openclaw_state_dir" not in right:
        return []
    page = agent_skill.Place(at_home(right["openclaw_state_dir"]).absolute()).page
    if not page.exists():
        said = f"there is no {page}: run agent-daemon install-skill"
    elif agent_skill.is_hidden(Path.home(), sys.platform):
        said = (
            f"OpenClaw hides {page}, since {PROGRAM} is not where it looks for programs: "
            "agent-daemon install-skill says which link to make"
        )
    else:
        return [Finding("skill", f"installed: {page}")]
    return [Finding("skill", said, ok=False)]
