"""The steps that install or uninstall the service: each can be printed and each can be done."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

Answer: TypeAlias = "subprocess.CompletedProcess[str]"
Runner: TypeAlias = Callable[[tuple[str, ...]], Answer]


class ServiceError(Exception):
    """The service could not be installed or uninstalled; the message says what to do."""


class Step(Protocol):
    """Something that an install does; `text` is what a dry run prints."""

    @property
    def text(self) -> str:
        """Say what would be done, in full."""

    def do(self, run: Runner) -> None:
        """Do it, commands through `run`; raises ServiceError."""


@dataclass(frozen=True, slots=True)
class MakeDir:
    """Make a folder and its parents; a `mode` is also given to a folder that is there."""

    path: Path
    mode: int | None = None

    @property
    def text(self) -> str:
        """Say which folder, and its mode if it matters."""
        return f"make folder {self.path}" + ("" if self.mode is None else f" (mode {self.mode:04o})")

    def do(self, run: Runner) -> None:  # noqa: ARG002  every step is done alike
        """Make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.mode is not None:
            self.path.chmod(self.mode)


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file, whole or not at all."""

    path: Path
    contents: str
    mode: int = 0o644

    @property
    def text(self) -> str:
        """Say which file, with all that it will hold."""
        return f"write {self.path} (mode {self.mode:04o}):\n{self.contents}"

    def do(self, run: Runner) -> None:  # noqa: ARG002  every step is done alike
        """Write beside the file and rename, so that nobody loads half of it."""
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(self.contents, encoding="utf-8")
        new.chmod(self.mode)
        new.replace(self.path)


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file; one that is not there is removed already."""

    path: Path

    @property
    def text(self) -> str:
        """Say which file."""
        return f"remove {self.path}"

    def do(self, run: Runner) -> None:  # noqa: ARG002  every step is done alike
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class KeepAside:
    """Rename a file that is a person's work, so that another can take its place."""

    path: Path
    aside: Path

    @property
    def text(self) -> str:
        """Say which file, and where it is afterwards."""
        return f"keep {self.path} as {self.aside}"

    def do(self, run: Runner) -> None:  # noqa: ARG002  every step is done alike
        """Rename it."""
        self.path.rename(self.aside)


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command; `instead` is done when it answers one of `instead_on`."""

    argv: tuple[str, ...]
    remedy: str = "put that right and run the command again"
    may_fail: bool = False
    instead_on: frozenset[int] = frozenset()
    instead: tuple[Step, ...] = ()

    @property
    def text(self) -> str:
        """Say the command, and what is done instead when it cannot work here."""
        line = f"run {shlex.join(self.argv)}" + (" (may fail)" if self.may_fail else "")
        if not self.instead_on:
            return line
        codes = " or ".join(str(code) for code in sorted(self.instead_on))
        instead = [step.text for step in self.instead] or ["it is fine"]
        return "\n".join([line, f"if that exits with {codes}:", *instead])

    def do(self, run: Runner) -> None:
        """Run it; raises ServiceError with what the command said."""
        answer = run(self.argv)
        if answer.returncode in self.instead_on:
            for step in self.instead:
                step.do(run)
        elif answer.returncode and not self.may_fail:
            said = " ".join((answer.stderr or answer.stdout or "nothing said").split())
            raise ServiceError(f"{shlex.join(self.argv)} failed ({answer.returncode}, {said}): {self.remedy}")


@dataclass(frozen=True, slots=True)
class AwaitGone:
    """Wait until a command that finds the old service fails, for `within_s` seconds."""

    argv: tuple[str, ...]
    within_s: int

    @property
    def text(self) -> str:
        """Say what is waited for."""
        return f"wait up to {self.within_s} s until this fails: {shlex.join(self.argv)}"

    def do(self, run: Runner) -> None:
        """Ask once a second; raises ServiceError when the time is up."""
        for _ in range(self.within_s):
            if run(self.argv).returncode:
                return
            time.sleep(1)
        raise ServiceError(f"the old service still runs after {self.within_s} s: end it and run the command again")


def run_command(argv: tuple[str, ...]) -> Answer:
    """Run a command here, without a shell; raises ServiceError when there is no such command."""
    try:
        # the argv is built in this package from paths and names; no shell reads it
        return subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    except FileNotFoundError as error:
        raise ServiceError(
            f"{argv[0]} is not on this machine: keep `agent-daemon run` alive with the service manager it has"
        ) from error


def carry_out(steps: list[Step], run: Runner = run_command) -> None:
    """Do the steps in turn; raises ServiceError at the first that fails."""
    for step in steps:
        try:
            step.do(run)
        except OSError as error:
            where = os.fsdecode(error.filename or "a file")
            raise ServiceError(f"{where}: {error.strerror}: make it writable and run the command again") from error
