"""dev.py: its pure parts, and that it starts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dev


def test_the_interpreter_of_a_venv_is_where_the_system_puts_it(tmp_path: Path) -> None:
    assert dev.venv_python(tmp_path, windows=False) == tmp_path / "bin" / "python"
    assert dev.venv_python(tmp_path, windows=True) == tmp_path / "Scripts" / "python.exe"


def test_the_venv_is_beside_dev_py_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    assert dev.venv_folder({}) == dev.ROOT / ".venv"
    assert dev.venv_folder({dev.VENV_VARIABLE: ".venvs/3.13"}) == dev.ROOT / ".venvs" / "3.13"
    assert dev.venv_folder({dev.VENV_VARIABLE: str(tmp_path)}) == tmp_path


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ("home = /usr/bin\nversion = 3.11.7\n", "3.11"),
        ("home = C:\\Python\nversion_info = 3.13.0.final.0\n", "3.13"),
        ("home = /usr/bin\n", ""),
    ],
)
def test_the_python_of_a_venv_is_read_from_its_configuration(config: str, version: str) -> None:
    assert dev.venv_version(config) == version


def test_a_stamp_covers_what_is_installed_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"flask\n")
    (tmp_path / "requirements-otel.txt").write_bytes(b"opentelemetry-sdk\n")
    (tmp_path / "requirements-dev.txt").write_bytes(b"pytest\n")
    run = dev.wanted_stamp(dev.RUN_REQUIREMENTS, tmp_path)
    both = dev.wanted_stamp(dev.DEV_REQUIREMENTS, tmp_path)
    assert run.items() <= both.items(), "what the tests need is enough to run"
    assert not both.items() <= run.items()

    (tmp_path / "requirements.txt").write_bytes(b"flask\r\n")
    assert dev.wanted_stamp(dev.RUN_REQUIREMENTS, tmp_path) == run, "line ends do not count"
    (tmp_path / "requirements.txt").write_bytes(b"flask>=3\n")
    assert dev.wanted_stamp(dev.RUN_REQUIREMENTS, tmp_path) != run


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_a_missing_or_broken_stamp_means_install_again(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / dev.STAMP).write_text(content, encoding="utf-8")
    assert dev.read_stamp(tmp_path) == {}


def test_a_folder_that_is_no_venv_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(dev.Fault, match="not a virtual environment"):
        dev.prepare(tmp_path, dev.RUN_REQUIREMENTS, dev.Progress())
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
    assert dev.Address.of("REQUESTOR", 8004, environment).url == url


def test_a_port_that_is_no_number_is_named() -> None:
    with pytest.raises(dev.Fault, match="PROCESSOR_GRPC_PORT is 'http'"):
        dev.Address.of("PROCESSOR", 50052, {"PROCESSOR_GRPC_PORT": "http"}, "GRPC_PORT")


def test_the_calls_for_bash_are_whole_commands() -> None:
    initiate, status, order = (
        shlex.split(line) for line in dev.first_calls("http://127.0.0.1:8004", powershell=False).splitlines()
    )
    assert initiate[:4] == ["curl", "-X", "POST", "http://127.0.0.1:8004/api/v1/orders/initiate"]
    assert json.loads(initiate[-1])["order_req_id"] == "TEST001"
    assert status == ["curl", "http://127.0.0.1:8004/api/v1/orders/tracking/status"]
    assert order == ["curl", "http://127.0.0.1:8004/api/v1/orders/TEST001"]


def test_the_calls_for_powershell_give_no_json_to_curl() -> None:
    initiate, *others = dev.first_calls("http://127.0.0.1:8004", powershell=True).splitlines()
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
    environment = dev.demo_environment(tmp_path, *(dev.Address("127.0.0.1", port) for port in (1, 2, 3)))
    assert {"PROCESSOR_SMTP_URL", "REQUESTOR_LEASE_S"}.isdisjoint(environment)
    assert environment["PATH"] == os.environ["PATH"]
    assert (environment["PROCESSOR_PORT"], environment["REQUESTOR_PORT"]) == ("1", "2")
    assert environment["REQUESTOR_PROCESSORS"] == "127.0.0.1:3"


def test_an_exit_status_is_told_in_words() -> None:
    assert dev.ending(3) == "exit status 3"
    assert dev.ending(-15) == "signal SIGTERM"


def test_drift_names_the_files_that_differ(tmp_path: Path) -> None:
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    for folder in (fresh, committed):
        (folder / "proto").mkdir(parents=True)
        for name in dev.GENERATED:
            (folder / name).write_bytes(b"one\ntwo\n")
    assert dev.drift(fresh, committed) == []
    (committed / dev.GENERATED[0]).write_bytes(b"one\r\ntwo\r\n")
    (committed / dev.GENERATED[1]).write_bytes(b"one\n")
    (committed / dev.GENERATED[2]).unlink()
    assert dev.drift(fresh, committed) == list(dev.GENERATED[1:])


def test_dev_py_tells_its_commands_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, dev.ROOT / "dev.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    commands = ("up", "demo", "test", "lint", "proto", "openapi", "bench", "torture")
    assert all(command in done.stdout for command in commands)
    assert done.stdout.isascii()
    assert list(tmp_path.iterdir()) == []
