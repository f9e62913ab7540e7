"""Reads JSON that strangers wrote: the keys asked for, the rest left folded, and None instead of an error."""

import codecs
import re
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

_Shape = TypeVar("_Shape")

ID_CHARS: Final = 256
_TEXT_CHARS: Final = 1000
# A longer string is no id: it is not unfolded, so that a hostile one costs no memory.
_ID_BYTES: Final = 64 * 1024
# Escaped backslashes, a whole surrogate pair, or (group 1) half of one. Possessive, and begins with a literal:
# otherwise 5 MB of backslashes cost 150 MB, and 5 MB of anything 300 ms.
_SURROGATE: Final = re.compile(
    rb"\\(?:\\(?:\\\\)*+"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u([dD][89a-fA-F][0-9a-fA-F]{2}))",
)

_MOST_COMMAS: Final = 500_000  # Postgres takes some 200 bytes for each value while it makes jsonb of them

# Upper case as lower case, and every digit and sign as 0.
_FOLDED: Final = bytes.maketrans(b"123456789+-ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"00000000000abcdefghijklmnopqrstuvwxyz")


def fold(body: bytes) -> bytes:
    """Return the body as one in which numbers and names are sought: all letters lower case, digits and signs 0."""
    return body.translate(_FOLDED)


def expands(body: bytes, folded: bytes) -> bool:
    """Tell whether the JSON, here also folded, takes far more room as jsonb than as it stands.

    A number like 1e131071 or 1e-16383 is nine bytes here, and 128 or 16 KB wherever Postgres writes it out again.
    """
    if len(body) > _MOST_COMMAS and body.count(b",") > _MOST_COMMAS:
        return True
    if b"0e000" not in folded:  # most bodies have none, not even in a string; far faster than a pattern
        return False
    # Strings are passed over whole, for a mail may speak of the commit 94e1234abc. No pattern does it: the possessive
    # ones that it would need for 5 MB of anything do not match what they should before Python 3.11.5.
    unsigned = body.translate(_FOLDED, b"+-")  # three times as slow, and for 1e-05 no longer a match
    plain = unsigned.replace(rb"\\", b"").replace(rb"\"", b"")
    begin = 0
    while (at := plain.find(b"0e000", begin)) >= 0:
        if plain.count(b'"', begin, at) % 2 == 0:
            return True
        begin = plain.find(b'"', at) + 1
        if begin == 0:
            break
    return False


def read_body(body: bytes, shape: type[_Shape]) -> _Shape | None:
    """Decode a body, forgiving a byte order mark and halves of surrogate pairs."""
    unmarked = body.removeprefix(codecs.BOM_UTF8)
    return read(unmarked, shape) or read(_with_whole_surrogates(unmarked), shape)


def read(raw: Raw | bytes | bytearray, shape: type[_Shape]) -> _Shape | None:
    """Decode as `shape`, or return None for what is not of it."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_id(raw: Raw) -> str | None:
    """Return a string's first 256 characters, without the NULs that Postgres refuses; None for no string."""
    text = read(raw, str) if len(memoryview(raw)) <= _ID_BYTES else None
    return None if text is None else text.replace("\0", "")[:ID_CHARS]


def clip(raw: Raw | bytes) -> str:
    """Return the first 1,000 characters of the undecoded JSON as text that Postgres can store."""
    # A character has at most 4 bytes, so that the cut can only hurt one beyond the first 1,000.
    start = bytes(memoryview(raw)[: 4 * _TEXT_CHARS])
    return start.decode(errors="replace").replace("\0", "\ufffd")[:_TEXT_CHARS]


def _with_whole_surrogates(body: bytes) -> bytearray:
    # JavaScript cuts strings in the middle of an emoji and sends the half. msgspec refuses such a body, but
    # the agent must still learn which trigger it was. Changed in place: a list of pieces would cost memory.
    whole = bytearray(body)
    for match in _SURROGATE.finditer(body):
        if match[1] is not None:
            whole[match.start(1) : match.end(1)] = b"fffd"
    return whole
