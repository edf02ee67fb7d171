from __future__ import annotations

import pytest

from service_kit.origin import UNKNOWN, Origin, origin_from_peer, origin_of, read_traceparent
from service_kit.tracing import begin_trace, next_span

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{SPAN}-01"


def test_a_header_of_the_standard_is_read():
    assert read_traceparent(HEADER) == HEADER


def test_a_later_version_is_read_as_far_as_it_is_known():
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings") == HEADER
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-01") == HEADER


@pytest.mark.parametrize(
    "header",
    [
        "",
        HEADER[:-1],
        HEADER + "-",
        HEADER + "-more",
        HEADER.upper(),
        HEADER.replace("-", "_"),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"{HEADER},{HEADER}",
        f" {HEADER}",
        f"{HEADER}\n",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 1000}",
        f"00-{'٠' * 32}-{SPAN}-01",
    ],
)
def test_what_is_no_valid_header_is_ignored(header):
    assert read_traceparent(header) is None
    origin = begin_trace(header, "r1")
    assert origin.trace_id not in ("", TRACE)


def test_a_request_goes_on_in_the_trace_of_its_caller_in_a_span_of_its_own():
    origin = begin_trace(HEADER, "r1", "00")
    assert (origin.trace_id, origin.flags, origin.request_id) == (TRACE, "01", "r1")
    assert origin.span_id != SPAN
    assert read_traceparent(origin.traceparent) == origin.traceparent


def test_a_request_that_brings_no_id_gets_one_and_without_a_trace_it_is_that_of_the_trace():
    origin = begin_trace(None, "")
    assert origin.request_id == origin.trace_id
    first, second = begin_trace(HEADER, ""), begin_trace(HEADER, "")
    assert len({first.request_id, second.request_id, TRACE, ""}) == 4


def test_a_request_without_a_trace_begins_one_that_no_other_has():
    origins = [begin_trace(None, "r1") for _ in range(1_000)]
    assert len({origin.trace_id for origin in origins}) == len({origin.span_id for origin in origins}) == 1_000
    assert all(read_traceparent(origin.traceparent) == origin.traceparent for origin in origins)


def test_work_for_a_request_is_a_span_of_its_own_in_the_same_trace():
    origin = begin_trace(HEADER, "r1")
    after = next_span(origin)
    assert (after.trace_id, after.flags, after.request_id) == (origin.trace_id, origin.flags, "r1")
    assert after.span_id != origin.span_id
    assert next_span(UNKNOWN) == UNKNOWN


def test_what_a_store_keeps_is_read_again_and_nothing_is_kept_of_nothing():
    for origin in (Origin(HEADER, "r1"), Origin(HEADER, TRACE), Origin(HEADER, ""), UNKNOWN):
        assert origin_of(origin.text) == (origin if origin.request_id else Origin(origin.traceparent, origin.trace_id))
    assert (UNKNOWN.text, UNKNOWN.names) == ("", {})
    origin = Origin(HEADER, "r1")
    assert origin.names == {"request_id": "r1", "trace_id": TRACE}


def test_what_a_peer_says_is_checked():
    assert origin_from_peer(HEADER, "r1") == Origin(HEADER, "r1")
    assert origin_from_peer(HEADER, "r1\nforged: yes") == Origin(HEADER, "")
    assert origin_from_peer("00-no-trace-01", "r1") == UNKNOWN
    assert origin_from_peer("", "") == UNKNOWN
