from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from processor_app.bootstrap import Processor
from processor_app.rpc.servicer import MAX_SINGLE_CALLS
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from service_kit.change import Ref
from service_kit.origin import UNKNOWN
from service_kit.rpc.options import MAX_CONNECTIONS
from service_kit.rpc.server import GrpcServer
from service_kit.storage.sqlite import SqliteStore
from tests.integration.test_sqlite_store import limit_pages

SERVICE = "order_communicator.v1.OrderService"
TIMEOUT_S = 20


@pytest.fixture
def channel(running_processor: Processor) -> Iterator[grpc.Channel]:
    made = grpc.insecure_channel(
        f"127.0.0.1:{running_processor.grpc_server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
    )
    yield made
    made.close()


@pytest.fixture
def stub(channel: grpc.Channel) -> order_service_pb2_grpc.OrderServiceStub:
    return order_service_pb2_grpc.OrderServiceStub(channel)


def open_request(key: str = "A1", **other: Any) -> wire.OrderStreamRequest:
    values = {"session_id": "s1", "notification_type": "email", "audience": ["seller1"], "token": 1, "run": 1}
    return wire.OrderStreamRequest(**{"order_req_id": key, "stream_id": "st1", **values, **other})


def follow_up(key: str = "A1", **other: Any) -> wire.FollowUpRequest:
    values = {"follow_up_id": "n1", "token": 1, "audience": ["seller1"], "message_type": "text", "message": "hello"}
    return wire.FollowUpRequest(**{"order_req_id": key, **values, **other})


def close_request(key: str = "A1", **other: Any) -> wire.CloseOrderRequest:
    values = {"token": 1, "kind": wire.CloseOrderRequest.COMPLETE}
    return wire.CloseOrderRequest(**{"order_req_id": key, **values, **other})


def open_call(stub: Any, key: str = "A1", **other: Any) -> Any:
    """A StreamOrder call whose first two responses are read: it is open and the order is accepted."""
    call = stub.StreamOrder(open_request(key, **other), timeout=TIMEOUT_S)
    assert next(call).WhichOneof("step") == "opened"
    return call


