"""Requests that are no proper HTTP, sent byte by byte to both services."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import NamedTuple

import pytest
import requests

from tests.e2e.conftest import Service, eventually
from tests.hostile.raw_cases import CLOSED, HIDDEN, KEPT, WAITING, RawCase, all_cases

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

CASES = all_cases()
#: A server that has not said anything for so long waits for more.
QUIET_S = 0.05
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Seen(NamedTuple):
    """What a server has said, and whether it has ended the connection."""

    statuses: tuple[int, ...]
    bodies: tuple[bytes, ...]
    is_closed: bool


def exchange(port: int, case: RawCase, sent: bytes) -> Seen:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        received, is_closed = b"", False
        try:
            wire.sendall(sent)
            while True:
                # The quiet time begins when the answers are there: a busy machine is slow, not silent.
                is_complete = len(answers(received, case)) >= len(case.statuses) and case.end != CLOSED
                wire.settimeout(QUIET_S if is_complete else 20)
                piece = wire.recv(65_536)
                if not piece:
                    is_closed = True
                    break
                received += piece
        except TimeoutError:
            pass
        except ConnectionError:
            is_closed = True
    found = answers(received, case)
    return Seen(tuple(status for status, _ in found), tuple(body for _, body in found), is_closed)


def answers(received: bytes, case: RawCase) -> list[tuple[int, bytes]]:
    """The complete answers in what was received."""
    found, place = [], 0
    while match := _STATUS.match(received, place):
        status, head = int(match[1]), match[2].lower()
        length = re.search(rb"content-length: (\d+)", head)
        is_bare = status == 100 or case.sent.startswith(b"HEAD")
        end = match.end() + (0 if length is None or is_bare else int(length[1]))
        if end > len(received):
            break
        found.append((status, received[match.end() : end]))
        place = end
    return found


def hidden_request(service: Service, name: str) -> bytes:
    """A request that changes something, and what it would make."""
    if service.prefix == "REQUESTOR":
        path, method = "/api/v1/orders/initiate", "POST"
        body = json.dumps({"order_req_id": name, "session_id": "s", "notification_type": "none"})
    else:
        path, method = f"/api/v1/sellers/{name}", "PUT"
        body = json.dumps({"email": "a@example.com"})
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


def was_run(service: Service, name: str) -> bool:
    kind = "orders" if service.prefix == "REQUESTOR" else "sellers"
    return requests.get(f"{service.url}/api/v1/{kind}/{name}", timeout=20).status_code != 404


def check(service: Service, case: RawCase, name: str) -> str | None:
    """What is wrong with what the service does, or None."""
    sent = case.sent.replace(HIDDEN, hidden_request(service, name))
    seen = exchange(int(service.settings[f"{service.prefix}_PORT"]), case, sent)
    faults = []
    if seen.statuses != case.statuses and not (case.may_be_cut and seen.is_closed and not seen.statuses):
        faults.append(f"answered {seen.statuses} instead of {case.statuses}")
    if seen.is_closed is not (case.end == CLOSED):
        faults.append(f"the connection is {CLOSED if seen.is_closed else f'{KEPT} or {WAITING}'}")
    for status, body in zip(seen.statuses, seen.bodies, strict=True):
        if status >= 400 and body and not is_sound_problem(body, status):
            faults.append(f"the answer is no problem document: {body[:200]!r}")
    if HIDDEN in case.sent and was_run(service, name):
        faults.append("the hidden request was run")
    # The next one, on a new connection.
    if requests.get(f"{service.url}/livez", timeout=20).status_code != 200:
        faults.append("the next request fails")
    return f"{case.name}: {'; '.join(faults)}" if faults else None


def is_sound_problem(body: bytes, status: int) -> bool:
    problem = json.loads(body)
    return problem["status"] == status and problem["type"].startswith("urn:problem:") and bool(problem["request_id"])


@pytest.mark.parametrize("which", ["requestor", "processor"])
def test_every_case_is_answered_as_it_must_be(which: str, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(f"live_{which}")
    assert len(CASES) >= 200
    faults = [check(service, case, f"hidden-{number}") for number, case in enumerate(CASES)]
    assert "\n".join(fault for fault in faults if fault) == ""
    # To compare: the hidden request by itself is run.
    port = int(service.settings[f"{service.prefix}_PORT"])
    exchange(port, RawCase("alone", b"", (200,), KEPT), hidden_request(service, "seen"))
    assert was_run(service, "seen")
    assert service.complaints == []
    assert [line for line in service.log.splitlines() if " ERROR " in line or "Traceback" in line] == []


def test_what_never_ends_is_cut_by_the_deadline(live_processor: Service) -> None:
    port = int(live_processor.settings["PROCESSOR_PORT"])
    waiting = [case for case in CASES if case.end == WAITING]
    begun_s = time.monotonic()
    wires = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in waiting]
    for wire, case in zip(wires, waiting, strict=True):
        wire.sendall(case.sent)
    for wire in wires:
        while wire.recv(65_536):
            pass
        wire.close()
    assert time.monotonic() - begun_s < 25
    eventually(lambda: requests.get(f"{live_processor.url}/livez", timeout=5).status_code == 200, what="an answer")
