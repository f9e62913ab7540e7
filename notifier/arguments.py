"""A command line as both programs read it."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any


class Command(argparse.ArgumentParser):
    """argparse, where each command refuses by itself what it does not know, beside its own usage.

    argparse leaves that to the outermost parser, whose usage says nothing of the command that was meant.
    """

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """Read all arguments; exits with 2 where one is unknown."""
        given = list(sys.argv[1:] if args is None else args)
        self._refuse(self._unknown_before_command(given))
        known, unknown = super().parse_known_args(given, namespace)
        self._refuse(unknown)
        return known, unknown

    def _unknown_before_command(self, given: Sequence[str]) -> list[str]:
        """Find the option that none of this command's begins with, whose value argparse would take for a command."""
        below = [action for action in self._actions if action.nargs == argparse.PARSER]
        commands = [name for action in below for name in action.choices or ()]
        for argument in given if commands else ():
            if argument == "--" or argument in commands:
                break
            if argument.startswith("--") and not any(name.startswith(_name(argument)) for name in self._names):
                return [argument]
        return []

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            near = difflib.get_close_matches(_name(unknown[0]), self._names, n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")

    @property
    def _names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]


def _name(argument: str) -> str:
    return argument.partition("=")[0]
