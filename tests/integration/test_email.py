from __future__ import annotations

import email
import email.policy
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask.testing import FlaskClient

from processor_app.delivery.channel import AttemptResult, Parcel, Seller, Verdict
from processor_app.delivery.deadline import Address
from processor_app.delivery.email_channel import EmailChannel
from processor_app.delivery.mail_files import MailFolder
from processor_app.delivery.mail_message import Mailbox, MailWriter
from processor_app.delivery.smtp import SmtpCarrier
from processor_app.delivery.smtp_url import Security, SmtpServer
from tests.e2e.conftest import free_port
from tests.sinks.behaviour import Behaviour, Shares
from tests.sinks.scripted import Script, ScriptedServer, silent
from tests.sinks.smtp import SmtpSink

MakeServer: TypeAlias = Callable[[Script], ScriptedServer]
MakeSink: TypeAlias = Callable[..., SmtpSink]

PASSWORD = "s3cret-Passw0rd"
WRITER = MailWriter(Mailbox("orders@market.example", "Orders"))
NOTE = Parcel(
    delivery_id="d-1",
    kind="follow_up",
    order_req_id="TEST001",
    session_id="sess_1",
    seller=Seller("seller1", name="Seller", email="seller@shop.example"),
    created_ms=1_795_435_200_123,
    attempt=1,
    reply_url="http://127.0.0.1:8005/reply/abc",
    follow_up_id="n1",
    message="Hello\n.\n..dots\nFrom me\n" + "é" * 3000,
)
MESSAGE_ID = WRITER.write(NOTE).name


def loopback(_host: str, port: int) -> list[Address]:
    return [Address(socket.AF_INET, ("127.0.0.1", port))]


def carrier(port: int, security: Security = Security.OPTIONAL, timeout_s: float = 10, **login: str) -> SmtpCarrier:
    server = SmtpServer("host.example", port, security, timeout_s=timeout_s, **login)
    return SmtpCarrier(server, "market.example", resolver=loopback)


def send(port: int, parcel: Parcel = NOTE, **options: Any) -> AttemptResult:
    return EmailChannel(WRITER, carrier(port, **options)).send(parcel)


@pytest.fixture
def make_sink() -> Iterator[MakeSink]:
    made: list[SmtpSink] = []

    def make(behaviour: Behaviour | None = None, **options: Any) -> SmtpSink:
        made.append(SmtpSink(free_port(), behaviour, **options))
        made[-1].start()
        return made[-1]

    yield make
    for sink in made:
        sink.stop()


# ---- a mail server that works


def test_a_mail_arrives_as_it_was_written(make_sink: MakeSink) -> None:
    sink = make_sink()
    result = send(sink.port)
    assert (result.verdict, result.detail) == (Verdict.DELIVERED, "The mail server took it: taken")
    (record,) = sink.recorder.taken
    assert (record["sender"], record["receiver"]) == ("orders@market.example", "seller@shop.example")
    assert record["content"].encode("latin-1") == WRITER.write(NOTE).content
    body = email.message_from_string(record["content"], policy=email.policy.default).get_body(("plain",))
    assert body is not None
    assert "> Hello\n> .\n> ..dots\n> From me\n> éééé" in body.get_content().replace("\r\n", "\n")


def test_every_attempt_has_the_same_message_id(make_sink: MakeSink) -> None:
    sink = make_sink()
    for attempt in (1, 2):
        assert send(sink.port, replace(NOTE, attempt=attempt)).verdict == Verdict.DELIVERED
    assert [record["id"] for record in sink.recorder.taken] == [f"<{MESSAGE_ID}@market.example>"] * 2


