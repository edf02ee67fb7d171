"""``flask --app wsgi_processor sellers …``: the seller directory of the running processor, from the command line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from processor_app.commands.group import calls_told, processor_group
from processor_app.commands.rest import CallFailed, CallRefused, RestClient
from service_kit.commands.printing import as_json_option, print_json, print_table, printable

_COLUMNS = ("seller_id", "name", "email", "webhook_url", "channels", "language")
_RESULT_COLUMNS = ("row", "seller_id", "webhook_secret", "error")


def seller_commands(default_url: str, url_variable: str) -> click.Group:
    """The group of commands."""
    group = processor_group("sellers", "The seller directory of the running processor.", default_url, url_variable)
    _add_looks(group)
    _add_acts(group)
    return group


def _add_looks(group: click.Group) -> None:
    @group.command("list", help="Show every seller.")
    @as_json_option
    @click.pass_obj
    def show_list(client: RestClient, /, as_json: bool) -> None:
        with calls_told():
            found = list(client.pages("/sellers", "sellers"))
        _print(found, (*_COLUMNS, "webhook_disabled"), f"{len(found)} sellers", as_json=as_json)

    @group.command("show", help="Show a seller's entry, without its secrets.")
    @click.argument("seller_id")
    @as_json_option
    @click.pass_obj
    def show(client: RestClient, /, seller_id: str, as_json: bool) -> None:
        with calls_told():
            found = client.call("GET", _path(seller_id))
        if as_json:
            print_json(found)
        else:
            print_table(f"Seller {printable(seller_id)}", ("", ""), found.items())


def _add_acts(group: click.Group) -> None:
    @group.command("add", help="Register a seller, or replace its entry.")
    @click.argument("seller_id")
    @click.option("--name", default="", help="What mails call the seller.")
    @click.option("--email", default="", help="The mail address.")
    @click.option("--webhook-url", default="", help="Where webhooks are posted.")
    @click.option("--channel", "channels", multiple=True, help="A channel that the seller wants beside an order's.")
    @click.option("--language", default="en", show_default=True, help="The language of mails.")
    @as_json_option
    @click.pass_obj
    def add(client: RestClient, /, seller_id: str, as_json: bool, **entry: Any) -> None:
        with calls_told():
            added = client.call("PUT", _path(seller_id), {**entry, "channels": list(entry["channels"])})
        if as_json:
            print_json(added)
            return
        click.echo(f"Seller {seller_id} is registered.")
        if "webhook_secret" in added:
            click.echo(f"The webhook's secret, shown this once: {added['webhook_secret']}")

    @group.command("remove", help="Remove a seller; what is still to be sent to it waits.")
    @click.argument("seller_id")
    @as_json_option
    @click.pass_obj
    def remove(client: RestClient, /, seller_id: str, as_json: bool) -> None:
        with calls_told():
            answer = client.call("DELETE", _path(seller_id))
        if as_json:
            print_json(answer)
        else:
            click.echo(f"Seller {seller_id} is removed.")

    @group.command("rotate-secret", help="Give a seller's webhook a new secret; the one before stays valid.")
    @click.argument("seller_id")
    @as_json_option
    @click.pass_obj
    def rotate_secret(client: RestClient, /, seller_id: str, as_json: bool) -> None:
        with calls_told():
            answer = client.call("POST", f"{_path(seller_id)}/rotate-secret")
        if as_json:
            print_json(answer)
        else:
            click.echo(f"The webhook's new secret, shown this once: {answer['webhook_secret']}")

    @group.command("import", help=f"Register every seller of a CSV file. Its columns: {', '.join(_COLUMNS)}.")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @as_json_option
    @click.pass_obj
    def import_file(client: RestClient, /, file: Path, as_json: bool) -> None:
        rows = _rows_of(file)
        results = list(_imported(client, rows))
        done = sum(not result["error"] for result in results)
        _print(results, _RESULT_COLUMNS, f"{done} sellers registered", as_json=as_json)
        if done < len(rows):
            raise click.ClickException(f"{len(rows) - done} of {len(rows)} sellers were not registered.")


def _path(seller_id: str) -> str:
    return f"/sellers/{quote(seller_id, safe='')}"


def _print(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str, *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_table(title, columns, ([row[column] for column in columns] for row in rows))


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


def _imported(client: RestClient, /, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What became of each row, up to one at which the processor does not answer."""
    for number, row in enumerate(rows, start=2):  # the line of the file; the first names the columns
        result = {"row": number, "seller_id": row["seller_id"], "webhook_secret": None, "error": None}
        try:
            if None in row or None in row.values():
                raise CallRefused("the row has more or fewer fields than there are columns")
            answer = client.call("PUT", _path(row["seller_id"]), _entry_of(row))
            result["webhook_secret"] = answer.get("webhook_secret")
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
