"""The settings of a person's commands: the daemon's own, as a shell has them that is not the service's."""

from collections.abc import Sequence
from pathlib import Path

from daemon.service import secrets_folders
from daemon.settings import DaemonSettings
from notifier.configuration import Source
from notifier.refusals import Found, examine, read
from notifier.sources import InstalledSecrets

# what only the daemon itself needs, set so that neither its absence nor a mistake in it is in the way
_UNNEEDED = {"hook_token": "unused", "hooks_path": "/hooks", "gateway_url": "http://127.0.0.1:18789"}


class PersonsSettings(DaemonSettings, frozen=True):
    """The daemon's settings, with the installed service's folder of secrets as the last source."""

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return the daemon's sources, and the installed service's secrets after them."""
        return (*super().sources(), InstalledSecrets(cls, secrets_folders()))


def load_database(config: Path | None = None) -> PersonsSettings:
    """Return the settings of a command that needs the database and the queues alone; raises SettingsError."""
    return read(PersonsSettings, {"config": config, **_UNNEEDED})


def look(config: Path | None = None) -> Found:
    """Return what there is of the settings, right or not."""
    return examine(PersonsSettings, {"config": config})
