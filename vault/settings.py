"""The vault's settings: read once, checked at start, passed on from there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from notifier.configuration import (
    SECRETS_FOLDER,
    Known,
    Setting,
    Settings,
    Source,
    Table,
    environment_names,
)
from notifier.refusals import Found, examine, read
from notifier.secret import SecretStr
from notifier.sources import InstalledSecrets, SecretsFolder, Texts, TomlFile, at_home
from notifier.values import (
    DSN_MUST,
    LOG_LEVEL_MUST,
    QUEUE_MUST,
    LogLevel,
    QueueName,
    check_database,
    check_secret,
    check_token,
    lowered,
    separated,
)
from vault.cors import ORIGINS_MUST, check_origin

_PLACES: Final = (Path("/etc/agent-vault/vault.toml"), Path("~/.config/agent-vault/vault.toml"))
_SECRETS: Final = (Path("~/.config/agent-vault/secrets"), Path("/etc/agent-vault/secrets"))
_JSONB_BYTES: Final = 268_435_455  # Postgres keeps no longer object as jsonb

_SIGNING: Final = (
    "the webhook's signing secret, which Composio shows once, where the webhook subscription is created "
    "(lost: rotate it there); several with commas between them"
)
_RULES: Final = f"[[queues]] tables whose queue is {QUEUE_MUST}, and whose slug, account and user are globs"

_DAYS_MUST: Final = "a number of days from 1 to 36500, or 0 for never"
_Days: Final = Meta(ge=0, le=36_500)
_WEEK: Final = 7
_SECONDS_MUST: Final = "a number of seconds above 0, at most 600"
_Seconds: Final = Meta(gt=0, le=600)


def _check_week(days: int) -> None:
    """Keep what recognises an event that Composio sends again for at least the time in which it may."""
    if 0 < days < _WEEK:
        raise ValueError(
            f"after less than {_WEEK} days an event that Composio sends again would be taken for a new one: "
            f"set it to {_WEEK} or more, or to 0 for never"
        )


def _whole(path: Path) -> Path:
    """Return a path that does not move with the working directory, which is another at each way of starting."""
    path = at_home(path)
    if not path.is_absolute():
        raise ValueError("it is a relative path: write the whole one, from / on, or from ~/ for one in your home")
    return path


class QueueRule(Table, frozen=True, kw_only=True):
    """Globs over an event's slug, account and user, and the queue for what matches all of them."""

    slug: str = "*"
    account: str = "*"
    user: str = "*"
    queue: QueueName


class VaultSettings(Settings, frozen=True, kw_only=True):
    """All that a person can set of the vault; construct it with load()."""

    prefix = "VAULT_"

    config: Annotated[Path | None, Setting("VAULT_CONFIG", "the path of a TOML file")] = None
    allow_plaintext_database: Annotated[bool, Setting("VAULT_ALLOW_PLAINTEXT_DATABASE", "true or false")] = False
    database_url: Annotated[SecretStr, Setting("DATABASE_URL", DSN_MUST)]
    composio_webhook_secrets: Annotated[
        tuple[SecretStr, ...], Meta(min_length=1), Setting("COMPOSIO_WEBHOOK_SECRET", _SIGNING, separated)
    ]
    agent_edge_key: Annotated[SecretStr | None, Setting("AGENT_EDGE_KEY", "a text, or unset for none")] = None
    cors_origins: Annotated[tuple[str, ...], Setting("VAULT_CORS_ORIGINS", ORIGINS_MUST, separated)] = ()
    host: Annotated[str, Setting("VAULT_HOST", "an address to listen on, such as 127.0.0.1")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65_535), Setting("VAULT_PORT", "a port number from 0 (any free one) to 65535")
    ] = 8080
    max_body_bytes: Annotated[
        int,
        Meta(ge=1, le=_JSONB_BYTES),
        Setting("VAULT_MAX_BODY_BYTES", f"a number of bytes from 1 to {_JSONB_BYTES}"),
    ] = 32 * 1024 * 1024
    header_timeout_s: Annotated[float, _Seconds, Setting("VAULT_HEADER_TIMEOUT_S", _SECONDS_MUST)] = 10.0
    body_timeout_s: Annotated[float, _Seconds, Setting("VAULT_BODY_TIMEOUT_S", _SECONDS_MUST)] = 15.0
    max_connections: Annotated[
        int, Meta(ge=10, le=100_000), Setting("VAULT_MAX_CONNECTIONS", "a number from 10 to 100000")
    ] = 500
    prune_jobs_after_days: Annotated[int, _Days, Setting("VAULT_PRUNE_JOBS_AFTER_DAYS", _DAYS_MUST)] = 30
    prune_failed_after_days: Annotated[int, _Days, Setting("VAULT_PRUNE_FAILED_AFTER_DAYS", _DAYS_MUST)] = 0
    prune_learnings_after_days: Annotated[int, _Days, Setting("VAULT_PRUNE_LEARNINGS_AFTER_DAYS", _DAYS_MUST)] = 0
    spool_dir: Annotated[Path | None, Setting("VAULT_SPOOL_DIR", "a folder on this machine's own disk")] = None
    spool_max_bytes: Annotated[int, Meta(ge=1), Setting("VAULT_SPOOL_MAX_BYTES", "a number of bytes from 1 on")] = (
        1024 * 1024 * 1024
    )
    log_level: Annotated[LogLevel, Setting("VAULT_LOG_LEVEL", LOG_LEVEL_MUST, lowered)] = "info"
    queues: Annotated[tuple[QueueRule, ...], Setting("", _RULES)] = ()

    @classmethod
    def check(cls, field: str, value: Any, known: Known) -> Any:
        """Return what is kept of a value; raises ValueError."""
        match field:
            case "database_url":
                value = check_database(cls, value, known, os.environ)
            case "composio_webhook_secrets":
                value = tuple(check_secret(secret) for secret in value)
            case "agent_edge_key":
                value = check_token(value)
            case "cors_origins":
                value = tuple(check_origin(origin) for origin in value)
            case "prune_learnings_after_days":
                _check_week(value)
            case "spool_dir":
                value = _whole(value)
        return value

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return them, the strongest first."""
        return (
            Texts(cls, os.environ),
            SecretsFolder(cls, os.environ.get(SECRETS_FOLDER)),
            TomlFile(cls, _PLACES),
        )


class PersonsSettings(VaultSettings, frozen=True):
    """The vault's settings as a shell has them that is not the service's: its folder of secrets is the last source."""

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return the vault's sources, and the installed service's secrets after them."""
        return (*super().sources(), InstalledSecrets(cls, [at_home(folder) for folder in _SECRETS]))


ENVIRONMENT_NAMES: Final = environment_names(VaultSettings) | {SECRETS_FOLDER}


def load(config: Path | None = None, **overrides: Any) -> VaultSettings:
    """Return the settings; overrides go by field name, and None is none; raises SettingsError."""
    return read(VaultSettings, {"config": config, **overrides})


def load_database(config: Path | None = None) -> VaultSettings:
    """Return the settings of a person's command, which needs no webhook's secret; raises SettingsError."""
    return read(PersonsSettings, {"config": config, "composio_webhook_secrets": "unused"})


def look(config: Path | None = None) -> Found:
    """Return what there is of the settings, right or not."""
    return examine(PersonsSettings, {"config": config})
