"""``doctor`` names each misconfiguration and how to mend it. Every one of them is made for real."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from processor_app.bootstrap import Processor
from processor_app.commands.doctor import processor_patient
from processor_app.rpc import servicer
from requestor_app.bootstrap import Requestor
from requestor_app.commands.doctor import requestor_patient
from service_kit.commands import examinations
from service_kit.findings import Finding, Verdict
from service_kit.ports import listen_alone
from service_kit.storage import inspection
from service_kit.times import now_ms
from tests.conftest import Pair
from tests.redis_servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with listen_alone("127.0.0.1", 0, "PORT") as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def requestor_environ(tmp_path: Path) -> dict[str, str]:
    return {
        "REQUESTOR_STORE": f"sqlite:///{tmp_path / 'looked-at' / 'requestor.db'}",
        "REQUESTOR_PORT": str(free_port()),
        "REQUESTOR_PROCESSORS": f"127.0.0.1:{free_port()}",
    }


@pytest.fixture
def processor_environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PROCESSOR_STORE": f"sqlite:///{tmp_path / 'looked-at' / 'processor.db'}",
        "PROCESSOR_PORT": str(free_port()),
        "PROCESSOR_GRPC_PORT": str(free_port()),
    }


def examined(patient: Any) -> list[Finding]:
    return [finding for examine in patient.examinations for finding in examine()]


def requestor_findings(environ: Mapping[str, str]) -> list[Finding]:
    return examined(requestor_patient(environ))


def processor_findings(environ: Mapping[str, str]) -> list[Finding]:
    return examined(processor_patient(environ))


def the_fault(findings: list[Finding], subject: str) -> Finding:
    """The one fault that there is of a subject; it says how to mend it."""
    (found,) = [each for each in findings if each.verdict is Verdict.FAULT and each.subject == subject]
    assert found.mend
    return found


def faults_of(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.verdict is Verdict.FAULT]


def test_a_sound_pair_has_no_fault(running_pair: Pair, tmp_path: Path) -> None:
    processor = running_pair.processor
    environ = {
        "REQUESTOR_STORE": f"sqlite:///{running_pair.requestor.store.path}",  # type: ignore[attr-defined]
        "REQUESTOR_PORT": str(running_pair.requestor.web.port),
        "REQUESTOR_PROCESSORS": f"127.0.0.1:{processor.grpc_server.port}",
    }
    findings = requestor_findings(environ)
    assert faults_of(findings) == []
    texts = " ".join(finding.text for finding in findings)
    assert "It runs and is ready" in texts
    assert "The running service listens on port" in texts
    assert "a running instance holds it" in texts
    assert "clock" in texts
    processor_ports = {
        "PROCESSOR_STORE": f"sqlite:///{processor.store.path}",  # type: ignore[attr-defined]
        "PROCESSOR_PORT": str(processor.web.port),
        "PROCESSOR_GRPC_PORT": str(processor.grpc_server.port),
    }
    assert faults_of(processor_findings(processor_ports)) == []
    assert running_pair.requestor.supervisor.check() is None, "the doctor's call has disturbed nobody"


# ---- seeded misconfigurations


def test_1_a_text_that_cannot_be_read_is_named_and_not_repeated(requestor_environ: dict[str, str]) -> None:
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_LEASE_S": "pa55word"}), "settings")
    assert "REQUESTOR_LEASE_S" in found.text
    assert "must be a number of seconds from 3 to 3600" in found.mend
    assert "pa55word" not in found.text + found.mend


def test_2_a_mistyped_variable_is_noted_with_what_was_meant(requestor_environ: dict[str, str]) -> None:
    findings = requestor_findings({**requestor_environ, "REQUESTOR_PROCESORS": "127.0.0.1:1"})
    (noted,) = [finding for finding in findings if finding.subject == "settings" and finding.verdict is Verdict.NOTE]
    assert "REQUESTOR_PROCESORS" in noted.text
    assert "REQUESTOR_PROCESSORS" in noted.mend


def test_3_a_port_that_another_program_holds_is_named_with_its_holder(requestor_environ: dict[str, str]) -> None:
    with listen_alone("127.0.0.1", int(requestor_environ["REQUESTOR_PORT"]), "PORT"):
        found = the_fault(requestor_findings(requestor_environ), "ports")
    assert f"(process {os.getpid()}) listens there" in found.text
    assert "set REQUESTOR_PORT to another port" in found.mend


def test_4_an_address_of_another_machine_is_named(requestor_environ: dict[str, str]) -> None:
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_HOST": "203.0.113.7"}), "ports")
    assert "it is no address of this machine" in found.text
    assert "Set REQUESTOR_HOST" in found.mend


def test_5_a_store_that_cannot_be_written_is_named(requestor_environ: dict[str, str]) -> None:
    # Nobody can make a file there, whoever asks: for root, a folder without rights would not do.
    environ = {**requestor_environ, "REQUESTOR_STORE": "sqlite:////proc/orders/requestor.db"}
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    found = the_fault(requestor_findings(environ), "store")
    assert "Nothing can be written in /proc" in found.text
    assert "REQUESTOR_STORE" in found.mend


def test_6_a_damaged_store_is_named(requestor: Requestor, requestor_environ: dict[str, str], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\x00" + b"\xff" * 8192)
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_STORE": f"sqlite:///{damaged}"}), "store")
    assert str(damaged) in found.text
    assert "Restore it from a backup" in found.mend
    assert damaged.read_bytes().endswith(b"\xff" * 8192)


def test_7_a_store_of_a_newer_release_is_named(
    processor: Processor, processor_environ: dict[str, str], tmp_path: Path
) -> None:
    newer = tmp_path / "newer.db"
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 999")
        connection.execute("CREATE TABLE anything (a)")
    found = the_fault(processor_findings({**processor_environ, "PROCESSOR_STORE": f"sqlite:///{newer}"}), "store")
    assert "has schema version 999" in found.text
    assert "run the newer software" in found.text


def test_8_the_other_services_store_is_named(
    running_pair: Pair, processor_environ: dict[str, str], tmp_path: Path
) -> None:
    body = {"order_req_id": "A1", "session_id": "x1", "notification_type": "none"}
    assert requests.post(f"{running_pair.requestor_url}/orders/initiate", json=body, timeout=10).ok
    copied = tmp_path / "copied.db"
    running_pair.requestor.lifecycle.stop()
    shutil.copy(tmp_path / "requestor.db", copied)
    found = the_fault(processor_findings({**processor_environ, "PROCESSOR_STORE": f"sqlite:///{copied}"}), "store")
    assert "is the other service's store" in found.text
    both = {**processor_environ, "REQUESTOR_STORE": processor_environ["PROCESSOR_STORE"]}
    assert "Both services are set to the same store." in faults_of(processor_findings(both))


def test_9_a_processor_that_nobody_has_started_is_named(requestor_environ: dict[str, str]) -> None:
    found = the_fault(requestor_findings(requestor_environ), "processor")
    assert f"Nobody answers at {requestor_environ['REQUESTOR_PROCESSORS']}" in found.text
    assert "Start the processor" in found.mend


def test_10_the_rest_port_in_the_place_of_the_grpc_port_is_named(
    running_processor: Processor, requestor_environ: dict[str, str]
) -> None:
    target = f"127.0.0.1:{running_processor.web.port}"
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_PROCESSORS": target}), "processor")
    assert "is no processor's gRPC server" in found.text
    assert "PROCESSOR_GRPC_PORT" in found.mend


def test_11_clocks_that_are_apart_are_named(
    running_processor: Processor, requestor_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "now_ms", lambda: now_ms() - 90_000)
    target = f"127.0.0.1:{running_processor.grpc_server.port}"
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_PROCESSORS": target}), "clock")
    assert "90.0 s behind" in found.text
    assert "Set the wrong clock" in found.mend


def test_12_a_clock_that_was_set_back_is_named(
    requestor: Requestor, requestor_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = {"order_req_id": "A1", "session_id": "x1", "notification_type": "none"}
    assert requestor.app.test_client().post("/api/v1/orders/initiate", json=body).status_code == 200
    monkeypatch.setattr(inspection, "now_ms", lambda: now_ms() - 3_600_000)
    environ = {**requestor_environ, "REQUESTOR_STORE": f"sqlite:///{tmp_path / 'requestor.db'}"}
    assert "which is in the future" in the_fault(requestor_findings(environ), "clock").text


def test_13_signs_of_life_that_do_not_fit_are_named(processor_environ: dict[str, str]) -> None:
    found = the_fault(processor_findings({**processor_environ, "REQUESTOR_KEEPALIVE_MS": "60000"}), "settings")
    assert "REQUESTOR_KEEPALIVE_MS is 60000 and PROCESSOR_KEEPALIVE_MS is 5000" in found.text


def test_14_faults_on_purpose_are_named(requestor_environ: dict[str, str]) -> None:
    found = the_fault(requestor_findings({**requestor_environ, "ORDER_COMMUNICATOR_FAILPOINTS": "a=kill"}), "settings")
    assert "Remove ORDER_COMMUNICATOR_FAILPOINTS" in found.mend


def test_15_a_mail_server_that_cannot_be_reached_and_links_that_lead_nowhere_are_named(
    processor_environ: dict[str, str],
) -> None:
    port = free_port()
    environ = {**processor_environ, "PROCESSOR_SMTP_URL": f"smtp://user:pa55word@127.0.0.1:{port}?starttls=off"}
    findings = processor_findings(environ)
    found = the_fault(findings, "mail")
    assert f"cannot be reached on port {port}" in found.text
    assert "Set PROCESSOR_PUBLIC_URL" in the_fault(findings, "links").mend
    assert "pa55word" not in str(findings) + str(processor_patient(environ).settings())


def test_16_a_package_of_another_release_is_named(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    lines = ("# what is needed", "flask>=3.1,<4", "waitress>=99", "no-such-package-here>=1", "")
    requirements.write_text("\n".join(lines), encoding="utf-8")
    findings = list(examinations.examine_versions(requirements))
    assert [text.split(" ")[0] for text in faults_of(findings)] == ["waitress", "The"]
    assert all("pip install -r requirements.txt" in each.mend for each in findings if each.verdict is Verdict.FAULT)


def test_17_a_store_of_an_unknown_kind_is_named(requestor_environ: dict[str, str]) -> None:
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_STORE": "mysql://u:pa55word@h/x"}), "store")
    assert "sqlite:///" in found.text
    settings = requestor_patient({"REQUESTOR_STORE": "mysql://u:pa55word@h/x"}).settings()
    assert {row.variable: row.value for row in settings}["REQUESTOR_STORE"] == "mysql://***@h/x"


def test_two_services_may_share_a_redis_whose_weakness_is_noted(
    tmp_path: Path, requestor_environ: dict[str, str], processor_environ: dict[str, str]
) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        stores = {"REQUESTOR_STORE": server.url, "PROCESSOR_STORE": server.url, "PROCESSOR_LINK_SECRET": "x" * 32}
        for findings in (
            requestor_findings({**requestor_environ, **stores}),
            processor_findings({**processor_environ, **stores}),
        ):
            found = [each for each in findings if each.subject == "store"]
            assert [each.verdict for each in found] == [Verdict.FINE, Verdict.NOTE]
            assert found[0].text.startswith("Redis ")
            assert "no append-only file" in found[1].text
    finally:
        server.kill()


def test_a_redis_that_does_not_answer_is_named_without_its_password(requestor_environ: dict[str, str]) -> None:
    requestor_environ["REQUESTOR_STORE"] = f"redis://:hidden-word@127.0.0.1:{free_port()}/0"
    found = the_fault(requestor_findings(requestor_environ), "store")
    assert "cannot be used" in found.text
    assert "hidden-word" not in str(requestor_findings(requestor_environ))


def test_processors_on_redis_without_a_common_link_secret_are_named(processor_environ: dict[str, str]) -> None:
    processor_environ["PROCESSOR_STORE"] = f"redis://127.0.0.1:{free_port()}/0"
    assert "one secret for reply links" in the_fault(processor_findings(processor_environ), "settings").text


def test_18_a_disk_that_is_nearly_full_is_named(
    requestor_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "LEAST_FREE_BYTES", 1 << 60)
    assert "Make room" in the_fault(requestor_findings(requestor_environ), "space").mend


def test_19_a_service_that_is_not_ready_is_named_with_the_part(
    running_pair: Pair, requestor_environ: dict[str, str]
) -> None:
    running_pair.requestor.lease.stop(5)
    environ = {**requestor_environ, "REQUESTOR_PORT": str(running_pair.requestor.web.port)}
    assert "lease" in the_fault(requestor_findings(environ), "service").text


def test_20_listening_beyond_this_machine_without_keys_is_a_fault(requestor_environ: dict[str, str]) -> None:
    found = the_fault(requestor_findings({**requestor_environ, "REQUESTOR_HOST": "0.0.0.0"}), "reach")
    assert "REQUESTOR_HOST=0.0.0.0 can be reached from other machines" in found.text
    assert "REQUESTOR_REQUIRE_KEYS=on" in found.mend
    assert "REQUESTOR_TRUSTED_PROXIES" in found.mend


# ---- the command


@pytest.fixture
def flask(requestor_environ: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        own = {name: text for name, text in os.environ.items() if not name.startswith(("REQUESTOR_", "PROCESSOR_"))}
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi_requestor", *arguments],
            cwd=ROOT,
            env={**own, **requestor_environ, "PYTHONUTF8": "1", **environ},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


def test_the_command_says_how_it_stands_by_its_exit_status(
    flask: Callable[..., Any], running_processor: Processor
) -> None:
    sound = flask("doctor", REQUESTOR_PROCESSORS=f"127.0.0.1:{running_processor.grpc_server.port}")
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert sound.stdout.endswith("No fault was found.\n")
    assert "REQUESTOR_STORE" in sound.stdout
    ill = flask("doctor")
    assert ill.returncode == 1
    assert "→ Start the processor" in ill.stdout
    assert ill.stdout.endswith("1 fault.\n")
    assert flask("doctor", "--unknown").returncode == 2


def test_the_command_works_with_settings_that_no_service_would_start_with(flask: Callable[..., Any]) -> None:
    told = flask("doctor", "--json", REQUESTOR_PORT="http", REQUESTOR_STORE="mysql://h/x")
    assert told.returncode == 1
    assert told.stderr == ""
    report = json.loads(told.stdout)
    assert (report["service"], report["healthy"]) == ("requestor", False)
    assert report["packages"]["flask"].startswith("3.")
    assert {"subject": "settings", "verdict": "fault"}.items() <= report["findings"][0].items()
    by_variable = {row["variable"]: row for row in report["settings"]}
    assert by_variable["REQUESTOR_LEASE_S"] == {
        "variable": "REQUESTOR_LEASE_S",
        "value": "15",
        "source": "default",
        "fault": None,
    }
    assert by_variable["REQUESTOR_PORT"]["source"] == "environment"
