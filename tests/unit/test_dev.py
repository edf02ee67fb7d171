"""dev.py and devtools/: their pure parts, and that they start."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dev
from devtools import checks, demo, processes, services, suite, up, venv


def test_the_interpreter_of_a_venv_is_where_the_system_puts_it(tmp_path: Path) -> None:
    assert venv.venv_python(tmp_path, windows=False) == tmp_path / "bin" / "python"
    assert venv.venv_python(tmp_path, windows=True) == tmp_path / "Scripts" / "python.exe"


def test_the_venv_is_beside_dev_py_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    assert venv.venv_folder({}) == processes.ROOT / ".venv"
    assert venv.venv_folder({venv.VENV_VARIABLE: ".venvs/3.13"}) == processes.ROOT / ".venvs" / "3.13"
    assert venv.venv_folder({venv.VENV_VARIABLE: str(tmp_path)}) == tmp_path


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ("home = /usr/bin\nversion = 3.11.7\n", "3.11"),
        ("home = C:\\Python\nversion_info = 3.13.0.final.0\n", "3.13"),
        ("home = /usr/bin\n", ""),
    ],
)
def test_the_python_of_a_venv_is_read_from_its_configuration(config: str, version: str) -> None:
    assert venv.venv_version(config) == version


def test_a_stamp_covers_what_is_installed_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"flask\n")
    (tmp_path / "requirements-otel.txt").write_bytes(b"opentelemetry-sdk\n")
    (tmp_path / "requirements-dev.txt").write_bytes(b"pytest\n")
    run = venv.wanted_stamp(venv.RUN_REQUIREMENTS, tmp_path)
    both = venv.wanted_stamp(venv.DEV_REQUIREMENTS, tmp_path)
    assert run.items() <= both.items(), "what the tests need is enough to run"
    assert not both.items() <= run.items()

    (tmp_path / "requirements.txt").write_bytes(b"flask\r\n")
    assert venv.wanted_stamp(venv.RUN_REQUIREMENTS, tmp_path) == run, "line ends do not count"
    (tmp_path / "requirements.txt").write_bytes(b"flask>=3\n")
    assert venv.wanted_stamp(venv.RUN_REQUIREMENTS, tmp_path) != run


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_a_missing_or_broken_stamp_means_install_again(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / venv.STAMP).write_text(content, encoding="utf-8")
    assert venv.read_stamp(tmp_path) == {}


def test_a_folder_that_is_no_venv_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(processes.Fault, match="not a virtual environment"):
        venv.prepare(tmp_path, venv.RUN_REQUIREMENTS, processes.Progress())
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8004"),
        ({"REQUESTOR_PORT": "9004"}, "http://127.0.0.1:9004"),
        ({"REQUESTOR_PORT": ""}, "http://127.0.0.1:8004"),
        ({"REQUESTOR_HOST": "0.0.0.0"}, "http://127.0.0.1:8004"),
        ({"REQUESTOR_HOST": "orders.example"}, "http://orders.example:8004"),
        ({"REQUESTOR_HOST": "::"}, "http://[::1]:8004"),
    ],
)
def test_urls_follow_the_environment(environment: dict[str, str], url: str) -> None:
    assert services.Address.of("REQUESTOR", 8004, environment).url == url


def test_a_port_that_is_no_number_is_named() -> None:
    with pytest.raises(processes.Fault, match="PROCESSOR_GRPC_PORT is 'http'"):
        services.Address.of("PROCESSOR", 50052, {"PROCESSOR_GRPC_PORT": "http"}, "GRPC_PORT")


def test_the_calls_for_bash_are_whole_commands() -> None:
    initiate, status, order = (
        shlex.split(line) for line in up.first_calls("http://127.0.0.1:8004", powershell=False).splitlines()
    )
    assert initiate[:4] == ["curl", "-X", "POST", "http://127.0.0.1:8004/api/v1/orders/initiate"]
    assert json.loads(initiate[-1])["order_req_id"] == "TEST001"
    assert status == ["curl", "http://127.0.0.1:8004/api/v1/orders/tracking/status"]
    assert order == ["curl", "http://127.0.0.1:8004/api/v1/orders/TEST001"]


def test_the_calls_for_powershell_give_no_json_to_curl() -> None:
    initiate, *others = up.first_calls("http://127.0.0.1:8004", powershell=True).splitlines()
    assert initiate.startswith("Invoke-RestMethod ")
    assert json.loads(initiate.split("'")[1])["session_id"] == "sess_test_001"
    assert all(call.startswith("curl.exe http") for call in others)


def test_what_follows_a_tool_command_is_passed_on_unread() -> None:
    options, passed_on = dev.parse(["--no-install", "test", "-k", "up", "--fix", "--", "-h"])
    assert (options.command, options.no_install) == ("test", True)
    assert passed_on == ["-k", "up", "--fix", "--", "-h"]


def test_a_demo_gets_none_of_the_users_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESSOR_SMTP_URL", "smtp://mail.example.com")
    monkeypatch.setenv("REQUESTOR_LEASE_S", "3600")
    environment = demo.demo_environment(tmp_path, *(services.Address("127.0.0.1", port) for port in (1, 2, 3)))
    assert {"PROCESSOR_SMTP_URL", "REQUESTOR_LEASE_S"}.isdisjoint(environment)
    assert environment["PATH"] == os.environ["PATH"]
    assert (environment["PROCESSOR_PORT"], environment["REQUESTOR_PORT"]) == ("1", "2")
    assert environment["REQUESTOR_PROCESSORS"] == "127.0.0.1:3"


def test_an_exit_status_is_told_in_words() -> None:
    assert services.ending(3) == "exit status 3"
    assert services.ending(-15) == "signal SIGTERM"


def test_drift_names_the_files_that_differ(tmp_path: Path) -> None:
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    for folder in (fresh, committed):
        (folder / "proto").mkdir(parents=True)
        for name in checks.GENERATED:
            (folder / name).write_bytes(b"one\ntwo\n")
    assert checks.drift(fresh, committed) == []
    (committed / checks.GENERATED[0]).write_bytes(b"one\r\ntwo\r\n")
    (committed / checks.GENERATED[1]).write_bytes(b"one\n")
    (committed / checks.GENERATED[2]).unlink()
    assert checks.drift(fresh, committed) == list(checks.GENERATED[1:])


def test_dev_py_tells_its_commands_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, processes.ROOT / "dev.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    commands = ("up", "demo", "certs", "test", "lint", "proto", "openapi", "bench", "torture")
    assert all(command in done.stdout for command in commands)
    assert done.stdout.isascii()
    assert list(tmp_path.iterdir()) == []


def test_several_instances_need_a_store_that_they_share() -> None:
    with pytest.raises(processes.Fault, match="--redis"):
        up.up(Path(sys.executable), processes.Progress(), instances=3)
    with pytest.raises(processes.Fault, match="from 1 to"):
        up.up(Path(sys.executable), processes.Progress(), instances=0, redis="")


def test_instances_have_one_store_and_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PROCESSOR_PORT", "PROCESSOR_GRPC_PORT", "REQUESTOR_PORT"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("PROCESSOR_LINK_SECRET", "s" * 40)
    made = up.instances_of(3, "redis://127.0.0.1:6379/0")
    assert [service.name for service in made] == ["processor"] * 3 + ["requestor"] * 3
    environments = [service._environment for service in made]
    assert all(
        environment["REQUESTOR_STORE"] == "redis://127.0.0.1:6379/0" for environment in environments if environment
    )
    assert len({service.address.port for service in made[1:3] + made[4:]}) == 4


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [([], True), (["-q", "--once-more"], True), (["tests/unit"], False), (["-k", "x"], False), (["-q", "-x"], False)],
)
def test_arguments_that_choose_no_tests_leave_the_suite_whole(arguments: list[str], whole: bool) -> None:
    assert suite.is_whole(arguments) is whole


REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.a" name="good" /><testcase classname="tests.unit.b" name="good" />
<testcase classname="tests.unit.a" name="bad"><failure message="no" /></testcase>
<testcase classname="tests.unit.a" name="bad"><error message="nor its end" /></testcase>
<testcase classname="tests.unit.a" name="broken"><error message="no fixture" /></testcase>
<testcase classname="tests.unit.a" name="elsewhere"><skipped message="Windows alone" /></testcase>
</testsuite></testsuites>"""


