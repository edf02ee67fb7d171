"""What is seen of a request at first glance, and how much may be under way."""

from __future__ import annotations

import pytest

from service_kit.web.places import origin_of
from service_kit.web.shedding import (
    LEAST_UNDER_WAY,
    LONGEST_WAIT_S,
    MOST_COST_S,
    PAUSE_S,
    REFUSING_SHARE,
    WINDOW_S,
    Shedding,
    glance,
)


def request(line: str = "POST /a HTTP/1.1", *headers: str, body: str = "") -> bytes:
    return ("\r\n".join([line, "Host: a", *headers, "", ""]) + body).encode()


def test_a_whole_usual_request_is_seen() -> None:
    assert glance(request("GET /livez HTTP/1.1")) == (b"/livez", "")
    seen = glance(request("POST /a?b=1 HTTP/1.1", "CONTENT-length: 2", "X-Request-Id: Ab-1", body="{}"))
    assert seen == (b"/a?b=1", "Ab-1")


@pytest.mark.parametrize(
    "data",
    [
        request()[:-1],
        request("POST /a HTTP/1.1", "Content-Length: 3", body="{}"),
        request("POST /a HTTP/1.1", "Content-Length: 1", body="{}"),
        request("POST /a HTTP/1.1", "Content-Length: 2", "Content-Length: 2", body="{}"),
        request("POST /a HTTP/1.1", "Content-Length : 2", body="{}"),
        request("POST /a HTTP/1.1", "Content-Length: 2, 2", body="{}"),
        request("POST /a HTTP/1.1", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
        request("POST /a HTTP/1.1", "Expect: 100-continue", "Content-Length: 2", body="{}"),
        request("GET /a HTTP/1.1", "Connection: Close"),
        request("GET /a HTTP/1.0"),
        request("HEAD /a HTTP/1.1"),
        request("GET http://a/ HTTP/1.1"),
        request() + request(),
    ],
)
def test_everything_else_is_left_to_the_parser(data: bytes) -> None:
    assert glance(data) is None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_may_be_under_way_follows_what_is_done() -> None:
    clock = Clock()
    shedding = Shedding(clock=clock)
    for number in range(LEAST_UNDER_WAY):
        assert not shedding.is_on
        shedding.admit(number)
    assert shedding.is_on
    done = int(4_000 * WINDOW_S)
    for number in range(done):
        shedding.admit(-1 - number)
        shedding.done(-1 - number)
    clock.now += WINDOW_S
    shedding.turn()
    assert shedding.limit == 4_000 * LONGEST_WAIT_S
    assert not shedding.is_on
    clock.now += 60
    shedding.turn()
    assert shedding.limit == LEAST_UNDER_WAY


@pytest.mark.parametrize("cost_s", [0.000_02, 0.000_2, 0.05])
def test_refused_connections_are_read_again_as_often_as_the_loop_has_time_for_them(cost_s: float) -> None:
    clock, cpu = Clock(), Clock()
    shedding = Shedding(clock=clock, cpu_clock=cpu)
    shedding.pause(-1)
    shedding.turn()
    for number in range(10_000):
        shedding.pause(number)
    cpu.now += 10_000 * cost_s
    assert shedding.turn() == []
    rested: list[int] = []
    clock.now += PAUSE_S
    for _ in range(100):
        clock.now += 0.01
        rested += shedding.turn()
    assert rested == [-1, *range(len(rested) - 1)]
    per_s = REFUSING_SHARE / min(cost_s, MOST_COST_S)
    assert 0.9 * per_s <= len(rested) <= per_s * (1 + 2 * PAUSE_S)


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("127.0.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_an_address_counts_for_its_owner(address: str, origin: str) -> None:
    assert origin_of(address) == origin
