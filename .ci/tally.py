"""Judge a pytest result file: no test skipped, and every database test passed that passed in another run."""

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--as-many-as", type=Path, help="the result file whose passed database tests must pass here")
    args = parser.parse_args()
    here = {name(case): outcome(case) for case in cases(args.results)}
    problems = [f"skipped: {test}" for test, how in here.items() if how == "skipped"]
    if "passed" not in here.values():
        problems.append(f"no test passed in {args.results}")
    if args.as_many_as:
        wanted = [name(case) for case in cases(args.as_many_as) if is_database(case) and outcome(case) == "passed"]
        problems += [f"did not pass here: {test}" for test in wanted if here.get(test) != "passed"]
        print(f"{len(wanted)} database tests passed there, {list(here.values()).count('passed')} tests here")
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def cases(path: Path) -> list[ElementTree.Element]:
    """Return the tests of a junit file."""
    return list(ElementTree.parse(path).getroot().iter("testcase"))


def name(case: ElementTree.Element) -> str:
    """Return a test's name."""
    return f"{case.get('classname')}::{case.get('name')}"


def outcome(case: ElementTree.Element) -> str:
    """Return passed, skipped or failed."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def is_database(case: ElementTree.Element) -> bool:
    """Tell whether the test was marked as one that needs a database; the marker is recorded as a property."""
    return any(found.get("name") == "database" for found in case.iter("property"))


if __name__ == "__main__":
    sys.exit(main())
