"""The folder of spool files: who has which, what is left over, and what is damaged."""

import itertools
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from spools import MAX_BYTES, empty_index, fill, kept, waiting
from structlog.testing import capture_logs

from notifier.configuration import SettingsError
from vault.spool import Kept, Spool
from vault.spool_folder import SpoolFolder


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[SpoolFolder]]:
    """Three users of one folder; flock makes no difference between those of one process and of many."""
    found = [SpoolFolder(tmp_path / "spool", MAX_BYTES) for _ in range(3)]
    yield found
    for one in found:
        one.close()


def moved(folder: SpoolFolder) -> list[str]:
    """Take everything out of all the files that a folder's user has."""
    ids = []
    while found := folder.next_batch(rows=2, body_bytes=MAX_BYTES):
        spool, batch = found
        spool.settle(batch, {})
        ids += [one.event.event_id for one in batch]
    return ids


def names(folder: SpoolFolder) -> list[str]:
    """The files that are there, without locks and journals."""
    return sorted(path.name for path in folder.path.glob("spool-*.sqlite"))


def test_each_has_a_file_of_its_own(folders: list[SpoolFolder]) -> None:
    """Users of one folder never share a file, and each sees only its own deliveries."""
    for number, one in enumerate(folders):
        one.open()
        one.append([kept(f"msg_{number}")])
    assert ["spool-1.sqlite", "spool-2.sqlite", "spool-3.sqlite"] == names(folders[0])
    for one in folders:
        one.adopt()
    assert [["msg_0"], ["msg_1"], ["msg_2"]] == [moved(one) for one in folders]


def test_what_is_left_is_adopted_at_start(folders: list[SpoolFolder]) -> None:
    """The next start takes over all that was left, the oldest of all files first, and clears the others away."""
    one = folders[0]
    fill(one.path, kept("b", age_s=20), kept("d", age_s=5), number=1)
    fill(one.path, kept("a", age_s=30), kept("c", age_s=10), number=7)
    with capture_logs() as logs:
        one.open()
    assert [("spool_adopted", 2)] * 2 == [(log["event"], log["waiting"]) for log in logs]
    assert ["a", "c", "b", "d"] == moved(one)
    assert ["spool-1.sqlite"] == names(one)


def test_a_neighbour_that_dies_is_adopted(folders: list[SpoolFolder]) -> None:
    """A running user takes over the file of one that ended."""
    one, other, _ = folders
    one.open()
    other.open()
    other.append([kept("msg_1")])
    one.adopt()
    assert [] == moved(one)
    other.close()
    one.adopt()
    assert ["msg_1"] == moved(one)
    assert ["spool-1.sqlite"] == names(one)


