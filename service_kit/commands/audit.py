"""``flask --app wsgi_… audit …``: what was done at a service, read from its access store, whether it runs or not."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from service_kit.access.model import AT_THE_TERMINAL, AUDIT_LINES, AccessStore, AuditEntry
from service_kit.commands.printing import as_json_option, print_json, print_table
from service_kit.errors import ServiceError, StartRefused
from service_kit.storage.opening import AccessEngine
from service_kit.times import now_ms, rfc3339

_COLUMNS = ("at", "tenant", "who", "action", "target", "from", "outcome")


def audit_commands(service: str, open_access: Callable[[], AccessEngine]) -> click.Group:
    """The group of commands. Exit status: 0, 1 when something was not done, 2 for a wrong command line."""

    @click.group("audit", help=f"What was done at the {service}, by whom.")
    def group() -> None:
        pass

    @group.command("list", help="Show the audit log, newest first.")
    @click.option("--tenant", help="Only what was done for this tenant.")
    @click.option(
        "--limit", type=click.IntRange(1, AUDIT_LINES), default=50, show_default=True, help="How many lines at most."
    )
    @as_json_option
    def show_list(tenant: str | None, limit: int, as_json: bool) -> None:
        with opened(open_access) as access:
            rows = _rows(access, tenant, limit)
        if as_json:
            print_json(rows)
        else:
            print_table(f"{len(rows)} lines", _COLUMNS, map(_cells_of, rows))

    return group


@contextmanager
def opened(open_access: Callable[[], AccessEngine]) -> Iterator[AccessStore]:
    """The access store. Tells the person at the terminal when it cannot be used."""
    try:
        engine = open_access()
        try:
            yield engine
        finally:
            engine.stop(1)
    except (ServiceError, StartRefused) as failure:
        raise click.ClickException(str(failure)) from None


def entry_of_command(action: str, tenant: str, target: str) -> AuditEntry:
    """A line about what a command has done; by whom, the machine's own account says."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name
        account = ""
    return AuditEntry(now_ms(), tenant, AT_THE_TERMINAL, action, target, account, "done")


def _cells_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What fits beside each other in a terminal; the rest is in the JSON."""
    at = row["at"][:19].replace("T", " ")
    who = row["key_name"] or row["key_id"]
    return at, row["tenant"], who, row["action"], row["target"], row["address"], row["outcome"]


def _rows(access: AccessStore, tenant: str | None, limit: int) -> list[dict[str, Any]]:
    keys = access.keys()
    names = {key.key_id: key.name for key in keys}
    return [
        {
            "at": rfc3339(entry.at_ms),
            "tenant": entry.tenant,
            "key_id": entry.key_id,
            "key_name": names.get(entry.key_id, ""),
            "action": entry.action,
            "target": entry.target,
            "address": entry.address,
            "outcome": entry.outcome,
        }
        for entry in access.audit(tenant, limit=limit)
    ]
