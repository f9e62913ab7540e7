"""One spool file: what it keeps, hands out and gives up, and what a full or damaged disk does to it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from spools import empty_index, kept
from structlog.testing import capture_logs

from vault import spool as module
from vault.spool import Kept, Spool
from vault.spool_file import PAGE_BYTES, SpoolBrokenError, SpoolError, SpoolFullError

MIB = 1024 * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool of one MiB."""
    one = Spool(tmp_path / "spool-1.sqlite", MIB)
    yield one
    one.close()


def fill_up(spool: Spool, body: bytes = b"x" * 20_000) -> int:
    """Append until it takes no more; return how many it took."""
    for number in range(1000):
        try:
            spool.append([kept(f"msg_{number:03}", body)])
        except SpoolFullError:
            return number
    raise AssertionError("the spool has no bound")


def ids(batch: list[Kept]) -> list[str]:
    """The ids of a batch."""
    return [one.event.event_id for one in batch]


def drain(spool: Spool) -> list[str]:
    """Take everything out, batch after batch."""
    moved: list[str] = []
    while batch := spool.next_batch(rows=50, body_bytes=MIB):
        spool.settle(batch, {})
        moved += ids(batch)
    return moved


def test_every_commit_is_synced(spool: Spool) -> None:
    """The file syncs each commit, on macOS through the drive's cache too, and is its owner's alone."""
    spool.append([kept("msg_1")])
    pragmas = ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
    found = [spool._connection().execute(f"pragma {pragma}").fetchone()[0] for pragma in pragmas]
    assert ["wal", 2, 1, 1] == found
    assert {0o600} == {path.stat().st_mode & 0o777 for path in spool.path.parent.glob("spool-1.sqlite*")}


def test_a_killed_process_loses_nothing(spool: Spool) -> None:
    """What append returned for is there after the process died without a good-bye."""
    code = (
        "import os, sys; from pathlib import Path; from spools import kept; from vault.spool import Spool\n"
        "Spool(Path(sys.argv[1]), 1 << 20).append([kept('msg_1', b'\\0\\xff'), kept('msg_2')])\n"
        "os.kill(os.getpid(), 9)"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(spool.path)], env=env, check=False)
    assert -9 == done.returncode
    assert [b"\0\xff", b"{}"] == [one.event.body for one in spool.next_batch(rows=9, body_bytes=MIB)]


def test_what_goes_in_comes_out(spool: Spool) -> None:
    """An event comes out as it went in, with the time of its receipt."""
    one = kept("msg_1", b'"\\u0000"\xff')
    one = replace(one, event=structs.replace(one.event, account="ca_1", as_json=False, learning="\U0001f600"))
    spool.append([one])
    assert [replace(one, number=1)] == spool.next_batch(rows=9, body_bytes=MIB)


def test_order_of_receipt(spool: Spool) -> None:
    """The longest waiting comes first, however late it was put in; a batch ends at so many rows or bytes."""
    spool.append([kept("b", b"x" * 100, age_s=20), kept("c", age_s=10)])
    spool.append([kept("a", age_s=30), kept("d")])
    assert ["a", "b"] == ids(spool.next_batch(rows=9, body_bytes=50))
    assert ["a", "b", "c"] == ids(spool.next_batch(rows=3, body_bytes=MIB))
    assert ["a", "b", "c", "d"] == drain(spool)


def test_the_same_event_twice(spool: Spool) -> None:
    """A webhook-id is kept once, as it came first."""
    spool.append([kept("msg_1", b"first"), kept("msg_1", b"second")])
    spool.append([kept("msg_1", b"third")])
    assert [b"first"] == [one.event.body for one in spool.next_batch(rows=9, body_bytes=MIB)]


def test_refused_rows_stay_aside(spool: Spool) -> None:
    """What Postgres refuses is kept with the reason, comes no more, and is not lost with the rest."""
    spool.append([kept("msg_1", age_s=3), kept("bad", age_s=2), kept("msg_2", age_s=1)])
    spool.settle(spool.next_batch(rows=9, body_bytes=MIB), {"bad": "23514: no"})
    assert [] == spool.next_batch(rows=9, body_bytes=MIB)
    assert (0, 1) == spool.count()
    with sqlite3.connect(spool.path) as person:
        assert [("bad", "23514: no")] == person.execute("select event_id, refused from delivery").fetchall()
        person.execute("update delivery set refused = null")
    person.close()
    assert ["bad"] == drain(spool)


def test_passed_over_comes_last(spool: Spool) -> None:
    """A delivery that was passed over comes again after all the others."""
    spool.append([kept("bad", age_s=3), kept("msg_1", age_s=2), kept("msg_2", age_s=1)])
    spool.pass_over(spool.next_batch(rows=1, body_bytes=MIB))
    assert ["msg_1", "msg_2", "bad"] == drain(spool)


