"""Calls of the running processor's REST interface, for commands: its store belongs to the service alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

_TIMEOUT_S = 30.0
_PAGE = 1_000
#: Addresses that say "all of this machine", where it is called at the loop-back one.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # these are compared, not listened on


class CallFailed(Exception):
    """The processor did not answer; the text says what to do, in one line."""


class CallRefused(CallFailed):
    """The processor answered that it does not do this; the text says why."""


class RestClient:
    """Calls one processor."""

    def __init__(self, host: str, port: int) -> None:
        self._host = _EVERYWHERE.get(host, host)
        self._port = port

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a call below /api/v1 answers. Raises `CallFailed` or `CallRefused`."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, f"/api/v1{path}", content, headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            raise CallFailed(
                f"No processor answers at {self._host} port {self._port}. Start it, or set PROCESSOR_HOST and "
                "PROCESSOR_PORT to where it listens."
            ) from None
        except ValueError:
            raise CallFailed(f"What answers at {self._host} port {self._port} is not a processor.") from None
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise CallRefused(_reason_of(answer))
        return answer

    def pages(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page. Raises `CallFailed`."""
        cursor = ""
        while True:
            page = self.call("GET", f"{path}?limit={_PAGE}{cursor}")
            yield from page[name]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"


def _reason_of(problem: Mapping[str, Any]) -> str:
    faults = [f"{fault['pointer'].removeprefix('/')} {fault['message']}" for fault in problem.get("errors", ())]
    return "; ".join(faults) or str(problem.get("detail", "The processor refused this."))
