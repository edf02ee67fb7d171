"""The documents say what the code says: every setting, every call, every link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import requestor_client
from processor_app.bootstrap import create_app as create_processor_app
from processor_app.commands.app import create_command_app as create_processor_commands
from processor_app.settings import ProcessorSettings
from proto import order_service_pb2 as wire
from requestor_app.bootstrap import create_app as create_requestor_app
from requestor_app.commands.app import create_command_app as create_requestor_commands
from requestor_app.settings import RequestorSettings
from requestor_client import RequestorClient
from service_kit.settings import describe_settings
from service_kit.web.console.blueprint import NAME as CONSOLE
from service_kit.web.guard import door_of

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*PROJECT_FOLDER.glob("*.md"), *(PROJECT_FOLDER / "docs").rglob("*.md")])


def text_of(name: str) -> str:
    return (PROJECT_FOLDER / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("settings", "prefix"), [(RequestorSettings, "REQUESTOR"), (ProcessorSettings, "PROCESSOR")])
def test_every_setting_is_described_as_it_is(settings: type[Any], prefix: str) -> None:
    rows = [
        f"| `{row.variable}` | {f'`{row.default}`' if row.default else 'unset'} | {row.help} |"
        for row in describe_settings(settings, prefix)
    ]
    documented = [line for line in text_of("configuration.md").splitlines() if line.startswith(f"| `{prefix}_")]
    assert documented == rows


@pytest.mark.parametrize(
    ("app", "section"), [(create_requestor_app(), "Requestor"), (create_processor_app(), "Processor")], ids=["r", "p"]
)
def test_every_call_is_described(app: Flask, section: str) -> None:
    calls = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] != CONSOLE
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    (part,) = [part for part in re.split(r"^## ", text_of("rest.md"), flags=re.MULTILINE) if part.startswith(section)]
    assert set(re.findall(r"^\| `([^`]+)` \|", part, flags=re.MULTILINE)) == calls


def test_every_call_says_which_key_opens_it() -> None:
    expected = set()
    for service, app in (("requestor", create_requestor_app()), ("processor", create_processor_app())):
        for rule in app.url_map.iter_rules():
            door = door_of(app.view_functions[rule.endpoint])
            assert door is not None, rule.rule
            key = "none" if door.scope is None else f"`{door.scope}`" + " of the tenant `default`" * door.is_whole
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            expected |= {f"| {service} | `{method} {rule.rule}` | {key} |" for method in methods}
    assert (
        set(re.findall(r"^\| (?:requestor|processor) \| .+$", text_of("reference/keys.md"), re.MULTILINE)) == expected
    )


def test_the_grpc_page_names_every_call_and_message() -> None:
    page = text_of("reference/grpc.md")
    service = wire.DESCRIPTOR.services_by_name["OrderService"]
    names = {*(method.name for method in service.methods), *wire.DESCRIPTOR.message_types_by_name}
    assert {name for name in names if name not in page} == set()


def test_every_command_is_described() -> None:
    page = text_of("reference/commands.md")
    for app in (create_requestor_commands(), create_processor_commands()):
        for name, command in app.cli.commands.items():
            words = [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]
            assert [word for word in words if f"`{word}" not in page] == []


def test_every_method_of_the_client_is_described() -> None:
    page = text_of("reference/client.md")
    methods = {name for name in vars(RequestorClient) if not name.startswith("_")} - {"url", "close"}
    assert {name for name in methods if f"`{name}(" not in page} == set()
    errors = {name for name in requestor_client.__all__ if issubclass_of_error(name)}
    assert {name for name in errors if f"`{name}`" not in page} == set()


def issubclass_of_error(name: str) -> bool:
    named = getattr(requestor_client, name)
    return isinstance(named, type) and issubclass(named, requestor_client.CallFailed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_FOLDER)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []
