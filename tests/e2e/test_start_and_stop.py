"""How the services start and stop, and what they say when they cannot start."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import (
    STOP_SIGNALS,
    Service,
    Services,
    eventually,
    free_port,
    note_body,
    order_body,
    wait_for_stream,
)

pytestmark = pytest.mark.e2e

#: A refused start must be over by then, the imports included.
REFUSED_S = 10.0


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def service_with(services: Services, setting: str, value: str) -> Service:
    """The service that the setting is of, with this value for it."""
    make: Callable[..., Service] = services.requestor if setting.startswith("REQUESTOR") else services.processor
    return make(**{setting: value})


def assert_refused(service: Service) -> str:
    """The service ends with status 1 and one line, which is no log line; answers the line."""
    service.launch()
    assert service.wait(REFUSED_S) == 1
    (line,) = service.complaints
    assert "Traceback" not in service.log
    assert " ERROR " not in service.log
    assert service.output == ""
    return line


def assert_closed_well(store: Path) -> None:
    """The file holds everything: no log of the database stands beside it, and it passes the check."""
    assert not store.with_name(f"{store.name}-wal").exists()
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# ---- ports


@pytest.mark.parametrize("setting", ["REQUESTOR_PORT", "PROCESSOR_PORT", "PROCESSOR_GRPC_PORT"])
def test_a_taken_port_is_told_in_one_line_that_helps(services: Services, taken_port: int, setting: str) -> None:
    line = assert_refused(service_with(services, setting, str(taken_port)))
    for word in (str(taken_port), setting, "netstat", "ss -ltnp"):
        assert word in line


@pytest.mark.parametrize("setting", ["REQUESTOR_PORT", "PROCESSOR_PORT", "PROCESSOR_GRPC_PORT"])
def test_a_service_starts_when_its_port_is_free_again(services: Services, setting: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        service = service_with(services, setting, str(holder.getsockname()[1]))
        assert_refused(service)
    service.start()
    assert service.stop() == 0


@pytest.mark.parametrize("setting", ["REQUESTOR_PORT", "PROCESSOR_PORT"])
def test_a_service_that_is_started_twice_names_the_port_and_not_the_store(services: Services, setting: str) -> None:
    first = service_with(services, setting, str(free_port()))
    first.start()
    second = service_with(services, setting, first.settings[setting])
    assert second.store == first.store
    assert setting in assert_refused(second)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("REQUESTOR_HOST", "0.0.0.0", "REQUESTOR_REQUIRE_KEYS=on"),
        ("REQUESTOR_PROCESSORS", "192.0.2.1:50052", "REQUESTOR_TLS_CERT"),
        ("PROCESSOR_HOST", "0.0.0.0", "PROCESSOR_TRUSTED_PROXIES"),
        ("PROCESSOR_GRPC_HOST", "0.0.0.0", "PROCESSOR_TLS_CERT"),
    ],
)
def test_what_others_could_reach_unprotected_does_not_start(
    services: Services, setting: str, value: str, words: str
) -> None:
    assert words in assert_refused(service_with(services, setting, value))


# ---- signals


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_stops_the_processor_and_the_requestor_hears_why(
    requestor: Service, processor: Service, number: int
) -> None:
    requestor.post("/orders/initiate", order_body("A1"))
    wait_for_stream(requestor, "A1")
    assert processor.stop(number) == 0
    assert processor.complaints == []
    assert_closed_well(processor.store)
    address = f"127.0.0.1:{processor.settings['PROCESSOR_GRPC_PORT']}"
    eventually(lambda: "Lost the processor" in requestor.log, what="the loss in the requestor's log")
    (lost,) = [line for line in requestor.log.splitlines() if "Lost the processor" in line]
    assert f"the processor at {address} goes away" in lost
    assert "open_streams=1" in lost


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_stops_the_requestor(requestor: Service, processor: Service, number: int) -> None:
    requestor.post("/orders/initiate", order_body("A1"))
    requestor.post("/orders/followup", note_body("A1", "n1"))
    wait_for_stream(requestor, "A1")
    assert requestor.stop(number) == 0
    assert requestor.complaints == []
    assert_closed_well(requestor.store)
    eventually(lambda: processor.get("/orders")["open_streams"] == 0, what="the stream's end at the processor")
    assert "A requestor's trunk ended" in processor.log


def test_clients_that_keep_their_connection_do_not_delay_a_stop(requestor: Service, processor: Service) -> None:
    with requests.Session() as client:
        for service in (requestor, processor):
            assert client.get(f"{service.url}/readyz", timeout=10).ok
        for service in (requestor, processor):
            began = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - began < 5


def test_a_requestor_without_a_processor_stops_at_once(services: Services) -> None:
    requestor = services.requestor()
    requestor.start()
    requestor.post("/orders/initiate", order_body("A1"))
    assert requestor.stop() == 0
    assert_closed_well(requestor.store)


# ---- stores


@pytest.mark.parametrize("kind", ["requestor", "processor"])
def test_a_second_process_on_the_same_store_is_refused(services: Services, kind: str) -> None:
    first = getattr(services, kind)()
    first.start()
    other_ports = {} if kind == "requestor" else {"PROCESSOR_GRPC_PORT": "0"}
    second = getattr(services, kind)("second", **other_ports)
    second.settings[f"{second.prefix}_STORE"] = first.settings[f"{first.prefix}_STORE"]
    line = assert_refused(second)
    assert f"{kind}.db is in use by another instance" in line
    assert first.is_ready()
    assert first.stop() == 0
    second.start()  # what the first has given back is free


# ---- folders and settings


def test_the_services_run_from_any_folder(services: Services, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    processor, requestor = services.processor(cwd=elsewhere), services.requestor(cwd=elsewhere)
    processor.start()
    requestor.start()
    requestor.post("/orders/initiate", order_body("A1"))
    wait_for_stream(requestor, "A1")
    assert requestor.stop() == 0
    assert processor.stop() == 0
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        (
            "requestor",
            {"REQUESTOR_PORT": "eighty", "REQUESTOR_LEASE_S": "0", "REQUESTOR_LOG_FORMAT": "xml"},
        ),
        (
            "processor",
            {"PROCESSOR_PORT": "70000", "PROCESSOR_GRPC_PORT": "-1", "PROCESSOR_KEEPALIVE_MS": "1.5"},
        ),
    ],
)
def test_all_bad_settings_are_told_together(services: Services, kind: str, faults: dict[str, str]) -> None:
    line = assert_refused(getattr(services, kind)(**faults))
    for variable in faults:
        assert variable in line
