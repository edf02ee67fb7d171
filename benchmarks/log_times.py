"""When streams were opened, as the processor's log says it: it has a line for each, so looking costs it nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

_OPENED = re.compile(r"^(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z .*Request type: .*order_req_id=(?P<order>\S+)")


def opening_times(lines: Iterable[str]) -> dict[str, float]:
    """The time of each order's first opening in seconds since the epoch, exact to the millisecond."""
    times: dict[str, float] = {}
    for line in lines:
        found = _OPENED.match(line)
        if found is not None:
            times.setdefault(found["order"], datetime.fromisoformat(f"{found['at']}+00:00").timestamp())
    return times
