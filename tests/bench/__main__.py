"""`make bench`: what was measured, side by side in one run, printed and kept in the docs.

A name runs that part alone and keeps nothing; --quick takes fewer of everything.
"""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

import psycopg
import servers
from bench import idle, latency, recovery, soak, timers, wakes

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"
GUARANTEES = PAGE.with_name("guarantees.md")
PARTS = {
    "latency": ("From the webhook to the gateway", latency.bench),
    "wakes": ("No lost wake", wakes.bench),
    "timers": ("In time", timers.bench),
    "idle": ("Nothing to do", idle.bench),
    "recovery": ("How long a fault takes", recovery.bench),
    "soak": ("Everything killed at random", soak.bench),
}


def machine() -> str:
    """Name what it was measured on."""
    with servers.server() as dsn, psycopg.connect(dsn) as connection:
        server = connection.info.parameter_status("server_version")
    versions = ", ".join(f"{name} {version(name)}" for name in ("psycopg", "aiohttp"))
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"PostgreSQL {server}; Python {platform.python_version()}, {versions}; {system}."


def main() -> None:
    """Measure and print; all of it in full is kept as the page."""
    parser = argparse.ArgumentParser("make bench")
    parser.add_argument("part", nargs="?", choices=[*PARTS])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    told = ["# Benchmark", "", "Written by `make bench`; what stands in one table was measured in one run.", ""]
    for name, (title, bench) in PARTS.items():
        if args.part in {None, name}:
            print(f"… {name}", flush=True)
            part = ["## " + title, "", bench(quick=args.quick), ""]
            print("\n".join(part), flush=True)
            told += part
    told += [machine(), ""]
    print(told[-2])
    if args.part is None and not args.quick:
        PAGE.write_text("\n".join(told))
        for name in ("recovery", "soak"):
            keep(name, told[told.index("## " + PARTS[name][0]) + 2])


def keep(name: str, part: str) -> None:
    """Put a part into the page of the guarantees, between its marks."""
    before, _, rest = GUARANTEES.read_text().partition(f"<!-- {name} -->\n")
    GUARANTEES.write_text(f"{before}<!-- {name} -->\n{part}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")


if __name__ == "__main__":
    main()
