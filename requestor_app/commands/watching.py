"""``orders watch``: looks at the requestor again and again, and shows what it sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from time import sleep
from typing import NamedTuple

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from requestor_client import CallFailed, OrderPage, RequestorClient, TrackingStatus
from service_kit.commands.printing import console, print_json_line, printable, table_of


class _Sight(NamedTuple):
    """What one look has seen."""

    status: TrackingStatus
    page: OrderPage


class Watch:
    """Looks every ``every_s`` seconds; a requestor that does not answer for a while is waited for."""

    def __init__(
        self,
        client: RequestorClient,
        *,
        columns: Sequence[str],
        state: str | None,
        session_id: str | None,
        limit: int,
        every_s: float,
        looks: int | None,
    ) -> None:
        self._client = client
        self._columns = columns
        self._wanted = (state, session_id, limit)
        self._every_s = every_s
        self._looks = looks
        #: Why the last look has seen nothing, in one line.
        self.trouble = ""

    def print_lines(self) -> bool:
        """Print a line of JSON for each look that differs from the one before; whether the last one was answered."""
        before: _Sight | None = None
        for sight in self._sights():
            if sight is not None and sight != before:
                status, orders = sight.status, [asdict(order) for order in sight.page.orders]
                print_json_line(
                    {
                        "total_orders": status.total_orders,
                        "active_streams": status.active_streams,
                        "open_streams": status.open_streams,
                        "duplicates_refused": status.duplicates_refused,
                        "states": status.states,
                        "orders": orders,
                    }
                )
                before = sight
        return not self.trouble

    def show_table(self) -> bool:
        """Show a table that changes in its place; whether the last look was answered."""
        shown: _Sight | None = None
        with Live(console=console(), auto_refresh=False) as live:
            for sight in self._sights():
                shown = sight or shown
                live.update(self._picture(shown), refresh=True)
        return not self.trouble

    def _sights(self) -> Iterator[_Sight | None]:
        for number in itertools.count(1):
            yield self._look()
            if number == self._looks:
                return
            sleep(self._every_s)

    def _look(self) -> _Sight | None:
        state, session_id, limit = self._wanted
        try:
            status = self._client.tracking_status(limit=1)
            sight = _Sight(status, self._client.page(state=state, session_id=session_id, limit=limit))
        except CallFailed as failure:
            self.trouble = str(failure)
            return None
        self.trouble = ""
        return sight

    def _picture(self, sight: _Sight | None) -> Group:
        parts: list[Table | Text] = []
        if sight is not None:
            status = sight.status
            states = ", ".join(f"{count} {state}" for state, count in sorted(status.states.items()) if count)
            title = (
                f"{status.total_orders} orders ({states or 'none yet'}), {status.open_streams} of "
                f"{status.active_streams} streams open, {status.duplicates_refused} duplicates refused"
            )
            rows = [[getattr(order, column) for column in self._columns] for order in sight.page.orders]
            parts.append(table_of(title, self._columns, rows))
        if self.trouble:
            parts.append(Text(printable(self.trouble), style="bold red"))
        parts.append(Text(f"{datetime.now(UTC):%H:%M:%S} UTC, every {self._every_s:g} s; Ctrl+C ends", style="dim"))
        return Group(*parts)
