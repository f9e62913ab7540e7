"""The parameters of the API's calls: each once, bounded, and of its form."""

from datetime import UTC, datetime

from aiohttp import web

TEXT_CHARS = 200
LIMIT_DEFAULT = 20
LIMIT_MAX = 100


class BadRequestError(Exception):
    """A parameter or body that a caller must mend; the message is the answer's error."""


def parameter(request: web.Request, name: str) -> str:
    """Return a parameter of the query, empty where there is none. Raises BadRequestError for a repeated one."""
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise BadRequestError(f"{name} is there more than once")
    return values[0] if values else ""


def text(name: str, value: str, most_chars: int = TEXT_CHARS) -> str:
    """Return a text that Postgres can hold. Raises BadRequestError for a longer one, or with a NUL in it."""
    if len(value) > most_chars:
        raise BadRequestError(f"{name} is longer than {most_chars} characters")
    if "\0" in value:
        raise BadRequestError(f"{name} holds a NUL character")
    return value


def since(request: web.Request) -> datetime | None:
    """Return the time in any ISO form, UTC where it names no zone, or None. Raises BadRequestError."""
    asked = parameter(request, "since")
    if not asked:
        return None
    try:
        # a plus sign in a query means a space
        time = datetime.fromisoformat(asked.replace(" ", "+") if asked.count(" ") == 1 and "T" in asked else asked)
    except ValueError:
        raise BadRequestError("since must be an ISO 8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def limit(request: web.Request) -> int:
    """Return how many rows are wanted, at most 100. Raises BadRequestError."""
    asked = parameter(request, "limit") or str(LIMIT_DEFAULT)
    if not asked.isascii() or not asked.isdigit() or not int(asked[:9]) >= 1:
        raise BadRequestError(f"limit must be a number from 1 to {LIMIT_MAX}")
    return min(int(asked[:9]), LIMIT_MAX)
