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
        self._look_before_command(given)
        known, unknown = super().parse_known_args(given, namespace)
        self.refuse(unknown)
        return known, unknown

    def knows(self, option: argparse.Action) -> bool:
        """Tell whether it has an option of that name."""
        return any(name in self._names for name in option.option_strings)

    def refuse(self, unknown: Sequence[str]) -> None:
        """End with 2 where there are arguments that nobody knows, and with what the first may have meant."""
        if unknown:
            near = difflib.get_close_matches(_name(unknown[0]), self._names, n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")

    def _look_before_command(self, given: Sequence[str]) -> None:
        """Refuse an option that stands before a command and that either of them does not know.

        argparse would take its value for the command, or leave it without effect.
        """
        below = next((action for action in self._actions if action.nargs == argparse.PARSER), None)
        if below is None:
            return
        commands: Any = below.choices
        seen: list[tuple[str, argparse.Action]] = []
        words = iter(given)
        for word in words:
            if word in commands:
                commands[word].refuse([one for one, action in seen if not commands[word].knows(action)])
                return
            if not word.startswith("--") or word == "--":
                return
            if (action := self._option(word)) is None:
                self.refuse([word])
                return
            seen.append((word, action))
            if action.nargs is None and "=" not in word:
                next(words, None)

    def _option(self, word: str) -> argparse.Action | None:
        """Find the option that a word names, which may be cut short."""
        meant = [name for name in self._names if name.startswith(_name(word))]
        return self._option_string_actions[min(meant, key=len)] if meant else None

    @property
    def _names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]


def _name(argument: str) -> str:
    return argument.partition("=")[0]
