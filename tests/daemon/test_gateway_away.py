"""The gateway's client against sockets that refuse, break, hang or talk nonsense."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from programs import until

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway

TOKEN = "hook-token-of-this-test"
ACCEPTED = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}'

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Socket:
    """A listening socket and how many connections it had."""

    url: str = ""
    connections: int = 0
    closed: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[Socket]:
    """Serve each connection with `talk` and close it after."""
    socket = Socket()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket.connections += 1
        socket.connected.set()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        socket.closed += 1

    async with asyncio.TaskGroup() as talks:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talks.create_task(serve(reader, writer))

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            socket.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield socket


def client(url: str, *, retry_s: float = 0, timeout_s: float = 30) -> Gateway:
    """Make a client with tiny waits."""
    return Gateway(url, "/hooks", TOKEN, timeout_s=timeout_s, retry_s=retry_s, first_wait_s=0.001, longest_wait_s=0.002)


async def read_request(reader: asyncio.StreamReader) -> None:
    """Read one POST of the client; its bodies end with the only closing brace."""
    await reader.readuntil(b"}")


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Never answer, until the client goes."""
    await reader.read()


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection after half an answer that began well."""
    await read_request(reader)
    writer.write(ACCEPTED[:-5])
    await writer.drain()
    writer.transport.abort()


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read the request and close without a word."""
    await read_request(reader)


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be another protocol's server."""
    await read_request(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def lie_about_encoding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a body that is not what its header says."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the head of an answer and never its body."""
    await read_request(reader)
    writer.write(ACCEPTED[:-11])
    await reader.read()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send an error whose binary body has no end."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\nbroken \x00")
    while True:
        writer.write(b"\xff\x00\r\n" * 4096)
        await writer.drain()


async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep the connection after an answer, and close it when the next request comes."""
    await read_request(reader)
    writer.write(ACCEPTED)
    await reader.read(1)


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as if the connection were kept, and close it."""
    await read_request(reader)
    writer.write(ACCEPTED)


