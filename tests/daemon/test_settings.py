"""The daemon's settings: which source wins, OpenClaw's own files, and what is refused."""

import re
import socket
from pathlib import Path
from typing import Any

import json5
import msgspec
import pytest

from daemon.settings import ENVIRONMENT_NAMES, DaemonSettings, load
from notifier.configuration import SettingsError, fields_of, redacted, settings_of

DSN = "postgresql://user:canary-dsn@localhost:5432/database"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home, and in the environment the database alone."""
    for name in ENVIRONMENT_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", DSN)
    (tmp_path / ".openclaw").mkdir()
    return tmp_path


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other setting without which nothing starts."""
    monkeypatch.setenv("OPENCLAW_HOOK_TOKEN", "canary-token")


def dotenv(home: Path, text: str | bytes) -> Path:
    """Write OpenClaw's .env."""
    path = home / ".openclaw/.env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def openclaw(home: Path, text: str | bytes) -> Path:
    """Write OpenClaw's openclaw.json."""
    path = home / ".openclaw/openclaw.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def toml(home: Path, text: str) -> Path:
    """Write the daemon's own file, private."""
    path = home / ".config/agent-vault/daemon.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def hook_token() -> str:
    """Return the hook token that load() finds."""
    return load().hook_token.get_secret_value()


def refusal(**overrides: Any) -> str:
    """Return what load() says; no canary may be in it, nor an exception that holds one behind it."""
    with pytest.raises(SettingsError) as caught:
        load(**overrides)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.usefixtures("token")
def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody sets has the documented default; the name is the host's."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Ann's Mac.local")
    loaded = load()
    assert ("http://127.0.0.1:18789", "/hooks", "Ann-s-Mac") == (loaded.gateway_url, loaded.hooks_path, loaded.name)
    assert (("default",), 4, 60, 1, 5) == (
        loaded.queues, loaded.concurrency, loaded.lease_s, loaded.poll_s, loaded.pulse_s,
    )  # fmt: skip
    assert ("info", (), None) == (loaded.log_level, loaded.notes, loaded.config)


