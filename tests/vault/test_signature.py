"""Composio's signature: every vector, and everything that must not pass."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from deliveries import verify
from multidict import CIMultiDict

from vault.signature import Delivery, SignatureRefused, sign

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))["vectors"]
NOW = 1767225600
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"data":{}}'
GOOD = sign(SECRET, "msg_1", NOW, BODY)
BAD = "v1," + base64.b64encode(bytes(32)).decode()


def headers(**changed: str | None) -> dict[str, str]:
    """Return good headers with some changed (`webhook_id="x"`) or left out (None)."""
    good = {"webhook_id": "msg_1", "webhook_timestamp": str(NOW), "webhook_signature": GOOD}
    return {name.replace("_", "-"): value for name, value in (good | changed).items() if value is not None}


def refusal(given: Any, body: bytes = BODY, now: float = NOW, secrets: Any = (SECRET,)) -> SignatureRefused:
    """Return the refusal that the delivery meets."""
    with pytest.raises(SignatureRefused) as caught:
        verify(given, body, secrets, now)
    return caught.value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any]) -> None:
    """The verdict is that of Composio's own SDKs."""
    body = base64.b64decode(vector["body_b64"])
    try:
        verify(vector["headers"], body, [vector["secret"]], vector["now"], vector["tolerance"])
        verdict = "accept"
    except SignatureRefused:
        verdict = "reject"
    assert vector["expect"]["auth"] == verdict


def test_delivery() -> None:
    """A good delivery comes back with its id and attempt."""
    given = headers(x_composio_delivery_attempt="3")
    assert Delivery("msg_1", 3) == verify(given, BODY, [SECRET], NOW)


@pytest.mark.parametrize("attempt", [None, "", "-1", "x", "\u0661", "9" * 40])
def test_attempt_is_optional(attempt: str | None) -> None:
    """An attempt that is absent or no number is None and refuses nothing."""
    assert verify(headers(x_composio_delivery_attempt=attempt), BODY, [SECRET], NOW).attempt is None


def test_case() -> None:
    """Any case of names is understood."""
    given = {name.title(): value for name, value in headers().items()}
    assert verify(given, BODY, [SECRET], NOW).webhook_id == "msg_1"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_missing_or_repeated_header(name: str) -> None:
    """Each of the three must be there once, even if both say the same."""
    given = CIMultiDict(headers())
    given.add(name.upper(), given[name])
    assert refusal(given).reason == "repeated_header"
    given.popall(name)
    assert refusal(given).reason == "missing_header"


@pytest.mark.parametrize("secrets", [[SECRET], [SECRET.encode()], ["old", SECRET], [SECRET, "new"], ["", SECRET]])
def test_any_secret(secrets: list[str | bytes]) -> None:
    """One of several secrets is enough, as text or as bytes."""
    assert verify(headers(), BODY, secrets, NOW).webhook_id == "msg_1"


@pytest.mark.parametrize("secrets", [[], [""], [b""], ["other"], [SECRET.removeprefix("whsec_")]])
def test_no_secret_matches(secrets: list[str | bytes]) -> None:
    """Neither no secret, nor a stripped one, lets a delivery in."""
    assert refusal(headers(), secrets=secrets).reason == "bad_signature"


def test_an_empty_secret_proves_nothing() -> None:
    """What anyone can sign with the empty key is refused though the list holds it."""
    forged = headers(webhook_signature=sign(b"", "msg_1", NOW, BODY))
    assert refusal(forged, secrets=["", SECRET]).reason == "bad_signature"


@pytest.mark.parametrize("webhook_id", ["", " ", "a b", "a\nb", "msg_\x00", "msg_\u00e9", "\udc80", "a" * 257])
def test_bad_id(webhook_id: str) -> None:
    """An id is 1 to 256 visible ASCII characters."""
    assert refusal(headers(webhook_id=webhook_id)).reason == "bad_id"


