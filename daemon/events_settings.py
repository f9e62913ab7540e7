"""The settings of the commands on events: the daemon's own, of which database and queues are all that they need."""

from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from daemon.service import ServiceError, secrets_folders
from daemon.settings import DaemonSettings
from notifier.configuration import SettingsError
from notifier.refusals import read
from notifier.secrecy import OpenSecretError
from notifier.sources import SecretsFolder, Source, at_home

# what only the daemon itself needs, set so that neither its absence nor a mistake in it is in the way
_UNNEEDED = {"hook_token": "unused", "hooks_path": "/hooks", "gateway_url": "http://127.0.0.1:18789"}


class EventsSettings(DaemonSettings):
    """The daemon's settings as a shell has them that is not the service's: its folder of secrets is the last source."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *replaced: PydanticBaseSettingsSource,
        **also_replaced: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the daemon's sources, and the installed service's secrets after them."""
        usual = super().settings_customise_sources(settings_cls, init_settings, *replaced, **also_replaced)
        return (*usual, _InstalledSecrets(settings_cls))


class _InstalledSecrets(Source):
    """The secrets of an installed service, read only where nothing else names the database."""

    def __call__(self) -> dict[str, Any]:
        """Return what the first folder that has the database's string holds; raises SettingsError."""
        folders = _folders() if "database_url" not in self.current_state else []
        for folder in folders:
            try:
                found = SecretsFolder(self.settings_cls, str(folder))()
            except OpenSecretError:
                raise  # it has a remedy of its own
            except SettingsError:
                raise SettingsError(
                    f"DATABASE_URL is not set, and the secrets in {folder} are not for this user: "
                    f"put it into {folders[0] / 'database_url'} (mode 0600)"
                ) from None
            if "database_url" in found:
                return found
        return {}


def _folders() -> list[Path]:
    try:
        return secrets_folders(at_home(Path("~")))
    except ServiceError:  # no service can be installed on this platform
        return []


def load(config: Path | None = None) -> EventsSettings:
    """Return the settings; raises SettingsError."""
    return read(EventsSettings, {"config": config, **_UNNEEDED})
