"""The operator page in a browser: an operator's day, and what makes the page fit for one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect

from tests.browser.axe import serious_findings
from tests.conftest import Pair, make_processor, make_requestor
from tests.e2e.conftest import eventually
from tests.sinks.behaviour import Behaviour, Shares
from tests.sinks.webhook import WebhookSink

PHONE = {"width": 320, "height": 640}
DESKTOP = {"width": 1280, "height": 800}
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
LONG = "w" * 128
#: Polls come every two seconds.
SOON_MS = 8_000

OpenPage: TypeAlias = Callable[..., Page]


class Market(NamedTuple):
    """Both services, and a seller's webhook whose behaviour the test chooses."""

    pair: Pair
    webhook: Behaviour

    @property
    def requestor(self) -> str:
        return self.pair.requestor_url.removesuffix("/api/v1")

    @property
    def processor(self) -> str:
        return self.pair.processor_url.removesuffix("/api/v1")

    def initiate(self, key: str, *audience: str, channel: str = "webhook", **other: Any) -> None:
        order = {"order_req_id": key, "session_id": "s1", "notification_type": channel, "audience": list(audience)}
        submit("POST", f"{self.pair.requestor_url}/orders/initiate", order | other)

    def deliveries(self, key: str) -> list[str]:
        """The states of an order's deliveries, as the buyer sees them."""
        order = requests.get(f"{self.pair.requestor_url}/orders/{key}", timeout=10).json()
        return [delivery["state"] for delivery in order["deliveries"]]

    def pages(self, key: str) -> list[str]:
        """Every kind of page."""
        return [
            f"{self.requestor}/",
            f"{self.requestor}/console/order?id={key}",
            f"{self.processor}/",
            f"{self.processor}/console/order?id={key}",
            f"{self.processor}/console/deliveries?seller_id={key}",
            f"{self.processor}/console/deliveries",
            f"{self.processor}/console/sellers",
        ]


