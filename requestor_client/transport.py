"""Calls over HTTP: time-outs, retries, and errors as exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from requestor_client.errors import NoAnswer, UnexpectedAnswer, problem_of
from requestor_client.reading import read

T = TypeVar("T")

#: Answers that say "later": nothing was accepted, so the same is sent again.
_LATER = (429, 503, 507)
_PROBLEM = "application/problem+json"


class _Bearer(AuthBase):
    """Shows a key. A header of the session would give way to what a .netrc file has for the host."""

    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


class Transport:
    """Sends calls to one service. Every call that is sent through it must be safe to repeat."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 4,
        longest_pause_s: float = 10.0,
        session: requests.Session | None = None,
        key: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a requestor's URL is such as http://127.0.0.1:8004")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._login = None if key is None else _Bearer(key)
        self._session = session or requests.Session()
        retry = Retry(
            total=retries,
            redirect=0,
            status_forcelist=_LATER,
            allowed_methods=None,  # POST too: each of our calls has an id and no second effect
            backoff_factor=0.2,
            backoff_jitter=0.2,
            backoff_max=longest_pause_s,
            retry_after_max=int(longest_pause_s),
            raise_on_status=False,
        )
        self._session.mount(self.url, HTTPAdapter(max_retries=retry))

    def close(self) -> None:
        """Let the connections go."""
        self._session.close()

    def call(
        self,
        wanted: type[T],
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        also: tuple[int, ...] = (),
    ) -> T:
        """What a call answers with 200, or with one of ``also``. Raises `CallFailed` in all other cases."""
        shown = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._session.request(
                method,
                self.url + path,
                json=body,
                params=shown,
                timeout=self._timeout_s,
                allow_redirects=False,
                auth=self._login,
            )
        except requests.Timeout:
            raise NoAnswer(f"{self.url} has not answered within {self._timeout_s:g} s.") from None
        except requests.RequestException as error:
            raise NoAnswer(f"No requestor answers at {self.url} ({type(error).__name__}).") from None
        document = _json_of(answer)
        if answer.headers.get("Content-Type", "").startswith(_PROBLEM) and isinstance(document, dict):
            raise problem_of(answer.status_code, document, _seconds_of(answer.headers.get("Retry-After")))
        if answer.status_code not in (200, *also):
            raise UnexpectedAnswer(f"What answers at {self.url} is no requestor: it says {answer.status_code}.")
        try:
            return read(wanted, document)
        except ValueError as fault:
            reason = f"What answers at {self.url} is no requestor, or one of another release: {fault}."
            raise UnexpectedAnswer(reason) from None


def _json_of(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _seconds_of(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None
