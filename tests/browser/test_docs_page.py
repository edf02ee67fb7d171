"""/docs in Chromium: nothing from outside, nothing cut off on a phone, readable in the dark."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import Pair

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}


@pytest.mark.parametrize("service", ["requestor", "processor"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_is_whole_on_every_screen(
    browser: Browser, running_pair: Pair, service: str, scheme: str, viewport: dict[str, int]
) -> None:
    url = getattr(running_pair, f"{service}_url").removesuffix("/api/v1")
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/docs")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Order {service}")
    for summary in page.locator("details > summary").all()[:8]:
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 23, 28)") == (scheme == "dark")
    assert [each for each in asked if each not in {f"{url}/docs", f"{url}/favicon.ico"}] == []
    # Chromium asks for an icon that is not there; everything else would be a breach of the page's policy.
    assert [each for each in complaints if "404" not in each] == []
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"docs-{service}-{scheme}-{viewport['width']}.png")
    context.close()


def test_a_call_is_found_by_keyboard(browser: Browser, running_pair: Pair) -> None:
    page = browser.new_page()
    page.goto(running_pair.requestor_url.removesuffix("/api/v1") + "/docs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the calls")).to_be_focused()
    page.goto(f"{page.url}#orders_initiate")
    expect(page.locator("#orders_initiate-title")).to_be_in_viewport()
    page.close()
