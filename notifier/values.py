"""The kinds of values that the settings of both programs have, and how each is read from what a person writes."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from notifier.configuration import Known, Settings, label, plain
from notifier.secret import SecretStr
from sql.dsn import check_dsn
from sql.encryption import secured

QUEUE_MUST = "1 to 40 of a-z, 0-9 and _"
LOG_LEVEL_MUST = "one of debug, info, warning and error"
DSN_MUST = "the Postgres connection string (Supabase shows it under Connect; take the session pooler's, port 5432)"
ALLOW_PLAINTEXT: Final = "allow_plaintext_database"

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
QueueName = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,40}\Z")]

_PLACEHOLDER = re.compile(r"…|\.\.\.|<[^>]*>|\[[^]]*\]|your[-_ ].*", re.IGNORECASE)
_POINT_NOUGHT: Final = re.compile(r"\.0+\s*$")
_SWITCH: Final = {
    **dict.fromkeys(("on", "true", "yes", "t", "y", "1"), True),
    **dict.fromkeys(("off", "false", "no", "f", "n", "0"), False),
}


def convert(value: Any, kind: Any) -> Any:
    """Return a value as one of this type, where a text may say a number or a switch; raises msgspec.ValidationError."""
    bare = plain(kind)
    if bare is bool:
        value = _SWITCH.get(str(value).lower(), value)
    elif bare in {int, float}:
        value = _number(value, bare)
    # a text is itself: else "null" would be none
    return msgspec.convert(value, kind, strict=isinstance(value, str), dec_hook=_made)


def _number(value: Any, kind: type[int | float]) -> Any:
    """Return the number that a text or a switch says; anything else as it is."""
    said = _POINT_NOUGHT.sub("", value) if kind is int and isinstance(value, str) else value
    if isinstance(said, str | bool):
        with suppress(ValueError):
            return kind(said)
    return value


def _made(kind: type, value: Any) -> Any:
    """Make a path or a secret of a text; msgspec refuses what is still none."""
    return kind(value) if isinstance(value, str) else value


def separated(value: Any) -> Any:
    """Return the parts of a comma-separated text, each once and none empty; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def lowered(value: Any) -> Any:
    """Return a text in lower case; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


def check_database(cls: type[Settings], value: SecretStr, known: Known, environment: Mapping[str, str]) -> SecretStr:
    """Return the database's string as it is safe to use, unless allow_plaintext_database is set; raises DsnError."""
    dsn = check_dsn(value.get_secret_value())
    if not known.get(ALLOW_PLAINTEXT, True):
        dsn = secured(dsn, environment, setting=label(cls, ALLOW_PLAINTEXT))
    return SecretStr(dsn)


def check_secret(value: SecretStr) -> SecretStr:
    """Return a secret without surrounding white space; raises ValueError where a manual's placeholder is left."""
    text = value.get_secret_value().strip()
    if not text:
        raise ValueError("a secret in the list is empty: take it out")
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError("a placeholder is left in it: put the real value there")
    return SecretStr(text)


def check_token(value: SecretStr) -> SecretStr:
    """Return a token without surrounding white space; raises ValueError where no http header can carry it."""
    text = value.get_secret_value().strip()
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError("it has characters that no http header can carry: copy it again, as plain text")
    return SecretStr(text)
