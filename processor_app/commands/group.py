"""What the groups of the processor's commands share: where the processor is, and how a failed call is told."""

from __future__ import annotations

from contextlib import AbstractContextManager

import click

from processor_app.commands.rest import CallFailed, RestClient
from service_kit.commands.calling import shown_key
from service_kit.commands.printing import failures_told, places_of_options


def processor_group(name: str, about: str, default_url: str, url_variable: str) -> click.Group:
    """A group whose commands get a `RestClient`. Exit status: 0, 1 when something was not done, 2 for a wrong line."""

    @click.group(name, help=about, epilog=places_of_options(name))
    @click.option("--url", default=default_url, envvar=url_variable, show_default=True, help="Where the processor is.")
    @click.pass_context
    def group(context: click.Context, url: str) -> None:
        try:
            client = RestClient(url, shown_key("processor"))
        except ValueError as fault:
            raise click.UsageError(f"--url: {fault}") from None
        context.obj = context.with_resource(client)

    return group


def calls_told() -> AbstractContextManager[None]:
    """Tell the person at the terminal why a call failed."""
    return failures_told(CallFailed)
