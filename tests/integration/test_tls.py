from __future__ import annotations

import io
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import requests
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from processor_app.bootstrap import Processor
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from requestor_app.bootstrap import Requestor
from requestor_app.commands.doctor import requestor_patient
from service_kit.certificates import Certified, Usage, make_authority
from service_kit.errors import StartRefused
from service_kit.logs import configure_logs
from service_kit.rpc.probe import LoopbackProbe
from tests.certified import WireFolder, bad_certificates, channel_with, nameless
from tests.conftest import make_processor, make_requestor
from tests.faults.relay import Relay

TIMEOUT_S = 5
BAD = ("self-signed", "other authority", "expired", "not yet valid", "wrong usage", "none")


@pytest.fixture
def certified(tmp_path: Path) -> WireFolder:
    return WireFolder(tmp_path / "certs")


@pytest.fixture
def processor(tmp_path: Path, certified: WireFolder) -> Iterator[Processor]:
    parts = make_processor(tmp_path, tls_peers=("requestor",), **certified.settings("processor"))
    parts.lifecycle.start()
    yield parts
    parts.lifecycle.stop()


class Standing(NamedTuple):
    """A processor that several tests knock at, and its files, which stay as they are."""

    processor: Processor
    certified: WireFolder


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder = tmp_path_factory.mktemp("standing")
    files = WireFolder(folder / "certs")
    parts = make_processor(folder, tls_peers=("requestor",), **files.settings("processor"))
    parts.lifecycle.start()
    yield Standing(parts, files)
    parts.lifecycle.stop()


@pytest.fixture
def requestors(tmp_path: Path, certified: WireFolder) -> Iterator[Callable[..., Requestor]]:
    """Starts requestors."""
    made: list[Requestor] = []

    def make(port: int, **other: Any) -> Requestor:
        parts = make_requestor(tmp_path, f"127.0.0.1:{port}", **{**certified.settings("requestor"), **other})
        made.append(parts)
        parts.lifecycle.start()
        return parts

    yield make
    for parts in made:
        parts.lifecycle.stop()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logs("json", "INFO", service="test")
    yield written
    monkeypatch.undo()
    configure_logs("console", "INFO", service="test")


def port_of(processor: Processor) -> int:
    return processor.grpc_server.port


def refused(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    code: grpc.StatusCode = error.code()
    return code


def ask_health(channel: grpc.Channel, **other: Any) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S, **other).status
    return status


def health_as(who: Certified | None, certified: WireFolder, processor: Processor) -> int:
    with channel_with(who, certified.authority, port_of(processor)) as channel:
        return ask_health(channel)


def eventually(look: Callable[[], Any], timeout_s: float = 15) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)
    return seen


def orders_url(requestor: Requestor) -> str:
    return f"http://127.0.0.1:{requestor.web.port}/api/v1/orders"


def initiate(requestor: Requestor, key: str = "A1") -> None:
    body = {"order_req_id": key, "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
    assert requests.post(f"{orders_url(requestor)}/initiate", json=body, timeout=TIMEOUT_S).ok


def stream_of(requestor: Requestor, key: str = "A1") -> dict[str, Any]:
    stream: dict[str, Any] = requests.get(f"{orders_url(requestor)}/{key}", timeout=TIMEOUT_S).json()["stream"]
    return stream


def is_open(requestor: Requestor, not_since: str = "") -> bool:
    stream = stream_of(requestor)
    return bool(stream["state"] == "open" and stream["since"] != not_since)


def error_with(requestor: Requestor, text: str) -> Callable[[], bool]:
    def look() -> bool:
        stream = stream_of(requestor)
        return stream["state"] == "connecting" and text in (stream["last_error"] or "")

    return look


# ---- who gets in


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_is_refused(kind: str, standing: Standing) -> None:
    bad = bad_certificates(standing.certified.authority).get(kind)
    assert refused(lambda: health_as(bad, standing.certified, standing.processor)) is grpc.StatusCode.UNAVAILABLE
    assert (
        health_as(standing.certified.client("requestor"), standing.certified, standing.processor)
        == health_pb2.HealthCheckResponse.SERVING
    )


def test_plain_text_is_refused(standing: Standing) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port_of(standing.processor)}") as channel:
        assert refused(lambda: ask_health(channel)) is grpc.StatusCode.UNAVAILABLE