def test_many_threads_send_at_once(make_sink: MakeSink) -> None:
    sink = make_sink()
    channel = EmailChannel(WRITER, carrier(sink.port))
    threads = [
        threading.Thread(target=channel.send, args=(replace(NOTE, delivery_id=f"d-{number}"),)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({record["id"] for record in sink.recorder.taken}) == 20


def test_a_seller_without_an_address_cannot_be_reached() -> None:
    channel = EmailChannel(WRITER, carrier(1))
    assert channel.has_address(NOTE.seller)
    assert not channel.has_address(replace(NOTE.seller, email=""))


# ---- TLS and login


@pytest.fixture
def tls_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is one of the system's authorities."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.mark.usefixtures("trusted")
def test_a_login_goes_over_tls_alone(make_sink: MakeSink, tls_context: ssl.SSLContext) -> None:
    sink = make_sink(tls_context=tls_context, login=("orders", PASSWORD))
    assert send(sink.port, security=Security.REQUIRED, user="orders", password=PASSWORD).verdict == Verdict.DELIVERED
    (record,) = sink.recorder.taken
    assert (record["is_encrypted"], record["is_logged_in"]) == (True, True)


@pytest.mark.usefixtures("trusted")
def test_a_refused_login_is_tried_later_and_told_without_the_password(
    make_sink: MakeSink, tls_context: ssl.SSLContext
) -> None:
    sink = make_sink(tls_context=tls_context, login=("orders", PASSWORD))
    result = send(sink.port, security=Security.REQUIRED, user="orders", password="wrong-" + PASSWORD)
    assert (result.verdict, result.detail) == (
        Verdict.RETRY,
        "The mail server refused our login (535); check the settings.",
    )
    assert PASSWORD not in repr(SmtpServer("h", 1, Security.TLS, "orders", PASSWORD))


def test_tls_is_used_when_it_is_offered_even_by_nobody_we_know(
    make_sink: MakeSink, tls_context: ssl.SSLContext
) -> None:
    sink = make_sink(tls_context=tls_context)
    assert send(sink.port, security=Security.OPTIONAL).verdict == Verdict.DELIVERED
    assert send(sink.port, security=Security.OFF).verdict == Verdict.DELIVERED
    assert [record["is_encrypted"] for record in sink.recorder.taken] == [True, False]


def test_required_tls_wants_a_valid_certificate(make_sink: MakeSink, tls_context: ssl.SSLContext) -> None:
    sink = make_sink(tls_context=tls_context)
    result = send(sink.port, security=Security.REQUIRED)
    assert (result.verdict, "certificate is not valid" in result.detail) == (Verdict.RETRY, True)
    assert sink.recorder.records == []


def test_required_tls_that_is_not_offered_sends_nothing(make_sink: MakeSink) -> None:
    sink = make_sink()
    result = send(sink.port, security=Security.REQUIRED, user="orders", password=PASSWORD)
    assert (result.verdict, "does not offer" in result.detail) == (Verdict.RETRY, True)
    assert sink.recorder.records == []


@pytest.mark.usefixtures("trusted")
def test_tls_from_the_first_byte(make_server: MakeServer, tls_context: ssl.SSLContext) -> None:
    def script(connection: socket.socket) -> None:
        with tls_context.wrap_socket(connection, server_side=True) as secured:
            Dialogue()(secured)

    assert send(make_server(script).port, security=Security.TLS).verdict == Verdict.DELIVERED


# ---- servers that refuse, and servers that do harm


class Dialogue:
    """A mail server whose answers a test may change: by the command that is answered, "" being the greeting."""

    def __init__(self, **answers: bytes | None) -> None:
        self._answers = {
            "greeting": b"220 hello\r\n",
            "ehlo": b"250 market\r\n",
            "mail": b"250 fine\r\n",
            "rcpt": b"250 fine\r\n",
            "data": b"354 go on\r\n",
            "dot": b"250 taken\r\n",
            "quit": b"221 bye\r\n",
            **answers,
        }
        self.commands: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        """Speak until an answer is None, which hangs up, or the client is gone."""
        with connection.makefile("rb") as lines:
            step: str | None = "greeting"
            while step is not None:
                self.commands.append(step)
                answer = self._answers[step]
                if answer is None:
                    return
                connection.sendall(answer)
                step = self._next(step, lines)

    def _next(self, step: str, lines: Any) -> str | None:
        if step == "data" and (self._answers["data"] or b"").startswith(b"354"):
            while lines.readline() not in (b".\r\n", b""):
                pass
            return "dot"
        command = lines.readline().split(b" ")[0].strip().lower().decode()
        return command if command in self._answers else None


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize(
    ("answer", "verdict"), [(b"451 not now\r\n", Verdict.RETRY), (b"550 never\r\n", Verdict.FAILED)]
)
def test_a_4xx_is_tried_again_and_a_5xx_is_final(
    make_server: MakeServer, step: str, answer: bytes, verdict: Verdict
) -> None:
    result = send(make_server(Dialogue(**{step: answer})).port)
    assert (result.verdict, result.detail) == (verdict, f"The mail server refused: {answer.decode().strip()}")


@pytest.mark.parametrize("step", ["greeting", "ehlo"])
@pytest.mark.parametrize("answer", [b"421 too busy\r\n", b"554 not you\r\n"])
def test_a_refusal_before_the_mail_is_not_about_the_mail(make_server: MakeServer, step: str, answer: bytes) -> None:
    dialogue = Dialogue(**{step: answer}, helo=answer)
    assert send(make_server(dialogue).port).verdict == Verdict.RETRY


@pytest.mark.parametrize("code", [530, 534, 535, 538])
def test_a_refusal_of_our_login_is_tried_again_wherever_it_comes(make_server: MakeServer, code: int) -> None:
    result = send(make_server(Dialogue(mail=b"%d who are you\r\n" % code)).port)
    assert (result.verdict, str(code) in result.detail) == (Verdict.RETRY, True)


def test_a_receiver_that_is_taken_elsewhere_is_taken(make_server: MakeServer) -> None:
    assert send(make_server(Dialogue(rcpt=b"251 will forward\r\n")).port).verdict == Verdict.DELIVERED


@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "rcpt", "data"])
@pytest.mark.parametrize(
    "answer", [None, b"", b"garbage\r\n", b"250", b"999 what\r\n", b"250-" + b"x" * 9000 + b"\r\n"]
)
def test_what_fails_before_the_final_dot_is_tried_again(make_server: MakeServer, step: str, answer: bytes) -> None:
    dialogue = Dialogue(**{step: answer}, helo=answer)
    result = send(make_server(dialogue).port, timeout_s=0.5)
    assert result.verdict == Verdict.RETRY
    assert "dot" not in dialogue.commands


