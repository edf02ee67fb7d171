from __future__ import annotations

import email
import email.policy
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from processor_app.bootstrap import Processor, create_app
from processor_app.domain import Close, FollowUp, OpenStream, OrderState
from processor_app.phrases import LANGUAGES
from processor_app.replies.desk import MAX_MESSAGE, MAX_MESSAGES
from processor_app.replies.links import ReplyLink
from processor_app.settings import ProcessorSettings
from service_kit.change import Ref
from service_kit.errors import StoreFull, StoreUnavailable
from service_kit.times import now_ms
from tests.e2e.conftest import eventually

SECRET = "s" * 40
EN = LANGUAGES["en"]
REF = Ref("default", "A1")
ORDER_LINK = ReplyLink(REF, 1, "seller1")
NOTE_LINK = replace(ORDER_LINK, follow_up_id="n1")
CANARY = "<script>alert('CANARY')</script>"


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[Processor]:
    """A processor with one live order that has one note; only its store is started."""
    settings = ProcessorSettings(store=f"sqlite:///{tmp_path / 'processor.db'}", port=0, link_secret=SECRET)
    parts: Processor = create_app(settings).extensions["processor"]
    parts.store.start()
    open_run(parts, 1)
    note = FollowUp(REF, "n1", 1, ("seller1",), "text", f"Please hurry {CANARY}", ("https://example.com/?a&b",), 5)
    parts.orders.take_one(note)
    yield parts
    parts.store.stop()


@pytest.fixture
def client(processor: Processor) -> FlaskClient:
    return processor.app.test_client()


def open_run(processor: Processor, run: int) -> None:
    details = {"item": f"chair {CANARY}", "to": {"city": "Köln"}}
    wish = OpenStream(REF, "sess_1", "none", ("seller1",), details, token=run, stream_id="s", resume_after=0, run=run)
    processor.orders.take_one(wish)


def path_of(processor: Processor, link: ReplyLink = ORDER_LINK, issued_ms: int | None = None) -> str:
    links = processor.app.extensions["reply_desk"]._links
    url: str = links.url_of(link, now_ms() if issued_ms is None else issued_ms)
    return url.removeprefix("http://127.0.0.1:8005")


def post(client: FlaskClient, path: str, answer: str, message: str = "", number: str = "1") -> TestResponse:
    return client.post(path, data={"answer": answer, "message": message, "number": number})


def replies(processor: Processor) -> list[dict[str, Any]]:
    entries = processor.orders.events(REF, after=0, limit=1000)
    return [dict(entry.body) for entry in entries if entry.kind == "seller_replied"]


