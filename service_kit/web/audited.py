"""Which requests stand in the audit log, and as what: the one place that writes about any of them.

A view says by its door that it is audited (see `guard`). What was asked for is its endpoint and the ids of the request;
what became of it is the status of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from flask import Request, Response

from service_kit.access.audit import AuditLog
from service_kit.access.model import NO_KEY_NEEDED, NO_KNOWN_KEY, AuditEntry, Principal
from service_kit.change import DEFAULT_TENANT
from service_kit.times import now_ms
from service_kit.web.callers import client_address
from service_kit.web.guard import door_of, optional_principal
from service_kit.web.problems import PROBLEM_TYPE, TYPE_PREFIX
from service_kit.web.schemas import BODY_KEY

#: Where a request names its target; what is first in this order is named first.
_TARGETS = ("delivery_id", "order_req_id", "seller_id", "key_id")
_MAX_TARGET = 200
#: Not let in: there may be many of these.
_AT_THE_DOOR = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})


class Auditor:
    """Writes the audit log's lines about requests."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def note(self, request: Request, response: Response, views: Mapping[str, object]) -> None:
        """Write about a request that was answered, if it is one of those."""
        endpoint = request.endpoint
        door = None if endpoint is None else door_of(views.get(endpoint))
        if endpoint is None or door is None or not door.is_audited:
            return
        principal = optional_principal()
        if principal is None and door.scope is not None:
            return  # a stranger at a door for keys: nobody has done anything
        address, outcome = client_address(request.environ), _outcome_of(response)
        entry = AuditEntry(now_ms(), *_who(principal), endpoint, _target_of(request), address, outcome)
        if response.status_code in _AT_THE_DOOR:
            self._audit.write_refusal(entry)
        else:
            self._audit.write(entry)


def _who(principal: Principal | None) -> tuple[str, str]:
    if principal is None:
        return DEFAULT_TENANT, NO_KNOWN_KEY
    return principal.tenant, principal.key_id or NO_KEY_NEEDED


def _target_of(request: Request) -> str:
    """The ids that the request names, as they may be shown: of a refused one they may be anything."""
    named: Mapping[str, Any] = {**request.environ.get(BODY_KEY, {}), **(request.view_args or {})}
    text = " ".join(str(named[name]) for name in _TARGETS if named.get(name))
    return "".join(each if each.isprintable() else "?" for each in text[:_MAX_TARGET])


def _outcome_of(response: Response) -> str:
    status = response.status_code
    if status < HTTPStatus.BAD_REQUEST:
        return "done"
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    if response.content_type == PROBLEM_TYPE:
        code = orjson.loads(response.get_data())["type"].removeprefix(TYPE_PREFIX)
    return f"{'failed' if status >= HTTPStatus.INTERNAL_SERVER_ERROR else 'refused'}: {code}"
