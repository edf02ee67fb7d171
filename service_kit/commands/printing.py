"""How commands print: tables for people, JSON for programs. Exit status: 0 done, 1 not done, 2 a wrong command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from service_kit.commands.calling import key_variable
from service_kit.times import rfc3339

_NO_KEY = f" Commands show the key in {key_variable('requestor')} or {key_variable('processor')}."

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def places_of_options(group: str) -> str:
    """What stands at the end of a group's help: which options are its own, and which are its commands'."""
    return f"--url goes before the command, all else behind it: {group} --url URL list --json"


@contextmanager
def failures_told(*kinds: type[Exception]) -> Iterator[None]:
    """Tell the person at the terminal, in one line, why a call failed; then the exit status is 1."""
    try:
        yield
    except kinds as failure:
        hint = _NO_KEY if getattr(failure, "status", 0) == HTTPStatus.UNAUTHORIZED else ""
        raise click.ClickException(" ".join(printable(str(failure)).split()) + hint) from None


def print_json(value: Any) -> None:
    """Print a value as JSON; times as everywhere else."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=json_value))


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON, at once."""
    click.echo(json.dumps(value, ensure_ascii=False, default=json_value))


def json_value(value: Any) -> Any:
    """What JSON has no form for, as a text."""
    return rfc3339(int(value.timestamp() * 1000)) if isinstance(value, datetime) else str(value)


def console() -> Console:
    """The terminal: what is printed is text, never markup of its own."""
    return Console(markup=False, emoji=False, highlight=False)


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table in which nothing is cut off."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(printable(text_of(value)) for value in row))
    return table


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    console().print(table_of(title, columns, rows))


def text_of(value: Any) -> str:
    """A value in a cell of a table."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def printable(text: str) -> str:
    """A text without what could steer the terminal: some of it was written by strangers."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)
