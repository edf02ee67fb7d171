from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from processor_app.delivery.channel import Parcel, Seller, Verdict
from processor_app.delivery.deadline import Address, BoundTlsContext
from processor_app.delivery.webhook import WebhookChannel
from processor_app.delivery.webhook_signing import new_secret
from service_kit.times import rfc3339
from tests.sinks.behaviour import Behaviour, Shares
from tests.sinks.scripted import Script, ScriptedServer, answering, silent
from tests.sinks.webhook import WebhookSink

MakeServer: TypeAlias = Callable[[Script], ScriptedServer]

LOOPBACK = (ip_network("127.0.0.0/8"),)
SELLER = Seller("seller1", webhook_secrets=(new_secret(), new_secret()))
NOTE = Parcel(
    delivery_id="d-1",
    kind="follow_up",
    order_req_id="A1",
    session_id="s1",
    seller=SELLER,
    created_ms=1_790_000_000_123,
    attempt=1,
    reply_url="http://127.0.0.1:8005/reply/x",
    follow_up_id="n1",
    message='Grüße 👋\n"quoted" \u2028',
    urls=("https://example.com/a?b=c",),
)
ORDER = replace(NOTE, kind="order", follow_up_id="", message="", urls=(), details={"size": {"w": 1.5}, "é": None})


def to(url: str, parcel: Parcel = NOTE) -> Parcel:
    return replace(parcel, seller=replace(parcel.seller, webhook_url=url))


@pytest.fixture
def sink() -> Iterator[WebhookSink]:
    made = WebhookSink()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def channel() -> WebhookChannel:
    return WebhookChannel(LOOPBACK)


# ---- the standard


def verified(record: dict[str, Any], secret: str) -> Any:
    return Webhook(secret).verify(record["body"], record["headers"])


@pytest.mark.parametrize(("parcel", "kind"), [(NOTE, "follow_up.created"), (ORDER, "order.created")])
def test_the_official_verifier_accepts_it_with_each_secret(
    sink: WebhookSink, channel: WebhookChannel, parcel: Parcel, kind: str
) -> None:
    assert channel.send(to(sink.url(), parcel)).verdict == Verdict.DELIVERED
    (record,) = sink.recorder.taken
    for secret in SELLER.webhook_secrets:
        event = verified(record, secret)
        assert (event["type"], event["timestamp"]) == (kind, rfc3339(NOTE.created_ms))
    with pytest.raises(WebhookVerificationError):
        verified(record, new_secret())


def test_a_note_arrives_as_it_was_written(sink: WebhookSink, channel: WebhookChannel) -> None:
    channel.send(to(sink.url()))
    assert sink.recorder.taken[0]["event"]["data"] == {
        "delivery_id": "d-1",
        "order_req_id": "A1",
        "session_id": "s1",
        "seller_id": "seller1",
        "reply_url": "http://127.0.0.1:8005/reply/x",
        "follow_up_id": "n1",
        "message": {"message_type": "text", "message": NOTE.message, "urls": ["https://example.com/a?b=c"]},
    }


def test_an_order_arrives_with_its_details(sink: WebhookSink, channel: WebhookChannel) -> None:
    channel.send(to(sink.url(), ORDER))
    data = sink.recorder.taken[0]["event"]["data"]
    assert data["details"] == {"size": {"w": 1.5}, "é": None}
    assert "message" not in data


