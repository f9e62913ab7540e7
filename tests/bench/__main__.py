"""`make bench`: what was measured, side by side in one run, printed and kept in the docs.

A name runs that part alone and keeps nothing; --quick takes fewer of everything, and leaves out what takes minutes.
"""

import argparse

from bench import crowd, drain, growth, hostile, idle, ingest, plots, recovery, soak, stages, timers, wake, wakes
from bench.machine import machine
from bench.page import Part, keep, write

PARTS = {
    "wake": Part(
        "From the enqueue to the gateway",
        wake.bench,
        plot=plots.latency,
        seen="Milliseconds to the gateway's receipt, ours beside the floor and the peers",
    ),
    "ingest": Part("Webhooks a second", ingest.bench),
    "drain": Part("A full queue", drain.bench),
    "growth": Part(
        "As the tables grow",
        growth.bench,
        plot=plots.growth,
        seen="Milliseconds for a claim over the number of rows",
    ),
    "crowd": Part("Many daemons", crowd.bench),
    "stages": Part("One event on its way", stages.bench),
    "idle": Part("Idle and small", idle.bench),
    "hostile": Part("Slow attackers", hostile.bench),
    "wakes": Part("No lost wake", wakes.bench, long=True),
    "timers": Part("In time", timers.bench, long=True),
    "recovery": Part("How long a fault takes", recovery.bench, long=True),
    "soak": Part("Everything killed at random", soak.bench, long=True),
}


def main() -> None:
    """Measure and print; all of it in full is kept as the page."""
    parser = argparse.ArgumentParser("make bench")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; all of them without one")
    parser.add_argument("--quick", action="store_true", help="under five minutes; nothing is kept")
    args = parser.parse_args()
    unknown = set(args.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    asked = args.parts or [name for name, part in PARTS.items() if not (args.quick and part.long)]
    for name in asked:
        print(f"… {name}", flush=True)
        PARTS[name].run(quick=args.quick)
        print("\n".join(["", *PARTS[name].lines(), ""]), flush=True)
    measured_on = machine()
    print(measured_on)
    if not args.parts and not args.quick:
        write(PARTS, measured_on)
        keep(PARTS)


if __name__ == "__main__":
    main()
