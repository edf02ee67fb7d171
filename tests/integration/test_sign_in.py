"""The operator page where keys are needed: who gets in, what a session may do, and what the audit log says of it."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from processor_app.bootstrap import Processor
from requestor_app.bootstrap import Requestor
from requestor_app.commands.app import create_command_app
from service_kit.access.audit import REFUSALS
from service_kit.access.keys import NewKey, make_key
from service_kit.access.model import AuditEntry, Scope
from service_kit.access.sessions import IDLE_S, LIFETIME_S, RENEW_S, Sessions
from service_kit.storage.opening import AccessEngine
from service_kit.times import now_ms
from service_kit.web.callers import CLIENT_ADDRESS_KEY
from service_kit.web.console.blueprint import CONTENT_SECURITY_POLICY
from tests.conftest import make_processor, make_requestor
from tests.e2e.conftest import eventually

HERE = {"Sec-Fetch-Site": "same-origin"}
COOKIE = "oc_session_requestor"
PAGES = ("/", "/console/order?id=A1", "/console/audit")
POLLS = ("/console/data/orders", "/console/data/order?id=A1", "/console/data/audit")
NEUTRAL = "This key does not open the page"


class Service(NamedTuple):
    """A service that needs keys, not started but for its store."""

    app: Flask

    @property
    def access(self) -> AccessEngine:
        store: AccessEngine = self.app.extensions["access_store"]
        return store

    @property
    def sessions(self) -> Sessions:
        sessions: Sessions = self.app.extensions["sessions"]
        return sessions

    def make_key(self, *scopes: Scope, **other: Any) -> NewKey:
        new = make_key(scopes or (Scope.OPERATE,), **{"name": "night shift", **other})
        self.access.add(new.key)
        self.app.extensions["keyring"]._refresh()  # as its thread does
        return new

    def lines(self, tenant: str | None = None) -> list[AuditEntry]:
        """The audit log, oldest first."""
        return list(reversed(self.access.audit(tenant, limit=1000)))

    def deeds(self) -> list[tuple[str, str, str]]:
        return [(line.action, line.target, line.outcome) for line in self.lines()]

    def browser(self) -> FlaskClient:
        return self.app.test_client()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The requestor."""
    parts = make_requestor(tmp_path, require_keys=True)
    parts.store.start()
    parts.lease.start()
    yield Service(parts.app)
    parts.lease.stop(5)
    parts.store.stop()
    parts.app.extensions["access_store"].stop(1)


@pytest.fixture
def sellers(tmp_path: Path) -> Iterator[Service]:
    """The processor."""
    parts = make_processor(tmp_path, require_keys=True)
    parts.store.start()
    yield Service(parts.app)
    parts.store.stop()
    parts.app.extensions["access_store"].stop(1)


def sign_in(browser: FlaskClient, token: str, wanted: str = "", **headers: str) -> TestResponse:
    form = {"key": token, "next": wanted}
    return browser.post("/console/sign-in", data=form, headers={**HERE, **headers})


def signed_in(service: Service, *scopes: Scope, **key: Any) -> FlaskClient:
    """A browser with a session."""
    browser = service.browser()
    assert sign_in(browser, service.make_key(*scopes, **key).token).status_code == 303
    return browser


def csrf_of(browser: FlaskClient) -> str:
    """The token that a page carries."""
    match = re.search(r'<meta name="csrf-token" content="([^"]+)">', browser.get("/").text)
    assert match is not None
    return match[1]


def act(browser: FlaskClient, action: str, body: dict[str, Any], token: str | None = None) -> TestResponse:
    headers = HERE | ({} if token is None else {"X-CSRF-Token": token})
    return browser.post(f"/console/do/{action}", json=body, headers=headers)


