"""Read settings, and say what is wrong with them in a person's words: a name and a remedy, no value."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import FieldInfo

from notifier.configuration import (
    NO_SETTING,
    NOTES,
    Known,
    Settings,
    SettingsError,
    Table,
    fields_of,
    is_set,
    settings_of,
    table_of,
    toml_keys,
)
from notifier.values import convert

_Table = TypeVar("_Table", bound=Table)
_Settings = TypeVar("_Settings", bound=Settings)


class _Place(NamedTuple):
    """What a person calls a setting, or a table or a key in it, such as routes[0].type, and what it must be."""

    name: str = ""
    must: str = ""

    def within(self, key: str) -> str:
        """Return what a key of the table is called; at the top it is that itself."""
        return f"{self.name}.{key}" if self.name else key

    def wrong(self, what: str = "wrong") -> SettingsError:
        """Return the refusal of what stands there."""
        return SettingsError(f"{self.name} is {what}: set it to {self.must}")


_TOP: Final = _Place()
_GIVEN: Final = "the command line"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a program's settings, right or not.

    `right` are those that can be used, defaults among them, and `origins` where each was found that is no default,
    by field name; `wrong` has a line for each mistake.
    """

    cls: type[Settings]
    right: Known
    origins: Mapping[str, str]
    wrong: tuple[str, ...]


def read(cls: type[_Settings], given: Mapping[str, Any]) -> _Settings:
    """Return the settings, those given by field name being the strongest; raises SettingsError."""
    found = examine(cls, given)
    if found.wrong:
        raise SettingsError(*found.wrong)
    return cls(**found.right)


def examine(cls: type[Settings], given: Mapping[str, Any]) -> Found:
    """Return what can be used of the settings, and what is wrong with the rest."""
    values = {field: value for field, value in given.items() if is_set(value)}
    origins = dict.fromkeys(values, _GIVEN)
    unread: list[str] = []
    notes: list[str] = []
    for source in cls.sources():
        with _gathered(unread):
            found = source(values)
            notes += found.pop(NOTES, ())
            added = {field: value for field, value in found.items() if field not in values}
            values |= added
            origins |= dict.fromkeys(added, str(source))
    right, wrong = _checked(cls, {**values, NOTES: tuple(dict.fromkeys(notes))}, _TOP)
    if any(field.required and name not in values for name, field in fields_of(cls).items()):
        wrong += notes  # what is missing may have been passed over
    # or it stands in what could not be read: then that alone is told
    return Found(cls, right, origins, tuple(dict.fromkeys(unread or wrong)))


@contextmanager
def _gathered(wrong: list[str]) -> Iterator[None]:
    """Go on after a mistake, with its lines among the others."""
    try:
        yield
    except SettingsError as error:
        wrong += error.lines


def _made(cls: type[_Table], values: Any, place: _Place) -> _Table:
    """Make a table in one of the settings of what was given; raises SettingsError with every mistake."""
    if not isinstance(values, dict):
        raise place.wrong()
    right, wrong = _checked(cls, values, place)
    if wrong:
        raise SettingsError(*wrong)
    return cls(**right)


def _checked(cls: type[Table], values: Known, place: _Place) -> tuple[dict[str, Any], list[str]]:
    """Return the values that are right, by field name, and every mistake."""
    fields = fields_of(cls).values()
    right: dict[str, Any] = {}
    wrong: list[str] = []
    for field in fields:
        with _gathered(wrong):
            right[field.name] = _value(cls, field, values, right, place)
    ours = {key for field in fields for key in (field.name, field.encode_name)}
    wrong += [_unknown(cls, key, place) for key in values if key not in ours]
    return right, wrong


def _value(cls: type[Table], field: FieldInfo, values: Known, right: Known, place: _Place) -> Any:
    """Return the value of a field as it is kept; raises SettingsError."""
    key = field.encode_name if field.encode_name in values else field.name
    if key != field.name and field.name in values:
        raise SettingsError(f"{place.name}: it says both {field.name} and {key}, which are the same: leave one out")
    setting = settings_of(cls).get(field.name, NO_SETTING)
    own = _Place(setting.name or place.within(key), setting.must or place.must)
    if key not in values and field.required:
        raise own.wrong("wrong" if place.name else "not set")
    if key not in values and not setting.always:
        return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    value = values.get(key)
    try:
        value = setting.tidy(value)
        table = table_of(field)
        value = convert(value, field.type) if table is None else _tables(table, convert(value, list), own)
        return cls.check(field.name, value, right)
    except msgspec.ValidationError as error:
        refusal = own.wrong("empty" if str(error).startswith("Expected `array` of length") else "wrong")
    except ValueError as error:
        refusal = SettingsError(f"{own.name}: {error}")
    raise refusal


def _tables(table: type[_Table], rows: Iterable[Any], place: _Place) -> tuple[_Table, ...]:
    """Return the tables of a setting; raises SettingsError with the mistakes of all."""
    right: list[_Table] = []
    wrong: list[str] = []
    for number, row in enumerate(rows):
        with _gathered(wrong):
            right.append(_made(table, row, _Place(f"{place.name}[{number}]", place.must)))
    if wrong:
        raise SettingsError(*wrong)
    return tuple(right)


def _unknown(cls: type[Table], given: str, place: _Place) -> str:
    """Refuse a key and name the nearest one; some write the environment's name into the file."""
    known = list(toml_keys(cls) if issubclass(cls, Settings) else fields_of(cls))
    key = given.partition(" in ")[0].lower().removeprefix(cls.prefix.lower())
    near = get_close_matches(key, known, n=1)
    there_is = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{place.within(given)} is no setting: {there_is}"
