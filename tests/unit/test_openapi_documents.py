"""The committed OpenAPI documents are what the services say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from processor_app.commands.app import create_command_app as create_processor_commands
from requestor_app.commands.app import create_command_app as create_requestor_commands

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "openapi"


@pytest.mark.parametrize(
    ("name", "create"), [("requestor", create_requestor_commands), ("processor", create_processor_commands)]
)
def test_the_committed_document_is_what_the_command_prints(name: str, create: object) -> None:
    app = create()  # type: ignore[operator]
    printed = app.test_cli_runner().invoke(args=["openapi"]).stdout
    committed = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert printed == committed, "run `python dev.py openapi`"
    OpenAPIV31SpecValidator(json.loads(printed)).validate()
