from __future__ import annotations

import pytest

from service_kit.health import Health


def test_without_checks_a_process_is_ready():
    assert Health().report() == {"status": "ready", "checks": {}, "facts": {}}


def test_it_is_ready_while_every_check_is_fine():
    health = Health({"store": lambda: None})
    health.add("trunk", lambda: None)
    assert health.report() == {
        "status": "ready",
        "checks": {"store": {"ok": True, "detail": None}, "trunk": {"ok": True, "detail": None}},
        "facts": {},
    }


def test_facts_stand_beside_the_checks_and_change_nothing():
    report = Health({"store": lambda: None}, facts={"cleanup": lambda: {"removed": 3}}).report()
    assert (report["status"], report["facts"]) == ("ready", {"cleanup": {"removed": 3}})


def test_one_reason_makes_it_not_ready():
    report = Health({"store": lambda: None, "trunk": lambda: "no processor answers"}).report()
    assert report["status"] == "not ready"
    assert report["checks"]["trunk"] == {"ok": False, "detail": "no processor answers"}
    assert report["checks"]["store"]["ok"]


def test_a_check_that_raises_counts_as_failed_with_the_name_of_its_error_only():
    def broken() -> str | None:
        raise ConnectionError("redis://:hunter2@host")

    assert Health({"store": broken}).report()["checks"]["store"] == {"ok": False, "detail": "ConnectionError"}


def test_a_name_can_be_used_once():
    health = Health({"store": lambda: None})
    with pytest.raises(ValueError, match="store"):
        health.add("store", lambda: None)
