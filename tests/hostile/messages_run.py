"""Sends mutated messages and frames to a processor that serves a well-behaved requestor meanwhile."""

from __future__ import annotations

import random
import re
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import psutil

from tests.e2e.conftest import Service, eventually
from tests.hostile.mutants import METHODS, Mutants, frames, is_readable

SERVICE = "/order_communicator.v1.OrderService/"
#: How much the processor's memory may grow, and how far its threads may be from where they were.
MOST_GROWTH_MB = 20.0
ORDER = "well-behaved"
_BATCH = 20
#: A connection for raw frames for so many messages.
_FRAMES_EVERY = 10
_SAME = bytes


@dataclass
class Outcome:
    """What was sent, and how the processor stood it."""

    sent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    growth_mb: float = 0.0
    threads_before: int = 0
    threads_after: int = 0
    took_s: float = 0.0


class Attack:
    """Sends what `Mutants` makes, by calls whose bytes nobody looks at on the way out."""

    def __init__(self, processor: Service, seed: int) -> None:
        self._grpc_port = int(processor.settings["PROCESSOR_GRPC_PORT"])
        self._source = random.Random(seed)
        self._mutants = Mutants(seed)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self._grpc_port}", options=[("grpc.enable_retries", 0)])
        self._waiting: list[bytes] = []
        self.outcome = Outcome()

    def close(self) -> None:
        """Send what is left, and end all connections."""
        self._send_trunk(self._waiting)
        self._channel.close()

    def step(self) -> None:
        """Send one message, or one connection's worth of frames."""
        self.outcome.sent += 1
        if self.outcome.sent % _FRAMES_EVERY == 0:
            self._send_frames()
            return
        method, content = self._mutants.make()
        if self.outcome.sent % 500 == 0:
            method, content = "StreamOrders", self._mutants.swarm()
        if method != "StreamOrders":
            self._send_one(method, content)
        elif is_readable(method, content):
            self._waiting.append(content)
            if len(self._waiting) == _BATCH:
                self._send_trunk(self._waiting)
                self._waiting = []
        else:
            self._send_trunk([content])

    def _send_one(self, method: str, content: bytes) -> None:
        if method == "StreamOrder":
            call = self._channel.unary_stream(SERVICE + method, _SAME, _SAME)(content, timeout=10)
            with suppress(grpc.RpcError, StopIteration):
                next(iter(call))
            call.cancel()
            self._count(call)
            return
        try:
            self._channel.unary_unary(SERVICE + method, _SAME, _SAME)(content, timeout=10)
            self.outcome.codes["OK"] += 1
        except grpc.RpcError as error:
            self._count(error)

    def _send_trunk(self, contents: list[bytes]) -> None:
        """Send messages on a trunk of their own, and wait until the last is read or the trunk is cut."""
        # Refused with an answer, so its answer shows that all before it are read.
        last = METHODS["StreamOrders"]()
        last.follow_ups.add(order_req_id=ORDER, follow_up_id=f"end-{uuid.uuid4().hex}", token=0)
        sign = last.follow_ups[0].follow_up_id.encode()

        def requests() -> Iterator[bytes]:
            yield from contents
            yield last.SerializeToString()

        call = self._channel.stream_stream(SERVICE + "StreamOrders", _SAME, _SAME)(requests(), timeout=10)
        with suppress(grpc.RpcError):
            for answer in call:
                if sign in answer:
                    break
        call.cancel()
        self._count(call)

    def _count(self, call: Any) -> None:
        code = call.code()  # what a call raises has one, too
        self.outcome.codes["none" if code is None else code.name] += 1

    def _send_frames(self) -> None:
        self.outcome.connections += 1
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._grpc_port), timeout=5) as wire:
            wire.sendall(frames(self._source))
            if self._source.random() < 0.5:
                wire.settimeout(0.02)
                wire.recv(4_096)


def run(processor: Service, requestor: Service, count: int, *, seed: int, warm_up: int) -> Outcome:
    """Attack the processor, and look after a requestor's order all the time. Raises `AssertionError`."""
    requestor.post(
        "/orders/initiate", {"order_req_id": ORDER, "session_id": "s", "notification_type": "none", "audience": []}
    )
    wait_for_stream(requestor)
    attack = Attack(processor, seed)
    process = psutil.Process(processor.process.pid)
    for _ in range(warm_up):
        attack.step()
    before, notes = process.memory_info().rss, 0
    threads_before = process.num_threads()
    begun_s = time.monotonic()
    for number in range(count):
        attack.step()
        if number % max(1, count // 50) == 0:
            assert processor.process.poll() is None, "the processor has ended"
            note = {"urls": [], "message_type": "text", "message": f"note {number}"}
            body = {"order_req_id": ORDER, "follow_up_id": f"note-{number}", "audience": ["seller1"], "message": note}
            requestor.post("/orders/followup", body)
            notes += 1
    attack.close()
    outcome = attack.outcome
    outcome.took_s = time.monotonic() - begun_s
    # The order has kept its stream, and every note is with the processor.
    wait_for_stream(requestor)
    eventually(lambda: requestor.get(f"/orders/{ORDER}")["unsent_count"] == 0, what="the last note's acknowledgement")
    assert requestor.get(f"/orders/{ORDER}")["notes_count"] == notes
    assert processor.get(f"/orders/{ORDER}")["notes_count"] == notes
    # Idle pool threads of gRPC stay; none may be held by a call that is over.
    outcome.threads_before = threads_before
    outcome.threads_after = eventually(
        lambda: process.num_threads() if process.num_threads() <= threads_before + 2 else 0,
        timeout_s=30,
        what="the end of the threads",
    )
    outcome.growth_mb = (process.memory_info().rss - before) / 2**20
    assert outcome.growth_mb <= MOST_GROWTH_MB, outcome
    # One refusal closes one call; nothing that came in has made the processor fail.
    failures = [line for line in processor.log.splitlines() if re.search(r"Z (ERROR|FATAL) |Traceback", line)]
    assert failures == [], failures[:5]
    return outcome


def wait_for_stream(requestor: Service) -> None:
    """Wait until the order's stream is open."""
    eventually(
        lambda: requestor.get(f"/orders/{ORDER}")["stream"]["state"] == "open", timeout_s=30, what="the order's stream"
    )