def test_a_repetition_has_the_same_id_and_body_and_a_new_timestamp(
    sink: WebhookSink, channel: WebhookChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds in (0, 60):
        now_s = time.time() + seconds
        with monkeypatch.context() as patch:
            patch.setattr("processor_app.delivery.webhook.time.time", lambda now_s=now_s: now_s)
            channel.send(to(sink.url()))
    first, second = sink.recorder.taken
    assert first["id"] == second["id"] == "d-1"
    assert first["body"] == second["body"]
    stamps = [int(record["headers"]["webhook-timestamp"]) for record in (first, second)]
    assert stamps[1] - stamps[0] in (60, 61)
    assert verified(second, SELLER.webhook_secrets[0])


def test_a_request_says_what_it_is(sink: WebhookSink, channel: WebhookChannel) -> None:
    channel.send(to(f"{sink.url()}?a=b%20c&d=ü#part"))
    (record,) = sink.recorder.taken
    assert record["receiver"] == "seller1?a=b%20c&d=%C3%BC"
    assert record["headers"]["Host"] == f"127.0.0.1:{sink.port}"
    assert record["headers"]["Content-Type"] == "application/json"
    assert record["headers"]["User-Agent"].startswith("order-communicator/")


def test_a_seller_without_a_usable_url_has_no_address(channel: WebhookChannel) -> None:
    seller = replace(SELLER, webhook_url="https://example.com/hook")
    assert channel.has_address(seller)
    for missing in ({"webhook_url": ""}, {"webhook_secrets": ()}, {"webhook_disabled": "410"}):
        assert not channel.has_address(replace(seller, **missing))


def test_the_sample_in_the_documentation_works(
    sink: WebhookSink, channel: WebhookChannel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    channel.send(to(sink.url()))
    (record,) = sink.recorder.taken
    monkeypatch.setenv("WEBHOOK_SECRET", SELLER.webhook_secrets[1])
    document = Path(__file__).parents[2] / "docs" / "sellers.md"
    (sample,) = re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "sample"}
    exec(sample, names)  # noqa: S102 - our own document
    receiver = names["app"].test_client()
    own = {name: value for name, value in record["headers"].items() if name.startswith("webhook-")}
    statuses = [
        receiver.post("/orders", data=record["body"], headers=headers).status_code
        for headers in (own, own, {**own, "webhook-id": "d-2"})
    ]
    assert statuses == [204, 204, 401]
    assert capsys.readouterr().out == "follow_up.created A1\n"


# ---- what the receiver answers


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, Verdict.DELIVERED) for status in (200, 201, 202, 204, 299)),
        *((status, Verdict.RETRY) for status in (301, 302, 304, 307, 308, 400, 401, 404, 408, 409, 422, 429, 500, 503)),
        (410, Verdict.GONE),
    ],
)
def test_a_status_decides(make_server: MakeServer, channel: WebhookChannel, status: int, verdict: Verdict) -> None:
    server = make_server(answering(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n".encode()))
    result = channel.send(to(f"http://127.0.0.1:{server.port}/"))
    assert (result.verdict, str(status) in result.detail) == (verdict, True)


@pytest.mark.parametrize("status", [429, 503])
def test_the_receiver_says_when_to_come_back(make_server: MakeServer, channel: WebhookChannel, status: int) -> None:
    head = f"HTTP/1.1 {status} Wait\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n".encode()
    result = channel.send(to(f"http://127.0.0.1:{make_server(answering(head)).port}/"))
    assert (result.verdict, result.retry_after_s) == (Verdict.RETRY, 120)


def test_a_redirect_is_not_followed(make_server: MakeServer, channel: WebhookChannel, sink: WebhookSink) -> None:
    head = f"HTTP/1.1 307 There\r\nLocation: {sink.url()}\r\nContent-Length: 0\r\n\r\n".encode()
    result = channel.send(to(f"http://127.0.0.1:{make_server(answering(head)).port}/"))
    assert (result.verdict, result.detail) == (
        Verdict.RETRY,
        "The receiver answered 307; redirects are not followed.",
    )
    assert sink.recorder.records == []


def test_a_proxy_of_the_environment_is_not_asked(
    sink: WebhookSink, channel: WebhookChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert channel.send(to(sink.url())).verdict == Verdict.DELIVERED


def test_a_sink_that_takes_and_drops_is_told_again_with_the_same_id(channel: WebhookChannel) -> None:
    sink = WebhookSink(Behaviour(Shares(drop=1.0)))
    sink.start()
    try:
        results = [channel.send(to(sink.url())) for _ in range(2)]
    finally:
        sink.stop()
    assert {result.verdict for result in results} == {Verdict.RETRY}
    assert "may have got" in results[0].detail
    assert {record["id"] for record in sink.recorder.taken} == {"d-1"}


# ---- receivers that do harm


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answering(b"not HTTP at all\r\n\r\n"), id="garbage"),
        pytest.param(answering(b""), id="nothing"),
        pytest.param(answering(b"HTTP/1.1 2"), id="half a line"),
        pytest.param(answering(b"HTTP/1.1 abc OK\r\n\r\n"), id="no number"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"), id="200 headers"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000 + b"\r\n\r\n"), id="long header"),
        pytest.param(answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000), id="endless 100 Continue"),
    ],
)
def test_an_answer_that_is_no_http_is_a_failure(
    make_server: MakeServer, channel: WebhookChannel, script: Script
) -> None:
    assert channel.send(to(f"http://127.0.0.1:{make_server(script).port}/")).verdict == Verdict.RETRY


def dribbling(piece: bytes) -> Script:
    return answering(*[piece] * 400, pause_s=0.05)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answering(), id="closes"),
        pytest.param(silent, id="says nothing"),
        pytest.param(dribbling(b"H"), id="dribbles the status line"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n"] * 99, pause_s=0.05), id="dribbles the headers"),
        pytest.param(dribbling(b"HTTP/1.1 100 Continue\r\n\r\n"), id="dribbles 100 Continue"),
    ],
)
def test_the_deadline_holds_however_slowly_the_receiver_answers(make_server: MakeServer, script: Script) -> None:
    server = make_server(script)
    begun = time.monotonic()
    result = WebhookChannel(LOOPBACK, timeout_s=1.0).send(to(f"http://127.0.0.1:{server.port}/"))
    assert result.verdict == Verdict.RETRY
    assert time.monotonic() - begun < 3


