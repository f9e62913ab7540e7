"""Where settings come from: texts by environment name, a folder of secrets, a TOML file."""

import errno
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from notifier.configuration import (
    CONFIG,
    NOTES,
    SECRETS_FOLDER,
    Settings,
    SettingsError,
    by_field,
    environment_names,
    fields_of,
    holds_secret,
    is_set,
    label,
    mistyped,
    mistyped_file,
    toml_keys,
)
from notifier.secrecy import OpenSecretError, is_open, read_secret, refuse_open_folder, remedy

_POSITION = re.compile(r"\(at (?:line \d+, column \d+|end of document)\)")


class Texts:
    """Settings by environment name: the environment, or a file in its form."""

    def __init__(self, cls: type[Settings], texts: Mapping[str, str]) -> None:
        """Take the texts by environment name."""
        self._cls = cls
        self._texts = texts

    def __str__(self) -> str:
        """Name the source."""
        return "the environment"

    def __call__(self, _stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return the texts that are set, by field, and which are nearly a setting's and therefore none."""
        return {**by_field(self._cls, self._texts), NOTES: mistyped(self._cls, self._texts)}


class SecretsFolder:
    """One file a setting, as systemd's LoadCredential= lays them out; named in lower case."""

    def __init__(self, cls: type[Settings], folder: str | None) -> None:
        """Take the folder's path; None or an empty one is no folder."""
        self._cls = cls
        self._folder = folder

    def __str__(self) -> str:
        """Name the folder."""
        return str(self._folder)

    def __call__(self, _stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return the files' texts by field; raises SettingsError for one that cannot be read or that others can."""
        if not self._folder:
            return {}
        # A folder that is not there is an empty one: service files name it before the first secret is in it.
        folder = Path(self._folder)
        refuse_open_folder(folder)
        names = sorted(environment_names(self._cls))
        found = by_field(self._cls, {name: _secret(folder / name.lower()) for name in names})
        return {**found, NOTES: self._strays(folder)}

    def _strays(self, folder: Path) -> list[str]:
        try:
            meant = {path: mistyped_file(self._cls, path.name) for path in sorted(folder.iterdir())}
        except FileNotFoundError:
            return [f"{SECRETS_FOLDER}: there is no folder {folder}: make it, or correct its name"]
        except OSError:  # one that may not be listed, such as systemd's for another user
            return []
        # where case makes no difference, a name in capitals is the right one's
        wrong = {path: name for path, name in meant.items() if name and not is_there(folder / name)}
        return [f"{path} is no setting: did you mean {name}?" for path, name in wrong.items()]


class InstalledSecrets:
    """The secrets of an installed service, read only for what is required and not set by anything stronger."""

    def __init__(self, cls: type[Settings], folders: Sequence[Path]) -> None:
        """Take where a service's secrets may lie, first this user's own."""
        self._cls = cls
        self._folders = folders
        self._folder: Path | None = None

    def __str__(self) -> str:
        """Name the folder that was read."""
        return f"{self._folder}, the service's"

    def __call__(self, stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the first folder that has what is missing holds; raises SettingsError."""
        missing = {name for name, field in fields_of(self._cls).items() if field.required} - stronger.keys()
        notes: list[str] = []
        for folder in filter(is_there, self._folders if missing else ()):
            found = self._read(folder, stronger, missing)
            notes += found.pop(NOTES)
            if missing & found.keys():
                self._folder = folder
                return {**found, NOTES: notes}
        return {NOTES: notes}

    def _read(self, folder: Path, stronger: Mapping[str, Any], missing: Collection[str]) -> dict[str, Any]:
        try:
            return SecretsFolder(self._cls, str(folder))(stronger)
        except OpenSecretError:
            raise  # it has a remedy of its own
        except SettingsError:
            pass
        names = [label(self._cls, field) for field in fields_of(self._cls) if field in missing]
        raise SettingsError(
            *(
                f"{name} is not set, and the secrets in {folder} are not for this user: "
                f"put it into {self._folders[0] / name.lower()} (mode 0600)"
                for name in names
            )
        )


class TomlFile:
    """The file that the config setting names, else the first of the usual places that has one."""

    def __init__(self, cls: type[Settings], places: Sequence[Path]) -> None:
        """Take the usual places, the strongest first; only one file is read."""
        self._cls = cls
        self._places = places
        self._path: Path | None = None

    def __str__(self) -> str:
        """Name the file that was read."""
        return str(self._path)

    def __call__(self, stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return the file's values by field, and the file as config; raises SettingsError."""
        named = stronger.get(CONFIG)
        for path in [at_home(Path(named))] if named else map(at_home, self._places):
            if named or is_there(path):
                self._path = path
                return {**self._values(path), CONFIG: path}
        return {}

    def _values(self, path: Path) -> dict[str, Any]:
        table, mode = self._read(path)
        fields = toml_keys(self._cls)
        for key in table.keys() & fields.keys():
            if is_open(mode) and holds_secret(fields_of(self._cls)[fields[key]].type):
                raise OpenSecretError(f"{path} holds {key} and is open to others: {remedy(path, mode)}")
        # An unknown key goes on under a name that is no field's, to be refused together with all else.
        return {fields.get(key, f"{key} in {path}"): value for key, value in table.items() if is_set(value)}

    def _read(self, path: Path) -> tuple[dict[str, Any], int]:
        name = label(self._cls, CONFIG)
        try:
            with path.open("rb") as file:
                return tomllib.load(file), os.fstat(file.fileno()).st_mode
        except OSError as error:
            reason = f"cannot be read ({why(error)}): correct {name} or --config, or the file's owner and mode"
        except (ValueError, RecursionError) as error:
            # tomllib's own words may quote the file
            position = _POSITION.search(str(error))
            reason = f"is not valid toml {position[0] if position else ''}".rstrip() + ": correct it there"
        raise SettingsError(f"{name}: {path} {reason}")


def at_home(path: Path, home: Path | None = None) -> Path:
    """Return the path with its ~ resolved: to this home, else to the process's, or unchanged where it has none."""
    if home is not None and path.parts[:1] == ("~",):
        return home.joinpath(*path.parts[1:])
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def why(error: OSError) -> str:
    """Return the system's reason alone, in lower case."""
    return (error.strerror or type(error).__name__).lower()


def is_there(path: Path) -> bool:
    """Tell whether something is there; what is closed to us counts, for to pass over it would be silent."""
    try:
        path.stat()
    except OSError as error:
        return error.errno not in {errno.ENOENT, errno.ENOTDIR}
    return True


def _secret(path: Path) -> str:
    try:
        return read_secret(path).decode().removesuffix("\n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        reason = f"cannot be read ({why(error)}): correct its owner and mode"
    except UnicodeDecodeError:
        reason = "is not utf-8 text: write the value alone into it"
    raise SettingsError(f"{SECRETS_FOLDER}: {path} {reason}")
