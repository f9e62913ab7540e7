"""Whether a connection to the database is encrypted: always, where it leaves this machine.

libpq's own default, sslmode=prefer, sends a password in the clear to whoever says that it has no TLS:
https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
"""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sql import supabase
from sql.dsn import DsnError

WEAK: Final = frozenset({"disable", "allow", "prefer"})
_PROVING: Final = frozenset({"verify-ca", "verify-full"})
_SYSTEM: Final = "system"
_ROOT: Final = Path("~/.postgresql/root.crt")  # where libpq looks when nothing names a file


def secured(dsn: str, environment: Mapping[str, str], *, setting: str) -> str:
    """Return a checked connection string with sslmode=require added where libpq would settle for less.

    The environment's PG variables count as libpq counts them; `setting` is what allows an unencrypted connection.
    Raises DsnError for a host that is not this machine and an sslmode that may send everything in the clear.
    """
    parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    known = {**_from_environment(environment), **parts}
    if known.get("service") and not parts.get("sslmode"):
        raise DsnError(
            "the connection string names a service of pg_service.conf, which is not read for its encryption: "
            f"write sslmode=verify-full or sslmode=require beside it, or set {setting}=true"
        )
    if not (known.get("service") or _leaves_machine(known)):
        return dsn
    mode = known.get("sslmode")
    if mode in WEAK:
        raise DsnError(
            f"sslmode={mode} may send the password and every event in the clear to a host that is not this machine: "
            f"say sslmode=verify-full or sslmode=require, or set {setting}=true where the network is your own"
        )
    root = known.get("sslrootcert")
    _check_supabase(known, mode, root)
    # libpq takes sslrootcert=system to mean verify-full by itself, and refuses it with less
    return dsn if mode or root == _SYSTEM else make_conninfo(dsn, sslmode="require")


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    names = {name: f"PG{name.upper()}" for name in ("host", "hostaddr", "service", "sslmode", "sslrootcert")}
    return {name: environment[variable] for name, variable in names.items() if environment.get(variable)}


def _leaves_machine(parts: Mapping[str, str]) -> bool:
    """Tell whether any of the hosts is another machine, as far as its name shows; hostaddr is where libpq goes."""
    names, addresses = parts.get("host", "").split(","), parts.get("hostaddr", "").split(",")
    count = max(len(names), len(addresses))
    pairs = zip(names + [""] * (count - len(names)), addresses + [""] * (count - len(addresses)), strict=True)
    return not all(_is_local(address or name) for name, address in pairs)


def _is_local(host: str) -> bool:
    if not host or host.startswith(("/", "@")):  # a unix socket
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_supabase(parts: Mapping[str, str], mode: str | None, root: str | None) -> None:
    """Refuse a proof that cannot succeed: Supabase signs with an authority of its own, which no system knows."""
    proves = mode in _PROVING or root == _SYSTEM
    names_file = root not in {None, _SYSTEM} or (root is None and _users_root_exists())
    if proves and not names_file and supabase.is_host(parts.get("host", "")):
        raise DsnError(
            "supabase's certificate is signed by an authority that no system knows: download it in the dashboard "
            "(Database Settings, SSL Configuration, Download certificate) and name the file in sslrootcert"
        )


def _users_root_exists() -> bool:
    try:
        return _ROOT.expanduser().exists()
    except (RuntimeError, OSError):  # this process has no home, or may not look into it
        return False
