"""Who tried wrong keys of late, as values."""

import pytest

from vault.failures import ADDRESSES, ALLOWED, WINDOW_S, Failures, is_own


def guessed(remote: str | None, times: int = ALLOWED) -> Failures:
    """Return what is known after so many wrong keys of an address, at 100 s on the clock."""
    failures = Failures()
    for _ in range(times):
        failures.count(remote, 100.0)
    return failures


def test_an_address_that_guesses_is_blocked_until_the_minute_is_over() -> None:
    """Up to the limit nothing happens; then the rest of the minute is waited for, and all begins anew."""
    assert guessed("192.0.2.1", ALLOWED - 1).blocked_s("192.0.2.1", 100.0) == 0
    failures = guessed("192.0.2.1")
    assert (WINDOW_S, 10.0, 0.0) == tuple(
        failures.blocked_s("192.0.2.1", 100 + s) for s in (0, WINDOW_S - 10, WINDOW_S)
    )
    failures.count("192.0.2.1", 100 + WINDOW_S)
    assert failures.blocked_s("192.0.2.1", 100 + WINDOW_S) == 0


@pytest.mark.parametrize("other", ["192.0.2.2", "2001:db8:0:1::1", "::1", None])
def test_others_are_not_blocked(other: str | None) -> None:
    """One address's guesses are no other's."""
    for one in ("192.0.2.1", "2001:db8::1"):
        assert guessed(one).blocked_s(other, 100.0) == 0


def test_addresses_of_one_network() -> None:
    """Of IPv6 a whole network of 64 bits is one; of IPv4 in IPv6 it is the IPv4 address."""
    assert guessed("2001:db8::1").blocked_s("2001:db8::ffff:1%eth0", 100.0) > 0
    assert guessed("::ffff:192.0.2.1").blocked_s("192.0.2.1", 100.0) > 0
    assert guessed("::ffff:192.0.2.1").blocked_s("::ffff:192.0.2.2", 100.0) == 0


def test_memory_has_an_end() -> None:
    """With very many addresses the ones unseen for the longest are forgotten."""
    failures = guessed("192.0.2.1")
    for number in range(ADDRESSES):
        failures.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 101.0)
    assert ADDRESSES == len(failures._counted)
    assert failures.blocked_s("192.0.2.1", 102.0) == 0


@pytest.mark.parametrize(
    ("remote", "own"),
    [
        *((remote, True) for remote in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")),
        *((remote, False) for remote in ("192.0.2.1", "2001:db8::1", "", None, "/run/socket")),
    ],
)
def test_own(remote: str | None, own: bool) -> None:  # noqa: FBT001 - a case's expected value
    """Loopback in any spelling is this machine."""
    assert own == is_own(remote)
