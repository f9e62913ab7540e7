"""Secrets that are planted wherever a program may find them, and a watch on what others could see of them."""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

Source = Literal["environment", "folder", "toml", "openclaw"]
SOURCES: tuple[Source, ...] = ("environment", "folder", "toml", "openclaw")


@dataclass(slots=True)
class Canaries:
    """One secret of each kind, all with one word in them that stands nowhere else; and all that was said anywhere."""

    word: str = field(default_factory=lambda: f"canary{uuid.uuid4().hex}")
    user: str = field(default_factory=lambda: f"bird_{uuid.uuid4().hex[:12]}")
    heard: dict[str, str] = field(default_factory=dict)

    @property
    def hook_token(self) -> str:
        """The gateway's."""
        return f"{self.word}hook"

    @property
    def webhook_secret(self) -> str:
        """Composio's."""
        return f"{self.word}webhook"

    @property
    def edge_key(self) -> str:
        """The API's."""
        return f"{self.word}edge"

    def dsn(self, dsn: str, **parts: str) -> str:
        """Put the user and the password into a string."""
        return make_conninfo(dsn, **{"user": self.user, "password": f"{self.word}db", **parts})

    @contextlib.contextmanager
    def login(self, database: psycopg.Connection) -> Iterator[None]:
        """Have a server that asks for passwords let this user in."""
        user = sql.Identifier(self.user)
        made = sql.SQL("create role {} superuser login password {}").format(user, sql.Literal(f"{self.word}db"))
        database.execute(made)
        try:
            yield
        finally:
            database.execute(sql.SQL("drop owned by {}").format(user))
            database.execute(sql.SQL("drop role {}").format(user))

    def secrets(self, dsn: str) -> dict[str, str]:
        """Every secret by its environment name."""
        return {
            "DATABASE_URL": self.dsn(dsn),
            "COMPOSIO_WEBHOOK_SECRET": self.webhook_secret,
            "AGENT_EDGE_KEY": self.edge_key,
            "OPENCLAW_HOOK_TOKEN": self.hook_token,
        }

    def hear(self, where: str, said: Any) -> None:
        """Remember what was said, as text."""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        self.heard[where] = self.heard.get(where, "") + text

    def leaks(self) -> list[str]:
        """Return where the word was said, with what stands around it."""
        return [
            f"{where}: …{text[max(0, at - 100) : at + 100]}…"
            for where, text in self.heard.items()
            if (at := text.find(self.word)) >= 0
        ]


def plant(source: Source, home: Path, secrets: dict[str, str]) -> dict[str, str]:
    """Put the secrets where this source has them, and return the environment that leads there."""
    if source == "environment":
        return secrets
    folder = home / "planted"
    folder.mkdir(mode=0o700, exist_ok=True)
    if source == "folder":
        for name, value in secrets.items():
            _write(folder / name.lower(), value)
        return {"CREDENTIALS_DIRECTORY": str(folder)}
    if source == "toml":
        own = {"vault": ("DATABASE_URL", "COMPOSIO_WEBHOOK_SECRET", "AGENT_EDGE_KEY")}
        own["daemon"] = ("DATABASE_URL", "OPENCLAW_HOOK_TOKEN")
        for program, names in own.items():
            _write(folder / f"{program}.toml", "".join(f"{n.lower()} = {json.dumps(secrets[n])}\n" for n in names))
        return {f"{program.upper()}_CONFIG": str(folder / f"{program}.toml") for program in own}
    state = home / ".openclaw"  # the daemon's last source; the vault does not read it
    state.mkdir(mode=0o700, exist_ok=True)
    _write(state / ".env", f"DATABASE_URL='{secrets['DATABASE_URL']}'\n")
    _write(state / "openclaw.json", json.dumps({"hooks": {"token": secrets["OPENCLAW_HOOK_TOKEN"]}}))
    return {name: secrets[name] for name in ("COMPOSIO_WEBHOOK_SECRET", "AGENT_EDGE_KEY")}


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@contextlib.contextmanager
def watched(canaries: Canaries) -> Iterator[None]:
    """Look at the command line of every process, again and again, for the length of the block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    words = " ".join(process.cmdline())
                    if canaries.word in words:
                        canaries.heard["ps"] = words

    watching = threading.Thread(target=watch, name="ps")
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
