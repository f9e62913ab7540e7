"""The kinds of values that the settings of both programs have."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr, StringConstraints, ValidationInfo

from notifier.configuration import Settings, label
from sql.dsn import check_dsn
from sql.encryption import secured

QUEUE_MUST = "1 to 40 of a-z, 0-9 and _"
LOG_LEVEL_MUST = "one of debug, info, warning and error"
DSN_MUST = "the Postgres connection string (Supabase shows it under Connect; take the session pooler's, port 5432)"
ALLOW_PLAINTEXT: Final = "allow_plaintext_database"

_PLACEHOLDER = re.compile(r"…|\.\.\.|<[^>]*>|\[[^]]*\]|your[-_ ].*", re.IGNORECASE)


def _separate(value: Any) -> Any:
    """Return the parts of a comma-separated text, each once and none empty; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _check_database(value: SecretStr) -> SecretStr:
    return SecretStr(check_dsn(value.get_secret_value()))


def encrypted(cls: type[Settings], value: SecretStr, info: ValidationInfo, environment: Mapping[str, str]) -> SecretStr:
    """Return the database's string as it is safe to use, unless allow_plaintext_database is set; raises DsnError."""
    # A flag that is itself wrong is absent here; one complaint about it is enough.
    if info.data.get(ALLOW_PLAINTEXT, True):
        return value
    return SecretStr(secured(value.get_secret_value(), environment, setting=label(cls, ALLOW_PLAINTEXT)))


def _check_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text:
        raise ValueError("a secret in the list is empty: take it out")
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError("a placeholder is left in it: put the real value there")
    return SecretStr(text)


def _check_token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError("it has characters that no http header can carry: copy it again, as plain text")
    return SecretStr(text)


Separated = BeforeValidator(_separate)
Database = Annotated[SecretStr, AfterValidator(_check_database)]
Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
Token = Annotated[SecretStr, AfterValidator(_check_token)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
QueueName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}$")]
