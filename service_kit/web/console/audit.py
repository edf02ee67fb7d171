"""The page of the audit log: who did what, newest first, of the tenant whose key is signed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from flask import Blueprint, Response, current_app, render_template

from service_kit.access.audit import AuditLog
from service_kit.access.keyring import Keyring
from service_kit.access.model import AUDIT_LINES, AuditEntry, Scope
from service_kit.errors import FieldError, InvalidInput
from service_kit.times import rfc3339
from service_kit.web.console.polls import PollAnswers
from service_kit.web.console.schemas import TableQuerySchema
from service_kit.web.guard import current_principal, for_scope
from service_kit.web.schemas import TextField, load_query


class AuditQuerySchema(TableQuerySchema):
    """Which lines to list: those that name a text as their key, action, target or address."""

    about = TextField(128, load_default="")


_QUERY = AuditQuerySchema()


def add_audit_page(blueprint: Blueprint) -> None:
    """Add the page to an operator page."""
    blueprint.add_url_rule("/console/audit", view_func=audit_page)
    blueprint.add_url_rule("/console/data/audit", view_func=audit_lines)


@for_scope(Scope.OPERATE)
def audit_page() -> str:
    """The table of lines."""
    return render_template("console/audit.html")


@for_scope(Scope.OPERATE)
def audit_lines() -> Response:
    """One page of the table."""
    query = load_query(_QUERY)
    first, limit, about = _first_of(query["cursor"]), query["limit"], query["about"].strip()

    def state() -> dict[str, Any]:
        wanted = AUDIT_LINES if about else first + limit + 1
        log, keyring = _log(), _keyring()
        rows = _rows(log.newest(current_principal().tenant, wanted), keyring)
        found = [row for row in rows if about in {row[name] for name in _SEARCHED}] if about else rows
        has_more = len(found) > first + limit
        return {"lines": found[first : first + limit], "next_cursor": str(first + limit) if has_more else None}

    return cast("PollAnswers", current_app.extensions["polls"]).answer(state)


_SEARCHED = ("key_id", "key_name", "action", "target", "address")


def _rows(entries: Sequence[AuditEntry], keyring: Keyring) -> list[dict[str, Any]]:
    """Lines as the table shows them. Each has an id that stays the same while others come."""
    seen: Counter[AuditEntry] = Counter()
    rows = []
    for entry in entries:
        seen[entry] += 1
        rows.append(
            {
                "line_id": f"{hash(entry)}-{seen[entry]}",
                "at": rfc3339(entry.at_ms),
                "key_id": entry.key_id,
                "key_name": keyring.name_of(entry.key_id),
                "action": entry.action,
                "target": entry.target,
                "address": entry.address,
                "outcome": entry.outcome,
            }
        )
    return rows


def _first_of(cursor: str | None) -> int:
    """How many lines stand before the page. Raises `InvalidInput` for a cursor that no page gave out."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(AUDIT_LINES))):
        raise InvalidInput([FieldError("/cursor", "is none that was given out")])
    return int(cursor)


def _log() -> AuditLog:
    return cast("AuditLog", current_app.extensions["audit"])


def _keyring() -> Keyring:
    return cast("Keyring", current_app.extensions["keyring"])
