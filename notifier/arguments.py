"""A command line as both programs read it."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any


class Command(argparse.ArgumentParser):
    """argparse, where each command refuses by itself what it does not know, beside its own usage.

    argparse leaves that to the outermost parser, whose usage says nothing of the command that was meant.
    """

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """Read all arguments; exits with 2 where one is unknown."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown[0])}")
        return known, unknown

    def _meant(self, argument: str) -> str:
        names = [name for action in self._actions for name in action.option_strings]
        near = difflib.get_close_matches(argument.partition("=")[0], names, n=1)
        return f" (did you mean {near[0]}?)" if near else ""
