"""The vault's settings: which source wins, what is refused, and that no secret shows."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from psycopg.conninfo import conninfo_to_dict

from notifier import secrecy
from notifier.configuration import SettingsError, fields_of, holds_secret, redacted, settings_of
from notifier.secrecy import is_systemds
from vault import settings
from vault.settings import ENVIRONMENT_NAMES, QueueRule, VaultSettings, load

DSN = "postgresql://user:canary-dsn@localhost:5432/database"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home, nothing in the environment and nothing under /etc."""
    for name in ENVIRONMENT_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(settings, "_PLACES", (tmp_path / "etc.toml", *settings._PLACES[1:]))
    return tmp_path


@pytest.fixture
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two settings without which nothing starts."""
    monkeypatch.setenv("DATABASE_URL", DSN)
    monkeypatch.setenv("COMPOSIO_WEBHOOK_SECRET", "canary-secret")


@pytest.fixture
def toml(home: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the TOML file that VAULT_CONFIG names."""

    def write(text: str, mode: int = 0o600) -> Path:
        path = home / "given.toml"
        path.write_text(text)
        path.chmod(mode)
        monkeypatch.setenv("VAULT_CONFIG", str(path))
        return path

    return write


@pytest.fixture
def credential(home: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write one file of the secrets folder."""

    def write(name: str, content: str | bytes) -> Path:
        path = home / "credentials" / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o600)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
        return path

    return write


def refusal(**overrides: Any) -> str:
    """Return what load() says; no canary may be in it, nor an exception that holds one behind it."""
    with pytest.raises(SettingsError) as caught:
        load(**overrides)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.usefixtures("required")
def test_defaults() -> None:
    """What nobody sets has the documented default."""
    loaded = load()
    assert ("127.0.0.1", 8080, 32 * 1024 * 1024) == (loaded.host, loaded.port, loaded.max_body_bytes)
    assert ("info", ()) == (loaded.log_level, loaded.queues)
    assert (None, None) == (loaded.agent_edge_key, loaded.config)
    assert (None, 1024**3) == (loaded.spool_dir, loaded.spool_max_bytes)


@pytest.mark.usefixtures("required")
def test_spool_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The spool's folder may begin with the home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VAULT_SPOOL_DIR", "~/spool")
    assert tmp_path / "home" / "spool" == load().spool_dir
    monkeypatch.setenv("VAULT_SPOOL_DIR", str(tmp_path / "spool"))
    assert tmp_path / "spool" == load().spool_dir


@pytest.mark.usefixtures("required")
def test_command_line_beats_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An override wins, and one that is None or empty is none."""
    monkeypatch.setenv("VAULT_PORT", "2")
    assert 1 == load(port=1).port
    assert 2 == load(port=None).port
    assert 2 == load(port="").port


@pytest.mark.usefixtures("required")
def test_environment_beats_secrets_folder(monkeypatch: pytest.MonkeyPatch, credential: Write) -> None:
    """The environment wins, and an empty variable is none."""
    credential("agent_edge_key", "from folder")
    assert "from folder" == load().agent_edge_key.get_secret_value()  # type: ignore[union-attr]
    monkeypatch.setenv("AGENT_EDGE_KEY", "from environment")
    assert "from environment" == load().agent_edge_key.get_secret_value()  # type: ignore[union-attr]
    monkeypatch.setenv("AGENT_EDGE_KEY", "")
    assert "from folder" == load().agent_edge_key.get_secret_value()  # type: ignore[union-attr]


@pytest.mark.usefixtures("required")
def test_secrets_folder_beats_toml(toml: Write, credential: Write) -> None:
    """A file of the folder wins over a key of the file."""
    toml("port = 4")
    assert 4 == load().port
    credential("vault_port", "3\n")
    assert 3 == load().port


@pytest.mark.usefixtures("required")
def test_toml_beats_default(toml: Write) -> None:
    """Every scalar can come from the file, under its name without the prefix."""
    toml('host = "::1"\nport = 0\nmax_body_bytes = 9\nlog_level = "DEBUG"\nspool_max_bytes = 5\nspool_dir = "/s"')
    loaded = load()
    assert ("::1", 0, 9, "debug") == (
        loaded.host, loaded.port, loaded.max_body_bytes, loaded.log_level,
    )  # fmt: skip
    assert (5, Path("/s")) == (loaded.spool_max_bytes, loaded.spool_dir)


def test_folder_loses_one_newline(credential: Write) -> None:
    """A secret keeps its other characters; here the value shows how many newlines were taken."""
    credential("database_url", DSN + "\n")
    credential("composio_webhook_secret", "one,two\n")
    credential("vault_host", "a\n\n")
    loaded = load()
    assert ["one", "two"] == [secret.get_secret_value() for secret in loaded.composio_webhook_secrets]
    assert DSN == loaded.database_url.get_secret_value()
    assert "a\n" == loaded.host


def test_secrets_are_separated() -> None:
    """Commas separate, white space goes, empty ones are dropped and each counts once."""
    loaded = load(database_url=DSN, composio_webhook_secrets=" whsec_a ,,b, whsec_a,")
    assert ["whsec_a", "b"] == [secret.get_secret_value() for secret in loaded.composio_webhook_secrets]


def test_secrets_in_toml(toml: Write) -> None:
    """A private file may hold the secrets, several of them as a list."""
    toml(f'database_url = "{DSN}"\ncomposio_webhook_secret = ["a", "b"]\nagent_edge_key = ""')
    loaded = load()
    assert ["a", "b"] == [secret.get_secret_value() for secret in loaded.composio_webhook_secrets]
    assert loaded.agent_edge_key is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_open_toml_with_a_secret(toml: Write, mode: int) -> None:
    """A file that others may read or write must not hold a secret; the message has the command."""
    path = toml('agent_edge_key = "canary"', mode)
    assert f"{path} holds agent_edge_key and is open to others: chmod 600 {path}" == refusal()


@pytest.mark.usefixtures("required")
def test_open_toml_without_a_secret(toml: Write) -> None:
    """A file without secrets may be readable by all."""
    toml("port = 1", 0o644)
    assert 1 == load().port


@pytest.mark.usefixtures("required")
def test_places_of_the_file(home: Path) -> None:
    """Unnamed, the file of the system is taken before the one of the person."""
    own = home / ".config/agent-vault/vault.toml"
    own.parent.mkdir(parents=True)
    own.write_text("port = 1")
    assert (1, own) == (load().port, load().config)
    (home / "etc.toml").write_text("port = 2")
    assert (2, home / "etc.toml") == (load().port, load().config)


@pytest.mark.usefixtures("required")
def test_named_file(home: Path, toml: Write) -> None:
    """A file named on the command line wins over VAULT_CONFIG, and its ~ is the home."""
    toml("port = 1")
    (home / "other.toml").write_text("port = 2")
    assert 2 == load(Path("~/other.toml")).port


def test_named_file_is_missing(home: Path) -> None:
    """A file that was asked for must be there."""
    assert re.search(
        r"VAULT_CONFIG: .*none\.toml cannot be read \(no such file or directory\): correct VAULT_CONFIG",
        refusal(config=home / "none.toml"),
    )


def test_broken_toml(toml: Write) -> None:
    """The position of the mistake is told, not what stands there."""
    path = toml('port = 1\nagent_edge_key = "canary')
    assert re.fullmatch(rf"VAULT_CONFIG: {path} is not valid toml \(at [^)]+\): correct it there", refusal())


def test_toml_that_is_no_text(toml: Write) -> None:
    """Bytes that are not UTF-8 are a mistake like any other."""
    path = toml("")
    path.write_bytes(b'host = "\xff"')
    assert f"VAULT_CONFIG: {path} is not valid toml: correct it there" == refusal()


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('prot = "canary"', "prot in {path} is no setting: did you mean port?"),
        ("VAULT_LOG_LEVEL = 3", "VAULT_LOG_LEVEL in {path} is no setting: did you mean log_level?"),
        (
            "zzz = 1",
            "zzz in {path} is no setting: there are allow_plaintext_database, database_url, composio_webhook_secret,",
        ),
        ('config = "x"', "config in {path} is no setting: "),
        ('[[queues]]\nqueue = "a"\nslugs = "canary"', "queues[0].slugs is no setting: did you mean slug?"),
    ],
)
def test_unknown_key(toml: Write, line: str, expected: str) -> None:
    """A key that is no setting is refused by name, with the nearest one."""
    path = toml(line)
    assert refusal().startswith(expected.format(path=path))