def refusal(work: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        work()
    error: Any = caught.value
    return error.code(), error.details()


def eventually(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)


# ---- health and reflection


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_says_serving(channel: grpc.Channel, name: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_other_services(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    code, _ = refusal(lambda: health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection.ServerReflectionInfo(iter([ask]), timeout=TIMEOUT_S)
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


# ---- one order in one call


def test_a_stream_opens_and_the_order_is_accepted(stub: Any) -> None:
    call = stub.StreamOrder(open_request(), timeout=TIMEOUT_S)
    first, second = next(call), next(call)
    assert (first.order_req_id, first.stream_id) == ("A1", "st1")
    assert (first.opened.token, first.opened.head_seq, first.opened.resumes_after) == (1, 1, 0)
    assert (second.event.seq, second.event.run) == (1, 1)
    assert list(second.event.accepted.audience) == ["seller1"]
    call.cancel()


def test_a_client_tells_of_its_trace_in_the_message_or_in_the_metadata(stub: Any, running_processor: Processor) -> None:
    trace, other = (f"00-{digit * 32}-b7ad6b7169203331-01" for digit in "ab")

    def origin(key: str) -> tuple[str, str]:
        kept = running_processor.orders.get(Ref("default", key)).origin
        return kept.traceparent, kept.request_id

    metadata = (("traceparent", other), ("x-request-id", "r2"))
    for key, fields in {"M1": {"traceparent": trace, "request_id": "r1"}, "M2": {}}.items():
        call = stub.StreamOrder(open_request(key, **fields), timeout=TIMEOUT_S, metadata=metadata)
        next(call)
        call.cancel()
    assert origin("M1") == (trace, "r1")
    assert origin("M2") == (other, "r2")


@pytest.mark.parametrize("bad", ["00-forged", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 100_000, "é"])
def test_a_trace_that_is_not_valid_is_dropped_and_the_order_is_taken(
    stub: Any, running_processor: Processor, bad: str
) -> None:
    call = open_call(stub, traceparent=bad, request_id="x\r\nforged: yes")
    call.cancel()
    assert running_processor.orders.get(Ref("default", "A1")).origin == UNKNOWN


def test_a_follow_up_shows_as_an_event_once(stub: Any) -> None:
    call = open_call(stub)
    next(call)
    for _ in range(2):
        ack = stub.SubmitFollowUp(follow_up(), timeout=TIMEOUT_S)
        assert (ack.outcome, ack.order_req_id, ack.follow_up_id) == (wire.ACCEPTED, "A1", "n1")
    stub.SubmitFollowUp(follow_up(follow_up_id="n2"), timeout=TIMEOUT_S)
    events = [next(call).event for _ in range(2)]
    assert [(event.seq, event.follow_up_accepted.follow_up_id) for event in events] == [(2, "n1"), (3, "n2")]
    call.cancel()


@pytest.mark.parametrize(
    ("kind", "fact"), [(wire.CloseOrderRequest.COMPLETE, "completed"), (wire.CloseOrderRequest.CANCEL, "cancelled")]
)
def test_a_close_ends_the_call_with_ok(stub: Any, running_processor: Processor, kind: Any, fact: str) -> None:
    call = open_call(stub)
    for _ in range(2):
        assert stub.CloseOrder(close_request(kind=kind, reason="done"), timeout=TIMEOUT_S).outcome == wire.ACCEPTED
    steps = list(call)
    assert [step.event.WhichOneof("fact") for step in steps] == ["accepted", fact]
    assert getattr(steps[-1].event, fact).by == "buyer"
    assert call.code() is grpc.StatusCode.OK
    eventually(lambda: running_processor.hub.stream_count == 0)
    eventually(lambda: not running_processor.hub.outlets())


def test_a_close_that_comes_again_in_a_later_run_is_answered_alike(stub: Any, running_processor: Processor) -> None:
    open_call(stub).cancel()
    assert stub.CloseOrder(close_request(run=1), timeout=TIMEOUT_S).outcome == wire.ACCEPTED
    open_call(stub, token=2, run=2, stream_id="st2").cancel()
    assert stub.CloseOrder(close_request(token=2, run=1), timeout=TIMEOUT_S).outcome == wire.ACCEPTED
    assert running_processor.orders.get(Ref("default", "A1")).state == "live"


def test_a_finished_order_that_is_opened_again_sends_what_is_missing_and_ends(stub: Any) -> None:
    open_call(stub).cancel()
    stub.CloseOrder(close_request(), timeout=TIMEOUT_S)
    missing = list(stub.StreamOrder(open_request(resume_after=1), timeout=TIMEOUT_S))
    assert [step.WhichOneof("step") for step in missing] == ["opened", "event"]
    nothing = list(stub.StreamOrder(open_request(resume_after=2), timeout=TIMEOUT_S))
    assert [step.WhichOneof("step") for step in nothing] == ["opened"]


def test_a_new_run_goes_on_with_the_numbers(stub: Any) -> None:
    open_call(stub).cancel()
    stub.CloseOrder(close_request(), timeout=TIMEOUT_S)
    call = stub.StreamOrder(open_request(token=2, run=2), timeout=TIMEOUT_S)
    first, second = next(call), next(call)
    assert (first.opened.head_seq, first.opened.resumes_after) == (3, 2)
    assert (second.event.seq, second.event.run, second.event.WhichOneof("fact")) == (3, 2, "accepted")
    call.cancel()


def test_a_lower_token_is_refused_and_harms_nothing(stub: Any) -> None:
    call = open_call(stub, token=5, run=5)
    next(call)
    lower: dict[str, Any] = {"token": 4}
    for work in (
        lambda: list(stub.StreamOrder(open_request(run=4, stream_id="st2", **lower), timeout=TIMEOUT_S)),
        lambda: stub.SubmitFollowUp(follow_up(**lower), timeout=TIMEOUT_S),
        lambda: stub.CloseOrder(close_request(**lower), timeout=TIMEOUT_S),
    ):
        code, _ = refusal(work)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
    stub.SubmitFollowUp(follow_up(token=5), timeout=TIMEOUT_S)
    assert next(call).event.WhichOneof("fact") == "follow_up_accepted"
    call.cancel()


@pytest.mark.parametrize(("token", "stream_id"), [(1, "st2"), (2, "st2")], ids=["equal token", "higher token"])
def test_a_newer_opening_takes_the_stream_over(
    stub: Any, running_processor: Processor, token: int, stream_id: str
) -> None:
    old = open_call(stub)
    next(old)
    new = open_call(stub, token=token, stream_id=stream_id)
    assert next(new).event.seq == 1
    code, _ = refusal(lambda: next(old))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    eventually(lambda: len(running_processor.hub.outlets()) == 1)
    assert running_processor.hub.stream_count == 1
    stub.SubmitFollowUp(follow_up(token=token), timeout=TIMEOUT_S)
    assert next(new).event.WhichOneof("fact") == "follow_up_accepted"
    new.cancel()


def test_a_requestor_that_knows_more_is_told_of_lost_data(stub: Any) -> None:
    code, _ = refusal(lambda: list(stub.StreamOrder(open_request(resume_after=3), timeout=TIMEOUT_S)))
    assert code is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        ({"order_req_id": ""}, ["/order_req_id"]),
        ({"order_req_id": "a b"}, ["/order_req_id"]),
        ({"order_req_id": "a\n"}, ["/order_req_id"]),
        ({"session_id": "", "stream_id": ""}, ["/session_id", "/stream_id"]),
        ({"tenant": "a/b"}, ["/tenant"]),
        ({"notification_type": "pigeon"}, ["/notification_type"]),
        ({"audience": ["ok", ""]}, ["/audience/1"]),
        ({"audience": [f"s{number}" for number in range(101)]}, ["/audience"]),
        ({"token": 0, "run": 0}, ["/token", "/run"]),
        ({"token": -1}, ["/token"]),
        ({"run": 2}, ["/run"]),
        ({"resume_after": -1}, ["/resume_after"]),
        ({"details": "[1]"}, ["/details"]),
        ({"details": "{"}, ["/details"]),
        ({"details": "[" * 20_000}, ["/details"]),
        ({"details": '{"a": NaN}'}, ["/details"]),
        ({"details": '{"a": 1, "a": 2}'}, ["/details"]),
        ({"details": '{"a": "\\ud800"}'}, ["/details"]),
        ({"details": '{"a": 9223372036854775808}'}, ["/details"]),
        ({"audience": ["ok", "ok"]}, ["/audience"]),
        ({"details": '{"a": "' + "x" * 33_000 + '"}'}, ["/details"]),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_opening_is_refused_with_its_fields(
    stub: Any, running_processor: Processor, other: dict[str, Any], fields: list[str]
) -> None:
    request = open_request(**other)
    code, details = refusal(lambda: list(stub.StreamOrder(request, timeout=TIMEOUT_S)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert all(f"{field} " in details for field in fields), details
    assert running_processor.orders.counts("default") == {}


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        ({"order_req_id": "a b", "follow_up_id": "", "token": -1}, ["/order_req_id", "/follow_up_id", "/token"]),
        ({"audience": []}, ["/audience"]),
        ({"audience": ["ok", "ok"]}, ["/audience"]),
        ({"message": " ", "urls": []}, ["/message"]),
        ({"audience": ["a b"]}, ["/audience/0"]),
        ({"message_type": "Text!"}, ["/message_type"]),
        ({"message": "a" * 10_001}, ["/message"]),
        ({"message": "\x00"}, ["/message"]),
        ({"urls": ["https://a.example/", "ftp://a.example/"]}, ["/urls/1"]),
        ({"urls": ["javascript:alert(1)"]}, ["/urls/0"]),
        ({"urls": ["https://u:p@a.example/"]}, ["/urls/0"]),
        ({"urls": ["https://a.example/"] * 21}, ["/urls"]),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_follow_up_is_refused_with_its_fields(stub: Any, other: dict[str, Any], fields: list[str]) -> None:
    code, details = refusal(lambda: stub.SubmitFollowUp(follow_up(**other), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert all(f"{field} " in details for field in fields), details


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"kind": wire.CloseOrderRequest.KIND_UNSPECIFIED}, "/kind"),
        ({"kind": 7}, "/kind"),
        ({"reason": "a" * 501}, "/reason"),
        ({"token": 0}, "/token"),
        ({"run": 2}, "/run"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_close_is_refused_with_its_field(stub: Any, other: dict[str, Any], field: str) -> None:
    code, details = refusal(lambda: stub.CloseOrder(close_request(**other), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"{field} " in details


def test_an_unknown_order_is_not_found(stub: Any) -> None:
    for work in (
        lambda: stub.SubmitFollowUp(follow_up(), timeout=TIMEOUT_S),
        lambda: stub.CloseOrder(close_request(), timeout=TIMEOUT_S),
    ):
        code, _ = refusal(work)
        assert code is grpc.StatusCode.NOT_FOUND


def test_what_an_order_does_not_allow_is_aborted(stub: Any) -> None:
    open_call(stub).cancel()
    stub.SubmitFollowUp(follow_up(), timeout=TIMEOUT_S)
    code, _ = refusal(lambda: stub.SubmitFollowUp(follow_up(message="bye"), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.ABORTED
    stub.CloseOrder(close_request(), timeout=TIMEOUT_S)
    for work in (
        lambda: stub.SubmitFollowUp(follow_up(follow_up_id="n2"), timeout=TIMEOUT_S),
        lambda: stub.CloseOrder(close_request(kind=wire.CloseOrderRequest.CANCEL), timeout=TIMEOUT_S),
    ):
        code, _ = refusal(work)
        assert code is grpc.StatusCode.ABORTED


def test_too_many_calls_are_refused_while_unary_calls_and_health_answer(stub: Any, channel: grpc.Channel) -> None:
    calls = [open_call(stub, f"A{number}") for number in range(MAX_SINGLE_CALLS)]
    code, _ = refusal(lambda: list(stub.StreamOrder(open_request("one-more"), timeout=TIMEOUT_S)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.SubmitFollowUp(follow_up("A0"), timeout=TIMEOUT_S).outcome == wire.ACCEPTED
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    calls.pop().cancel()

    def is_free_again() -> bool:
        call = stub.StreamOrder(open_request("one-more"), timeout=TIMEOUT_S)
        try:
            return next(call).WhichOneof("step") == "opened"
        except grpc.RpcError:
            return False
        finally:
            call.cancel()

    eventually(is_free_again)
    for call in calls:
        call.cancel()


def test_a_call_whose_client_does_not_come_to_an_end_is_cut(
    running_processor: Processor, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_processor.grpc_server.deadlines, "_call_s", 0.5)
    questions: queue.SimpleQueue[reflection_pb2.ServerReflectionRequest | None] = queue.SimpleQueue()
    questions.put(reflection_pb2.ServerReflectionRequest(list_services=""))
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter(questions.get, None))
    assert next(call).HasField("list_services_response")
    code, _ = refusal(lambda: next(call))
    assert code is grpc.StatusCode.CANCELLED
    questions.put(None)
    assert sum(running_processor.grpc_server.deadlines.cut.read().values()) == 1


def test_a_stream_has_no_deadline(stub: Any, running_processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_processor.grpc_server.deadlines, "_call_s", 0.1)
    call = open_call(stub)
    time.sleep(2.5)
    assert call.is_active()
    call.cancel()


def test_watching_health_holds_no_thread_of_the_calls(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(20)]
    for watch in watches:
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    assert sum(thread.name.startswith("grpc-call") for thread in threading.enumerate()) < 20
    for watch in watches:
        watch.cancel()


def test_a_head_that_is_too_large_is_refused(stub: Any) -> None:
    large = (("x-large", "x" * 20_000),)
    code, _ = refusal(lambda: stub.SubmitFollowUp(follow_up(), timeout=TIMEOUT_S, metadata=large))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_connections_above_the_limit_are_closed(running_processor: Processor, channel: grpc.Channel) -> None:
    port = running_processor.grpc_server.port
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(MAX_CONNECTIONS + 20)
        ]
        for one in crowd:
            one.settimeout(0.01)

        def closed() -> int:
            return sum(is_closed(one) for one in crowd)

        eventually(lambda: closed() >= 15)


def is_closed(connection: socket.socket) -> bool:
    try:
        while data := connection.recv(1000):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return not data


def test_a_record_that_cannot_be_read_is_answered_without_its_reason(stub: Any, running_processor: Processor) -> None:
    open_call(stub).cancel()
    store = running_processor.store
    assert isinstance(store, SqliteStore)
    store._writing().call(lambda connection: connection.execute("UPDATE records SET body = '{\"secret\": 1}'"))
    code, details = refusal(lambda: stub.SubmitFollowUp(follow_up(), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INTERNAL
    assert "KeyError" not in details
    assert "notification_type" not in details


def test_the_text_of_an_unexpected_error_is_not_told() -> None:
    def fail(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        raise RuntimeError("the secret")

    def fail_in_a_stream(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        raise RuntimeError("the secret")

    handlers = {
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLater": grpc.unary_stream_rpc_method_handler(fail_in_a_stream),
    }
    server = GrpcServer(
        "127.0.0.1",
        0,
        add_services=[lambda s: s.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.T", handlers)])],
        service_names=[],
        keepalive_ms=10_000,
        max_threads=4,
        port_setting="TEST_PORT",
    )
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            unary = channel.unary_unary("/test.T/Fail", bytes, bytes)
            stream = channel.unary_stream("/test.T/FailLater", bytes, bytes)
            for work in (lambda: unary(b"", timeout=TIMEOUT_S), lambda: list(stream(b"", timeout=TIMEOUT_S))):
                code, details = refusal(work)
                assert code is grpc.StatusCode.INTERNAL
                assert details.startswith("internal error ")
                assert "secret" not in details
    finally:
        server.stop(5)


# ---- the trunk, spoken by hand


class Trunk:
    """The requestor's end of a trunk: what is put goes out, what comes in is read until it is there."""

    def __init__(self, stub: Any, instance_id: str = "tester") -> None:
        self._requests: queue.SimpleQueue[wire.TrunkUp | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.received: list[wire.TrunkDown] = []
        self.call = stub.StreamOrders(iter(self._requests.get, None), timeout=60)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(hello=wire.Hello(instance_id=instance_id, software_version="1", now_ms=1))

    def _read(self) -> None:
        try:
            for message in self.call:
                with self._lock:
                    self.received.append(message)
        except grpc.RpcError:
            pass  # the tests look at the call's code

    def send(self, **parts: Any) -> None:
        self._requests.put(wire.TrunkUp(**parts))

    def all(self, name: str) -> list[Any]:
        with self._lock:
            return [item for message in self.received for item in getattr(message, name)]

    def steps(self, step: str) -> list[Any]:
        return [response for response in self.all("streams") if response.WhichOneof("step") == step]

    def wait_for(self, count: int, name: str, *, step: str = "") -> list[Any]:
        eventually(lambda: len(self.steps(step) if step else self.all(name)) >= count)
        return self.steps(step) if step else self.all(name)

    def events(self, count: int) -> list[tuple[str, int, str]]:
        found = self.wait_for(count, "streams", step="event")
        return [(item.order_req_id, item.event.seq, item.event.WhichOneof("fact")) for item in found]

    def end(self) -> None:
        self._requests.put(None)
        self.call.cancel()
        self._reader.join(10)
        assert not self._reader.is_alive()


@pytest.fixture
def trunk(stub: Any) -> Iterator[Trunk]:
    made = Trunk(stub)
    yield made
    made.end()


def test_a_trunk_begins_with_a_hello(trunk: Trunk) -> None:
    eventually(lambda: bool(trunk.received))
    assert trunk.received[0].hello.instance_id.startswith("processor-")
    assert trunk.received[0].hello.software_version
    assert abs(trunk.received[0].hello.now_ms / 1000 - time.time()) < 60


def test_a_quiet_trunk_shows_signs_of_life(trunk: Trunk) -> None:
    eventually(lambda: any(message.HasField("heartbeat") for message in trunk.received))


def test_a_batch_of_opens_opens_every_stream(trunk: Trunk, running_processor: Processor) -> None:
    keys = [f"A{number}" for number in range(200)]
    trunk.send(opens=[open_request(key, stream_id=f"st-{key}") for key in keys])
    opened = trunk.wait_for(200, "streams", step="opened")
    assert sorted((item.order_req_id, item.stream_id) for item in opened) == sorted((key, f"st-{key}") for key in keys)
    assert sorted(trunk.events(200)) == sorted((key, 1, "accepted") for key in keys)
    assert running_processor.hub.stream_count == 200


def test_each_stream_says_that_it_is_open_before_its_events(trunk: Trunk) -> None:
    trunk.send(opens=[open_request("A1"), open_request("B2")])
    trunk.events(2)
    for key in ("A1", "B2"):
        steps = [item.WhichOneof("step") for item in trunk.all("streams") if item.order_req_id == key]
        assert steps == ["opened", "event"]


def test_everything_in_one_message_is_taken_in_its_order(trunk: Trunk) -> None:
    trunk.send(opens=[open_request()], follow_ups=[follow_up(), follow_up(follow_up_id="n2")], closes=[close_request()])
    assert trunk.events(4) == [
        ("A1", 1, "accepted"),
        ("A1", 2, "follow_up_accepted"),
        ("A1", 3, "follow_up_accepted"),
        ("A1", 4, "completed"),
    ]
    acks = trunk.wait_for(2, "follow_up_acks")
    assert [(ack.follow_up_id, ack.outcome) for ack in acks] == [("n1", wire.ACCEPTED), ("n2", wire.ACCEPTED)]
    assert [ack.outcome for ack in trunk.wait_for(1, "close_acks")] == [wire.ACCEPTED]


def test_a_finished_stream_is_over_once_its_last_event_is_acknowledged(
    trunk: Trunk, running_processor: Processor
) -> None:
    trunk.send(opens=[open_request()], closes=[close_request()])
    trunk.events(2)
    assert running_processor.hub.stream_count == 1
    trunk.send(acks=[wire.EventAck(order_req_id="A1", seq=2), wire.EventAck(order_req_id="nobody", seq=9)])
    eventually(lambda: running_processor.hub.stream_count == 0)


def test_a_bad_open_in_a_batch_harms_no_other(trunk: Trunk) -> None:
    trunk.send(opens=[open_request("A1"), open_request("B2", token=0), open_request("C3", resume_after=5)])
    assert sorted(trunk.events(1)) == [("A1", 1, "accepted")]
    refused = {item.order_req_id: item.refused for item in trunk.wait_for(2, "streams", step="refused")}
    assert refused["B2"].reason == wire.StreamRefused.INVALID
    assert "/token" in refused["B2"].detail
    assert refused["C3"].reason == wire.StreamRefused.DIVERGED


def test_a_bad_follow_up_or_close_in_a_batch_harms_no_other(trunk: Trunk) -> None:
    trunk.send(
        opens=[open_request()],
        follow_ups=[follow_up(follow_up_id="bad", audience=[]), follow_up(), follow_up("B2")],
        closes=[close_request("B2"), close_request("A1", kind=wire.CloseOrderRequest.KIND_UNSPECIFIED)],
    )
    acks = {(ack.order_req_id, ack.follow_up_id): ack for ack in trunk.wait_for(3, "follow_up_acks")}
    assert acks["A1", "n1"].outcome == wire.ACCEPTED
    assert acks["A1", "bad"].outcome == wire.REFUSED
    assert "/audience" in acks["A1", "bad"].detail
    assert acks["B2", "n1"].outcome == wire.REFUSED
    closes = {ack.order_req_id: ack.outcome for ack in trunk.wait_for(2, "close_acks")}
    assert closes == {"A1": wire.REFUSED, "B2": wire.REFUSED}


def test_no_note_overtakes_one_that_must_come_again(trunk: Trunk, running_processor: Processor) -> None:
    store = running_processor.store
    assert isinstance(store, SqliteStore)
    trunk.send(opens=[open_request("A1"), open_request("B2", stream_id="st2")])
    trunk.events(2)
    limit_pages(store, 1)
    long, short = follow_up(follow_up_id="n1", message="x" * 9_000, sending=1), follow_up(follow_up_id="n2", sending=1)
    trunk.send(follow_ups=[long])
    trunk.send(follow_ups=[short, follow_up("B2", follow_up_id="n2", sending=1)], closes=[close_request(sending=1)])
    acks = {(ack.order_req_id, ack.follow_up_id): ack.outcome for ack in trunk.wait_for(3, "follow_up_acks")}
    assert acks == {("A1", "n1"): wire.TRY_AGAIN, ("A1", "n2"): wire.TRY_AGAIN, ("B2", "n2"): wire.ACCEPTED}
    assert trunk.wait_for(1, "close_acks")[0].outcome == wire.TRY_AGAIN

    limit_pages(store, 0)
    long.sending = short.sending = 2
    trunk.send(follow_ups=[long, short], closes=[close_request(sending=2)])
    kinds = [kind for key, _, kind in trunk.events(6) if key == "A1"]
    assert kinds == ["accepted", "follow_up_accepted", "follow_up_accepted", "completed"]
    notes = [entry.body["follow_up_id"] for entry in store.entries(Ref("default", "A1"), kinds=("follow_up_accepted",))]
    assert notes == ["n1", "n2"]


def test_a_lower_token_is_fenced_on_the_trunk(trunk: Trunk) -> None:
    trunk.send(opens=[open_request(token=5, run=5)])
    trunk.events(1)
    trunk.send(
        opens=[open_request(token=4, run=4, stream_id="st2")],
        follow_ups=[follow_up(token=4)],
        closes=[close_request(token=4)],
    )
    (refused,) = trunk.wait_for(1, "streams", step="refused")
    assert (refused.stream_id, refused.refused.reason, refused.refused.highest_token) == (
        "st2",
        wire.StreamRefused.FENCED,
        5,
    )
    assert trunk.wait_for(1, "follow_up_acks")[0].outcome == wire.OUTCOME_FENCED
    assert trunk.wait_for(1, "close_acks")[0].outcome == wire.OUTCOME_FENCED


def test_a_stream_moves_to_another_trunk_with_a_higher_token(
    trunk: Trunk, stub: Any, running_processor: Processor
) -> None:
    trunk.send(opens=[open_request("A1"), open_request("B2")])
    trunk.events(2)
    heir = Trunk(stub, "heir")
    try:
        heir.send(opens=[open_request("A1", token=2, stream_id="st2", resume_after=1)], follow_ups=[follow_up(token=2)])
        assert heir.events(1) == [("A1", 2, "follow_up_accepted")]
        (closed,) = trunk.wait_for(1, "streams", step="closed")
        assert (closed.order_req_id, closed.closed.reason) == ("A1", wire.StreamClosed.SUPERSEDED)
        trunk.send(follow_ups=[follow_up("B2")])
        assert trunk.events(3)[2:] == [("B2", 2, "follow_up_accepted")]
        assert running_processor.hub.stream_count == 2
    finally:
        heir.end()
    eventually(lambda: running_processor.hub.stream_count == 1)


def test_a_trunk_that_ends_takes_its_streams_with_it(stub: Any, running_processor: Processor) -> None:
    trunk = Trunk(stub)
    trunk.send(opens=[open_request()])
    trunk.events(1)
    trunk.end()
    eventually(lambda: running_processor.hub.stream_count == 0 and not running_processor.hub.outlets())


def test_a_processor_that_stops_announces_it_and_ends_the_trunk(trunk: Trunk, running_processor: Processor) -> None:
    trunk.send(opens=[open_request()])
    trunk.events(1)
    running_processor.lifecycle.stop()
    eventually(lambda: any(message.HasField("going_away") for message in trunk.received))
    eventually(trunk.call.done)
