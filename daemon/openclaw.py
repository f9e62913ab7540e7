"""What OpenClaw's own files say of its gateway: the last source of the daemon's settings."""

import json
import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream

from notifier.configuration import NOTES, Settings, by_field, is_set, label
from notifier.secrecy import is_open, remedy
from notifier.sources import at_home, is_there, why

STATE_DIR: Final = Path("~/.openclaw")
OLDER_TOKEN: Final = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105, a variable's name
HOOKS_PATH: Final = r"^(/[A-Za-z0-9._~-]+)+\Z"

_FILES: Final = frozenset({"config", "openclaw_state_dir", "openclaw_env_file", "openclaw_config_path"})
_A_PATH: Final = re.compile(r"\bpath\b[\"']?\s*:")
_VARIABLE: Final = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")


class OpenClawFiles:
    """Reads OpenClaw's .env and, only where it is needed, openclaw.json; what is broken becomes a note."""

    def __init__(self, cls: type[Settings], environment: Mapping[str, str], home: Path | None = None) -> None:
        """Take the environment, which OpenClaw's ${NAME} placeholders stand for, and whose home ~ is, if not ours."""
        self._cls = cls
        self._environment = environment
        self._home = home
        self._notes: list[str] = []
        self._open: dict[Path, str] = {}

    def __str__(self) -> str:
        """Name the source."""
        return "OpenClaw's files"

    def __call__(self, stronger: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the two files add to the stronger sources, by field, the notes, and which are open to others."""
        state = self._path(stronger, "openclaw_state_dir", STATE_DIR)
        dotenv = self._dotenv(self._path(stronger, "openclaw_env_file", state / ".env"))
        config = self._path(stronger, "openclaw_config_path", state / "openclaw.json")
        texts = {f: text for f, text in by_field(self._cls, dotenv).items() if f not in _FILES}
        variables = {**dotenv, **{name: text for name, text in self._environment.items() if is_set(text)}}
        found = {**self._hooks(config, {**stronger, **texts}, variables), **texts}
        if "hook_token" not in stronger.keys() | found.keys():
            found |= self._older(variables)
        return {**found, NOTES: self._notes, "open_files": tuple(self._open.items())}

    def _path(self, known: Mapping[str, Any], field: str, usual: Path) -> Path:
        path = at_home(Path(known.get(field, usual)), self._home)
        if field in known and not is_there(path):
            self._notes.append(f"{label(self._cls, field)}: there is no {path}: correct it, or leave it out")
        return path

    def _text(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                # OpenClaw's own, so this only warns: to refuse would stop a daemon over a file that is not its to mend
                if is_open(mode := os.fstat(file.fileno()).st_mode):
                    self._open[path] = remedy(path, mode)
                return file.read().decode("utf-8-sig")
        except FileNotFoundError:
            return ""
        except OSError as error:
            self._notes.append(f"{path} is ignored, it cannot be read ({why(error)}): correct its owner and mode")
        except UnicodeDecodeError:
            self._notes.append(f"{path} is ignored, it is not utf-8 text: save it as that")
        return ""

    def _dotenv(self, path: Path) -> dict[str, str]:
        found = {}
        for binding in parse_stream(StringIO(self._text(path))):
            if binding.error:
                line = binding.original.line
                self._notes.append(f"{path} line {line} is ignored: write it as NAME=value")
            elif binding.key and binding.value is not None:
                found[binding.key] = binding.value
        return found

    def _hooks(self, path: Path, known: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
        text = self._text(path)
        # A large file takes json5 seconds, so it is parsed only for what nothing else says.
        if "hook_token" in known and ("hooks_path" in known or not _A_PATH.search(text)):
            return {}
        hooks = self._parse(path, text)
        found = {
            "hook_token": self._token(path, hooks.get("token"), variables),
            "hooks_path": self._hooks_path(path, hooks.get("path")),
        }
        return {field: value for field, value in found.items() if value is not None}

    def _parse(self, path: Path, text: str) -> dict[str, Any]:
        if not text.strip():
            return {}
        try:
            config = _json(text)
        except (ValueError, RecursionError):
            self._notes.append(f"{path} is ignored, it does not parse: correct it, or set OPENCLAW_HOOK_TOKEN")
            return {}
        hooks = config.get("hooks") if isinstance(config, dict) else None
        return hooks if isinstance(hooks, dict) else {}

    def _token(self, path: Path, token: Any, variables: Mapping[str, str]) -> str | None:
        if not is_set(token):
            return None
        if isinstance(token, str) and "${" not in token:
            return token
        variable = _VARIABLE.fullmatch(token) if isinstance(token, str) else None
        if variable and is_set(variables.get(variable[1])):
            return variables[variable[1]]
        what = f"names {variable[1]}, which is not set" if variable else "is no plain text"
        self._notes.append(f"hooks.token of {path} is ignored, it {what}: set OPENCLAW_HOOK_TOKEN")
        return None

    def _hooks_path(self, path: Path, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(HOOKS_PATH, rooted(value)):
            return value
        self._notes.append(f"hooks.path of {path} is ignored, it is no path: set DAEMON_HOOKS_PATH")
        return None

    def _older(self, variables: Mapping[str, str]) -> dict[str, str]:
        # After openclaw.json on purpose: newer gateways use this name for their own token, another secret.
        if not is_set(variables.get(OLDER_TOKEN)):
            return {}
        self._notes.append(f"{OLDER_TOKEN} stands in for the hook token: set OPENCLAW_HOOK_TOKEN instead")
        return {"hook_token": variables[OLDER_TOKEN]}


def rooted(text: str) -> str:
    """Return a path with one slash before it and none after it."""
    return "/" + text.strip().strip("/")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        import json5  # noqa: PLC0415 - a megabyte that most never need

        return json5.loads(text)
