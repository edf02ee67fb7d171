"""The commands for keys, and the commands that show one, through click as Flask's command line calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from processor_app.bootstrap import Processor, build_processor
from processor_app.commands.sellers import seller_commands
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.commands.orders import order_commands
from requestor_app.settings import RequestorSettings
from requestor_client import Forbidden, RequestorClient, Unauthorized
from service_kit.access.keys import TOKEN_PATTERN
from service_kit.commands.calling import service_url
from service_kit.commands.examinations import running_service
from service_kit.commands.keys import key_commands
from service_kit.storage.opening import open_access_store


class Terminal:
    """Runs the key commands of a service whose store is in the folder."""

    def __init__(self, folder: Path, service: str) -> None:
        self._open = partial(open_access_store, f"sqlite:///{folder / 'store.db'}", base_folder=folder, prefix=service)
        self._service = service

    def run(self, *arguments: str) -> Result:
        group = key_commands(self._service, self._open)
        return CliRunner(env={"COLUMNS": "250"}).invoke(group, arguments)

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, "requestor")


@pytest.fixture
def requestor(tmp_path: Path) -> Iterator[Requestor]:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    with capture_logs():  # of the service in this process, which would write into the commands' output
        parts = build_requestor(RequestorSettings(store=store, port=0, processors=("127.0.0.1:1",), require_keys=True))
        parts.lifecycle.start()
        yield parts
        parts.lifecycle.stop()


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[Processor]:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    with capture_logs():
        parts = build_processor(ProcessorSettings(store=store, port=0, grpc_port=0, require_keys=True))
        parts.lifecycle.start()
        yield parts
        parts.lifecycle.stop()


def test_a_key_is_printed_once_and_listed_without_its_secret(terminal: Terminal) -> None:
    made = terminal.run(
        "create", "--scope", "orders:read", "--scope", "orders:write", "--name", "shop", "--tenant", "acme"
    )
    assert made.exit_code == 0, made.output
    match = TOKEN_PATTERN.search(made.stdout)
    assert match is not None
    listed = terminal.run("list")
    assert match[1] in listed.stdout
    assert match[2] not in listed.stdout
    (row,) = terminal.json("list")
    assert (row["key_id"], row["name"], row["tenant"], row["state"]) == (match[1], "shop", "acme", "good")
    assert row["scopes"] == ["orders:read", "orders:write"]
    assert "digest" not in row
    assert row["last_used_at"] is row["expires_at"] is None


def test_a_key_has_an_end(terminal: Terminal) -> None:
    made = terminal.json("create", "--scope", "operate", "--expires-in", "90d")
    created, expires = made["created_at"], made["expires_at"]
    assert created < expires
    assert TOKEN_PATTERN.fullmatch(made["token"])


def test_a_key_is_revoked_by_its_id(terminal: Terminal) -> None:
    made = terminal.json("create", "--scope", "operate")
    assert terminal.json("revoke", made["key_id"]) == {"key_id": made["key_id"], "revoked": True}
    assert [row["state"] for row in terminal.json("list")] == ["revoked"]
    missing = terminal.run("revoke", "nobody")
    assert missing.exit_code == 1
    assert "There is no key with this id." in missing.output


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["--scope", "everything"], ["--scope", "operate", "--tenant", "a b"]),
        *(["--scope", "operate", "--tenant", "acme/sellers"], ["--scope", "operate", "--expires-in", "90"]),
        *(["--scope", "operate", "--expires-in", "0d"], ["--scope", "operate", "--name", "a\nb"]),
        ["--scope", "replies:write", "--scope", "orders:read", "--seller", "s1"],
    ],
)
def test_a_wrong_line_makes_no_key(terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run("create", *arguments).exit_code == 2
    assert terminal.json("list") == []


def test_a_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "requestor-access.db").write_bytes(b"this is no database" * 100)
    result = Terminal(tmp_path, "requestor").run("list")
    assert result.exit_code == 1
    assert "The access store cannot be used." in result.output
    assert "Traceback" not in result.output


def test_the_client_and_the_order_commands_show_a_key(
    requestor: Requestor, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = service_url("127.0.0.1", requestor.web.port)
    made = terminal.json("create", "--scope", "orders:read")
    with RequestorClient(url, retries=0, key=made["token"]) as client:
        assert list(client.orders()) == []
        assert client.readiness().checks is None
        with pytest.raises(Forbidden):
            client.initiate("A1", "s", "none")
    with RequestorClient(url, retries=0) as stranger, pytest.raises(Unauthorized):
        list(stranger.orders())

    def run() -> Result:
        return CliRunner().invoke(order_commands(url, "NOT_SET"), ["list", "--json"])

    refused = run()
    assert refused.exit_code == 1
    assert "ORDER_COMMUNICATOR_REQUESTOR_KEY" in refused.output
    monkeypatch.setenv("ORDER_COMMUNICATOR_REQUESTOR_KEY", made["token"])
    assert run().exit_code == 0
    # Within two seconds of its revocation it is dead.
    terminal.json("revoke", made["key_id"])
    deadline = time.monotonic() + 2
    while run().exit_code == 0:
        assert time.monotonic() < deadline


def test_seller_commands_and_doctor_show_a_key(
    processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = processor.web.port
    terminal = Terminal(tmp_path, "processor")
    made = terminal.json("create", "--scope", "sellers:write", "--scope", "operate")

    def run() -> Result:
        group = seller_commands(service_url("127.0.0.1", port), "NOT_SET")
        return CliRunner().invoke(group, ["add", "s1", "--name", "One"])

    assert "ORDER_COMMUNICATOR_PROCESSOR_KEY" in run().output
    monkeypatch.setenv("ORDER_COMMUNICATOR_PROCESSOR_KEY", made["token"])
    assert run().exit_code == 0
    for key in (None, "oc_wrong", made["token"]):
        found = running_service("127.0.0.1", port, key)
        assert found is not None
        assert found.troubles == ()