@pytest.mark.parametrize("webhook_id", ["!", "a" * 256, "msg_2f1c9e4a-3b6d-4a1e-9c2f-7d8e5a6b4c31", "a.b:c~"])
def test_good_id(webhook_id: str) -> None:
    """Any visible ASCII is an id."""
    given = headers(webhook_id=webhook_id, webhook_signature=sign(SECRET, webhook_id, NOW, BODY))
    assert verify(given, BODY, [SECRET], NOW).webhook_id == webhook_id


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        " 1767225600",
        "1767225600\n",
        "+1767225600",
        "-1",
        "1767225600.0",
        "1_767_225_600",
        "0x1",
        "1" * 5000,
        "\u0661\u0667\u0666\u0667\u0662\u0662\u0665\u0666\u0660\u0660",
        "\uff11",
        "\u00b2",
        "nan",
    ],
)
def test_bad_timestamp(timestamp: str) -> None:
    """A timestamp is ASCII digits and nothing that int() would forgive."""
    assert refusal(headers(webhook_timestamp=timestamp)).reason == "bad_timestamp"


@pytest.mark.parametrize("now", [NOW - 300, NOW + 300, NOW + 299.9])
def test_300_s_pass(now: float) -> None:
    """A clock that differs by exactly 300 s is still good, both ways."""
    assert verify(headers(), BODY, [SECRET], now).webhook_id == "msg_1"


@pytest.mark.parametrize("now", [NOW - 301, NOW + 301, NOW + 300.1, float("nan"), float("inf")])
def test_stale(now: float) -> None:
    """More than 300 s are refused, and so is a clock that is no number."""
    refused = refusal(headers(), now=now)
    assert refused.reason == "stale"
    assert math.isnan(now) or refused.ahead_s == NOW - now


def test_empty_body() -> None:
    """An empty body is refused although it is signed."""
    assert refusal(headers(webhook_signature=sign(SECRET, "msg_1", NOW, b"")), b"").reason == "empty_body"


@pytest.mark.parametrize(
    "signature",
    [
        "",
        " ",
        GOOD.removeprefix("v1,"),
        GOOD.replace("v1,", "v2,"),
        GOOD.replace("v1,", "V1,"),
        GOOD.replace("v1,", "v1a,"),
        GOOD.replace("v1,", "v1, "),
        GOOD.replace("v1,", "v1=,"),
        GOOD.rstrip("="),
        GOOD + "=",
        GOOD + "\n",
        GOOD + ",",
        GOOD[:20] + "\n" + GOOD[20:],
        GOOD.replace(" ", "\t") + "\t" + GOOD,
        "v1,",
        "v1,AAAA",
        "v1,\u00e9",
        "v1,\udc80",
        "v1," + base64.b64encode(base64.b64decode(GOOD[3:]) * 2).decode(),
        "v1," + base64.b64decode(GOOD[3:]).hex(),
        BAD,
        " ".join([BAD] * 8),
    ],
)
def test_bad_signature(signature: str) -> None:
    """What is not the one spelling of the digest, or not v1, does not count."""
    assert refusal(headers(webhook_signature=signature)).reason == "bad_signature"


def test_base64_has_one_spelling() -> None:
    """The spare bits at base64's end must be zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(GOOD[-2])
    other = GOOD[:-2] + alphabet[last | 1] + "="
    assert base64.b64decode(GOOD[3:]) == base64.b64decode(other[3:])
    assert refusal(headers(webhook_signature=other)).reason == "bad_signature"


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_signature(count: int) -> None:
    """The good one may stand after bad ones and other versions, up to 8 in all."""
    entries = [BAD, "v1a,x", "v2", ",", "v1,%", "", BAD][:count]
    given = headers(webhook_signature=" ".join([*entries, GOOD]))
    assert verify(given, BODY, [SECRET], NOW).webhook_id == "msg_1"


def test_too_many_signatures() -> None:
    """A ninth entry refuses the delivery, wherever the good one stands."""
    given = headers(webhook_signature=" ".join([GOOD, *[BAD] * 8]))
    assert refusal(given).reason == "too_many_signatures"


@pytest.mark.parametrize("changed", [{"webhook_id": "msg_2"}, {"webhook_timestamp": str(NOW + 1)}])
def test_all_is_signed(changed: dict[str, str]) -> None:
    """A good signature does not carry over to another id or time."""
    assert refusal(headers(**changed)).reason == "bad_signature"


def test_another_body() -> None:
    """A space in the body breaks the signature."""
    assert refusal(headers(), BODY + b" ").reason == "bad_signature"


def test_refusal_repeats_nothing() -> None:
    """The message is fixed and holds none of what was sent."""
    assert "evil" not in str(refusal(headers(webhook_signature="v1,evil", webhook_id="evil")))
