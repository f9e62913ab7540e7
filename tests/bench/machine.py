"""What it was measured on, and what it was measured with."""

import os
import platform
from importlib.metadata import version

import psycopg
from bench.peers import setup
from bench.stage import server


def machine() -> str:
    """Name both."""
    with server() as dsn, psycopg.connect(dsn) as connection:
        postgres = connection.info.parameter_status("server_version")
        (fsync,) = connection.execute("show fsync").fetchone()
    versions = ", ".join(f"{name} {version(name)}" for name in ("psycopg", "aiohttp", "uvloop"))
    python = f"Python {platform.python_version()}, {versions}"
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, everything on this one machine"
    return f"PostgreSQL {postgres}, fsync {fsync}; {python}; {system}.\n\n{setup()}"
