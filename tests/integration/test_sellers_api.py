from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient

from processor_app.bootstrap import Processor
from processor_app.delivery import directory as directory_module
from processor_app.delivery.directory import SellerDirectory
from processor_app.delivery.sellers import SellerWish, seller_ref
from service_kit.change import Ref
from service_kit.errors import StoreUnavailable
from tests.integration.test_processor_api import CANARY, assert_problem

BASE = "/api/v1/sellers"
ENTRY: dict[str, Any] = {
    "name": "One",
    "email": "one@example.com",
    "webhook_url": "https://one.example/hook",
    "channels": ["webhook", "email"],
    "language": "de",
}


def put(client: FlaskClient, seller_id: str = "s1", **other: Any) -> dict[str, Any]:
    answer = client.put(f"{BASE}/{seller_id}", json={**ENTRY, **other})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


# ---- the directory over REST


def test_a_seller_is_registered_shown_and_listed_without_its_secret(processor_client: FlaskClient) -> None:
    secret = put(processor_client).pop("webhook_secret")
    shown = processor_client.get(f"{BASE}/s1")
    entry = shown.get_json()
    assert {name: entry[name] for name in ENTRY} == {**ENTRY, "channels": ["email", "webhook"]}
    assert (entry["live_secrets"], entry["webhook_disabled"]) == (1, None)
    listed = processor_client.get(BASE)
    assert listed.get_json() == {"sellers": [entry], "next_cursor": None}
    assert secret not in shown.text + listed.text + processor_client.get(f"{BASE}/s1/events").text


def test_a_secret_is_32_random_bytes_and_shown_once(processor_client: FlaskClient) -> None:
    secrets = {put(processor_client, seller)["webhook_secret"] for seller in ("s1", "s2")}
    assert len(secrets) == 2
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32 for secret in secrets)
    for change in ({}, {"name": "Other"}, {"webhook_url": ""}):
        assert "webhook_secret" not in put(processor_client, "s1", **change)
    assert "webhook_secret" in put(processor_client, "s1")


def test_a_rotation_keeps_two_secrets_live(processor_client: FlaskClient, processor: Processor) -> None:
    secrets = [put(processor_client)["webhook_secret"]]
    for _ in range(2):
        answer = processor_client.post(f"{BASE}/s1/rotate-secret").get_json()
        assert answer["seller_id"] == "s1"
        secrets.append(answer["webhook_secret"])
    assert len(set(secrets)) == 3
    assert processor.sellers.find("default", ["s1"])["s1"].webhook_secrets == (secrets[2], secrets[1])
    assert processor_client.get(f"{BASE}/s1").get_json()["live_secrets"] == 2


def test_a_seller_without_a_webhook_has_no_secret_to_rotate(processor_client: FlaskClient) -> None:
    assert "webhook_secret" not in put(processor_client, webhook_url="")
    assert_problem(processor_client.post(f"{BASE}/s1/rotate-secret"), 409)


def test_who_changed_what_is_kept(processor_client: FlaskClient, processor: Processor) -> None:
    put(processor_client)
    put(processor_client, email="new@example.com")
    processor.sellers.disable_webhook("default", "s1", ENTRY["webhook_url"], "Gone.")
    processor_client.delete(f"{BASE}/s1")
    events = processor_client.get(f"{BASE}/s1/events").get_json()
    assert [(event["kind"], event["data"]) for event in events["events"]] == [
        ("registered", {"by": "operator"}),
        ("changed", {"by": "operator", "fields": ["email"]}),
        ("webhook_disabled", {"by": "processor", "reason": "Gone."}),
        ("removed", {"by": "operator"}),
    ]
    assert processor_client.get(f"{BASE}/s1/events?after=3").get_json()["last_seq"] == 4


def test_a_removed_seller_is_gone(processor_client: FlaskClient) -> None:
    put(processor_client)
    assert processor_client.delete(f"{BASE}/s1").get_json()["success"] is True
    for call in (processor_client.get, processor_client.delete):
        assert_problem(call(f"{BASE}/s1"), 404)
    assert_problem(processor_client.post(f"{BASE}/s1/rotate-secret"), 404)
    assert processor_client.get(BASE).get_json()["sellers"] == []
    assert "webhook_secret" in put(processor_client)