@pytest.mark.usefixtures("required")
def test_rules(toml: Write) -> None:
    """A rule's globs match anything unless they are set."""
    toml('[[queues]]\nslug = "GMAIL_*"\nqueue = "mail"\n[[queues]]\nuser = "ann"\nqueue = "default"')
    assert (
        QueueRule(slug="GMAIL_*", account="*", user="*", queue="mail"),
        QueueRule(slug="*", account="*", user="ann", queue="default"),
    ) == load().queues


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize("queue", ["A", "a-b", "a" * 41, "a\n", ""])
def test_wrong_queue(queue: str) -> None:
    """A queue's name fits a channel's."""
    message = refusal(queues=[{"queue": "ok"}, {"queue": queue}])
    assert message.startswith("queues[1].queue is wrong: set it to [[queues]] tables whose queue is 1 to 40 of a-z")


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize("host", ["[::1]", "[fe80::1%25en0]", "[2a05:d018::f],[::1]"])
def test_brackets_of_an_ipv6_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """They are no placeholder."""
    dsn = f"postgresql://user:password1@{host}:5432/database"
    monkeypatch.setenv("DATABASE_URL", dsn)
    assert conninfo_to_dict(dsn)["host"] == conninfo_to_dict(load().database_url.get_secret_value())["host"]