def test_a_good_certificate_with_another_name_may_call_nothing(standing: Standing, log: io.StringIO) -> None:
    before = standing.processor.grpc_server.refused_peers.read()[("name",)]
    with channel_with(
        standing.certified.client("stranger"), standing.certified.authority, port_of(standing.processor)
    ) as channel:
        orders = order_service_pb2_grpc.OrderServiceStub(channel)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        opening = wire.OrderStreamRequest(order_req_id="A1", session_id="s1", token=1, run=1, stream_id="st1")
        calls: tuple[Callable[[], Any], ...] = (
            lambda: ask_health(channel),
            lambda: next(health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)),
            lambda: next(reflection.ServerReflectionInfo(iter([ask]), timeout=TIMEOUT_S)),
            lambda: next(orders.StreamOrders(iter([wire.TrunkUp(hello=wire.Hello())]), timeout=TIMEOUT_S)),
            lambda: next(orders.StreamOrder(opening, timeout=TIMEOUT_S)),
            lambda: orders.SubmitFollowUp(wire.FollowUpRequest(order_req_id="A1"), timeout=TIMEOUT_S),
            lambda: orders.CloseOrder(wire.CloseOrderRequest(order_req_id="A1"), timeout=TIMEOUT_S),
        )
        for call in calls:
            assert refused(call) is grpc.StatusCode.PERMISSION_DENIED
    assert standing.processor.grpc_server.refused_peers.read()[("name",)] == before + len(calls)
    assert log.getvalue().count("grpc.peer_refused") == 1
    assert standing.processor.store.counts(None) == {}


@pytest.mark.parametrize(
    ("names", "may_call"),
    [
        (("requestor",), True),
        (("REQUESTOR",), True),
        (("other", "requestor"), True),
        (("requestor.example",), False),
        (("*",), False),
    ],
)
def test_each_host_name_of_a_certificate_counts(names: tuple[str, ...], may_call: bool, standing: Standing) -> None:
    who = standing.certified.client(*names)
    if may_call:
        assert health_as(who, standing.certified, standing.processor)
    else:
        assert (
            refused(lambda: health_as(who, standing.certified, standing.processor)) is grpc.StatusCode.PERMISSION_DENIED
        )


def test_the_common_name_counts_only_without_host_names(standing: Standing) -> None:
    assert health_as(nameless(standing.certified.authority, "requestor"), standing.certified, standing.processor)
    # The first name is the common name too, as `dev.py certs` makes them.
    address = standing.certified.client("127.0.0.1", "other")
    assert (
        refused(lambda: health_as(address, standing.certified, standing.processor)) is grpc.StatusCode.PERMISSION_DENIED
    )


def test_the_probes_door_lets_nobody_else_in(standing: Standing) -> None:
    address, metadata = standing.processor.grpc_server.probe_call()
    assert not address.endswith(f":{port_of(standing.processor)}")
    with grpc.insecure_channel(address) as channel:
        assert ask_health(channel, metadata=metadata)
        assert refused(lambda: ask_health(channel)) is grpc.StatusCode.UNAUTHENTICATED
        wrong = ((metadata[0][0], "x" * 43),)
        assert refused(lambda: ask_health(channel, metadata=wrong)) is grpc.StatusCode.UNAUTHENTICATED
    gave_up: list[int] = []
    probe = LoopbackProbe(
        standing.processor.grpc_server.probe_call, every_s=0.01, give_up=lambda status, _: gave_up.append(status)
    )
    probe.start()
    time.sleep(0.3)
    assert probe.check() is None
    probe.stop(5)
    assert gave_up == []


# ---- whom the requestor trusts


def test_an_order_goes_over_tls(processor: Processor, requestors: Callable[..., Requestor]) -> None:
    requestor = requestors(port_of(processor))
    initiate(requestor)
    eventually(lambda: is_open(requestor))


