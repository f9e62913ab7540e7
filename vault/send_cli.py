"""The command `agent-vault send`: which vault to try, and which secret to sign with."""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from notifier.configuration import SettingsError
from notifier.secrecy import read_secret
from vault import sender, settings
from vault.data_folder import DataFolder, default_data
from vault.up import WEBHOOK

PORT: Final = 8080
NOWHERE: Final = "postgresql://nobody@127.0.0.1/nowhere"  # sending needs no database
SETTING: Final = "COMPOSIO_WEBHOOK_SECRET"


@dataclass(frozen=True, slots=True)
class _Key:
    """A secret to sign with, what a person calls its place, and the port of the vault that has it."""

    secret: str
    place: str
    port: int


def add_send(command: argparse.ArgumentParser) -> None:
    """Describe the command."""
    command.add_argument(
        "slug", nargs="?", type=_slug, default="GMAIL_NEW_GMAIL_MESSAGE", help="the trigger (%(default)s)"
    )
    command.add_argument("--to", metavar="URL", help=f"the vault (http://127.0.0.1 and VAULT_PORT, {PORT})")
    command.add_argument("--body", metavar="FILE", type=Path, help="send this file's bytes as they are")
    command.add_argument("--count", type=_count, default=1, help="how many deliveries (%(default)s)")
    command.add_argument(
        "--secret-file", metavar="F", type=Path, help="the webhook secret (that of the vault's settings, or of up)"
    )
    command.set_defaults(run=_send)


def _send(args: argparse.Namespace) -> int:
    key = _key(args.secret_file)
    if args.body:
        messages = sender.raw_messages(args.body.read_bytes(), args.count)
    else:
        messages = sender.sample_messages(args.slug, args.count, time.time())
    receipts = asyncio.run(sender.send(_url(args.to or f"http://127.0.0.1:{key.port}"), key.secret, messages))
    for receipt in receipts:
        answer = "" if receipt.answer is None else json.dumps(receipt.answer)
        print(f"{receipt.webhook_id}  {receipt.status}  {receipt.ms:.1f} ms  {answer}")
    if any(receipt.status == HTTPStatus.UNAUTHORIZED for receipt in receipts):
        print(
            f"agent-vault: signed with the secret of {key.place}: if that vault has another, give its file with "
            "--secret-file",
            file=sys.stderr,
        )
    return int(any(receipt.status != HTTPStatus.OK for receipt in receipts))


def _url(to: str) -> str:
    """Return a vault's address with the path of its webhook, unless it has a path."""
    return to if to.rstrip("/").count("/") > 2 else to.rstrip("/") + WEBHOOK  # noqa: PLR2004 - //host/


def _key(file: Path | None) -> _Key:
    """Return the secret of the named file, of the vault's settings, or that which `up` keeps. Raises SettingsError."""
    if file is not None:
        return _of_settings(str(file), _read(file))
    try:
        return _of_settings(SETTING, None)
    except SettingsError as error:
        # a name that is nearly another setting's is no matter of this command
        others = [line for line in error.lines[1:] if SETTING in line or "is no setting" not in line]
        if error.lines[0].partition(":")[0] != f"{SETTING} is not set" or others:
            raise
    kept = DataFolder(default_data()).secrets / SETTING.lower()
    if not kept.exists():
        raise SettingsError(f"{SETTING} is not set: set it, or give --secret-file")
    return _Key(_read(kept), f"agent-vault up ({kept})", PORT)


def _of_settings(place: str, secret: str | None) -> _Key:
    chosen = settings.load(database_url=NOWHERE, composio_webhook_secrets=secret)
    return _Key(chosen.composio_webhook_secrets[0].get_secret_value(), place, chosen.port or PORT)


def _read(file: Path) -> str:
    secret = read_secret(file).decode(errors="replace").strip()
    if not secret:
        raise SettingsError(f"{file} is empty: write the webhook secret into it")
    return secret


def _slug(text: str) -> str:
    """Read the name of a trigger, which is not nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the trigger has no name: give one like GMAIL_NEW_GMAIL_MESSAGE, or none")
    return text


def _count(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)