@pytest.mark.usefixtures("required")
def test_a_database_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is encrypted, unless the setting that the refusal names leaves it to libpq."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary:canary@db.canary.com/canary")
    assert "require" == conninfo_to_dict(load().database_url.get_secret_value())["sslmode"]
    monkeypatch.setenv("PGSSLMODE", "prefer")
    assert "DATABASE_URL: sslmode=prefer may send the password" in refusal()
    assert "set VAULT_ALLOW_PLAINTEXT_DATABASE=true where" in refusal()
    monkeypatch.setenv("VAULT_ALLOW_PLAINTEXT_DATABASE", "true")
    assert "sslmode" not in conninfo_to_dict(load().database_url.get_secret_value())
    monkeypatch.setenv("VAULT_ALLOW_PLAINTEXT_DATABASE", "canary")
    assert "VAULT_ALLOW_PLAINTEXT_DATABASE is wrong: set it to true or false" == refusal()


def test_nothing_is_set() -> None:
    """What is required is told at once, one line each, with where to find it."""
    database, secret = refusal().splitlines()
    assert database.startswith("DATABASE_URL is not set: set it to the Postgres connection string")
    assert secret.startswith(
        "COMPOSIO_WEBHOOK_SECRET is not set: set it to the webhook's signing secret, which Composio"
    )


