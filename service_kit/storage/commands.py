"""``flask --app wsgi_requestor store …``: work on a service's store while the service is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service_kit.errors import ServiceError, StartRefused
from service_kit.storage.contract import Store
from service_kit.storage.copying import check_source_and_target, copy, differences
from service_kit.storage.opening import open_store

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
#: So many differences are named.
_SHOWN = 20


def store_commands(*, base_folder: Path, prefix: str) -> click.Group:
    """The group of commands. Exit status: 0, or 1 when something was not done."""

    @click.group("store", help="Work on stores while no service runs on them.")
    def group() -> None:
        pass

    @group.command("copy", help="Copy the store of URL FROM into the empty one of URL TO, and compare them.")
    @click.argument("source_url", metavar="FROM")
    @click.argument("target_url", metavar="TO")
    def copy_store(source_url: str, target_url: str) -> None:
        console = Console()
        with ExitStack() as stack:
            try:
                source, target = (
                    stack.enter_context(_opened(url, base_folder, prefix)) for url in (source_url, target_url)
                )
                found = _copy(console, source, target)
            except StartRefused as refusal:
                raise click.ClickException(str(refusal)) from None
            except ServiceError as error:
                raise click.ClickException(f"{error.detail} Empty the second store and begin anew.") from None
        if found:
            for difference in found[:_SHOWN]:
                console.print(difference, markup=False)
            raise click.ClickException(f"The copy is not good: {len(found)} differences.")

    return group


def _copy(console: Console, source: Store, target: Store) -> list[str]:
    count = check_source_and_target(source, target)
    with Progress(*_COLUMNS, console=console) as bars:
        copying = bars.add_task("copying", total=count)
        copy(source, target, lambda done: bars.advance(copying, done))
        comparing = bars.add_task("comparing", total=count)
        found = differences(source, target, lambda done: bars.advance(comparing, done))
    if not found:
        console.print(f"{count} records are copied and the same.")
    return found


@contextmanager
def _opened(url: str, base_folder: Path, prefix: str) -> Iterator[Store]:
    store = open_store(url, base_folder=base_folder, prefix=prefix)
    store.start()
    try:
        yield store
    finally:
        store.stop()
