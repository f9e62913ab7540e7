"""What settings are called by a person: in the environment, in a TOML file, in an error, in a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, SecretStr

SECRETS_FOLDER = "CREDENTIALS_DIRECTORY"
CONFIG = "config"
_NEAR = 0.85  # of 1: a letter or two


class SettingsError(Exception):
    """Settings that cannot be used: one line for each, with its name and the remedy and no secret value."""

    def __init__(self, *lines: str) -> None:
        """Take one line for each wrong setting."""
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Setting:
    """Beside a field's type: its environment name (empty: only in the TOML file) and what it must be."""

    name: str
    must: str


Source: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]  # from the stronger ones' values to its own


class Settings(BaseModel):
    """All that a person can set of a program, which is a subclass; read() makes them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)
    prefix: ClassVar[str]  # of the names of this program's own settings

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return where values come from, the strongest first."""
        return ()


def settings_of(cls: type[Settings]) -> dict[str, Setting]:
    """Return the settings of a class by field name; a field without the marker is not for a person to set."""
    return {
        field: marker
        for field, info in cls.model_fields.items()
        for marker in info.metadata
        if isinstance(marker, Setting)
    }


def environment_names(cls: type[Settings]) -> frozenset[str]:
    """Return the name of every environment variable that holds a setting of this class."""
    return frozenset(setting.name for setting in settings_of(cls).values() if setting.name)


def mistyped(cls: type[Settings], environment: Mapping[str, str]) -> list[str]:
    """Say of each variable that is none of ours, but nearly, which one is meant.

    Not of each with our prefix: HashiCorp's programs have VAULT_ADDR, and Kubernetes makes VAULT_SERVICE_HOST.
    """
    prefix, known = cls.prefix, environment_names(cls)
    meant = {
        name: get_close_matches(name, known, n=1, cutoff=_NEAR)
        for name in sorted(environment)
        if name.startswith(prefix) and name not in known
    }
    return [f"{name} is no setting: did you mean {near[0]}?" for name, near in meant.items() if near]


def toml_keys(cls: type[Settings]) -> dict[str, str]:
    """Return field names by TOML key: the environment name in lower case, less the program's own prefix."""
    prefix = cls.prefix
    return {
        setting.name.removeprefix(prefix).lower() or field: field
        for field, setting in settings_of(cls).items()
        if field != CONFIG  # a file does not name itself
    }


def by_field(cls: type[Settings], texts: Mapping[str, str]) -> dict[str, str]:
    """Return what is set in an environment-like mapping by field name."""
    names = {field: setting.name for field, setting in settings_of(cls).items()}
    return {field: texts[name] for field, name in names.items() if is_set(texts.get(name))}


def is_set(value: object) -> bool:
    """Tell whether a source gives a value: a blank text stands for none, as in X= of an environment file."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def label(cls: type[Settings], field: str) -> str:
    """Return what a person calls a field: its environment name, or its TOML key."""
    setting = settings_of(cls).get(field)
    return (setting and setting.name) or field


def holds_secret(annotation: Any) -> bool:
    """Tell whether a type has a SecretStr anywhere in it."""
    return annotation is SecretStr or any(holds_secret(inner) for inner in get_args(annotation))


def redacted(settings: Settings) -> dict[str, str]:
    """Return every setting's text by the name that a person knows; a secret that is set reads ***."""
    cls = type(settings)
    return {label(cls, field): _shown(cls, field, getattr(settings, field)) for field in settings_of(cls)}


def _shown(cls: type[Settings], field: str, value: Any) -> str:
    if value is None or value == ():
        return ""
    if holds_secret(cls.model_fields[field].annotation):
        return "***"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