def test_the_deadline_holds_for_a_receiver_that_does_not_read(make_server: MakeServer) -> None:
    details = {str(number): "x" * 10_000 for number in range(1000)}
    parcel = to(f"http://127.0.0.1:{make_server(silent).port}/", replace(ORDER, details=details))
    begun = time.monotonic()
    assert WebhookChannel(LOOPBACK, timeout_s=1.0).send(parcel).verdict == Verdict.RETRY
    assert time.monotonic() - begun < 3


def test_the_deadline_holds_for_a_look_up(channel: WebhookChannel) -> None:
    def slow(host: str, port: int) -> list[Address]:
        time.sleep(3)
        return []

    begun = time.monotonic()
    result = WebhookChannel(LOOPBACK, timeout_s=0.5, resolver=slow).send(to("http://slow.example/"))
    assert (result.verdict, result.detail) == (Verdict.RETRY, "The receiver did not answer in time.")
    assert time.monotonic() - begun < 2


def test_the_body_of_an_answer_is_not_waited_for(make_server: MakeServer, channel: WebhookChannel) -> None:
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", *[b"x"] * 100, pause_s=0.1)
    begun = time.monotonic()
    assert channel.send(to(f"http://127.0.0.1:{make_server(script).port}/")).verdict == Verdict.DELIVERED
    assert time.monotonic() - begun < 2


def test_a_refused_connection_is_tried_later(channel: WebhookChannel) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    result = channel.send(to(f"http://127.0.0.1:{port}/"))
    assert (result.verdict, result.detail) == (Verdict.RETRY, "The receiver's host refused the connection.")


def test_the_next_address_is_tried_when_one_refuses(sink: WebhookSink) -> None:
    def two(host: str, port: int) -> list[Address]:
        return [Address(socket.AF_INET, ("127.0.0.2", port)), Address(socket.AF_INET, ("127.0.0.1", port))]

    result = WebhookChannel(LOOPBACK, resolver=two).send(to(f"http://two.example:{sink.port}/seller1"))
    assert result.verdict == Verdict.DELIVERED


def test_a_host_that_is_not_found_is_tried_later() -> None:
    def unknown(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    result = WebhookChannel(LOOPBACK, resolver=unknown).send(to("http://unknown.example/"))
    assert (result.verdict, "cannot be found" in result.detail) == (Verdict.RETRY, True)


@pytest.mark.parametrize("delivery_id", ["d\r\nX-Evil: 1", "d\n", "d\u2028", "ü", ""])
def test_an_id_that_cannot_stand_in_a_header_is_never_sent(
    sink: WebhookSink, channel: WebhookChannel, delivery_id: str
) -> None:
    assert channel.send(to(sink.url(), replace(NOTE, delivery_id=delivery_id))).verdict == Verdict.FAILED
    assert sink.recorder.records == []


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_####", "whsec_" + "A" * 8, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_nothing_is_sent_with_a_bad_secret(sink: WebhookSink, channel: WebhookChannel, secret: str) -> None:
    parcel = replace(NOTE, seller=replace(SELLER, webhook_url=sink.url(), webhook_secrets=(secret,)))
    assert channel.send(parcel).verdict == Verdict.FAILED
    assert sink.recorder.records == []


# ---- TLS


@pytest.fixture
def tls_server(certificate: Path, make_server: MakeServer) -> ScriptedServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    answer = answering(b"HTTP/1.1 204 No Content\r\n\r\n")

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answer(secured)

    return make_server(serve)


def trusting(certificate: Path) -> BoundTlsContext:
    context = BoundTlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    return context


def loopback(host: str, port: int) -> list[Address]:
    return [Address(socket.AF_INET, ("127.0.0.1", port))]


def test_tls_is_checked_against_the_name_while_the_address_is_connected(
    tls_server: ScriptedServer, certificate: Path
) -> None:
    channel = WebhookChannel(LOOPBACK, resolver=loopback, tls_context=trusting(certificate))
    result = channel.send(to(f"https://host.example:{tls_server.port}/"))
    assert result.verdict == Verdict.DELIVERED, result


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_certificate_for_another_name_or_of_nobody_is_refused(
    tls_server: ScriptedServer, certificate: Path, is_trusted: bool
) -> None:
    channel = WebhookChannel(LOOPBACK, resolver=loopback, tls_context=trusting(certificate) if is_trusted else None)
    host = "other.example" if is_trusted else "host.example"
    result = channel.send(to(f"https://{host}:{tls_server.port}/"))
    assert result.verdict == Verdict.RETRY
    assert result.detail.startswith("The receiver's certificate is not valid")


def test_the_deadline_holds_during_the_tls_handshake(make_server: MakeServer) -> None:
    server = make_server(silent)
    begun = time.monotonic()
    channel = WebhookChannel(LOOPBACK, resolver=loopback, timeout_s=0.5)
    assert channel.send(to(f"https://host.example:{server.port}/")).verdict == Verdict.RETRY
    assert time.monotonic() - begun < 2
