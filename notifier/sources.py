"""Where settings come from: texts by environment name, a folder of secrets, a TOML file."""

import errno
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from notifier.configuration import (
    CONFIG,
    SECRETS_FOLDER,
    Settings,
    SettingsError,
    by_field,
    environment_names,
    fields_of,
    holds_secret,
    is_set,
    label,
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

    def __call__(self, _stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return the texts that are set, by field."""
        return dict(by_field(self._cls, self._texts))


class SecretsFolder:
    """One file a setting, as systemd's LoadCredential= lays them out; named in lower case."""

    def __init__(self, cls: type[Settings], folder: str | None) -> None:
        """Take the folder's path; None or an empty one is no folder."""
        self._cls = cls
        self._folder = folder

    def __call__(self, _stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return the files' texts by field; raises SettingsError for one that cannot be read or that others can."""
        if not self._folder:
            return {}
        # A folder that is not there is an empty one: service files name it before the first secret is in it.
        folder = Path(self._folder)
        refuse_open_folder(folder)
        names = sorted(environment_names(self._cls))
        return dict(by_field(self._cls, {name: _secret(folder / name.lower()) for name in names}))


class TomlFile:
    """The file that the config setting names, else the first of the usual places that has one."""

    def __init__(self, cls: type[Settings], places: Sequence[Path]) -> None:
        """Take the usual places, the strongest first; only one file is read."""
        self._cls = cls
        self._places = places

    def __call__(self, stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return the file's values by field, and the file as config; raises SettingsError."""
        named = stronger.get(CONFIG)
        for path in [at_home(Path(named))] if named else map(at_home, self._places):
            if named or _is_there(path):
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


def at_home(path: Path) -> Path:
    """Return the path with its ~ resolved, or unchanged where this process has no home."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def why(error: OSError) -> str:
    """Return the system's reason alone, in lower case."""
    return (error.strerror or type(error).__name__).lower()


def _is_there(path: Path) -> bool:
    # What is there but closed to us counts: to pass over it in silence would run on other settings.
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
