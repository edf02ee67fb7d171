"""``flask --app wsgi_… keys …``: makes, shows and revokes keys of a service, whether it runs or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from service_kit.access.keys import make_key
from service_kit.access.model import ApiKey, Scope
from service_kit.change import DEFAULT_TENANT
from service_kit.commands.audit import entry_of_command, opened
from service_kit.commands.printing import as_json_option, print_json, print_table
from service_kit.rules import ID_PATTERN, ID_RULE, header_fault
from service_kit.storage.opening import AccessEngine
from service_kit.times import now_ms, rfc3339

_COLUMNS = ("key", "name", "tenant", "opens", "state", "last used")
_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_NAME = 100


def key_commands(service: str, open_access: Callable[[], AccessEngine]) -> click.Group:
    """The group of commands. Exit status: 0, 1 when something was not done, 2 for a wrong command line."""

    @click.group("keys", help=f"The keys of the {service}. They work while it runs, and while it does not.")
    def group() -> None:
        pass

    @group.command("create", help="Make a key. It is printed this once, and kept nowhere.")
    @click.option(
        "--scope",
        "scopes",
        type=click.Choice([scope.value for scope in Scope]),
        multiple=True,
        required=True,
        help="What for.",
    )
    @click.option("--tenant", default=DEFAULT_TENANT, show_default=True, callback=_identifier, help="For whom.")
    @click.option("--seller", "seller_id", callback=_identifier, help="The only seller in whose name it answers.")
    @click.option("--name", default="", callback=_name, help="What you call it.")
    @click.option("--expires-in", "lives_ms", callback=_span, help="How long it is good, such as 90d, 12h or 30m.")
    @as_json_option
    def create(as_json: bool, scopes: tuple[str, ...], seller_id: str | None, **other: Any) -> None:
        wanted = frozenset(map(Scope, scopes))
        if seller_id is not None and wanted != {Scope.REPLIES_WRITE}:
            raise click.UsageError(f"--seller goes with the scope {Scope.REPLIES_WRITE} and no other.")
        new = make_key(wanted, seller_id=seller_id, **other)
        with opened(open_access) as access:
            access.add(new.key)
            access.record(entry_of_command("keys.create", new.key.tenant, new.key.key_id))
        if as_json:
            print_json({**_row_of(new.key), "token": new.token})
        else:
            click.echo(f"Key {new.key.key_id} is made.")
            click.echo(f"The key, shown this once: {new.token}")

    @group.command("list", help="Show every key, without what it is shown by.")
    @as_json_option
    def show_list(as_json: bool) -> None:
        with opened(open_access) as access:
            found = access.keys()
        if as_json:
            print_json(list(map(_row_of, found)))
        else:
            print_table(f"{len(found)} keys", _COLUMNS, map(_cells_of, found))

    @group.command("revoke", help="Make a key useless for good, within two seconds.")
    @click.argument("key_id")
    @as_json_option
    def revoke(key_id: str, as_json: bool) -> None:
        with opened(open_access) as access:
            if not access.revoke(key_id, now_ms()):
                raise click.ClickException("There is no key with this id.")
            known = access.keys()
            tenant = next(key.tenant for key in known if key.key_id == key_id)
            access.record(entry_of_command("keys.revoke", tenant, key_id))
        if as_json:
            print_json({"key_id": key_id, "revoked": True})
        else:
            click.echo(f"Key {key_id} is revoked.")

    return group


def _row_of(key: ApiKey) -> dict[str, Any]:
    times = {"created": key.created_ms, "expires": key.expires_ms, "revoked": key.revoked_ms}
    shown = {**times, "last_used": key.last_used_ms}
    return {
        "key_id": key.key_id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "seller_id": key.seller_id,
        "state": _state_of(key),
        **{f"{name}_at": None if at_ms is None else rfc3339(at_ms) for name, at_ms in shown.items()},
    }


def _cells_of(key: ApiKey) -> tuple[str, ...]:
    """What fits beside each other in a terminal; the rest is in the JSON."""
    opens = " ".join(sorted(key.scopes)) + (f" for {key.seller_id}" if key.seller_id else "")
    until_ms = key.expires_ms if key.revoked_ms is None else key.revoked_ms
    state = _state_of(key)
    since = {"good": "good until", "expired": "expired", "revoked": "revoked"}[state]
    return (
        key.key_id,
        key.name,
        key.tenant,
        opens,
        state if until_ms is None else f"{since} {_minute(until_ms)}",
        "never" if key.last_used_ms is None else _minute(key.last_used_ms),
    )


def _minute(at_ms: int) -> str:
    return rfc3339(at_ms)[:16].replace("T", " ")


def _state_of(key: ApiKey) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    return "expired" if key.expires_ms is not None and now_ms() >= key.expires_ms else "good"


def _identifier(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not ID_PATTERN.fullmatch(text):
        raise click.BadParameter(ID_RULE)
    return text


def _name(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if len(text) > _MAX_NAME or header_fault(text):
        raise click.BadParameter(f"must be at most {_MAX_NAME} characters in one line")
    return text


def _span(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    match = _SPAN.fullmatch(text)
    if match is None:
        raise click.BadParameter("must be a number with d, h or m behind it, such as 90d")
    return int(match[1]) * _MS[match[2]]
