"""Hints over Redis' publish and subscribe."""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
import redis
from redis.exceptions import RedisClusterException

from service_kit.errors import StoreUnavailable
from service_kit.hints import Hear
from service_kit.logs import get_logger
from service_kit.storage.redis_link import RedisLink
from service_kit.storage.redis_values import encode

#: Hints that wait to be sent; above it they are dropped, and the look at the store finds what they were about.
MAX_WAITING = 10_000
#: As many as go out in one message.
_BATCH = 500
_PAUSE_S = 0.3

log = get_logger(__name__)


class RedisHints:
    """Hints to all instances over the same Redis and prefix, sent and heard by a thread each."""

    name = "hints"

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        # Channels are not kept apart by the number of the database, as keys are.
        self._channel = f"{link.prefix}:{link.db}:hints"
        self._sender = uuid.uuid4().hex[:12]
        self._waiting: queue.Queue[tuple[str, Any] | None] = queue.Queue(MAX_WAITING)
        self._listeners: dict[str, list[Hear]] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def listen(self, topic: str, hear: Hear) -> None:
        """Be told of what others send on a topic; before the start."""
        self._listeners.setdefault(topic, []).append(hear)

    def send(self, topic: str, items: Sequence[Any]) -> None:
        """Tell the other instances; never waits."""
        with suppress(queue.Full):
            for item in items:
                self._waiting.put_nowait((topic, item))

    # ---- the component

    def start(self) -> None:
        """Begin to send and to listen."""
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("hints-sender", self._send_on), ("hints-listener", self._listen_on))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send what waits, and end. Safe to call twice."""
        self._stopping.set()
        self._wake_sender()
        for thread in self._threads:
            thread.join(timeout_s / 2)

    def _wake_sender(self) -> None:
        with suppress(queue.Full):  # then it is awake
            self._waiting.put_nowait(None)

    def check(self) -> str | None:
        """None while both threads run; what they cannot do, the store's check tells."""
        return None if all(thread.is_alive() for thread in self._threads) else "hints are not sent"

    # ---- the threads

    def _send_on(self) -> None:
        while True:
            taken = [self._waiting.get()]
            while len(taken) < _BATCH and not self._waiting.empty():
                taken.append(self._waiting.get())
            hints: dict[str, list[Any]] = {}
            for topic, item in (hint for hint in taken if hint is not None):
                hints.setdefault(topic, []).append(item)
            if hints:
                self._publish(hints)
            if self._stopping.is_set() and self._waiting.empty():
                return

    def _publish(self, hints: dict[str, list[Any]]) -> None:
        try:
            message = encode({"from": self._sender, "hints": hints})
            self._link.client.execute_command("PUBLISH", self._channel, message)
        except (redis.RedisError, RedisClusterException, OSError, StoreUnavailable):
            self._stopping.wait(_PAUSE_S)  # lost; the next look at the store makes up for it
        except Exception as error:
            log.error("Hints could not be sent", action="hints.failed", exc_info=error)

    def _listen_on(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._link.client.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(self._channel)
                    while not self._stopping.is_set():
                        message = subscription.get_message(timeout=0.5)
                        if message is not None:
                            self._hear(message["data"])
            except (redis.RedisError, RedisClusterException, OSError, StoreUnavailable):
                self._stopping.wait(_PAUSE_S)

    def _hear(self, data: bytes) -> None:
        try:
            message = orjson.loads(data)
            if message["from"] == self._sender:
                return
            for topic, items in message["hints"].items():
                for hear in self._listeners.get(topic, ()):
                    hear(items)
        except Exception as error:
            log.error("A hint could not be followed", action="hints.failed", exc_info=error)
