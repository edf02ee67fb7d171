from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest

from processor_app.delivery.channel import Parcel, Seller
from processor_app.delivery.mail_message import Mailbox, MailRefused, MailWriter, mailbox
from processor_app.phrases import LANGUAGES
from service_kit.tracing import begin_trace, next_span

SELLER = Seller("seller1", name="Müller & <Sons>", email="seller@shop.example")
REPLY_URL = "http://127.0.0.1:8005/reply/" + "Ab-_.9" * 60
NOTE = Parcel(
    delivery_id="d-1",
    kind="follow_up",
    order_req_id="TEST001",
    session_id="sess_1",
    seller=SELLER,
    created_ms=1_795_435_200_123,
    attempt=1,
    reply_url=REPLY_URL,
    follow_up_id="n1",
    message="Grüße 👋\n\nFrom here\n.\n<b>bold</b> = & {{ 7*7 }}\u2028end",
    urls=('https://example.com/?a=1&b="2"', "https://example.com/" + "x" * 1500),
)
ORDER = replace(NOTE, kind="order", delivery_id="d-0", follow_up_id="", message="", urls=(), details={"a_b": {"c": 1}})
WRITER = MailWriter(Mailbox("orders@market.example", "Orders"))
HEADERS = [
    "From",
    "Date",
    "To",
    "Subject",
    "Message-ID",
    "References",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
]