@pytest.mark.parametrize(
    ("name", "other", "reason"),
    [
        ("elsewhere.example", {}, "its certificate is for another name"),
        ("127.0.0.1", {"usage": Usage.CLIENT}, "its certificate is not for a server"),
        ("127.0.0.1", {"days": 1, "begins_at": datetime.now(UTC) - timedelta(days=3)}, "has expired"),
    ],
)
def test_a_processor_with_a_wrong_certificate_gets_no_order(
    name: str, other: dict[str, Any], reason: str, certified: WireFolder, request: pytest.FixtureRequest
) -> None:
    certified.renew("processor", name, **other)
    processor: Processor = request.getfixturevalue("processor")
    requestor = request.getfixturevalue("requestors")(port_of(processor))
    initiate(requestor)
    eventually(error_with(requestor, reason))
    assert processor.store.counts(None) == {}


def test_a_processor_of_another_authority_gets_no_order(
    certified: WireFolder, processor: Processor, requestors: Callable[..., Requestor]
) -> None:
    certified.trust("requestor", make_authority())
    requestor = requestors(port_of(processor))
    initiate(requestor)
    eventually(error_with(requestor, "its certificate is of another authority than REQUESTOR_TLS_CA"))


def test_a_processor_without_tls_gets_no_order(tmp_path: Path, requestors: Callable[..., Requestor]) -> None:
    parts = make_processor(tmp_path)
    parts.lifecycle.start()
    try:
        requestor = requestors(port_of(parts))
        initiate(requestor)
        eventually(error_with(requestor, "it does not speak TLS"))
    finally:
        parts.lifecycle.stop()


def test_a_requestor_that_is_not_on_the_list_reads_so(
    certified: WireFolder, processor: Processor, requestors: Callable[..., Requestor]
) -> None:
    certified.renew("requestor", "stranger", usage=Usage.CLIENT)
    requestor = requestors(port_of(processor))
    initiate(requestor)
    eventually(error_with(requestor, "its list of peers does not have this end's name"))


def test_a_requestor_reads_its_files_at_each_connect(
    certified: WireFolder, processor: Processor, requestors: Callable[..., Requestor]
) -> None:
    with closing(Relay(port_of(processor))) as relay:
        requestor = requestors(relay.port)
        initiate(requestor)
        eventually(lambda: is_open(requestor))
        key = certified.files.key_file("requestor")
        kept = key.read_bytes()
        key.unlink()
        assert relay.cut()
        eventually(error_with(requestor, "REQUESTOR_TLS_KEY"))
        key.write_bytes(kept)
        eventually(lambda: is_open(requestor))


# ---- new files


def shown_serial(processor: Processor) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", port_of(processor)), timeout=TIMEOUT_S)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def serial_of(certified: WireFolder, end: str) -> int:
    return x509.load_pem_x509_certificate(certified.files.certificate_file(end).read_bytes()).serial_number


def test_a_new_certificate_is_taken_into_use_while_an_order_lives(
    certified: WireFolder, processor: Processor, requestors: Callable[..., Requestor], log: io.StringIO
) -> None:
    with closing(Relay(port_of(processor))) as relay:
        requestor = requestors(relay.port)
        initiate(requestor)
        eventually(lambda: is_open(requestor))
        since = stream_of(requestor)["since"]
        ends_at_s = processor.grpc_server.certificate_expires_at_s()
        certified.renew("processor", "127.0.0.1", days=7)
        certified.renew("requestor", "requestor", usage=Usage.CLIENT)
        assert shown_serial(processor) == serial_of(certified, "processor")
        assert "tls.reloaded" in log.getvalue()
        assert processor.grpc_server.certificate_expires_at_s() != ends_at_s
        assert stream_of(requestor)["since"] == since, "the open trunk stays"
        assert relay.cut()
        eventually(lambda: is_open(requestor, since))


