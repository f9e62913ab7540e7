"""The daemon's settings: read once, checked at start, passed on from there."""

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from daemon.gateway_url import check_gateway_url
from daemon.openclaw import HOOKS_PATH, OLDER_TOKEN, STATE_DIR, OpenClawFiles, rooted
from daemon.pacing import SLOTS, WINDOW_S
from daemon.routes import Route, check_reach
from notifier.configuration import SECRETS_FOLDER, Known, Setting, Settings, Source, environment_names
from notifier.refusals import read
from notifier.secret import SecretStr
from notifier.sources import SecretsFolder, Texts, TomlFile
from notifier.values import (
    DSN_MUST,
    LOG_LEVEL_MUST,
    QUEUE_MUST,
    LogLevel,
    QueueName,
    check_database,
    check_token,
    lowered,
    separated,
)

_PLACES: Final = (Path("~/.config/agent-vault/daemon.toml"),)
_TOKEN: Final = "hooks.token of OpenClaw's openclaw.json"  # noqa: S105, where one finds it
_NAME: Final = "1 to 64 letters, digits, dots, dashes and underscores"
_QUEUES: Final = f"queue names with commas between them, each {QUEUE_MUST}"
_ROUTES: Final = "[[routes]] tables, each with a type and an action"
_GATEWAY: Final = "a url such as http://127.0.0.1:18789"


def _root(value: Any) -> Any:
    return rooted(value) if isinstance(value, str) else value


def _tables(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("it is a single table: write [[routes]], with two brackets, above each route")  # noqa: TRY004
    return value


def _names(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        raise ValueError(
            "[[queues]] tables belong into the vault's file, and say which event goes into which queue: write the "
            'names of the queues that this daemon serves, as in queues = "default,mail"'
        )
    return separated(value)


def _check_renewal(renew_s: float, lease_s: float | None) -> None:
    if lease_s is not None and renew_s > lease_s / 2:
        raise ValueError("it leaves no time for a second try before the lease ends: at most half of DAEMON_LEASE_S")


def _host_name() -> str:
    """Return this machine's short name, less what a name may not hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().partition(".")[0])[:64] or "daemon"


class DaemonSettings(Settings, frozen=True, kw_only=True):
    """All that a person can set of the daemon; construct it with load()."""

    prefix = "DAEMON_"

    config: Annotated[Path | None, Setting("DAEMON_CONFIG", "the path of a TOML file")] = None
    openclaw_state_dir: Annotated[Path, Setting("OPENCLAW_STATE_DIR", "the path of OpenClaw's folder")] = STATE_DIR
    openclaw_env_file: Annotated[Path | None, Setting("OPENCLAW_ENV_FILE", "the path of OpenClaw's .env")] = None
    openclaw_config_path: Annotated[
        Path | None, Setting("OPENCLAW_CONFIG_PATH", "the path of OpenClaw's openclaw.json")
    ] = None
    allow_plaintext_database: Annotated[bool, Setting("DAEMON_ALLOW_PLAINTEXT_DATABASE", "true or false")] = False
    database_url: Annotated[SecretStr, Setting("DATABASE_URL", DSN_MUST)]
    hook_token: Annotated[SecretStr, Setting("OPENCLAW_HOOK_TOKEN", _TOKEN)]
    allow_remote_gateway: Annotated[bool, Setting("DAEMON_ALLOW_REMOTE_GATEWAY", "true or false")] = False
    gateway_url: Annotated[str, Setting("GATEWAY_HTTP_URL", _GATEWAY)] = "http://127.0.0.1:18789"
    hooks_path: Annotated[
        str, Meta(pattern=HOOKS_PATH), Setting("DAEMON_HOOKS_PATH", "a path such as /hooks", _root)
    ] = "/hooks"
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z"), Setting("DAEMON_NAME", _NAME)] = msgspec.field(
        default_factory=_host_name
    )
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1), Setting("DAEMON_QUEUES", _QUEUES, _names)] = (
        "default",
    )
    concurrency: Annotated[
        int, Meta(ge=1, le=100), Setting("DAEMON_CONCURRENCY", "a number of deliveries from 1 to 100")
    ] = 4
    lease_s: Annotated[
        float, Meta(ge=1, le=86_400), Setting("DAEMON_LEASE_S", "a number of seconds from 1 to 86400")
    ] = 60.0
    renew_s: Annotated[
        Annotated[float, Meta(ge=0.1, le=43_200)] | None,
        Setting("DAEMON_RENEW_S", "a number of seconds from 0.1 to half of DAEMON_LEASE_S"),
    ] = None
    poll_s: Annotated[
        float, Meta(ge=0, le=3_600), Setting("DAEMON_POLL_S", "a number of seconds from 0 (no poll) to 3600")
    ] = 1.0
    pulse_s: Annotated[
        float, Meta(ge=0.1, le=300), Setting("DAEMON_PULSE_S", "a number of seconds from 0.1 to 300")
    ] = 5.0
    pacing: Annotated[bool, Setting("DAEMON_PACING", "on or off")] = True
    gateway_slots: Annotated[
        int, Meta(ge=2, le=20), Setting("DAEMON_GATEWAY_SLOTS", "a number of pending wakes from 2 to 20")
    ] = SLOTS
    gateway_window_s: Annotated[
        float, Meta(ge=1, le=3_600), Setting("DAEMON_GATEWAY_WINDOW_S", "a number of seconds from 1 to 3600")
    ] = WINDOW_S
    agent_runs: Annotated[int, Meta(ge=1, le=100), Setting("DAEMON_AGENT_RUNS", "a number of runs from 1 to 100")] = 2
    foreign_text: Annotated[bool, Setting("DAEMON_FOREIGN_TEXT", "on or off")] = True
    log_level: Annotated[LogLevel, Setting("DAEMON_LOG_LEVEL", LOG_LEVEL_MUST, lowered)] = "info"
    routes: Annotated[tuple[Route, ...], Setting("", _ROUTES, _tables)] = ()
    open_files: tuple[tuple[Path, str], ...] = ()  # OpenClaw's, and the command that closes each

    @classmethod
    def check(cls, field: str, value: Any, known: Known) -> Any:
        """Return what is kept of a value; raises ValueError."""
        match field:
            case "database_url":
                value = check_database(cls, value, known, os.environ)
            case "hook_token":
                value = check_token(value)
            case "gateway_url":
                value = check_gateway_url(value, remote=known.get("allow_remote_gateway", True))
            case "renew_s":
                _check_renewal(value, known.get("lease_s"))
            case "routes":
                check_reach(value)
        return value

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return them, the strongest first."""
        return (
            Texts(cls, os.environ),
            SecretsFolder(cls, os.environ.get(SECRETS_FOLDER)),
            TomlFile(cls, _PLACES),
            OpenClawFiles(cls, os.environ),
        )


ENVIRONMENT_NAMES: Final = environment_names(DaemonSettings) | {SECRETS_FOLDER, OLDER_TOKEN}


def load(config: Path | None = None, **overrides: Any) -> DaemonSettings:
    """Return the settings; overrides go by field name, and None is none; raises SettingsError."""
    return read(DaemonSettings, {"config": config, **overrides})
