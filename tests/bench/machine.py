"""What it was measured with, and on."""

import os
import platform
from importlib.metadata import version

import psycopg
from bench.peers import node
from bench.stage import server


def machine() -> str:
    """Name both in one line; Postgres keeps its defaults unless it says otherwise."""
    with server() as dsn, psycopg.connect(dsn) as connection:
        postgres = connection.info.parameter_status("server_version")
        (fsync,) = connection.execute("show fsync").fetchone()
    database = f"PostgreSQL {postgres}" if fsync == "on" else f"PostgreSQL {postgres} (fsync {fsync})"
    libraries = [f"{name} {version(name)}" for name in ("psycopg", "aiohttp", "uvloop")]
    programs = ", ".join([database, f"Python {platform.python_version()}", *libraries, node()])
    return f"{programs}; {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
