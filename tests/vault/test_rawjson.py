"""What the vault finds out of a body's JSON without unfolding it."""

import pytest

from vault.rawjson import expands, fold


@pytest.mark.parametrize(
    "body",
    [
        b'{"n": 1e131071}',
        b'{"n":1E400}',
        b'{"n": [-1.5e+999]}',
        b'{"text": "a \\" quote", "n": 9e100}',
        b"1e100",
        b'{"n": 1e-400}',
        b'{"n": [2.5E-16383]}',
        b"[0" + 600_000 * b",0" + b"]",
    ],
)
def test_a_huge_number_is_found(body: bytes) -> None:
    """Numbers that Postgres would write out in hundreds of digits are noticed wherever they stand; so are too many."""
    assert expands(body, fold(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "see commit 94e1234abc"}',
        b'{"text": "Order 5E100 shipped, tracking 1e2345"}',
        b'{"text": "a \\" quote: 1e400"}',
        b'{"n": 1e99, "m": 12345678901234567890}',
        b'{"n": 1e-99}',
        b'{"id": "a4e123b-1.5e+400"}',
        b'{"n": 1e+40, "small": 1e-05}',
        b"hello",
    ],
)
def test_words_are_no_numbers(body: bytes) -> None:
    """What stands in a string is text, and an ordinary number is no reason to leave the jsonb out."""
    assert not expands(body, fold(body))
