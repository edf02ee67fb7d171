"""How records, entries and messages stand in Redis: fields for the scripts, each ended by a NUL, and then JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service_kit.change import Entry, Message, Record, Ref

#: The scripts take them for the digits of an id: 13 of the time in microseconds, 4 that tell the makers apart.
ID_LENGTH = 17
_LARGEST = 2**63 - 1


def encode(document: Any) -> bytes:
    """A document as JSON. Raises `TypeError` for what is none."""
    return orjson.dumps(document, default=_plain)


def _plain(value: Any) -> Any:
    """What orjson does not take for JSON by itself: named tuples and mappings that are no dict."""
    if isinstance(value, tuple):
        return tuple(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _field(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("a name holds the character NUL")
    return text.encode()


def _number(value: int) -> bytes:
    if not -_LARGEST <= value <= _LARGEST:
        raise OverflowError("a number has more than 64 bits")
    return b"%d" % value


def _head(*fields: bytes) -> bytes:
    return b"\0".join(fields) + b"\0"


# ---- names


def quoted(tenant: str) -> str:
    """A tenant's name without the slash that ends it in other names."""
    return tenant.replace("%", "%25").replace("/", "%2F") if "%" in tenant or "/" in tenant else tenant


def name_of(ref: Ref) -> bytes:
    """The name of a record in keys and indexes: ``tenant/key``."""
    return _field(f"{quoted(ref.tenant)}/{ref.key}")


def ref_of(name: bytes) -> Ref:
    """The record's name back."""
    tenant, _, key = name.decode().partition("/")
    return Ref(unquoted(tenant), key)


def unquoted(tenant: str) -> str:
    """The tenant's name back."""
    return tenant.replace("%2F", "/").replace("%25", "%") if "%" in tenant else tenant


# ---- values


def record_value(record: Record, record_id: bytes, nonce: bytes) -> bytes:
    """A record as it is kept. ``nonce`` is of this writing alone, by which it is known when it is sent twice."""
    head = _head(
        _number(record.version),
        nonce,
        record_id,
        _number(record.updated_ms),
        _field(str(record.state)),
        _field(record.owner),
        _field(record.group),
        _number(record.token),
    )
    _number(record.created_ms)
    return head + encode((record.created_ms, record.body))


def record_of(ref: Ref, value: bytes) -> tuple[bytes, Record]:
    """The record's id, and the record."""
    version, _, record_id, updated, state, owner, group, token, document = value.split(b"\0", 8)
    created_ms, body = orjson.loads(document)
    record = Record(
        ref,
        state.decode(),
        body,
        owner.decode(),
        int(token),
        int(version),
        group.decode(),
        created_ms,
        int(updated),
    )
    return record_id, record


def entry_value(entry: Entry) -> bytes:
    """An entry as it is kept."""
    _number(entry.at_ms)
    return _head(_number(entry.seq), _field(entry.entry_id), _field(entry.kind)) + encode((entry.at_ms, entry.body))


def entry_of(value: bytes) -> Entry:
    """The entry back."""
    seq, entry_id, kind, document = value.split(b"\0", 3)
    at_ms, body = orjson.loads(document)
    return Entry(int(seq), entry_id.decode(), kind.decode(), at_ms, body)


def message_value(message: Message) -> bytes:
    """A message as it is kept, but for its id."""
    head = _head(
        _field(str(message.state)), _field(message.address), moment(message.created_ms), _number(message.position)
    )
    _number(message.due_ms)
    return head + encode((message.kind, message.body, message.due_ms, message.attempts, message.last_error))


def message_of(message_id: bytes, value: bytes) -> Message:
    """The message back."""
    state, address, created, position, document = value.split(b"\0", 4)
    kind, body, due_ms, attempts, last_error = orjson.loads(document)
    return Message(
        message_id.decode(),
        int(position),
        kind,
        body,
        state.decode(),
        address.decode(),
        due_ms,
        attempts,
        last_error,
        int(created, 16),
    )


def message_id_of(message: Message) -> bytes:
    """A message's id as the scripts take it."""
    return _field(message.message_id)


def moment(at_ms: int) -> bytes:
    """A time in a form whose order is that of its bytes. Raises `OverflowError` for one before the epoch."""
    if not 0 <= at_ms <= _LARGEST:
        raise OverflowError("a time has more than 64 bits")
    return b"%016x" % at_ms


def moment_of(member: bytes) -> int:
    """The time that a member of the messages' index begins with."""
    return int(member[:16], 16)


# ---- scripts and answers


def listed(values: Sequence[Any]) -> tuple[Any, ...]:
    """A list as scripts take it: its length, then its values."""
    return (len(values), *values)


def pairs_of(answer: Any) -> list[tuple[bytes, bytes]]:
    """What a hash holds; the older protocol answers a list, the newer one a map."""
    if isinstance(answer, Mapping):
        return list(answer.items())
    return list(zip(answer[::2], answer[1::2], strict=True))