def test_a_killed_process_lets_go(folders: list[SpoolFolder]) -> None:
    """The lock ends with the process, however that ends, and not before."""
    one = folders[0]
    code = (
        "import sys, time; from pathlib import Path; from spools import kept\n"
        "from vault.spool_folder import SpoolFolder\n"
        "folder = SpoolFolder(Path(sys.argv[1]), 1 << 20); folder.open(); folder.append([kept('msg_1')])\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code, str(one.path)], env=env, stdout=subprocess.PIPE) as other:
        assert b"ready\n" == other.stdout.readline()
        one.open()
        assert [] == moved(one)
        other.kill()
    one.adopt()
    assert ["msg_1"] == moved(one)


def test_what_was_refused_is_not_cleared_away(folders: list[SpoolFolder]) -> None:
    """An adopted file that holds refused rows stays, and comes up again when a person has them tried again."""
    one = folders[0]
    fill(one.path, kept("bad"), number=2)
    one.open()
    spool, batch = one.next_batch(rows=9, body_bytes=MAX_BYTES)
    spool.settle(batch, {"bad": "23514: no"})
    assert [] == moved(one)
    assert ["spool-1.sqlite", "spool-2.sqlite"] == names(one)
    spool._connection().execute("update delivery set refused = null")
    spool.close()
    one.adopt()
    assert ["bad"] == moved(one)


def test_no_spool_at_all(folders: list[SpoolFolder]) -> None:
    """A file that is no spool is moved aside, loudly, and does not stop the start."""
    one = folders[0]
    one.path.mkdir()
    (one.path / "spool-1.sqlite").write_bytes(b"half-written")
    with capture_logs() as logs:
        one.open()
    assert [("spool_broken", "error")] == [(log["event"], log["log_level"]) for log in logs]
    assert b"half-written" == Path(logs[0]["file"]).read_bytes()
    one.append([kept("msg_1")])
    assert ["msg_1"] == moved(one)


@pytest.mark.parametrize("noticed", ["at start", "while it runs"])
def test_damaged_in_the_middle(folders: list[SpoolFolder], noticed: str) -> None:
    """Of a file that is damaged, what can still be read is saved, and new deliveries are taken."""
    one = folders[0]
    rows = 1500  # more than SQLite holds in memory
    fill(one.path, *(kept(f"msg_{number:04}", b"x" * 3000, age_s=rows - number) for number in range(rows)))
    if noticed == "while it runs":
        one.open()
    file = one.path / "spool-1.sqlite"
    with file.open("r+b") as damaged:
        damaged.seek(40 * 4096)
        damaged.write(os.urandom(4096))
    with capture_logs() as logs:
        one.open()
        one.append([kept("new")])
        found = moved(one)
    assert ["spool_broken"] == [log["event"] for log in logs if log["log_level"] == "error"]
    assert found[-1] == "new"
    assert rows - 50 < len(found) < rows + 1
    assert len(found) == len(set(found))
    assert {"msg_0000", "msg_1499"} < set(found)


@pytest.mark.parametrize("number", [1, 4], ids=["its own", "a neighbour's"])
@pytest.mark.parametrize("saved", [0, 1, 2], ids=["nothing", "some", "more"])
def test_killed_while_it_saves(
    folders: list[SpoolFolder], monkeypatch: pytest.MonkeyPatch, number: int, saved: int
) -> None:
    """A process that ends while it saves the rows of a damaged file leaves the rest to the next one."""
    one, other, _ = folders
    fill(one.path, *(kept(f"msg_{place:02}", age_s=99 - place) for place in range(60)), number=number)
    empty_index(one.path / f"spool-{number}.sqlite", "delivery_waiting")
    append, calls = Spool.append, itertools.count()

    def killed(self: Spool, rows: Sequence[Kept]) -> None:
        if next(calls) == saved:
            raise KeyboardInterrupt
        append(self, rows)

    monkeypatch.setattr(Spool, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        one.open() or moved(one)
    monkeypatch.undo()
    one.close()
    with capture_logs() as logs:
        other.open()
        found = moved(other)
    assert [f"msg_{place:02}" for place in range(60)] == sorted(set(found))
    assert "spool_broken" in [log["event"] for log in logs]
    assert [] == list(one.path.glob("*.salvage-*"))
    assert 1 == len(list(one.path.glob("*.broken-*[0-9]")))


@pytest.mark.parametrize("name", ["sqlite_autoindex_delivery_1", "delivery_waiting"])
def test_a_damaged_index(folders: list[SpoolFolder], name: str) -> None:
    """A file whose index misses its rows is replaced, and its deliveries are moved: none comes again without end."""
    one = folders[0]
    fill(one.path, *(kept(f"msg_{number}", age_s=9 - number) for number in range(4)))
    empty_index(one.path / "spool-1.sqlite", name)
    one.open()
    found: list[str] = []
    with capture_logs() as logs:
        while len(found) < 20 and (batch := one.next_batch(rows=2, body_bytes=MAX_BYTES)):
            one.settle(*batch, {})
            found += [kept.event.event_id for kept in batch[1]]
    assert {"msg_0", "msg_1", "msg_2", "msg_3"} == set(found)
    assert len(found) < 20
    assert ["spool_broken"] == [log["event"] for log in logs]


def test_a_table_that_lost_its_rows(folders: list[SpoolFolder]) -> None:
    """A file that looks empty, and is not, is kept aside: only a sound one is cleared away."""
    one = folders[0]
    fill(one.path, kept("msg_1"), number=2)
    empty_index(one.path / "spool-2.sqlite", "delivery", leaf=13)
    with capture_logs() as logs:
        one.open()
        assert [] == moved(one)
    assert ["spool_broken"] == [log["event"] for log in logs]
    assert b"msg_1" in Path(logs[0]["file"]).read_bytes()
    assert ["spool-1.sqlite"] == names(one)


def test_a_neighbour_that_does_not_open(folders: list[SpoolFolder]) -> None:
    """A neighbour's file that cannot be read stops neither the start nor the drain, and is taken over once it can."""
    one = folders[0]
    (one.path / "spool-2.sqlite").mkdir(parents=True)
    fill(one.path, kept("msg_3"), number=3)
    with capture_logs() as logs:
        one.open()
        one.adopt()
        one.append([kept("msg_1")])
        assert ["msg_3", "msg_1"] == moved(one)
    assert ["spool_failed"] == [log["event"] for log in logs if log["log_level"] == "error"]
    (one.path / "spool-2.sqlite").rmdir()
    fill(one.path, kept("msg_2"), number=2)
    one.adopt()
    assert ["msg_2"] == moved(one)


def test_a_neighbour_that_becomes_unreadable(folders: list[SpoolFolder]) -> None:
    """An adopted file that cannot be read any more does not hold up this process's own deliveries."""
    one = folders[0]
    fill(one.path, kept("msg_2", age_s=60), number=2)
    one.open()
    one.append([kept("msg_1")])
    (one.path / "spool-2.sqlite").rename(one.path / "elsewhere")
    (one.path / "spool-2.sqlite").mkdir()
    with capture_logs() as logs:
        assert ["msg_1"] == moved(one)
    assert ["spool_failed"] == [log["event"] for log in logs]
    (one.path / "spool-2.sqlite").rmdir()
    (one.path / "elsewhere").rename(one.path / "spool-2.sqlite")
    assert ["msg_2"] == moved(one)


def test_a_file_of_other_columns(folders: list[SpoolFolder]) -> None:
    """A file that another program made is moved aside as a damaged one is."""
    one = folders[0]
    one.path.mkdir()
    with sqlite3.connect(one.path / "spool-1.sqlite") as other:
        other.execute("create table delivery (received_at, refused)")
    other.close()
    with capture_logs() as logs:
        one.open()
    assert ["spool_broken"] == [log["event"] for log in logs]
    one.append([kept("msg_1")])
    assert ["msg_1"] == moved(one)


def test_whatever_is_damaged(folders: list[SpoolFolder]) -> None:
    """Whatever bytes of a file change, it opens, takes deliveries, and the drain comes to its end."""
    fill(folders[0].path, *(kept(f"msg_{number}", b"x" * (50, 6000)[number % 2]) for number in range(6)))
    sound = (folders[0].path / "spool-1.sqlite").read_bytes()
    for seed in range(300):
        folder = SpoolFolder(folders[0].path / str(seed), MAX_BYTES)
        folder.path.mkdir()
        (folder.path / f"spool-{1 + seed % 2}.sqlite").write_bytes(_damaged(sound, random.Random(seed)))
        with capture_logs():
            folder.open()
            folder.append([kept("new")])
            assert "new" in _taken_out(folder), seed
        folder.close()


def _damaged(sound: bytes, chance: random.Random) -> bytes:
    """Change a few bytes of the file's header, of a page's, of what is in them, or a whole page."""
    content = bytearray(sound)
    page = chance.randrange(len(sound) // 4096) * 4096
    match chance.randrange(4):
        case 0:
            content[chance.randrange(100)] = chance.randrange(256)
        case 1:
            content[page + chance.randrange(100)] = chance.randrange(256)
        case 2:
            used = [place for place, byte in enumerate(sound) if byte]
            for place in chance.choices(used, k=chance.choice((1, 3, 20))):
                content[place] ^= 1 << chance.randrange(8)
        case _:
            content[page : page + 4096] = chance.randbytes(4096)
    return bytes(content)


def _taken_out(folder: SpoolFolder) -> list[str]:
    """Take everything out, in a bounded number of batches."""
    taken: list[str] = []
    for _ in range(30):
        found = folder.next_batch(rows=2, body_bytes=MAX_BYTES)
        if found is None:
            return taken
        folder.settle(*found, {})
        taken += [one.event.event_id for one in found[1]]
    raise AssertionError("the drain has no end")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_no_room_at_start(folders: list[SpoolFolder]) -> None:
    """A damaged file that a full disk has no room to save stays as it is, for another time."""
    one = folders[0]
    one.path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(one.path)], check=True)
    try:
        fill(one.path, *(kept(f"msg_{number:02}", b"x" * 3000) for number in range(60)))
        before = waiting(one.path)
        with (one.path / "spool-1.sqlite").open("r+b") as damaged:
            damaged.seek(20 * 4096)
            damaged.write(os.urandom(4096))
        _fill_disk(one.path)
        with pytest.raises(Exception, match=r"full|no space left|disk I/O"):
            moved(one) if not one.open() else None
        (one.path / "ballast").unlink()
        with capture_logs():
            one.open()
            found = moved(one)
        assert len(before) / 2 < len(found) < len(before)
    finally:
        one.close()
        subprocess.run(["umount", str(one.path)], check=True)


def _fill_disk(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            pass


@pytest.mark.parametrize("trouble", ["a file", "below a file"])
def test_unusable(tmp_path: Path, trouble: str) -> None:
    """A folder that cannot be is refused with the setting's name and the remedy."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" if trouble == "a file" else tmp_path / "file" / "spool"
    with pytest.raises(SettingsError, match=r"VAULT_SPOOL_DIR: cannot use .*file.*: name a folder that this user may"):
        SpoolFolder(path, MAX_BYTES).open()
