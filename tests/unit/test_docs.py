"""The documents say what the code says: every setting, every call, every link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from processor_app.bootstrap import create_app as create_processor_app
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import create_app as create_requestor_app
from requestor_app.settings import RequestorSettings
from service_kit.settings import describe_settings
from service_kit.web.console.blueprint import NAME as CONSOLE

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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_FOLDER)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []
