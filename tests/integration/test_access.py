"""Who may call what: every route of both services against every kind of key, and tenants side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from processor_app.bootstrap import Processor, build_processor
from processor_app.domain import OpenStream
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.settings import RequestorSettings
from service_kit.access.keys import make_key
from service_kit.access.model import AccessStore, Scope
from service_kit.change import DEFAULT_TENANT, Ref
from service_kit.storage.opening import open_access_store
from service_kit.web.guard import Door, current_principal, door_of
from tests.described import DescribedClient
from tests.redis_servers import RedisServer

T = TypeVar("T")
OTHER = "other"
#: Everything that is open to everybody. What is added here was thought about.
PUBLIC = {
    *("/livez", "/readyz", "/api/v1/health", "/openapi.json", "/docs"),
    *("/reply/", "/reply/<path:token>", "/console/static/<path:filename>", "/console/sign-in"),
}
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")


class World(NamedTuple):
    """A service that needs keys, with its stores started and one order that belongs to the first tenant."""

    app: Flask
    access: AccessStore
    delivery_id: str = ""

    @property
    def client(self) -> FlaskClient:
        self.app.test_client_class = DescribedClient
        return self.app.test_client()

    def key(self, *scopes: Scope, **other: Any) -> dict[str, str]:
        """The header of a new key."""
        new = make_key(scopes, **other)
        self.access.add(new.key)
        return bearer(new.token)


class Route(NamedTuple):
    """One method of one rule of an app."""

    method: str
    rule: str
    door: Door

    @property
    def is_console(self) -> bool:
        """Whether a session opens it as well: without one, a page leads to the sign-in."""
        return self.rule == "/" or self.rule.startswith("/console/")

    def makes_something(self) -> bool:
        """Whether the same call makes what there is not."""
        return self.method == "PUT" or self.rule.endswith("/initiate")

    def call(self, world: World, headers: Mapping[str, str] | None = None, **names: str) -> TestResponse:
        """Call it; ids that are not given are those of what the first tenant has."""
        known = {"order_req_id": "A1", "seller_id": "s1", "delivery_id": world.delivery_id, **names}
        path = self.rule
        for name, value in known.items():
            path = path.replace(f"<{name}>", value)
        body = None if self.method == "GET" else _body_of(world, self, known)
        query = {"id": known["order_req_id"]} if path in ("/console/order", "/console/data/order") else None
        here = {"Origin": "http://localhost"}
        return world.client.open(
            path, method=self.method, json=body, query_string=query, headers={**here, **(headers or {})}
        )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _body_of(world: World, route: Route, known: Mapping[str, str]) -> dict[str, Any] | None:
    """A body that is fine: the documented example, about what is known."""
    consoles: dict[str, dict[str, Any]] = {
        "followup": {"order_req_id": "A1", "audience": ["s1"], "message": {"message": "hello", "message_type": "text"}},
        "complete": {"order_req_id": known["order_req_id"]},
        "cancel": {"order_req_id": known["order_req_id"]},
        "retry": {"delivery_id": known["delivery_id"]},
        "retry-seller": {"seller_id": known["seller_id"]},
    }
    if route.rule == "/console/sign-out":
        return {}
    if route.rule.startswith("/console/do/"):
        return consoles[route.rule.rpartition("/")[2]]
    document: dict[str, Any] = world.client.get("/openapi.json").get_json()
    template = route.rule.replace("<", "{").replace(">", "}")
    described = document["paths"][template][route.method.lower()].get("requestBody")
    body: dict[str, Any] | None = None if described is None else described["content"]["application/json"]["example"]
    if body is not None and "order_req_id" in body:
        body = {**body, "order_req_id": known["order_req_id"]}
    return body


@pytest.fixture
def requestor(tmp_path: Path) -> Iterator[World]:
    settings = RequestorSettings(
        store=f"sqlite:///{tmp_path / 'r.db'}", port=0, processors=("127.0.0.1:1",), require_keys=True, address_rate=0
    )
    parts = build_requestor(settings)
    access = parts.app.extensions["access_store"]
    parts.store.start()
    parts.lease.start()
    world = World(parts.app, access)
    initiate(world, world.key(Scope.ORDERS_WRITE), "A1")
    yield world
    parts.lease.stop(5)
    parts.store.stop()
    access.stop(1)


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[World]:
    settings = ProcessorSettings(
        store=f"sqlite:///{tmp_path / 'p.db'}", port=0, grpc_port=0, require_keys=True, address_rate=0
    )
    parts = build_processor(settings)
    access = parts.app.extensions["access_store"]
    parts.store.start()
    world = World(parts.app, access)
    seller = world.client.put("/api/v1/sellers/s1", json={"name": "One"}, headers=world.key(Scope.SELLERS_WRITE))
    assert seller.status_code == 200
    parts.orders.take_one(OpenStream(Ref(DEFAULT_TENANT, "A1"), "s", "email", ("s1",), None, 1, "st", 0, 1))
    (message,) = parts.store.messages(Ref(DEFAULT_TENANT, "A1"))
    yield world._replace(delivery_id=message.message_id)
    parts.store.stop()
    access.stop(1)


@pytest.fixture(params=["requestor", "processor"])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.getfixturevalue(request.param)
    return made


def initiate(world: World, headers: Mapping[str, str], order_req_id: str) -> TestResponse:
    body = {"order_req_id": order_req_id, "session_id": "s", "notification_type": "none", "audience": ["s1"]}
    return world.client.post("/api/v1/orders/initiate", json=body, headers=headers)


def routes_of(world: World) -> list[Route]:
    """Every method of every rule; one whose view says nothing fails here."""
    found = []
    for rule in world.app.url_map.iter_rules():
        door = door_of(world.app.view_functions[rule.endpoint])
        assert door is not None, f"{rule.rule} says neither which key opens it nor that none is needed"
        found += [Route(method, rule.rule, door) for method in _METHODS if method in (rule.methods or ())]
    return found


def closed_routes_of(world: World) -> list[Route]:
    return [route for route in routes_of(world) if route.door.scope is not None]


def fresh(response: TestResponse) -> bytes:
    """An answer without what is new in every one."""
    return response.data.replace(response.headers["X-Request-ID"].encode(), b"-")


def eventually(look: Callable[[], T], *, timeout_s: float = 15) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return found


# ---- every route


def test_what_is_open_to_everybody_is_listed(world: World) -> None:
    routes = routes_of(world)
    open_rules = {route.rule for route in routes if route.door.scope is None}
    assert open_rules <= PUBLIC
    assert len(closed_routes_of(world)) > 10


def test_a_call_without_a_good_key_is_refused_by_every_route(world: World) -> None:
    every = list(Scope)
    good, expired, revoked = (make_key(every, tenant=DEFAULT_TENANT, lives_ms=lives) for lives in (None, 0, None))
    for new in (good, expired, revoked):
        world.access.add(new.key)
    world.access.revoke(revoked.key.key_id, 5)
    wrong = good.token[:-1] + ("a" if good.token[-1] != "a" else "b")
    no_key: list[dict[str, str]] = [{}]
    malformed = [{"Authorization": text} for text in ("", "Bearer", "Bearer ", "Basic eDp5", good.token, "Bearer,x")]
    bad = [bearer(token) for token in (wrong, expired.token, revoked.token, "x", "oc_a_b", good.token + " x")]
    for route in closed_routes_of(world):
        for headers in (*([] if route.is_console else no_key), *malformed):
            response = route.call(world, headers)
            assert (response.status_code, response.get_json()["type"][-13:]) == (401, ":unauthorized"), (route, headers)
            assert response.headers["WWW-Authenticate"] == "Bearer"
        for headers in bad:
            response = route.call(world, headers)
            assert (response.status_code, response.get_json()["type"][-8:]) == (401, ":bad_key"), (route, headers)
            assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        if route.is_console:
            response = route.call(world)
            if response.status_code == 303:
                assert response.location.startswith("/console/sign-in"), route
                assert route.method == "GET" or route.rule == "/console/sign-out", route
            else:
                assert (response.status_code, response.get_json()["type"][-13:]) == (401, ":session_over"), route
    # Nothing of all that had an effect, and the same calls with the good key are let in.
    for route in closed_routes_of(world):
        assert route.call(world, bearer(good.token)).status_code not in (401, 403), route


def test_a_key_with_every_scope_but_the_right_one_is_refused_by_every_route(world: World) -> None:
    for scope in Scope:
        headers = world.key(*(other for other in Scope if other is not scope))
        for route in closed_routes_of(world):
            if route.door.scope is scope:
                response = route.call(world, headers)
                assert response.status_code == 403, route
                assert response.get_json()["type"].endswith(":insufficient_scope")
                assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


def test_what_another_tenant_has_is_answered_by_every_route_like_what_there_is_not(world: World) -> None:
    theirs = world.key(*Scope, tenant=OTHER)
    checked = 0
    # What they put there they have, so that comes last.
    for route in sorted(closed_routes_of(world), key=Route.makes_something):
        if route.door.is_whole:
            assert route.call(world, theirs).status_code == 403
            continue
        absent = {"order_req_id": "A2", "seller_id": "s2", "delivery_id": world.delivery_id[:-1] + "_"}
        foreign, unknown = route.call(world, theirs), route.call(world, theirs, **absent)
        assert foreign.status_code == unknown.status_code, route
        if "<" in route.rule and route.method != "PUT":
            assert foreign.status_code == 404, route
            assert fresh(foreign) == fresh(unknown)
            checked += 1
    assert checked >= 5
    # What they have done there is theirs; nothing of ours has changed.
    ours = world.key(*Scope)
    order = world.client.get("/api/v1/orders/A1", headers=ours).get_json()
    assert order["notes_count"] == 0
    assert order["state"] == "live"


def test_a_thousand_foreign_ids_are_answered_like_unknown_ones(requestor: World) -> None:
    ours, theirs = requestor.key(*Scope), requestor.key(*Scope, tenant=OTHER)
    for number in range(1_000):
        assert initiate(requestor, ours, f"K{number:04}").status_code == 200
    same_id = {"X-Request-ID": "r1"}
    client = requestor.app.test_client()
    for number in range(1_000):
        foreign, unknown = (
            client.get(f"/api/v1/orders/{name}{number:04}", headers=theirs | same_id) for name in ("K", "L")
        )
        assert foreign.status_code == 404
        assert foreign.data == unknown.data
        assert list(foreign.headers) == list(unknown.headers)
    assert client.get("/api/v1/orders/K0999", headers=ours).status_code == 200


def test_a_view_that_says_nothing_is_closed(requestor: World) -> None:
    requestor.app.view_functions["later"] = lambda: "secret"
    requestor.app.url_map.add(requestor.app.url_rule_class("/later", endpoint="later", methods=["GET"]))
    client = FlaskClient(requestor.app, requestor.app.response_class)
    assert client.get("/later").status_code == 401
    refused = client.get("/later", headers=requestor.key(*Scope))
    assert refused.status_code == 403
    assert "secret" not in refused.text


def test_a_public_view_acts_for_nobody(requestor: World) -> None:
    with requestor.app.test_request_context("/livez"):
        requestor.app.preprocess_request()
        with pytest.raises(Exception, match="key is needed"):
            current_principal()


def test_without_required_keys_everybody_is_let_in(requestor: World) -> None:
    requestor.app.guard = None  # type: ignore[attr-defined] # of our own Flask
    client = requestor.app.test_client()
    assert client.get("/api/v1/orders/A1").status_code == 200
    assert client.get("/api/v1/orders/A1", headers=bearer("oc_nonsense")).status_code == 200


def test_readiness_tells_its_parts_to_who_may_see_the_whole_service(world: World) -> None:
    for headers in ({}, bearer("x"), world.key(Scope.ORDERS_READ), world.key(Scope.OPERATE, tenant=OTHER)):
        assert set(world.client.get("/readyz", headers=headers).get_json()) == {"status"}
    assert "checks" in world.client.get("/readyz", headers=world.key(Scope.OPERATE)).get_json()


# ---- sellers' keys


@pytest.mark.parametrize(("bound", "named", "status"), [("s1", "s1", 200), ("s1", "s2", 403), (None, "s2", 200)])
def test_a_key_of_a_seller_answers_in_its_name_alone(
    processor: World, bound: str | None, named: str, status: int
) -> None:
    headers = processor.key(Scope.REPLIES_WRITE, seller_id=bound)
    body = {"seller_id": named, "answer": "accepted"}
    assert processor.client.post("/api/v1/orders/A1/replies", json=body, headers=headers).status_code == status
    events = processor.client.get("/api/v1/orders/A1/events", headers=processor.key(Scope.ORDERS_READ)).get_json()
    assert ("seller_replied" in {event["kind"] for event in events["events"]}) is (status == 200)


# ---- counts and lists


def test_counts_and_lists_of_the_requestor_are_the_tenants_own(requestor: World) -> None:
    ours, theirs = requestor.key(*Scope), requestor.key(*Scope, tenant=OTHER)
    for _ in range(3):
        initiate(requestor, ours, "A1")
    status = requestor.client.get("/api/v1/orders/tracking/status", headers=theirs).get_json()
    expected = {"total_orders": 0, "active_streams": 0, "open_streams": 0, "duplicates_refused": 0, "states": {}}
    assert {**status, **expected, "tracked_order_ids": [], "next_cursor": None} == status
    initiate(requestor, theirs, "A1")
    status = requestor.client.get("/api/v1/orders/tracking/status", headers=theirs).get_json()
    assert (status["total_orders"], status["duplicates_refused"], status["states"]) == (1, 0, {"live": 1})
    status = requestor.client.get("/api/v1/orders/tracking/status", headers=ours).get_json()
    assert (status["total_orders"], status["duplicates_refused"]) == (1, 3)
    page = requestor.client.get("/console/data/orders", headers=theirs).get_json()
    assert page["now"]["duplicates_refused"] == 0
    assert page["now"]["orders"]["live"] == 1
    assert (page["now"]["instances"], page["samples"]["at_ms"]) == ([], [])


def test_a_cursor_of_another_tenant_shows_nothing_of_it(requestor: World) -> None:
    ours, theirs = requestor.key(*Scope), requestor.key(*Scope, tenant=OTHER)
    for number in range(4):
        initiate(requestor, ours, f"B{number}")
    initiate(requestor, theirs, "T1")
    page = requestor.client.get("/api/v1/orders?limit=2", headers=ours).get_json()
    answer = requestor.client.get(f"/api/v1/orders?limit=10&cursor={page['next_cursor']}", headers=theirs)
    assert answer.get_json()["orders"] == []


def test_counts_and_lists_of_the_processor_are_the_tenants_own(processor: World) -> None:
    ours, theirs = processor.key(*Scope), processor.key(*Scope, tenant=OTHER)
    client = processor.client
    assert client.get("/api/v1/deliveries", headers=ours).get_json()["states"] == {"waiting": 1}
    assert client.get("/api/v1/deliveries", headers=theirs).get_json() == {
        "deliveries": [],
        "states": {},
        "next_cursor": None,
    }
    orders = client.get("/api/v1/orders", headers=theirs).get_json()
    assert (orders["orders"], orders["states"], orders["open_streams"]) == ([], {}, 0)
    assert client.get("/api/v1/sellers", headers=theirs).get_json()["sellers"] == []
    now = client.get("/console/data/orders", headers=theirs).get_json()["now"]
    assert (now["deliveries"]["waiting"], now["sellers"], now["requestors"]) == (0, 0, [])
    now = client.get("/console/data/orders", headers=ours).get_json()["now"]
    assert (now["deliveries"]["waiting"], now["sellers"]) == (1, 1)


# ---- running services


class Running(NamedTuple):
    """Both services with everything started, and keys for two tenants at each."""

    requestor: Requestor
    processor: Processor

    def key(self, service: Requestor | Processor, tenant: str) -> requests.Session:
        new = make_key(Scope, tenant=tenant)
        service.app.extensions["access_store"].add(new.key)
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {new.token}"
        return session

    def url(self, service: Requestor | Processor, path: str) -> str:
        return f"http://127.0.0.1:{service.web.port}/api/v1{path}"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    store = f"sqlite:///{tmp_path / 'p.db'}"
    processor = build_processor(ProcessorSettings(store=store, port=0, grpc_port=0, require_keys=True, address_rate=0))
    processor.lifecycle.start()
    target = f"127.0.0.1:{processor.grpc_server.port}"
    settings = RequestorSettings(
        store=f"sqlite:///{tmp_path / 'r.db'}", port=0, processors=(target,), require_keys=True, address_rate=0
    )
    requestor = build_requestor(settings)
    requestor.lifecycle.start()
    yield Running(requestor, processor)
    requestor.lifecycle.stop()
    processor.lifecycle.stop()


def test_two_tenants_have_the_same_order_id_and_a_live_stream_each(running: Running) -> None:
    buyers = {tenant: running.key(running.requestor, tenant) for tenant in (DEFAULT_TENANT, OTHER)}
    market = {tenant: running.key(running.processor, tenant) for tenant in (DEFAULT_TENANT, OTHER)}
    seller = {"name": "One", "email": "one@example.com"}
    url = running.url
    assert market[OTHER].put(url(running.processor, "/sellers/s1"), json=seller).status_code == 200
    for buyer in buyers.values():
        body = {"order_req_id": "A1", "session_id": "s", "notification_type": "email", "audience": ["s1"]}
        assert buyer.post(url(running.requestor, "/orders/initiate"), json=body).status_code == 200

    def order(tenant: str) -> dict[str, Any]:
        found: dict[str, Any] = buyers[tenant].get(url(running.requestor, "/orders/A1")).json()
        return found

    def delivery_states(tenant: str) -> dict[str, int]:
        found: dict[str, int] = market[tenant].get(url(running.processor, "/deliveries")).json()["states"]
        return found

    eventually(lambda: all(order(tenant)["stream"]["state"] == "open" for tenant in buyers))
    for tenant, buyer in buyers.items():
        status = buyer.get(url(running.requestor, "/orders/tracking/status")).json()
        assert (status["open_streams"], status["tracked_order_ids"]) == (1, ["A1"])
        assert market[tenant].get(url(running.processor, "/orders")).json()["open_streams"] == 1
    assert running.processor.hub.stream_count == 2
    # The seller of one tenant is nobody to the other.
    eventually(lambda: delivery_states(OTHER) == {"delivered": 1})
    assert delivery_states(DEFAULT_TENANT) == {"waiting": 1}
    (delivery,) = market[OTHER].get(url(running.processor, "/deliveries")).json()["deliveries"]
    retry = f"/deliveries/{delivery['delivery_id']}/retry"
    assert market[DEFAULT_TENANT].post(url(running.processor, retry)).status_code == 404
    assert market[OTHER].post(url(running.processor, retry)).status_code == 409
    # Their ways part.
    note = {"order_req_id": "A1", "audience": ["s1"], "message": {"message": "hello", "message_type": "text"}}
    assert buyers[OTHER].post(url(running.requestor, "/orders/followup"), json=note).status_code == 200
    eventually(lambda: delivery_states(OTHER) == {"delivered": 2})
    assert buyers[OTHER].post(url(running.requestor, "/orders/A1/complete")).status_code == 200
    eventually(lambda: order(OTHER)["state"] == "completed")
    ours = order(DEFAULT_TENANT)
    assert (ours["state"], ours["stream"]["state"], ours["notes_count"]) == ("live", "open", 0)
    assert running.processor.hub.stream_count == 1
    assert delivery_states(DEFAULT_TENANT) == {"waiting": 1}


def test_a_key_is_revoked_on_a_running_service_and_its_last_use_is_shown(running: Running, tmp_path: Path) -> None:
    access = open_access_store(f"sqlite:///{tmp_path / 'r.db'}", base_folder=tmp_path, prefix="requestor")
    old, new = make_key([Scope.ORDERS_READ]), make_key([Scope.ORDERS_READ])
    url = running.url(running.requestor, "/orders")

    def status(token: str) -> int:
        return requests.get(url, headers=bearer(token), timeout=5).status_code

    access.add(old.key)
    assert status(old.token) == 200
    # Rotation: both are good, until the old one goes.
    access.add(new.key)
    assert (status(old.token), status(new.token)) == (200, 200)
    access.revoke(old.key.key_id, 5)
    eventually(lambda: status(old.token) == 401, timeout_s=2)
    assert status(new.token) == 200
    running.requestor.lifecycle.stop()
    kept = access.keys()
    assert [key.last_used_ms is not None for key in kept] == [True, True]
    access.stop(1)


def test_a_key_is_revoked_at_all_instances_over_one_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes")
    server.start()
    instances: list[Requestor] = []
    access = open_access_store(server.url, base_folder=tmp_path, prefix="requestor")
    try:
        for _ in range(2):
            settings = RequestorSettings(store=server.url, port=0, processors=("127.0.0.1:1",), require_keys=True)
            instances.append(build_requestor(settings))
            instances[-1].lifecycle.start()
        new = make_key([Scope.ORDERS_READ])
        access.add(new.key)

        def statuses() -> list[int]:
            urls = [f"http://127.0.0.1:{parts.web.port}/api/v1/orders" for parts in instances]
            return [requests.get(url, headers=bearer(new.token), timeout=5).status_code for url in urls]

        assert statuses() == [200, 200]
        assert access.revoke(new.key.key_id, 5)
        eventually(lambda: statuses() == [401, 401], timeout_s=2)
    finally:
        for parts in instances:
            parts.lifecycle.stop()
        access.stop(1)
        server.kill()


# ---- the documents


def test_the_openapi_documents_say_which_key_opens_what(world: World) -> None:
    document = world.client.get("/openapi.json").get_json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for route in routes_of(world):
        template = route.rule.replace("path:", "").replace("<", "{").replace(">", "}")
        described = document["paths"].get(template, {}).get(route.method.lower())
        if described is None:
            assert route.rule == "/" or route.rule.startswith("/console/")
            continue
        scope = route.door.scope
        assert described["security"] == ([] if scope is None else [{"key": [str(scope)]}]), route
        assert ("401" in described["responses"]) is (scope is not None)