def test_each_test_counts_once_however_often_a_report_names_it() -> None:
    outcomes = suite.outcomes_of(REPORT)
    assert suite.counted([outcomes], 61.6) == "1 failed, 2 passed, 1 skipped, 1 error in 62 s"
    assert suite.is_failed([outcomes])


def test_the_last_run_of_a_test_decides() -> None:
    first = suite.outcomes_of(REPORT)
    alone = {"tests.faults.c::leaks": "passed"}
    again = {"tests.unit.a::bad": "passed", "tests.unit.a::broken": "passed"}
    assert not suite.is_failed([first, alone, again])
    assert suite.counted([first, alone, again], 5) == "5 passed, 1 skipped, 2 at the second try in 5 s"
    assert suite.is_failed([first, alone, {**again, "tests.unit.a::bad": "failed"}])


def test_a_suite_without_a_test_has_failed() -> None:
    assert suite.is_failed([{}, {}])


def test_a_suite_tells_what_its_tests_did_and_runs_a_failed_one_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  alone: by itself\n  long: for later\n", encoding="utf-8"
    )
    (tmp_path / "test_it.py").write_text(
        "import pathlib, pytest\n"
        "def test_good(): pass\n"
        "def test_late():\n    seen = pathlib.Path('seen')\n    was = seen.exists()\n    seen.touch()\n    assert was\n"
        "@pytest.mark.alone\ndef test_alone(): pass\n"
        "@pytest.mark.long\ndef test_for_hours(): raise AssertionError\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "workers", lambda cores: 1)
    assert suite.run_suite(Path(sys.executable), ["-q", "--once-more"]) == 0
    told = capfd.readouterr().out
    assert "1 failed, 1 passed" in told
    assert told.splitlines()[-1].startswith("3 passed, 1 at the second try in ")
