"""Whether Composio signed a delivery: headers, body, secrets and the time in; a delivery or a refusal out."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

# A dot is allowed although the signed text is id.timestamp.body: a part of the id could only be taken for the
# timestamp if the body began with digits and a dot, and what Composio signs begins with a brace.
_WEBHOOK_ID: Final = re.compile(r"[!-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_ATTEMPT: Final = re.compile(r"[0-9]{1,6}")
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature", "x-composio-delivery-attempt")
_MAX_SIGNATURES: Final = 8
_SMALL_BYTES: Final = 64 * 1024  # a body that may be copied
_SIGNATURE_CHARS: Final = len(base64.b64encode(hashlib.sha256().digest()))

Reason = Literal[
    "missing_header",
    "repeated_header",
    "bad_id",
    "bad_timestamp",
    "stale",
    "empty_body",
    "too_many_signatures",
    "bad_signature",
]

_MESSAGES: Final[dict[Reason, str]] = {
    "missing_header": "webhook-id, webhook-timestamp and webhook-signature are needed",
    "repeated_header": "a webhook header is there more than once",
    "bad_id": "webhook-id is not 1 to 256 visible ascii characters",
    "bad_timestamp": "webhook-timestamp is not unix seconds",
    "stale": "webhook-timestamp is too far from this server's clock",
    "empty_body": "the body is empty",
    "too_many_signatures": "webhook-signature holds more than 8 signatures",
    "bad_signature": "no signature matches: check COMPOSIO_WEBHOOK_SECRET",
}


class Delivery(msgspec.Struct, frozen=True):
    """A delivery that Composio signed; the attempt counts from 1, is not signed, and only for the log."""

    webhook_id: str
    attempt: int | None


class SignatureRefused(Exception):
    """The delivery is not proven to be Composio's; `reason` says why, and the message repeats none of it.

    `ahead_s` is by how much a stale one's timestamp is ahead of the clock.
    """

    def __init__(self, reason: Reason, ahead_s: float | None = None) -> None:
        """Take the fixed message of the reason."""
        super().__init__(_MESSAGES[reason])
        self.reason: Reason = reason
        self.ahead_s = ahead_s


class Claim(msgspec.Struct, frozen=True):
    """What the headers of a delivery say, and nothing has proven yet."""

    webhook_id: str
    timestamp: str
    signatures: list[bytes]
    attempt: int | None


def read_claim(headers: Headers, now: float, tolerance_s: float = 300) -> Claim:
    """Read the headers at `now` in unix seconds; raise SignatureRefused for what no body could make good."""
    ids, timestamps, all_signatures, attempts = (headers.getall(name, []) for name in _HEADERS)
    webhook_id = _matching(_only(ids), _WEBHOOK_ID, "bad_id")
    timestamp = _matching(_only(timestamps), _TIMESTAMP, "bad_timestamp")
    signatures = _only(all_signatures)
    # Not `>`: a clock that is not a number must refuse.
    ahead_s = int(timestamp) - now
    if not abs(ahead_s) <= tolerance_s:
        raise SignatureRefused("stale", ahead_s)
    candidates = _candidates(signatures)
    if not candidates:
        raise SignatureRefused("bad_signature")
    return Claim(webhook_id, timestamp, candidates, _attempt(attempts))


def prove(claim: Claim, body: bytes, secrets: Sequence[bytes | str]) -> Delivery:
    """Check a claim against the body and every secret; raise SignatureRefused.

    The scheme is that of Composio's SDKs (Python 0.30, TypeScript 0.19).
    """
    if not body:
        raise SignatureRefused("empty_body")
    expected = [_signature(secret, claim.webhook_id, claim.timestamp, body) for secret in secrets if secret]
    if not _any_equal(expected, claim.signatures):
        raise SignatureRefused("bad_signature")
    return Delivery(claim.webhook_id, claim.attempt)


def sign(secret: bytes | str, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature` for one delivery attempt."""
    return "v1," + _signature(secret, webhook_id, str(timestamp_s), body).decode()


def _signature(secret: bytes | str, webhook_id: str, timestamp: str, body: bytes) -> bytes:
    # The whole secret is the key: Composio neither strips `whsec_` nor decodes what follows it.
    key = secret.encode() if isinstance(secret, str) else secret
    head = f"{webhook_id}.{timestamp}.".encode()
    if len(body) <= _SMALL_BYTES:
        return base64.b64encode(hmac.digest(key, head + body, "sha256"))  # in one call, for a third of the time
    mac = hmac.new(key, head, "sha256")
    mac.update(body)
    return base64.b64encode(mac.digest())


def _any_equal(expected: list[bytes], candidates: list[bytes]) -> bool:
    """Compare each with each, in a time that tells nothing about which one was right."""
    equal = False
    for mac in expected:
        for candidate in candidates:
            equal |= hmac.compare_digest(mac, candidate)
    return equal


def _candidates(signatures: str) -> list[bytes]:
    """Return what could be a signature; the text is compared, for one digest has several spellings in base64."""
    entries = signatures.split(" ")
    if len(entries) > _MAX_SIGNATURES:
        raise SignatureRefused("too_many_signatures")
    candidates = [entry[3:] for entry in entries if entry.startswith("v1,")]
    return [text.encode() for text in candidates if len(text) == _SIGNATURE_CHARS and text.isascii()]


def _only(values: list[str]) -> str:
    # Proxies differ in which of two equal headers they take, so neither is taken.
    if not values:
        raise SignatureRefused("missing_header")
    if len(values) > 1:
        raise SignatureRefused("repeated_header")
    return values[0]


def _matching(value: str, pattern: re.Pattern[str], reason: Reason) -> str:
    if pattern.fullmatch(value) is None:
        raise SignatureRefused(reason)
    return value


def _attempt(values: list[str]) -> int | None:
    return int(values[0]) if len(values) == 1 and _ATTEMPT.fullmatch(values[0]) else None