def initiate(service: Service, key: str = "A1", tenant: str = "default") -> None:
    token = service.make_key(Scope.ORDERS_WRITE, tenant=tenant).token
    order = {"order_req_id": key, "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
    answer = service.browser().post("/api/v1/orders/initiate", json=order, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text


def is_in(browser: FlaskClient) -> bool:
    return browser.get("/console/data/orders").status_code == 200


# ---- without a session


@pytest.mark.parametrize("path", PAGES)
def test_a_page_leads_to_the_sign_in_and_back(service: Service, path: str) -> None:
    browser = service.browser()
    answer = browser.get(path)
    assert answer.status_code == 303
    assert answer.location.startswith("/console/sign-in")
    form = browser.get(answer.location)
    assert form.status_code == 200
    (wanted,) = re.findall(r'name="next" value="([^"]+)"', form.text)
    assert wanted == path
    assert sign_in(browser, service.make_key().token, wanted).location == path
    assert browser.get(path).status_code == 200


@pytest.mark.parametrize("path", POLLS)
def test_a_poll_is_told_that_there_is_no_session(service: Service, path: str) -> None:
    answer = service.browser().get(path)
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    assert answer.get_json()["type"].endswith(":session_over")


def test_an_action_without_a_session_does_nothing(service: Service) -> None:
    initiate(service)
    assert act(service.browser(), "complete", {"order_req_id": "A1", "reason": ""}).status_code == 401
    browser = signed_in(service)
    assert browser.get("/console/data/order?id=A1").get_json()["order"]["state"] == "live"


def test_a_key_opens_the_polls_without_a_session(service: Service) -> None:
    token = service.make_key().token
    for path in POLLS[::2]:
        assert service.browser().get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    weak = service.make_key(Scope.ORDERS_WRITE).token
    assert service.browser().get(POLLS[0], headers={"Authorization": f"Bearer {weak}"}).status_code == 403


def test_the_sign_in_is_protected_like_every_page(service: Service) -> None:
    for answer in (service.browser().get("/console/sign-in"), sign_in(service.browser(), "no")):
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "<script" not in answer.text


# ---- which keys open it


def bad_tokens(service: Service) -> dict[str, str]:
    good = service.make_key()
    revoked, expired = service.make_key(), service.make_key(lives_ms=-1)
    service.access.revoke(revoked.key.key_id, now_ms())
    return {
        "none": "",
        "nonsense": "<b>let me in</b>",
        "unknown": make_key([Scope.OPERATE]).token,
        "wrong secret": good.token[:-1] + ("a" if good.token[-1] != "a" else "b"),
        "revoked": revoked.token,
        "expired": expired.token,
        "other scope": service.make_key(Scope.ORDERS_READ, Scope.ORDERS_WRITE, Scope.SELLERS_WRITE).token,
    }


def test_every_key_that_is_not_good_gets_the_same_answer(service: Service) -> None:
    answers = {}
    for kind, token in bad_tokens(service).items():
        answer = sign_in(service.browser(), token)
        assert answer.status_code == 401, kind
        assert "Set-Cookie" not in answer.headers, kind
        assert answer.headers["WWW-Authenticate"] == "Bearer", kind
        answers[kind] = answer.text
    assert len(set(answers.values())) == 1
    assert NEUTRAL in answers["none"]
    assert "let me in" not in answers["nonsense"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {"Origin": "https://evil.example"}],
)
def test_nobody_is_signed_in_by_another_site(service: Service, headers: dict[str, str]) -> None:
    form = {"key": service.make_key().token}
    answer = service.browser().post("/console/sign-in", data=form, headers=headers)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "///evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "\\\\evil.example",
        "/\\evil.example",
        "/%2Fevil.example",
        "%2F%2Fevil.example",
        "/console/../..//evil.example",
        "/\t/evil.example",
        "/\r\nSet-Cookie: a=b",
        " /",
        "@evil.example",
        "/console/sign-in",
        "/console/data/orders",
        "/console/sign-out",
        "/api/v1/orders",
    ],
)
def test_a_sign_in_leads_to_no_other_place_than_a_page(service: Service, wanted: str) -> None:
    answer = sign_in(service.browser(), service.make_key().token, wanted)
    assert (answer.status_code, answer.location) == (303, "/")
    form = service.browser().get("/console/sign-in", query_string={"next": wanted}).text
    assert re.findall(r'name="next" value="([^"]+)"', form) == ["/"]


