from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from processor_app.phrases import LANGUAGES
from tests.conftest import Pair
from tests.e2e.conftest import eventually

EN = LANGUAGES["en"]
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
LONG = "w" * 300

OpenPage: TypeAlias = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages without JavaScript; a page may load nothing but itself."""
    contexts = []

    def make(viewport: dict[str, int] = PHONE, **options: Any) -> Page:
        context = browser.new_context(viewport=viewport, java_script_enabled=False, **options)  # type: ignore[arg-type]
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def mail(running_pair: Pair, tmp_path: Path) -> dict[str, str]:
    """A live order and a note to seller1, and the links of both mails, by subject."""
    put = {"name": "Shop", "email": "seller1@shop.example", "channels": ["email"]}
    assert requests.put(f"{running_pair.processor_url}/sellers/seller1", json=put, timeout=10).ok
    addressed: dict[str, Any] = {"order_req_id": "A1", "audience": ["seller1"]}
    details = {"item": LONG, LONG: "long"}
    order = addressed | {"session_id": "s1", "notification_type": "email", "details": details}
    content = {"message": f"Please hurry {LONG}", "urls": [f"https://example.com/{LONG}"]}
    note = addressed | {"follow_up_id": "n1", "message": content}
    for name, body in (("initiate", order), ("followup", note)):
        assert requests.post(f"{running_pair.requestor_url}/orders/{name}", json=body, timeout=10).ok
    outbox = tmp_path / "outbox"
    eventually(lambda: len(list(outbox.glob("*.eml"))) == 2, what="two mails")
    return dict(link_in(path, running_pair) for path in outbox.glob("*.eml"))


def link_in(path: Path, pair: Pair) -> tuple[str, str]:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body = message.get_body(("plain",))
    assert body is not None
    (link,) = re.findall(r"^http://127\.0\.0\.1:8005(/reply/\S+)", body.get_content(), flags=re.MULTILINE)
    return str(message["Subject"]), f"http://127.0.0.1:{pair.processor.web.port}{link}"


def answers_at_the_buyer(pair: Pair) -> list[tuple[str, str, str]]:
    events = requests.get(f"{pair.requestor_url}/orders/A1/events", timeout=10).json()["events"]
    replies = [event["data"] for event in events if event["kind"] == "seller_replied"]
    return [(reply["answer"], reply["message"], reply["follow_up_id"]) for reply in replies]


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_seller_accepts_by_the_link_in_the_mail(
    open_page: OpenPage, mail: dict[str, str], running_pair: Pair
) -> None:
    page = open_page()
    page.goto(mail["Order A1"])
    page.get_by_label(EN["message_label"]).fill("On its way\nsoon")
    click(page, EN["accept"])
    expect(page.get_by_role("heading", level=1)).to_have_text(EN["sent_accepted"])
    expected = [("accepted", "On its way\nsoon", "")]
    assert eventually(lambda: answers_at_the_buyer(running_pair), what="the reply") == expected
    page.reload()
    page.goto(mail["Order A1"])
    expect(page.get_by_role("heading", level=1)).to_have_text(EN["used_accepted"])
    assert answers_at_the_buyer(running_pair) == expected


def test_a_seller_writes_back_and_then_declines(open_page: OpenPage, mail: dict[str, str], running_pair: Pair) -> None:
    page = open_page()
    page.goto(mail["Re: Order A1"])
    for message in ("Which colour?", "And which size?"):
        page.get_by_label(EN["message_label"]).fill(message)
        click(page, EN["write_back"])
        expect(page.get_by_role("status")).to_have_text(EN["sent_message"])
        expect(page.get_by_text(message)).to_be_visible()
    click(page, EN["decline"])
    expect(page.get_by_role("heading", level=1)).to_have_text(EN["sent_declined"])
    eventually(lambda: len(answers_at_the_buyer(running_pair)) == 3, what="three replies")
    assert answers_at_the_buyer(running_pair) == [
        ("message", "Which colour?", "n1"),
        ("message", "And which size?", "n1"),
        ("declined", "", "n1"),
    ]


def test_a_second_click_and_the_way_back_have_no_second_effect(
    open_page: OpenPage, mail: dict[str, str], running_pair: Pair
) -> None:
    page = open_page()
    page.goto(mail["Order A1"])
    page.get_by_role("button", name=EN["accept"], exact=True).dblclick()
    expect(page.get_by_role("heading", level=1)).to_have_text(EN["sent_accepted"])
    page.go_back()
    assert eventually(lambda: answers_at_the_buyer(running_pair), what="the reply") == [("accepted", "", "")]


def test_an_empty_message_is_said_to_be_empty(open_page: OpenPage, mail: dict[str, str]) -> None:
    page = open_page()
    page.goto(mail["Order A1"])
    click(page, EN["write_back"])
    expect(page.get_by_role("alert")).to_have_text(EN["fault_empty"])
    expect(page.get_by_label(EN["message_label"])).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize("viewport", [{"width": 320, "height": 568}, PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_has_a_horizontal_scroll_bar(
    browser: Browser, mail: dict[str, str], viewport: dict[str, int], scheme: Any
) -> None:
    # The width of the page is asked for by a script, which the page's own policy does not hold back.
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    for link in (*mail.values(), mail["Order A1"] + "x"):
        page.goto(link)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], link
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser: Browser, mail: dict[str, str], scheme: Any) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(mail["Re: Order A1"])
    click(page, EN["write_back"])
    contrasts: dict[str, float] = page.evaluate(_CONTRASTS)
    assert len(contrasts) > 8
    assert {what: ratio for what, ratio in contrasts.items() if ratio < 4.5} == {}
    context.close()


def test_the_form_can_be_used_by_keyboard(open_page: OpenPage, mail: dict[str, str]) -> None:
    page = open_page()
    page.goto(mail["Order A1"])
    focused = []
    for _ in range(4):
        page.keyboard.press("Tab")
        focused.append(page.locator(":focus").first.text_content())
    assert [text and text.strip() for text in focused] == ["", EN["accept"], EN["decline"], EN["write_back"]]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(EN["sent_declined"])


def test_the_page_loads_nothing_but_itself(open_page: OpenPage, mail: dict[str, str]) -> None:
    page = open_page()
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(mail["Order A1"])
    assert loaded == [mail["Order A1"]]


#: Of every element with a text of its own: the contrast (WCAG 2) between its colour and the nearest background.
_CONTRASTS = """() => {
  const parse = (c) => c.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(light).sort((x, y) => y - x);
    const name = `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 20)}`;
    found[name] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""
