"""What a Composio webhook says: a body in, an Event out, whatever the bytes."""

import re
from typing import Final, Literal

import msgspec
from msgspec import Raw

from vault.rawjson import ID_CHARS, clip, read, read_body, read_id

_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TRIGGER_MESSAGE: Final = "composio.trigger.message"
_TRIGGER_DISABLED: Final = "composio.trigger.disabled"
_ACCOUNT_EXPIRED: Final = "composio.connected_account.expired"
# Only `expired` is documented; its undocumented kin carry the same account, tokens included.
_ACCOUNT_EVENT: Final = "composio.connected_account."
_MESSAGE_BYTES: Final = 64 * 1024  # of a larger one, nothing is unfolded that nobody asked for


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What the vault reads off a delivery; every text can be stored in a Postgres text column.

    `slug` is the trigger's, or the type of another `composio.*` event; None for an unknown shape. Ids are at most 256
    characters; `data_text` is the first 1,000 of the event's data.
    """

    slug: str | None = None
    connected_account_id: str | None = None
    user_id: str | None = None
    data_text: str = ""

    def __repr__(self) -> str:
        """Show no data."""
        return f"Event(slug={self.slug!r})"


class _Ids(msgspec.Struct):
    """The `metadata` of a trigger's V3 message, as Composio sends it."""

    trigger_slug: str
    connected_account_id: str | None = None
    user_id: str | None = None


class _Message(msgspec.Struct):
    """A trigger's V3 message, which nearly all deliveries are, read at once."""

    id: Raw
    type: Literal["composio.trigger.message"]
    metadata: _Ids
    data: Raw


class _Envelope(msgspec.Struct):
    """The outer object of all versions; Raw is a view of the body, and empty is an absent key."""

    id: Raw = Raw()
    type: Raw = Raw()
    timestamp: Raw = Raw()
    metadata: Raw = Raw()
    data: Raw = Raw()
    trigger_name: Raw = Raw()
    trigger_id: Raw = Raw()
    connection_id: Raw = Raw()
    payload: Raw = Raw()


class _Metadata(msgspec.Struct):
    """The `metadata` of V3."""

    trigger_slug: Raw = Raw()
    connected_account_id: Raw = Raw()
    user_id: Raw = Raw()


class _V2Data(msgspec.Struct):
    """The ids that V2 mixes into `data`."""

    connection_id: Raw = Raw()
    connection_nano_id: Raw = Raw()
    user_id: Raw = Raw()


class _Subject(msgspec.Struct):
    """What a lifecycle event is about, in its `data`."""

    id: Raw = Raw()
    connected_account_id: Raw = Raw()
    user_id: Raw = Raw()


class _Account(msgspec.Struct, omit_defaults=True):
    """What may be shown of a connected account: its `state`, `data` and `params` can hold tokens."""

    id: Raw = Raw()
    word_id: Raw = Raw()
    alias: Raw = Raw()
    user_id: Raw = Raw()
    toolkit: Raw = Raw()
    status: Raw = Raw()
    status_reason: Raw = Raw()
    is_disabled: Raw = Raw()
    created_at: Raw = Raw()
    updated_at: Raw = Raw()


def parse(body: bytes) -> Event:
    """Read a delivery of any version; never raises, and leaves the event's data folded.

    Told apart by the body, never by a header: subscriptions change their version while retries are under way.
    """
    message = _message(body) if len(body) <= _MESSAGE_BYTES else None
    if message is not None:
        return message
    envelope = read_body(body, _Envelope)
    if envelope is not None:
        for shape in (_v3, _v2, _v1):
            event = shape(envelope)
            if event is not None:
                return event
    return Event(data_text=_unknown_text(body))


def _message(body: bytes) -> Event | None:
    """Read a trigger's V3 message with nothing unusual in it; None is for the more patient ways."""
    message = read(body, _Message)
    if message is None:
        return None
    ids = message.metadata
    for one in (ids.trigger_slug, ids.connected_account_id, ids.user_id):
        if one is not None and (len(one) > ID_CHARS or "\0" in one):
            return None
    return Event(
        slug=ids.trigger_slug,
        connected_account_id=ids.connected_account_id,
        user_id=ids.user_id,
        data_text=clip(message.data),
    )


def safe_slug(slug: str | None) -> str:
    """Return the slug as a job's type, or `composio_trigger` for one that could say more than a name."""
    return slug if slug is not None and _SLUG.fullmatch(slug) else "composio_trigger"


def _v3(envelope: _Envelope) -> Event | None:
    kind = read_id(envelope.type) or ""
    metadata = read(envelope.metadata, _Metadata)
    if not (kind.startswith("composio.") and metadata and envelope.id and envelope.data):
        return None
    ids = _lifecycle_ids(kind, metadata, envelope.data)
    return Event(
        slug=read_id(metadata.trigger_slug) if kind == _TRIGGER_MESSAGE else kind,
        connected_account_id=read_id(ids.connected_account_id),
        user_id=read_id(ids.user_id),
        data_text=_data_text(kind, envelope.data),
    )


def _lifecycle_ids(kind: str, metadata: _Metadata, data: Raw) -> _Metadata:
    """Return the metadata, or what stands in `data` instead where Composio's docs say so."""
    if kind not in (_TRIGGER_DISABLED, _ACCOUNT_EXPIRED):
        return metadata
    subject = read(data, _Subject) or _Subject()
    account = subject.id if kind == _ACCOUNT_EXPIRED else subject.connected_account_id
    return _Metadata(connected_account_id=account, user_id=subject.user_id)


def _v2(envelope: _Envelope) -> Event | None:
    kind = read_id(envelope.type)
    data = read(envelope.data, _V2Data)
    if not (kind and envelope.timestamp and data and data.connection_id):
        return None
    return Event(
        slug=_upper(kind),
        connected_account_id=read_id(data.connection_nano_id),
        user_id=read_id(data.user_id),
        data_text=_data_text(kind, envelope.data),
    )


def _v1(envelope: _Envelope) -> Event | None:
    name = read_id(envelope.trigger_name)
    if not (name and envelope.connection_id and envelope.trigger_id and envelope.payload):
        return None
    return Event(
        slug=_upper(name),
        connected_account_id=read_id(envelope.connection_id),
        data_text=clip(envelope.payload),
    )


def _upper(slug: str) -> str:
    return slug.upper()[:256]  # again, since upper case can be longer


def _data_text(kind: str, data: Raw) -> str:
    if not kind.startswith(_ACCOUNT_EVENT):
        return clip(data)
    account = read(data, _Account)
    return clip(msgspec.json.encode(account)) if account else ""


def _unknown_text(body: bytes) -> str:
    # Nobody knows where in a body of unknown shape the tokens of an account would stand.
    return "" if _ACCOUNT_EVENT.encode() in body else clip(body)
