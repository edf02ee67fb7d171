from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from processor_app.delivery.webhook import parse_retry_after
from processor_app.delivery.webhook_signing import PREFIX, new_secret, signatures

#: 2026-11-23 12:00:00 UTC
NOW_S = 1_795_435_200.0


@pytest.mark.parametrize(
    ("text", "wish_s"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("999999999", 86_400),
        ("Mon, 23 Nov 2026 13:00:00 GMT", 3600),
        ("Mon, 23 Nov 2026 13:00:00", 3600),
        ("Monday, 23-Nov-26 13:00:00 GMT", 3600),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
    ],
)
def test_retry_after_is_read_and_lasts_at_most_a_day(text: str, wish_s: float) -> None:
    assert parse_retry_after(text, NOW_S) == wish_s


@pytest.mark.parametrize(
    "text", [None, "", "-5", "soon", "1e3", "٣", "99999999999", "Mon, 23 Nov 2026 13:00:00 +9999999999999999"]
)
def test_what_is_no_retry_after_says_nothing(text: str | None) -> None:
    assert parse_retry_after(text, NOW_S) is None


def test_a_signature_is_what_the_standard_says() -> None:
    key = bytes(range(32))
    secret = PREFIX + base64.b64encode(key).decode()
    expected = base64.b64encode(hmac.new(key, b'd-1.1700000000.{"a":1}', hashlib.sha256).digest()).decode()
    assert signatures("d-1", 1_700_000_000, b'{"a":1}', [secret]) == f"v1,{expected}"


def test_each_live_secret_signs() -> None:
    secrets = [new_secret(), new_secret()]
    both = signatures("d-1", 1, b"{}", secrets).split(" ")
    assert both == [signatures("d-1", 1, b"{}", [secret]) for secret in secrets]


def test_a_new_secret_has_32_random_bytes() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix(PREFIX), validate=True)) == 32