@pytest.mark.parametrize("text", [",", " , ,"])
def test_no_secret_is_left(text: str) -> None:
    """Commas alone are no secret."""
    assert refusal(database_url=DSN, composio_webhook_secrets=text).startswith("COMPOSIO_WEBHOOK_SECRET is empty: set")


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("COMPOSIO_WEBHOOK_SECRET", "…", "COMPOSIO_WEBHOOK_SECRET: a placeholder is left in it"),
        ("DATABASE_URL", "https://canary", "DATABASE_URL: this is a web address"),
        ("AGENT_EDGE_KEY", "canary\nx", "AGENT_EDGE_KEY: it has characters that no http header can carry: copy"),
        ("VAULT_PORT", "canary", "VAULT_PORT is wrong: set it to a port number from 0"),
        ("VAULT_PORT", "65536", "VAULT_PORT is wrong: set it to a port number from 0"),
        ("VAULT_PORT", "-1", "VAULT_PORT is wrong: set it to a port number from 0"),
        ("VAULT_MAX_BODY_BYTES", "0", "VAULT_MAX_BODY_BYTES is wrong: set it to a number of bytes from 1"),
        ("VAULT_MAX_BODY_BYTES", "32 MiB", "VAULT_MAX_BODY_BYTES is wrong: set it to a number of bytes from 1"),
        ("VAULT_SPOOL_MAX_BYTES", "0", "VAULT_SPOOL_MAX_BYTES is wrong: set it to a number of bytes from 1 on"),
        ("VAULT_SPOOL_MAX_BYTES", "1 GiB", "VAULT_SPOOL_MAX_BYTES is wrong: set it to a number of bytes from 1 on"),
        ("VAULT_SPOOL_DIR", "canary/spool", "VAULT_SPOOL_DIR: it is a relative path: write the whole one, from / on"),
        ("VAULT_SPOOL_DIR", "~nobody_canary/x", "VAULT_SPOOL_DIR: it is a relative path: write the whole one"),
        ("VAULT_LOG_LEVEL", "canary", "VAULT_LOG_LEVEL is wrong: set it to one of debug, info, warning and error"),
    ],
)
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    """A wrong value is refused in one line with its name and remedy, and is not repeated."""
    monkeypatch.setenv(name, value)
    message = refusal()
    assert message.startswith(expected)
    assert 1 == len(message.splitlines())


def test_all_mistakes_at_once(monkeypatch: pytest.MonkeyPatch, toml: Write) -> None:
    """Several mistakes, wherever they were made, are told in one go."""
    path = toml('log_level = 0\nprot = 1\ncomposio_webhook_secret = "canary"')
    monkeypatch.setenv("VAULT_PORT", "x")
    assert ["DATABASE_URL", "VAULT_PORT", "VAULT_LOG_LEVEL", f"prot in {path}"] == [
        line.partition(" is ")[0] for line in refusal().splitlines()
    ]


def test_broken_secrets_folder(monkeypatch: pytest.MonkeyPatch, credential: Write) -> None:
    """A credential that is no text, or no file, or in no folder, is told with its path."""
    path = credential("agent_edge_key", b"canary\xff")
    assert f"CREDENTIALS_DIRECTORY: {path} is not utf-8 text: write the value alone into it" == refusal()
    path.unlink()
    path.mkdir()
    assert f"CREDENTIALS_DIRECTORY: {path} cannot be read (is a directory): correct" in refusal()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", __file__)
    assert "agent_edge_key cannot be read (not a directory): correct its owner and mode" in refusal()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
@pytest.mark.usefixtures("required")
def test_a_secret_that_is_open_to_others(credential: Write, mode: int) -> None:
    """A file of the secrets folder whose mode lets anybody else in is refused with the command that closes it."""
    path = credential("agent_edge_key", "canary")
    path.chmod(mode)
    assert f"{path} holds a secret and is open to others: chmod 600 {path}" == refusal()
    path.chmod(0o400)
    assert load().agent_edge_key is not None


@pytest.mark.usefixtures("required")
def test_a_secrets_folder_that_is_open_to_others(credential: Write) -> None:
    """So is the folder, in which others could see or replace the files."""
    folder = credential("agent_edge_key", "canary").parent
    folder.chmod(0o755)
    assert f"the secrets folder {folder} is open to others: chmod 700 {folder}" == refusal()


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/run/credentials/agent-vault.service", True),
        ("/run/user/501/credentials/agent-daemon.service", True),
        ("/run/user/501/secrets", False),
        ("/run/credentials/../secrets", False),
        ("/etc/agent-vault/secrets", False),
    ],
)
def test_systemds_own_folder(folder: str, *, expected: bool) -> None:
    """What systemd lays out counts as closed, whatever the group's bits say of its ACL."""
    assert expected == is_systemds(Path(folder))