def test_an_authority_is_replaced_while_an_order_lives(
    certified: WireFolder, processor: Processor, requestors: Callable[..., Requestor]
) -> None:
    old, old_client = certified.authority, certified.client("requestor")
    new = make_authority("The next CA")
    with closing(Relay(port_of(processor))) as relay:
        requestor = requestors(relay.port)
        initiate(requestor)
        eventually(lambda: is_open(requestor))

        def reconnect() -> None:
            since = stream_of(requestor)["since"]
            assert relay.cut()
            eventually(lambda: is_open(requestor, since))

        for end in ("processor", "requestor"):
            certified.trust(end, old, new)
        reconnect()
        certified.authority = new
        certified.renew("processor", "127.0.0.1")
        reconnect()
        certified.renew("requestor", "requestor", usage=Usage.CLIENT)
        reconnect()
        for end in ("processor", "requestor"):
            certified.trust(end, new)
        reconnect()
    assert refused(lambda: health_as(old_client, certified, processor)) is grpc.StatusCode.UNAVAILABLE
    assert health_as(certified.client("requestor"), certified, processor)


def test_files_that_do_not_fit_together_change_nothing(
    certified: WireFolder, processor: Processor, log: io.StringIO
) -> None:
    kept = serial_of(certified, "processor")
    key, certificate = certified.files.key_file("processor"), certified.files.certificate_file("processor")
    other = certified.client("127.0.0.1")
    for file, content in (
        (key, other.key_pem),
        (key, b"no key"),
        (certificate, b""),
        (certified.folder / "processor-ca.pem", b"no certificate"),
    ):
        before = file.read_bytes()
        log.truncate(0)
        file.write_bytes(content)
        assert [shown_serial(processor) for _ in range(3)] == [kept] * 3
        assert log.getvalue().count("tls.reload_refused") == 1, "told once for each state of the files"
        file.write_bytes(before)
    key.unlink()
    assert shown_serial(processor) == kept
    certified.renew("processor", "127.0.0.1")
    assert shown_serial(processor) == serial_of(certified, "processor") != kept


# ---- starts


def test_files_that_cannot_be_used_refuse_the_start(tmp_path: Path, certified: WireFolder) -> None:
    settings = certified.settings("processor")
    certified.files.key_file("processor").write_bytes(certified.files.key_file("requestor").read_bytes())
    with pytest.raises(StartRefused, match=r"PROCESSOR_TLS_KEY is not the key of PROCESSOR_TLS_CERT.*dev.py certs"):
        make_processor(tmp_path, tls_peers=("requestor",), **settings).lifecycle.start()
    certified.files.certificate_file("requestor").unlink()
    with pytest.raises(StartRefused, match=r"REQUESTOR_TLS_CERT .* cannot be read: No such file"):
        make_requestor(tmp_path, **certified.settings("requestor")).lifecycle.start()


def findings_of(certified: WireFolder, processor: Processor) -> dict[str, str]:
    """What `doctor` says of TLS and the processor, by subject."""
    environ = {
        **certified.environment("requestor"),
        "REQUESTOR_PROCESSORS": f"127.0.0.1:{port_of(processor)}",
        "REQUESTOR_STORE": f"sqlite:///{certified.folder / 'looked-at.db'}",
    }
    found = [finding for examine in requestor_patient(environ).examinations for finding in examine()]
    return {item.subject: f"{item.verdict} {item.text}" for item in found if item.subject in ("tls", "processor")}


def test_doctor_looks_at_the_files_and_asks_over_tls(certified: WireFolder, processor: Processor) -> None:
    said = findings_of(certified, processor)
    assert said["tls"].startswith("fine")
    assert "answers within" in said["processor"]
    certified.renew("requestor", "stranger", usage=Usage.CLIENT, days=10)
    said = findings_of(certified, processor)
    assert "expires in 10 days" in said["tls"]
    assert "answers, but not to this requestor (PERMISSION_DENIED" in said["processor"]
    certified.renew(
        "requestor", "requestor", usage=Usage.CLIENT, days=1, begins_at=datetime.now(UTC) - timedelta(days=2)
    )
    assert "has expired" in findings_of(certified, processor)["tls"]
    certified.files.key_file("requestor").unlink()
    said = findings_of(certified, processor)
    assert "REQUESTOR_TLS_KEY" in said["tls"]
    assert "processor" not in said
