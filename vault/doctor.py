"""The command `agent-vault doctor`: what counts of the settings, the database from here, and an old open door."""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

import psycopg

from notifier.ages import say_age
from notifier.checkup import Finding, examine_database, settings_findings, settings_lines
from notifier.complaint import one_line
from notifier.configuration import CONFIGURATION
from sql import dead_letters
from sql.housekeeping import find_unserved
from sql.learnings import NoRecorderError, require_recorder
from sql.migrate import SchemaTooOldError
from sql.session import Session
from vault import old_receiver, settings
from vault.spool_folder import find_fault
from vault.unserved import AFTER_S, remedy

NAME: Final = "agent-vault doctor"
CLOCK_S: Final = 30.0  # a tenth of what a delivery may be off by


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
    found = settings.look(args.config)
    for line in settings_lines(found):
        print(line)
    findings = [*settings_findings(found), *_spool(found.right.get("spool_dir"))]
    if "database_url" in found.right:
        findings += asyncio.run(_examine(found.right["database_url"].get_secret_value(), args.old_url))
    for finding in findings:
        print(finding)
    return CONFIGURATION if found.wrong else int(not all(finding.ok for finding in findings))


def _spool(folder: Path | None) -> list[Finding]:
    if folder is None:
        return []
    fault = find_fault(folder)
    return [Finding("spool", fault or f"this user can make files in {folder}", ok=fault is None)]


async def _examine(dsn: str, old_url: str | None) -> list[Finding]:
    findings = await examine_database(dsn, name=NAME)
    usable = {finding.what for finding in findings if finding.ok}
    session = Session(dsn, name=NAME)
    try:
        if "database" in usable:
            findings += await _from_within(session)
        if old_url is not None:
            findings.append(await _old_receiver(old_url, session, seen={"database", "schema"} <= usable))
    finally:
        await session.close()
    return findings


async def _from_within(session: Session) -> list[Finding]:
    """Look at what the vault's login may, and at what waits where nobody looks."""
    try:
        findings = [clock((await dead_letters.database_time(session)).timestamp() - time.time())]
        await require_recorder(session)
        findings.append(Finding("login", "may record events"))
        return findings + await _queues(session)
    except SchemaTooOldError:
        return findings  # the schema has a line of its own
    except NoRecorderError as error:
        return [*findings, Finding("login", str(error), ok=False)]
    except psycopg.Error as error:
        return [Finding("database", one_line(error), ok=False)]


def clock(behind_s: float) -> Finding:
    """Say whether this machine's clock, by so much behind the database's, can tell a delivery's age."""
    if abs(behind_s) <= CLOCK_S:
        return Finding("clock", "that of the database")
    way = "behind" if behind_s > 0 else "ahead of"
    said = f"{abs(behind_s):.0f} s {way} the database's: have both set from the network (ntp)"
    return Finding("clock", f"{said}; what is more than 300 s off the vault's is refused", ok=False)


async def _queues(session: Session) -> list[Finding]:
    """Name the queues in which events wait though nobody serves them."""
    return [
        Finding("queue", f"{one.count} due, the oldest for {say_age(one.oldest_s)}; {remedy(one.queue)}", ok=False)
        for one in await find_unserved(session, AFTER_S)
    ]


async def _old_receiver(url: str, session: Session, *, seen: bool) -> Finding:
    unsent = "not looked at, and nothing was sent: what arrives could not be seen in this database"
    if not seen:
        return Finding(old_receiver.WHAT, unsent, ok=False)
    try:
        return await old_receiver.examine(url, session)
    except psycopg.Error as error:
        return Finding(old_receiver.WHAT, f"{unsent} ({one_line(error)})", ok=False)


def _address(text: str) -> str:
    if not old_receiver.is_address(text):
        raise argparse.ArgumentTypeError(
            "it is no web address: write it like https://REF.supabase.co/functions/v1/NAME"
        )
    return text
