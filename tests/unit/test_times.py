from __future__ import annotations

import time

import pytest

from service_kit.times import now_ms, parse_rfc3339, rfc3339


def test_now_is_the_wall_clock():
    assert abs(now_ms() - time.time() * 1000) < 1000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_795_435_200_123, "2026-11-23T12:00:00.123Z"),
        (1_709_251_199_005, "2024-02-29T23:59:59.005Z"),
    ],
)
def test_a_time_is_shown_in_utc_with_milliseconds_and_reads_back(ms, text):
    assert rfc3339(ms) == text
    assert parse_rfc3339(text) == ms


def test_offsets_and_other_fractions_are_understood():
    assert parse_rfc3339("2026-11-23T14:00:00.1+02:00") == parse_rfc3339("2026-11-23T12:00:00.100Z")
    assert parse_rfc3339("2026-11-23T12:00:00.123999999Z") == 1_795_435_200_123
    assert parse_rfc3339("2026-11-23T12:00:00Z") == 1_795_435_200_000


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-23", "2026-11-23T12:00:00", "2026-13-23T12:00:00Z", "2026-11-23T12:00:00Z\n", "٢026-11-23T12:00:00Z"],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library words some of these
        parse_rfc3339(text)
