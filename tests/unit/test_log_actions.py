"""Every log line has an action, and the documentation lists every action as the code has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from processor_app.delivery.backlog import Turn
from processor_app.delivery.delivery import DeliveryState

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {"requestor_app": "requestor", "processor_app": "processor", "service_kit": "both"}
LEVELS = {"debug", "info", "warning", "error", "exception"}
#: Parts of the kit that one service alone runs.
OF_ONE_SERVICE = {"members.py": "processor", "rpc": "processor"}
#: What stands for the variable part of an action.
VARIANTS = {
    "f'delivery.{delivery.state}'": {
        f"delivery.{state}": "warning" if state is DeliveryState.DEAD else "info"
        for state in DeliveryState
        # Those that an attempt can lead to.
        if state not in (DeliveryState.PENDING, DeliveryState.SENDING)
    },
    "f'breaker.{turn}'": {f"breaker.{turn}": "warning" if turn is Turn.OPENED else "info" for turn in Turn},
    "f'seller.{entry.kind}'": {
        f"seller.{kind}": "info"
        for kind in re.findall(r"_Deed\(\"(\w+)\"", (ROOT / "processor_app/delivery/sellers.py").read_text("utf-8"))
    },
}


class LogCall(NamedTuple):
    """One call of a logger: where it stands, and its action as source text; None without one."""

    place: str
    service: str
    level: str
    action: ast.expr | None


def log_calls() -> Iterator[LogCall]:
    files = [file for folder in SERVICES for file in sorted((ROOT / folder).rglob("*.py"))]
    for file in [*files, *ROOT.glob("wsgi_*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            action = next((keyword.value for keyword in node.keywords if keyword.arg == "action"), None)
            called = ast.unparse(node.func)
            match = re.fullmatch(r"(?:_?log|get_logger\(__name__\))\.(\w+)", called)
            if action is None and (match is None or match[1] not in LEVELS):
                continue
            level = "error" if match and match[1] == "exception" else match[1] if match else called
            yield LogCall(f"{file.relative_to(ROOT)}:{node.lineno}", service_of(file), level, action)


def service_of(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    if parts[0] == "service_kit":
        return OF_ONE_SERVICE.get(parts[1], "both")
    return SERVICES.get(parts[0], "both")


def actions_of_the_code() -> set[tuple[str, str, str]]:
    found = {("library", "both", "any")}
    for call in log_calls():
        if isinstance(call.action, ast.Constant):
            found.add((str(call.action.value), call.service, call.level))
        elif call.action is not None:
            variants = VARIANTS[ast.unparse(call.action)]
            found |= {(action, call.service, level) for action, level in variants.items()}
    return found


def test_every_log_line_has_an_action() -> None:
    assert [call.place for call in log_calls() if call.action is None] == []


def test_the_list_of_actions_is_complete_and_as_they_are() -> None:
    text = (ROOT / "docs" / "reference" / "log-actions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \| (\w+) \| .+ \|$", text, re.MULTILINE)
    levels: dict[tuple[str, str], set[str]] = {}
    for action, service, level in actions_of_the_code():
        levels.setdefault((action, service), set()).add(level)
    assert {(action, service) for action, service, _ in rows} == set(levels)
    assert [row for row in rows if row[2] not in levels[row[0], row[1]]] == []
    assert len(rows) == len({(action, service) for action, service, _ in rows})


def test_an_action_is_a_thing_and_what_happened_to_it() -> None:
    assert [a for a, _, _ in actions_of_the_code() if not re.fullmatch(r"[a-z]+\.[a-z_]+|library", a)] == []