async def serve_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request, until the client goes."""
    while True:
        await read_request(reader)
        writer.write(ACCEPTED)


async def talk_tls_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a TLS greeting as a plain HTTP server does."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def test_a_refused_connection_is_a_gateway_that_is_away() -> None:
    """Nothing listens: the verdict spends no attempt and the error is named."""
    async with listening(hang) as socket:
        pass
    async with client(socket.url) as gateway:
        answer = await gateway.wake("hello")
        line = gateway.remedy(answer)
    assert (Verdict.UNAVAILABLE, None, 1) == (answer.verdict, answer.status, answer.posts)
    assert "connection refused" == answer.detail
    assert line.startswith(f"no answer from {socket.url} (connection refused)")


@pytest.mark.parametrize(
    ("detail", "talk"),
    [
        ("ClientPayloadError", break_off),
        ("ServerDisconnectedError", hang_up),
        ("ClientResponseError", talk_nonsense),
        ("ClientPayloadError", lie_about_encoding),
    ],
)
async def test_a_broken_answer_is_no_answer(detail: str, talk: Talk) -> None:
    """Even one that began with a 200: a gateway that dies has lost its pending wakes."""
    async with listening(talk) as socket, client(socket.url) as gateway:
        answer = await gateway.wake("hello")
    assert (Verdict.UNAVAILABLE, None) == (answer.verdict, answer.status)
    assert answer.detail.startswith(detail)


@pytest.mark.parametrize("talk", [hang, drip])
async def test_a_gateway_that_hangs_is_timed_out(talk: Talk) -> None:
    """The time-out holds for the body as for the head."""
    async with listening(talk) as socket, client(socket.url, timeout_s=0.05) as gateway:
        answer = await gateway.wake("hello")
    assert (Verdict.UNAVAILABLE, None, 1) == (answer.verdict, answer.status, answer.posts)
    assert "Timeout" in answer.detail


async def test_a_gateway_that_comes_up_is_reached_within_the_call() -> None:
    """Broken connections are tried again like a 503."""
    talks = iter([hang_up, break_off, serve_once])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(talks)(reader, writer)

    async with listening(talk) as socket, client(socket.url, retry_s=30) as gateway:
        assert Answer(Verdict.ACCEPTED, 200, posts=3, may_be_taken=True) == await gateway.wake("hello")


async def test_a_connection_that_the_gateway_closed_is_not_used_again() -> None:
    """One that was kept and then closed, as by a gateway that starts anew, costs nothing."""
    async with listening(answer_once) as socket, client(socket.url) as gateway:
        answers = [await gateway.wake("one")]
        await until(lambda: not gateway._session.connector._conns, "the end of the connection")
        answers.append(await gateway.wake("two"))
    assert ([Answer(Verdict.ACCEPTED, 200)] * 2, 2) == (answers, socket.connections)


async def test_a_connection_that_the_gateway_closes_under_a_post_is_tried_anew() -> None:
    """Whether it read the POST is unknown, as with any that ends so: it goes out again, over a new one."""
    async with listening(serve_once) as socket, client(socket.url, retry_s=30) as gateway:
        answers = [await gateway.wake("one"), await gateway.wake("two")]
    again = Answer(Verdict.ACCEPTED, 200, posts=2, may_be_taken=True)
    assert ([Answer(Verdict.ACCEPTED, 200), again], 2) == (answers, socket.connections)


async def test_a_connection_is_kept_for_the_next_post() -> None:
    """A burst goes over one connection, and an idle client keeps none for long."""
    async with listening(serve_all) as socket, client(socket.url) as gateway:
        for number in range(5):
            assert (await gateway.wake(f"hello {number}")).verdict is Verdict.ACCEPTED
        assert (1, 0) == (socket.connections, socket.closed)
        await until(lambda: socket.closed == 1, "the end of the idle connection")


async def test_an_endless_binary_error_is_cut() -> None:
    """The client reads a bounded part of it and keeps a short printable line."""
    async with listening(flood) as socket, client(socket.url) as gateway:
        answer = await gateway.wake("hello")
    assert (Verdict.FAILED, 500, 300) == (answer.verdict, answer.status, len(answer.detail))
    assert answer.detail.startswith("broken ")
    assert answer.detail.isprintable()


async def test_a_probe_of_a_gateway_that_is_away_is_a_single_try() -> None:
    """The prober has its own rhythm."""
    async with listening(hang_up) as socket, client(socket.url, retry_s=30) as gateway:
        answer = await gateway.probe()
    assert (Verdict.UNAVAILABLE, 1) == (answer.verdict, socket.connections)


@pytest.mark.parametrize("url", ["127.0.0.1:18789", "ftp://127.0.0.1", "http://"])
async def test_an_address_that_is_none_is_a_misconfiguration(url: str) -> None:
    """No retry heals it, and nothing raises."""
    async with client(url, retry_s=30) as gateway:
        answer = await gateway.wake("hello")
    assert (Verdict.MISCONFIGURED, 1) == (answer.verdict, answer.posts)


async def test_tls_to_a_gateway_without_it_is_a_misconfiguration() -> None:
    """An https address of a plain gateway is a person's to correct."""
    async with (
        listening(talk_tls_back) as socket,
        client(socket.url.replace("http:", "https:"), retry_s=30) as gateway,
    ):
        answer = await gateway.wake("hello")
    assert (Verdict.MISCONFIGURED, 1) == (answer.verdict, answer.posts)


async def test_a_cancelled_call_is_cancelled() -> None:
    """Cancellation is neither swallowed nor tried again."""
    async with (
        listening(hang) as socket,
        client(socket.url, retry_s=30) as gateway,
        asyncio.TaskGroup() as tasks,
    ):
        wake = tasks.create_task(gateway.wake("hello"))
        await socket.connected.wait()
        wake.cancel()
    assert (True, 1) == (wake.cancelled(), socket.connections)


async def test_a_bug_is_raised() -> None:
    """What is no trouble of the transport is not dressed up as one."""
    async with listening(hang) as socket, Gateway(socket.url, "/hooks", "two\nlines") as gateway:
        with pytest.raises(ValueError, match="header"):
            await gateway.wake("hello")
