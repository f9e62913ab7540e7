"""The settings of the commands on events: the daemon's own, of which database and queues are all that they need."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.service import ServiceError, secrets_folders
from daemon.settings import DaemonSettings
from notifier.configuration import Settings, SettingsError, Source
from notifier.refusals import read
from notifier.secrecy import OpenSecretError
from notifier.sources import SecretsFolder, at_home

# what only the daemon itself needs, set so that neither its absence nor a mistake in it is in the way
_UNNEEDED = {"hook_token": "unused", "hooks_path": "/hooks", "gateway_url": "http://127.0.0.1:18789"}


class EventsSettings(DaemonSettings, frozen=True):
    """The daemon's settings as a shell has them that is not the service's: its folder of secrets is the last source."""

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return the daemon's sources, and the installed service's secrets after them."""
        return (*super().sources(), _InstalledSecrets(cls))


class _InstalledSecrets:
    """The secrets of an installed service, read only where nothing else names the database."""

    def __init__(self, cls: type[Settings]) -> None:
        """Take the settings."""
        self._cls = cls

    def __call__(self, stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the first folder that has the database's string holds; raises SettingsError."""
        folders = _folders() if "database_url" not in stronger else []
        for folder in folders:
            try:
                found = SecretsFolder(self._cls, str(folder))(stronger)
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