@pytest.mark.usefixtures("required")
def test_a_containers_secrets(credential: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the engine's and as it is; a file in it that all can read is refused with the engine's remedy."""
    path = credential("agent_edge_key", "canary")
    path.parent.chmod(0o755)
    monkeypatch.setattr(secrecy, "_DOCKERS", path.parent.resolve())
    path.chmod(0o444)
    said = refusal()
    assert said.startswith(f"{path} holds a secret and is open to others: give it the mode 0400")
    assert "`mode: 0400`" in said
    assert "`defaultMode: 0400`" in said
    path.chmod(0o400)
    assert load().agent_edge_key is not None


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_kubernetes_volume(credential: Write, monkeypatch: pytest.MonkeyPatch, *, is_mounted: bool) -> None:
    """Its files are links to links, its folder everybody's on what nobody writes; elsewhere that is open."""
    folder = credential("agent_edge_key", "canary").parent
    (folder / "..2026_01_01").mkdir()
    (folder / "agent_edge_key").rename(folder / "..2026_01_01/agent_edge_key")
    (folder / "..data").symlink_to("..2026_01_01")
    (folder / "agent_edge_key").symlink_to("..data/agent_edge_key")
    folder.chmod(0o1777)
    monkeypatch.setattr("os.path.ismount", lambda path: is_mounted and Path(path) == folder)
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    (folder / "agent_edge_key").chmod(0o400)
    if not is_mounted:
        assert f"the secrets folder {folder} is open to others: chmod 700 {folder}" == refusal()
        return
    assert load().agent_edge_key is not None
    (folder / "agent_edge_key").chmod(0o440)  # with fsGroup, whatever defaultMode says
    assert load().agent_edge_key is not None
    (folder / "agent_edge_key").chmod(0o444)
    assert "open to others: give it the mode 0400" in refusal()


@pytest.mark.usefixtures("required")
def test_secrets_folder_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's file names the folder before anybody has made it."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home / "none"))
    assert 8080 == load().port


@pytest.mark.usefixtures("required")
def test_no_secret_shows() -> None:
    """Neither repr, str nor the redacted report has a secret; the report has all else."""
    loaded = load(agent_edge_key="canary-key", queues=[{"queue": "mail"}])
    report = redacted(VaultSettings, msgspec.structs.asdict(loaded))
    for text in (repr(loaded), str(loaded), str(report)):
        assert "canary" not in text
    assert ("***", "***", "***") == (
        report["DATABASE_URL"], report["COMPOSIO_WEBHOOK_SECRET"], report["AGENT_EDGE_KEY"],
    )  # fmt: skip
    assert ("8080", "") == (report["VAULT_PORT"], report["VAULT_CONFIG"])
    assert 'queue="mail"' == report["queues[0]"]


@pytest.mark.usefixtures("required")
def test_unset_secret_in_the_report() -> None:
    """A secret that is not set does not look as if it were."""
    assert "" == redacted(VaultSettings, msgspec.structs.asdict(load()))["AGENT_EDGE_KEY"]


@pytest.mark.usefixtures("required")
def test_frozen() -> None:
    """Nobody changes a setting later on."""
    with pytest.raises(AttributeError, match="immutable"):
        load().port = 1  # type: ignore[misc]


def test_environment_names() -> None:
    """The list has every variable that is read; only what is noted is not for a person to set."""
    assert {
        "DATABASE_URL", "COMPOSIO_WEBHOOK_SECRET", "AGENT_EDGE_KEY", "VAULT_CONFIG", "VAULT_HOST", "VAULT_PORT",
        "VAULT_CORS_ORIGINS",
        "VAULT_MAX_BODY_BYTES", "VAULT_LOG_LEVEL", "VAULT_SPOOL_DIR", "VAULT_SPOOL_MAX_BYTES", "CREDENTIALS_DIRECTORY",
        "VAULT_HEADER_TIMEOUT_S", "VAULT_BODY_TIMEOUT_S", "VAULT_MAX_CONNECTIONS",
        "VAULT_PRUNE_JOBS_AFTER_DAYS", "VAULT_PRUNE_FAILED_AFTER_DAYS", "VAULT_PRUNE_LEARNINGS_AFTER_DAYS",
        "VAULT_ALLOW_PLAINTEXT_DATABASE",
    } == ENVIRONMENT_NAMES  # fmt: skip
    assert {"notes"} == fields_of(VaultSettings).keys() - settings_of(VaultSettings).keys()


def test_secret_fields() -> None:
    """These three are the secrets; the check of a file's mode and the report know them by type."""
    fields = fields_of(VaultSettings)
    assert {"database_url", "composio_webhook_secrets", "agent_edge_key"} == {
        name for name, info in fields.items() if holds_secret(info.type)
    }


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize("days", ["1", "6"])
def test_events_are_kept_for_a_week(monkeypatch: pytest.MonkeyPatch, days: str) -> None:
    """Fewer days would let an event that Composio sends again in as a new one; 0 and 7 are fine."""
    for fine in ("0", "7"):
        monkeypatch.setenv("VAULT_PRUNE_LEARNINGS_AFTER_DAYS", fine)
        assert int(fine) == load().prune_learnings_after_days
    monkeypatch.setenv("VAULT_PRUNE_LEARNINGS_AFTER_DAYS", days)
    with pytest.raises(SettingsError, match=r"VAULT_PRUNE_LEARNINGS_AFTER_DAYS: .* set it to 7 or more, or to 0"):
        load()


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize("what", ["JOBS", "FAILED", "LEARNINGS"])
@pytest.mark.parametrize("days", ["-1", "never", "36501", "1.5"])
def test_days_are_a_number(monkeypatch: pytest.MonkeyPatch, what: str, days: str) -> None:
    """What is no number of days is refused with what it must be."""
    monkeypatch.setenv(f"VAULT_PRUNE_{what}_AFTER_DAYS", days)
    with pytest.raises(SettingsError, match=f"VAULT_PRUNE_{what}_AFTER_DAYS is wrong: set it to a number of days"):
        load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("COMPOSIO_WEBHOOK_SECRT", "COMPOSIO_WEBHOOK_SECRET"), ("AGENT_EGDE_KEY", "AGENT_EDGE_KEY")],
)
def test_mistyped_names_without_a_prefix(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    """A setting that is not there is told with what was written for it; what is far from it is another program's."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/x")
    monkeypatch.delenv("COMPOSIO_WEBHOOK_SECRET", raising=False)
    monkeypatch.delenv("AGENT_EDGE_KEY", raising=False)
    for other in (name, "DATABASE_URI", "AGENT_KEY", "WEBHOOK_SECRET"):
        monkeypatch.setenv(other, "canary")
    with pytest.raises(SettingsError) as refused:
        load()
    assert [f"{name} is no setting: did you mean {meant}?"] == [
        line for line in refused.value.lines if "no setting" in line
    ]


@pytest.mark.usefixtures("required")
def test_mistyped_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is nearly a setting is told with the setting; HashiCorp's and Kubernetes' are none of ours."""
    for name in ("VAULT_PROT", "VAULT_SPOOLDIR", "VAULT_ADDR", "VAULT_TOKEN", "VAULT_SERVICE_HOST", "VAULT_PORT"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("VAULT_PORT", "1")
    assert (
        "VAULT_PROT is no setting: did you mean VAULT_PORT?",
        "VAULT_SPOOLDIR is no setting: did you mean VAULT_SPOOL_DIR?",
    ) == load().notes
