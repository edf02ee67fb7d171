"""The connections of the web server together: which are taken, refused, or cut, and what is run."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]

from service_kit.logs import get_logger
from service_kit.measures import Tally
from service_kit.one_core import be_prompt
from service_kit.seldom import Seldom
from service_kit.web.callers import ProxyGate, forwarded_address
from service_kit.web.channels import SERVING, Channel
from service_kit.web.meter import Meter
from service_kit.web.places import CLOSED_TOGETHER, HEADROOM, AddressCounts
from service_kit.web.refusals import ALIVE, CROWDED, CROWDED_ADDRESS, OVERLOADED, Refusal
from service_kit.web.shedding import BUSY, SPARED, Shedding
from service_kit.web.socket_loop import SWEEP_S, make_loop
from service_kit.web.workers import LONG_WAIT_S

_log = get_logger(__name__)

#: For SO_LINGER: give up what is not sent.
_CLOSE_AT_ONCE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
#: How long a thread may keep the interpreter from the others, in seconds. The loop is one among many, and under load
#: they all want it: with the usual time its turn comes late.
_USUAL_SWITCH_S, _BUSY_SWITCH_S = sys.getswitchinterval(), 0.001
#: What the system keeps of an answer that is not read, about; by itself it would take megabytes for each connection.
_SEND_BUFFER_BYTES = 131_072
#: A connection is idle when its last answer is so old; a younger one may be about to be used again.
_IDLE_S = 1.0
#: The server looks after its deadlines once a second, sees up to a second late that an answer is not read any more, and
#: may be busy: so everything that is slow is cut within 15 s.
REQUEST_TIMEOUT_S = 11.0


class ChannelServer(TcpWSGIServer):  # type: ignore[misc] # Waitress has no types
    """A Waitress server with a deadline for each request head and body, and an orderly end.

    Waitress measures idleness between two bytes: senders who dribble could hold every connection for ever.
    """

    channel_class = Channel
    request_timeout_s = REQUEST_TIMEOUT_S
    connection_limit = 1000
    gate = ProxyGate(())
    addresses = AddressCounts(None)
    meter: Meter | None = None
    shed = Tally("reason")
    cut = Tally("reason")

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Guards the trigger against being pulled once it is closed: its file descriptor may be a database's by then,
        #: and a thread that outlasts the stop would write into that.
        self._trigger_lock = threading.Lock()
        self._is_trigger_closed = False
        super().__init__(*args, **options)
        # Else a thread that waits for the interpreter could not ask for it before the running one has had its time, and
        # the loop is one among many.
        self.shedding = Shedding(on_burst=lambda is_on: be_prompt(is_wanted=is_on))
        self.under_way = self.shedding.under_way
        self._full = Seldom()
        self._looks_at_s = 0.0
        self._is_busy = False
        self.loop = make_loop(self._map, self._wake_loop, self._turn_s)

    def run(self) -> None:
        """Serve until everything is closed."""
        self.loop.run()

    def pull_trigger(self) -> None:
        """Let the loop see what a request has changed about its connection; Waitress's channels call it."""
        self.loop.watch(SERVING.get())

    def _turn_s(self) -> float:
        workers, shedding = self.task_dispatcher, self.shedding
        if (len(self.under_way) > BUSY) is not self._is_busy:
            self._is_busy = not self._is_busy
            sys.setswitchinterval(_BUSY_SWITCH_S if self._is_busy else _USUAL_SWITCH_S)
        for channel in shedding.turn():
            channel.is_paused = False
            self.loop.watch(channel)
        return (
            LONG_WAIT_S if workers.relieve(time.monotonic(), is_busy=self._is_busy) or shedding.has_paused else SWEEP_S
        )

    def _wake_loop(self, call: Callable[[], None] | None = None) -> None:
        with self._trigger_lock:
            if not self._is_trigger_closed:
                self.trigger.pull_trigger(call)

    def close_trigger(self) -> None:
        """Let nobody wake the loop any more."""
        with self._trigger_lock:
            self._is_trigger_closed = True
            self.trigger.close()

    def in_loop(self, call: Callable[[], None]) -> None:
        """Run a call in the thread of the loop, which alone may change channels."""
        self._wake_loop(call)

    def accept(self) -> tuple[socket.socket, Any] | None:
        """The next connection; one that comes past the proxy is closed before anything of it is read."""
        accepted: tuple[socket.socket, Any] | None = super().accept()
        if accepted is None:
            return None
        has_room = len(self.active_channels) < self.connection_limit + HEADROOM or self._make_room()
        if has_room and self.gate.lets_in(accepted[1][0]):
            return accepted
        accepted[0].close()
        return None

    def set_socket_options(self, conn: socket.socket) -> None:
        """Bound what the system keeps of answers that are not read."""
        super().set_socket_options(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    # ---- what is refused

    def refusal_for(self, channel: Channel) -> Refusal | None:
        """What a new connection is told when it is one too many; it may ask for /livez all the same."""
        if not self.addresses.enter(channel.origin):
            return CROWDED_ADDRESS
        if len(self.active_channels) <= self.connection_limit or self._make_room():
            return None
        if self._full.may_tell("connections"):
            _log.warning("All connections are taken", action="web.crowded", connections=self.connection_limit)
        return CROWDED

    def _make_room(self) -> bool:
        """Close connections that are kept for later, the oldest first."""
        before_s = time.monotonic() - _IDLE_S
        idle = [channel for channel in self.active_channels.values() if channel.is_idle_since(before_s)]
        idle.sort(key=lambda channel: channel.quiet_since_s)
        for channel in idle[:CLOSED_TOGETHER]:
            channel.handle_close()
        return bool(idle)

    def refusal_of_load(self, channel: Channel, path: bytes) -> Refusal | None:
        """What a request is answered with while load is shed or its connection is one too many; None: it is run."""
        if path == b"/livez" and not self.shedding.is_stuck:
            return ALIVE
        if channel.refusal is not None:
            self.shed.add("address" if channel.refusal is CROWDED_ADDRESS else "connections")
            return channel.refusal
        if path in SPARED and self.shedding.spare():
            channel.is_spared = True
            return None
        self.shed.add("load")
        self.shedding.count()
        return OVERLOADED

    def _refusal_of_rate(self, channel: Channel, request: Any, meter: Meter) -> Refusal | None:
        address: str = channel.addr[0]
        if self.gate.is_set:
            address = forwarded_address(request.headers.get("X_FORWARDED_FOR", ""), address)
        return meter.refusal_for(address, request.path)

    def add_task(self, channel: Channel) -> None:
        """Hand a connection's next request to the threads, or refuse it; the connection's lock is held."""
        shedding = self.shedding
        while channel.requests and not (channel.total_outbufs_len and channel.must_be_read()):
            request = channel.requests[0]
            refusal: Refusal | None = None
            if channel.refusal is not None or (shedding.is_on and channel not in self.under_way):
                # Seen already at first glance, or not: then it is one that only the parser could read.
                refusal = None if channel.is_spared else self.refusal_of_load(channel, request.path.encode("latin-1"))
            elif self.meter is not None and request.error is None:
                refusal = self._refusal_of_rate(channel, request, self.meter)
            if refusal is None:
                channel.has_asked = True
                shedding.admit(channel)
                self.task_dispatcher.add_task(channel, is_first=channel.is_spared)
                return
            channel.requests.pop(0)
            request.close()
            if not (channel.will_close or channel.close_when_flushed):
                closes = request.error is not None or request.connection_close
                name = request.headers.get("X_REQUEST_ID", "")
                channel.refuse(refusal, name, has_body=request.command != "HEAD", closes=closes)

    # ---- deadlines

    def readable(self) -> bool:
        """Whether connections are taken; once a second those are looked at that there are."""
        now_s = time.monotonic()
        if now_s >= self._looks_at_s:
            self._looks_at_s = now_s + SWEEP_S / 2
            for channel in list(self.active_channels.values()):
                if reason := channel.is_overdue(now_s):
                    if reason != "idle":
                        self.cut.add(reason)
                    if reason == "does_not_read":
                        # Else the system keeps for minutes what was sent and is not read.
                        channel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
                    # At once: who does not read would never let it be flushed.
                    channel.handle_close()
        return bool(self.accepting)

    def is_busy(self) -> bool:
        """Whether a request runs or waits, or an answer is not sent."""
        return any(channel.requests or channel.total_outbufs_len for channel in list(self.active_channels.values()))

    def stop_listening(self) -> None:
        """Take no new connection, and close those that have nothing to do."""
        self.accepting = False
        self.loop.forget(self._fileno)
        self.del_channel()
        self.socket.close()
        self.close_idle_channels()

    def close_idle_channels(self) -> None:
        """Close the connections that have no request; the others go on."""
        for channel in self.active_channels.values():
            if not channel.requests:
                channel.close_when_flushed = True

    def close_everything(self) -> None:
        """Close all connections, and end the loop."""
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        # The loop ends when nothing is left to watch.
        self.loop.forget(self.trigger._fileno)  # noqa: SLF001 - Waitress has no other name for it
        self.trigger.del_channel()
