"""Messages that no requestor sends: valid ones whose bytes, or whose fields, are changed at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from proto import order_service_pb2 as wire

METHODS: dict[str, type[Any]] = {
    "StreamOrders": wire.TrunkUp,
    "StreamOrder": wire.OrderStreamRequest,
    "SubmitFollowUp": wire.FollowUpRequest,
    "CloseOrder": wire.CloseOrderRequest,
}

_TEXTS = (
    *(
        "",
        " ",
        "a" * 129,
        "a" * 20_000,
        "\x00",
        "a\x00b",
        "\u202egnp.exe",
        "\u2066",
        "\u200b",
        "\r\nBcc: a@b",
        "\ufeff",
    ),
    *(
        "../../etc/passwd",
        "<script>",
        "'; DROP TABLE orders;--",
        "{{7*7}}",
        "%s%n",
        "😀" * 9_000,
        "é" * 128,
        "\x7f",
        "\x85",
    ),
    *('{"a":' * 5_000, "[" * 20_000, '{"a":NaN}', '{"a":1e999}', '{"a":' + "9" * 5_000 + "}", '{"a":1,"a":2}'),
    *(
        '{"a":"\\u0000"}',
        '{"a":"\\ud800"}',
        "\u2028",
        "http://a@b/",
        "http://[::1",
        "javascript:alert(1)",
        "email",
        "none",
    ),
)
_NUMBERS = (0, 1, -1, 2, 2**31, -(2**31), 2**53, 2**63 - 1, -(2**63), 253_402_300_800_000)


class Mutants:
    """Makes the same messages for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._made = 0

    def make(self) -> tuple[str, bytes]:
        """A method, and the bytes of a message for it."""
        method = self._random.choice(list(METHODS))
        message = self._valid(method)
        if self._random.random() < 0.4:
            for _ in range(self._random.randint(1, 3)):
                self._change_field(message)
            return method, message.SerializeToString()
        content = message.SerializeToString()
        for _ in range(self._random.randint(1, 4)):
            content = self._random.choice(self._changes)(self, content)
        return method, content[:200_000]

    def _valid(self, method: str) -> Any:
        self._made += 1
        key = f"mutant-{self._random.randint(1, 500)}"
        opening = wire.OrderStreamRequest(
            order_req_id=key,
            session_id="s",
            notification_type="none",
            audience=["seller1", "seller2"],
            details='{"item": "table", "quantity": 1}',
            token=self._random.randint(1, 9),
            run=1,
            stream_id=f"st-{self._made}",
            traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
            request_id="r",
        )
        note = wire.FollowUpRequest(
            order_req_id=key,
            follow_up_id=f"n-{self._made}",
            token=opening.token,
            audience=["seller1"],
            message_type="text",
            message="hello",
            urls=["https://a.example/b"],
            added_ms=1,
            sending=1,
        )
        close = wire.CloseOrderRequest(order_req_id=key, token=opening.token, kind=wire.CloseOrderRequest.CANCEL)
        match method:
            case "StreamOrder":
                return opening
            case "SubmitFollowUp":
                return note
            case "CloseOrder":
                return close
            case _:
                ack = wire.EventAck(order_req_id=key, seq=1)
                beat = wire.Heartbeat(now_ms=1)
                hello = wire.Hello(instance_id="mutant", software_version="1", now_ms=1)
                return wire.TrunkUp(
                    hello=hello, opens=[opening], follow_ups=[note], closes=[close], acks=[ack], heartbeat=beat
                )

    def _change_field(self, message: Any) -> None:
        """Give a field of the message, or of a message in it, another value of its type."""
        field = self._random.choice(message.DESCRIPTOR.fields)
        value = getattr(message, field.name)
        if field.message_type is not None:
            parts = list(value) if field.is_repeated else [value]
            if parts and self._random.random() < 0.9:
                self._change_field(self._random.choice(parts))
            elif field.is_repeated:
                value.extend(type(parts[0])() if parts else value.add() for _ in range(self._random.choice([1, 200])))
        elif field.is_repeated:
            del value[:]
            value.extend([self._random.choice(_TEXTS)[:5_000]] * self._random.choice([1, 2, 101, 2_000]))
            if len(value) * len(value[0]) > 150_000:
                del value[20:]
        elif field.enum_type is not None:
            setattr(message, field.name, self._random.choice([0, 1, 2, 3, 99, -1]))
        elif field.cpp_type == field.CPPTYPE_STRING:
            setattr(message, field.name, self._random.choice(_TEXTS))
        else:
            setattr(message, field.name, self._random.choice(_NUMBERS))

    # ---- changes of bytes

    def _place(self, content: bytes) -> int:
        return self._random.randint(0, len(content))

    def _flip(self, content: bytes) -> bytes:
        if not content:
            return b"\0"
        place = self._random.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << self._random.randrange(8)]) + content[place + 1 :]

    def _cut_off(self, content: bytes) -> bytes:
        return content[: self._place(content)]

    def _drop(self, content: bytes) -> bytes:
        place = self._place(content)
        return content[:place] + content[place + self._random.randint(1, 20) :]

    def _insert(self, content: bytes) -> bytes:
        place = self._place(content)
        return content[:place] + self._random.randbytes(self._random.randint(1, 30)) + content[place:]

    def _repeat(self, content: bytes) -> bytes:
        place = self._place(content)
        piece = content[place : place + self._random.randint(1, 60)]
        return content[:place] + piece * self._random.choice([2, 10, 500]) + content[place:]

    def _widen(self, content: bytes) -> bytes:
        """Put a varint of ten bytes, or one that never ends, somewhere."""
        place = self._place(content)
        return content[:place] + b"\xff" * self._random.choice([9, 10, 40]) + b"\x01" + content[place + 1 :]

    def _nest(self, content: bytes) -> bytes:
        """Groups within groups, which no field of ours is."""
        return b"\x0b" * self._random.choice([10, 200]) + content

    def _empty_parts(self, content: bytes) -> bytes:
        """Very many empty messages in one."""
        return content + self._random.choice([b"\x12\x00", b"\x1a\x00", b"\x22\x00", b"\x2a\x00"]) * 40_000

    _changes: tuple[Callable[[Mutants, bytes], bytes], ...] = (
        *(_flip, _flip, _flip, _cut_off, _drop, _insert, _insert, _repeat, _widen, _nest),
    )

    def swarm(self) -> bytes:
        """A trunk's message with very many empty parts."""
        return self._empty_parts(b"")


def is_readable(method: str, content: bytes) -> bool:
    """Whether protobuf takes the bytes for a message."""
    try:
        METHODS[method].FromString(content)
    except DecodeError:
        return False
    return True


def frames(source: random.Random) -> bytes:
    """What a client of HTTP/2 could say that is none, or a bad one."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    kind = source.randrange(6)
    if kind == 0:
        return source.randbytes(source.randint(1, 2_000))
    said = preface if kind < 5 else preface[: source.randint(1, 23)]
    for _ in range(source.randint(1, 20)):
        payload = source.randbytes(source.choice([0, 4, 5, 6, 8, 100]))
        length = len(payload) if source.random() < 0.8 else source.randrange(2**24)
        stream = source.choice([0, 1, 2, 3, 2**31 - 1])
        said += length.to_bytes(3) + bytes([source.randrange(12), source.randrange(256)]) + stream.to_bytes(4) + payload
    return said
