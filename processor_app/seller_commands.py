"""``flask --app wsgi_processor sellers …``: the seller directory of the running processor, from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from processor_app.rest_client import CallFailed, CallRefused, RestClient

_COLUMNS = ("seller_id", "name", "email", "webhook_url", "channels", "language")
_RESULT_COLUMNS = ("row", "seller_id", "webhook_secret", "error")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def seller_commands(client: RestClient) -> click.Group:
    """The group of commands. Exit status: 0, 1 when something was not done, 2 for a wrong command line or file."""

    @click.group("sellers", help="The seller directory of the running processor.")
    def group() -> None:
        pass

    @group.command("list", help="Show every seller.")
    @_AS_JSON
    def show(as_json: bool) -> None:
        with _told():
            found = list(client.pages("/sellers", "sellers"))
        _print(found, (*_COLUMNS, "webhook_disabled"), f"{len(found)} sellers", as_json=as_json)

    @group.command("add", help="Register a seller, or replace its entry.")
    @click.argument("seller_id")
    @click.option("--name", default="", help="What mails call the seller.")
    @click.option("--email", default="", help="The mail address.")
    @click.option("--webhook-url", default="", help="Where webhooks are posted.")
    @click.option("--channel", "channels", multiple=True, help="A channel that the seller wants beside an order's.")
    @click.option("--language", default="en", show_default=True, help="The language of mails.")
    @_AS_JSON
    def add(seller_id: str, as_json: bool, **entry: Any) -> None:
        with _told():
            added = _put(client, seller_id, {**entry, "channels": list(entry["channels"])})
        if as_json:
            _print_json(added)
            return
        click.echo(f"Seller {seller_id} is registered.")
        if "webhook_secret" in added:
            click.echo(f"The webhook's secret, shown this once: {added['webhook_secret']}")

    @group.command("import", help=f"Register every seller of a CSV file. Its columns: {', '.join(_COLUMNS)}.")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @_AS_JSON
    def import_file(file: Path, as_json: bool) -> None:
        rows = _rows_of(file)
        results = list(_imported(client, rows))
        done = sum(not result["error"] for result in results)
        _print(results, _RESULT_COLUMNS, f"{done} sellers registered", as_json=as_json)
        if done < len(rows):
            raise click.ClickException(f"{len(rows) - done} of {len(rows)} sellers were not registered.")

    return group


def _put(client: RestClient, seller_id: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return client.call("PUT", f"/sellers/{quote(seller_id, safe='')}", entry)


@contextmanager
def _told() -> Iterator[None]:
    """Tell the person at the terminal why a call failed."""
    try:
        yield
    except CallFailed as failure:
        raise click.ClickException(str(failure)) from None


# ---- files


def _rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file. Raises `click.UsageError` for one that cannot be read."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = reader.fieldnames or ()
            unknown = sorted(set(columns) - set(_COLUMNS))
            if "seller_id" not in columns or unknown:
                raise click.UsageError(
                    f"{file.name} must have the column seller_id, and of others only {', '.join(_COLUMNS[1:])}."
                )
            return list(reader)
    except (csv.Error, UnicodeDecodeError) as fault:
        raise click.UsageError(f"{file.name} is no CSV file in UTF-8: {fault}.") from None


def _imported(client: RestClient, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What became of each row, up to one at which the processor does not answer."""
    for number, row in enumerate(rows, start=2):  # the line of the file; the first names the columns
        result = {"row": number, "seller_id": row["seller_id"], "webhook_secret": None, "error": None}
        try:
            if None in row or None in row.values():
                raise CallRefused("the row has more or fewer fields than there are columns")
            result["webhook_secret"] = _put(client, row["seller_id"], _entry_of(row)).get("webhook_secret")
        except CallFailed as failure:
            result["error"] = str(failure)
            yield result
            if not isinstance(failure, CallRefused):
                return
        else:
            yield result


def _entry_of(row: Mapping[str, str]) -> dict[str, Any]:
    """A row as the REST interface takes it: channels stand apart by spaces, and what is empty is left out."""
    entry: dict[str, Any] = {name: text.strip() for name, text in row.items() if name != "seller_id" and text.strip()}
    if "channels" in entry:
        entry["channels"] = entry["channels"].split()
    return entry


# ---- the terminal


def _print(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")  # nothing is cut off: a secret is shown this once
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    Console(markup=False, emoji=False, highlight=False).print(table)


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
