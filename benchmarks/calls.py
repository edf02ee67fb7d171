"""HTTP calls as data, and a small client for what is not measured: set-up, counts, waiting."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.faults import BenchFault

REQUEST_TIMEOUT_S = 30.0


class Address(NamedTuple):
    """Where a process listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call to a contender; without a body it is a GET."""

    path: str
    body: Mapping[str, Any] | None = None

    def encode(self, address: Address) -> bytes:
        """The whole request as it goes over a connection that is kept alive."""
        if self.body is None:
            return f"GET {self.path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
        body = json.dumps(self.body, separators=(",", ":")).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {address}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Client:
    """One kept connection to one address; connects anew when it is lost."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connection = http.client.HTTPConnection(*address, timeout=REQUEST_TIMEOUT_S)

    def send(self, call: Call) -> tuple[int, bytes]:
        """The status and the body of the answer. Raises `OSError` or `HTTPException` when there is none."""
        try:
            return self._send(call)
        except http.client.RemoteDisconnected:
            return self._send(call)  # a connection that was idle for long; servers close it after some seconds

    def _send(self, call: Call) -> tuple[int, bytes]:
        body = None if call.body is None else json.dumps(call.body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            self._connection.request("GET" if body is None else "POST", call.path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def json(self, call: Call) -> Any:
        """The JSON document of an answer, which must be a success."""
        status, body = self.send(call)
        if not 200 <= status < 300:
            raise BenchFault(f"{call.path} at {self.address} answered {status}: {body[:200]!r}")
        return json.loads(body) if body else None

    def answers(self, call: Call) -> bool:
        """Whether there is an answer, and it is a success."""
        try:
            status, _ = self.send(call)
        except (OSError, http.client.HTTPException):
            return False
        return 200 <= status < 300

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


def wait_until(is_true: Callable[[], bool], what: str, *, timeout_s: float, every_s: float = 0.005) -> float:
    """Look until it is true; answers when it was, on the clock of `time.perf_counter`."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise BenchFault(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
    return time.perf_counter()
