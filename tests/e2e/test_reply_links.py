from __future__ import annotations

import pytest
import requests

from processor_app.replies.links import ReplyLink, ReplyLinks
from service_kit.change import Ref
from service_kit.times import now_ms
from tests.e2e.conftest import Services

pytestmark = pytest.mark.e2e

SECRET = "s" * 40


def test_a_reply_link_is_not_in_the_log(services: Services) -> None:
    processor = services.processor(PROCESSOR_LOG_LEVEL="DEBUG", PROCESSOR_LINK_SECRET=SECRET)
    processor.start()
    links = ReplyLinks(processor.url, lambda: SECRET, 100)
    url = links.url_of(ReplyLink(Ref("default", "gone"), 1, "seller1"), now_ms())
    assert requests.get(url, timeout=10).status_code == 404
    assert requests.get(url[:-1], timeout=10).status_code == 400
    assert processor.stop() == 0
    assert "GET /reply/*** 404 NOT FOUND" in processor.log
    assert "GET /reply/*** 400 BAD REQUEST" in processor.log
    token = url.rpartition("/")[2]
    assert token[:20] not in processor.log
    assert SECRET not in processor.log


def test_a_secret_that_cannot_be_kept_refuses_the_start(services: Services) -> None:
    processor = services.processor()
    (processor.store.parent / "link-secret").mkdir()
    processor.launch()
    assert processor.wait() == 1
    assert "link-secret cannot be used" in processor.log
