"""``flask --app wsgi_processor deliveries …``: what went to sellers, what did not, and sending it again."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import click

from processor_app.commands.group import calls_told, processor_group
from processor_app.commands.rest import RestClient
from service_kit.commands.printing import as_json_option, print_json, print_table

_COLUMNS = (
    *("delivery_id", "order_req_id", "seller_id", "channel", "state"),
    *("attempts", "last_error", "updated_at", "next_attempt_at"),
)
_STATES = ("waiting", "pending", "sending", "retrying", "delivered", "dead")
_seller_option = click.option("--seller", "seller_id", help="Only those to this seller.")
_order_option = click.option("--order", "order_req_id", help="Only those of this order.")


def delivery_commands(default_url: str, url_variable: str) -> click.Group:
    """The group of commands."""
    group = processor_group("deliveries", "The deliveries of the running processor.", default_url, url_variable)

    @group.command("list", help="Show deliveries, newest first.")
    @click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
    @_seller_option
    @_order_option
    @click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
    @as_json_option
    @click.pass_obj
    def show_list(client: RestClient, /, limit: int, as_json: bool, **wanted: Any) -> None:
        with calls_told():
            found = list(itertools.islice(client.pages("/deliveries", "deliveries", wanted), limit))
        if as_json:
            print_json(found)
        else:
            rows = ([delivery[column] for column in _COLUMNS] for delivery in found)
            print_table(f"{len(found)} deliveries", _COLUMNS, rows)

    @group.command("retry", help="Send a delivery again, now, that is dead or retrying.")
    @click.argument("delivery_id")
    @as_json_option
    @click.pass_obj
    def retry(client: RestClient, /, delivery_id: str, as_json: bool) -> None:
        with calls_told():
            answer = client.call("POST", f"/deliveries/{quote(delivery_id, safe='')}/retry")
        if as_json:
            print_json(answer)
        else:
            click.echo(f"Delivery {delivery_id} is sent again.")

    @group.command("retry-all", help="Send again all that are dead, or those that the options choose.")
    @click.option("--state", type=click.Choice(["dead", "retrying"]), help="Those in this state.  [default: dead]")
    @_seller_option
    @_order_option
    @as_json_option
    @click.pass_obj
    def retry_all(client: RestClient, /, as_json: bool, **wanted: Any) -> None:
        body = {name: value for name, value in wanted.items() if value is not None}
        count = 0
        is_complete = False
        with calls_told():
            while not is_complete:
                answer = client.call("POST", "/deliveries/retry", body)
                count += answer["count"]
                is_complete = answer["is_complete"]
        if as_json:
            print_json({"count": count})
        else:
            click.echo(f"{count} deliveries are sent again.")

    return group