@pytest.mark.parametrize(
    "answer", [None, b"", b"garbage\r\n", b"25", b"354 more\r\n", b"150 hm\r\n", b"250-" + b"x" * 9000 + b"\r\n"]
)
def test_what_is_lost_behind_the_final_dot_is_uncertain(make_server: MakeServer, answer: bytes | None) -> None:
    dialogue = Dialogue(dot=answer)
    result = send(make_server(dialogue).port, timeout_s=0.5)
    assert result.verdict == Verdict.UNCERTAIN
    assert "may have been sent or not" in result.detail
    assert "dot" in dialogue.commands


def test_a_connection_that_breaks_within_the_mail_is_tried_again(make_server: MakeServer) -> None:
    def script(connection: socket.socket) -> None:
        for answer in (b"220 hello\r\n", b"250 market\r\n", b"250 fine\r\n", b"250 fine\r\n", b"354 go on\r\n"):
            connection.sendall(answer)
            if answer[:3] != b"354":
                connection.recv(1000)
        connection.recv(1000)

    large = replace(WRITER.write(NOTE), content=b"x\r\n" * 10_000_000)
    assert carrier(make_server(script).port).hand_over(large).verdict == Verdict.RETRY


def test_a_sink_that_takes_and_drops_has_one_message_id(make_sink: MakeSink) -> None:
    sink = make_sink(Behaviour(Shares(drop=1.0)))
    assert [send(sink.port).verdict for _ in range(2)] == [Verdict.UNCERTAIN, Verdict.UNCERTAIN]
    assert [record["id"] for record in sink.recorder.taken] == [f"<{MESSAGE_ID}@market.example>"] * 2


def test_a_server_that_never_says_goodbye_costs_a_second(make_server: MakeServer) -> None:
    begun = time.monotonic()
    assert send(make_server(Dialogue(quit=b"")).port).verdict == Verdict.DELIVERED
    assert time.monotonic() - begun < 4


def dribble(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"2")
        time.sleep(0.05)


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"220-and more\r\n" * 1000)


@pytest.mark.parametrize("script", [silent, dribble, endless])
def test_the_deadline_holds_however_slowly_the_server_answers(make_server: MakeServer, script: Script) -> None:
    begun = time.monotonic()
    assert send(make_server(script).port, timeout_s=0.7).verdict == Verdict.RETRY
    assert time.monotonic() - begun < 3


def test_the_deadline_holds_during_the_tls_handshake(make_server: MakeServer) -> None:
    begun = time.monotonic()
    assert send(make_server(silent).port, security=Security.TLS, timeout_s=0.5).verdict == Verdict.RETRY
    assert time.monotonic() - begun < 3


def test_a_refused_connection_is_tried_again() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    assert send(port) == AttemptResult(Verdict.RETRY, "The mail server refused the connection.")


# ---- what must never become a header


CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
HEADERS = ["Auto-Submitted", "Content-Type", "Date", "From", "In-Reply-To", "MIME-Version", "Message-ID", "References"]
HEADERS += ["Subject", "To"]