@pytest.mark.parametrize(("host", "name"), [("", "daemon"), ("é" * 70, "-" * 64), ("mac.home.arpa", "mac")])
@pytest.mark.usefixtures("token")
def test_name_of_the_host(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    """Any host's name becomes one that is allowed."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert name == load().name


def test_every_source_beats_the_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the weakest to the strongest, each source that is added wins."""
    monkeypatch.setenv("OPENCLAW_GATEWAY_TOKEN", "older")
    assert "older" == hook_token()
    openclaw(home, '{"hooks": {"token": "json"}}')
    assert "json" == hook_token()
    dotenv(home, "OPENCLAW_HOOK_TOKEN=dotenv")
    assert "dotenv" == hook_token()
    toml(home, 'openclaw_hook_token = "toml"')
    assert "toml" == hook_token()
    (home / "openclaw_hook_token").write_text("folder\n")
    (home / "openclaw_hook_token").chmod(0o600)
    home.chmod(0o700)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    assert "folder" == hook_token()
    monkeypatch.setenv("OPENCLAW_HOOK_TOKEN", "environment")
    assert "environment" == hook_token()
    assert "given" == load(hook_token="given").hook_token.get_secret_value()


@pytest.mark.usefixtures("token")
def test_toml(home: Path) -> None:
    """Every setting can come from the file; names that are not the daemon's own keep theirs."""
    toml(
        home,
        'gateway_http_url = "http://localhost:1/"\nqueues = ["a", "b"]\nname = "n"\nconcurrency = 100\nlease_s = 1\n'
        'poll_s = 0\npulse_s = 0.5\nhooks_path = "h/x/"\nlog_level = "Warning"',
    )
    loaded = load()
    assert ("http://localhost:1", ("a", "b"), "n", 100) == (
        loaded.gateway_url, loaded.queues, loaded.name, loaded.concurrency,
    )  # fmt: skip
    assert (1, 0, 0.5, "/h/x", "warning") == (
        loaded.lease_s, loaded.poll_s, loaded.pulse_s, loaded.hooks_path, loaded.log_level,
    )  # fmt: skip


@pytest.mark.usefixtures("token")
def test_named_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DAEMON_CONFIG names another file, which must be there."""
    toml(home, 'name = "usual"')
    (home / "other.toml").write_text('name = "other"')
    monkeypatch.setenv("DAEMON_CONFIG", str(home / "other.toml"))
    assert "other" == load().name
    monkeypatch.setenv("DAEMON_CONFIG", str(home / "none.toml"))
    assert "DAEMON_CONFIG: " in refusal()


def test_the_vaults_queues(home: Path) -> None:
    """Rules for queues are the vault's; the daemon says what stands here instead."""
    toml(home, '[[queues]]\nslug = "CANARY_*"\nqueue = "mail"\n')
    assert "DAEMON_QUEUES: [[queues]] tables belong into the vault's file" in refusal()
    assert 'queues = "default,mail"' in refusal()


@pytest.mark.usefixtures("token")
def test_mistyped_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is nearly a setting is told with the setting, and other programs' are none of ours."""
    for name in ("DAEMON_QUEUE", "DAEMON_NAME", "DAEMON_PID", "VAULT_PROT"):
        monkeypatch.setenv(name, "canary")
    assert ("DAEMON_QUEUE is no setting: did you mean DAEMON_QUEUES?",) == load().notes


def test_unknown_key(home: Path) -> None:
    """The field's name is not the file's; the right one is suggested."""
    path = toml(home, 'hook_token = "canary"')
    assert f"hook_token in {path} is no setting: did you mean openclaw_hook_token?" in refusal()


def test_dotenv_of_openclaw(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are as in the environment, others are OpenClaw's business, nothing is substituted."""
    monkeypatch.delenv("DATABASE_URL")
    dotenv(
        home,
        f"\ufeffexport DATABASE_URL='{DSN}'\n# worker\nOPENCLAW_HOOK_TOKEN=\"a$HOME${{HOME}}\"\nANTHROPIC_API_KEY=x\n"
        "GATEWAY_HTTP_URL=http://localhost:2\nDAEMON_NAME=\nDAEMON_CONFIG=/nowhere\n",
    )
    loaded = load()
    assert (DSN, "a$HOME${HOME}") == (loaded.database_url.get_secret_value(), loaded.hook_token.get_secret_value())
    assert ("http://localhost:2", None, ()) == (loaded.gateway_url, loaded.config, loaded.notes)


def test_files_of_openclaw_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files can be named."""
    (home / "env").write_text("DAEMON_NAME=elsewhere")
    (home / "json").write_text("{hooks: {token: 'there'}}")
    monkeypatch.setenv("OPENCLAW_ENV_FILE", "~/env")
    monkeypatch.setenv("OPENCLAW_CONFIG_PATH", str(home / "json"))
    assert ("elsewhere", "there") == (load().name, hook_token())


def test_openclaws_state_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenClaw's own variable moves both files, also from the daemon's file; a file that is named is stronger."""
    state = home / "state"
    state.mkdir()
    (state / ".env").write_text("DAEMON_NAME=elsewhere")
    (state / "openclaw.json").write_text('{"hooks": {"token": "there"}}')
    path = toml(home, f'openclaw_state_dir = "{state}"')
    assert ("elsewhere", "there", ()) == (load().name, hook_token(), load().notes)
    path.unlink()
    monkeypatch.setenv("OPENCLAW_STATE_DIR", "~/state")
    assert ("elsewhere", "there") == (load().name, hook_token())
    (home / "json").write_text('{"hooks": {"token": "named"}}')
    monkeypatch.setenv("OPENCLAW_CONFIG_PATH", "~/json")
    assert ("elsewhere", "named") == (load().name, hook_token())


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("name", ["OPENCLAW_STATE_DIR", "OPENCLAW_ENV_FILE", "OPENCLAW_CONFIG_PATH"])
def test_a_named_place_of_openclaws_that_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is noted; the usual ones may be missing."""
    assert () == load().notes
    monkeypatch.setenv(name, str(home / "none"))
    assert (f"{name}: there is no {home}/none: correct it, or leave it out",) == load().notes


@pytest.mark.usefixtures("token")
def test_stray_files_among_the_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is nearly a secret's is noted, also beside what is missing, and so is a folder that is not there."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home / "secrets"))
    folder = home / "secrets"
    assert (f"CREDENTIALS_DIRECTORY: there is no folder {folder}: make it, or correct its name",) == load().notes
    folder.mkdir(mode=0o700)
    for name in ("databse_url", "composio_webhook_secret", "OPENCLAW_HOOK_TOKEN", "notes.txt"):
        (folder / name).write_text("canary")
        (folder / name).chmod(0o600)
    told = (
        f"{folder}/OPENCLAW_HOOK_TOKEN is no setting: did you mean openclaw_hook_token?",
        f"{folder}/databse_url is no setting: did you mean database_url?",
    )
    assert told == load().notes
    monkeypatch.delenv("DATABASE_URL")
    missing, *notes = refusal().splitlines()
    assert (True, told) == (missing.startswith("DATABASE_URL is not set"), tuple(notes))


def test_older_name_is_noted(home: Path) -> None:
    """The older name of the token still works, with a word that it has a newer one."""
    dotenv(home, "OPENCLAW_GATEWAY_TOKEN=canary")
    assert "canary" == hook_token()
    assert ("OPENCLAW_GATEWAY_TOKEN stands in for the hook token: set OPENCLAW_HOOK_TOKEN instead",) == load().notes


def test_json5_of_openclaw(home: Path) -> None:
    """What only JSON5 allows is read."""
    openclaw(home, "{\n  // mine\n  hooks: {enabled: true, token: 'five', path: '/my-hooks/',},\n}")
    loaded = load()
    assert ("five", "/my-hooks", ()) == (loaded.hook_token.get_secret_value(), loaded.hooks_path, loaded.notes)


@pytest.mark.usefixtures("token")
def test_hooks_path_of_openclaw(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is found there even where the token comes from elsewhere, and our own setting is stronger."""
    openclaw(home, '{"hooks": {"token": "other", "path": "/theirs"}}')
    assert ("/theirs", "canary-token") == (load().hooks_path, hook_token())
    monkeypatch.setenv("DAEMON_HOOKS_PATH", "/ours")
    assert "/ours" == load().hooks_path


@pytest.mark.usefixtures("token")
def test_json5_is_not_parsed_in_vain(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow parser runs only for what is found nowhere else; a byte order mark is no reason."""
    asked: list[str] = []

    def parse(text: str) -> dict[str, Any]:
        asked.append(text)
        return {}

    monkeypatch.setattr(json5, "loads", parse)
    openclaw(home, "{hooks: {token: 'five'}}")
    load()
    assert [] == asked
    monkeypatch.delenv("OPENCLAW_HOOK_TOKEN")
    openclaw(home, '\ufeff{"hooks": {"token": "plain"}}')
    assert "plain" == hook_token()
    assert [] == asked
    openclaw(home, "{hooks: {path: '/x'}}")
    monkeypatch.setenv("OPENCLAW_HOOK_TOKEN", "t")
    load()
    assert 1 == len(asked)


def test_variable_for_a_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """${NAME} stands for a variable of the environment, else of the .env."""
    openclaw(home, '{"hooks": {"token": "${MY_TOKEN}"}}')
    dotenv(home, "MY_TOKEN=dotenv")
    assert "dotenv" == hook_token()
    monkeypatch.setenv("MY_TOKEN", "environment")
    assert "environment" == hook_token()


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('{"hooks": {"token": "${NO_SUCH_NAME}"}}', "names NO_SUCH_NAME, which is not set"),
        ('{"hooks": {"token": "canary${HOME}"}}', "is no plain text"),
        ('{"hooks": {"token": {"source": "file", "id": "canary"}}}', "is no plain text"),
        ("{hooks: 'canary", "does not parse"),
        ("[" * 100_000, "does not parse"),
        (b'{"hooks": {"token": "canary\xff"}}', "is not utf-8 text"),
    ],
)
def test_useless_token_of_openclaw(home: Path, text: str | bytes, note: str) -> None:
    """A file that gives no token is passed over, and what was wrong with it stands beside what is missing."""
    path = openclaw(home, text)
    missing, why = refusal().splitlines()
    assert missing.startswith("OPENCLAW_HOOK_TOKEN is not set: set it to hooks.token of OpenClaw's openclaw.json")
    assert f"{path} is ignored, it {note}: " in why


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"hooks": []}', '{"hooks": {"token": ""}}'])
def test_openclaw_without_hooks(home: Path, text: str) -> None:
    """A file without a token is no mistake of that file's."""
    openclaw(home, text)
    assert 1 == len(refusal().splitlines())


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('{"hooks": {"path": 7}}', "hooks.path of {path} is ignored, it is no path: set DAEMON_HOOKS_PATH"),
        ('{"hooks": {"path": "/a b?"}}', "hooks.path of {path} is ignored, it is no path: set DAEMON_HOOKS_PATH"),
        ('{"hooks": {"path": ', "{path} is ignored, it does not parse: correct it, or set OPENCLAW_HOOK_TOKEN"),
    ],
)
def test_broken_openclaw_is_noted(home: Path, text: str, note: str) -> None:
    """With the token from elsewhere a broken file stops nothing."""
    path = openclaw(home, text)
    assert ("/hooks", (note.format(path=path),)) == (load().hooks_path, load().notes)


def test_openclaws_files_that_are_open_to_others(home: Path) -> None:
    """OpenClaw's own files are read whoever else can read them, and the command that closes them is known."""
    paths = dotenv(home, "DAEMON_NAME=kept\n"), openclaw(home, '{"hooks": {"token": "json"}}')
    for path in paths:
        path.chmod(0o644)
    assert tuple((path, f"chmod 600 {path}") for path in paths) == load().open_files
    assert "json" == hook_token()
    for path in paths:
        path.chmod(0o600)
    assert () == load().open_files


@pytest.mark.usefixtures("token")
def test_a_database_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unencrypted connection to it needs the daemon's own setting, which the refusal names."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary:canary@db.canary.com/canary?sslmode=disable")
    assert "set DAEMON_ALLOW_PLAINTEXT_DATABASE=true where" in refusal()
    assert load(allow_plaintext_database=True).database_url.get_secret_value().endswith("sslmode=disable")


@pytest.mark.usefixtures("token")
def test_broken_dotenv_is_noted(home: Path) -> None:
    """Of a .env only the broken line is ignored; one that is no text is ignored as a whole."""
    path = dotenv(home, "DAEMON_NAME=kept\n'canary\nDAEMON_POLL_S=2\n")
    loaded = load()
    assert ("kept", 2) == (loaded.name, loaded.poll_s)
    assert (f"{path} line 2 is ignored: write it as NAME=value",) == loaded.notes
    dotenv(home, b"DAEMON_NAME=\xff")
    assert (f"{path} is ignored, it is not utf-8 text: save it as that",) == load().notes
    path.unlink()
    path.mkdir()
    assert (f"{path} is ignored, it cannot be read (is a directory): correct its owner and mode",) == load().notes


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://127.0.0.1:18789/", "http://127.0.0.1:18789"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("https://[::1]:1/base//", "https://[::1]:1/base"),
        (" http://LOCALHOST:1 ", "http://LOCALHOST:1"),
    ],
)
def test_gateway_on_this_machine(url: str, kept: str) -> None:
    """Any spelling of this machine will do."""
    assert kept == load(gateway_url=url).gateway_url


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("url", ["http://10.0.0.1:1", "http://localhost.example.com", "https://gateway.example"])
def test_gateway_elsewhere(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Another machine gets the token only if that was said."""
    assert re.search(
        r"^GATEWAY_HTTP_URL: it is not on this machine.*DAEMON_ALLOW_REMOTE_GATEWAY=true", refusal(gateway_url=url)
    )
    monkeypatch.setenv("DAEMON_ALLOW_REMOTE_GATEWAY", "true")
    assert url == load(gateway_url=url).gateway_url


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("GATEWAY_HTTP_URL", "127.0.0.1:18789", "GATEWAY_HTTP_URL: it is no http or https url with a host: write"),
        ("GATEWAY_HTTP_URL", "ws://127.0.0.1:18789", "GATEWAY_HTTP_URL: it is no http or https url"),
        ("GATEWAY_HTTP_URL", "http://", "GATEWAY_HTTP_URL: it is no http or https url"),
        ("GATEWAY_HTTP_URL", "http://127.0.0.1:99999", "GATEWAY_HTTP_URL: it is no http or https url"),
        ("GATEWAY_HTTP_URL", "http://u:canary@127.0.0.1", "GATEWAY_HTTP_URL: it has a user, a query"),
        ("GATEWAY_HTTP_URL", "http://127.0.0.1/?token=canary", "GATEWAY_HTTP_URL: it has a user, a query"),
        (
            "DAEMON_ALLOW_REMOTE_GATEWAY",
            "canary",
            "DAEMON_ALLOW_REMOTE_GATEWAY is wrong: set it to true or false",
        ),
        ("OPENCLAW_HOOK_TOKEN", "canary\r\nx: y", "OPENCLAW_HOOK_TOKEN: it has characters that no http header"),
        ("DATABASE_URL", "psql canary", "DATABASE_URL: the connection string begins with the command psql"),
        ("DAEMON_HOOKS_PATH", "/", "DAEMON_HOOKS_PATH is wrong: set it to a path such as /hooks"),
        ("DAEMON_NAME", "canary mac", "DAEMON_NAME is wrong: set it to 1 to 64 letters, digits"),
        ("DAEMON_QUEUES", "default,Canary", "DAEMON_QUEUES is wrong: set it to queue names with commas"),
        ("DAEMON_QUEUES", ",", "DAEMON_QUEUES is empty: set it to queue names with commas"),
        ("DAEMON_CONCURRENCY", "0", "DAEMON_CONCURRENCY is wrong: set it to a number of deliveries from 1 to 100"),
        ("DAEMON_CONCURRENCY", "101", "DAEMON_CONCURRENCY is wrong: set it to a number of deliveries from 1 to 100"),
        ("DAEMON_LEASE_S", "0.9", "DAEMON_LEASE_S is wrong: set it to a number of seconds from 1"),
        ("DAEMON_LEASE_S", "nan", "DAEMON_LEASE_S is wrong: set it to a number of seconds from 1"),
        ("DAEMON_POLL_S", "-1", "DAEMON_POLL_S is wrong: set it to a number of seconds from 0"),
        ("DAEMON_PULSE_S", "0", "DAEMON_PULSE_S is wrong: set it to a number of seconds from 0.1"),
        ("DAEMON_LOG_LEVEL", "loud", "DAEMON_LOG_LEVEL is wrong: set it to one of debug, info"),
    ],
)
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    """A wrong value is refused in one line with its name and remedy, and is not repeated."""
    monkeypatch.setenv(name, value)
    message = refusal()
    assert message.startswith(expected)
    assert 1 == len(message.splitlines())


@pytest.mark.usefixtures("token")
def test_no_secret_shows() -> None:
    """Neither repr, str nor the redacted report has a secret."""
    loaded = load()
    report = redacted(DaemonSettings, msgspec.structs.asdict(loaded))
    for text in (repr(loaded), str(loaded), str(report)):
        assert "canary" not in text
    assert ("***", "***", "default") == (
        report["DATABASE_URL"], report["OPENCLAW_HOOK_TOKEN"], report["DAEMON_QUEUES"],
    )  # fmt: skip


def test_environment_names() -> None:
    """The list has every variable that is read; only what is noted is not for a person to set."""
    assert {
        "DATABASE_URL", "OPENCLAW_HOOK_TOKEN", "OPENCLAW_GATEWAY_TOKEN", "GATEWAY_HTTP_URL", "OPENCLAW_ENV_FILE",
        "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH", "CREDENTIALS_DIRECTORY", "DAEMON_CONFIG", "DAEMON_HOOKS_PATH",
        "DAEMON_NAME", "DAEMON_ALLOW_REMOTE_GATEWAY", "DAEMON_QUEUES", "DAEMON_CONCURRENCY", "DAEMON_LEASE_S",
        "DAEMON_POLL_S",
        "DAEMON_PULSE_S", "DAEMON_RENEW_S", "DAEMON_LOG_LEVEL", "DAEMON_PACING", "DAEMON_GATEWAY_SLOTS",
        "DAEMON_GATEWAY_WINDOW_S", "DAEMON_AGENT_RUNS", "DAEMON_FOREIGN_TEXT", "DAEMON_ALLOW_PLAINTEXT_DATABASE",
    } == ENVIRONMENT_NAMES  # fmt: skip
    assert {"notes", "open_files"} == fields_of(DaemonSettings).keys() - settings_of(DaemonSettings).keys()
