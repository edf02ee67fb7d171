"""The examples of /openapi.json run as they stand, and what is answered is what the document says."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from typing import Any

import pytest
import requests
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service_kit.web.documented_calls import Call, groups_of
from tests.conftest import Pair

#: What has to be there before others can be shown, and what ends something. All else comes in the document's order.
_FIRST = ("sellers_put_seller", "orders_initiate", "orders_follow_up", "orders_reply")
_LAST = ("orders_complete", "orders_cancel", "sellers_rotate_secret", "sellers_remove_seller")
#: What the examples' state cannot hold: a dead delivery, a signed link, an order that is ended twice in two ways.
_REFUSED = {
    "deliveries_retry": 404,
    "replies_show": 400,
    "replies_cut_off": 400,
    "replies_answer": 400,
    "orders_cancel": 409,
}


def _document(url: str) -> dict[str, Any]:
    document: dict[str, Any] = requests.get(f"{url}/openapi.json", timeout=10).json()
    return document


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def _in_order(document: dict[str, Any], url: str) -> list[Call]:
    calls = {call.anchor: call for group in groups_of(document, url) for call in group.calls}
    named = [*_FIRST, *_LAST]
    between = [name for name in calls if name not in named]
    return [calls[name] for name in (*_FIRST, *between, *_LAST) if name in calls]


def _run(line: str) -> tuple[int, str, str]:
    """Run a line of the page as a person does; its status, media type and body."""
    done = subprocess.run(
        [*shlex.split(line), "--silent", "--show-error", "--write-out", "\n%{http_code} %{content_type}"],
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=True,
    )
    body, _, told = done.stdout.rpartition("\n")
    status, _, media_type = told.partition(" ")
    return int(status), media_type.partition(";")[0], body


@pytest.fixture
def urls(running_pair: Pair) -> list[str]:
    return [url.removesuffix("/api/v1") for url in (running_pair.processor_url, running_pair.requestor_url)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs the program curl")
def test_every_example_runs_and_is_answered_as_described(urls: list[str]) -> None:
    processor, requestor = urls
    documents = {url: _document(url) for url in urls}
    queue = [(url, call) for url in (requestor, processor) for call in _in_order(documents[url], url)]
    queue.sort(key=lambda item: item[1].anchor in _LAST)
    seen = set()
    for url, call in queue:
        operation = _operations(documents[url])[call.anchor]
        if call.anchor == "orders_reply":
            _wait_for_order(processor)
        status, media_type, body = _run(call.curl)
        where = f"{call.curl}\n{status} {body}"
        wanted = _REFUSED.get(call.anchor, int(next(iter(operation["responses"]))))
        assert status == wanted, where
        answer = operation["responses"][str(status)]
        assert media_type in answer["content"], where
        if media_type.endswith("json") and call.path != "/openapi.json":
            schema = {**answer["content"][media_type]["schema"], "components": documents[url]["components"]}
            OAS31Validator(schema).validate(json.loads(body))
        seen.add((url, call.anchor))
    assert len(seen) == sum(len(_operations(document)) for document in documents.values())


def _wait_for_order(processor: str) -> None:
    for _ in range(200):
        if requests.get(f"{processor}/api/v1/orders/TEST001", timeout=10).status_code == 200:
            return
        time.sleep(0.05)
    pytest.fail("the order did not come to the processor")


def test_the_documents_are_valid(urls: list[str]) -> None:
    for url in urls:
        OpenAPIV31SpecValidator(_document(url)).validate()
