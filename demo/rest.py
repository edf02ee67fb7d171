"""REST calls, with Python alone."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

# A proxy of the environment must not stand between us and our own machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT_S = 10.0
_PATIENCE_S = 30.0

T = TypeVar("T")


class TourFailed(Exception):
    """The tour cannot go on; the text says why, in one line."""


class Service:
    """The REST interface of one service."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What a call below /api/v1 answers."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", content, headers, method=method)
        return json.loads(_answer(request))


def submit(url: str, form: Mapping[str, str]) -> None:
    """Send a form as a browser does, and read the page that it leads to."""
    _answer(urllib.request.Request(url, urllib.parse.urlencode(form).encode()))


def _answer(request: urllib.request.Request) -> bytes:
    try:
        with _opener.open(request, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as refusal:
        with refusal:
            said = refusal.read().decode(errors="replace")
        raise TourFailed(f"{request.method} {request.full_url} was answered {refusal.code}: {said}") from None
    except (OSError, http.client.HTTPException) as failure:
        raise TourFailed(f"{request.full_url} does not answer any more ({failure})") from None


def eventually(look: Callable[[], T], what: str) -> T:
    """Look again and again until there is something; the services need a moment for what goes between them."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TourFailed(f"{what} did not come within {_PATIENCE_S:.0f} s")
        time.sleep(0.1)