def test_what_is_left_of_removed_sellers_goes_with_the_cleanup(
    processor_client: FlaskClient, processor: Processor
) -> None:
    put(processor_client, "s1")
    put(processor_client, "s2")
    processor_client.delete(f"{BASE}/s1")
    assert processor.sellers.prune(3600.0, 100) == 0
    assert processor.sellers.prune(-1.0, 100) == 1
    assert_problem(processor_client.get(f"{BASE}/s1/events"), 404)
    assert processor_client.get(f"{BASE}/s2").status_code == 200


def test_pages_hold_every_seller_once(processor_client: FlaskClient) -> None:
    for number in range(7):
        put(processor_client, f"s{number}")
    seen: list[str] = []
    cursor = ""
    while True:
        page = processor_client.get(f"{BASE}?limit=3{cursor}").get_json()
        seen += [seller["seller_id"] for seller in page["sellers"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [f"s{number}" for number in reversed(range(7))]


def test_sellers_are_no_orders(processor_client: FlaskClient) -> None:
    put(processor_client)
    orders = processor_client.get("/api/v1/orders").get_json()
    assert (orders["orders"], orders["states"]) == ([], {})
    assert_problem(processor_client.get("/api/v1/orders/s1"), 404)


#: What could end a header, in any program on the way: every control character and the separators of Unicode.
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]


@pytest.mark.parametrize("field", ["name", "email", "webhook_url", "language"])
def test_nothing_that_could_break_a_header_is_taken(processor_client: FlaskClient, field: str) -> None:
    for control in CONTROLS:
        for text in (f"{ENTRY[field]}{control}", f"{control}{ENTRY[field]}", f"a{control}Bcc: {CANARY}@example.com"):
            problem = assert_problem(processor_client.put(f"{BASE}/s1", json={**ENTRY, field: text}), 422)
            assert [fault["pointer"] for fault in problem["errors"]] == [f"/{field}"], f"U+{ord(control):04X}"
    assert processor_client.get(BASE).get_json()["sellers"] == []


@pytest.mark.parametrize(
    ("other", "pointer"),
    [
        ({"email": CANARY}, "/email"),
        ({"email": f"{'a' * 250}@example.com"}, "/email"),
        ({"email": "a@b@example.com"}, "/email"),
        ({"email": "One <one@example.com>"}, "/email"),
        ({"email": None}, "/email"),
        ({"name": "a" * 201}, "/name"),
        ({"webhook_url": f"ftp://{CANARY}/"}, "/webhook_url"),
        ({"webhook_url": f"https://user:{CANARY}@one.example/"}, "/webhook_url"),
        ({"webhook_url": "https:///hook"}, "/webhook_url"),
        ({"webhook_url": f"https://one.example/{'a' * 2048}"}, "/webhook_url"),
        ({"channels": ["none"]}, "/channels/0"),
        ({"channels": ["email", CANARY]}, "/channels/1"),
        ({"channels": ["email"] * 3}, "/channels"),
        ({"channels": "email"}, "/channels"),
        ({"language": "english"}, "/language"),
        ({"unknown": CANARY}, "/unknown"),
        ({"webhook_secret": CANARY}, "/webhook_secret"),
    ],
    ids=str,
)
def test_a_bad_entry_is_refused_with_the_place(
    processor_client: FlaskClient, other: dict[str, Any], pointer: str
) -> None:
    problem = assert_problem(processor_client.put(f"{BASE}/s1", json={**ENTRY, **other}), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
    assert processor_client.get(BASE).get_json()["sellers"] == []


@pytest.mark.parametrize("seller_id", ["a b", "a%2Fb", "ä", "a" * 129, "a%00"])
def test_a_bad_name_is_refused(processor_client: FlaskClient, seller_id: str) -> None:
    answer = processor_client.put(f"{BASE}/{seller_id}", json=ENTRY)
    assert answer.status_code in (404, 422), answer.text
    assert processor_client.get(BASE).get_json()["sellers"] == []
    assert_problem(processor_client.get(f"{BASE}/{seller_id}"), 404)


def test_a_stopped_store_is_answered_as_unavailable(processor_client: FlaskClient, processor: Processor) -> None:
    processor.store.stop()
    assert_problem(processor_client.put(f"{BASE}/s1", json=ENTRY), 503)
    assert_problem(processor_client.get(f"{BASE}/s1"), 503)


# ---- what is remembered


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


WISH = SellerWish("One", "one@example.com", "", (), "en")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(processor: Processor, clock: Clock) -> SellerDirectory:
    return SellerDirectory(processor.store, announce=lambda tenant, seller_id: None, clock=clock)


def reads_of(directory: SellerDirectory, monkeypatch: pytest.MonkeyPatch) -> list[list[Ref]]:
    """The names of what is read from the store from now on, call by call."""
    reads: list[list[Ref]] = []
    get_many = directory._store.get_many

    def counted(refs: Any) -> Any:
        reads.append(sorted(refs))
        return get_many(reads[-1])

    monkeypatch.setattr(directory._store, "get_many", counted)
    return reads


def test_a_seller_is_read_once_known_or_not(directory: SellerDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.put("default", "s1", WISH)
    reads = reads_of(directory, monkeypatch)
    for _ in range(3):
        assert list(directory.find("default", ["s1", "absent"])) == ["s1"]
    assert reads == [[seller_ref("default", "absent"), seller_ref("default", "s1")]]
    directory.find("default", ["s1", "s2"])
    assert reads[1:] == [[seller_ref("default", "s2")]]


def test_a_change_is_seen_at_once(directory: SellerDirectory) -> None:
    assert directory.find("default", ["s1"]) == {}
    directory.put("default", "s1", WISH)
    assert directory.find("default", ["s1"])["s1"].name == "One"
    directory.put("default", "s1", SellerWish("Two", "", "", (), "en"))
    assert directory.find("default", ["s1"])["s1"].name == "Two"
    directory.remove("default", "s1")
    assert directory.find("default", ["s1"]) == {}


def test_a_change_by_another_processor_is_seen_after_the_time_to_live(
    directory: SellerDirectory, processor: Processor, clock: Clock
) -> None:
    assert directory.find("default", ["s1"]) == {}
    processor.sellers.put("default", "s1", WISH)
    assert directory.find("default", ["s1"]) == {}
    assert list(directory.find_anew("default", ["s1"])) == ["s1"]
    processor.sellers.remove("default", "s1")
    clock.now_s += directory_module._TTL_S + 0.1
    assert directory.find("default", ["s1"]) == {}


def test_what_was_read_before_a_change_is_not_remembered_after_it(
    directory: SellerDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_many = directory._store.get_many

    def overtaken(refs: Any) -> Any:
        found = get_many(refs)
        monkeypatch.undo()
        directory.put("default", "s1", WISH)
        return found

    monkeypatch.setattr(directory._store, "get_many", overtaken)
    assert directory.find("default", ["s1"]) == {}
    assert list(directory.find("default", ["s1"])) == ["s1"]


def test_a_change_of_which_nobody_knows_whether_it_was_written_is_read_again(
    directory: SellerDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.find("default", ["s1"])
    update = directory._store.update

    def lost(step: Any) -> Any:
        update(step)
        raise StoreUnavailable("The answer was lost.")

    with monkeypatch.context() as patch:
        patch.setattr(directory._store, "update", lost)
        with pytest.raises(StoreUnavailable):
            directory.put("default", "s1", WISH)
    assert list(directory.find("default", ["s1"])) == ["s1"]


def test_tenants_have_sellers_of_their_own(directory: SellerDirectory) -> None:
    directory.put("a", "s1", WISH)
    assert directory.find("b", ["s1"]) == {}
    assert list(directory.find("a", ["s1"])) == ["s1"]


def test_memory_is_bounded(directory: SellerDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "_MAX_REMEMBERED", 10)
    for number in range(50):
        directory.find("default", [f"s{number}"])
    assert len(directory._remembered) <= 11