def test_bounded_in_bytes(spool: Spool) -> None:
    """It takes no more than its bytes, keeps all that it took, and has room again once that is moved."""
    taken = fill_up(spool)
    assert 20 <= taken <= MIB // 20_000
    assert spool.path.stat().st_size <= MIB
    with pytest.raises(SpoolFullError):
        spool.append([kept("msg_x"), kept("msg_y", b"x" * 20_000)])
    assert [f"msg_{number:03}" for number in range(taken)] == drain(spool)
    assert taken == fill_up(spool)


def test_an_empty_file_is_small_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk gets its bytes back."""
    monkeypatch.setattr(module, "COMPACT_PAGES", 10)
    fill_up(spool)
    drain(spool)
    assert spool.path.stat().st_size <= 10 * PAGE_BYTES
    assert spool.path.with_name("spool-1.sqlite-wal").stat().st_size <= 10 * PAGE_BYTES


def test_probe(spool: Spool) -> None:
    """A probe fails while the spool is full, and leaves nothing behind."""
    spool.probe()
    fill_up(spool)
    with pytest.raises(SpoolFullError):
        spool.probe()
    drain(spool)
    spool.probe()
    assert [] == spool.next_batch(rows=9, body_bytes=MIB)


def test_a_file_that_somebody_took_away(spool: Spool) -> None:
    """Nothing is written to a file that has no name any more."""
    spool.append([kept("msg_1")])
    spool.path.unlink()
    spool.append([kept("msg_2")])
    with sqlite3.connect(spool.path) as person:
        assert [("msg_2",)] == person.execute("select event_id from delivery").fetchall()
    person.close()


@pytest.mark.parametrize("content", [b"no database " * 1000, b"SQLite format 3\0half", b"\0" * 8192])
def test_broken(spool: Spool, content: bytes) -> None:
    """A file that is no spool is told as what it is."""
    spool.path.write_bytes(content)
    with pytest.raises(SpoolBrokenError):
        spool.open()


def test_a_damaged_name(spool: Spool) -> None:
    """A name that is no text, which no message can be made of, is told as a damage."""
    spool.append([kept("msg_1")])
    spool.close()
    content = spool.path.read_bytes().replace(b"delivery_waitingdelivery", b"\xff" * 16 + b"delivery")
    spool.path.write_bytes(content.replace(b"delivery (received_at)", b"delivery (deceived_at)"))
    with pytest.raises(SpoolBrokenError, match="UnicodeDecodeError"):
        spool.open()


def test_other_columns(spool: Spool) -> None:
    """The file of another program is told as damaged, not tried for ever."""
    with sqlite3.connect(spool.path) as other:
        other.execute("create table delivery (received_at, refused)")
    other.close()
    with pytest.raises(SpoolBrokenError, match="no such column"):
        spool.open()


def test_a_table_by_another_name(spool: Spool) -> None:
    """A damaged name hides what waits: the file is not taken for an empty one."""
    spool.append([kept("msg_1")])
    spool.close()
    spool.path.write_bytes(spool.path.read_bytes().replace(b"delivery", b"\xffelivery"))
    with pytest.raises(SpoolBrokenError):
        spool.open()


def test_a_header_that_forbids_writing(spool: Spool) -> None:
    """One byte makes a file read-only to SQLite for ever: that is a damage too."""
    spool.append([kept("msg_1")])
    spool.close()
    with spool.path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09")
    with pytest.raises(SpoolBrokenError):
        spool.append([kept("msg_2")])


def test_a_text_that_is_none(spool: Spool) -> None:
    """What cannot be written is no damage of the file."""
    with pytest.raises(SpoolError) as caught:
        spool.append([kept("\udc80")])
    assert SpoolError is caught.type


@pytest.mark.parametrize(
    "damage",
    ["body = 5", "body = 'text'", "event_id = x'00'", "as_json = 'x'", "account = x'00'", "received_at = 'x'"],
)
def test_a_row_of_wrong_kinds(spool: Spool, damage: str) -> None:
    """A damaged row is set aside, loudly and once, and holds up no other."""
    spool.append([kept("msg_1", age_s=3), kept("bad", age_s=2), kept("msg_2", age_s=1)])
    spool._connection().execute(f"update delivery set {damage} where event_id = 'bad'")
    with capture_logs() as logs:
        assert [["msg_1"], ["msg_2"], []] == [drain_one(spool) for _ in range(3)]
    assert [("spool_refused_row", 2)] == [(log["event"], log["number"]) for log in logs]
    assert (0, 1) == spool.count()


def drain_one(spool: Spool) -> list[str]:
    """Take the next one out."""
    batch = spool.next_batch(rows=1, body_bytes=MIB)
    spool.settle(batch, {})
    return ids(batch)


@pytest.mark.parametrize("damage", ["a wrong kind", "refused"])
def test_set_aside_and_sent_again(spool: Spool, damage: str) -> None:
    """A delivery that is set aside is tried again when it comes again, as of its first receipt."""
    first = kept("msg_1", age_s=60)
    spool.append([first])
    if damage == "refused":
        spool.settle(spool.next_batch(rows=9, body_bytes=MIB), {"msg_1": "23514: no"})
    else:
        spool._connection().execute("update delivery set body = 5")
    assert [] == spool.next_batch(rows=9, body_bytes=MIB)
    spool.append([kept("msg_1")])
    assert [replace(first, number=1)] == spool.next_batch(rows=9, body_bytes=MIB)


@pytest.mark.parametrize("refused", [{}, {"msg_1": "23514: no"}])
def test_a_row_that_is_not_found(spool: Spool, refused: dict[str, str]) -> None:
    """What was handed out and cannot be found to be taken out is a damage."""
    spool.append([kept("msg_1")])
    (one,) = spool.next_batch(rows=9, body_bytes=MIB)
    with pytest.raises(SpoolBrokenError):
        spool.settle([replace(one, number=7)], refused)


def test_an_index_that_misses_rows(spool: Spool) -> None:
    """A file whose index is empty is not taken for an empty one."""
    spool.append([kept("msg_1")])
    spool.close()
    empty_index(spool.path, "delivery_waiting")
    with pytest.raises(SpoolBrokenError):
        spool.next_batch(rows=9, body_bytes=MIB)


def test_another_file_with_the_same_numbers(spool: Spool) -> None:
    """What is settled of a file that was replaced takes nothing out of the new one."""
    spool.append([kept("msg_1")])
    batch = spool.next_batch(rows=9, body_bytes=MIB)
    spool.path.unlink()
    spool.append([kept("msg_2")])
    spool.settle(batch, {})
    assert ["msg_2"] == drain(spool)


def limit_file_size(code: str, path: Path) -> None:
    """Run code in a process whose files may not grow beyond 300 KB: a disk that is full."""
    prelude = (
        "import resource, sys\nfrom pathlib import Path\nfrom spools import kept\n"
        "from vault.spool import Spool\nfrom vault.spool_file import SpoolError\n"
        "def limit(n): resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))\n"
        "spool = Spool(Path(sys.argv[1]), 1 << 30)\n"
        "spool.open(); limit(300_000); taken = []\n"
        "try:\n"
        "    for n in range(1000):\n"
        "        spool.append([kept(f'msg_{n:03}', b'x' * 5000)]); taken.append(f'msg_{n:03}')\n"
        "except SpoolError: pass\n"
        "assert 10 < len(taken) < 100\n"
        "def batch(): return spool.next_batch(rows=5, body_bytes=1 << 20)\n"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", prelude + code, str(path)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr


def test_full_disk(spool: Spool) -> None:
    """A write that the disk has no room for loses nothing, and the file goes on when there is room."""
    limit_file_size("limit(-1); spool.append([kept('last')]); print(len(taken))", spool.path)
    found = drain(spool)
    assert found[-1] == "last"
    assert len(found) > 10


def test_full_disk_does_not_hold_up_the_way_out(spool: Spool) -> None:
    """Where even taking out needs room, what is moved is passed over, and the file goes when all of it is moved."""
    limit_file_size(
        "moved = []\n"
        "limit(1)\n"  # nothing can be written at all
        "def settle(one):\n"
        "    try: spool.settle(one, {})\n"
        "    except SpoolError: return 1\n"
        "    return 0\n"
        "failed = 0\n"
        "while one := batch():\n"
        "    moved += [k.event.event_id for k in one]\n"
        "    failed += settle(one)\n"
        "    if moved == taken: break\n"
        "assert failed > 0\n"
        "assert moved == taken, (moved, taken)\n"
        "assert sum(path.stat().st_size for path in spool.path.parent.iterdir()) < 4096\n"
        "limit(-1)\n"
        "assert batch() == [] and spool.count() == (0, 0)\n",
        spool.path,
    )


def test_a_locked_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who holds the file delays it, and then it is told."""
    monkeypatch.setattr("vault.spool_file.BUSY_S", 0.01)
    spool.open()
    with sqlite3.connect(spool.path, isolation_level=None) as person:
        person.execute("begin immediate")
        with pytest.raises(SpoolError, match="locked"):
            spool.append([kept("msg_1")])
        person.execute("rollback")
    person.close()
    spool.append([kept("msg_1")])
    assert ["msg_1"] == drain(spool)