def with_field(name: str, value: Any) -> Parcel:
    changed: dict[str, Any] = {name.removeprefix("seller."): value}
    return replace(NOTE, **changed) if name in changed else replace(NOTE, seller=replace(NOTE.seller, **changed))


@pytest.mark.parametrize("field", ["order_req_id", "seller.email"])
def test_a_control_character_where_a_header_comes_from_sends_nothing(make_sink: MakeSink, field: str) -> None:
    sink = make_sink()
    channel = EmailChannel(WRITER, carrier(sink.port))
    for control in CONTROLS:
        for value in (f"a{control}X-Evil: 1", f"a@b.example{control}", f"{control}a@b.example", f"a{control}\n x"):
            assert channel.send(with_field(field, value)).verdict == Verdict.FAILED
    assert sink.recorder.records == []


@pytest.mark.parametrize(
    "field",
    [
        *("delivery_id", "session_id", "follow_up_id", "message_type", "message", "reply_url"),
        *("seller.name", "seller.seller_id", "seller.language"),
    ],
)
def test_a_control_character_elsewhere_adds_no_header(make_sink: MakeSink, field: str) -> None:
    sink = make_sink()
    channel = EmailChannel(WRITER, carrier(sink.port))
    for control in CONTROLS:
        value = f"a{control}X-Evil: 1{control}\r\n\r\nX-Evil: 2\n.\nMAIL FROM:<x@y.example>"
        assert channel.send(with_field(field, value)).verdict == Verdict.DELIVERED
    assert len(sink.recorder.taken) == len(CONTROLS)
    for record in sink.recorder.taken:
        assert sorted(record["headers"]) == HEADERS
        assert (record["sender"], record["receiver"]) == ("orders@market.example", "seller@shop.example")


# ---- without a mail server


def test_a_mail_becomes_a_file_with_the_bytes_that_would_be_sent(tmp_path: Path) -> None:
    channel = EmailChannel(WRITER, MailFolder(tmp_path / "data" / "outbox"))
    result = channel.send(NOTE)
    assert result.verdict == Verdict.DELIVERED
    (file,) = (tmp_path / "data" / "outbox").iterdir()
    assert file.name in result.detail
    assert file.read_bytes() == WRITER.write(NOTE).content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_a_mail_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    EmailChannel(WRITER, MailFolder(tmp_path)).send(NOTE)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_repetition_takes_the_place_of_the_file(tmp_path: Path) -> None:
    channel = EmailChannel(WRITER, MailFolder(tmp_path))
    for attempt in (1, 2):
        channel.send(replace(NOTE, attempt=attempt))
    channel.send(replace(NOTE, delivery_id="d-2"))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("delivery_id", ["../../etc/x", "CON", "a/b\\c:d", "x" * 5000, "", ".", "ü\x00"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, delivery_id: str) -> None:
    folder = tmp_path / "outbox"
    assert EmailChannel(WRITER, MailFolder(folder)).send(replace(NOTE, delivery_id=delivery_id)).verdict == "delivered"
    (file,) = tmp_path.rglob("*.eml")
    assert file.parent == folder


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    result = EmailChannel(WRITER, MailFolder(tmp_path / "file")).send(NOTE)
    assert (result.verdict, "could not be written" in result.detail) == (Verdict.RETRY, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- the door


@pytest.mark.parametrize("field", ["name", "email", "webhook_url", "language", "channels"])
def test_a_control_character_does_not_enter_the_directory(processor_client: FlaskClient, field: str) -> None:
    for control in CONTROLS:
        for value in (f"a{control}b@x.example", f"https://x.example/{control}", f"en{control}"):
            body = {field: [value] if field == "channels" else value}
            answer = processor_client.put("/api/v1/sellers/seller1", json=body)
            assert answer.status_code == 422, (field, value)
    assert processor_client.get("/api/v1/sellers").get_json()["sellers"] == []


def test_a_control_character_does_not_enter_by_an_order(requestor_client: FlaskClient) -> None:
    order = {"order_req_id": "A1", "session_id": "s1", "notification_type": "email", "audience": ["seller1"]}
    for control in CONTROLS:
        for field in ("order_req_id", "session_id", "notification_type", "audience"):
            value = f"a{control}X-Evil: 1"
            body = {**order, field: [value] if field == "audience" else value}
            assert requestor_client.post("/api/v1/orders/initiate", json=body).status_code == 422
    assert requestor_client.get("/api/v1/orders").get_json()["orders"] == []
