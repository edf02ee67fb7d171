"""Calls of a service's REST interface, with nothing but the standard library."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_TIMEOUT_S = 10.0
_PATIENCE_S = 20.0
# A proxy of the environment must not stand between us and our own machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Service:
    """One service; ``url`` is the base of its addresses."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer to a call below /api/v1. Raises `urllib.error.HTTPError` for a refusal."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - always http, to our own machine
            f"{self.url}/api/v1{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with _opener.open(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)

    def get(self, path: str) -> Any:
        """What a GET answers."""
        return self.call("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        """What a POST answers."""
        return self.call("POST", path, body if body is not None else {})


def send_form(url: str, **fields: str) -> None:
    """Post a form, as a browser does."""
    with _opener.open(url, urllib.parse.urlencode(fields).encode(), timeout=_TIMEOUT_S):
        pass


def wait_for(look: Callable[[], T | None]) -> T:
    """Look until the answer is true. Raises `TimeoutError` after a while."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError("the services did not get there in time; their log lines say why")
        time.sleep(0.05)
    return seen
