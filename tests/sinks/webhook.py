"""A receiver of webhooks: ``python -m tests.sinks.webhook --port 9000 --out effects.jsonl --error 0.2``.

The path of a URL names the receiver: ``http://127.0.0.1:9000/seller1``.
"""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sinks.behaviour import Action, Behaviour, Recorder, read_arguments, wait_for_signal

_ANSWERS = {Action.TAKE: 204, Action.REFUSE: 429, Action.ERROR: 500}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], behaviour: Behaviour, recorder: Recorder) -> None:
        super().__init__(address, _Handler)
        self.behaviour = behaviour
        self.recorder = recorder
        self.ending = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        receiver = self.path.lstrip("/")
        action = self.server.behaviour.next_action(receiver)
        self.server.recorder.write(
            action,
            id=self.headers.get("webhook-id"),
            receiver=receiver,
            headers=dict(self.headers),
            body=body.decode("utf-8"),
            event=_parsed(body),
        )
        if action == Action.HANG:
            self.server.ending.wait(self.server.behaviour.shares.hang_s)
        if action in (Action.HANG, Action.DROP):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(_ANSWERS[action])
        if action == Action.REFUSE:
            self.send_header("Retry-After", "1")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the recorder has it."""


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


class WebhookSink:
    """A receiver of webhooks in this process."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        recorder: Recorder | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.recorder = recorder or Recorder()
        self._server = _Server((host, port), behaviour or Behaviour(), self.recorder)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="webhook-sink", daemon=True
        )

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def url(self, receiver: str = "seller1") -> str:
        """The URL under which the receiver is told."""
        return f"http://127.0.0.1:{self.port}/{receiver}"

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more, and let go of what hangs."""
        self._server.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.recorder.close()


def main() -> None:
    """Serve until a signal."""
    options, behaviour, recorder = read_arguments("A receiver of webhooks.")
    sink = WebhookSink(behaviour, recorder, host=options.host, port=options.port)
    sink.start()
    print(f"listening on {sink.port}", flush=True)
    wait_for_signal()
    sink.stop()


if __name__ == "__main__":
    main()
