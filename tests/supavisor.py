"""A stand-in for Supabase's pooler that lets nobody in: it says its words as the wire has them."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104


def refusal(sqlstate: str, message: str) -> bytes:
    """Return an ErrorResponse of the Postgres protocol."""
    fields = "".join(f"{key}{value}\0" for key, value in (("S", "FATAL"), ("C", sqlstate), ("M", message))) + "\0"
    return b"E" + struct.pack(">i", len(fields.encode()) + 4) + fields.encode()


@contextlib.asynccontextmanager
async def supavisor(sqlstate: str, message: str) -> AsyncIterator[int]:
    """Refuse every connection so; gives the port."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                asked = await reader.readexactly(length - 4)
                if struct.unpack(">i", asked[:4])[0] not in {SSL_REQUEST, GSS_REQUEST}:
                    break
                writer.write(b"N")
            writer.write(refusal(sqlstate, message))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
