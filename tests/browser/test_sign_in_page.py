"""The sign-in in a browser: in with a key, see, do, and out again, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from requestor_app.bootstrap import Requestor
from service_kit.access.keys import NewKey, make_key
from service_kit.access.model import Scope
from service_kit.times import now_ms
from tests.browser.axe import serious_findings
from tests.conftest import make_requestor

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}
#: Polls come every two seconds.
SOON_MS = 8_000

OpenPage: TypeAlias = Callable[..., Page]


class Keyed(NamedTuple):
    """A requestor that needs keys, running, with an order."""

    parts: Requestor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.parts.web.port}"

    def make_key(self, *scopes: Scope, name: str = "night shift") -> NewKey:
        new = make_key(scopes, name=name)
        self.parts.app.extensions["access_store"].add(new.key)
        self.parts.app.extensions["keyring"]._refresh()  # as its thread does
        return new


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    parts = make_requestor(tmp_path, require_keys=True)
    parts.lifecycle.start()
    made = Keyed(parts)
    order = {"order_req_id": "A1", "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
    headers = {"Authorization": f"Bearer {made.make_key(Scope.ORDERS_WRITE).token}"}
    answer = requests.post(f"{made.url}/api/v1/orders/initiate", json=order, headers=headers, timeout=10)
    assert answer.ok, answer.text
    yield made
    parts.lifecycle.stop()


@pytest.fixture
def open_page(browser: Browser, keyed: Keyed) -> Iterator[OpenPage]:  # which outlives the pages
    """Opens pages in which no script may fail, and whose console stays empty but for what a test expects."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def make(url: str, expected: str = "", viewport: dict[str, int] = DESKTOP, **options: object) -> Page:
        context = browser.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda said: (
                faults.append(said.text) if said.type == "error" and not (expected and expected in said.text) else None
            ),
        )
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Key").fill(token)
    page.get_by_role("button", name="Sign in", exact=True).click()


def expect_live(page: Page) -> None:
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live", timeout=SOON_MS)


def test_in_see_do_and_out_and_the_way_back_shows_nothing(open_page: OpenPage, keyed: Keyed) -> None:
    page = open_page(f"{keyed.url}/console/order?id=A1")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_label("Key")).to_be_focused()
    sign_in(page, keyed.make_key(Scope.OPERATE).token)
    expect(page).to_have_url(f"{keyed.url}/console/order?id=A1")
    expect(page.locator("[data-order-state]")).to_have_text("live", timeout=SOON_MS)
    expect(page.locator(".who")).to_contain_text("night shift")

    page.get_by_role("button", name="Complete", exact=True).click()
    page.get_by_role("button", name="Complete the order").click()
    expect(page.locator("[data-order-state]")).to_have_text("closing", timeout=SOON_MS)

    page.get_by_role("link", name="Audit").click()
    first = page.locator("tbody tr").first
    expect(first).to_contain_text("console.complete", timeout=SOON_MS)
    for text in ("night shift", "A1", "127.0.0.1", "done"):
        expect(first).to_contain_text(text)
    page.get_by_label("Key, action, target or address").fill("console.sign_in")
    expect(page.locator("tbody tr")).to_have_count(1)

    page.get_by_role("link", name="Orders", exact=True).click()
    expect(page.get_by_role("link", name="A1", exact=True)).to_be_visible(timeout=SOON_MS)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.context.cookies() == []
    for _ in range(2):
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.get_by_text("A1", exact=True)).to_have_count(0)


def test_a_wrong_key_is_told_of_and_not_repeated(open_page: OpenPage, keyed: Keyed) -> None:
    page = open_page(f"{keyed.url}/", expected="401")
    sign_in(page, "oc_nobody")
    expect(page.get_by_role("alert")).to_have_text("This key does not open the page")
    expect(page.get_by_label("Key")).to_have_value("")
    sign_in(page, keyed.make_key(Scope.OPERATE).token)
    expect_live(page)


def test_a_page_whose_key_is_revoked_leads_to_the_sign_in(open_page: OpenPage, keyed: Keyed) -> None:
    new = keyed.make_key(Scope.OPERATE)
    page = open_page(f"{keyed.url}/?state=live", expected="401")
    sign_in(page, new.token)
    expect_live(page)
    keyed.parts.app.extensions["access_store"].revoke(new.key.key_id, now_ms())
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=SOON_MS)
    sign_in(page, keyed.make_key(Scope.OPERATE, name="day shift").token)
    expect(page).to_have_url(f"{keyed.url}/?state=live")
    expect_live(page)


def test_it_works_without_a_script(open_page: OpenPage, keyed: Keyed) -> None:
    page = open_page(f"{keyed.url}/", java_script_enabled=False)
    sign_in(page, keyed.make_key(Scope.OPERATE).token)
    expect(page.locator(".who")).to_contain_text("night shift")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_who_comes_from_another_site_goes_on_without_the_key(open_page: OpenPage, keyed: Keyed) -> None:
    page = open_page(f"{keyed.url}/")
    sign_in(page, keyed.make_key(Scope.OPERATE).token)
    expect_live(page)
    other = page.context.new_page()
    other.set_content(f"<a href='{keyed.url}/console/audit'>look</a>")
    other.get_by_role("link", name="look").click()
    other.get_by_role("link", name="Signed in already? Go on").click()
    expect(other).to_have_url(f"{keyed.url}/console/audit")
    expect_live(other)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_everybody_can_use_it(
    open_page: OpenPage, keyed: Keyed, axe: str, viewport: dict[str, int], scheme: str
) -> None:
    page = open_page(f"{keyed.url}/console/audit", "401", viewport, color_scheme=scheme, reduced_motion="reduce")

    def look(name: str) -> None:
        assert serious_findings(page, axe) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], f"{name} scrolls sideways"

    look("the sign-in")
    sign_in(page, "no")
    look("the refused sign-in")
    sign_in(page, keyed.make_key(Scope.OPERATE, name="The night shift of the second warehouse, Rotterdam").token)
    expect_live(page)
    look("the audit log")
    page.goto(f"{keyed.url}/")
    expect_live(page)
    look("the orders")
