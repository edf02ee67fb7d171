"""Calls of the running processor's REST interface, for commands: its store belongs to the service alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import requests

_TIMEOUT_S = 30.0
_PAGE = 1_000


class CallFailed(Exception):
    """The processor did not answer; the text says what to do, in one line."""


class CallRefused(CallFailed):
    """The processor answered that it does not do this; the text says why."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class RestClient:
    """Calls one processor. Raises `ValueError` for a URL that cannot be one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a processor's URL is such as http://127.0.0.1:8005")
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is meant for other calls
        if key is not None:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What a call below /api/v1 answers. Raises `CallFailed` or `CallRefused`."""
        try:
            response = self._session.request(
                method,
                f"{self.url}/api/v1{path}",
                json=body,
                params=query,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )
            answer = response.json()
        except requests.JSONDecodeError:
            answer = None
        except requests.RequestException:
            raise CallFailed(
                f"No processor answers at {self.url}. Start it, or say with --url where it listens."
            ) from None
        if not isinstance(answer, dict):
            raise CallFailed(f"What answers at {self.url} is not a processor.")
        if response.status_code != requests.codes.ok:
            raise CallRefused(_reason_of(answer), response.status_code)
        return answer

    def pages(self, path: str, name: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page. Raises `CallFailed`."""
        asked = {key: value for key, value in (query or {}).items() if value is not None}
        cursor: dict[str, Any] = {}
        while True:
            page = self.call("GET", path, query={"limit": _PAGE, **asked, **cursor})
            yield from page[name]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}


def _reason_of(problem: Mapping[str, Any]) -> str:
    faults = [f"{fault['pointer'].removeprefix('/')} {fault['message']}" for fault in problem.get("errors", ())]
    return "; ".join(faults) or str(problem.get("detail", "The processor refused this."))
