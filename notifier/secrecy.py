"""Files that hold secrets are their owner's alone, and so is the folder that they lie in."""

import contextlib
import os
import shlex
import stat
from pathlib import Path
from typing import Final

from notifier.configuration import SettingsError

_OTHERS: Final = 0o077
_GROUP_READS: Final = 0o040  # the group of a pod's volume is its fsGroup, which is the pod's own
_MACHINE: Final = ("run", "credentials")
_USERS: Final = ("run", "user")
_DOCKERS: Final = Path("/run/secrets")
_CONTAINER: Final = (
    "give it the mode 0400 and this program's user, in a compose file with `mode: 0400` and `uid:` (where the secret "
    "is a file of the host's, with chmod and chown there), in Kubernetes with `defaultMode: 0400`"
)


class OpenSecretError(SettingsError):
    """Others than its owner may read a secret; the line says which chmod ends that."""


def is_open(mode: int) -> bool:
    """Tell whether a file's mode lets anybody in but its owner."""
    return bool(mode & _OTHERS)


def remedy(path: Path, mode: int) -> str:
    """Return the command that closes a file or a folder, or how a container gets a file that is closed."""
    if not stat.S_ISDIR(mode) and is_containers(path.parent):
        return _CONTAINER
    return f"chmod {'700' if stat.S_ISDIR(mode) else '600'} {shlex.quote(str(path))}"


def refuse_open_folder(folder: Path) -> None:
    """Raise OpenSecretError for a folder of secrets that others can look into; one that is not there is closed."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode) and is_open(mode) and not is_systemds(folder) and not is_containers(folder):
        raise OpenSecretError(f"the secrets folder {folder} is open to others: {remedy(folder, mode)}")


def refuse_open_files(folder: Path) -> None:
    """Raise OpenSecretError for a file in a folder of secrets that others can read, whoever can reach the folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for path in sorted(folder.iterdir()):
            _refuse_open(path, path.stat().st_mode)


def read_secret(path: Path) -> bytes:
    """Return what a file of a secret holds; raises OSError, and OpenSecretError where others can read it."""
    with path.open("rb") as file:
        _refuse_open(path, os.fstat(file.fileno()).st_mode)
        return file.read()


def _refuse_open(path: Path, mode: int) -> None:
    folder = path.parent
    seen = mode & ~_GROUP_READS if is_containers(folder) else mode
    if stat.S_ISREG(mode) and is_open(seen) and not is_systemds(folder):
        raise OpenSecretError(f"{path} holds a secret and is open to others: {remedy(path, mode)}")


def is_systemds(folder: Path) -> bool:
    """Tell whether systemd made this folder of credentials, for the machine's manager or a user's.

    It gives a service's user access by an ACL, which a mode shows as the group's:
    https://systemd.io/CREDENTIALS/. Only root, or the user, writes above these folders.
    """
    parts = folder.resolve().parts[1:]
    return parts[:2] == _MACHINE or (parts[:2] == _USERS and parts[3:4] == ("credentials",))


def is_containers(folder: Path) -> bool:
    """Tell whether a container's engine made this folder: nobody in it can change its mode, so that each file's counts.

    Docker mounts secrets below /run/secrets, Kubernetes a read-only volume anywhere, with a link for each file:
    https://docs.docker.com/compose/how-tos/use-secrets/, https://kubernetes.io/docs/concepts/storage/projected-volumes/.
    """
    try:
        is_mounted = os.path.ismount(folder) and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False
    return is_mounted or folder.resolve() == _DOCKERS
