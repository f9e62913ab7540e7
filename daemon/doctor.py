"""The command `agent-daemon doctor`: what counts of the settings, the database and the gateway from here, the skill."""

import argparse
import asyncio
from pathlib import Path

from daemon import agent_skill, settings
from daemon.answers import Verdict
from daemon.gateway import Gateway
from daemon.settings import DaemonSettings
from notifier.checkup import Finding, examine_database, settings_lines


def add_doctor(command: argparse.ArgumentParser) -> None:
    """Describe the command."""
    command.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="a TOML file (DAEMON_CONFIG)")
    command.set_defaults(verb=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    chosen = settings.load(args.config)
    for line in settings_lines(chosen):
        print(line)
    findings = [*_files(chosen), *asyncio.run(_examine(chosen)), _skill()]
    for finding in findings:
        print(finding)
    return int(not all(finding.ok for finding in findings))


def _files(chosen: DaemonSettings) -> list[Finding]:
    """Say what is wrong with OpenClaw's own files, and which variables are mistyped."""
    ignored = [Finding("setting", note, ok=False) for note in (*chosen.notes, *settings.mistyped_names())]
    return [
        *ignored,
        *(Finding("file", f"{path} is open to others: {remedy}", ok=False) for path, remedy in chosen.open_files),
    ]


async def _examine(chosen: DaemonSettings) -> list[Finding]:
    findings = await examine_database(chosen.database_url.get_secret_value(), name="agent-daemon doctor")
    return [*findings, await _gateway(chosen)]


async def _gateway(chosen: DaemonSettings) -> Finding:
    """Ask, without waking anyone, whether the gateway would take a wake with this token."""
    async with Gateway(chosen.gateway_url, chosen.hooks_path, chosen.hook_token.get_secret_value()) as gateway:
        answer = await gateway.probe()
        ok = answer.verdict is Verdict.ACCEPTED
        said = f"{chosen.gateway_url} takes wakes with this hook token" if ok else gateway.remedy(answer)
    return Finding("gateway", said, ok=ok)


def _skill() -> Finding:
    """Say whether agents can read what to do with a wake; without the skill they are woken all the same."""
    place = agent_skill.place_of(None)
    if place.page.exists():
        return Finding("skill", f"installed: {place.page}")
    return Finding("skill", f"there is no {place.page}: run agent-daemon install-skill", ok=False)
