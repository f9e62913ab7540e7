"""What settings are called by a person: in the environment, in a TOML file, in an error, in a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, TypeAlias, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from notifier.secret import SecretStr

SECRETS_FOLDER = "CREDENTIALS_DIRECTORY"
CONFIGURATION: Final = 78  # EX_CONFIG of sysexits.h: a supervisor need not try again
CONFIG = "config"
NOTES: Final = "notes"
_NEAR = 0.85  # of 1: a letter or two
_NEARER = 0.9  # a letter, or two that changed places


class SettingsError(Exception):
    """Settings that cannot be used: one line for each, with its name and the remedy and no secret value."""

    def __init__(self, *lines: str) -> None:
        """Take one line for each wrong setting."""
        super().__init__("\n".join(lines))
        self.lines = lines


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """Beside a field's type: its environment name (empty: only in the TOML file) and what it must be.

    `tidy` makes what is of the type from what a person writes; it may raise ValueError with a remedy. A field that is
    `always` checked is so even where nobody gives it.
    """

    name: str
    must: str
    tidy: Callable[[Any], Any] = _as_it_is
    always: bool = False


NO_SETTING: Final = Setting("", "")  # of a field that is not for a person to set

Source: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]  # from the stronger ones' values to its own
Known: TypeAlias = Mapping[str, Any]  # values by field


class Table(msgspec.Struct, frozen=True):
    """What a TOML table may hold, which is a subclass; a field may also be spelled as its struct renames it."""

    prefix: ClassVar[str] = ""  # of the environment names of a program's own settings

    @classmethod
    def check(cls, _field: str, value: Any, _known: Known) -> Any:
        """Return what is kept of a value that is of its field's type; raises ValueError with a remedy.

        Known are the fields before it; one that is itself wrong is absent, since one complaint about it is enough.
        """
        return value

    def __str__(self) -> str:
        """Return the fields that are not as usual, on a line and as TOML has them."""
        values = ((name, getattr(self, name), field.default) for name, field in fields_of(type(self)).items())
        said = [f"{name}={_encoded(value)}" for name, value, usual in values if value != usual]
        return " ".join(said) or "as usual"


class Settings(Table, frozen=True, kw_only=True):
    """All that a person can set of a program, which is a subclass; read() makes them.

    `notes` say, each with its remedy, what was set and is ignored; every source may add some.
    """

    notes: tuple[str, ...] = ()

    @classmethod
    def sources(cls) -> Sequence[Source]:
        """Return where values come from, the strongest first."""
        return ()


@cache
def fields_of(cls: type[Table]) -> dict[str, FieldInfo]:
    """Return the fields of a class by name."""
    return {field.name: field for field in msgspec.structs.fields(cls)}


@cache
def settings_of(cls: type[Table]) -> dict[str, Setting]:
    """Return the settings of a class by field name; a field without the marker is not for a person to set."""
    return {
        name: marker
        for name, field in fields_of(cls).items()
        for marker in get_args(field.type)
        if isinstance(marker, Setting)
    }


def plain(kind: Any) -> Any:
    """Return a type less its constraints, and less None."""
    return plain(get_args(kind)[0]) if get_origin(kind) in {Annotated, Union, UnionType} else kind


def table_of(field: FieldInfo) -> type[Table] | None:
    """Return what a setting has a list of, where that is a table."""
    item = next(iter(get_args(plain(field.type))), None)
    return item if isinstance(item, type) and issubclass(item, Table) else None


def environment_names(cls: type[Settings]) -> frozenset[str]:
    """Return the name of every environment variable that holds a setting of this class."""
    return frozenset(setting.name for setting in settings_of(cls).values() if setting.name)


def mistyped(cls: type[Settings], environment: Mapping[str, str]) -> list[str]:
    """Say of each variable that is none of ours, but nearly, which one is meant.

    Not of each with our prefix: HashiCorp's programs have VAULT_ADDR, and Kubernetes makes VAULT_SERVICE_HOST. Without
    it a name may be another program's, and is told only where it is nearer and the setting itself is not there.
    """
    known = environment_names(cls)
    own = {name for name in known if name.startswith(cls.prefix)}
    lacking = {name for name in known - own if name not in environment}
    strays = [name for name in sorted(environment) if name not in known]
    meant = {
        name: get_close_matches(name, own, n=1, cutoff=_NEAR)
        if name.startswith(cls.prefix)
        else get_close_matches(name, lacking, n=1, cutoff=_NEARER)
        for name in strays
    }
    return [f"{name} is no setting: did you mean {near[0]}?" for name, near in meant.items() if near]


def mistyped_file(cls: type[Settings], name: str) -> str | None:
    """Return what a file in a folder of secrets is to be called, where it is none of ours, but nearly."""
    known = {one.lower() for one in environment_names(cls)}
    near = [] if name in known else get_close_matches(name.lower(), known, n=1, cutoff=_NEAR)
    return near[0] if near else None


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


def redacted(cls: type[Settings], values: Known) -> dict[str, str]:
    """Return the text of each value by the name that a person knows, of a table by its number; a secret reads ***."""
    report: dict[str, str] = {}
    for field in settings_of(cls):
        name, value = label(cls, field), values.get(field)
        if value and table_of(fields_of(cls)[field]):
            report |= {f"{name}[{number}]": str(table) for number, table in enumerate(value)}
        else:
            report[name] = _shown(cls, field, value)
    return report


def _shown(cls: type[Settings], field: str, value: Any) -> str:
    if value is None or value == ():
        return ""
    if holds_secret(fields_of(cls)[field].type):
        return "***"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
