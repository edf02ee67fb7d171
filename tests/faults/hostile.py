"""Clients who send slowly or never read, in a process of their own: ``hostile REST_PORT GRPC_PORT [--again]``.

It prints ``ready`` when all have begun, and then, as JSON, for each kind how many were cut and after how long at the
latest. With ``--again`` each begins anew when it is cut, until somebody ends the process.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc

#: How many there are of each kind: 200 that are slow over HTTP, and 100 gRPC clients that never read.
SILENT, HEADS, BODIES, DEAF = 50, 50, 50, 50
GRPC_SILENT, GRPC_DEAF, GRPC_ASKING, GRPC_TRUNKS = 30, 30, 20, 20
GIVE_UP_S = 30.0
#: A gRPC client that has not read looks after so long whether it was cut.
READ_AFTER_S = 14.0

_HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: "
_BODY = (
    b"POST /api/v1/orders/initiate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
)
#: The long answer, often enough to fill the buffers of both sides.
_MANY = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 60
#: What a client of HTTP/2 says first: its preface, and settings that leave everything as it is.
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_CLOSED = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP


class Slow:
    """One connection that says something, then dribbles, and reads nothing."""

    def __init__(self, kind: str, port: int, first: bytes, dribble: bytes) -> None:
        self.kind = kind
        self._port = port
        self._first = first
        self._dribble = dribble
        self.begin()

    def begin(self) -> None:
        """Connect, and say what comes first."""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", self._port))
        self.socket.setblocking(False)
        self.begun_s = time.monotonic()
        self._send(self._first)

    def go_on(self) -> None:
        """Say a little more."""
        self._send(self._dribble)

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # full, or cut, which is seen elsewhere
            self.socket.send(data)


class Asking:
    """One gRPC call that is never ended by its client."""

    def __init__(self, kind: str, port: int, ask: Callable[[grpc.Channel], Any]) -> None:
        self.kind = kind
        self._port = port
        self._ask = ask
        self.begin()

    def begin(self) -> None:
        """Connect and ask."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self._port}", options)
        self.begun_s = time.monotonic()
        self._call = self._ask(self._channel)
        self._reader: threading.Thread | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the call is over, by what is seen when it is read at last: until then nothing tells."""
        if self._reader is None and time.monotonic() >= self.begun_s + READ_AFTER_S:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return not self._call.is_active()

    def _read(self) -> None:
        with suppress(grpc.RpcError):
            for _ in self._call:
                pass

    def close(self) -> None:
        """Give the connection back."""
        self._channel.close()


class _Once:
    """Gives one request and then nothing more, for ever."""

    def __init__(self, request: object) -> None:
        self._requests = [request]

    def __iter__(self) -> _Once:
        return self

    def __next__(self) -> object:
        while not self._requests:
            time.sleep(3_600)
        return self._requests.pop()


def reflect(channel: grpc.Channel) -> Any:
    """Ask for what there is, and be ready to ask more."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    return reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(_Once(request))


def _trunk(channel: grpc.Channel) -> Any:
    request = wire.TrunkUp(hello=wire.Hello(instance_id="deaf"))
    return order_service_pb2_grpc.OrderServiceStub(channel).StreamOrders(_Once(request))


class Crowd:
    """All of them."""

    def __init__(self, rest_port: int, grpc_port: int) -> None:
        rows = (
            ("says nothing", rest_port, b"", b"", SILENT),
            ("dribbles a head", rest_port, _HEAD, b"x", HEADS),
            ("dribbles a body", rest_port, _BODY, b"x", BODIES),
            ("does not read", rest_port, _MANY, b"", DEAF),
            ("gRPC, says nothing", grpc_port, b"", b"", GRPC_SILENT),
            ("gRPC, does not read", grpc_port, _HTTP2, b"", GRPC_DEAF),
        )
        self._poll = select.epoll()
        self._slow: dict[int, Slow] = {}
        for kind, port, first, dribble, count in rows:
            for _ in range(count):
                self._watch(Slow(kind, port, first, dribble))
        self._asking = [Asking("gRPC, asks for ever", grpc_port, reflect) for _ in range(GRPC_ASKING)]
        self._asking += [Asking("gRPC, a trunk that is silent", grpc_port, _trunk) for _ in range(GRPC_TRUNKS)]
        self.cut: dict[str, list[float]] = {}

    def _watch(self, slow: Slow) -> None:
        self._slow[slow.socket.fileno()] = slow
        self._poll.register(slow.socket, _CLOSED)

    def run(self, *, again: bool) -> None:
        """Dribble until all are cut, or for ever."""
        next_s = give_up_s = time.monotonic()
        give_up_s += GIVE_UP_S
        while (self._slow or self._asking) and (again or time.monotonic() < give_up_s):
            for number, _ in self._poll.poll(0.2):
                slow = self._slow.pop(number)
                self._poll.unregister(number)
                slow.socket.close()
                self._note(slow.kind, slow.begun_s)
                if again:
                    slow.begin()
                    self._watch(slow)
            for asking in [one for one in self._asking if one.is_cut]:
                asking.close()
                self._note(asking.kind, asking.begun_s)
                if again:
                    asking.begin()
                else:
                    self._asking.remove(asking)
            if time.monotonic() >= next_s:
                next_s += 1.0
                for slow in self._slow.values():
                    slow.go_on()

    def _note(self, kind: str, begun_s: float) -> None:
        self.cut.setdefault(kind, []).append(time.monotonic() - begun_s)


def main() -> None:
    """Begin, say so, and tell what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rest_port", type=int)
    parser.add_argument("grpc_port", type=int)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    crowd = Crowd(options.rest_port, options.grpc_port)
    print("ready", flush=True)
    crowd.run(again=options.again)
    print(json.dumps({kind: [len(took_s), max(took_s)] for kind, took_s in crowd.cut.items()}), flush=True)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # the threads of gRPC wait for requests that never come
