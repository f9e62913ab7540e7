"""`make bench`: what was measured, side by side in one run, printed and kept in the docs part by part.

A name runs that part alone; --quick takes fewer of everything, leaves out what takes minutes, and keeps nothing.
"""

import argparse
import sys

from bench import crowd, drain, growth, hostile, idle, ingest, plots, recovery, soak, stages, timers, wake, wakes
from bench.machine import machine
from bench.parts import Part, measure

PARTS = {
    "wake": Part(wake.bench, plot=plots.latency),
    "ingest": Part(ingest.bench),
    "drain": Part(drain.bench),
    "growth": Part(growth.bench, plot=plots.growth),
    "crowd": Part(crowd.bench),
    "stages": Part(stages.bench),
    "idle": Part(idle.bench),
    "hostile": Part(hostile.bench),
    "wakes": Part(wakes.bench, long=True),
    "timers": Part(timers.bench, long=True),
    "recovery": Part(recovery.bench, long=True),
    "soak": Part(soak.bench, long=True),
}


def main() -> None:
    """Measure what was asked for; exit with 1 and the names of what failed."""
    parser = argparse.ArgumentParser("make bench")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; all of them without one")
    parser.add_argument("--quick", action="store_true", help="under five minutes; nothing is kept")
    args = parser.parse_args()
    unknown = set(args.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    asked = args.parts or [name for name, part in PARTS.items() if not (args.quick and part.long)]
    failed = measure({name: PARTS[name] for name in asked}, machine(), quick=args.quick)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