def test_a_query_goes_along_and_cannot_break_out(service: Service) -> None:
    token = service.make_key().token
    assert sign_in(service.browser(), token, "/?state=live&prefix=A").location == "/?state=live&prefix=A"
    answer = sign_in(service.browser(), token, "/?prefix=\r\nSet-Cookie: a=b#//evil")
    assert answer.location == "/?prefix=%0D%0ASet-Cookie%3A+a%3Db%23%2F%2Fevil"


# ---- the cookie


def cookie_header(answer: TestResponse) -> set[str]:
    (header,) = answer.headers.getlist("Set-Cookie")
    return set(header.partition("; ")[2].split("; "))


def test_the_cookie_is_for_this_host_and_its_pages_alone(service: Service) -> None:
    answer = sign_in(service.browser(), service.make_key().token)
    assert answer.headers["Set-Cookie"].startswith(f"{COOKIE}=")
    assert cookie_header(answer) == {"HttpOnly", "SameSite=Strict", "Path=/"}


def test_over_https_the_cookie_is_bound_to_the_host(service: Service) -> None:
    token, browser = service.make_key().token, service.browser()
    by_proxy = {CLIENT_ADDRESS_KEY: "192.0.2.7", "HTTP_X_FORWARDED_PROTO": "https"}
    options = {"environ_overrides": by_proxy, "base_url": "https://orders.example"}
    answer = browser.post("/console/sign-in", data={"key": token}, headers=HERE, **options)
    assert answer.headers["Set-Cookie"].startswith(f"__Host-{COOKIE}=")
    assert cookie_header(answer) == {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"}
    assert browser.get("/console/data/orders", **options).status_code == 200
    assert service.lines()[-1].address == "192.0.2.7"


def test_nobody_but_a_trusted_proxy_is_believed_that_it_is_https(service: Service) -> None:
    answer = sign_in(service.browser(), service.make_key().token, **{"X-Forwarded-Proto": "https"})
    assert "Secure" not in cookie_header(answer)


def test_a_cookie_that_was_changed_is_none(service: Service) -> None:
    browser = signed_in(service)
    cookie = browser.get_cookie(COOKIE)
    assert cookie is not None
    content, _, signature = cookie.value.rpartition(".")
    other = make_key([Scope.OPERATE])
    forged = ["", "nonsense", content, f"{content}.", f"{content}.{signature[::-1]}", f"{content}A.{signature}"]
    forged += [f"{other.token}", "W10.abc", cookie.value[:-1] + ("A" if cookie.value[-1] != "A" else "B")]
    for value in forged:
        stranger = service.browser()
        stranger.set_cookie(COOKIE, value)
        assert not is_in(stranger), value
    assert is_in(browser)


def test_a_cookie_of_the_other_service_is_none(service: Service, sellers: Service) -> None:
    browser = signed_in(sellers)
    cookie = browser.get_cookie("oc_session_processor")
    assert cookie is not None
    stranger = service.browser()
    stranger.set_cookie(COOKIE, cookie.value)
    assert not is_in(stranger)


def test_a_session_opens_the_page_and_not_the_rest_interface(service: Service) -> None:
    browser = signed_in(service, *Scope)
    for path in ("/api/v1/orders", "/metrics"):
        assert browser.get(path).status_code == 401


def test_every_sign_in_is_a_new_session_and_ends_the_one_before(service: Service) -> None:
    browser, token = service.browser(), service.make_key().token
    browser.set_cookie(COOKIE, "planted")
    seen = []
    for _ in range(3):
        assert sign_in(browser, token).status_code == 303
        cookie = browser.get_cookie(COOKIE)
        assert cookie is not None
        seen.append(cookie.value)
    assert len({*seen, "planted"}) == 4
    for value in seen[:-1]:
        stranger = service.browser()
        stranger.set_cookie(COOKIE, value)
        assert not is_in(stranger)
    assert is_in(browser)


# ---- its end


def at(service: Service, later_s: float) -> None:
    """Let the sessions' clock be ahead."""
    service.sessions._clock = lambda: time.time() + later_s


def test_a_session_ends_when_nobody_uses_it(service: Service) -> None:
    browser = signed_in(service)
    at(service, IDLE_S - 5)
    assert is_in(browser)
    at(service, 2 * IDLE_S - 60)
    assert is_in(browser), "a use begins the pause anew"
    at(service, 3 * IDLE_S - 50)
    assert not is_in(browser)


def test_a_session_that_is_used_all_the_time_ends_too(service: Service) -> None:
    browser = signed_in(service)
    for later_s in range(0, LIFETIME_S - 5, IDLE_S // 2):
        at(service, later_s)
        assert is_in(browser)
    at(service, LIFETIME_S + 1)
    assert not is_in(browser)


def test_a_cookie_is_written_anew_seldom(service: Service) -> None:
    browser = signed_in(service)
    assert "Set-Cookie" not in browser.get("/console/data/orders").headers
    at(service, RENEW_S + 1)
    assert "Set-Cookie" in browser.get("/console/data/orders").headers
    assert "Set-Cookie" not in browser.get("/console/data/orders").headers


def test_a_sign_out_ends_the_session_for_every_copy_of_its_cookie(service: Service) -> None:
    browser = signed_in(service)
    cookie = browser.get_cookie(COOKIE)
    assert cookie is not None
    answer = browser.post("/console/sign-out", data={"csrf_token": csrf_of(browser)}, headers=HERE)
    assert (answer.status_code, answer.location) == (303, "/console/sign-in")
    assert browser.get_cookie(COOKIE) is None
    thief = service.browser()
    thief.set_cookie(COOKIE, cookie.value)
    assert not is_in(thief)
    again = thief.get("/")
    assert again.status_code == 303
    assert thief.get_cookie(COOKIE) is None, "a cookie that is worth nothing goes"


def test_a_sign_out_of_no_session_leads_to_the_sign_in(service: Service) -> None:
    answer = service.browser().post("/console/sign-out", headers=HERE)
    assert (answer.status_code, answer.location) == (303, "/console/sign-in")


def test_nobody_is_signed_out_by_another_page(service: Service) -> None:
    browser = signed_in(service)
    assert browser.post("/console/sign-out", headers=HERE).status_code == 403
    assert browser.post("/console/sign-out", data={"csrf_token": "no"}, headers=HERE).status_code == 403
    assert is_in(browser)


def test_a_key_that_expires_ends_its_session(service: Service) -> None:
    browser = signed_in(service, lives_ms=700)
    assert is_in(browser)
    time.sleep(0.8)
    assert not is_in(browser)


def test_a_revoked_key_ends_its_sessions_within_two_seconds(tmp_path: Path) -> None:
    parts = make_requestor(tmp_path, require_keys=True)
    parts.lifecycle.start()
    try:
        service, url = Service(parts.app), f"http://127.0.0.1:{parts.web.port}"
        new = service.make_key()
        with requests.Session() as browser:
            form = {"key": new.token}
            answer = browser.post(f"{url}/console/sign-in", data=form, headers=HERE, allow_redirects=False, timeout=10)
            assert answer.status_code == 303
            assert browser.get(f"{url}/console/data/orders", timeout=10).status_code == 200
            service.access.revoke(new.key.key_id, now_ms())
            begun_s = time.monotonic()
            eventually(lambda: browser.get(f"{url}/console/data/orders", timeout=10).status_code == 401, what="the end")
            assert time.monotonic() - begun_s < 2
    finally:
        parts.lifecycle.stop()


# ---- what a page of the session alone can send


def test_an_action_needs_the_token_of_its_own_session(service: Service) -> None:
    initiate(service)
    browser, other = signed_in(service), signed_in(service)
    body = {"order_req_id": "A1", "reason": ""}
    for token in (None, "", "wrong", csrf_of(other), csrf_of(browser)[:-1], csrf_of(browser) + "A"):
        answer = act(browser, "complete", body, token)
        assert answer.status_code == 403, token
        assert answer.get_json()["type"].endswith(":csrf_token")
    assert browser.get("/console/data/order?id=A1").get_json()["order"]["state"] == "live"
    assert act(browser, "complete", body, csrf_of(browser)).status_code == 200


def test_the_token_alone_is_not_enough(service: Service) -> None:
    initiate(service)
    browser = signed_in(service)
    headers = {"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": csrf_of(browser)}
    body = {"order_req_id": "A1", "reason": ""}
    answer = browser.post("/console/do/complete", json=body, headers=headers)
    assert answer.get_json()["type"].endswith(":foreign_origin")


def test_every_action_of_both_pages_needs_the_token(service: Service, sellers: Service) -> None:
    for each in (service, sellers):
        browser = signed_in(each)
        rules = [rule.rule for rule in each.app.url_map.iter_rules() if rule.rule.startswith("/console/do/")]
        assert len(rules) >= 3
        for rule in rules:
            assert browser.post(rule, json={}, headers=HERE).status_code == 403, rule
            with_token = browser.post(rule, json={}, headers={**HERE, "X-CSRF-Token": csrf_of(browser)})
            assert with_token.status_code == 422, rule


def test_a_session_sees_its_tenant_alone(service: Service) -> None:
    initiate(service, "A1")
    initiate(service, "B1", tenant="acme")
    browser = signed_in(service, tenant="acme")
    orders = browser.get("/console/data/orders").get_json()["orders"]
    assert [order["order_req_id"] for order in orders] == ["B1"]
    unknown = browser.get("/console/data/order?id=nobody")
    assert browser.get("/console/data/order?id=A1").status_code == unknown.status_code == 404


# ---- what the page says of it


def test_the_page_names_the_key_and_can_sign_out(service: Service) -> None:
    page = signed_in(service, name="<b>night & day</b>").get("/").text
    assert "&lt;b&gt;night &amp; day&lt;/b&gt;" in page
    assert "Sign out" in page


def test_without_keys_there_is_nothing_of_it(requestor: Requestor, processor: Processor) -> None:
    for parts in (requestor, processor):
        browser = parts.app.test_client()
        page = browser.get("/").text
        assert not re.search("csrf|sign-in|Sign out", page)
        for answer in (browser.get("/console/sign-in?next=/console/audit"), sign_in(browser, "x", "/console/audit")):
            assert (answer.status_code, answer.location) == (303, "/console/audit")
            assert "Set-Cookie" not in answer.headers
        assert browser.post("/console/sign-out", headers=HERE).location == "/console/sign-in"


# ---- the audit log


def test_signing_in_and_out_is_audited(service: Service) -> None:
    new, stranger = service.make_key(), make_key([Scope.OPERATE])
    browser = service.browser()
    sign_in(browser, stranger.token)
    sign_in(browser, "<b>")
    sign_in(browser, new.token)
    browser.post("/console/sign-out", headers=HERE)
    browser.post("/console/sign-out", data={"csrf_token": csrf_of(browser)}, headers=HERE)
    seen = [(line.key_id, line.action, line.target, line.outcome) for line in service.lines()]
    own = new.key.key_id
    assert seen == [
        ("nobody", "console.sign_in", stranger.key.key_id, "refused: unauthorized"),
        ("nobody", "console.sign_in", "", "refused: unauthorized"),
        (own, "console.sign_in", own, "done"),
        (own, "console.sign_out", "", "refused: csrf_token"),
        (own, "console.sign_out", "", "done"),
    ]
    assert {line.address for line in service.lines()} == {"127.0.0.1"}
    assert {line.tenant for line in service.lines()} == {"default"}
    assert new.token not in repr(service.lines())


def test_actions_of_the_requestors_page_are_audited_done_or_refused(service: Service) -> None:
    initiate(service)
    browser = signed_in(service)
    token = csrf_of(browser)
    note = {"audience": ["seller1"], "message": {"message": "hello", "urls": []}}
    act(browser, "followup", {"order_req_id": "A1", "follow_up_id": "n1", **note}, token)
    act(browser, "followup", {"order_req_id": "nobody", "follow_up_id": "n1", **note}, token)
    act(browser, "complete", {"order_req_id": "A1", "reason": ""})
    act(browser, "complete", {"order_req_id": "A1", "reason": ""}, token)
    act(browser, "cancel", {"order_req_id": "A1", "reason": ""}, token)
    act(browser, "cancel", {"order_req_id": "<b>"}, token)
    assert service.deeds()[1:] == [
        ("console.follow_up", "A1", "done"),
        ("console.follow_up", "nobody", "refused: order_not_found"),
        ("console.complete", "", "refused: csrf_token"),
        ("console.complete", "A1", "done"),
        ("console.cancel", "A1", "refused: action_refused"),
        ("console.cancel", "", "refused: invalid_input"),
    ]


def test_the_order_path_is_not_audited(service: Service) -> None:
    initiate(service)
    token = service.make_key(Scope.ORDERS_WRITE).token
    service.browser().post("/api/v1/orders/A1/cancel", json={}, headers={"Authorization": f"Bearer {token}"})
    assert service.lines() == []


def test_what_is_done_by_those_who_run_the_processor_is_audited(sellers: Service) -> None:
    new, weak = sellers.make_key(Scope.SELLERS_WRITE, Scope.OPERATE), sellers.make_key(Scope.ORDERS_WRITE)
    good, bad = ({"Authorization": f"Bearer {key.token}"} for key in (new, weak))
    client = sellers.browser()
    client.put("/api/v1/sellers/s1", json={"email": "s1@example.com"}, headers=good)
    client.put("/api/v1/sellers/s1", json={"email": "nobody"}, headers=good)
    client.put("/api/v1/sellers/s1", json={"email": "s1@example.com"}, headers=bad)
    client.put("/api/v1/sellers/s1", json={"email": "s1@example.com"})
    client.post("/api/v1/sellers/s1/rotate-secret", headers=good)
    client.get("/api/v1/sellers", headers=good)
    client.delete("/api/v1/sellers/s1", headers=good)
    client.post("/api/v1/deliveries/nothing%0A/retry", headers=good)
    client.post("/api/v1/deliveries/retry", json={"seller_id": "s1", "order_req_id": "A1"}, headers=good)
    browser = signed_in(sellers)
    act(browser, "retry", {"delivery_id": "d1"}, csrf_of(browser))
    act(browser, "retry-seller", {"seller_id": "s1"}, csrf_of(browser))
    act(browser, "complete", {"order_req_id": "A1", "reason": ""}, csrf_of(browser))
    deeds = sellers.deeds()
    assert [deed for deed in deeds if deed[0] != "console.sign_in"] == [
        ("sellers.put_seller", "s1", "done"),
        ("sellers.put_seller", "s1", "refused: invalid_input"),
        ("sellers.put_seller", "s1", "refused: insufficient_scope"),
        ("sellers.rotate_secret", "s1", "refused: no_webhook"),
        ("sellers.remove_seller", "s1", "done"),
        ("deliveries.retry", "nothing?", "refused: delivery_not_found"),
        ("deliveries.retry_all", "A1 s1", "done"),
        ("console.retry", "d1", "refused: delivery_not_found"),
        ("console.retry_seller", "s1", "done"),
        ("console.complete", "A1", "refused: order_not_found"),
    ]
    assert {line.key_id for line in sellers.lines() if line.outcome == "refused: insufficient_scope"} == {
        weak.key.key_id
    }


def test_what_anybody_does_where_no_key_is_needed_is_audited_too(requestor: Requestor) -> None:
    service = Service(requestor.app)
    act(service.browser(), "complete", {"order_req_id": "A1", "reason": ""})
    assert [(line.key_id, line.target, line.outcome) for line in service.lines()] == [
        ("anybody", "A1", "refused: order_not_found")
    ]


def test_strangers_cannot_push_out_what_was_done(service: Service) -> None:
    browser = signed_in(service)
    for _ in range(REFUSALS + 40):
        sign_in(service.browser(), "no")
    lines = service.lines()
    assert len(lines) == 1 + REFUSALS
    assert lines[-1].outcome.endswith("not listed for ten minutes")
    act(browser, "complete", {"order_req_id": "A1", "reason": ""}, csrf_of(browser))
    assert service.deeds()[-1] == ("console.complete", "A1", "refused: order_not_found")


def test_the_audit_log_outlives_the_service(service: Service, tmp_path: Path) -> None:
    signed_in(service)
    service.access.stop(1)
    again = Service(make_requestor(tmp_path, require_keys=True).app)
    assert again.deeds() == service.deeds()
    again.access.stop(1)


def test_an_action_is_done_when_its_line_cannot_be_kept(
    requestor: Requestor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(requestor.app.extensions["access_store"], "_path", tmp_path)  # no file can be made there
    order = {"order_req_id": "A1", "session_id": "s1", "notification_type": "none", "audience": []}
    browser = requestor.app.test_client()
    assert browser.post("/api/v1/orders/initiate", json=order).status_code == 200
    assert act(browser, "complete", {"order_req_id": "A1", "reason": ""}).status_code == 200


def test_the_audit_page_shows_lines_of_its_tenant_newest_first(service: Service) -> None:
    acme = signed_in(service, tenant="acme", name="acme's own")
    browser = signed_in(service)
    act(browser, "complete", {"order_req_id": "A1", "reason": ""}, csrf_of(browser))
    lines = browser.get("/console/data/audit").get_json()["lines"]
    assert [(line["key_name"], line["action"]) for line in lines] == [
        ("night shift", "console.complete"),
        ("night shift", "console.sign_in"),
    ]
    assert len({line["line_id"] for line in lines}) == 2
    assert [line["key_name"] for line in acme.get("/console/data/audit").get_json()["lines"]] == ["acme's own"]


def test_the_audit_page_is_searched_and_turned(service: Service) -> None:
    browser = signed_in(service)
    token = csrf_of(browser)
    for number in range(7):
        act(browser, "complete", {"order_req_id": f"A{number % 2}", "reason": ""}, token)
    found, cursor = [], ""
    while cursor is not None:
        query = f"/console/data/audit?limit=3{f'&cursor={cursor}' if cursor else ''}"
        answer = browser.get(query).get_json()
        found += [line["line_id"] for line in answer["lines"]]
        cursor = answer["next_cursor"]
    assert len(found) == len(set(found)) == 8
    assert len(browser.get("/console/data/audit?about=A1").get_json()["lines"]) == 3
    assert len(browser.get("/console/data/audit?about=night shift").get_json()["lines"]) == 8
    assert browser.get("/console/data/audit?about=%3Cb%3E").get_json()["lines"] == []
    for cursor in ("x", "-1", "999999999", "%C2%B2"):
        assert browser.get(f"/console/data/audit?cursor={cursor}").status_code == 422


def test_behind_a_proxy_the_real_service_names_the_client(tmp_path: Path) -> None:
    networks = (ipaddress.ip_network("127.0.0.1/32"),)
    parts = make_requestor(tmp_path, require_keys=True, trusted_proxies=networks)
    parts.lifecycle.start()
    try:
        service = Service(parts.app)
        headers = HERE | {"X-Forwarded-For": "10.9.9.9, 192.0.2.44", "X-Forwarded-Proto": "https"}
        answer = requests.post(
            f"http://127.0.0.1:{parts.web.port}/console/sign-in",
            data={"key": service.make_key().token},
            headers=headers,
            allow_redirects=False,
            timeout=10,
        )
        assert answer.headers["Set-Cookie"].startswith(f"__Host-{COOKIE}=")
        assert [line.address for line in service.lines()] == ["192.0.2.44"]
    finally:
        parts.lifecycle.stop()


def test_commands_show_the_log_and_stand_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTOR_STORE", f"sqlite:///{tmp_path / 'requestor.db'}")
    runner = create_command_app().test_cli_runner()

    def run(*words: str) -> str:
        done = runner.invoke(args=words)
        assert done.exit_code == 0, done.output
        return done.stdout

    made = json.loads(run("keys", "create", "--scope", "operate", "--name", "day shift", "--tenant", "acme", "--json"))
    run("keys", "revoke", made["key_id"])
    lines = json.loads(run("audit", "list", "--json"))
    seen = [(line["key_id"], line["tenant"], line["action"], line["target"], line["outcome"]) for line in lines]
    assert seen == [("terminal", "acme", f"keys.{deed}", made["key_id"], "done") for deed in ("revoke", "create")]
    assert made["token"] not in run("audit", "list", "--json")
    assert len(json.loads(run("audit", "list", "--limit", "1", "--json"))) == 1
    assert json.loads(run("audit", "list", "--tenant", "default", "--json")) == []
    assert "2 lines" in run("audit", "list")
    assert runner.invoke(args=["audit", "list", "--limit", "0"]).exit_code == 2
