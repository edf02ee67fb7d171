"""The commands against a running requestor, through click as Flask's command line calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from requestor_app.commands import watching
from requestor_app.commands.orders import order_commands
from service_kit.ports import listen_alone
from tests.conftest import Pair


class Terminal:
    """Runs commands as a person would type them."""

    def __init__(self, url: str) -> None:
        self._group = order_commands(url, "ORDERS_URL_OF_TESTS")

    def run(self, *arguments: str, **environ: str) -> Result:
        return CliRunner(env={"COLUMNS": "220", **environ}).invoke(self._group, arguments)

    def done(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.done(*arguments, "--json"))


@pytest.fixture
def url(running_pair: Pair) -> str:
    return running_pair.requestor_url.removesuffix("/api/v1")


@pytest.fixture
def terminal(url: str) -> Iterator[Terminal]:
    with capture_logs():  # of the services in this process, which would write into the commands' output
        yield Terminal(url)


@pytest.fixture
def nobody() -> Terminal:
    with listen_alone("127.0.0.1", 0, "PORT") as listener:
        return Terminal(f"http://127.0.0.1:{listener.getsockname()[1]}")


def eventually(look: Callable[[], Any]) -> Any:
    for _ in range(300):
        time.sleep(0.02)
        if seen := look():
            return seen
    pytest.fail("it did not come")


def test_the_help_says_where_each_option_goes(terminal: Terminal, url: str) -> None:
    assert "orders --url URL list --json" in " ".join(terminal.done("--help").split())
    assert json.loads(terminal.done("--url", url, "list", "--json")) == []


def test_an_order_lives_by_commands_alone(terminal: Terminal, tmp_path: Path) -> None:
    details = tmp_path / "details.json"
    details.write_text('{"item": "Oak table"}', encoding="utf-8")
    arguments = ["--type", "email", "--seller", "s1", "--seller", "s2", "--details", f"@{details}"]
    assert terminal.done("initiate", "A1", "x1", *arguments) == "Order initiated successfully: A1\n"
    assert terminal.done("initiate", "A1", "x1", *arguments) == "Order already being processed: A1\n"
    eventually(lambda: terminal.json("show", "A1")["stream"]["state"] == "open")

    told = terminal.done(
        "followup", "A1", "Any update?", "--seller", "s1", "--id", "n1", "--link", "https://example.com/"
    )
    assert told == "Follow-up processed successfully: n1\n"
    eventually(lambda: terminal.json("show", "A1")["unsent_count"] == 0)
    shown = terminal.json("show", "A1")
    assert (shown["audience"], shown["details"]) == (["s1", "s2"], {"item": "Oak table"})
    assert [note["urls"] for note in shown["notes"]] == [["https://example.com/"]]
    assert shown["created_at"].endswith("Z")
    page = terminal.done("show", "A1")
    assert all(text in page for text in ("Order A1", "Oak table", "Any update?", "waiting", "follow_up_accepted"))

    assert terminal.json("complete", "A1", "--reason", "done")["order_req_id"] == "A1"
    eventually(lambda: terminal.json("show", "A1")["state"] == "completed")
    refused = terminal.run("cancel", "A1")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: An order that is completed cannot be asked to cancel.\n"


def test_lists_are_filtered_and_limited(terminal: Terminal) -> None:
    for number in range(3):
        terminal.done("initiate", f"A{number}", f"x{number}", "--type", "none")
    terminal.done("cancel", "A2")
    assert [order["order_req_id"] for order in terminal.json("list")] == ["A2", "A1", "A0"]
    assert [order["order_req_id"] for order in terminal.json("list", "--session", "x1")] == ["A1"]
    assert [order["order_req_id"] for order in terminal.json("list", "--state", "live")] == ["A1", "A0"]
    table = terminal.done("list", "--limit", "2")
    assert "2 orders" in table
    assert "A2" in table
    assert "A0" not in table


def test_a_watch_shows_counts_and_orders_in_a_table(terminal: Terminal) -> None:
    terminal.done("initiate", "A1", "x1", "--type", "none")
    shown = terminal.done("watch", "--looks", "2", "--every", "0.1")
    assert "1 orders (1 live)" in shown
    assert "A1" in shown


def test_a_watch_for_programs_prints_a_line_for_what_has_changed(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    def wait(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            terminal.done("initiate", "A1", "x1", "--type", "none")

    monkeypatch.setattr(watching, "sleep", wait)
    lines = [json.loads(line) for line in terminal.done("watch", "--looks", "4", "--json").splitlines()]
    assert [line["total_orders"] for line in lines] == [0, 1]
    assert lines[1]["orders"][0]["order_req_id"] == "A1"


def test_a_watch_ends_in_order_by_ctrl_c(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_pause_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "sleep", interrupt)
    assert terminal.run("watch").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "A1"],
        ["initiate", "A1", "x1"],
        ["followup", "A1", "text", "--seller", "s1"],
        ["complete", "A1"],
        ["cancel", "A1"],
        ["watch", "--looks", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_requestor_that_does_not_run_is_told_in_one_line(nobody: Terminal, arguments: list[str]) -> None:
    result = nobody.run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: No requestor answers at http://127.0.0.1:")
    assert result.stderr.count("\n") == 1


def test_what_the_requestor_refuses_is_told_field_by_field(terminal: Terminal) -> None:
    result = terminal.run("initiate", "A 1", "x1", "--type", "pigeon")
    assert result.exit_code == 1
    assert "order_req_id: must be 1 to 128 characters" in result.stderr
    assert "notification_type: " in result.stderr
    unknown = terminal.run("show", "unknown")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["followup", "A1", "text"],
        ["list", "--state", "unknown"],
        ["list", "--limit", "0"],
        ["initiate", "A1", "x1", "--details", "[1]"],
        ["initiate", "A1", "x1", "--details", "@absent.json"],
        ["--url", "127.0.0.1:8004", "list"],
        ["unknown"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_has_exit_status_2(terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run(*arguments).exit_code == 2


def test_the_environment_says_where_the_requestor_is(nobody: Terminal, url: str) -> None:
    with capture_logs():
        assert nobody.run("list", ORDERS_URL_OF_TESTS=url).exit_code == 0


def test_nothing_that_strangers_wrote_steers_the_terminal(terminal: Terminal) -> None:
    terminal.done("initiate", "A1", "x1", "--type", "none", "--details", '{"item": "\\u202eTable"}')
    shown = terminal.done("show", "A1")
    assert "\u202e" not in shown
