"""A mail server that keeps what it gets: ``python -m tests.sinks.smtp --port 2525 --out effects.jsonl --drop 0.05``.

The receiver is the address in RCPT TO.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from collections.abc import Callable
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.sinks.behaviour import Action, Behaviour, Recorder, read_arguments, wait_for_signal

_ANSWERS = {Action.TAKE: "250 taken", Action.REFUSE: "451 not now", Action.ERROR: "554 never"}


class _Handler:
    """Decides about each mail when all of it is there."""

    def __init__(self, behaviour: Behaviour, recorder: Recorder) -> None:
        self._behaviour = behaviour
        self._recorder = recorder

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        message = email.message_from_bytes(content, policy=email.policy.default)
        for receiver in envelope.rcpt_tos:
            action = self._behaviour.next_action(receiver)
            self._recorder.write(
                action,
                id=message["Message-ID"],
                receiver=receiver,
                sender=envelope.mail_from,
                subject=message["Subject"],
                headers=message.keys(),
                references=message["References"],
                is_logged_in=session.authenticated,
                is_encrypted=session.ssl is not None,
                content=content.decode("latin-1"),
            )
        if action == Action.HANG:
            await asyncio.sleep(self._behaviour.shares.hang_s)
        if action in (Action.HANG, Action.DROP) and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return _ANSWERS.get(action, "421 gone")


class _Connection(SMTP):
    """Knows whether it is connected."""

    def __init__(self, *args: Any, connected: set[_Connection], **options: Any) -> None:
        super().__init__(*args, **options)
        self._connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._connected.discard(self)

    def cut(self) -> None:
        """Hang up."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


class _Controller(Controller):
    """Runs the server in a thread, and can cut its connections: asyncio warns about those that outlive their loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connected: set[_Connection] = set()

    def factory(self) -> _Connection:
        return _Connection(self.handler, connected=self._connected, **self.SMTP_kwargs)

    def cut_all(self) -> None:
        """Hang up every connection."""
        asyncio.run_coroutine_threadsafe(self._cut_all(), self.loop).result(10)

    async def _cut_all(self) -> None:
        while self._connected:
            for connection in list(self._connected):
                connection.cut()
            await asyncio.sleep(0.01)


class SmtpSink:
    """A mail server in this process. With a ``tls_context`` it offers STARTTLS, with a ``login`` it asks for one."""

    def __init__(
        self,
        port: int,
        behaviour: Behaviour | None = None,
        recorder: Recorder | None = None,
        *,
        host: str = "127.0.0.1",
        tls_context: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.port = port
        self.recorder = recorder or Recorder()
        options: dict[str, Any] = {"tls_context": tls_context}
        if login is not None:
            options |= {
                "auth_required": True,
                "auth_require_tls": tls_context is not None,
                "authenticator": _only(login),
            }
        handler = _Handler(behaviour or Behaviour(), self.recorder)
        self._controller = _Controller(handler, hostname=host, port=port, ready_timeout=10, **options)

    def start(self) -> None:
        """Serve."""
        self._controller.start()

    def stop(self) -> None:
        """Serve no more, and cut what is still connected."""
        self._controller.cut_all()
        self._controller.stop()
        self.recorder.close()


def _only(login: tuple[str, str]) -> Callable[..., AuthResult]:
    def authenticate(server: object, session: Session, envelope: object, mechanism: str, data: Any) -> AuthResult:
        wanted = LoginPassword(login[0].encode(), login[1].encode())
        return AuthResult(success=data == wanted, handled=False)

    return authenticate


def main() -> None:
    """Serve until a signal."""
    options, behaviour, recorder = read_arguments("A mail server that keeps what it gets.")
    sink = SmtpSink(options.port, behaviour, recorder, host=options.host)
    sink.start()
    print(f"listening on {sink.port}", flush=True)
    wait_for_signal()
    sink.stop()


if __name__ == "__main__":
    main()
