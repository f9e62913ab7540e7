"""Arrays as Postgres reads them in binary, packed column by column: psycopg looks at every element several times.

The format: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c (array_recv).
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct("!iiIii")  # dimensions, whether there are nulls, the element's type, length, lower bound
_EMPTY = struct.Struct("!iiI")
_INTEGER = struct.Struct("!i")
_DOUBLE = struct.Struct("!d")
_LONG = struct.Struct("!q")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of timestamptz: src/include/datatype/timestamp.h
_MICROSECOND = timedelta(microseconds=1)
_NULL = _INTEGER.pack(-1)


class Packed:
    """One array as a statement's argument; its subclasses know the type."""

    oid: ClassVar[int]
    element_oid: ClassVar[int]
    __slots__ = ("data",)

    def __init__(self, elements: Sequence[bytes | None]) -> None:
        """Take the elements in their own binary form, None for a null."""
        self.data = b"".join(_parts(self.element_oid, elements))


class Texts(Packed):
    """`text[]`."""

    oid, element_oid = 1009, 25

    @classmethod
    def of(cls, values: Iterable[str | None]) -> "Texts":
        """Pack texts."""
        return cls([None if value is None else value.encode() for value in values])


class Uuids(Packed):
    """`uuid[]`."""

    oid, element_oid = 2951, 2950

    @classmethod
    def of(cls, values: Iterable[UUID]) -> "Uuids":
        """Pack UUIDs."""
        return cls([value.bytes for value in values])


class Integers(Packed):
    """`integer[]`."""

    oid, element_oid = 1007, 23

    @classmethod
    def of(cls, values: Iterable[int]) -> "Integers":
        """Pack whole numbers."""
        return cls([_INTEGER.pack(value) for value in values])


class Documents(Packed):
    """`jsonb[]`."""

    oid, element_oid = 3807, 3802

    @classmethod
    def of(cls, values: Iterable[object]) -> "Documents":
        """Pack what JSON says in full."""
        return cls([b"\1" + msgspec.json.encode(value) for value in values])  # the format's version


class Bodies(Packed):
    """`bytea[]`."""

    oid, element_oid = 1001, 17


class Booleans(Packed):
    """`boolean[]`."""

    oid, element_oid = 1000, 16

    @classmethod
    def of(cls, values: Iterable[bool]) -> "Booleans":
        """Pack booleans."""
        return cls([b"\1" if value else b"\0" for value in values])


class Doubles(Packed):
    """`double precision[]`."""

    oid, element_oid = 1022, 701

    @classmethod
    def of(cls, values: Iterable[float]) -> "Doubles":
        """Pack numbers."""
        return cls([_DOUBLE.pack(value) for value in values])


class Times(Packed):
    """`timestamptz[]`."""

    oid, element_oid = 1185, 1184

    @classmethod
    def of(cls, values: Iterable[datetime | None]) -> "Times":
        """Pack times that know their zone."""
        return cls([None if value is None else _LONG.pack((value - _EPOCH) // _MICROSECOND) for value in values])


def _parts(element_oid: int, elements: Sequence[bytes | None]) -> Iterable[bytes]:
    if not elements:
        return [_EMPTY.pack(0, 0, element_oid)]
    parts = [_HEAD.pack(1, int(None in elements), element_oid, len(elements), 1)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            parts += (_INTEGER.pack(len(element)), element)
    return parts


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.data


for _kind in (Texts, Uuids, Integers, Documents, Bodies, Booleans, Doubles, Times):
    psycopg.adapters.register_dumper(_kind, type(f"{_kind.__name__}Dumper", (_PackedDumper,), {"oid": _kind.oid}))
