"""The commands against a running processor, through click as Flask's command line calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from processor_app.bootstrap import Processor
from processor_app.commands.deliveries import delivery_commands
from processor_app.commands.sellers import seller_commands
from service_kit.commands.calling import service_url
from service_kit.ports import listen_alone
from tests.conftest import Pair

CSV = """\
seller_id,name,email,webhook_url,channels,language
s1,"One, Ltd.",one@example.com,https://one.example/hook,webhook email,de
s2,Two,two@example.com,,,
"""


class Terminal:
    """Runs commands as a person would type them."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        make: Callable[[str, str], click.Group] = seller_commands,
    ) -> None:
        self._group = make(service_url(host, port), "NOT_SET")

    def run(self, *arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(self._group, arguments)

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def terminal(running_processor: Processor) -> Iterator[Terminal]:
    with capture_logs():  # of the service in this process, which would write into the commands' output
        yield Terminal(running_processor.web.port)


def test_a_seller_is_added_and_listed(terminal: Terminal) -> None:
    arguments = ["--name", "One", "--email", "one@example.com", "--channel", "email", "--channel", "webhook"]
    result = terminal.run("add", "s1", *arguments, "--webhook-url", "https://one.example/hook", "--language", "de")
    assert result.exit_code == 0, result.output
    assert "Seller s1 is registered." in result.output
    assert "whsec_" in result.output
    (listed,) = terminal.json("list")
    assert (listed["seller_id"], listed["email"], listed["language"]) == ("s1", "one@example.com", "de")
    assert listed["channels"] == ["email", "webhook"]
    table = terminal.run("list").output
    assert "1 sellers" in table
    assert "one@example.com" in table
    assert "whsec_" not in table


def test_adding_again_replaces_the_entry_and_shows_no_secret(terminal: Terminal) -> None:
    assert "webhook_secret" in terminal.json("add", "s1", "--webhook-url", "https://one.example/")
    assert "webhook_secret" not in terminal.json("add", "s1", "--webhook-url", "https://one.example/", "--name", "New")
    assert [seller["name"] for seller in terminal.json("list")] == ["New"]


def test_a_list_of_many_pages_is_whole(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor_app.commands.rest._PAGE", 2)
    for number in range(5):
        terminal.json("add", f"s{number}")
    assert [seller["seller_id"] for seller in terminal.json("list")] == [f"s{n}" for n in reversed(range(5))]


def test_a_file_is_imported_with_its_secrets(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "sellers.csv"
    file.write_text(CSV, encoding="utf-8-sig")
    first, second = terminal.json("import", str(file))
    assert (first["row"], first["seller_id"], first["error"]) == (2, "s1", None)
    assert first["webhook_secret"].startswith("whsec_")
    assert (second["seller_id"], second["webhook_secret"]) == ("s2", None)
    by_id = {seller["seller_id"]: seller for seller in terminal.json("list")}
    assert (by_id["s1"]["name"], by_id["s1"]["channels"]) == ("One, Ltd.", ["email", "webhook"])
    assert by_id["s2"]["language"] == "en"


def test_a_table_cuts_no_secret_off(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "sellers.csv"
    file.write_text(CSV, encoding="utf-8")
    narrow = CliRunner(env={"COLUMNS": "40"}).invoke(terminal._group, ["import", str(file)])
    assert narrow.exit_code == 0
    assert "…" not in narrow.output


def test_rows_that_are_refused_are_told_and_the_rest_is_kept(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "sellers.csv"
    file.write_text(f"{CSV}s3,,no address,,,\ns4,too,few\ns 5,,,,,\ns6,,,,,\n", encoding="utf-8")
    result = terminal.run("import", str(file), "--json")
    assert result.exit_code == 1
    assert "3 of 6 sellers were not registered." in result.stderr
    errors = {row["row"]: row["error"] for row in json.loads(result.stdout) if row["error"]}
    assert set(errors) == {4, 5, 6}
    assert "email must be a mail address" in errors[4]
    assert {seller["seller_id"] for seller in terminal.json("list")} == {"s1", "s2", "s6"}


@pytest.mark.parametrize(
    "content",
    [b"name,email\nOne,one@example.com\n", b"seller_id,secret\ns1,x\n", b"", b'seller_id\n"s1\n', b"seller_id\n\xff\n"],
)
def test_a_file_that_is_no_list_of_sellers_is_refused_as_a_whole(
    terminal: Terminal, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "sellers.csv"
    file.write_bytes(content)
    result = terminal.run("import", str(file))
    assert result.exit_code == 2
    assert "sellers.csv" in result.stderr
    assert terminal.json("list") == []


def test_a_refused_seller_is_told_by_its_field(terminal: Terminal) -> None:
    result = terminal.run("add", "s1", "--email", "nobody")
    assert result.exit_code == 1
    assert "email must be a mail address" in result.stderr
    assert terminal.run("add", "s/1").exit_code == 1
    assert terminal.json("list") == []


@pytest.mark.parametrize("arguments", [["add"], ["unknown"], ["import", "absent.csv"], ["list", "--unknown"]])
def test_a_wrong_command_line_is_told(terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run(*arguments).exit_code == 2


def test_a_processor_that_does_not_run_is_told_with_what_to_do(tmp_path: Path) -> None:
    with listen_alone("127.0.0.1", 0, "PORT") as listener:
        port = listener.getsockname()[1]
    nobody = Terminal(port, host="0.0.0.0")
    file = tmp_path / "sellers.csv"
    file.write_text(CSV, encoding="utf-8")
    for arguments in (["list"], ["add", "s1"], ["import", str(file)]):
        result = nobody.run(*arguments, "--json")
        assert result.exit_code == 1
        assert f"No processor answers at http://127.0.0.1:{port}" in result.output
        assert "Traceback" not in result.output
    (row,) = json.loads(nobody.run("import", str(file), "--json").stdout)
    assert row["seller_id"] == "s1"


def test_a_seller_is_shown_and_removed_and_its_secret_changed(terminal: Terminal) -> None:
    first = terminal.json("add", "s1", "--webhook-url", "https://one.example/hook")["webhook_secret"]
    assert terminal.json("rotate-secret", "s1")["webhook_secret"] != first
    assert terminal.json("show", "s1")["live_secrets"] == 2
    assert "https://one.example/hook" in terminal.run("show", "s1").output
    assert terminal.run("remove", "s1").output == "Seller s1 is removed.\n"
    gone = terminal.run("show", "s1")
    assert gone.exit_code == 1
    assert gone.stderr.startswith("Error: ")


@pytest.mark.parametrize("url", ["127.0.0.1:8005", "ftp://127.0.0.1"])
def test_a_url_that_cannot_be_one_is_a_wrong_command_line(terminal: Terminal, url: str) -> None:
    result = terminal.run("--url", url, "list")
    assert result.exit_code == 2
    assert "such as http://127.0.0.1:8005" in result.stderr


def test_deliveries_are_listed_and_the_dead_are_sent_again(running_pair: Pair) -> None:
    with capture_logs():
        port = running_pair.processor.web.port
        sellers, deliveries = Terminal(port), Terminal(port, make=delivery_commands)
        # A port that nobody may reach: a webhook into this machine is refused for good or tried again.
        sellers.json("add", "s1", "--webhook-url", "http://127.0.0.1:9/hook")
        order = {"order_req_id": "A1", "session_id": "x", "notification_type": "webhook", "audience": ["s1"]}
        assert requests.post(f"{running_pair.requestor_url}/orders/initiate", json=order, timeout=10).status_code == 200
        failed = _eventually(
            lambda: [each for each in deliveries.json("list") if each["state"] in {"dead", "retrying"}]
        )
        (delivery,) = failed
        assert delivery["order_req_id"] == "A1"
        assert deliveries.json("list", "--seller", "nobody") == []
        assert delivery["delivery_id"] in deliveries.run("list", "--order", "A1").output.replace("\n", "")
        again = deliveries.run("retry", delivery["delivery_id"])
        assert (again.exit_code, again.output) == (0, f"Delivery {delivery['delivery_id']} is sent again.\n")
        _eventually(lambda: deliveries.json("list", "--state", delivery["state"]))
        assert deliveries.json("retry-all", "--state", delivery["state"], "--seller", "s1") == {"count": 1}
        assert deliveries.run("retry", "unknown").exit_code == 1


def _eventually(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 15
    while not (seen := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return seen
