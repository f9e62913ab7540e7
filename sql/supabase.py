"""What is wrong with a connection string that leads to Supabase, as far as its parts show.

Hosts and user names: https://supabase.com/docs/guides/database/connecting-to-postgres
"""

import re
from collections.abc import Mapping

# the anon and service_role keys (JWTs), and the newer ones
_API_KEY = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*|sb_(?:secret|publishable)_[\w-]+")
_POOLER = re.compile(r"\.pooler\.supabase\.(?:com|co)$", re.IGNORECASE)
_DATABASE_HOST = re.compile(r"\.supabase\.(?:com|co|in|net)$", re.IGNORECASE)
_API_HOST = re.compile(r"[a-z0-9]+\.supabase\.(?:co|in|net)", re.IGNORECASE)


def is_api_key(text: str) -> bool:
    """Tell whether a text is a key of the HTTP API, which opens no database."""
    return _API_KEY.fullmatch(text) is not None


def is_host(hosts: str) -> bool:
    """Tell whether any of a connection string's hosts is a database or a pooler of Supabase."""
    return any(_DATABASE_HOST.search(host) for host in hosts.split(","))


def is_pooler(host: str) -> bool:
    """Tell whether a host is Supabase's pooler, where a user's name is followed by a dot and the project."""
    return _POOLER.search(host) is not None


def mistake(parts: Mapping[str, str]) -> str | None:
    """Return what is wrong with the parts of a connection string and what to do, or None."""
    if is_api_key(parts.get("password", "")):
        return (
            "the password in the connection string is an API key: put the database's own password there "
            "(supabase: Database Settings, Reset database password)"
        )
    hosts = parts.get("host", "").split(",")
    if any(_API_HOST.fullmatch(host) for host in hosts):
        return (
            "the host in the connection string answers web requests and is no database: "
            "copy the string under Connect, Session pooler"
        )
    if any(map(is_pooler, hosts)) and _lacks_project(parts):
        return (
            "the user in the connection string has no project: at supabase's pooler it is postgres.REF, "
            "as shown under Connect, Session pooler"
        )
    return None


def _lacks_project(parts: Mapping[str, str]) -> bool:
    """Tell whether neither user nor options name the project; a user that is not set comes from elsewhere."""
    name, dot, project = parts.get("user", "user.project").rpartition(".")
    return not (name and dot and project) and "reference=" not in parts.get("options", "")
