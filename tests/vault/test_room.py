"""How much may wait in memory."""

from vault.room import Room


def test_events_are_counted() -> None:
    """Beyond so many there is no room, and each that leaves makes some."""
    room = Room(events=2)
    assert [True, True, False] == [room.take(1) for _ in range(3)]
    room.leave(1)
    assert room.take(1)


def test_bytes_are_counted() -> None:
    """Beyond so many bytes there is no room for more, however few events they are."""
    room = Room(most_bytes=100)
    assert [True, True, False, True] == [room.take(size) for size in (60, 40, 1, 0)]
    room.leave(40)
    assert [False, True] == [room.take(size) for size in (41, 40)]
    assert "3 events of 0.0 MiB wait" == str(room)


def test_a_larger_one_gets_in_alone() -> None:
    """One that is larger than all the room waits beside small ones, and neither turns the other away."""
    room = Room(most_bytes=100)
    assert [True, True, False, True] == [room.take(size) for size in (100, 300, 101, 0)]
    assert 400 == room.all_bytes
    room.leave(300)
    assert 100 == room.all_bytes
    assert room.take(101)
