from __future__ import annotations

import io
import json
import logging

import pytest

from service_kit.logs import configure_logs, get_logger
from service_kit.masking import masked

SECRETS = [
    "smtp://orders:hunter2@mail.example.com:587",
    "redis://:hunter2@10.0.0.1/0",
    "https://hunter2@hooks.example.com/x",
    "whsec_hunter2hunter2AAAA/+==",
    "oc_k3y1d0000000_hunter2hunter2hunter2",
    "Authorization: Bearer hunter2.hunter2",
    "Authorization: Basic aHVudGVyMg==hunter2",
    "bearer hunter2-hunter2",
    "{'Authorization': 'Token hunter2'}",
    "authorization=hunter2",
    "GET https://orders.example.com/reply/hunter2.x_y-z HTTP/1.1",
    "/reply/hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_masked(text):
    shown = masked(f"before {text} after")
    assert "hunter2" not in shown
    assert "***" in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8004/api/v1/orders/A@1",
        "Listening on http://[::1]:8004",
        "mail for seller@example.com: see https://example.com/a?b=c@d",
        "token=42",
        "the bearer of bad news",
        "GET /reply/ 200 OK",
        "Dropped order A1: it is completed",
    ],
)
def test_what_is_no_secret_is_shown(text):
    assert masked(text) == text


def test_masking_twice_changes_nothing_more():
    for text in SECRETS:
        assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize("text", SECRETS)
def test_no_line_shows_a_secret_wherever_it_stands(log_format, text):
    stream = io.StringIO()
    configure_logs(log_format, stream=stream)
    log = get_logger("test")
    try:
        raise ValueError(f"cannot use {text}")
    except ValueError:
        log.exception(f"It failed for {text}", action="x", url=text, inner={"deep": [text]})
    logging.getLogger("library").warning("Calling %s", text)
    assert "hunter2" not in stream.getvalue()
    if log_format == "json":
        first, second = map(json.loads, stream.getvalue().splitlines())
        assert first["action"] == "x"
        assert second["logger"] == "library"
    configure_logs(stream=io.StringIO())