def parsed(parcel: Parcel, writer: MailWriter = WRITER) -> EmailMessage:
    message = email.message_from_bytes(writer.write(parcel).content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def text_of(parcel: Parcel) -> str:
    body = parsed(parcel).get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text


def html_of(parcel: Parcel) -> str:
    body = parsed(parcel).get_body(("html",))
    assert body is not None
    html: str = body.get_content()
    return html


class Page(HTMLParser):
    """The text and the links of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.text += "\n" if tag == "br" else ""
        self.links += [value for name, value in attrs if (tag, name) == ("a", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_mail_names_the_call_and_the_trace_that_it_comes_from_and_stays_the_same_at_every_attempt():
    origin = begin_trace(None, "call-1")
    mail = parsed(replace(ORDER, origin=origin))
    assert (mail["X-Request-ID"], mail["X-Trace-ID"]) == ("call-1", origin.trace_id)
    again = replace(ORDER, origin=next_span(origin), attempt=7)
    assert WRITER.write(again).content == WRITER.write(replace(ORDER, origin=origin)).content


def test_a_mail_has_a_text_and_an_html_part() -> None:
    message = parsed(NOTE)
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_the_head_has_our_headers_and_no_others() -> None:
    assert sorted(parsed(ORDER).keys()) == sorted(HEADERS)
    assert sorted(parsed(NOTE).keys()) == sorted([*HEADERS, "In-Reply-To"])
    message = parsed(NOTE)
    assert (message["From"], message["To"]) == ("Orders <orders@market.example>", "seller@shop.example")
    assert (message["Date"], message["Auto-Submitted"]) == ("Mon, 23 Nov 2026 12:00:00 +0000", "auto-generated")


def test_every_attempt_carries_the_same_bytes() -> None:
    assert WRITER.write(NOTE) == WRITER.write(replace(NOTE, attempt=7))


def test_each_delivery_has_a_message_id_of_its_own_at_the_senders_domain() -> None:
    ids = {parsed(replace(NOTE, delivery_id=delivery_id))["Message-ID"] for delivery_id in ("d-1", "d-2", "D-1")}
    assert len(ids) == 3
    assert all(re.fullmatch(r"<delivery-[0-9a-f]{40}@market\.example>", message_id) for message_id in ids)


def test_an_order_is_one_conversation_for_each_seller() -> None:
    order, note, later = parsed(ORDER), parsed(NOTE), parsed(replace(NOTE, delivery_id="d-2", follow_up_id="n2"))
    assert (order["Subject"], note["Subject"], later["Subject"]) == (
        "Order TEST001",
        "Re: Order TEST001",
        "Re: Order TEST001",
    )
    assert order["References"] == note["References"] == later["References"] == note["In-Reply-To"]
    assert order["In-Reply-To"] is None
    others = [replace(NOTE, order_req_id="B"), replace(NOTE, seller=replace(SELLER, seller_id="seller2"))]
    assert order["References"] not in [parsed(other)["References"] for other in others]


def test_long_ids_and_domains_stay_readable() -> None:
    writer = MailWriter(Mailbox("o@" + ".".join(["d" * 60] * 4), "Größe " * 10))
    message = parsed(replace(NOTE, order_req_id="X" * 128, session_id="Y" * 128, delivery_id="Z" * 128), writer)
    assert message["Subject"] == "Re: Order " + "X" * 128
    assert re.fullmatch(r"<order-[0-9a-f]{40}@[d.]{243}>", message["References"])
    assert message["In-Reply-To"] == message["References"]
    raw = writer.write(NOTE).content
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


def test_the_text_part_says_everything() -> None:
    text = text_of(NOTE)
    expected = (
        "Hello Müller & <Sons>,",
        "Order: TEST001",
        "Session: sess_1",
        "> Grüße 👋",
        "> .",
        "> <b>bold</b> = & {{ 7*7 }}",
        *NOTE.urls,
    )
    for line in (*expected, REPLY_URL):
        assert line in text
    assert "- a b › c: 1" in text_of(ORDER)


def test_the_html_part_says_everything_and_runs_nothing() -> None:
    page = Page(html_of(NOTE))
    for line in ("Müller & <Sons>", "TEST001", "sess_1", "Grüße 👋", "<b>bold</b> = & {{ 7*7 }}", "end"):
        assert line in page.text
    assert page.links == [*NOTE.urls, REPLY_URL, REPLY_URL]
    assert not page.tags & {"b", "script", "img", "link", "iframe", "form"}


def test_the_button_leads_to_the_reply_page_and_is_the_only_one() -> None:
    html = html_of(NOTE)
    assert html.count('class="button"') == 1
    assert html.index('class="button"') < html.index(REPLY_URL)


def test_details_are_rows() -> None:
    page = Page(html_of(ORDER))
    assert "a b › c" in page.text


@pytest.mark.parametrize("parcel", [ORDER, NOTE])
def test_a_mail_without_a_reply_link_has_no_button(parcel: Parcel) -> None:
    html = html_of(replace(parcel, reply_url=""))
    assert 'class="button"' not in html
    assert LANGUAGES["en"]["mail_keep_secret"] not in html


@pytest.mark.parametrize(
    ("language", "subject", "button"),
    [
        ("de", "Bestellung TEST001", "Bestellung beantworten"),
        ("de-AT", "Bestellung TEST001", "Bestellung beantworten"),
        ("en", "Order TEST001", "Answer this order"),
        ("xx", "Order TEST001", "Answer this order"),
        ("", "Order TEST001", "Answer this order"),
    ],
)
def test_a_seller_is_spoken_to_in_a_language_that_we_know(language: str, subject: str, button: str) -> None:
    parcel = replace(ORDER, seller=replace(SELLER, language=language))
    assert parsed(parcel)["Subject"] == subject
    assert button in html_of(parcel)


def test_every_language_has_every_phrase_with_the_same_places() -> None:
    def places(phrases: object) -> dict[str, list[str]]:
        assert isinstance(phrases, dict)
        return {key: sorted(re.findall(r"\{(\w+)\}", phrase)) for key, phrase in phrases.items()}

    for phrases in LANGUAGES.values():
        assert places(phrases) == places(LANGUAGES["en"])


def test_no_text_can_look_like_the_boundary() -> None:
    boundary = WRITER.write(NOTE).content.split(b'boundary="')[1].split(b'"')[0].decode()
    message = f"a\n--{boundary}\nContent-Type: text/html\n\n<p>forged</p>\n--{boundary}--\nb"
    parts = list(parsed(replace(NOTE, message=message)).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert f"> --{boundary}--" in text_of(replace(NOTE, message=message))


@pytest.mark.parametrize(
    "message", ["a\rb", "a\r\nb", "a\x0bb", "a\x85b", ".\n..\nQUIT\n.", "x" * 10_000, "é" * 10_000]
)
def test_the_wire_has_short_lines_and_no_bare_line_ends(message: str) -> None:
    content = WRITER.write(replace(NOTE, message=message)).content
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(len(line) for line in content.split(b"\r\n")) < 200
    assert content.isascii()


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "seller",
            "@shop.example",
            "seller@",
            "a b@shop.example",
            "a@b@c.example",
            "a@shop.example,b@shop.example",
        ),
        *("Seller <seller@shop.example>", '"a b"@shop.example', "a@[127.0.0.1]", "ü@shop.example", "a@shöp.example"),
        *("a@-b.example", "a@b..example", ".a@b.example", "a.@b.example", "a@b.example.", "x" * 65 + "@b.example"),
        *("a@" + "b." * 130 + "example", "a@b.example>", "<a@b.example", "a@b.example;", "a(c)@b.example"),
    ],
)
def test_what_is_no_plain_address_gets_no_mail(address: str) -> None:
    with pytest.raises(MailRefused):
        WRITER.write(replace(NOTE, seller=replace(SELLER, email=address)))


@pytest.mark.parametrize(
    "address", ["a@b", "a.b+c@b-c.example", "o'neil@x.example", "x" * 64 + "@b.example", "A_1%@B.EXAMPLE"]
)
def test_a_plain_address_gets_mail(address: str) -> None:
    assert WRITER.write(replace(NOTE, seller=replace(SELLER, email=address))).receiver == address


def test_a_mailbox_is_read_with_or_without_a_name() -> None:
    read = mailbox().read
    assert read("orders@localhost") == Mailbox("orders@localhost")
    assert read("Größe & Co <o@x.example>") == Mailbox("o@x.example", "Größe & Co")
    assert str(read("Orders <o@x.example>")) == "Orders <o@x.example>"
    for wrong in (
        "orders",
        "<o@x.example>",
        "a <b> <o@x.example>",
        "a\u2028b <o@x.example>",
        "o@x.example, p@x.example",
    ):
        with pytest.raises(ValueError, match=r".*"):
            read(wrong)
