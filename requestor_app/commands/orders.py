"""``flask --app wsgi_requestor orders …``: the orders of the running requestor, from the command line."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import requests

from requestor_app.commands.watching import Watch
from requestor_client import CallFailed, Order, RequestorClient
from service_kit.commands.calling import shown_key
from service_kit.commands.printing import (
    as_json_option,
    console,
    failures_told,
    places_of_options,
    print_json,
    print_table,
    printable,
    table_of,
    text_of,
)

_COLUMNS = ("order_req_id", "session_id", "state", "stream_state", "notes_count", "notification_type", "updated_at")
_STATES = ("live", "closing", "completed", "cancelled")
_state_option = click.option("--state", type=click.Choice(_STATES), help="Only orders in this state.")
_session_option = click.option("--session", "session_id", help="Only orders of this session.")
_reason_option = click.option("--reason", default="", help="Why; it is kept with the order.")


def order_commands(default_url: str, url_variable: str) -> click.Group:
    """The group of commands. Exit status: 0, 1 when something was not done, 2 for a wrong command line."""

    @click.group("orders", help="The orders of the running requestor.", epilog=places_of_options("orders"))
    @click.option("--url", default=default_url, envvar=url_variable, show_default=True, help="Where the requestor is.")
    @click.pass_context
    def group(context: click.Context, url: str) -> None:
        session = requests.Session()
        session.trust_env = False  # a proxy of the environment is meant for other calls
        try:
            client = RequestorClient(url, session=session, retries=2, longest_pause_s=2, key=shown_key("requestor"))
        except ValueError as fault:
            raise click.UsageError(f"--url: {fault}") from None
        context.obj = context.with_resource(client)

    _add_looks(group)
    _add_acts(group)
    return group


def _add_looks(group: click.Group) -> None:
    @group.command("list", help="Show orders, newest first.")
    @_state_option
    @_session_option
    @click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
    @as_json_option
    @click.pass_obj
    def show_list(
        client: RequestorClient, /, state: str | None, session_id: str | None, limit: int, as_json: bool
    ) -> None:
        with failures_told(CallFailed):
            found = list(itertools.islice(client.orders(state=state, session_id=session_id), limit))
        if as_json:
            print_json([asdict(order) for order in found])
        else:
            rows = [[getattr(order, column) for column in _COLUMNS] for order in found]
            print_table(f"{len(found)} orders", _COLUMNS, rows)

    @group.command("show", help="Show everything about an order, with its timeline.")
    @click.argument("order_req_id")
    @as_json_option
    @click.pass_obj
    def show(client: RequestorClient, /, order_req_id: str, as_json: bool) -> None:
        with failures_told(CallFailed):
            order = client.order(order_req_id)
            events = list(client.events(order_req_id))
        if as_json:
            print_json({**asdict(order), "events": [asdict(event) for event in events]})
            return
        _print_order(order)
        rows = [(event.seq, event.at, event.origin, event.kind, json.dumps(event.data)) for event in events]
        print_table("Timeline", ("seq", "at", "origin", "kind", "data"), rows)

    @group.command("watch", help="Show orders and counts as they change, until Ctrl+C.")
    @_state_option
    @_session_option
    @click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many orders.")
    @click.option("--every", "every_s", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds.")
    @click.option("--looks", type=click.IntRange(1), help="End after so many looks.")
    @click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each look that differs.")
    @click.pass_obj
    def watch(client: RequestorClient, /, every_s: float, looks: int | None, as_json: bool, **wanted: Any) -> None:
        watch = Watch(client, columns=_COLUMNS, every_s=every_s, looks=looks, **wanted)
        try:
            is_answered = watch.print_lines() if as_json else watch.show_table()
        except KeyboardInterrupt:
            return
        if not is_answered:
            raise click.ClickException(watch.trouble)


def _add_acts(group: click.Group) -> None:
    @group.command("initiate", help="Take an order. DETAILS may be given as JSON, or as @FILE.")
    @click.argument("order_req_id")
    @click.argument("session_id")
    @click.option("--type", "notification_type", default="email", show_default=True, help="email, webhook or none.")
    @click.option("--seller", "audience", multiple=True, help="A seller who is to hear of it; may be repeated.")
    @click.option("--details", callback=_read_details, help="What is ordered: a JSON object, or @ and a file's name.")
    @as_json_option
    @click.pass_obj
    def initiate(client: RequestorClient, /, order_req_id: str, session_id: str, as_json: bool, **order: Any) -> None:
        with failures_told(CallFailed):
            answer = client.initiate(order_req_id, session_id, **order)
        _print_answer(answer, f"{answer.message}: {order_req_id}", as_json=as_json)

    @group.command("followup", help="Add a note to an order.")
    @click.argument("order_req_id")
    @click.argument("message")
    @click.option("--seller", "audience", multiple=True, required=True, help="Who is to hear of it; may be repeated.")
    @click.option("--link", "urls", multiple=True, help="A link to go with it; may be repeated.")
    @click.option("--type", "message_type", default="text", show_default=True, help="The kind of the message.")
    @click.option("--id", "follow_up_id", help="Names the note, so that repeating it has no second effect.")
    @as_json_option
    @click.pass_obj
    def followup(client: RequestorClient, /, order_req_id: str, message: str, as_json: bool, **note: Any) -> None:
        with failures_told(CallFailed):
            answer = client.follow_up(order_req_id, message, **note)
        _print_answer(answer, f"{answer.message}: {answer.follow_up_id}", as_json=as_json)

    @group.command("complete", help="Complete an order, behind the notes taken before.")
    @click.argument("order_req_id")
    @_reason_option
    @as_json_option
    @click.pass_obj
    def complete(client: RequestorClient, /, order_req_id: str, reason: str, as_json: bool) -> None:
        with failures_told(CallFailed):
            answer = client.complete(order_req_id, reason)
        _print_answer(answer, f"{answer.message}: {order_req_id}", as_json=as_json)

    @group.command("cancel", help="Cancel an order, behind the notes taken before.")
    @click.argument("order_req_id")
    @_reason_option
    @as_json_option
    @click.pass_obj
    def cancel(client: RequestorClient, /, order_req_id: str, reason: str, as_json: bool) -> None:
        with failures_told(CallFailed):
            answer = client.cancel(order_req_id, reason)
        _print_answer(answer, f"{answer.message}: {order_req_id}", as_json=as_json)


def _read_details(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        if text.startswith("@"):
            text = Path(text.removeprefix("@")).read_text(encoding="utf-8")
        details = json.loads(text)
    except (OSError, ValueError):
        raise click.BadParameter("is neither a JSON object nor @ and the name of a file that holds one") from None
    if not isinstance(details, dict):
        raise click.BadParameter("must be a JSON object")
    return details


def _print_answer(answer: Any, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(answer))
    else:
        click.echo(printable(sentence))


def _print_order(order: Order) -> None:
    terminal = console()
    head = {
        "session": order.session_id,
        "state": order.state,
        "stream": f"{order.stream.state}{f' ({order.stream.last_error})' if order.stream.last_error else ''}",
        "notifies by": order.notification_type,
        "sellers": order.audience,
        "details": None if order.details is None else json.dumps(order.details, ensure_ascii=False),
        "owner": f"{order.owner or 'nobody'}, token {order.token}, run {order.run}",
        "notes": f"{order.notes_count}, of which {order.unsent_count} wait for the processor",
        "created": order.created_at,
        "allowed": order.allowed_actions,
    }
    rows = [(name, value) for name, value in head.items() if text_of(value)]
    terminal.print(table_of(f"Order {printable(order.order_req_id)}", ("", ""), rows))
    if order.notes:
        notes = [(note.added_time, note.follow_up_id, note.relay_state, note.message) for note in order.notes]
        terminal.print(table_of("Notes", ("added", "follow_up_id", "relay", "message"), notes))
    if order.deliveries:
        columns = ("seller_id", "channel", "follow_up_id", "state", "attempts", "last_error", "next_attempt_at")
        deliveries = [[getattr(delivery, column) for column in columns] for delivery in order.deliveries]
        terminal.print(table_of("Deliveries", columns, deliveries))
