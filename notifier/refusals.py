"""Read settings, and say what is wrong with them in a person's words: a name and a remedy, no value."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from notifier.configuration import Setting, Settings, SettingsError, is_set, label, settings_of, toml_keys

_Settings = TypeVar("_Settings", bound=Settings)
_Place = tuple[int | str, ...]
_IN_A_TABLE = 3  # a setting, the number of its table, a key


def read(cls: type[_Settings], given: Mapping[str, Any]) -> _Settings:
    """Return the settings, those given by field name being the strongest; raises SettingsError."""
    values = {field: value for field, value in given.items() if is_set(value)}
    for source in cls.sources():
        values = {**source(values), **values}
    try:
        return cls(**values)
    except ValidationError as error:
        details = error.errors(include_url=False)
    lines = [_line(cls, detail) for detail in details] + [note for detail in details for note in _notes(detail)]
    # Raised out here because pydantic's error holds the values and must not become the context of ours.
    raise SettingsError(*dict.fromkeys(lines))


def _line(cls: type[Settings], detail: ErrorDetails) -> str:
    kind, place = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        return _unknown(cls, place)
    name, must = _name(cls, place), _must(cls, place)
    if kind == "missing" and len(place) == 1:
        return f"{name} is not set: set it to {must}"
    if kind == "too_short":
        return f"{name} is empty: set it to {must}"
    if kind == "value_error":
        return f"{name}: {detail['ctx']['error']}"
    return f"{name} is wrong: set it to {must}"


def _notes(detail: ErrorDetails) -> Iterable[str]:
    """Return why a weaker source was passed over: where a value is missing, its file may have been broken."""
    return detail["input"].get("notes", ()) if detail["type"] == "missing" and len(detail["loc"]) == 1 else ()


def _name(cls: type[Settings], place: _Place) -> str:
    field, *inner = place
    if not inner or settings_of(cls)[str(field)].name:
        return label(cls, str(field))
    return str(field) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in inner)


def _unknown(cls: type[Settings], place: _Place) -> str:
    """Refuse a key and name the nearest one; some write the environment's name into the file."""
    known = _keys(cls, place)
    name = _name(cls, place) if len(place) > 1 else str(place[0])
    key = str(place[-1]).partition(" in ")[0].lower().removeprefix(cls.prefix.lower())
    near = get_close_matches(key, known, n=1)
    return f"{name} is no setting: " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")


def _keys(cls: type[Settings], place: _Place) -> Iterable[str]:
    return list(toml_keys(cls) if len(place) == 1 else _table(cls, place))


def _must(cls: type[Settings], place: _Place) -> str:
    """Return what a value must be: as its key in a table of tables says, else as the whole setting does."""
    whole = settings_of(cls)[str(place[0])]
    table = _table(cls, place) if len(place) == _IN_A_TABLE else {}
    said = (marker for field, info in table.items() if place[-1] in {field, info.alias} for marker in info.metadata)
    return next((marker for marker in said if isinstance(marker, Setting)), whole).must


def _table(cls: type[Settings], place: _Place) -> dict[str, FieldInfo]:
    fields: dict[str, FieldInfo] = get_args(cls.model_fields[str(place[0])].annotation)[0].model_fields
    return fields