def assert_page(answer: TestResponse, status: int, phrase: str) -> str:
    """An HTML page with a heading that says the phrase, and with every guard in its head."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "text/html; charset=utf-8"
    assert f"<h1>{phrase}</h1>" in answer.text or f">{phrase}</p>" in answer.text
    assert "CANARY')</script" not in answer.text
    (nonce,) = re.findall(r'<style nonce="([^"]+)">', answer.text)
    assert answer.headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "noindex" in answer.headers["X-Robots-Tag"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    assert "style=" not in answer.text
    assert not re.search(r"<script|\son\w+=|javascript:", answer.text)
    return answer.text


# ---- what a link shows


def test_a_link_shows_the_order(client: FlaskClient, processor: Processor) -> None:
    page = assert_page(client.get(path_of(processor)), 200, "Order A1")
    for text in (
        EN["new_order"],
        "sess_1",
        "chair &lt;script&gt;",
        "to › city",
        "Köln",
        EN["accept"],
        EN["write_back"],
    ):
        assert text in page
    assert "Please hurry" not in page


def test_a_link_to_a_note_shows_the_note(client: FlaskClient, processor: Processor) -> None:
    page = assert_page(client.get(path_of(processor, NOTE_LINK)), 200, "Order A1")
    for text in (EN["new_note"], "Please hurry &lt;script&gt;", 'href="https://example.com/?a&amp;b"'):
        assert text in page
    assert "chair" not in page


def test_looking_changes_nothing(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    before = processor.orders.get(REF)
    for method in ("GET", "HEAD", "OPTIONS", "GET"):
        assert client.open(path, method=method).status_code == 200
    assert client.get(f"{path}?answer=accepted&message=x&sent").status_code == 200
    assert processor.orders.get(REF) == before
    assert replies(processor) == []


def test_the_page_speaks_the_browsers_language(client: FlaskClient, processor: Processor) -> None:
    for wish, language in (("de-AT,de;q=0.9,en;q=0.5", "de"), ("fr, en;q=0.5", "en"), ("zz", "en"), ("", "en")):
        page = client.get(path_of(processor), headers={"Accept-Language": wish}).text
        assert f'<html lang="{language}">' in page
        assert LANGUAGES[language]["write_back"] in page


# ---- answers


@pytest.mark.parametrize("answer", ["accepted", "declined"])
@pytest.mark.parametrize("link", [ORDER_LINK, NOTE_LINK])
def test_an_answer_is_one_event(client: FlaskClient, processor: Processor, link: ReplyLink, answer: str) -> None:
    path = path_of(processor, link)
    posted = post(client, path, answer, "On its way\r\nsoon")
    assert (posted.status_code, posted.headers["Location"]) == (303, "?sent")
    assert_page(client.get(f"{path}?sent"), 200, EN[f"sent_{answer}"])
    (reply,) = replies(processor)
    assert (reply["seller_id"], reply["answer"], reply["message"]) == ("seller1", answer, "On its way\nsoon")
    assert reply["follow_up_id"] == link.follow_up_id


def test_the_same_post_again_has_no_second_effect(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    for _ in range(3):
        assert post(client, path, "accepted", "yes").status_code == 303
    # Another mail to the same seller, by another channel, leads to the same case.
    again = path_of(processor, replace(ORDER_LINK, delivery_id="d-2"))
    assert post(client, again, "accepted", "yes").status_code == 303
    assert len(replies(processor)) == 1


@pytest.mark.parametrize(("answer", "message"), [("declined", ""), ("accepted", "other"), ("message", "more")])
def test_a_used_link_takes_nothing_more(client: FlaskClient, processor: Processor, answer: str, message: str) -> None:
    path = path_of(processor)
    post(client, path, "accepted", "first")
    assert_page(post(client, path, answer, message), 409, EN["used_accepted"])
    page = assert_page(client.get(path), 409, EN["used_accepted"])
    assert "first" in page
    assert "<form" not in page
    assert [reply["message"] for reply in replies(processor)] == ["first"]


def test_of_answers_at_the_same_time_one_is_taken(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    statuses: list[int] = []

    def answer(number: int) -> None:
        own = processor.app.test_client()
        statuses.append(post(own, path, ("accepted", "declined")[number % 2], str(number)).status_code)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [303] + [409] * 15
    assert len(replies(processor)) == 1


def test_other_sellers_and_notes_have_answers_of_their_own(client: FlaskClient, processor: Processor) -> None:
    for link in (ORDER_LINK, NOTE_LINK, replace(ORDER_LINK, seller_id="seller2")):
        assert post(client, path_of(processor, link), "accepted").status_code == 303
    assert len(replies(processor)) == 3


# ---- messages


def test_a_message_is_an_event_and_leaves_the_link_open(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    assert post(client, path, "message", f"Which colour? {CANARY}").status_code == 303
    page = assert_page(client.get(f"{path}?sent"), 200, EN["sent_message"])
    assert "Which colour? &lt;script&gt;" in page
    assert 'name="number" value="2"' in page
    assert post(client, path, "accepted").status_code == 303
    assert [(reply["answer"], reply["message"]) for reply in replies(processor)] == [
        ("message", f"Which colour? {CANARY}"),
        ("accepted", ""),
    ]


def test_the_same_form_again_is_one_message_and_a_new_form_another(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    for number in ("1", "1", "2"):
        assert post(client, path, "message", "Any news?", number).status_code == 303
    assert [reply["message"] for reply in replies(processor)] == ["Any news?"] * 2


def test_a_message_that_another_one_overtook_can_be_sent_again(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    post(client, path, "message", "first")
    page = assert_page(post(client, path, "message", "second"), 409, EN["fault_crossed"])
    assert "\nsecond</textarea>" in page
    assert 'name="number" value="2"' in page
    assert post(client, path, "message", "second", "2").status_code == 303


def test_a_link_takes_a_few_messages_and_then_an_answer(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    for number in range(1, MAX_MESSAGES + 1):
        assert post(client, path, "message", f"message {number}", str(number)).status_code == 303
    page = assert_page(client.get(path), 200, "Order A1")
    assert EN["no_more_messages"].format(most=MAX_MESSAGES) in page
    assert 'value="message"' not in page
    assert post(client, path, "message", "more", str(MAX_MESSAGES + 1)).status_code == 422
    assert post(client, path, "declined").status_code == 303
    assert len(replies(processor)) == MAX_MESSAGES + 1


@pytest.mark.parametrize(
    ("form", "phrase"),
    [
        (("", "x", "1"), "fault_choice"),
        (("completed", "x", "1"), "fault_choice"),
        (("ACCEPTED", "x", "1"), "fault_choice"),
        (("message", "", "1"), "fault_empty"),
        (("message", " \r\n\t ", "1"), "fault_empty"),
        (("message", "x", ""), "fault_choice"),
        (("message", "x", "0"), "fault_choice"),
        (("message", "x", "99"), "fault_choice"),
        (("message", "x", "1e0"), "fault_choice"),
        (("message", "x", "٣"), "fault_choice"),
        (("message", "x" * (MAX_MESSAGE + 1), "1"), "fault_long"),
        (("accepted", "x" * (MAX_MESSAGE + 1), "1"), "fault_long"),
        (("message", "a\x00b", "1"), "fault_characters"),
        (("accepted", "a\x1bb", "1"), "fault_characters"),
    ],
)
def test_a_form_with_a_fault_comes_back_as_it_was(
    client: FlaskClient, processor: Processor, form: tuple[str, str, str], phrase: str
) -> None:
    page = assert_page(post(client, path_of(processor), *form), 422, EN[phrase].format(most=MAX_MESSAGE))
    assert 'aria-invalid="true"' in page
    assert f"\n{form[1][:MAX_MESSAGE]}</textarea>".replace("\r", "") in page.replace("\r", "")
    assert replies(processor) == []


def test_the_longest_message_fits(client: FlaskClient, processor: Processor) -> None:
    assert post(client, path_of(processor), "message", "€" * MAX_MESSAGE).status_code == 303
    assert replies(processor)[0]["message"] == "€" * MAX_MESSAGE


def test_markup_in_a_draft_stays_text(client: FlaskClient, processor: Processor) -> None:
    page = post(client, path_of(processor), "", "</textarea><script>CANARY')</script>").text
    assert "&lt;/textarea&gt;&lt;script&gt;" in page


# ---- links that are good for nothing any more


def test_an_expired_link_says_so(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor, issued_ms=now_ms() - 31 * 86_400_000)
    assert_page(client.get(path), 410, EN["expired"])
    assert_page(post(client, path, "accepted"), 410, EN["expired"])
    assert replies(processor) == []


def test_a_changed_or_cut_link_says_so(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    other = path_of(processor, replace(ORDER_LINK, seller_id="seller2"))
    mixed = f"{other.partition('.')[0]}.{path.partition('.')[2]}"
    for changed in (
        path[:-1],
        path[:40],
        path + "x",
        path + "/x",
        mixed,
        "/reply/",
        "/reply/%00",
        "/reply/ü",
        "/reply//",
    ):
        assert_page(client.get(changed), 400, EN["invalid"])
        if changed not in ("/reply/", "/reply//"):
            assert_page(post(client, changed, "accepted"), 400, EN["invalid"])
    assert replies(processor) == []


def test_a_link_to_an_order_that_is_gone_says_so(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor, replace(ORDER_LINK, ref=Ref("default", "gone")))
    assert_page(client.get(path), 404, EN["unknown"])
    assert_page(post(client, path, "accepted"), 404, EN["unknown"])


@pytest.mark.parametrize(
    ("end", "phrase"), [(OrderState.COMPLETED, "finished_completed"), (OrderState.CANCELLED, "finished_cancelled")]
)
def test_a_link_to_a_finished_order_says_so(
    client: FlaskClient, processor: Processor, end: OrderState, phrase: str
) -> None:
    path = path_of(processor)
    processor.orders.take_one(Close(REF, end, by="buyer", token=1))
    assert_page(client.get(path), 409, EN[phrase])
    for answer in ("accepted", "message"):
        assert_page(post(client, path, answer, "x"), 409, EN[phrase])
    assert replies(processor) == []


def test_a_link_of_an_earlier_run_does_not_answer_the_present_one(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    processor.orders.take_one(Close(REF, OrderState.COMPLETED, by="buyer", token=1))
    open_run(processor, 2)
    assert_page(client.get(path), 409, EN["finished_live"])
    assert_page(post(client, path, "accepted"), 409, EN["finished_live"])
    assert replies(processor) == []
    assert post(client, path_of(processor, replace(ORDER_LINK, run=2)), "accepted").status_code == 303


def test_a_pruned_order_still_says_how_it_ended(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    post(client, path, "accepted")
    processor.orders.take_one(Close(REF, OrderState.CANCELLED, by="buyer", token=1))
    time.sleep(0.01)
    assert processor.orders.prune(0, 100) == 1
    assert_page(client.get(path), 409, EN["finished_cancelled"])


def test_an_answer_that_was_taken_is_thanked_for_even_after_the_end(client: FlaskClient, processor: Processor) -> None:
    path = path_of(processor)
    post(client, path, "accepted")
    processor.orders.take_one(Close(REF, OrderState.COMPLETED, by="buyer", token=1))
    assert post(client, path, "accepted").status_code == 303
    assert_page(client.get(f"{path}?sent"), 200, EN["sent_accepted"])


# ---- what else may go wrong


def test_a_form_that_is_too_large_is_refused(client: FlaskClient, processor: Processor) -> None:
    assert_page(post(client, path_of(processor), "accepted", "x" * 70_000), 413, EN["too_large"])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (b'{"answer": "accepted"}', "application/json"),
        (b"\xff\xfe=\x00&answer", "application/x-www-form-urlencoded"),
        (b"answer=accepted", "text/plain"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"nothing", "multipart/form-data"),
        (b"answer=" + b"&a=1" * 5000, "application/x-www-form-urlencoded"),
    ],
)
def test_no_input_is_a_server_error(client: FlaskClient, processor: Processor, body: bytes, content_type: str) -> None:
    answer = client.post(path_of(processor), data=body, content_type=content_type)
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.status_code in (400, 413, 422)
    assert replies(processor) == []


@pytest.mark.parametrize("error", [StoreUnavailable(), StoreFull()])
def test_a_store_that_fails_is_said_to_in_words(
    client: FlaskClient, processor: Processor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    path = path_of(processor)
    monkeypatch.setattr(processor.orders, "reply", fail)
    assert_page(post(client, path, "accepted"), 503, EN["unavailable"])


def test_an_unexpected_error_tells_nothing(
    client: FlaskClient, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(processor.orders, "reply", fail)
    assert "secret detail" not in assert_page(post(client, path_of(processor), "accepted"), 500, EN["unavailable"])


def test_the_link_of_a_delivery_that_waited_lives_from_its_release(tmp_path: Path) -> None:
    settings = ProcessorSettings(store=f"sqlite:///{tmp_path / 'waiting.db'}", port=0, grpc_port=0, reply_link_s=3.0)
    parts: Processor = create_app(settings).extensions["processor"]
    parts.lifecycle.start()
    try:
        client = parts.app.test_client()
        parts.orders.take_one(OpenStream(REF, "sess_1", "email", ("late",), None, 1, "s", 0, 1))
        time.sleep(3.1)
        assert client.put("/api/v1/sellers/late", json={"email": "late@shop.example"}).status_code == 200
        (mail,) = eventually(lambda: list((tmp_path / "outbox").glob("*.eml")), what="the mail")
        text = email.message_from_bytes(mail.read_bytes(), policy=email.policy.default).get_body(("plain",))
        assert text is not None
        (path,) = re.findall(r"^http://127\.0\.0\.1:8005(/reply/\S+)", text.get_content(), re.MULTILINE)
        assert_page(client.get(path), 200, "Order A1")
    finally:
        parts.lifecycle.stop()
