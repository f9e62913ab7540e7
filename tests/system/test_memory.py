"""The most memory that the vault's process takes for a body of each bad kind: under four times its size."""

import re
from pathlib import Path

import pytest
from deliveries import GMAIL, SECRET, sample, say
from programs import run
from strangers import CLOSING, request

SIZE = 3 * 1024 * 1024
# a body that was freed goes back to the system, so that each is measured from where none is
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def padded(piece: bytes, *, first: bytes = b"", last: bytes = b"") -> bytes:
    """Return so much of a piece, again and again."""
    return first + piece * ((SIZE - len(first) - len(last)) // len(piece)) + last


def around(data: bytes) -> bytes:
    """Return a delivery with this as its data."""
    known = b'"id":"msg_1","type":"composio.trigger.message","metadata":{"trigger_slug":"%s"}' % GMAIL.encode()
    return b'{%s,"data":%s}' % (known, data)


def trigger(slug: bytes) -> bytes:
    """Return a delivery of this trigger."""
    return b'{"id":"m","type":"composio.trigger.message","metadata":{"trigger_slug":%s},"data":{}}' % slug


KEYS = b"{" + ",".join(f'"{number:08}":1' for number in range(SIZE // 13)).encode() + b"}"


DATA = {
    "nested 100,000 deep": padded(b" ", first=b"[" * 100_000, last=b"]" * 100_000),
    "nested and never closed": padded(b"["),
    "an integer": padded(b"7"),
    "huge exponents": b"[" + b"1E131071," * 1000 + padded(b"1 ,", last=b"0]"),
    "not a number": padded(b"NaN,", first=b"[", last=b"Infinity]"),
    "halves of surrogate pairs": padded(rb"\ud83d", first=b'"', last=b'"'),
    "half of a pair and much else": padded(b"x", first=rb'"\ud83d', last=b'"'),
    "escapes": padded(rb"\"", first=b'"', last=b'"'),
    "nul": padded(rb"\u0000", first=b'"', last=b'"'),
    "invalid utf-8": padded(b"\xff", first=b'"', last=b'"'),
    "one key again and again": padded(b'"key":1,', first=b"{", last=b'"key":1}'),
}
BODIES = {name: around(data) for name, data in DATA.items()} | {
    "a long slug": trigger(padded(b"x", first=b'"', last=b'"')),
    "a long slug in escapes": trigger(padded(rb"\u0041", first=b'"', last=b'"')),
    "account": b'{"type":"composio.connected_account.expired","id":"m","metadata":{},"data":%s}' % padded(b"7"),
    "byte order mark": b"\xef\xbb\xbf" + around(padded(b"x", first=b'"', last=b'"')),
    "utf-16": around(padded(b"x", first=b'"', last=b'"')[::2]).decode().encode("utf-16"),
    "many keys in data": around(KEYS),
    "many keys": KEYS,
}


async def test_bad_bodies_cost_no_more_than_good_ones(dsn: str, tmp_path: Path) -> None:
    """Whatever stands in it, a body takes less than four times its size, signed or not."""
    env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0", **GIVING_BACK}
    async with run("vault", "serve", env=env, home=tmp_path) as program:
        port = (await program.event("vault_listening"))["port"]
        process = Path(f"/proc/{program.process.pid}")
        if not (process / "clear_refs").exists():
            pytest.skip("only Linux tells the most memory that a process had")
        assert (await say(port, request(sample(), CLOSING)))[9:12] == b"200"
        for name, body in BODIES.items():
            signed = request(body, CLOSING)
            forged = signed.replace(b"webhook-timestamp: ", b"webhook-timestamp: 0", 1)
            for sent, statuses in ((signed, {b"200", b"503"}), (forged, {b"401"})):
                (process / "clear_refs").write_text("5")  # forget the most that there was until now
                before = memory(process, "VmRSS")
                status = (await say(port, sent))[9:12]
                assert (name, True) == (name, status in statuses), status
                assert (name, True) == (name, memory(process, "VmHWM") - before < 4 * len(body))
        assert 0 == await program.stop()


def memory(process: Path, which: str) -> int:
    """Return a process's memory in bytes: what it has (VmRSS), or the most that it had (VmHWM)."""
    return int(re.search(rf"{which}:\s+(\d+) kB", (process / "status").read_text())[1]) * 1024
