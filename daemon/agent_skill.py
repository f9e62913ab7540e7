"""Install the skill: the page by which an OpenClaw agent learns what to do with a wake."""

import argparse
import hashlib
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Final

from daemon.installation import PROGRAM, find_program
from daemon.service import finish, say
from daemon.steps import KeepAside, MakeDir, Runner, ServiceError, Step, Write, run_command

NAME: Final = "agent-vault"
STATE: Final = "~/.openclaw"
USERS_OWN: Final = ".local/bin"
# where every gateway looks, however it was started: its service's shortest PATH, and what it adds to any PATH
SEARCHED: Final = ("/usr/local/bin", "/usr/bin", "/bin")
SEARCHED_ON_MAC: Final = ("/opt/homebrew/bin", *SEARCHED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a skill lies; `root` is the folder of OpenClaw's that must be there already."""

    root: Path

    @property
    def page(self) -> Path:
        """Say where OpenClaw reads the skill."""
        return self.root / "skills" / NAME / "SKILL.md"

    @property
    def digest(self) -> Path:
        """Say where we keep the page's SHA-256 as it was installed, in the form of sha256sum."""
        return self.page.with_name(".installed.sha256")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `install-skill` understands."""
    parser.add_argument("--workspace", metavar="PATH", type=Path, help="for the agent of this workspace alone")
    parser.add_argument("--dry-run", action="store_true", help="print all files, change nothing")


def install(args: argparse.Namespace, platform: str = sys.platform, run: Runner = run_command) -> int:
    """Put the skill in place, over an older one; raises ServiceError."""
    place, program = place_of(args.workspace), find_program(sys.argv[0], sys.executable)
    refuse_caller()
    refuse_elsewhere(place, args.workspace)
    steps = install_steps(place)
    finish(steps, run, dry_run=args.dry_run)
    say(f"the skill {NAME} {'would be' if args.dry_run else 'is'} installed: {place.page}")
    for step in steps:
        if isinstance(step, KeepAside):
            say(f"what you had changed in it is kept: {step.aside}")
    announce_next(program, Path.home(), platform)
    return 0


def place_of(workspace: Path | None) -> Place:
    """Find OpenClaw's folder: the agent's workspace, else the state folder, whose skills all agents share."""
    # OpenClaw's own word on where its state is, no setting of ours
    state = os.environ.get("OPENCLAW_STATE_DIR") or STATE
    return Place(Path(workspace or state).expanduser().absolute())


def refuse_caller() -> None:
    """Refuse to write, as root through sudo, what is the user's; raises ServiceError."""
    if not os.geteuid() and os.environ.get("SUDO_USER"):
        raise ServiceError("a user's skill is not for root: run without sudo, as the user whose gateway it is")


def refuse_elsewhere(place: Place, workspace: Path | None) -> None:
    """Refuse a folder that no gateway made, in which nobody would look; raises ServiceError."""
    if not place.root.is_dir():
        if workspace is not None:
            raise ServiceError(f"there is no workspace {place.root}: give the path that the agent has in openclaw.json")
        raise ServiceError(
            f"there is no folder {place.root}: start OpenClaw once, set OPENCLAW_STATE_DIR to where its state is, "
            "or name an agent's workspace with --workspace"
        )


def page_text() -> str:
    """Return the skill as it ships."""
    return files("daemon").joinpath("skill", "SKILL.md").read_text(encoding="utf-8")


def install_steps(place: Place) -> list[Step]:
    """Keep what a person changed, write the page, note what was written; raises ServiceError."""
    text = page_text()
    return [
        MakeDir(place.page.parent),
        *([KeepAside(place.page, free_name(place.page))] if is_changed(place, text.encode()) else []),
        Write(place.page, text),
        Write(place.digest, f"{sha256(text.encode())}  {place.page.name}\n"),
    ]


def is_changed(place: Place, ours: bytes) -> bool:
    """Tell whether the page that is there is neither ours nor an older one of ours; raises ServiceError."""
    try:
        found = place.page.read_bytes() if place.page.exists() else ours
        noted = place.digest.read_text(encoding="utf-8", errors="replace") if place.digest.exists() else ""
    except OSError as error:
        raise ServiceError(f"{error.filename}: {error.strerror}: make it readable and run the command again") from error
    return found != ours and noted.split()[:1] != [sha256(found)]


def sha256(contents: bytes) -> str:
    """Return the digest in hexadecimal."""
    return hashlib.sha256(contents).hexdigest()


def free_name(page: Path) -> Path:
    """Name a file beside the page that is not there yet."""
    names = (page.with_name(f"{page.name}.changed{number or ''}") for number in count())
    return next(name for name in names if not name.exists())


def is_hidden(home: Path, platform: str) -> bool:
    """Tell whether OpenClaw would not find the program, and would therefore show the skill to nobody."""
    searched = [*(SEARCHED_ON_MAC if platform == "darwin" else SEARCHED), str(home / USERS_OWN)]
    return shutil.which(PROGRAM, path=os.pathsep.join(searched)) is None


def announce_next(program: Path, home: Path, platform: str) -> None:
    """Say how OpenClaw comes to see the skill and, where it would not find it, the program."""
    own = home / USERS_OWN
    if is_hidden(home, platform):
        folder, source, link = (shlex.quote(str(path)) for path in (own, program, own / PROGRAM))
        say(
            f"OpenClaw does not look for programs in {program.parent}, and without {PROGRAM} it hides the skill:",
            f"  mkdir -p {folder} && ln -sf {source} {link}",
        )
    # a running gateway goes on with the skills and the PATH that it had at its start (measured with 2026.9.6)
    say(
        "next, to have OpenClaw read it and to see that it does (Ready, and visible to model):",
        "  openclaw gateway restart",
        f"  openclaw skills info {NAME}",
    )