def submit(method: str, url: str, body: dict[str, Any]) -> None:
    answer = requests.request(method, url, json=body, timeout=10)
    assert answer.ok, answer.text


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """Both services, a seller whose webhook takes nothing, and one with a mail address."""
    webhook = Behaviour(Shares(error=1.0))
    sink = WebhookSink(webhook)
    sink.start()
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    processor = make_processor(tmp_path, retry_schedule_s=(0.1, 0.1), webhook_allow_networks=networks)
    processor.lifecycle.start()
    requestor = make_requestor(tmp_path, f"127.0.0.1:{processor.grpc_server.port}")
    requestor.lifecycle.start()
    made = Market(Pair(requestor, processor), webhook)
    submit("PUT", f"{made.pair.processor_url}/sellers/hook-seller", {"webhook_url": sink.url("hook-seller")})
    submit("PUT", f"{made.pair.processor_url}/sellers/mail-seller", {"email": "mail@example.com"})
    yield made
    requestor.lifecycle.stop()
    processor.lifecycle.stop()
    sink.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages that may load nothing from elsewhere, and in which no script may fail."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def make(url: str, viewport: dict[str, int] = DESKTOP, **options: Any) -> Page:
        context = browser.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda sent: faults.append(f"{page.url} asked {sent.url}") if is_stray(sent, page) else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda said: faults.append(said.text) if said.type == "error" and "Content Security" in said.text else None,
        )
        go(page, url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def is_stray(sent: Request, page: Page) -> bool:
    """Whether a page asks somebody else; to go to another page is no asking."""
    return not sent.is_navigation_request() and urlsplit(sent.url).netloc != urlsplit(page.url).netloc


def go(page: Page, url: str) -> None:
    """Open a page and wait for its first data."""
    page.goto(url)
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live", timeout=SOON_MS)


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def field(page: Page, label: str) -> Locator:
    """A field of the dialog that is open."""
    return page.get_by_role("dialog").get_by_label(label)


# ---- an operator's day


def test_an_order_is_seen_to_come_and_is_followed_up_repaired_and_completed(
    open_page: OpenPage, market: Market
) -> None:
    page = open_page(f"{market.requestor}/")
    expect(page.get_by_text("No orders yet.")).to_be_visible()
    page.evaluate("window.loadedOnce = true")

    market.initiate("A1", "hook-seller")
    expect(row(page, "A1")).to_contain_text("open", timeout=SOON_MS)
    expect(page.locator("[data-now='orders.live']")).to_have_text("1", timeout=SOON_MS)
    assert page.evaluate("window.loadedOnce"), "the page was loaded again"

    page.get_by_role("link", name="A1", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("A1")
    deliveries = page.locator("[data-table='deliveries']")
    expect(deliveries.get_by_role("row").nth(1)).to_contain_text("dead", timeout=SOON_MS)
    expect(deliveries).to_contain_text("500")

    button(page, "Follow up").click()
    expect(field(page, "To")).to_have_value("hook-seller")
    field(page, "Message").fill("Could it come a day earlier?")
    button(page, "Send the follow-up").click()
    expect(page.get_by_role("status").filter(has_text="is kept")).to_be_visible()
    expect(page.locator("[data-table='notes']")).to_contain_text("Could it come a day earlier?", timeout=SOON_MS)
    expect(deliveries.get_by_text("dead")).to_have_count(2, timeout=SOON_MS)

    market.webhook.shares = Shares(refuse=1.0)  # at once, so that no poll sees it alive
    go(page, f"{market.processor}/console/deliveries")
    again = page.get_by_role("button", name="Send again: webhook to hook-seller for order A1").first
    again.click()
    expect(page.get_by_role("status").filter(has_text="is sent again")).to_be_visible()
    expect(again).to_be_enabled(timeout=SOON_MS)  # it is dead once more, and can be sent once more
    eventually(lambda: market.deliveries("A1") == ["dead", "dead"], what="two dead deliveries")

    market.webhook.shares = Shares()
    go(page, f"{market.processor}/console/deliveries?state=dead")
    expect(page.get_by_role("row")).to_have_count(3, timeout=SOON_MS)
    page.get_by_role("button", name="Send again: webhook to hook-seller for order A1").first.click()
    expect(page.get_by_role("status").filter(has_text="is sent again")).to_be_visible()
    eventually(lambda: sorted(market.deliveries("A1")) == ["dead", "delivered"], what="one delivery")
    expect(page.get_by_role("row")).to_have_count(2, timeout=SOON_MS)

    page.get_by_role("link", name="hook-seller").first.click()
    button(page, "Send all dead ones of this seller again").click()
    expect(page.get_by_role("dialog")).to_contain_text("Every dead delivery to hook-seller is sent again")
    button(page, "Send them again").click()
    expect(page.get_by_role("status").filter(has_text="sent again: 1.")).to_be_visible()
    eventually(lambda: market.deliveries("A1") == ["delivered", "delivered"], what="both deliveries")

    go(page, f"{market.requestor}/console/order?id=A1")
    expect(deliveries.get_by_text("delivered")).to_have_count(2, timeout=SOON_MS)
    button(page, "Complete").click()
    field(page, "Reason").fill("arrived")
    button(page, "Complete the order").click()
    expect(page.locator("[data-order-state]")).to_have_text("completed", timeout=SOON_MS)
    expect(page.locator("[data-timeline]")).to_contain_text("Completed by the buyer: arrived", timeout=SOON_MS)
    for name in ("Follow up", "Complete", "Cancel order"):
        expect(button(page, name)).to_be_disabled()


def test_a_refused_action_says_why_and_keeps_what_was_typed(open_page: OpenPage, market: Market) -> None:
    market.initiate("A1", "hook-seller")
    page = open_page(f"{market.requestor}/console/order?id=A1")
    button(page, "Follow up").click()
    field(page, "To").fill("hook-seller, not/an/id")
    field(page, "Message").fill("A long message")
    button(page, "Send the follow-up").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("audience/1: must be 1 to 128 characters")
    expect(field(page, "Message")).to_have_value("A long message")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_an_unknown_order_is_said_to_be_unknown(open_page: OpenPage, market: Market) -> None:
    for service in (market.requestor, market.processor):
        page = open_page(f"{service}/console/order?id=nobody")
        expect(page.get_by_role("alert").filter(has_text="No order has this id.")).to_be_visible()
        expect(button(page, "Complete")).to_be_disabled()


# ---- tables


def test_orders_are_searched_filtered_and_turned_page_by_page(open_page: OpenPage, market: Market) -> None:
    for n in range(60):
        market.initiate(f"ORD-{n}", channel="none")
    page = open_page(f"{market.requestor}/")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(button(page, "Newer")).to_be_disabled()
    button(page, "Older").click()
    expect(rows).to_have_count(10)
    expect(page.get_by_text("Page 2, 10 shown")).to_be_visible()
    button(page, "Newer").click()
    expect(rows).to_have_count(50)

    page.get_by_label("Order id begins with").fill("ORD-5")
    expect(rows).to_have_count(11)
    expect(rows.first).to_contain_text("ORD-5")
    assert page.url.endswith("?prefix=ORD-5")
    page.reload()
    expect(rows).to_have_count(11)
    expect(page.get_by_label("Order id begins with")).to_have_value("ORD-5")
    page.get_by_label("State").select_option("completed")
    expect(page.get_by_text("Nothing here fits.")).to_be_visible()
    page.get_by_label("Session").fill("no id")
    expect(page.get_by_text("session_id: must be 1 to 128 characters")).to_be_visible()


def test_a_row_that_is_focused_keeps_the_focus_when_orders_come(open_page: OpenPage, market: Market) -> None:
    market.initiate("A1", channel="none")
    page = open_page(f"{market.requestor}/")
    page.get_by_role("link", name="A1", exact=True).focus()
    for n in range(2, 5):
        market.initiate(f"A{n}", channel="none")
    expect(row(page, "A4")).to_be_visible(timeout=SOON_MS)
    assert page.locator(":focus").text_content() == "A1"
    assert [text.strip() for text in page.locator("tbody td.cell-order").all_text_contents()] == [
        "A4",
        "A3",
        "A2",
        "A1",
    ]


# ---- being up to date


def test_an_unchanged_page_is_answered_with_304(open_page: OpenPage, market: Market) -> None:
    market.pair.requestor.app.extensions["samples"].stop(5)  # each sample is a change
    market.initiate("A1", channel="none")
    page = open_page(f"{market.requestor}/")
    expect(row(page, "A1")).to_contain_text("open", timeout=SOON_MS)
    statuses = []
    for _ in range(3):
        with page.expect_response("**/data/orders?*", timeout=SOON_MS) as answer:
            pass
        statuses.append(answer.value.status)
    assert statuses[1:] == [304, 304]


def test_a_lost_connection_is_said_and_mends_by_itself(open_page: OpenPage, market: Market) -> None:
    page = open_page(f"{market.requestor}/")
    page.context.set_offline(True)
    lost = page.get_by_role("alert").filter(has_text="Connection lost.")
    expect(lost).to_be_visible(timeout=SOON_MS)
    expect(lost).to_contain_text("What you see is from")
    page.context.set_offline(False)
    expect(lost).to_be_hidden(timeout=20_000)
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")


def test_times_are_the_readers_and_utc_stands_in_the_title(open_page: OpenPage, market: Market) -> None:
    market.initiate("A1", channel="none")
    order = requests.get(f"{market.pair.requestor_url}/orders/A1", timeout=10).json()
    utc = order["created_at"].replace("T", " ").replace("Z", " UTC")
    page = open_page(f"{market.requestor}/", timezone_id="Asia/Kolkata", locale="en-GB")
    shown = row(page, "A1").locator("time").first
    expect(shown).to_have_attribute("title", utc)
    hour, minute = (int(part) for part in order["created_at"][11:16].split(":"))
    local = (hour * 60 + minute + 330) % 1440
    expect(shown).to_contain_text(f"{local // 60:02}:{local % 60:02}:")


def test_a_chart_tells_its_numbers_under_the_pointer(open_page: OpenPage, market: Market) -> None:
    market.initiate("A1", channel="none")
    sampler = market.pair.requestor.app.extensions["samples"]
    eventually(lambda: market.pair.requestor.tracking.counts()["open"] == 1, what="the stream")
    sampler.take()
    page = open_page(f"{market.requestor}/")
    chart = page.get_by_role("img", name="Streams open, connecting and refused, over the last hour: now 1,")
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    expect(page.locator("figure").filter(has=chart)).to_contain_text(re.compile(r": [01], 0, 0"))
    page.mouse.move(0, 0)
    expect(page.locator("figure").filter(has=chart)).to_contain_text("the last hour")


# ---- what others wrote


def test_texts_that_others_wrote_are_texts(open_page: OpenPage, market: Market) -> None:
    pair = market.pair
    submit("PUT", f"{pair.processor_url}/sellers/evil", {"name": HOSTILE, "email": "evil@example.com"})
    market.initiate("A1", "evil", channel="email", details={HOSTILE: HOSTILE})
    message = {"message": HOSTILE, "urls": ["https://example.com/?a=%22onclick=%22alert(1)"]}
    note = {"order_req_id": "A1", "follow_up_id": "n1", "audience": ["evil"], "message": message}
    submit("POST", f"{pair.requestor_url}/orders/followup", note)
    reply = {"reply_id": "r1", "seller_id": "evil", "answer": "message", "message": HOSTILE}
    eventually(lambda: len(market.deliveries("A1")) == 2, what="the deliveries")
    submit("POST", f"{pair.processor_url}/orders/A1/replies", reply)
    for url in market.pages("A1"):
        page = open_page(url)
        if "order?" in url:
            expect(page.locator("[data-timeline]")).to_contain_text("writes back", timeout=SOON_MS)
            expect(page.locator("[data-timeline]")).to_contain_text(HOSTILE)
            page.get_by_text("Details of the order").click()
            expect(page.locator("[data-details] pre")).to_contain_text("<script>window.hacked=1</script>")
        if "sellers" in url:
            expect(row(page, "evil@example.com")).to_contain_text(HOSTILE)
        assert page.locator("img").count() == 0
        assert page.locator("script:not([src])").count() == 0
        assert page.evaluate("window.hacked === undefined")
        page.close()


# ---- for everybody


@pytest.fixture
def full_market(market: Market) -> Market:
    """One of everything, with the longest of names."""
    submit("PUT", f"{market.pair.processor_url}/sellers/{LONG}", {"name": LONG, "email": "long@example.com"})
    market.initiate(LONG, LONG, "hook-seller", "nobody-knows", details={"item": LONG}, session_id=LONG)
    message = {"message": f"Hello {LONG}", "urls": [f"https://example.com/{LONG}"]}
    note = {"order_req_id": LONG, "follow_up_id": LONG, "audience": [LONG, "hook-seller"], "message": message}
    submit("POST", f"{market.pair.requestor_url}/orders/followup", note)
    eventually(lambda: market.deliveries(LONG).count("dead") == 2, what="the dead deliveries")
    for parts in market.pair:
        parts.app.extensions["samples"].take()
    return market


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_page_can_be_used_by_everybody(
    open_page: OpenPage, full_market: Market, axe: str, viewport: dict[str, int], scheme: str
) -> None:
    for url in full_market.pages(LONG):
        page = open_page(url, viewport, color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_timeout(200)
        assert serious_findings(page, axe) == [], url
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], f"{url} scrolls sideways"
        for opener in page.locator("[data-open]:visible:enabled").all()[:3]:
            opener.click()
            assert serious_findings(page, axe) == [], f"a dialog of {url}"
            page.keyboard.press("Escape")
        page.close()


def test_the_page_does_not_jump_while_it_fills(open_page: OpenPage, full_market: Market) -> None:
    for url in full_market.pages(LONG):
        page = open_page(url)
        page.wait_for_timeout(500)
        assert page.evaluate(_SHIFT) < 0.1, url
        page.close()


def test_the_page_is_steered_by_keyboard(open_page: OpenPage, market: Market) -> None:
    market.initiate("A1", "hook-seller")
    page = open_page(f"{market.requestor}/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.get_by_label("Order id begins with").focus()
    page.keyboard.type("A")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("A1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("A1")
    expect(button(page, "Follow up")).to_be_enabled(timeout=SOON_MS)
    button(page, "Follow up").focus()
    page.keyboard.press("Enter")
    expect(field(page, "To")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("hello")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("[data-table='notes']")).to_contain_text("hello", timeout=SOON_MS)
    expect(button(page, "Follow up")).to_be_focused()


#: How far what is seen has moved by itself since the page was opened (CLS): below 0.1 is good.
_SHIFT = """() => new Promise((resolve) => {
  let shift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(shift), 100);
})"""
