"""The command `agent-vault doctor`: what counts of the settings, the database from here, and an old open door."""

import argparse
import asyncio
from pathlib import Path

from notifier.checkup import Finding, examine_database, settings_lines
from sql.session import Session
from vault import old_receiver, settings

NAME = "agent-vault doctor"


def add_doctor(command: argparse.ArgumentParser) -> None:
    """Describe the command."""
    command.add_argument("--config", type=Path, help="a TOML file (VAULT_CONFIG)")
    command.add_argument(
        "--old-url",
        metavar="URL",
        type=_address,
        help="an earlier install's receiver: send it one unsigned test delivery, and see whether that is stored here",
    )
    command.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    chosen = settings.load(args.config)
    for line in settings_lines(chosen):
        print(line)
    mistyped = [Finding("setting", note, ok=False) for note in settings.mistyped_names()]
    findings = [*mistyped, *asyncio.run(_examine(chosen.database_url.get_secret_value(), args.old_url))]
    for finding in findings:
        print(finding)
    return int(not all(finding.ok for finding in findings))


async def _examine(dsn: str, old_url: str | None) -> list[Finding]:
    findings = await examine_database(dsn, name=NAME)
    if old_url is None:
        return findings
    usable = {finding.what for finding in findings if finding.ok}
    if not {"database", "schema"} <= usable:
        unsent = "not looked at, and nothing was sent: what arrives could not be seen in this database"
        return [*findings, Finding(old_receiver.WHAT, unsent, ok=False)]
    session = Session(dsn, name=NAME)
    try:
        return [*findings, await old_receiver.examine(old_url, session)]
    finally:
        await session.close()


def _address(text: str) -> str:
    if not old_receiver.is_address(text):
        raise argparse.ArgumentTypeError(
            "it is no web address: write it like https://REF.supabase.co/functions/v1/NAME"
        )
    return text
